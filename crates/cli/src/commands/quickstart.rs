//! `flowstone quickstart`: the whole story in a temporary directory, told in plain words, and
//! checked.

mod broker;
mod killing;
mod ledger;
mod prose;
mod reading;
mod story;
mod visits;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use clap::Args;

use crate::signals::Stop;
use story::Story;

/// Far more than it takes; nothing may hang.
const TIME_LIMIT: Duration = Duration::from_secs(120);

/// See what Flowstone does: produce, read, kill -9, restart, replay, and check every record
///
/// Runs a broker of its own in a temporary directory on a free port, kills it in the middle of writing,
/// starts it again, and checks that every acknowledged record is there once, bit for bit. Takes a few
/// seconds, leaves nothing behind, and exits with 1 if anything is off.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  flowstone quickstart
  flowstone quickstart access.log             with the lines of a file of yours")]
pub(crate) struct QuickstartArgs {
    /// Lines to use as records; without it a day at the lemonade stands is made up
    file: Option<PathBuf>,
}

pub(crate) async fn run(args: QuickstartArgs) -> Result<()> {
    let records = match &args.file {
        Some(path) => visits::from_file(path).await?,
        None => visits::made_up(),
    };
    let directory = tempfile::Builder::new()
        .prefix("flowstone-quickstart-")
        .tempdir()
        .context("cannot make a temporary directory")?;
    let mut stop = Stop::listen()?;
    let mut story = Story::new(directory.path().join("data"), records, args.file.is_none());
    let outcome = tokio::select! {
        outcome = tokio::time::timeout(TIME_LIMIT, story.tell()) => match outcome {
            Ok(outcome) => outcome,
            Err(_) => Err(anyhow!("it took more than {TIME_LIMIT:?}")),
        },
        () = stop.asked() => Err(anyhow!("interrupted")),
    };
    // Whatever happened: the broker ends before its directory goes.
    let log = story.end().await;
    directory
        .close()
        .context("cannot remove the temporary directory")?;
    if let Err(error) = outcome {
        for line in log {
            eprintln!("broker: {line}");
        }
        // One exit code for all that can be off, whatever its cause.
        bail!("the story did not go as it should: {error:#}");
    }
    Ok(())
}
