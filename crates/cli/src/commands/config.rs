//! `flowstone config`: the configuration file with all its defaults.

use std::io::{self, Write};

use anyhow::Result;
use clap::Args;
use flowstone_server::ServerConfig;

use crate::args::Switch;

/// Print the server's configuration file with every setting and its default
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  flowstone config > flowstone.toml
  flowstone serve --config flowstone.toml
  flowstone config --markdown                 the same as a page of documentation")]
pub(crate) struct ConfigArgs {
    /// As a page of documentation
    #[arg(long, env = "FLOWSTONE_MARKDOWN", value_parser = Switch::new())]
    markdown: bool,
}

pub(crate) fn run(args: &ConfigArgs) -> Result<()> {
    if args.markdown {
        return print(&ServerConfig::reference_markdown());
    }
    print_default()
}

/// The file that says what is so without it.
pub(crate) fn print_default() -> Result<()> {
    print(&ServerConfig::default_toml())
}

fn print(text: &str) -> Result<()> {
    io::stdout().lock().write_all(text.as_bytes())?;
    Ok(())
}
