//! `flowstone consume`: records to standard output, from anywhere to anywhere.

mod ends;
mod group;
mod printer;

use std::time::Duration;

use anyhow::{Error, Result};
use clap::Args;
use flowstone_client::{Client, Event, PartitionError, Start, SubscribeBuilder, Subscription};

use crate::args::{Global, Switch};
use crate::connection::{connect, retry_streams_for};
use crate::exit::Failure;
use crate::format::{LETTERS, Template};
use crate::position::{Position, Span};
use crate::progress::Progress;
use crate::signals::Stop;
use crate::units::parse_duration;
use ends::Ends;
use group::GroupReader;
use printer::{Printer, Shape};

/// Print the records of a topic
///
/// Follows the topic until it is interrupted, unless -e, -n or a range says where it ends.
#[derive(Debug, Args)]
#[command(after_help = after_help())]
pub(crate) struct ConsumeArgs {
    /// The topic
    topic: String,

    /// Where to begin, or a range of where to begin and end [default: start]
    ///
    /// With --group only for partitions of which the group has committed nothing.
    #[arg(
        short,
        long,
        env = "FLOWSTONE_OFFSET",
        value_name = "POS",
        allow_hyphen_values = true
    )]
    offset: Option<Span>,

    /// Stop at what is the end now
    #[arg(short, long, env = "FLOWSTONE_EXIT_AT_END", value_parser = Switch::new())]
    exit_at_end: bool,

    /// Stop after N records
    #[arg(
        short = 'n',
        long,
        env = "FLOWSTONE_COUNT",
        value_name = "N",
        value_parser = clap::value_parser!(u64)
    )]
    count: Option<u64>,

    /// Only this partition; may be given several times, or as 0,3,5
    #[arg(
        short,
        long = "partition",
        env = "FLOWSTONE_PARTITION",
        value_name = "N",
        value_delimiter = ',',
        value_parser = clap::value_parser!(i32).range(0..),
        conflicts_with = "group"
    )]
    partitions: Vec<i32>,

    /// Go on where this group has read to, and commit what was printed
    ///
    /// Readers of one group share the partitions, whatever machines they run on.
    #[arg(short, long, env = "FLOWSTONE_GROUP")]
    group: Option<String>,

    /// A stable name in the group, which keeps its partitions over a restart
    ///
    /// A second reader of this name takes the place of the first.
    #[arg(
        long,
        env = "FLOWSTONE_MEMBER",
        value_name = "NAME",
        requires = "group"
    )]
    member: Option<String>,

    /// How long printing may block until others get the partitions; the broker's default unless told
    #[arg(
        long,
        env = "FLOWSTONE_PROCESSING_TIMEOUT",
        value_name = "DURATION",
        requires = "group",
        value_parser = parse_duration
    )]
    processing_timeout: Option<Duration>,

    /// At most so many records of a partition come ahead of what is committed
    #[arg(
        long,
        env = "FLOWSTONE_MAX_UNCOMMITTED_RECORDS",
        value_name = "N",
        requires = "group",
        value_parser = clap::value_parser!(i32).range(1..)
    )]
    max_uncommitted_records: Option<i32>,

    /// How a record is printed: text with the letters below [default: %s\n]
    #[arg(
        short,
        long,
        env = "FLOWSTONE_FORMAT",
        allow_hyphen_values = true,
        conflicts_with = "json"
    )]
    format: Option<Template>,

    /// Print a JSON object a line
    #[arg(short = 'J', long, env = "FLOWSTONE_JSON", value_parser = Switch::new())]
    json: bool,
}

fn after_help() -> String {
    format!(
        "\
POS is one of
  start  end     the oldest record that is kept, or what comes from now on
  N              this offset
  -N             the last N records of each partition
  @TIME          the first record of this time or later: @2015-05-17T10:05:03Z, @2015-05-17 10:05,
                 @2015-05-17 (UTC where no zone is named), @-1h (ago), @now, or milliseconds
                 since 1970
  A:B            from A to B, which is left out itself; either may be empty, as in @-1h:

A colon that belongs to a time is told from the one between A and B: what reads as one position is
one. Otherwise the text is split where both sides are positions or empty.

FORMAT has kcat's letters:
{LETTERS}

-J prints topic, partition, offset, ts, headers, key and payload. Bytes that are not UTF-8 stand in
base64 as key_base64 and payload_base64. A record without a value has the payload null.

Examples:
  flowstone consume visits                    from the start, and follow
  flowstone consume visits -e                 from the start to the end
  flowstone consume visits -o -100 -e         the last 100 of each partition
  flowstone consume visits -o @-1h:@-30m      the first half of the last hour
  flowstone consume visits -o 1000:2000 -p 3
  flowstone consume visits -e -f '%p %o %k: %s\\n'
  flowstone consume visits -g billing         go on where billing has read to
  flowstone consume visits -J -n 1"
    )
}

pub(crate) async fn run(global: &Global, args: ConsumeArgs) -> Result<()> {
    let mut stop = Stop::listen()?;
    let client = connect(global)?;
    let shape = match (args.json, args.format.clone()) {
        (true, _) => Shape::Json,
        (false, Some(template)) => Shape::Template(template),
        (false, None) => Shape::Template("%s\\n".parse().map_err(Failure::Usage)?),
    };
    let mut printer = Printer::new(&args.topic, shape, args.count);
    if printer.is_done() {
        return Ok(());
    }
    let span = args.offset.unwrap_or_default();
    let start = span.from.map_or(Start::Earliest, Position::as_start);
    let subscribe = client
        .subscribe(&args.topic)
        .start(start)
        .retry_for(retry_streams_for(global));
    match &args.group {
        Some(group) => {
            let ends = Ends::resolve(&client, &args, &span).await?;
            let mut reader =
                GroupReader::join(&client, subscribe, group, &args, start, ends).await?;
            reader.read(&mut printer, &mut stop).await
        }
        None => read(&client, subscribe, &args, &span, &mut printer, &mut stop).await,
    }
}

/// Reads without a group.
async fn read(
    client: &Client,
    subscribe: SubscribeBuilder,
    args: &ConsumeArgs,
    span: &Span,
    printer: &mut Printer,
    stop: &mut Stop,
) -> Result<()> {
    let ends = Ends::resolve(client, args, span).await?;
    let damage = ends.damage();
    let mut subscription = ends
        .apply(subscribe.partitions(args.partitions.clone()))
        .open()
        .await?;
    let progress = Progress::records(args.count);
    while let Some(event) = next(&mut subscription, printer, stop).await? {
        match event {
            Event::Records(batch) => {
                printer.print(&batch)?;
                progress.advance(batch.records.len() as u64);
            }
            Event::Partition(error) => warn(&progress, &error),
            Event::Assignment(_) => {}
        }
        if printer.is_done() {
            return printer.flush();
        }
    }
    printer.flush()?;
    match damage {
        Some(damage) if !stop.is_asked() => Err(damage.into()),
        _ => Ok(()),
    }
}

/// The next event. What was printed is flushed before it waits. None: the stop position is
/// reached, or the user asked to stop.
async fn next(
    subscription: &mut Subscription,
    printer: &mut Printer,
    stop: &mut Stop,
) -> Result<Option<Event>> {
    if stop.is_asked() {
        return Ok(None);
    }
    if let Some(event) = subscription.try_next() {
        return event.map(Some).map_err(|error| failed(printer, error));
    }
    printer.flush()?;
    tokio::select! {
        event = subscription.next() => event.transpose().map_err(Error::new),
        () = stop.asked() => Ok(None),
    }
}

/// What was printed before a failure is not held back.
fn failed(printer: &mut Printer, error: flowstone_client::Error) -> Error {
    match printer.flush() {
        Ok(()) => error.into(),
        Err(flush) => flush,
    }
}

fn warn(progress: &Progress, problem: &PartitionError) {
    let partition = problem.cursor.partition;
    progress.say(&format!(
        "warning: partition {partition}: {}",
        problem.error
    ));
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::args::{Cli, Command};

    fn parse(words: &[&str]) -> Result<ConsumeArgs, clap::Error> {
        let words = ["flowstone", "consume", "visits"].iter().chain(words);
        match Cli::try_parse_from(words)?.command {
            Command::Consume(args) => Ok(args),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn positions_that_begin_with_a_dash_are_values() {
        let last = Span {
            from: Some(Position::Last(100)),
            to: None,
        };
        for words in [
            &["-o", "-100"][..],
            &["-o-100"],
            &["--offset", "-100"],
            &["--offset=-100"],
        ] {
            assert_eq!(parse(words).unwrap().offset, Some(last), "{words:?}");
        }
        let args = parse(&["-o", "-100", "-e"]).unwrap();
        assert!(args.exit_at_end);
        let args = parse(&["-eo", "-5:-2"]).unwrap();
        assert_eq!(args.offset.unwrap().to, Some(Position::Last(2)));
    }

    #[test]
    fn flags_that_do_not_fit_together_are_wrong_usage() {
        for words in [
            &["-J", "-f", "%s"][..],
            &["-g", "billing", "-p", "1"],
            &["--member", "till-1"],
            &["--processing-timeout", "1m"],
            &["-g", "billing", "--max-uncommitted-records", "0"],
            &["-f", "%q"],
            &["-o", "soon"],
            &["-p", "-1"],
            &["-n", "-1"],
        ] {
            let error = parse(words).unwrap_err();
            assert_eq!(error.exit_code(), 2, "{words:?}");
        }
    }

    #[test]
    fn partitions_may_be_listed() {
        assert_eq!(parse(&["-p", "0,3", "-p5"]).unwrap().partitions, [0, 3, 5]);
    }
}
