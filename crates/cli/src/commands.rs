//! One module for each command: its flags and what it does.

pub(crate) mod bench;
pub(crate) mod completions;
pub(crate) mod config;
pub(crate) mod consume;
pub(crate) mod group;
pub(crate) mod log;
pub(crate) mod produce;
pub(crate) mod quickstart;
pub(crate) mod replay;
pub(crate) mod serve;
pub(crate) mod topic;

use anyhow::Result;

use crate::args::{Cli, Command};
use crate::logging;

/// What a command that is not a server logs: what the user ought to know.
const QUIET: &str = "warn";
/// What a server logs.
const SERVER: &str = "info";
/// What the quickstart logs, which loses connections on purpose.
const STORY: &str = "error";

/// Runs the one command that was asked for.
pub(crate) async fn run(cli: Cli) -> Result<()> {
    let Cli { global, command } = cli;
    let (level, short) = match command {
        Command::Serve(_) => (SERVER, false),
        Command::Quickstart(_) => (STORY, true),
        _ => (QUIET, true),
    };
    logging::start(&global, level, short)?;
    match command {
        Command::Serve(args) => serve::run(args).await,
        Command::Topic(command) => topic::run(&global, command).await,
        Command::Produce(args) => produce::run(&global, args).await,
        Command::Consume(args) => consume::run(&global, args).await,
        Command::Group(command) => group::run(&global, command).await,
        Command::Log(command) => log::run(&global, command),
        Command::Bench(command) => bench::run(&global, command).await,
        Command::Replay(args) => replay::run(&global, args).await,
        Command::Quickstart(args) => quickstart::run(args).await,
        Command::Config(args) => config::run(&args),
        Command::Completions(args) => completions::run(&args),
    }
}
