//! What all parts of an open broker share.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock};

use flowstone_disk::Lock;
use flowstone_format::{Identity, PartitionId};
use flowstone_log::{LogError, OpenSegments, ProducerBudget};
use tokio::sync::Semaphore;

use crate::append::RunQueue;
use crate::append_clock::AppendClock;
use crate::counters::Counters;
use crate::floor_keeper::FloorKeeper;
use crate::groups::Groups;
use crate::housekeeping::Housekeeping;
use crate::internal::InternalLog;
use crate::metadata::{MetadataState, min_segment_bytes};
use crate::offsets::Offsets;
use crate::partition::Partition;
use crate::pool::Pool;
use crate::reserve::Reserve;
use crate::scrub::Scrubber;
use crate::topics::{Topic, Topics};
use crate::{BrokerConfig, Env, Error, TopicSpec};

/// Of a topic that names no capacity of its segments.
const SEGMENTS_OF_WHAT_IS_KEPT: u64 = 8;

/// An open data directory and everything that happens on it.
pub(crate) struct Core {
    pub(crate) config: BrokerConfig,
    pub(crate) env: Env,
    pub(crate) identity: Identity,
    pub(crate) topics: Topics,
    pub(crate) metadata: Arc<InternalLog<MetadataState>>,
    pub(crate) offsets: Offsets,
    pub(crate) groups: Groups,
    pub(crate) appends: RunQueue,
    pub(crate) append_clock: AppendClock,
    pub(crate) pool: Pool,
    pub(crate) floor: FloorKeeper,
    pub(crate) housekeeping: Housekeeping,
    pub(crate) reserve: Reserve,
    pub(crate) scrubber: Scrubber,
    pub(crate) counters: Counters,
    /// What all partitions together may remember of producers.
    pub(crate) producer_budget: Arc<ProducerBudget>,
    /// What stays open of the segments of all topics.
    pub(crate) open_segments: Arc<OpenSegments>,
    /// Bytes of produce requests that may still come in.
    pub(crate) room: Arc<Semaphore>,
    /// Subscriptions that may still be opened.
    pub(crate) subscriptions: Arc<Semaphore>,
    /// Keeps other processes out; gone after the shutdown.
    pub(crate) lock: Mutex<Option<Box<dyn Lock>>>,
    pub(crate) stopping: AtomicBool,
    /// Why nothing may touch the disk any more.
    pub(crate) dead: OnceLock<String>,
}

impl Core {
    /// Fails once the broker is stopping.
    pub(crate) fn check_accepting(&self) -> Result<(), Error> {
        if self.is_stopping() {
            return Err(Error::ShuttingDown);
        }
        Ok(())
    }

    pub(crate) fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Acquire)
    }

    /// New requests are refused and subscriptions end; what was submitted goes on.
    pub(crate) fn stop_accepting(&self) {
        if !self.stopping.swap(true, Ordering::AcqRel) {
            self.room.close();
            for topic in self.topics.all() {
                topic.wake();
            }
        }
    }

    /// After a failed sync nothing is known about the disk: nothing is written, synced or read any
    /// more, and the process has to end.
    pub(crate) fn die(&self, reason: &str) {
        if self.dead.set(reason.to_owned()).is_err() {
            return;
        }
        tracing::error!(reason, "the broker cannot go on");
        self.stop_accepting();
        (self.config.on_fatal)(reason);
    }

    pub(crate) fn is_dead(&self) -> bool {
        self.dead.get().is_some()
    }

    /// Fails once nothing may touch the disk any more.
    pub(crate) fn check_alive(&self) -> Result<(), Error> {
        match self.dead.get() {
            None => Ok(()),
            Some(_) => Err(Error::ShuttingDown),
        }
    }

    /// Lets other processes have the directory.
    pub(crate) fn release(&self) {
        drop(
            self.lock
                .lock()
                .expect("nothing panics with the lock in hand")
                .take(),
        );
    }

    /// The answer to a change of a log that failed. A failed sync ends the broker.
    pub(crate) fn log_error(&self, partition: &Partition, error: &LogError) -> Error {
        let answer = partition.change_error(error);
        if matches!(error, LogError::SyncFailed { .. }) {
            self.die(&error.to_string());
        }
        answer
    }

    /// The capacity of a topic's segments. One that says only how much it keeps gets several of them, since they go as
    /// a whole.
    pub(crate) fn segment_bytes(&self, spec: &TopicSpec) -> u64 {
        let default = self.config.default_segment_bytes;
        let kept = spec.retention_bytes;
        let part = kept.map_or(default, |kept| kept / SEGMENTS_OF_WHAT_IS_KEPT);
        let part = part.max(min_segment_bytes(&self.config.limits));
        spec.segment_bytes.unwrap_or(part.min(default))
    }

    /// Opens partitions of a topic: their numbers and ids.
    pub(crate) fn open_partitions(
        &self,
        topic: &Topic,
        partitions: impl Iterator<Item = (u32, PartitionId)>,
    ) -> Vec<Arc<Partition>> {
        let now = topic.now();
        let segment_bytes = self.segment_bytes(&now.info.spec);
        let full_bytes = now.info.spec.full_bytes();
        partitions
            .map(|(number, id)| {
                let floor = self.floor.newest(id);
                let data_dir = &self.config.data_dir;
                let shared = (&self.producer_budget, &self.open_segments);
                let opened =
                    Partition::open_log(&self.env, data_dir, id, floor, segment_bytes, shared);
                let label = topic.label(number);
                let partition = Partition::new(id, opened, segment_bytes, label);
                partition.set_full_bytes(full_bytes);
                Arc::new(partition)
            })
            .collect()
    }
}

impl fmt::Debug for Core {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Core")
            .field("data_dir", &self.config.data_dir)
            .field("identity", &self.identity)
            .field("dead", &self.dead)
            .finish_non_exhaustive()
    }
}
