//! When a snapshot of the state is due, and how it gets into the log.

use std::sync::Arc;

use flowstone_format::Offset;
use flowstone_log::{Log, LogError};
use prost::Message;

use crate::Error;
use crate::core::Core;
use crate::internal::entry::{EntryKind, SnapshotBegin, SnapshotEnd};
use crate::internal::{InternalLog, StateMachine, finish_entry};

const CHUNK_BYTES: usize = 512 << 10;
/// So many share a sync, since nothing else can be committed meanwhile.
const CHUNKS_AT_ONCE: usize = 8;

/// How much a log has grown since its last snapshot.
#[derive(Clone, Copy, Debug)]
pub(super) struct Growth {
    /// Below this much a log is not worth a snapshot.
    interval_bytes: u64,
    snapshot_bytes: u64,
    since_bytes: u64,
    /// Set while a snapshot is on its way.
    pending: bool,
}

impl Growth {
    pub(super) fn new(interval_bytes: u64) -> Self {
        Self {
            interval_bytes,
            snapshot_bytes: 0,
            since_bytes: 0,
            pending: false,
        }
    }

    /// Begins anew behind a snapshot.
    pub(super) fn snapshot_made(&mut self, snapshot_bytes: u64) {
        *self = Self {
            snapshot_bytes,
            ..Self::new(self.interval_bytes)
        };
    }

    /// Counts what was appended. True if a snapshot has become due, which is told once.
    pub(super) fn grew(&mut self, bytes: u64) -> bool {
        self.since_bytes += bytes;
        let due = self.is_due() && !self.pending;
        self.pending |= due;
        due
    }

    fn is_due(&self) -> bool {
        self.since_bytes > self.interval_bytes.max(2 * self.snapshot_bytes)
    }

    /// It is tried again after as much growth as the first time.
    fn failed(&mut self) {
        self.since_bytes = 0;
        self.pending = false;
    }
}

impl<S: StateMachine> InternalLog<S> {
    /// Asks for a snapshot if replay has found that one is due.
    pub(crate) fn snapshot_if_due(self: &Arc<Self>, core: &Arc<Core>) {
        let due = {
            let mut growth = self.growth();
            growth.pending = growth.is_due();
            growth.pending
        };
        if due {
            core.housekeeping.add(self.snapshot(Arc::clone(core)));
        }
    }

    /// Puts a snapshot into the log and removes what it stands for. After a crash in between the log
    /// replays to the same state: a snapshot counts from its end on, and only then the rest goes.
    pub(super) fn snapshot(
        self: &Arc<Self>,
        core: Arc<Core>,
    ) -> impl Future<Output = ()> + Send + use<S> {
        let log = Arc::clone(self);
        async move {
            if let Err(error) = log.try_snapshot(&core).await {
                log.growth().failed();
                let path = log.path.display();
                tracing::warn!(%path, %error, "no snapshot could be made; it is tried again later");
            }
        }
    }

    async fn try_snapshot(&self, core: &Core) -> Result<(), Error> {
        let _right = self.alone().await;
        let bytes = self.state().snapshot().encode_to_vec();
        let total_bytes = bytes.len() as u64;
        // What came before lies in segments of its own then, and can go with them.
        self.with_log(core, Log::roll)?;
        let begin = EntryKind::Begin(SnapshotBegin { total_bytes });
        let begin = finish_entry(self.start_entry(core, begin))
            .await?
            .base_offset;
        for chunks in bytes.chunks(CHUNK_BYTES * CHUNKS_AT_ONCE) {
            let begun: Vec<_> = chunks
                .chunks(CHUNK_BYTES)
                .map(|chunk| self.start_entry(core, EntryKind::Chunk(chunk.to_vec())))
                .collect();
            for entry in begun {
                finish_entry(entry).await?;
            }
        }
        finish_entry(self.start_entry(core, EntryKind::End(SnapshotEnd {}))).await?;
        self.growth().snapshot_made(total_bytes);
        self.with_log(core, |log| log.trim(begin).map(|_: Offset| ()))
    }

    fn with_log(
        &self,
        core: &Core,
        work: impl Fn(&mut Log) -> Result<(), LogError>,
    ) -> Result<(), Error> {
        if core.is_dead() {
            return Err(Error::ShuttingDown);
        }
        let mut guard = self.partition.log();
        let log = guard.as_mut().ok_or(Error::ShuttingDown)?;
        let worked = core.reserve.with_space(|| work(log));
        drop(guard);
        worked.map_err(|error| core.log_error(&self.partition, &error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_snapshot_is_due_at_twice_the_last_one_and_told_once() {
        let mut growth = Growth::new(100);
        growth.snapshot_made(1000);
        assert!(!growth.grew(2000));
        assert!(growth.grew(1));
        assert!(!growth.grew(500), "it is on its way");
        let mut small = Growth::new(100);
        assert!(!small.grew(100));
        assert!(small.grew(1));
        small.failed();
        assert!(!small.grew(100));
        assert!(small.grew(1), "it is tried again");
    }
}
