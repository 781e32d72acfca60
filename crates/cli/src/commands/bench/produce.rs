//! `flowstone bench produce`, and the load that the other measurements need.

use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use flowstone_client::{Acks, Client, Producer};
use tokio::runtime::Handle;
use tokio::task::{JoinSet, spawn_blocking};

use super::args::{Bounds, ProduceArgs, Shape};
use super::broker_process::BrokerProcess;
use super::latency::Latencies;
use super::load::Load;
use super::output;
use super::pace::Pace;
use super::report::Report;
use super::sending::{Sending, collect};
use super::target::Target;
use crate::args::Global;
use crate::connection::{connect, retry_streams_for};
use crate::progress::Progress;
use crate::signals::Stop;

pub(super) async fn run(global: &Global, args: ProduceArgs) -> Result<()> {
    let client = connect(global)?;
    let stop = Stop::listen()?;
    let topic = args.topic.as_deref();
    let target = Target::find_or_make(&client, topic, args.shape.partitions).await?;
    let broker = BrokerProcess::watch(client.endpoint());
    let work = Work::new(
        global,
        &client,
        &target.topic,
        &args.shape,
        &args.bounds,
        stop,
    );
    let outcome = work.produce(Stamps::None).await;
    let report = outcome.map(|produced| {
        Report::new("produce", &target, &args.shape)
            .producing(&args.shape)
            .records(produced.records, produced.bytes, produced.seconds)
            .not_sent(produced.not_sent)
            .latency(latency_of(&args.shape), &produced.latencies)
            .broker(broker.as_ref().and_then(BrokerProcess::cost))
    });
    target
        .finish(&client, report)
        .await?
        .print(output(global, args.json))
}

/// How long acks are waited for once somebody asked to stop.
const ACKS_AFTER_STOP: Duration = Duration::from_secs(5);

/// What a latency is: without a rate a record is due when there is room for it.
fn latency_of(shape: &Shape) -> &'static str {
    match shape.rate {
        None => "from when a record was sent, with all before it in flight, to its ack",
        Some(_) => "from when a record was due to its ack",
    }
}

/// What the values of the records begin with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stamps {
    None,
    /// The time when the record was due, in nanoseconds since this moment.
    DueSince(Instant),
}

/// Records to produce.
#[derive(Clone, Debug)]
pub(super) struct Work {
    client: Client,
    topic: String,
    pub(super) load: Load,
    pub(super) shape: Shape,
    pub(super) bounds: Bounds,
    retry_for: Duration,
    pub(super) stop: Stop,
    progress: Arc<Progress>,
}

/// What came of it.
#[derive(Debug)]
pub(super) struct Produced {
    pub(super) records: u64,
    /// Of keys and values.
    pub(super) bytes: u64,
    /// Records that were due when the time was over, and had not been sent.
    pub(super) not_sent: u64,
    pub(super) seconds: f64,
    pub(super) latencies: Latencies,
}

impl Work {
    pub(super) fn new(
        global: &Global,
        client: &Client,
        topic: &str,
        shape: &Shape,
        bounds: &Bounds,
        stop: Stop,
    ) -> Self {
        Self {
            client: client.clone(),
            topic: topic.to_owned(),
            load: Load::new(shape),
            shape: shape.clone(),
            bounds: bounds.clone(),
            retry_for: retry_streams_for(global),
            stop,
            progress: Arc::new(Progress::silent_records(bounds.most(shape))),
        }
    }

    /// Produces until all records are sent, the time is over, or somebody asks to stop, and waits for
    /// the acks of all that was sent.
    pub(super) async fn produce(&self, stamps: Stamps) -> Result<Produced> {
        let mut producers = Vec::new();
        for _ in 0..self.shape.producers {
            producers.push(self.producer().await?);
        }
        let begun = Instant::now();
        let mut tasks = JoinSet::new();
        for (number, producer) in (0..).zip(producers) {
            let work = self.clone();
            tasks.spawn(async move { work.one(producer, number, begun, stamps).await });
        }
        let mut all = Produced {
            records: 0,
            bytes: 0,
            not_sent: 0,
            seconds: 0.0,
            latencies: Latencies::new(),
        };
        let mut stop = self.stop.clone();
        let mut overdue = pin!(async {
            stop.asked().await;
            tokio::time::sleep(ACKS_AFTER_STOP).await;
        });
        loop {
            let ended = tokio::select! {
                ended = tasks.join_next() => ended,
                () = &mut overdue => bail!(
                    "stopped, and what was sent is not acknowledged after {ACKS_AFTER_STOP:?}: is the broker still there?"
                ),
            };
            let Some(ended) = ended else { break };
            let sent = ended.context("a producer has panicked")??;
            all.records += sent.records;
            all.bytes += sent.bytes;
            all.not_sent += sent.not_sent;
            all.latencies.add(&sent.latencies);
        }
        all.seconds = begun.elapsed().as_secs_f64();
        Ok(all)
    }

    async fn producer(&self) -> Result<Producer> {
        let acks = self.shape.acks.map_or(Acks::Unspecified, Into::into);
        let mut producer = self
            .client
            .producer(&self.topic)
            .acks(acks)
            .delivery_timeout(self.retry_for);
        if let Some((batch, in_flight)) = self.shape.requests() {
            let batch = usize::try_from(batch).unwrap_or(1);
            producer = producer
                .batch_bytes(batch)
                .in_flight_bytes(batch.saturating_mul(in_flight as usize));
        }
        Ok(producer.build().await?)
    }

    /// How many records producer `number` has to send at most, if that is known.
    pub(super) fn records_max(&self, number: u32) -> Option<u64> {
        let producers = u64::from(self.shape.producers);
        let all = self.bounds.most(&self.shape)?;
        Some(all / producers + u64::from(u64::from(number) < all % producers))
    }

    /// One producer, from its first record to its last ack.
    async fn one(
        &self,
        producer: Producer,
        number: u32,
        begun: Instant,
        stamps: Stamps,
    ) -> Result<Sent> {
        let producer = Arc::new(producer);
        let (mut sending, acks) = Sending::new(self, number, begun, stamps);
        let acks = tokio::spawn(collect(acks, Arc::clone(&self.progress)));
        let (sending, sent) = match self.shape.rate {
            None => {
                let sent = sending.send_at_once(&producer).await;
                (sending, sent)
            }
            Some(rate) => {
                let pace = Pace::new(begun, rate, number, self.shape.producers);
                let (runtime, producer) = (Handle::current(), Arc::clone(&producer));
                let paced = move || {
                    let sent = runtime.block_on(sending.send_when_due(&producer, pace));
                    (sending, sent)
                };
                spawn_blocking(paced)
                    .await
                    .context("a producer has panicked")?
            }
        };
        let (records, bytes) = (sending.records, sending.bytes);
        let not_sent = sending.not_sent();
        // No more acks are to be collected.
        drop(sending);
        // The ack that failed says why, where sending only says that it cannot go on.
        let flushed = producer.flush().await;
        let latencies = acks.await.context("a producer has panicked")?;
        flushed?;
        sent?;
        Ok(Sent {
            records,
            bytes,
            not_sent,
            latencies: latencies?,
        })
    }
}

/// What one producer has sent, and how long each record waited for its ack.
struct Sent {
    records: u64,
    bytes: u64,
    not_sent: u64,
    latencies: Latencies,
}
