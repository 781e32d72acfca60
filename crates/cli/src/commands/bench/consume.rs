//! `flowstone bench consume`: a topic is read from its start to its end.

use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use flowstone_client::{Client, Event, RecordRef, Start, Stop as StopAt};
use tokio::task::JoinSet;

use super::args::{Bounds, ConsumeArgs};
use super::broker_process::BrokerProcess;
use super::output;
use super::produce::{Stamps, Work};
use super::report::Report;
use super::target::Target;
use crate::args::Global;
use crate::connection::{connect, retry_streams_for};
use crate::exit::Failure;
use crate::progress::Progress;
use crate::signals::Stop;

pub(super) async fn run(global: &Global, args: ConsumeArgs) -> Result<()> {
    let client = connect(global)?;
    let stop = Stop::listen()?;
    let topic = args.topic.as_deref();
    let target = Target::find_or_make(&client, topic, args.shape.partitions).await?;
    let measured = measure(global, &client, &args, &target, stop).await;
    target
        .finish(&client, measured)
        .await?
        .print(output(global, args.json))
}

async fn measure(
    global: &Global,
    client: &Client,
    args: &ConsumeArgs,
    target: &Target,
    stop: Stop,
) -> Result<Report> {
    let partitions = target.partitions.unsigned_abs();
    if args.consumers > partitions {
        bail!(Failure::Usage(format!(
            "{} consumers cannot share the partitions of topic {}, which has {partitions}: ask for fewer, or \
             for a topic with more (--partitions, when none is named)",
            args.consumers, target.topic
        )));
    }
    if args.topic.is_none() {
        let records = args.fill.unsigned_abs() / args.shape.size.unsigned_abs().max(1);
        let bounds = Bounds::records(records.max(1));
        let work = Work::new(
            global,
            client,
            &target.topic,
            &args.shape,
            &bounds,
            stop.clone(),
        );
        work.produce(Stamps::None)
            .await
            .context("the topic could not be filled")?;
    }
    let (_, infos) = client.get_topic(&target.topic).await?;
    let expected = infos
        .iter()
        .map(|info| info.high_watermark - info.log_start_offset);
    let expected = expected.sum::<i64>().unsigned_abs();
    let progress = Arc::new(Progress::silent_records(Some(expected)));

    let broker = BrokerProcess::watch(client.endpoint());
    let begun = Instant::now();
    let mut consumers = JoinSet::new();
    for number in 0..args.consumers {
        let share = (0..target.partitions).filter(|p| p.unsigned_abs() % args.consumers == number);
        let subscription = client
            .subscribe(&target.topic)
            .partitions(share)
            .start(Start::Earliest)
            .stop(StopAt::CurrentEnd)
            .max_batch_bytes(i32::try_from(args.response.unwrap_or(0)).unwrap_or(i32::MAX))
            .retry_for(retry_streams_for(global));
        let (progress, stop) = (Arc::clone(&progress), stop.clone());
        consumers.spawn(async move {
            let mut subscription = subscription.open().await?;
            let (mut records, mut bytes) = (0, 0);
            while let Some(event) = subscription.next().await {
                match event? {
                    Event::Records(batch) => {
                        records += batch.records.len() as u64;
                        bytes += batch.records.iter().map(size).sum::<u64>();
                        progress.advance(batch.records.len() as u64);
                    }
                    Event::Partition(failed) => return Err(failed.error.into()),
                    Event::Assignment(_) => {}
                }
                if stop.is_asked() {
                    break;
                }
            }
            Ok::<_, anyhow::Error>((records, bytes))
        });
    }
    let (mut records, mut bytes) = (0, 0);
    while let Some(ended) = consumers.join_next().await {
        let (some, of_bytes) = ended.context("a consumer has panicked")??;
        records += some;
        bytes += of_bytes;
    }
    let seconds = begun.elapsed().as_secs_f64();
    Ok(Report::new("consume", target, &args.shape)
        .consuming(args.consumers, args.topic.is_none())
        .records(records, bytes, seconds)
        .broker(broker.as_ref().and_then(BrokerProcess::cost)))
}

/// Bytes of key and value, of a record that is read whole, as a consumer would that uses all of it.
fn size(record: RecordRef<'_>) -> u64 {
    let record = black_box(&record);
    let len = |bytes: Option<&[u8]>| bytes.map_or(0, <[u8]>::len);
    (len(record.key) + len(record.value)) as u64
}
