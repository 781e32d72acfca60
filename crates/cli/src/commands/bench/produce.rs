//! `flowstone bench produce`, and the load that the other measurements need.

use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, Result};
use flowstone_client::{Acks, Client, Delivery, Producer};
use tokio::sync::mpsc;
use tokio::task::{JoinSet, spawn_blocking};

use super::args::{Bounds, ProduceArgs, Shape};
use super::broker_process::BrokerProcess;
use super::latency::Latencies;
use super::load::Load;
use super::output;
use super::pace::Pace;
use super::report::Report;
use super::target::Target;
use crate::args::Global;
use crate::connection::{connect, retry_streams_for};
use crate::progress::Progress;
use crate::signals::Stop;

/// Records that were sent and whose ack was not looked at yet, for each producer.
const UNSEEN_ACKS: usize = 1 << 16;

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
            .latency(latency_of(&args.shape), &produced.latencies)
            .broker(broker.as_ref().and_then(BrokerProcess::cost))
    });
    target
        .finish(&client, report)
        .await?
        .print(output(global, args.json))
}

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
    load: Load,
    shape: Shape,
    bounds: Bounds,
    retry_for: std::time::Duration,
    stop: Stop,
    progress: Arc<Progress>,
}

/// What came of it.
#[derive(Debug)]
pub(super) struct Produced {
    pub(super) records: u64,
    /// Of keys and values.
    pub(super) bytes: u64,
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
            seconds: 0.0,
            latencies: Latencies::new(),
        };
        while let Some(ended) = tasks.join_next().await {
            let (records, bytes, latencies) = ended.context("a producer has panicked")??;
            all.records += records;
            all.bytes += bytes;
            all.latencies.add(&latencies);
        }
        all.seconds = begun.elapsed().as_secs_f64();
        Ok(all)
    }

    async fn producer(&self) -> Result<Producer> {
        let batch = usize::try_from(self.shape.batch).unwrap_or(1).max(1);
        let acks = self.shape.acks.map_or(Acks::Unspecified, Into::into);
        let producer = self
            .client
            .producer(&self.topic)
            .acks(acks)
            .batch_bytes(batch)
            .in_flight_bytes(batch.saturating_mul(self.shape.in_flight as usize))
            .delivery_timeout(self.retry_for);
        Ok(producer.build().await?)
    }

    /// One producer, from its first record to its last ack: how many records and bytes, and how long
    /// each waited.
    async fn one(
        &self,
        producer: Producer,
        number: u32,
        begun: Instant,
        stamps: Stamps,
    ) -> Result<(u64, u64, Latencies)> {
        let producer = Arc::new(producer);
        let (sender, sent) = mpsc::channel(UNSEEN_ACKS);
        let acks = tokio::spawn(collect(sent, Arc::clone(&self.progress)));
        let sending = Sending {
            work: self.clone(),
            producer: Arc::clone(&producer),
            number,
            begun,
            stamps,
            sender,
            records: 0,
            bytes: 0,
        };
        let sent = match self.shape.rate {
            None => sending.send_at_once().await,
            Some(rate) => {
                let pace = Pace::new(begun, rate, number, self.shape.producers);
                let runtime = tokio::runtime::Handle::current();
                let paced = move || runtime.block_on(sending.send_when_due(pace));
                spawn_blocking(paced)
                    .await
                    .context("a producer has panicked")?
            }
        };
        // The ack that failed says why, where sending only says that it cannot go on.
        let flushed = producer.flush().await;
        let latencies = acks.await.context("a producer has panicked")?;
        flushed?;
        let (records, bytes) = sent?;
        Ok((records, bytes, latencies?))
    }
}

/// One producer at work.
struct Sending {
    work: Work,
    producer: Arc<Producer>,
    number: u32,
    begun: Instant,
    stamps: Stamps,
    sender: mpsc::Sender<(Instant, Delivery)>,
    records: u64,
    bytes: u64,
}

impl Sending {
    async fn send_at_once(mut self) -> Result<(u64, u64)> {
        while self.has_more() {
            self.send(Instant::now()).await?;
        }
        Ok((self.records, self.bytes))
    }

    /// Sleeps in between, and so needs a thread of its own.
    async fn send_when_due(mut self, pace: Pace) -> Result<(u64, u64)> {
        while self.has_more() {
            let due = pace.wait_for(self.records);
            self.send(due).await?;
        }
        Ok((self.records, self.bytes))
    }

    fn has_more(&self) -> bool {
        let producers = u64::from(self.work.shape.producers);
        let share =
            |all: u64| all / producers + u64::from(u64::from(self.number) < all % producers);
        let bounds = &self.work.bounds;
        !self.work.stop.is_asked()
            && bounds
                .most(&self.work.shape)
                .is_none_or(|all| self.records < share(all))
            && bounds.time().is_none_or(|time| self.begun.elapsed() < time)
    }

    async fn send(&mut self, due: Instant) -> Result<()> {
        let number = self.records * u64::from(self.work.shape.producers) + u64::from(self.number);
        let load = &self.work.load;
        let record = match self.stamps {
            Stamps::None => load.record(number),
            Stamps::DueSince(start) => {
                let nanos = due.saturating_duration_since(start).as_nanos();
                load.stamped(number, u64::try_from(nanos).unwrap_or(u64::MAX))
            }
        };
        let key = record.key.as_ref().map_or(0, bytes::Bytes::len);
        let bytes = key + record.value.as_ref().map_or(0, bytes::Bytes::len);
        let delivery = self.producer.send(record).await?;
        self.records += 1;
        self.bytes += bytes as u64;
        // Whoever collects has ended only after an ack that failed, which it tells itself.
        let _ = self.sender.send((due, delivery)).await;
        Ok(())
    }
}

/// Waits for each ack, in the order of the records.
async fn collect(
    mut sent: mpsc::Receiver<(Instant, Delivery)>,
    progress: Arc<Progress>,
) -> Result<Latencies> {
    let mut latencies = Latencies::new();
    while let Some((due, delivery)) = sent.recv().await {
        delivery.await?;
        latencies.record(due.elapsed());
        progress.advance(1);
    }
    Ok(latencies)
}
