//! Reading below the high watermark: whole records, verbatim from the segment files.

mod seek;
mod walk;

use std::sync::Arc;

use bytes::Bytes;
use flowstone_format::Offset;

use crate::error::{Damage, ReadError};
use crate::shared::Shared;
use crate::view::SegmentView;
use seek::Seek;
use walk::Run;

/// How much one read may bring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReadLimit {
    /// Bytes of stored records. One record comes even if it is larger. A read that is half full takes the next frame
    /// whole or not at all.
    pub max_bytes: usize,
    /// Records; `u32::MAX` for no limit.
    pub max_records: u32,
    /// The first offset that is not wanted any more.
    pub before: Option<Offset>,
}

impl Default for ReadLimit {
    fn default() -> Self {
        Self {
            max_bytes: 1 << 20,
            max_records: u32::MAX,
            before: None,
        }
    }
}

/// What one read brought.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReadBatch {
    /// Runs of `0A len Record` as they lie in the file, in order.
    pub chunks: Vec<Bytes>,
    /// How many records they hold.
    pub record_count: u32,
    /// How many bytes they hold.
    pub bytes: usize,
    /// Where the next read goes on.
    pub next_offset: Offset,
    /// The end of what could be read when this read began.
    pub high_watermark: Offset,
    /// The first offset that was there when this read began.
    pub log_start_offset: Offset,
}

/// Reads a partition's log while it is written. Cheap to clone; never sees anything at or above
/// the high watermark.
#[derive(Clone, Debug)]
pub struct LogReader {
    shared: Arc<Shared>,
}

impl LogReader {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    /// The first offset that can be read.
    #[must_use]
    pub fn log_start_offset(&self) -> Offset {
        self.shared.log_start()
    }

    /// The end of what can be read, exclusive. Damage that is found cuts it short.
    #[must_use]
    pub fn high_watermark(&self) -> Offset {
        self.shared.readable_end()
    }

    /// The end of what is durable, also behind damage.
    #[must_use]
    pub fn durable_end(&self) -> Offset {
        self.shared.high_watermark()
    }

    /// Whether the partition is damaged from its high watermark on.
    #[must_use]
    pub fn is_offline(&self) -> bool {
        self.shared.damage().is_some()
    }

    /// The first place that is not believed, found at the opening, by a read or by a scrub.
    #[must_use]
    pub fn damage(&self) -> Option<Damage> {
        self.shared.damage()
    }

    /// Takes the log offline from a place on that is not believed any more: what lies below is
    /// served, reads from there on fail, nothing is appended. Damage below the log start is not
    /// taken note of.
    pub fn note_damage(&self, damage: &Damage) {
        self.shared.note_damage(damage);
    }

    /// The offset that the segment which holds an offset ends before; `None` in the active one.
    #[must_use]
    pub fn segment_end(&self, offset: Offset) -> Option<Offset> {
        let end = segment_of(&self.shared.segments(), offset)?.end_offset();
        (end < Offset::MAX).then_some(end)
    }

    /// How many segment files the log has.
    #[must_use]
    pub fn segment_count(&self) -> usize {
        self.shared.segments().len()
    }

    /// Bytes that the readable frames and headers take on disk, without space reserved ahead.
    #[must_use]
    pub fn size_bytes(&self) -> u64 {
        let segments = self.shared.segments();
        segments.iter().map(|view| view.end_position()).sum()
    }

    /// Reads records from an offset on, up to the limit, checking the checksums of what was not in memory
    /// since it was written or checked. Empty at the high watermark, or where `limit.before` leaves nothing. Blocks while pages
    /// are read from disk.
    ///
    /// # Errors
    /// [`ReadError::OutOfRange`] below the log start and above the high watermark,
    /// [`ReadError::Corrupt`] where the bytes are not those that were written.
    pub fn read(&self, from: Offset, limit: &ReadLimit) -> Result<ReadBatch, ReadError> {
        self.read_as(from, limit, false)
    }

    /// As [`LogReader::read`], of what is in memory: never waits for the disk. `None` where that does not
    /// hold the next record, or something is wrong, which a read then tells.
    #[must_use]
    pub fn read_resident(&self, from: Offset, limit: &ReadLimit) -> Option<ReadBatch> {
        self.read_as(from, limit, true).ok()
    }

    fn read_as(
        &self,
        from: Offset,
        limit: &ReadLimit,
        resident_only: bool,
    ) -> Result<ReadBatch, ReadError> {
        let high_watermark = self.high_watermark();
        let segments = self.shared.segments();
        let log_start_offset = self.log_start_offset();
        let mut run = Run {
            at: from,
            before: limit
                .before
                .map_or(high_watermark, |before| before.min(high_watermark)),
            limit,
            resident_only,
            batch: ReadBatch {
                chunks: Vec::new(),
                record_count: 0,
                bytes: 0,
                next_offset: from,
                high_watermark,
                log_start_offset,
            },
        };
        self.check_range(from, log_start_offset, high_watermark)?;
        while run.at < run.before && !run.is_full() {
            let began_at = run.at;
            let view = segment_of(&segments, began_at);
            let walked = match view {
                Some(view) => run.walk(view),
                None => Err(self.out_of_range(began_at)),
            };
            // An index that leads astray is found out by a read that may wait.
            let noted = |error| match resident_only {
                true => error,
                false => self.noted(error, log_start_offset),
            };
            match walked.map_err(noted) {
                Ok(true) => assert!(
                    run.at > began_at,
                    "a segment brings a read on, or it would never end"
                ),
                Ok(false) => break,
                // What was read before the damage is right, and is served; the next read tells of it.
                Err(_) if run.batch.record_count > 0 => break,
                // The segment was trimmed away while this read was on its way to it.
                Err(ReadError::Io { .. }) if run.at < self.log_start_offset() => {
                    return Err(self.out_of_range(run.at));
                }
                Err(error) => return Err(error),
            }
        }
        run.batch.next_offset = run.at;
        Ok(run.batch)
    }

    /// The lowest offset whose record's timestamp is `timestamp_ms` (Unix milliseconds) or later;
    /// `None` when there is no such record below the high watermark.
    ///
    /// # Errors
    /// As [`LogReader::read`].
    pub fn offset_for_time(&self, timestamp_ms: i64) -> Result<Option<Offset>, ReadError> {
        let high_watermark = self.high_watermark();
        let segments = self.shared.segments();
        let start = self.log_start_offset();
        for view in segments.iter() {
            if view.end_offset() <= start || view.max_timestamp_ms() < timestamp_ms {
                continue;
            }
            let mut seek = Seek {
                timestamp_ms,
                from: start.max(view.base_offset),
                before: high_watermark.min(view.end_offset()),
            };
            let found = seek.walk(view).map_err(|error| self.noted(error, start))?;
            if let Some(found) = found {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    /// Takes note of damage that a read came to, so that all hear of it. A frame before the log
    /// start is in the way of what lies behind it.
    fn noted(&self, error: ReadError, log_start_offset: Offset) -> ReadError {
        let ReadError::Corrupt(mut damage) = error else {
            return error;
        };
        damage.offset = damage.offset.max(log_start_offset);
        self.shared.note_damage(&damage);
        damage.into()
    }

    fn check_range(
        &self,
        requested: Offset,
        log_start_offset: Offset,
        high_watermark: Offset,
    ) -> Result<(), ReadError> {
        if let Some(damage) = self.shared.damage()
            && requested >= damage.offset
        {
            return Err(damage.into());
        }
        if requested < log_start_offset || requested > high_watermark {
            return Err(ReadError::OutOfRange {
                requested,
                log_start_offset,
                high_watermark,
            });
        }
        Ok(())
    }

    fn out_of_range(&self, requested: Offset) -> ReadError {
        ReadError::OutOfRange {
            requested,
            log_start_offset: self.log_start_offset(),
            high_watermark: self.high_watermark(),
        }
    }
}

/// The segment that holds an offset: the last one that begins at or below it.
fn segment_of(segments: &[Arc<SegmentView>], offset: Offset) -> Option<&SegmentView> {
    let behind = segments.partition_point(|view| view.base_offset <= offset);
    behind.checked_sub(1).map(|last| &*segments[last])
}
