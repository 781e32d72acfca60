//! `flowstone bench`: how fast a broker is, as its clients see it.

mod args;
mod broker_process;
mod consume;
mod e2e;
mod latency;
mod load;
mod pace;
mod produce;
mod report;
mod sending;
mod target;

use anyhow::Result;

use crate::args::Global;
use crate::output::OutputFormat;

pub(crate) use args::BenchCommand;

pub(crate) async fn run(global: &Global, command: BenchCommand) -> Result<()> {
    match command {
        BenchCommand::Produce(args) => produce::run(global, args).await,
        BenchCommand::Consume(args) => consume::run(global, args).await,
        BenchCommand::E2e(args) => e2e::run(global, args).await,
    }
}

/// How the result is printed: `--json` is short for `--output json`.
fn output(global: &Global, json: bool) -> OutputFormat {
    if json {
        OutputFormat::Json
    } else {
        global.output
    }
}
