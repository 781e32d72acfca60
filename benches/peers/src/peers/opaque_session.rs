//! A session of opaque messages: the same client for the ceiling and for Flowstone.

use std::time::Instant;

use anyhow::{Context, Result};
use bytes::Bytes;
use tokio::runtime::Runtime;
use tokio::task::JoinSet;

use crate::latency::Latencies;
use crate::opaque::client::{Received, Up, connect, receive};
use crate::peer::{Probe, Session, Transferred};
use crate::process::Server;
use crate::runtime;
use crate::work::Load;

/// What the two servers differ in.
pub(super) trait Dialect {
    /// Makes a topic.
    fn prepare(&self, runtime: &Runtime, topic: &str, partitions: usize) -> Result<()>;
    /// The stream up to a partition of it, with so many records in each message.
    fn up(&self, load: &Load, partition: usize, records: usize) -> Up;
    /// Waits until a reader gets to see all that was produced.
    fn settle(&self, runtime: &Runtime, load: &Load, produced: &Transferred) -> Result<()>;
    /// The method that reads all of it, and its request.
    fn down(&self, load: &Load, produced: &Transferred) -> (&'static str, Bytes);
    /// How many records were received.
    fn records(&self, load: &Load, produced: &Transferred, received: Received) -> Result<u64>;
}

/// A server, a runtime for the client, and the dialect.
pub(super) struct OpaqueSession<D> {
    pub(super) server: Server,
    pub(super) port: u16,
    pub(super) runtime: Runtime,
    pub(super) dialect: D,
}

impl<D: Dialect> OpaqueSession<D> {
    pub(super) fn new(server: Server, port: u16, dialect: D) -> Result<Self> {
        Ok(Self {
            server,
            port,
            runtime: runtime::new()?,
            dialect,
        })
    }
}

impl<D: Dialect> Session for OpaqueSession<D> {
    fn server(&self) -> Option<&Server> {
        Some(&self.server)
    }

    fn produce(&mut self, load: &Load) -> Result<Transferred> {
        self.dialect
            .prepare(&self.runtime, &load.topic, load.producers)?;
        let records = load.records_per_request();
        let bound = load.bound_of_one();
        let values = (records * load.value_bytes) as u64;
        let messages_max = bound.bytes.div_ceil(values).max(1);
        let ups: Vec<Up> = (0..load.producers)
            .map(|partition| self.dialect.up(load, partition, records))
            .collect();
        let port = self.port;
        let (messages, seconds) = self.runtime.block_on(async {
            let mut channels = Vec::new();
            for _ in &ups {
                channels.push(connect(port).await?);
            }
            let begun = Instant::now();
            let mut tasks = JoinSet::new();
            for (up, channel) in ups.into_iter().zip(channels) {
                tasks.spawn(async move { up.send_many(&channel, messages_max, bound.time).await });
            }
            let messages = runtime::sum_of(tasks).await?;
            anyhow::Ok((messages, begun.elapsed().as_secs_f64()))
        })?;
        Ok(Transferred {
            records: messages * records as u64,
            bytes: messages * values,
            seconds,
        })
    }

    fn replay(&mut self, load: &Load, produced: &Transferred) -> Result<Transferred> {
        self.dialect.settle(&self.runtime, load, produced)?;
        let (path, order) = self.dialect.down(load, produced);
        let port = self.port;
        let (received, seconds) = self.runtime.block_on(async {
            let channel = connect(port).await?;
            let begun = Instant::now();
            let received = tokio::spawn(async move { receive(&channel, path, order).await });
            let received = received.await.context("the reader has panicked")??;
            anyhow::Ok((received, begun.elapsed().as_secs_f64()))
        })?;
        let records = self.dialect.records(load, produced, received)?;
        Ok(Transferred {
            records,
            bytes: records * load.value_bytes as u64,
            seconds,
        })
    }

    fn latency(&mut self, probe: &Probe) -> Result<Latencies> {
        self.dialect.prepare(&self.runtime, &probe.topic, 1)?;
        let load = probe.load();
        let up = self.dialect.up(&load, 0, 1);
        let (port, probe) = (self.port, probe.clone());
        self.runtime.block_on(async {
            let channel = connect(port).await?;
            let probing = tokio::spawn(async move { up.probe(&channel, &probe).await });
            probing.await.context("the probe has panicked")?
        })
    }
}
