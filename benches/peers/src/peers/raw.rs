//! The ceiling: tonic streams of opaque bytes, in messages as large as Flowstone's, to a server that
//! keeps nothing.

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
use crate::work::{Durability, Load, Work};

/// The hidden command that this program starts itself with.
pub(crate) const SERVER_COMMAND: &str = "raw-server";

pub(super) struct Raw;

impl Peer for Raw {
    fn name(&self) -> &'static str {
        "raw"
    }

    fn title(&self) -> String {
        "raw tonic streams".to_owned()
    }

    fn offers(&self, work: Work) -> Offer {
        match work {
            Work::Durable1k | Work::Durable100 => Offer::Not("keeps nothing"),
            _ => Offer::Acks("nothing is kept"),
        }
    }

    fn missing(&self) -> Option<String> {
        None
    }

    fn start(&self, place: &Place, _: Durability) -> Result<Box<dyn Session>> {
        let port = free_port()?;
        let program = std::env::current_exe().context("this program does not know its own path")?;
        let mut command = Command::new(program);
        command.arg(SERVER_COMMAND).arg(port.to_string());
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
