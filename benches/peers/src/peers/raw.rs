//! The ceiling: tonic streams of opaque bytes, in messages as large as Flowstone's, to a server that
//! keeps nothing, and the same to one that does nothing but to keep them.

use std::process::Command;

use anyhow::{Context, Result};
use bytes::Bytes;
use tokio::runtime::Runtime;

use super::opaque_session::{Dialect, OpaqueSession};
use crate::flowstone_wire::{RESPONSE_BYTES, produce_request, stored_record_bytes};
use crate::opaque::client::{Received, Up};
use crate::opaque::server::{DOWN, UP, order};
use crate::peer::{Offer, Peer, Place, Session, Transferred};
use crate::process::{Server, free_port};
use crate::summary::{CEILING, CEILING_KEPT};
use crate::work::{Durability, Load, Work};

/// The hidden command that this program starts itself with.
pub(crate) const SERVER_COMMAND: &str = "raw-server";

/// Raw streams, which are kept or not.
pub(super) struct Raw {
    keeps: bool,
}

impl Raw {
    /// The ceiling.
    pub(super) fn of_nothing() -> Self {
        Self { keeps: false }
    }

    /// What is left of it where messages are written to a file as tonic brings them, and nothing else is done.
    pub(super) fn kept() -> Self {
        Self { keeps: true }
    }
}

impl Peer for Raw {
    fn name(&self) -> &'static str {
        if self.keeps { CEILING_KEPT } else { CEILING }
    }

    fn title(&self) -> String {
        let title = if self.keeps {
            "raw tonic streams, kept in a file"
        } else {
            "raw tonic streams"
        };
        title.to_owned()
    }

    fn offers(&self, work: Work) -> Offer {
        match work {
            Work::Durable1k | Work::Durable100 if !self.keeps => Offer::Not("keeps nothing"),
            Work::Durable1k | Work::Durable100 => Offer::Not("syncs each message by itself"),
            Work::Replay1k | Work::Replay100 if self.keeps => {
                Offer::Not("has nothing of its own to read")
            }
            _ if !self.keeps => Offer::Acks("nothing is kept"),
            Work::Latency | Work::Paced => {
                Offer::Acks("synced, each message, by the thread that has read it")
            }
            _ => Offer::Acks("page cache, synced again and again"),
        }
    }

    fn missing(&self) -> Option<String> {
        None
    }

    fn start(&self, place: &Place, durability: Durability) -> Result<Box<dyn Session>> {
        let port = free_port()?;
        let program = std::env::current_exe().context("this program does not know its own path")?;
        let mut command = Command::new(program);
        command.arg(SERVER_COMMAND).arg(port.to_string());
        if self.keeps {
            command.arg("--keep").arg(place.dir());
        }
        if self.keeps && durability == Durability::Synced {
            command.arg("--synced");
        }
        let mut server = Server::start("raw", &mut command, place.dir())?;
        server.wait_for_port(port)?;
        Ok(Box::new(OpaqueSession::new(server, port, RawDialect)?))
    }
}

struct RawDialect;

/// Records that a message down stands for: as many as Flowstone puts into a response.
fn records_per_message(load: &Load) -> u64 {
    (RESPONSE_BYTES / stored_record_bytes(load.value_bytes)) as u64
}

impl Dialect for RawDialect {
    fn prepare(&self, _: &Runtime, _: &str, _: usize) -> Result<()> {
        Ok(())
    }

    fn up(&self, load: &Load, _: usize, records: usize) -> Up {
        Up {
            path: UP,
            message: produce_request(&load.topic, 0, load.durability, load.value_bytes, records),
            check: |_| Ok(()),
        }
    }

    fn settle(&self, _: &Runtime, _: &Load, _: &Transferred) -> Result<()> {
        Ok(())
    }

    fn down(&self, load: &Load, produced: &Transferred) -> (&'static str, Bytes) {
        let messages = produced.records.div_ceil(records_per_message(load));
        (DOWN, order(messages, RESPONSE_BYTES))
    }

    fn records(&self, load: &Load, _: &Transferred, received: Received) -> Result<u64> {
        Ok(received.messages * records_per_message(load))
    }
}
