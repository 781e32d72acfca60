//! The broker that is measured, in a process of its own.

use std::collections::VecDeque;
use std::path::Path;
use std::time::{Duration, Instant};

use bytes::Bytes;
use flowstone_benches::{Run, cpu_seconds};
use flowstone_broker::{
    Broker, BrokerConfig, Delivery, Env, FetchRequest, PendingProduce, ProduceRequest, Start, Stop,
    SubscribeRequest, TopicSpec,
};
use flowstone_disk::raise_open_files_limit;
use pollster::block_on;

use crate::process::Standing;
use crate::{Act, Args, Outcome};

/// The topic of very many partitions, and one beside it.
const TOPIC: &str = "visits";
const ACTIVE: &str = "orders";
const SEGMENT_BYTES: u64 = 64 << 10;
/// Requests that are on their way at a time.
const IN_FLIGHT: usize = 64;
/// Requests of the one active partition that share a sync.
const IN_FLIGHT_ACTIVE: usize = 8;
/// Appends that are followed, for each second that a measurement is to take.
const FOLLOWED_A_SECOND: u64 = 1_000;

pub(crate) fn run(args: &Args, act: Act, dir: &Path) -> Outcome<()> {
    raise_open_files_limit()?;
    let began = Instant::now();
    let mut config = BrokerConfig::new(dir);
    // What bounds a segment from below.
    config.limits.min_segment_bytes = SEGMENT_BYTES;
    config.limits.max_request_bytes = SEGMENT_BYTES as u32 / 2;
    config.limits.max_record_bytes = SEGMENT_BYTES as u32 / 2;
    config.limits.max_records_per_request = 64;
    let broker = Broker::open(config, Env::real())?;
    match act {
        Act::Fill => fill(&broker, args)?,
        Act::Start => {
            online(&broker, args)?;
            Standing::after(began.elapsed())?.say();
        }
        Act::Touch => {
            online(&broker, args)?;
            Standing::after(began.elapsed())?.say();
            let began = Instant::now();
            touch(&broker, args)?;
            Standing::after(began.elapsed())?.say();
            let began = Instant::now();
            broker.run_retention();
            Standing::after(began.elapsed())?.say();
        }
        Act::Rate => rate(&broker, args)?,
        Act::Follow => follow(&broker, args)?,
    }
    if args.killed {
        std::process::abort();
    }
    Ok(block_on(broker.shutdown())?)
}

/// Makes the topic, and appends to each partition until it has its segments.
fn fill(broker: &Broker, args: &Args) -> Outcome<()> {
    let mut spec = TopicSpec::new(TOPIC, args.partitions);
    spec.segment_bytes = Some(SEGMENT_BYTES);
    block_on(broker.create_topic(spec, false))?;
    block_on(broker.create_topic(TopicSpec::new(ACTIVE, 1), false))?;
    let began = Instant::now();
    append_to_each(broker, args, &Run::new(10, 100))?;
    println!("{}", began.elapsed().as_secs_f64());
    // Two of these do not share a segment with what is there.
    let large = Run::new(1, (SEGMENT_BYTES / 2 - 1024) as usize);
    for _ in 1..args.segments {
        append_to_each(broker, args, &large)?;
        append_to_each(broker, args, &large)?;
    }
    Ok(())
}

fn append_to_each(broker: &Broker, args: &Args, run: &Run) -> Outcome<()> {
    let records = Bytes::from(run.bytes.clone());
    let mut waiting = VecDeque::with_capacity(IN_FLIGHT);
    for partition in 0..args.partitions {
        if waiting.len() == IN_FLIGHT
            && let Some(first) = waiting.pop_front()
        {
            block_on(first)?;
        }
        waiting.push_back(append(broker, TOPIC, partition, &records)?);
    }
    for pending in waiting {
        block_on(pending)?;
    }
    Ok(())
}

fn append(
    broker: &Broker,
    topic: &str,
    partition: u32,
    records: &Bytes,
) -> Outcome<PendingProduce> {
    let permit = block_on(broker.admit(records.len()))?;
    let request = ProduceRequest {
        topic: topic.to_owned(),
        partition: Some(partition),
        records: records.clone(),
        ..ProduceRequest::default()
    };
    Ok(broker.submit(request, permit)?)
}

fn online(broker: &Broker, args: &Args) -> Outcome<()> {
    let (_, partitions) = broker.describe_topic(TOPIC)?;
    let online = partitions
        .iter()
        .filter(|info| info.offline_reason.is_none());
    match online.count() as u64 {
        count if count == u64::from(args.partitions) => Ok(()),
        count => Err(format!("only {count} partitions are online").into()),
    }
}

/// Reads every segment of each partition, and writes to it.
fn touch(broker: &Broker, args: &Args) -> Outcome<()> {
    let (_, partitions) = broker.describe_topic(TOPIC)?;
    for info in &partitions {
        let mut next = info.log_start_offset;
        while next < info.high_watermark {
            let fetched = block_on(broker.fetch(FetchRequest {
                topic: TOPIC.to_owned(),
                partition: info.partition,
                start: Start::Offset(next),
                max_bytes: 0,
                max_records: 0,
                topic_id: None,
            }))?;
            next = fetched.next_offset;
        }
    }
    append_to_each(broker, args, &Run::new(10, 100))
}

/// Appends to the one active partition for a while, and once more, and tells how many appends a second became
/// durable the second time: a process that has just begun is slower.
fn rate(broker: &Broker, args: &Args) -> Outcome<()> {
    online(broker, args)?;
    rate_once(broker, args)?;
    println!("{}", rate_once(broker, args)?);
    Ok(())
}

fn rate_once(broker: &Broker, args: &Args) -> Outcome<f64> {
    let records = Bytes::from(Run::new(10, 100).bytes);
    let mut waiting = VecDeque::with_capacity(IN_FLIGHT_ACTIVE);
    let mut appended = 0_u64;
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(args.seconds) {
        if waiting.len() == IN_FLIGHT_ACTIVE
            && let Some(first) = waiting.pop_front()
        {
            block_on(first)?;
            appended += 1;
        }
        waiting.push_back(append(broker, ACTIVE, 0, &records)?);
    }
    let rate = appended as f64 / began.elapsed().as_secs_f64();
    for pending in waiting {
        block_on(pending)?;
    }
    Ok(rate)
}

/// Appends to one partition of the topic while somebody reads all of it, each append when the one before was
/// delivered, and tells the CPU time of an append and its delivery in microseconds.
fn follow(broker: &Broker, args: &Args) -> Outcome<()> {
    online(broker, args)?;
    let run = Run::new(10, 100);
    let appends = FOLLOWED_A_SECOND * args.seconds;
    let mut reader = block_on(broker.subscribe(SubscribeRequest {
        topic: TOPIC.to_owned(),
        start: Start::Latest,
        stop: Some(Stop::Count(appends * 10)),
        ..SubscribeRequest::default()
    }))?;
    let records = Bytes::from(run.bytes);
    let before = cpu_seconds("self");
    for _ in 0..appends {
        block_on(append(broker, TOPIC, 0, &records)?)?;
        match block_on(reader.next()) {
            Some(Ok(Delivery::Records { .. })) => {}
            other => return Err(format!("records should come, not {other:?}").into()),
        }
    }
    let micros = (cpu_seconds("self") - before) * 1e6;
    println!("{}", micros / appends as f64);
    Ok(())
}
