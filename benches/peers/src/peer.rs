//! What every peer is to the program: something that is started, given work, and stopped.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Result;

use crate::latency::Latencies;
use crate::process::Server;
use crate::work::{Bound, Durability, Load, Work};

/// A system that is measured, with the client that it is measured with.
pub(crate) trait Peer {
    /// The name on the command line.
    fn name(&self) -> &'static str;

    /// The name in the result: the system, and the client where there is more than one.
    fn title(&self) -> String;

    /// What it does of this work, and what its acks mean there.
    fn offers(&self, work: Work) -> Offer;

    /// What is missing on this machine and the one line that brings it, or `None` when all is there.
    fn missing(&self) -> Option<String>;

    /// Starts its server, which keeps everything under `place`, and connects.
    ///
    /// # Errors
    /// When it does not start, with the end of its log.
    fn start(&self, place: &Place, durability: Durability) -> Result<Box<dyn Session>>;
}

/// Whether a peer does a piece of work.
#[derive(Clone, Debug)]
pub(crate) enum Offer {
    /// It does; what an ack means then.
    Acks(&'static str),
    /// It cannot; why.
    Not(&'static str),
}

/// Where a server may write.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    dir: PathBuf,
}

impl Place {
    /// A place under an empty directory that is removed afterwards.
    pub(crate) fn new(dir: impl Into<PathBuf>) -> Self {
        Self { dir: dir.into() }
    }

    /// The directory.
    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// A path in it.
    pub(crate) fn join(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }
}

/// A server that runs, and a client that is connected to it. Dropping it ends both.
pub(crate) trait Session {
    /// The server's process, if there is one.
    fn server(&self) -> Option<&Server>;

    /// Produces, and waits for all acks.
    ///
    /// # Errors
    /// Also when a single record was refused.
    fn produce(&mut self, load: &Load) -> Result<Transferred>;

    /// Reads all that a load produced.
    ///
    /// # Errors
    /// Also when not every record came back.
    fn replay(&mut self, load: &Load, produced: &Transferred) -> Result<Transferred>;

    /// Appends one record after the other.
    ///
    /// # Errors
    /// When a record was refused.
    fn latency(&mut self, probe: &Probe) -> Result<Latencies>;
}

/// What was produced or read.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Transferred {
    /// Records.
    pub(crate) records: u64,
    /// Bytes of their values.
    pub(crate) bytes: u64,
    /// From the first request to the last ack, or the last record.
    pub(crate) seconds: f64,
}

/// How latency is measured.
#[derive(Clone, Debug)]
pub(crate) struct Probe {
    /// The topic, stream or key; a name that was not used before.
    pub(crate) topic: String,
    /// Bytes of each value.
    pub(crate) value_bytes: usize,
    /// Appends a second, whether the ones before are answered or not; `None`: one at a time.
    pub(crate) per_second: Option<u32>,
    /// For how long.
    pub(crate) time: Duration,
}

impl Probe {
    /// A load of records like these.
    pub(crate) fn load(&self) -> Load {
        Load {
            topic: self.topic.clone(),
            value_bytes: self.value_bytes,
            producers: 1,
            durability: Durability::Synced,
            bound: Bound {
                bytes: u64::MAX,
                time: self.time,
            },
        }
    }
}
