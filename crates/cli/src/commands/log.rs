//! `flowstone log`: looks at the files of a stopped broker. Only `repair --execute` changes any.

mod repair;
mod view;

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use clap::{Args, Subcommand};
use flowstone_broker::Offline;
use flowstone_disk::{Disk, Lock, RealDisk};
use flowstone_log::{LogError, inspect};

use crate::args::{Global, Switch};
use crate::exit::Failure;
use crate::output::{OutputFormat, print_json, print_line};
use crate::progress::Progress;
use crate::units::{show_many, show_size};
use view::{Batch, Partition};

/// Look at the files of a broker that is not running, check them, and repair them
#[derive(Debug, Subcommand)]
pub(crate) enum LogCommand {
    Inspect(InspectArgs),
    Verify(VerifyArgs),
    Repair(repair::RepairArgs),
}

/// Show the segments of each partition, and with --batches what is in them
///
/// Reads only. The broker must not be running.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  flowstone log inspect flowstone-data
  flowstone log inspect flowstone-data --batches
  flowstone log inspect flowstone-data --output json")]
pub(crate) struct InspectArgs {
    /// The data directory
    dir: PathBuf,

    /// Also each batch: offsets, time, size, checksum
    #[arg(short, long, env = "FLOWSTONE_BATCHES", value_parser = Switch::new())]
    batches: bool,
}

/// Check every batch of every partition: headers, checksums, order, records
///
/// Reads only. The broker must not be running. Exits with 5 if anything is damaged, and says what and
/// where: the partition, the file, the byte, and the first offset that cannot be served.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  flowstone log verify flowstone-data")]
pub(crate) struct VerifyArgs {
    /// The data directory
    dir: PathBuf,
}

pub(crate) fn run(global: &Global, command: LogCommand) -> Result<()> {
    match command {
        LogCommand::Inspect(args) => show(&args, global.output),
        LogCommand::Verify(args) => verify(&args, global.output),
        LogCommand::Repair(args) => repair::run(&args, global.output),
    }
}

fn show(args: &InspectArgs, output: OutputFormat) -> Result<()> {
    let partitions = walk(&args.dir, args.batches)?;
    if output == OutputFormat::Json {
        return Ok(print_json(&partitions)?);
    }
    if partitions.is_empty() {
        eprintln!("{} holds no partitions", args.dir.display());
        return Ok(());
    }
    for (number, partition) in partitions.iter().enumerate() {
        if number > 0 {
            print_line("")?;
        }
        partition.print()?;
    }
    Ok(())
}

fn verify(args: &VerifyArgs, output: OutputFormat) -> Result<()> {
    let partitions = walk(&args.dir, false)?;
    if output == OutputFormat::Json {
        print_json(&partitions)?;
    }
    let damages: usize = partitions.iter().map(|one| one.faults().count()).sum();
    if output == OutputFormat::Table {
        for partition in &partitions {
            partition.print_verdict()?;
        }
    }
    if damages > 0 {
        bail!(Failure::Damaged(format!(
            "{} is damaged in {}: restore it from a backup, or see what `flowstone log repair` can keep",
            args.dir.display(),
            show_many(damages as u64, "place")
        )));
    }
    let total = |of: fn(&Partition) -> u64| partitions.iter().map(of).sum::<u64>();
    eprintln!(
        "{} is sound: {}, {}, {} in {}",
        args.dir.display(),
        show_many(partitions.len() as u64, "partition"),
        show_many(total(Partition::record_count), "record"),
        show_size(total(Partition::bytes)),
        show_many(total(Partition::segment_count), "segment"),
    );
    Ok(())
}

/// Checks a directory without a word. Answers with how many batches there are.
pub(super) fn verify_quietly(data_dir: &Path) -> Result<u64> {
    let partitions = walk(data_dir, false)?;
    if let Some(fault) = partitions.iter().flat_map(Partition::faults).next() {
        bail!(Failure::Damaged(fault));
    }
    Ok(partitions.iter().map(Partition::batch_count).sum())
}

/// Reads all partitions of a data directory; a progress line counts the batches.
fn walk(data_dir: &Path, keep_batches: bool) -> Result<Vec<Partition>> {
    let disk: Arc<dyn Disk> = Arc::new(RealDisk);
    let ids =
        inspect::partitions(&disk, data_dir).map_err(|error| no_data_directory(data_dir, error))?;
    let _held = hold(&*disk, data_dir)?;
    let offline = Offline::read(&disk, data_dir);
    let progress = Progress::batches();
    let mut partitions = Vec::with_capacity(ids.len());
    for id in ids {
        let mut batches = Vec::new();
        let report = inspect::inspect(&disk, data_dir, id, |segment, frame| {
            progress.advance(1);
            if keep_batches {
                batches.push((segment.base_offset.get(), Batch::new(frame)));
            }
        })
        .with_context(|| format!("cannot read partition {id}"))?;
        let own = offline.partitions.get(&id);
        partitions.push(Partition::new(
            &report,
            own,
            keep_batches.then_some(batches),
        ));
    }
    Ok(partitions)
}

fn no_data_directory(data_dir: &Path, error: LogError) -> anyhow::Error {
    anyhow::Error::new(error).context(format!("{} is no data directory", data_dir.display()))
}

/// Keeps a broker from starting while its files are changed.
fn hold_for_change(disk: &dyn Disk, data_dir: &Path) -> Result<Box<dyn Lock>> {
    let path = data_dir.join(inspect::LOCK_NAME);
    disk.lock(&path).map_err(|error| match error.kind() {
        ErrorKind::WouldBlock => anyhow::anyhow!(
            "{} is in use by a running broker: stop it first",
            data_dir.display()
        ),
        _ => anyhow::Error::new(error).context(format!("cannot lock {}", path.display())),
    })
}

/// Keeps a broker from starting while its files are read, and refuses when one is running: files
/// that grow while they are read look damaged. A directory that this user may only read, or that
/// has no lock, is a copy.
fn hold(disk: &dyn Disk, data_dir: &Path) -> Result<Option<Box<dyn Lock>>> {
    let path = data_dir.join(inspect::LOCK_NAME);
    if !path.exists() {
        return Ok(None);
    }
    match disk.lock(&path) {
        Ok(lock) => Ok(Some(lock)),
        Err(error) => match error.kind() {
            ErrorKind::WouldBlock => bail!(
                "{} is in use by a running broker: stop it first, or look at a copy",
                data_dir.display()
            ),
            ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => Ok(None),
            _ => Err(error).with_context(|| format!("cannot lock {}", path.display())),
        },
    }
}

#[cfg(test)]
mod tests {
    use flowstone_broker::{Broker, BrokerConfig, Env};

    use super::*;

    #[test]
    fn the_files_of_a_running_broker_are_not_looked_at() {
        let directory = tempfile::tempdir().unwrap();
        let data_dir = directory.path();
        let broker = Broker::open(BrokerConfig::new(data_dir.to_path_buf()), Env::real()).unwrap();
        let error = walk(data_dir, false).unwrap_err();
        assert!(error.to_string().contains("running broker"), "{error:#}");
        drop(broker);
        let held = hold(&RealDisk, data_dir).unwrap();
        assert!(held.is_some());
        let again = Broker::open(BrokerConfig::new(data_dir.to_path_buf()), Env::real());
        assert!(
            again.is_err(),
            "a broker started while its files were looked at"
        );
    }

    #[test]
    fn a_directory_without_partitions_is_no_data_directory() {
        let directory = tempfile::tempdir().unwrap();
        let error = walk(directory.path(), false).unwrap_err();
        assert!(
            format!("{error:#}").contains("is no data directory"),
            "{error:#}"
        );
    }
}
