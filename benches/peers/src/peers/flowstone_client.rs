//! Flowstone behind its Rust client: some hundred records a call in, every record walked on the way out. Nothing
//! else here uses the client for records.

use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use flowstone_client::{Client, Event, Producer, Record, Start, Stop};
use tokio::runtime::Runtime;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::flowstone;
use crate::flowstone_wire::acks;
use crate::latency::{Latencies, Pace};
use crate::peer::{Offer, Peer, Place, Probe, Session, Transferred};
use crate::process::Server;
use crate::runtime;
use crate::work::{Bound, Durability, Load, REQUEST_VALUE_BYTES, REQUESTS_IN_FLIGHT, Work, noise};

/// The clock is looked at once for so many records.
const RECORDS_PER_LOOK: usize = 256;

pub(super) struct FlowstoneClient {
    binary: PathBuf,
}

impl FlowstoneClient {
    pub(super) fn new(binary: PathBuf) -> Self {
        Self { binary }
    }
}

impl Peer for FlowstoneClient {
    fn name(&self) -> &'static str {
        "flowstone"
    }

    fn title(&self) -> String {
        "Flowstone (Rust client)".to_owned()
    }

    fn offers(&self, work: Work) -> Offer {
        flowstone::offers(work)
    }

    fn missing(&self) -> Option<String> {
        flowstone::missing(&self.binary)
    }

    fn start(&self, place: &Place, _: Durability) -> Result<Box<dyn Session>> {
        let (server, port) = flowstone::start(&self.binary, place)?;
        Ok(Box::new(ClientSession {
            server,
            port,
            runtime: runtime::new()?,
        }))
    }
}

struct ClientSession {
    server: Server,
    port: u16,
    runtime: Runtime,
}

impl ClientSession {
    fn endpoint(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    async fn producer(endpoint: &str, load: &Load, partition: usize) -> Result<Producer> {
        let partition = i32::try_from(partition).context("too many partitions")?;
        let producer = Client::connect(endpoint)?
            .producer(&load.topic)
            .partition(partition)
            .acks(acks(load.durability))
            .batch_bytes(REQUEST_VALUE_BYTES)
            .in_flight_bytes(REQUEST_VALUE_BYTES * REQUESTS_IN_FLIGHT);
        Ok(producer.build().await?)
    }
}

fn record(value_bytes: usize) -> Record {
    Record {
        value: Some(noise(value_bytes).into()),
        ..Record::default()
    }
}

async fn send_many(producer: Producer, value_bytes: usize, bound: Bound) -> Result<u64> {
    let some = vec![record(value_bytes); RECORDS_PER_LOOK];
    let begun = Instant::now();
    let most = (bound.bytes / value_bytes as u64).max(1);
    let mut records = 0;
    while records < most && begun.elapsed() < bound.time {
        // What becomes of them is told by `close`.
        let next = &some[..some.len().min((most - records) as usize)];
        producer.send_all(next).await?;
        records += next.len() as u64;
    }
    producer.close().await?;
    Ok(records)
}

async fn read_all(endpoint: String, topic: String) -> Result<(u64, u64)> {
    let client = Client::connect(endpoint)?;
    let subscription = client
        .subscribe(topic)
        .start(Start::Earliest)
        .stop(Stop::CurrentEnd);
    let mut subscription = subscription.open().await?;
    let (mut records, mut bytes) = (0, 0);
    while let Some(event) = subscription.next().await {
        match event? {
            Event::Records(batch) => {
                for record in &batch.records {
                    records += 1;
                    bytes += record.value.as_ref().map_or(0, |value| value.len()) as u64;
                }
            }
            Event::Partition(problem) => return Err(problem.error.into()),
            Event::Assignment(_) => {}
        }
    }
    Ok((records, bytes))
}

async fn probe_one_by_one(producer: &Producer, probe: &Probe) -> Result<Latencies> {
    let record = record(probe.value_bytes);
    let mut latencies = Latencies::default();
    let begun = Instant::now();
    while begun.elapsed() < probe.time {
        let sent = Instant::now();
        producer.send(&record).await?.await?;
        latencies.record(sent.elapsed());
    }
    Ok(latencies)
}

async fn probe_paced(producer: Producer, rate: u32, probe: &Probe) -> Result<Latencies> {
    let record = record(probe.value_bytes);
    let count = (probe.time.as_secs_f64() * f64::from(rate)) as u32;
    let (sender, mut sent) = mpsc::unbounded_channel();
    let runtime = tokio::runtime::Handle::current();
    let sending = tokio::task::spawn_blocking(move || {
        let pace = Pace::new(rate);
        for number in 0..count {
            let due = pace.wait_for(number);
            let delivery = runtime.block_on(producer.send(&record))?;
            if sender.send((due, delivery)).is_err() {
                break;
            }
        }
        Ok::<_, flowstone_client::Error>(producer)
    });
    let mut latencies = Latencies::default();
    while let Some((due, delivery)) = sent.recv().await {
        delivery.await?;
        latencies.record(due.elapsed());
    }
    sending
        .await
        .context("the sender has panicked")??
        .close()
        .await?;
    Ok(latencies)
}

impl Session for ClientSession {
    fn server(&self) -> Option<&Server> {
        Some(&self.server)
    }

    fn produce(&mut self, load: &Load) -> Result<Transferred> {
        flowstone::create_topic(&self.runtime, self.port, &load.topic, load.producers)?;
        let (endpoint, bound) = (self.endpoint(), load.bound_of_one());
        let value_bytes = load.value_bytes;
        let (records, seconds) = self.runtime.block_on(async {
            let mut producers = Vec::new();
            for partition in 0..load.producers {
                producers.push(Self::producer(&endpoint, load, partition).await?);
            }
            let begun = Instant::now();
            let mut tasks = JoinSet::new();
            for producer in producers {
                tasks.spawn(send_many(producer, value_bytes, bound));
            }
            let records = runtime::sum_of(tasks).await?;
            anyhow::Ok((records, begun.elapsed().as_secs_f64()))
        })?;
        Ok(Transferred {
            records,
            bytes: records * value_bytes as u64,
            seconds,
        })
    }

    fn replay(&mut self, load: &Load, produced: &Transferred) -> Result<Transferred> {
        flowstone::wait_until_readable(&self.runtime, self.port, &load.topic, produced.records)?;
        let reading = read_all(self.endpoint(), load.topic.clone());
        let begun = Instant::now();
        let (records, bytes) = self.runtime.block_on(async {
            tokio::spawn(reading)
                .await
                .context("the reader has panicked")?
        })?;
        let seconds = begun.elapsed().as_secs_f64();
        ensure!(
            records == produced.records,
            "{records} records came back of {}",
            produced.records
        );
        Ok(Transferred {
            records,
            bytes,
            seconds,
        })
    }

    fn latency(&mut self, probe: &Probe) -> Result<Latencies> {
        flowstone::create_topic(&self.runtime, self.port, &probe.topic, 1)?;
        let (endpoint, probe) = (self.endpoint(), probe.clone());
        self.runtime.block_on(async {
            let producer = Self::producer(&endpoint, &probe.load(), 0).await?;
            let probing = tokio::spawn(async move {
                match probe.per_second {
                    None => probe_one_by_one(&producer, &probe).await,
                    Some(rate) => probe_paced(producer, rate, &probe).await,
                }
            });
            probing.await.context("the probe has panicked")?
        })
    }
}
