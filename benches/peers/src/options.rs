//! The command line.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Result, bail};
use clap::{Parser, Subcommand};

use crate::size::parse_size;
use crate::work::{Bound, Work};

/// Runs Flowstone and its peers in turn on the same work, and prints how they compare
///
/// Each piece of work is done by one after the other, then again, so that what the machine does meanwhile
/// hits all alike; medians are told. Every server listens on loopback, writes under --data-dir, and is
/// stopped and deleted before the next one starts. A peer that is not installed is skipped, and what
/// brings it is told; `benches/peers/install` brings them all.
#[derive(Clone, Debug, Parser)]
#[command(
    name = "peers",
    after_help = "\
Examples:
  cargo run --release --manifest-path benches/peers/Cargo.toml -- --list
  ... -- --only flowstone,kafka --work produce-1k,replay-1k
  ... -- --only raw,flowstone-opaque --bytes 4GB --runs 5
  ... -- --markdown result.md --svg result.svg --json result.json"
)]
pub(crate) struct Options {
    /// Only these, by name, separated by commas [default: all that are there]
    #[arg(long, value_delimiter = ',', value_name = "NAMES")]
    pub(crate) only: Vec<String>,

    /// None of these, by name, separated by commas
    #[arg(long, value_delimiter = ',', value_name = "NAMES")]
    pub(crate) skip: Vec<String>,

    /// Only this work, separated by commas [default: all]
    #[arg(long, value_delimiter = ',', value_name = "NAMES", value_enum)]
    pub(crate) work: Vec<Work>,

    /// How often each piece of work is done by each
    #[arg(long, default_value_t = 3, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..=100))]
    pub(crate) runs: u32,

    /// A produce ends after this time, or after --bytes, whichever is first; latency is measured for half of it
    #[arg(long, default_value_t = 10.0, value_name = "SECONDS", value_parser = seconds)]
    pub(crate) seconds: f64,

    /// A produce ends after so many bytes of values, or after --seconds, whichever is first
    #[arg(long, default_value = "2GB", value_name = "SIZE", value_parser = parse_size)]
    pub(crate) bytes: u64,

    /// How long each server is warmed up before it is measured; 0: not at all
    #[arg(long, default_value_t = 1.0, value_name = "SECONDS", value_parser = seconds_or_none)]
    pub(crate) warm_up: f64,

    /// Where servers write; a directory is made in it and removed [default: the system's directory for temporary files]
    #[arg(long, value_name = "DIR")]
    pub(crate) data_dir: Option<PathBuf>,

    /// So much memory is used and freed before each produce, since a virtual machine pays for each page that was not used
    /// for a while. 0: none
    #[arg(long, default_value = "6GiB", value_name = "SIZE", value_parser = parse_size)]
    pub(crate) touch: u64,

    /// Flowstone's binary [default: target/release/flowstone of this workspace]
    #[arg(long, value_name = "FILE")]
    pub(crate) flowstone: Option<PathBuf>,

    /// Where `benches/peers/install` has put what is no system package [default: benches/peers/target/installed]
    #[arg(long, value_name = "DIR")]
    pub(crate) installed: Option<PathBuf>,

    /// Apache Iggy's server, which no registry has: build it from its source
    #[arg(long, value_name = "FILE")]
    pub(crate) iggy_server: Option<PathBuf>,

    /// Writes the tables to this file, too
    #[arg(long, value_name = "FILE")]
    pub(crate) markdown: Option<PathBuf>,

    /// Draws the medians into this file
    #[arg(long, value_name = "FILE")]
    pub(crate) svg: Option<PathBuf>,

    /// Writes everything as JSON to this file; `-`: to standard output, instead of the tables
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,

    /// Lists who and what there is, and what is missing
    #[arg(long)]
    pub(crate) list: bool,

    #[command(subcommand)]
    pub(crate) command: Option<Command>,
}

/// What this program starts itself with.
#[derive(Clone, Debug, Subcommand)]
pub(crate) enum Command {
    /// The server of the ceiling
    #[command(hide = true)]
    RawServer {
        /// The port of loopback to listen on
        port: u16,
        /// Where to keep what comes
        #[arg(long)]
        keep: Option<PathBuf>,
        /// Sync each message before its ack
        #[arg(long, requires = "keep")]
        synced: bool,
    },
}

impl Options {
    /// The pieces of work that are wanted.
    pub(crate) fn works(&self) -> Vec<Work> {
        if self.work.is_empty() {
            Work::all()
        } else {
            self.work.clone()
        }
    }

    /// Until when something is produced.
    pub(crate) fn bound(&self) -> Bound {
        Bound {
            bytes: self.bytes,
            time: Duration::from_secs_f64(self.seconds),
        }
    }

    /// For how long latency is measured.
    pub(crate) fn probe_time(&self) -> Duration {
        Duration::from_secs_f64(self.seconds / 2.0)
    }

    /// The binary that is measured.
    pub(crate) fn flowstone_binary(&self) -> PathBuf {
        let built = || workspace().join("target/release/flowstone");
        self.flowstone.clone().unwrap_or_else(built)
    }

    /// Where peers are that no package of the system holds.
    pub(crate) fn installed_dir(&self) -> PathBuf {
        let default = || Path::new(env!("CARGO_MANIFEST_DIR")).join("target/installed");
        self.installed.clone().unwrap_or_else(default)
    }

    /// Whether this peer is wanted.
    pub(crate) fn wants(&self, peer: &str) -> bool {
        let named = |names: &[String]| names.iter().any(|name| name == peer);
        (self.only.is_empty() || named(&self.only)) && !named(&self.skip)
    }

    /// Checks the names of peers.
    ///
    /// # Errors
    /// Names one that there is not, and those that there are.
    pub(crate) fn check_names(&self, known: &[&str]) -> Result<()> {
        for name in self.only.iter().chain(&self.skip) {
            if !known.contains(&name.as_str()) {
                bail!("there is no {name:?}; there are {}", known.join(", "));
            }
        }
        Ok(())
    }
}

/// The root of Flowstone's workspace.
pub(crate) fn workspace() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.ancestors().nth(2).unwrap_or(here).to_owned()
}

fn seconds(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(seconds) if (0.1..=600.0).contains(&seconds) => Ok(seconds),
        _ => Err("give a number of seconds from 0.1 to 600".to_owned()),
    }
}

fn seconds_or_none(text: &str) -> Result<f64, String> {
    if text == "0" { Ok(0.0) } else { seconds(text) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        use clap::CommandFactory;
        Options::command().debug_assert();
    }

    #[test]
    fn a_name_that_there_is_not_is_told() {
        let options = Options::parse_from(["peers", "--only", "flowstone,kafak"]);
        let error = options
            .check_names(&["flowstone", "kafka"])
            .unwrap_err()
            .to_string();
        assert!(error.contains("kafak"), "{error}");
        assert!(options.check_names(&["flowstone", "kafak"]).is_ok());
    }

    #[test]
    fn the_workspace_is_two_folders_up() {
        assert!(workspace().join("crates/client").is_dir());
    }
}
