//! The flowstone binary: reads the command line, runs one command, and turns its failure into an
//! exit code, here and nowhere else.

mod args;
mod commands;
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

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    let cli = args::Cli::parse();
    let runtime = match tokio::runtime::Builder::new_multi_thread()
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
