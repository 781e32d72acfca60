//! `flowstone replay`: copies a range of a topic into another one, once, however often it is begun.

mod batch;
mod copy;
mod pace;
mod plan;

use std::sync::Arc;

use anyhow::{Result, bail};
use clap::Args;
use flowstone_client::Client;
use serde::Serialize;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::args::{Global, Switch};
use crate::connection::connect_for_long;
use crate::exit::Failure;
use crate::output::OutputFormat;
use crate::progress::Progress;
use crate::signals::Stop;
use crate::units::{show_count, show_many};
use copy::{Copied, Copy, copy};
use pace::{Factor, Pace, Rate};
use plan::{Plan, Range, RunName};

/// So many partitions are copied at the same time.
const PARTITIONS_AT_ONCE: usize = 64;

/// Copy a range of a topic into another topic
///
/// Records keep their times, keys, headers and values; their order within a partition holds for those of
/// one key. The end of the range is looked up when it begins. The same command again, after whatever
/// ended it, goes on where it had stopped and copies nothing twice.
#[derive(Debug, Args)]
#[command(after_help = "\
A range is written as in `flowstone consume -o`: A:B of offsets, -N (the last N), @TIME, start and end.

Each command remembers in the topic that it writes to how far it is, under the text of its range. A
range such as @-1h: is another one each time, but goes on where it was as long as its text is the same;
give it a --run of its own to copy it anew. The broker remembers a run for as long as its
producers.retention says after the last copied record, a day unless set.

Examples:
  flowstone replay visits --to visits-again
  flowstone replay visits -o @2015-05-17:@2015-05-18 --to visits-again
  flowstone replay visits -o 1000:2000 -p 3 --to visits-again --rate 500/s
  flowstone replay visits -o @-1h: --to rehearsal --speed 2x --run tuesday
  flowstone replay visits --to mirror --same-partitions")]
pub(crate) struct ReplayArgs {
    /// The topic to copy from
    topic: String,

    /// The topic to copy to
    #[arg(long, env = "FLOWSTONE_TO", value_name = "TOPIC")]
    to: String,

    /// The range to copy [default: all that is there now]
    #[arg(
        short,
        long,
        env = "FLOWSTONE_OFFSET",
        value_name = "A:B",
        allow_hyphen_values = true
    )]
    offset: Option<Range>,

    /// Only this partition; may be given several times, or as 0,3,5
    #[arg(
        short,
        long = "partition",
        env = "FLOWSTONE_PARTITION",
        value_name = "N",
        value_delimiter = ',',
        value_parser = clap::value_parser!(i32).range(0..)
    )]
    partitions: Vec<i32>,

    /// Each record goes to the partition of its number, instead of by its key
    #[arg(long, env = "FLOWSTONE_SAME_PARTITIONS", value_parser = Switch::new())]
    same_partitions: bool,

    /// At most so many records, such as 500/s or 1000/m
    #[arg(long, env = "FLOWSTONE_RATE", value_name = "N/s")]
    rate: Option<Rate>,

    /// With the time between the records that there was: 1x as it was, 2x twice as fast
    #[arg(
        long,
        env = "FLOWSTONE_SPEED",
        value_name = "FACTOR",
        conflicts_with = "rate"
    )]
    speed: Option<Factor>,

    /// What this run is called: a run that has begun goes on [default: the text of the range]
    #[arg(long, env = "FLOWSTONE_RUN", value_name = "NAME")]
    run: Option<RunName>,
}

/// What a replay ends with.
#[derive(Debug, Serialize)]
struct Summary {
    copied: u64,
    /// Sent again to make sure, and there already.
    there_already: u64,
    seconds: f64,
    complete: bool,
}

pub(crate) async fn run(global: &Global, args: ReplayArgs) -> Result<()> {
    let stop = Stop::listen()?;
    let client = connect_for_long(global)?;
    let plan = Plan::make(&client, &args).await?;
    for line in plan.told() {
        eprintln!("{line}");
    }
    let begun = Instant::now();
    let (copied, failure) = Run {
        client,
        global,
        progress: Arc::new(Progress::silent_records(Some(plan.records()))),
        stop: stop.clone(),
    }
    .all(&args, &plan)
    .await;
    let stopped = stop.is_asked();
    Summary {
        copied: copied.copied,
        there_already: copied.there_already,
        seconds: begun.elapsed().as_secs_f64(),
        complete: failure.is_none() && !stopped,
    }
    .print(global.output, &args, stopped);
    match (failure, plan.damage) {
        (Some(failure), _) => Err(failure),
        (None, Some(damage)) if !stopped => Err(damage.into()),
        (None, _) => Ok(()),
    }
}

struct Run<'a> {
    client: Client,
    global: &'a Global,
    progress: Arc<Progress>,
    stop: Stop,
}

impl Run<'_> {
    /// Copies all partitions. The first failure ends it.
    async fn all(self, args: &ReplayArgs, plan: &Plan) -> (Copied, Option<anyhow::Error>) {
        let pace = match pace(&self.client, args, plan).await {
            Ok(pace) => Arc::new(pace),
            Err(error) => return (Copied::default(), Some(error)),
        };
        let at_once = Arc::new(Semaphore::new(match args.speed {
            // What waits for its time must not keep others from theirs.
            Some(_) => Semaphore::MAX_PERMITS,
            None => PARTITIONS_AT_ONCE,
        }));
        let mut copies = JoinSet::new();
        for part in plan.parts.clone() {
            let task = Copy {
                client: self.client.clone(),
                topic: args.topic.clone(),
                to: args.to.clone(),
                same_partition: args.same_partitions,
                limits: plan.limits,
                part,
                pace: Arc::clone(&pace),
                progress: Arc::clone(&self.progress),
                stop: self.stop.clone(),
                retry_for: crate::connection::retry_streams_for(self.global),
            };
            let at_once = Arc::clone(&at_once);
            copies.spawn(async move {
                let _turn = at_once.acquire_owned().await;
                copy(task).await
            });
        }
        let (mut sum, mut failure) = (Copied::default(), None);
        while let Some(ended) = copies.join_next().await {
            let (copied, outcome) = match ended {
                Ok(ended) => ended,
                // One that is ended for another's failure.
                Err(error) if error.is_cancelled() => continue,
                Err(error) => (Copied::default(), Err(error.into())),
            };
            sum.add(copied);
            if let (Err(error), None) = (outcome, &failure) {
                failure = Some(error);
                copies.abort_all();
            }
        }
        (sum, failure)
    }
}

/// How fast the records may come.
async fn pace(client: &Client, args: &ReplayArgs, plan: &Plan) -> Result<Pace> {
    match (args.rate, args.speed) {
        (Some(rate), _) => Ok(Pace::rate(rate, Instant::now())),
        (None, Some(factor)) => {
            let first_ms = plan.first_time_ms(client, args).await?;
            Ok(Pace::speed(factor, first_ms, Instant::now()))
        }
        (None, None) => Ok(Pace::none()),
    }
}

impl Summary {
    fn print(&self, output: OutputFormat, args: &ReplayArgs, stopped: bool) {
        if output == OutputFormat::Json
            && let Ok(json) = serde_json::to_string(self)
        {
            eprintln!("{json}");
            return;
        }
        let mut line = format!(
            "copied {} from {} to {} in {:.1} s",
            show_many(self.copied, "record"),
            args.topic,
            args.to,
            self.seconds,
        );
        if self.there_already > 0 {
            let already = show_count(self.there_already);
            line.push_str(&format!(" ({already} more were there already)"));
        }
        eprintln!("{line}");
        if stopped {
            eprintln!("interrupted; the same command goes on from here");
        } else if !self.complete {
            eprintln!("not all is copied; the same command goes on from here");
        }
    }
}

/// Refuses what cannot be copied partition by partition.
fn check_partitions(args: &ReplayArgs, from: i32, to: i32) -> Result<()> {
    let highest = args.partitions.iter().copied().max();
    let needed = highest.map_or(from, |highest| highest + 1);
    if args.same_partitions && needed > to {
        bail!(Failure::Usage(format!(
            "--same-partitions needs {needed} partitions, and topic {to_name} has {to}: add some with \
             `flowstone topic alter {to_name} -p {needed}`, or leave --same-partitions out",
            to_name = args.to,
        )));
    }
    Ok(())
}
