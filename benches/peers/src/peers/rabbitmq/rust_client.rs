//! RabbitMQ's own client in Rust.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use futures_util::StreamExt;
use rabbitmq_stream_client::Environment;
use rabbitmq_stream_client::types::{Message, OffsetSpecification};
use tokio::runtime::Runtime;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::{RabbitMqSession, stream_name};
use crate::latency::Latencies;
use crate::peer::{Probe, Session, Transferred};
use crate::process::Server;
use crate::runtime;
use crate::work::{Load, REQUESTS_IN_FLIGHT, noise};

pub(super) struct RustClient {
    broker: RabbitMqSession,
    runtime: Runtime,
    environment: Environment,
}

impl RustClient {
    pub(super) fn connect(broker: RabbitMqSession) -> Result<Self> {
        let runtime = runtime::new()?;
        let environment = Environment::builder().host("127.0.0.1").port(broker.port);
        Ok(Self {
            environment: runtime.block_on(environment.build())?,
            broker,
            runtime,
        })
    }
}

/// Sends until the bound is reached and all is confirmed. Answers with how many records it were.
async fn send_many(environment: Environment, stream: String, load: Load) -> Result<u64> {
    let in_a_batch = load.records_per_request();
    let producer = environment.producer().batch_size(in_a_batch);
    let producer = producer.build(&stream).await?;
    let message = Message::builder().body(noise(load.value_bytes)).build();
    let bound = load.bound_of_one();
    let most = (bound.bytes / load.value_bytes as u64).max(1);
    let in_flight = u32::try_from(in_a_batch * REQUESTS_IN_FLIGHT).context("too many records")?;
    let room = Arc::new(Semaphore::new(in_flight as usize));
    let refused = Arc::new(AtomicU64::new(0));
    let begun = Instant::now();
    let mut records = 0;
    while records < most && begun.elapsed() < bound.time {
        let count = in_a_batch.min((most - records) as usize);
        let taken = u32::try_from(count).context("too many records")?;
        room.acquire_many(taken).await?.forget();
        let (room, refused) = (Arc::clone(&room), Arc::clone(&refused));
        let told = move |status: Result<_, _>| {
            room.add_permits(1);
            refused.fetch_add(u64::from(status.is_err()), Ordering::Relaxed);
            std::future::ready(())
        };
        producer
            .batch_send(vec![message.clone(); count], told)
            .await?;
        records += count as u64;
    }
    room.acquire_many(in_flight).await?.forget();
    let refused = refused.load(Ordering::Relaxed);
    ensure!(refused == 0, "{refused} records were refused");
    producer.close().await?;
    Ok(records)
}

impl Session for RustClient {
    fn server(&self) -> Option<&Server> {
        self.broker.server()
    }

    fn produce(&mut self, load: &Load) -> Result<Transferred> {
        let environment = &self.environment;
        let (records, seconds) = self.runtime.block_on(async {
            for partition in 0..load.producers {
                let name = stream_name(&load.topic, partition);
                environment.stream_creator().create(&name).await?;
            }
            let begun = Instant::now();
            let mut tasks = JoinSet::new();
            for partition in 0..load.producers {
                let name = stream_name(&load.topic, partition);
                tasks.spawn(send_many(environment.clone(), name, load.clone()));
            }
            let records = runtime::sum_of(tasks).await?;
            anyhow::Ok((records, begun.elapsed().as_secs_f64()))
        })?;
        Ok(Transferred {
            records,
            bytes: records * load.value_bytes as u64,
            seconds,
        })
    }

    fn replay(&mut self, load: &Load, produced: &Transferred) -> Result<Transferred> {
        let consumer = self.environment.consumer();
        let consumer = consumer.offset(OffsetSpecification::First);
        let (stream, wanted) = (load.topic.clone(), produced.records);
        let begun = Instant::now();
        let reading = async move {
            let mut consumer = consumer.build(&stream).await?;
            let (mut records, mut bytes) = (0, 0);
            while records < wanted {
                let delivery = consumer.next().await.context("the stream has ended")??;
                records += 1;
                bytes += delivery.message().data().map_or(0, <[u8]>::len) as u64;
            }
            anyhow::Ok((records, bytes))
        };
        let (records, bytes) = self.runtime.block_on(async {
            tokio::spawn(reading)
                .await
                .context("the reader has panicked")?
        })?;
        let seconds = begun.elapsed().as_secs_f64();
        ensure!(bytes == produced.bytes, "{bytes} bytes came back");
        Ok(Transferred {
            records,
            bytes,
            seconds,
        })
    }

    fn latency(&mut self, _: &Probe) -> Result<Latencies> {
        bail!("streams are never synced before an ack")
    }
}
