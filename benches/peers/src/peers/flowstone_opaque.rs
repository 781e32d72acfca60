//! Flowstone behind the client of the ceiling: requests that were encoded once, and responses that nobody
//! looks into.

use std::path::PathBuf;

use anyhow::{Result, ensure};
use bytes::Bytes;
use tokio::runtime::Runtime;

use super::flowstone;
use super::opaque_session::{Dialect, OpaqueSession};
use crate::flowstone_wire::{PRODUCE, SUBSCRIBE, check_ack, produce_request, subscribe_request};
use crate::opaque::client::{Received, Up};
use crate::peer::{Offer, Peer, Place, Session, Transferred};
use crate::work::{Durability, Load, Work};

pub(super) struct FlowstoneOpaque {
    binary: PathBuf,
}

impl FlowstoneOpaque {
    pub(super) fn new(binary: PathBuf) -> Self {
        Self { binary }
    }
}

impl Peer for FlowstoneOpaque {
    fn name(&self) -> &'static str {
        "flowstone-opaque"
    }

    fn title(&self) -> String {
        "Flowstone (opaque client)".to_owned()
    }

    fn offers(&self, work: Work) -> Offer {
        flowstone::offers(work)
    }

    fn missing(&self) -> Option<String> {
        flowstone::missing(&self.binary)
    }

    fn start(&self, place: &Place, _: Durability) -> Result<Box<dyn Session>> {
        let (server, port) = flowstone::start(&self.binary, place)?;
        Ok(Box::new(OpaqueSession::new(
            server,
            port,
            FlowstoneDialect { port },
        )?))
    }
}

struct FlowstoneDialect {
    port: u16,
}

impl Dialect for FlowstoneDialect {
    fn prepare(&self, runtime: &Runtime, topic: &str, partitions: usize) -> Result<()> {
        flowstone::create_topic(runtime, self.port, topic, partitions)
    }

    fn up(&self, load: &Load, partition: usize, records: usize) -> Up {
        let partition = i32::try_from(partition).expect("there are a handful of partitions");
        let message = produce_request(
            &load.topic,
            partition,
            load.durability,
            load.value_bytes,
            records,
        );
        Up {
            path: PRODUCE,
            message,
            check: check_ack,
        }
    }

    fn settle(&self, runtime: &Runtime, load: &Load, produced: &Transferred) -> Result<()> {
        flowstone::wait_until_readable(runtime, self.port, &load.topic, produced.records)
    }

    fn down(&self, load: &Load, _: &Transferred) -> (&'static str, Bytes) {
        (SUBSCRIBE, subscribe_request(&load.topic))
    }

    /// The end of the stream is the end of the topic, so the bytes have only to be as many as they must.
    fn records(&self, load: &Load, produced: &Transferred, received: Received) -> Result<u64> {
        let least = produced.records * load.value_bytes as u64;
        ensure!(
            (least..least * 2).contains(&received.bytes),
            "{} bytes came back of {least} bytes of values",
            received.bytes
        );
        Ok(produced.records)
    }
}
