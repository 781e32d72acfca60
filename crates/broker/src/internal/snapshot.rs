//! When a snapshot of the state is due, and how it gets into the log.

use std::sync::Arc;

use flowstone_format::{FRAME_HEADER_LEN, Offset};
use flowstone_log::{Log, LogError};
use prost::Message;

use crate::Error;
use crate::core::Core;
use crate::internal::entry::{EntryKind, SnapshotBegin, SnapshotEnd};
use crate::internal::{InternalLog, StateMachine, finish_entry};

const CHUNK_BYTES: usize = 512 << 10;
/// So many share a sync, since nothing else can be committed meanwhile.
const CHUNKS_AT_ONCE: usize = 8;
/// A snapshot that failed is tried again after this part of the interval: what the log could have let go
/// takes space until then, and a full disk, which makes snapshots fail, has none to spare.
const RETRY_PART: u64 = 16;

/// How much a log has grown since its last snapshot.
#[derive(Clone, Copy, Debug)]
pub(super) struct Growth {
    /// Below this much a log is not worth a snapshot.
    interval_bytes: u64,
    snapshot_bytes: u64,
    since_bytes: u64,
    /// The next snapshot is not tried before there is as much.
    retry_at_bytes: u64,
    /// Set while a snapshot is on its way.
    pending: bool,
}

impl Growth {
    pub(super) fn new(interval_bytes: u64) -> Self {
        Self {
            interval_bytes,
            snapshot_bytes: 0,
            since_bytes: 0,
            retry_at_bytes: 0,
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

    /// Counts an entry of so many bytes that was appended, with the frame around it. True if a snapshot
    /// has become due, which is told once.
    pub(super) fn grew(&mut self, entry_bytes: u64) -> bool {
        self.since_bytes += FRAME_HEADER_LEN as u64 + entry_bytes;
        let due = self.is_due() && !self.pending;
        self.pending |= due;
        due
    }

    fn is_due(&self) -> bool {
        let due_bytes = self.interval_bytes.max(2 * self.snapshot_bytes);
        self.since_bytes > due_bytes.max(self.retry_at_bytes)
    }

    /// It is tried again when the log has grown a little further.
    fn failed(&mut self) {
        self.retry_at_bytes = self.since_bytes + self.interval_bytes / RETRY_PART;
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

    const FRAME: u64 = FRAME_HEADER_LEN as u64;

    #[test]
    fn a_snapshot_is_due_at_twice_the_last_one_and_told_once() {
        let mut growth = Growth::new(1600);
        growth.snapshot_made(10_000);
        assert!(!growth.grew(20_000 - FRAME));
        assert!(growth.grew(1));
        assert!(!growth.grew(5000), "it is on its way");
        let mut small = Growth::new(1600);
        assert!(!small.grew(1600 - FRAME));
        assert!(small.grew(1));
    }

    #[test]
    fn frames_count() {
        let mut growth = Growth::new(10 * FRAME);
        for _ in 0..10 {
            assert!(!growth.grew(0));
        }
        assert!(growth.grew(0));
    }

    #[test]
    fn a_snapshot_that_failed_is_tried_again_soon_and_is_due_until_it_is_made() {
        let mut growth = Growth::new(1600);
        assert!(growth.grew(1600));
        for _ in 0..3 {
            growth.failed();
            assert!(!growth.is_due(), "not at once");
            assert!(growth.grew(0), "a sixteenth of the interval further on");
        }
        growth.snapshot_made(0);
        assert!(!growth.grew(1600 - FRAME), "it begins anew");
    }
}
