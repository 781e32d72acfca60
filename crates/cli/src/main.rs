//! The flowstone binary: reads the command line, runs one command, and turns its failure into an
//! exit code, here and nowhere else.

// It panics where nobody reads any more.
#![deny(clippy::print_stdout)]

mod args;
mod commands;
mod confirm;
mod connection;
mod exit;
mod format;
mod json_line;
mod lines;
mod logging;
mod output;
mod position;
mod progress;
mod signals;
mod units;

use std::num::NonZero;
use std::process::ExitCode;

use clap::Parser;
use flowstone_disk::{keep_freed_memory, open_files_limit, raise_open_files_limit};

/// With fewer open files the runtime itself cannot start, and would say so by a panic.
const OPEN_FILES_LEAST: u64 = 32;

/// A broker has all processors. What talks to one leaves half of them to it, as both are often on one
/// machine; on two processors a producer in one thread also costs a fifth less than in two.
fn worker_threads(cli: &args::Cli) -> usize {
    let processors = std::thread::available_parallelism().map_or(1, NonZero::get);
    match cli.command {
        args::Command::Serve(_) => processors,
        _ => processors.div_ceil(2),
    }
}

fn main() -> ExitCode {
    keep_freed_memory();
    let cli = args::Cli::parse();
    if open_files_limit() < OPEN_FILES_LEAST
        && let Ok(limit @ ..OPEN_FILES_LEAST) = raise_open_files_limit()
    {
        return exit::report(&anyhow::anyhow!(
            "the system lets this process open {limit} files, and it takes {OPEN_FILES_LEAST} at least: \
             raise the limit (`ulimit -n`, or LimitNOFILE= of the service)"
        ));
    }
    let runtime = match tokio::runtime::Builder::new_multi_thread()
        .worker_threads(worker_threads(&cli))
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => return exit::report(&anyhow::Error::new(error).context("no threads")),
    };
    let outcome = runtime.block_on(commands::run(cli));
    // A read of standard input cannot be ended; the process need not wait for it.
    runtime.shutdown_background();
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => exit::report(&error),
    }
}
