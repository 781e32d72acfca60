//! `flowstone produce`: a record a line, from files or standard input.

mod record_maker;
mod summary;

use std::io::{self, IsTerminal};
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Error, Result};
use clap::Args;
use flowstone_client::{Acks, Producer, reason};
use tokio::fs::File;
use tokio::io::AsyncRead;

use super::topic::AcksArg;
use crate::args::{Global, Switch};
use crate::connection::{connect, retry_streams_for};
use crate::lines::Lines;
use crate::progress::Progress;
use crate::signals::Stop;
use crate::units::parse_pair;
use record_maker::RecordMaker;
use summary::Summary;

/// Append a record for each line of files or of standard input
///
/// The newline is no part of the record. It ends with how many records were acknowledged, also when it
/// fails or is interrupted.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  echo 'two lemonades' | flowstone produce visits
  flowstone produce visits monday.txt tuesday.txt
  flowstone produce access -K ' ' access.log  the key is what stands before the first space
  flowstone produce visits -k stand-7 -H source=till -p 3 < till.txt
  flowstone produce access access.log --producer-id importer --resume   again after a crash: what is missing")]
pub(crate) struct ProduceArgs {
    /// The topic
    topic: String,

    /// Files to read; - is standard input, and so is no file
    files: Vec<PathBuf>,

    /// Split each line at the first DELIM: the key stands before it, the value behind it
    ///
    /// A line without DELIM is a value without a key. \t, \n and \xHH are understood.
    #[arg(
        short = 'K',
        long,
        env = "FLOWSTONE_KEY_DELIMITER",
        value_name = "DELIM",
        allow_hyphen_values = true,
        conflicts_with = "key"
    )]
    key_delimiter: Option<String>,

    /// The key of every record
    #[arg(short, long, env = "FLOWSTONE_KEY", allow_hyphen_values = true)]
    key: Option<String>,

    /// A header of every record; may be given several times
    #[arg(short = 'H', long = "header", env = "FLOWSTONE_HEADER", value_name = "NAME=VALUE", value_parser = parse_pair)]
    headers: Vec<(String, String)>,

    /// The partition; without it the key decides, or the broker where there is none
    #[arg(
        short,
        long,
        env = "FLOWSTONE_PARTITION",
        value_name = "N",
        value_parser = clap::value_parser!(i32).range(0..)
    )]
    partition: Option<i32>,

    /// When the broker answers [default: as the topic is set up]
    #[arg(long, env = "FLOWSTONE_ACKS", value_enum)]
    acks: Option<AcksArg>,

    /// A name for this producer that outlives the command; it ends what runs under the same name
    ///
    /// Its lines are numbered from one run to the next. Without it nothing is appended twice either, but
    /// another run knows nothing of this one.
    #[arg(long, env = "FLOWSTONE_PRODUCER_ID", value_name = "NAME")]
    producer_id: Option<String>,

    /// Go on with the same input where an earlier run of --producer-id was cut off
    ///
    /// Skips the lines that are there, and repeats those that may be; none is appended twice within the time
    /// that the broker remembers producers.
    #[arg(long, env = "FLOWSTONE_RESUME", requires = "producer_id", value_parser = Switch::new())]
    resume: bool,

    /// Append only if the first record gets this offset, and the others those behind it
    #[arg(
        long,
        env = "FLOWSTONE_EXPECTED_OFFSET",
        value_name = "OFFSET",
        requires = "partition",
        value_parser = clap::value_parser!(i64).range(0..)
    )]
    expected_offset: Option<i64>,

    /// Let the broker forget what was sent: less work for it, and a repeat may append twice
    #[arg(
        long,
        env = "FLOWSTONE_NOT_IDEMPOTENT",
        conflicts_with = "producer_id",
        value_parser = Switch::new()
    )]
    not_idempotent: bool,

    /// With --not-idempotent: repeat also what may have been appended before the connection was lost
    #[arg(long, env = "FLOWSTONE_RETRY_UNKNOWN", value_parser = Switch::new())]
    retry_unknown: bool,
}

pub(crate) async fn run(global: &Global, args: ProduceArgs) -> Result<()> {
    let maker = RecordMaker::new(
        args.key_delimiter.as_deref(),
        args.key.as_deref(),
        &args.headers,
    )?;
    let progress = progress(&args.files).await?;
    let mut stop = Stop::listen()?;
    let client = connect(global)?;
    let mut producer = client
        .producer(&args.topic)
        .acks(args.acks.map_or(Acks::Unspecified, Into::into))
        .idempotent(!args.not_idempotent)
        .retry_unknown(args.retry_unknown)
        .delivery_timeout(retry_streams_for(global));
    if let Some(partition) = args.partition {
        producer = producer.partition(partition);
    }
    if let Some(id) = &args.producer_id {
        producer = producer.id(id).resume(args.resume);
    }
    if let Some(offset) = args.expected_offset {
        producer = producer.expected_offset(offset);
    }
    let producer = producer.build().await?;
    let skipped = match args.resume {
        true => producer.next_sequence() - 1,
        false => 0,
    };
    if skipped > 0 {
        eprintln!("{skipped} lines are there already");
    }

    let begun = Instant::now();
    let mut work = Work {
        producer: &producer,
        maker: &maker,
        progress: &progress,
        skip: skipped.unsigned_abs(),
        records: 0,
        value_bytes: 0,
    };
    let sent = work.all(&args.files, &mut stop).await;
    let (records, value_bytes) = (work.records, work.value_bytes);
    let flushed = producer.flush().await;
    drop(progress);

    let summary = Summary::new(&producer, records, value_bytes, begun.elapsed());
    if stop.is_asked() {
        eprintln!("interrupted; the rest of the input was not read");
    }
    summary.print(global.output, sent.is_ok() && flushed.is_ok());
    // What the broker refused is the cause, whatever became of the reading.
    flushed?;
    sent?;
    Ok(producer.close().await?)
}

/// A bar over the size of all files, if all have one. A file that is not there is told before
/// anything is produced.
async fn progress(files: &[PathBuf]) -> Result<Progress> {
    let mut total = Some(0);
    for path in files {
        let size = if path == Path::new("-") {
            None
        } else {
            let metadata = tokio::fs::metadata(path)
                .await
                .with_context(|| format!("cannot open {}", path.display()))?;
            metadata.is_file().then_some(metadata.len())
        };
        total = total.zip(size).map(|(total, size)| total + size);
    }
    Ok(match total {
        Some(total) if !files.is_empty() => Progress::bytes(total),
        _ => Progress::hidden(),
    })
}

struct Work<'a> {
    producer: &'a Producer,
    maker: &'a RecordMaker,
    progress: &'a Progress,
    /// Lines that are left out, since they are there.
    skip: u64,
    /// Lines that were taken.
    records: u64,
    /// Bytes of these, without newlines.
    value_bytes: u64,
}

impl Work<'_> {
    async fn all(&mut self, files: &[PathBuf], stop: &mut Stop) -> Result<()> {
        let standard_input = [PathBuf::from("-")];
        let files = if files.is_empty() {
            &standard_input
        } else {
            files
        };
        for path in files {
            if stop.is_asked() {
                break;
            }
            if path == Path::new("-") {
                if io::stdin().is_terminal() {
                    eprintln!("a line is a record; Ctrl-D ends the input");
                }
                self.one(tokio::io::stdin(), "standard input", stop).await?;
                continue;
            }
            let name = path.display().to_string();
            let mut file = File::open(path)
                .await
                .with_context(|| format!("cannot open {name}"))?;
            file.set_max_buf_size(1 << 20);
            self.one(file, &name, stop).await?;
        }
        Ok(())
    }

    async fn one(
        &mut self,
        input: impl AsyncRead + Unpin,
        name: &str,
        stop: &mut Stop,
    ) -> Result<()> {
        let mut lines = Lines::new(input, self.producer.max_record_bytes());
        let mut number: u64 = 0;
        loop {
            number += 1;
            let place = || format!("{name}, line {number}");
            let line = match lines.buffered().with_context(place)? {
                Some(line) => Some(line),
                None => tokio::select! {
                    line = lines.next() => line.with_context(place)?,
                    () = stop.asked() => None,
                },
            };
            let Some(line) = line else {
                return Ok(());
            };
            // The flush that follows tells why.
            if self.producer.failure().is_some() || stop.is_asked() {
                return Ok(());
            }
            let bytes = line.len() as u64;
            if self.skip > 0 {
                self.skip -= 1;
                self.progress.advance(bytes + 1);
                continue;
            }
            let record = self.maker.record(line);
            self.producer.send(record).await.map_err(|error| {
                let ours = error.is(reason::RECORD_TOO_LARGE);
                let error = Error::new(error);
                if ours { error.context(place()) } else { error }
            })?;
            self.records += 1;
            self.value_bytes += bytes;
            self.progress.advance(bytes + 1);
        }
    }
}
