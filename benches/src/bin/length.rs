//! Whether a record costs more in a long log: appends and reads at the end of one, and the same in an empty one, by
//! turns, since the machine is not the same from one minute to the next.
//!
//! `cargo run --release -p flowstone-benches --bin length -- --gib 20`

use std::collections::VecDeque;
use std::error::Error;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use bytes::Bytes;
use clap::Parser;
use flowstone_benches::{Run, anonymous_bytes, median, touch};
use flowstone_broker::{Broker, BrokerConfig, Env, FetchRequest, ProduceRequest, Start, TopicSpec};
use pollster::block_on;

const LONG: &str = "long";
const SHORT: &str = "short";
/// What waits for a sync together, as from many producers.
const IN_FLIGHT: usize = 8;
const RECORDS: u32 = 250;
/// Reads of one record somewhere in what was appended last.
const SINGLE_READS: u64 = 20_000;
/// Memory that is used right before a measurement, as a multiple of what is appended then.
const TOUCHED_STEPS: u64 = 16;

type Outcome<T> = Result<T, Box<dyn Error>>;

#[derive(Parser)]
struct Args {
    /// How long the log is, in GiB.
    #[arg(long, default_value_t = 20)]
    gib: u64,
    /// Size of a record's value in bytes.
    #[arg(long, default_value_t = 1024)]
    value_bytes: usize,
    /// How many MiB are appended to either log at a time.
    #[arg(long, default_value_t = 256)]
    step_mib: u64,
    /// How often.
    #[arg(long, default_value_t = 9)]
    pairs: usize,
    /// Where to put the data; it needs as much space. A temporary directory if absent.
    #[arg(long)]
    dir: Option<PathBuf>,
}

type Rate = fn(&Rates) -> f64;

/// What one log was measured to do.
#[derive(Clone, Copy, Debug)]
struct Rates {
    /// Records appended a second.
    append: f64,
    /// Records read a second, one after the other.
    read: f64,
    /// Reads of a single record a second, here and there.
    single: f64,
}

fn main() -> ExitCode {
    match measure(&Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("length: {error}");
            ExitCode::FAILURE
        }
    }
}

fn measure(args: &Args) -> Outcome<()> {
    let temp = match &args.dir {
        Some(dir) => tempfile::tempdir_in(dir)?,
        None => tempfile::tempdir()?,
    };
    let broker = Broker::open(BrokerConfig::new(temp.path().join("data")), Env::real())?;
    let run = Run::new(RECORDS, args.value_bytes);
    let records = Bytes::from(run.bytes);
    block_on(broker.create_topic(TopicSpec::new(LONG, 1), false))?;
    let began = Instant::now();
    append(&broker, LONG, &records, args.gib << 30)?;
    println!(
        "{} GiB in {:.0} s, {:.1} MiB of anonymous memory",
        args.gib,
        began.elapsed().as_secs_f64(),
        mib()?
    );
    let (mut long, mut short) = (Vec::new(), Vec::new());
    let step = args.step_mib << 20;
    for pair in 0..args.pairs {
        block_on(broker.create_topic(TopicSpec::new(SHORT, 1), false))?;
        let mut logs = [(LONG, &mut long), (SHORT, &mut short)];
        if !pair.is_multiple_of(2) {
            logs.reverse();
        }
        for (topic, rates) in logs {
            // What the log before it has given back would be a present to this one.
            touch(TOUCHED_STEPS * step);
            rates.push(rates_of(&broker, topic, &records, step)?);
        }
        block_on(broker.delete_topic(SHORT))?;
    }
    println!("{:.1} MiB of anonymous memory at the end", mib()?);
    println!();
    println!("| a second, medians | long | empty | ratio |");
    println!("|---|---|---|---|");
    let rows: [(&str, Rate); 3] = [
        ("records appended", |rates| rates.append),
        ("records read in order", |rates| rates.read),
        ("single records read", |rates| rates.single),
    ];
    for (name, rate) in rows {
        let pairs = long.iter().zip(&short);
        let ratio = median(
            pairs
                .map(|(long, short)| rate(long) / rate(short))
                .collect(),
        );
        let long = median(long.iter().map(rate).collect());
        let short = median(short.iter().map(rate).collect());
        println!("| {name} | {long:.0} | {short:.0} | {ratio:.3} |");
    }
    Ok(block_on(broker.shutdown())?)
}

fn rates_of(broker: &Broker, topic: &str, records: &Bytes, step: u64) -> Outcome<Rates> {
    let from = end_of(broker, topic)?;
    let began = Instant::now();
    append(broker, topic, records, step)?;
    let appended = began.elapsed().as_secs_f64();
    let count = end_of(broker, topic)? - from;
    let began = Instant::now();
    let mut at = from;
    while at < from + count {
        at = read(broker, topic, at, 0)?;
    }
    let in_order = began.elapsed().as_secs_f64();
    let began = Instant::now();
    for number in 0..SINGLE_READS {
        read(broker, topic, from + number * 1_000_003 % count, 1)?;
    }
    let singly = began.elapsed().as_secs_f64();
    Ok(Rates {
        append: count as f64 / appended,
        read: count as f64 / in_order,
        single: SINGLE_READS as f64 / singly,
    })
}

fn end_of(broker: &Broker, topic: &str) -> Outcome<u64> {
    Ok(broker.describe_topic(topic)?.1[0].high_watermark)
}

/// Appends so many bytes, and waits until they are durable.
fn append(broker: &Broker, topic: &str, records: &Bytes, bytes: u64) -> Outcome<()> {
    let mut waiting = VecDeque::with_capacity(IN_FLIGHT);
    for _ in 0..bytes.div_ceil(records.len() as u64) {
        if waiting.len() == IN_FLIGHT
            && let Some(first) = waiting.pop_front()
        {
            block_on(first)?;
        }
        let permit = block_on(broker.admit(records.len()))?;
        let request = ProduceRequest {
            topic: topic.to_owned(),
            partition: Some(0),
            records: records.clone(),
            ..ProduceRequest::default()
        };
        waiting.push_back(broker.submit(request, permit)?);
    }
    for pending in waiting {
        block_on(pending)?;
    }
    Ok(())
}

/// Reads from an offset on, and returns where it goes on.
fn read(broker: &Broker, topic: &str, from: u64, max_records: u32) -> Outcome<u64> {
    let fetched = block_on(broker.fetch(FetchRequest {
        topic: topic.to_owned(),
        start: Start::Offset(from),
        max_records,
        ..FetchRequest::default()
    }))?;
    Ok(fetched.next_offset)
}

fn mib() -> Outcome<f64> {
    Ok(anonymous_bytes()? as f64 / f64::from(1 << 20))
}
