//! What there is to measure, and how it is set up.

use std::time::Duration;

use clap::{Args, Subcommand};

use super::super::topic::AcksArg;
use crate::args::Switch;
use crate::units::{parse_duration, parse_size};

/// Measure how fast a broker takes, serves and delivers records
///
/// What is measured is what a client sees, with a real client. Every result names the durability that
/// it was had with. The broker's CPU time and memory are told when it runs on this machine.
#[derive(Debug, Subcommand)]
pub(crate) enum BenchCommand {
    Produce(ProduceArgs),
    Consume(ConsumeArgs),
    E2e(E2eArgs),
}

/// Produce records and tell how many a second, and how long each waited for its ack
///
/// As fast as the broker takes them (closed loop), or with --rate as they are due (open loop): then a
/// latency counts from the moment when the record was due, so that a stall is not hidden.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  flowstone bench produce                     into a topic of its own, for 10 seconds
  flowstone bench produce -s 100 -P 4 --partitions 4 --acks written
  flowstone bench produce --rate 1000 -d 30s --json
  flowstone bench produce visits -n 1000000   into a topic that exists")]
pub(crate) struct ProduceArgs {
    /// The topic; without it one is made, and deleted in the end
    pub(super) topic: Option<String>,

    #[command(flatten)]
    pub(super) bounds: Bounds,

    #[command(flatten)]
    pub(super) shape: Shape,

    /// Print the result as JSON, as --output json does
    #[arg(long, env = "FLOWSTONE_JSON", value_parser = Switch::new())]
    pub(super) json: bool,
}

/// Read a topic from its start to its end and tell how many records a second
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  flowstone bench consume                     a topic of its own, filled with 1 GiB before
  flowstone bench consume -s 100 --fill 256MiB
  flowstone bench consume visits -c 4         each consumer reads a share of the partitions")]
pub(crate) struct ConsumeArgs {
    /// The topic; without it one is made and filled before, and deleted in the end
    pub(super) topic: Option<String>,

    /// How many consumers read at the same time, each from its share of the partitions
    #[arg(short, long, env = "FLOWSTONE_CONSUMERS", value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub(super) consumers: u32,

    /// How large one response may be; without it as the broker is set up
    #[arg(long, env = "FLOWSTONE_RESPONSE", value_name = "SIZE", value_parser = parse_size)]
    pub(super) response: Option<i64>,

    /// How much the topic is filled with, when none is named
    #[arg(long, env = "FLOWSTONE_FILL", value_name = "SIZE", default_value = "1GiB", value_parser = parse_size, conflicts_with = "topic")]
    pub(super) fill: i64,

    #[command(flatten)]
    pub(super) shape: Shape,

    /// Print the result as JSON, as --output json does
    #[arg(long, env = "FLOWSTONE_JSON", value_parser = Switch::new())]
    pub(super) json: bool,
}

/// Produce at a rate and tell how long it took until a consumer had each record
///
/// A latency counts from the moment when the record was due to the one when the consumer had it.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  flowstone bench e2e                         1,000 records a second for 10 seconds
  flowstone bench e2e --rate 20000 -s 100 --acks written")]
pub(crate) struct E2eArgs {
    /// The topic; without it one is made, and deleted in the end
    pub(super) topic: Option<String>,

    #[command(flatten)]
    pub(super) bounds: Bounds,

    #[command(flatten)]
    pub(super) shape: Shape,

    /// Print the result as JSON, as --output json does
    #[arg(long, env = "FLOWSTONE_JSON", value_parser = Switch::new())]
    pub(super) json: bool,
}

/// When a measurement ends: whatever comes first.
#[derive(Clone, Debug, Args)]
pub(super) struct Bounds {
    /// How many records to produce; without it as many as there is time for
    #[arg(short = 'n', long, env = "FLOWSTONE_RECORDS", value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(super) records: Option<u64>,

    /// How long to produce [default: 10s, without a number of records]
    #[arg(short, long, env = "FLOWSTONE_DURATION", value_name = "DURATION", value_parser = parse_duration)]
    pub(super) duration: Option<Duration>,
}

impl Bounds {
    const DURATION: Duration = Duration::from_secs(10);

    /// As many records, however long it takes.
    pub(super) fn records(count: u64) -> Self {
        Self {
            records: Some(count),
            duration: None,
        }
    }

    /// How long at most.
    pub(super) fn time(&self) -> Option<Duration> {
        let default = || self.records.is_none().then_some(Self::DURATION);
        self.duration.or_else(default)
    }

    /// How many records at most, of the shape's rate, if that is known.
    pub(super) fn most(&self, shape: &Shape) -> Option<u64> {
        let by_rate = shape.rate.zip(self.time());
        let by_rate = by_rate.map(|(rate, time)| (rate * time.as_secs_f64()).ceil() as u64);
        self.records.into_iter().chain(by_rate).min()
    }
}

/// What the records are, and how they are sent.
#[derive(Clone, Debug, Args)]
pub(super) struct Shape {
    /// Size of a record's value
    #[arg(short, long, env = "FLOWSTONE_SIZE", value_name = "SIZE", default_value = "1KiB", value_parser = parse_size)]
    pub(super) size: i64,

    /// How many different keys the records have; 0 for records without a key
    #[arg(
        short,
        long,
        env = "FLOWSTONE_KEYS",
        value_name = "N",
        default_value_t = 0
    )]
    pub(super) keys: u32,

    /// How large a request grows [default: as the Rust client is set up, 256KiB with --in-flight]
    #[arg(short, long, env = "FLOWSTONE_BATCH", value_name = "SIZE", value_parser = parse_batch)]
    pub(super) batch: Option<i64>,

    /// How many requests of each producer may wait for their answer [default: as the Rust client is set up, 64 with
    /// --batch]
    #[arg(long, env = "FLOWSTONE_IN_FLIGHT", value_name = "N", value_parser = clap::value_parser!(u32).range(1..=4096))]
    pub(super) in_flight: Option<u32>,

    /// How many producers there are, each with a connection of its own
    #[arg(short = 'P', long, env = "FLOWSTONE_PRODUCERS", value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub(super) producers: u32,

    /// Partitions of the topic, when none is named
    #[arg(short, long, env = "FLOWSTONE_PARTITIONS", value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(i32).range(1..), conflicts_with = "topic")]
    pub(super) partitions: i32,

    /// When the broker answers [default: as the topic is set up]
    #[arg(long, env = "FLOWSTONE_ACKS", value_enum)]
    pub(super) acks: Option<AcksArg>,

    /// Records a second, of all producers together; without it as fast as the broker takes them
    #[arg(long, env = "FLOWSTONE_RATE", value_name = "N", value_parser = parse_rate)]
    pub(super) rate: Option<f64>,
}

impl Shape {
    /// How large a request grows, and how many are in flight, if either is given.
    pub(super) fn requests(&self) -> Option<(i64, u32)> {
        match (self.batch, self.in_flight) {
            (None, None) => None,
            (batch, in_flight) => Some((batch.unwrap_or(256 << 10), in_flight.unwrap_or(64))),
        }
    }
}

fn parse_batch(text: &str) -> Result<i64, String> {
    match parse_size(text)? {
        0 => Err("a request is not empty: write 1 to send each record by itself".to_owned()),
        bytes => Ok(bytes),
    }
}

fn parse_rate(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(rate) if rate.is_finite() && (1e-3..=1e9).contains(&rate) => Ok(rate),
        _ => Err("write a number of records a second, between 0.001 and 1e9".to_owned()),
    }
}
