//! `flowstone bench e2e`: from the moment when a record was due to the one when a consumer had it.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use flowstone_client::{Client, Event, Start, Subscription};

use super::args::{E2eArgs, Shape};
use super::broker_process::BrokerProcess;
use super::latency::Latencies;
use super::load::stamp;
use super::output;
use super::produce::{Stamps, Work};
use super::report::Report;
use super::target::Target;
use crate::args::Global;
use crate::connection::{connect, retry_streams_for};
use crate::signals::Stop;

/// Without a rate: so many records a second leave time between them.
const RATE: f64 = 1000.0;
/// How long the last records may take to come after their ack.
const LAST_RECORDS: Duration = Duration::from_secs(10);

pub(super) async fn run(global: &Global, args: E2eArgs) -> Result<()> {
    let client = connect(global)?;
    let stop = Stop::listen()?;
    let shape = Shape {
        rate: args.shape.rate.or(Some(RATE)),
        ..args.shape.clone()
    };
    let topic = args.topic.as_deref();
    let target = Target::find_or_make(&client, topic, shape.partitions).await?;
    let measured = measure(global, &client, &args, &shape, &target, stop).await;
    target
        .finish(&client, measured)
        .await?
        .print(output(global, args.json))
}

async fn measure(
    global: &Global,
    client: &Client,
    args: &E2eArgs,
    shape: &Shape,
    target: &Target,
    stop: Stop,
) -> Result<Report> {
    let subscription = client
        .subscribe(&target.topic)
        .start(Start::Latest)
        .retry_for(retry_streams_for(global));
    let subscription = subscription.open().await?;
    let broker = BrokerProcess::watch(client.endpoint());
    let begun = Instant::now();
    let (told, expected) = tokio::sync::watch::channel(None);
    let consumer = tokio::spawn(consume(subscription, begun, expected));
    let work = Work::new(global, client, &target.topic, shape, &args.bounds, stop);
    let produced = work.produce(Stamps::DueSince(begun)).await?;
    told.send_replace(Some(produced.records));
    let latencies = tokio::time::timeout(LAST_RECORDS, consumer)
        .await
        .with_context(|| format!("records were acked and did not come within {LAST_RECORDS:?}"))?
        .context("the consumer has panicked")??;
    Ok(Report::new("e2e", target, shape)
        .producing(shape)
        .records(produced.records, produced.bytes, produced.seconds)
        .not_sent(produced.not_sent)
        .latency(
            "from when a record was due until a consumer had it",
            &latencies,
        )
        .broker(broker.as_ref().and_then(BrokerProcess::cost)))
}

/// Takes records until as many have come as were produced, which is known in the end.
async fn consume(
    mut subscription: Subscription,
    begun: Instant,
    mut expected: tokio::sync::watch::Receiver<Option<u64>>,
) -> Result<Latencies> {
    let mut latencies = Latencies::new();
    let mut came = 0;
    loop {
        let all = *expected.borrow_and_update();
        if all.is_some_and(|all| came >= all) {
            return Ok(latencies);
        }
        let event = tokio::select! {
            event = subscription.next() => event,
            changed = expected.changed(), if all.is_none() => {
                // Whoever produces has given up, and tells why.
                changed.context("nothing more is produced")?;
                continue;
            }
        };
        match event.context("the subscription has ended")?? {
            Event::Records(batch) => {
                let now = u64::try_from(begun.elapsed().as_nanos()).unwrap_or(u64::MAX);
                for record in &batch.records {
                    let Some(due) = stamp(record.value) else {
                        bail!(
                            "somebody else produces into this topic: a record is not of this measurement"
                        );
                    };
                    latencies.record(Duration::from_nanos(now.saturating_sub(due)), 1);
                    came += 1;
                }
            }
            Event::Partition(failed) => return Err(failed.error.into()),
            Event::Assignment(_) => {}
        }
    }
}
