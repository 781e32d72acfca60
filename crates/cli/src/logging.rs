//! The log on standard error.

use std::io::{self, IsTerminal};

use anyhow::Result;
use clap::ValueEnum;
use tracing_subscriber::EnvFilter;

use crate::args::Global;
use crate::exit::Failure;

/// How the log is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    /// A line of text an entry.
    #[default]
    Text,
    /// A JSON object a line.
    Json,
}

/// Starts logging, at `default_level` unless the command line says otherwise. What people read
/// beside the answer of a command is `short`: without time and module.
pub(crate) fn start(global: &Global, default_level: &str, short: bool) -> Result<()> {
    let directives = global.log.as_deref().unwrap_or(default_level);
    let filter = EnvFilter::builder().parse(directives).map_err(|error| {
        Failure::Usage(format!(
            "--log {directives:?}: {error}; write error, warn, info, debug or trace, also by \
             module as in warn,flowstone_broker=debug"
        ))
    })?;
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal());
    match global.log_format {
        LogFormat::Text if short => log.without_time().with_target(false).init(),
        LogFormat::Text => log.init(),
        LogFormat::Json => log.json().init(),
    }
    Ok(())
}
