//! Dropping a prefix (trim, retention) and sealing off a suffix (truncate).

use std::sync::Arc;

use flowstone_format::{
    Offset, Position, SegmentEntry, SegmentState, producers_name, segment_name,
};

use crate::active::{Active, FIRST_FRAME};
use crate::error::LogError;
use crate::log::Log;
use crate::producers::ProducerState;
use crate::recover;
use crate::scan::{Bad, Scan, ScanError};
use crate::tail::Tail;
use crate::view::SegmentView;

/// An active segment is sealed when its first record is older than this part of the greatest age, so that it does
/// not keep records for much longer than that where few come in.
const ACTIVE_PART_OF_MAX_AGE: i64 = 8;

/// What may be dropped by itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Retention {
    /// Segments whose last append is older than this go, in milliseconds.
    pub max_age_ms: Option<i64>,
    /// The oldest segments go while the rest holds at least this much.
    pub max_bytes: Option<u64>,
    /// What goes only where the log has no room left.
    pub make_room: Option<MakeRoom>,
}

/// What nobody needs any more, and is kept while there is room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MakeRoom {
    /// From this many bytes on the log has no room.
    pub full_bytes: u64,
    /// Segments that lie wholly below are needed by nobody. At most the high watermark.
    pub below: Offset,
}

/// What retention dropped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Retained {
    /// How many segments went.
    pub segments: usize,
    /// How many bytes of files went.
    pub bytes: u64,
}

impl Log {
    /// Moves the log start offset to `before`, durably, and drops the sealed segments that lie
    /// wholly below. Returns the log start offset; one that is higher already stays. Damage that
    /// was found since the log was opened and then lies below is forgotten: who trims behind it
    /// gives up what it has cost, and the log goes on.
    ///
    /// # Errors
    /// [`LogError::OutOfRange`] above the durable end.
    pub fn trim(&mut self, before: Offset) -> Result<Offset, LogError> {
        self.usable()?;
        let start = self.manifest.log_start_offset;
        let end = self.reader().durable_end();
        if before > end {
            return Err(LogError::OutOfRange {
                requested: before,
                start,
                end,
            });
        }
        if before > start {
            self.seal_damage_off(before)?;
            let count = self.sealed_below(|entry| entry.end_offset <= before);
            self.drop_prefix(count, before)?;
        }
        Ok(self.manifest.log_start_offset)
    }

    /// A damaged frame that lies below the log start would take the partition offline again if an
    /// opening came upon it, which it does in segments that are not sealed.
    fn seal_damage_off(&mut self, before: Offset) -> Result<(), LogError> {
        let Some(damage) = self.reader().damage() else {
            return Ok(());
        };
        let has_it =
            |segment: &Active| (segment.entry.base_offset..before).contains(&damage.offset);
        if self.active.as_ref().is_some_and(has_it) {
            self.roll_now()
        } else if self.closing.as_ref().is_some_and(|it| has_it(it.segment())) {
            self.close()
        } else {
            Ok(())
        }
    }

    /// Drops whole sealed segments by age and by size. An active segment is sealed first if it holds records
    /// that are older than an eighth of the greatest age, or if nobody needs it and it fills the log by itself:
    /// a quiet partition is emptied, too. `now_ms` is the Unix time up to which ages are counted: what clocks
    /// that jump cannot take ahead of the records' ages.
    ///
    /// # Errors
    /// As [`Log::append`].
    pub fn retain(&mut self, now_ms: i64, retention: Retention) -> Result<Retained, LogError> {
        self.sound()?;
        let oldest_ms = retention.max_age_ms.map(|age| now_ms.saturating_sub(age));
        let too_old = |last_append_ms: i64| oldest_ms.is_some_and(|oldest| last_append_ms < oldest);
        let fills = |room: MakeRoom| {
            let active = self.active.as_ref();
            room.below >= self.tail.next_offset
                && active.is_some_and(|active| active.staged_end.get() >= room.full_bytes)
        };
        let part = retention
            .max_age_ms
            .map(|age| now_ms.saturating_sub(age / ACTIVE_PART_OF_MAX_AGE));
        let first = self
            .active
            .as_ref()
            .and_then(|active| active.first_append_ms);
        let long_enough = matches!((first, part), (Some(first), Some(part)) if first < part);
        if long_enough || retention.make_room.is_some_and(fills) {
            self.roll()?;
        }
        let watermark = self.reader().high_watermark();
        let max_bytes = retention.max_bytes.unwrap_or(u64::MAX);
        let mut left = self.reader().size_bytes();
        let count = self.sealed_below(|entry| {
            let rest = left - entry.end_position.get().min(left);
            let in_the_way =
                |room: MakeRoom| left >= room.full_bytes && entry.end_offset <= room.below;
            let goes = entry.end_offset <= watermark
                && (too_old(entry.last_append_ms)
                    || rest >= max_bytes
                    || retention.make_room.is_some_and(in_the_way));
            if goes {
                left = rest;
            }
            goes
        });
        if count == 0 {
            return Ok(Retained::default());
        }
        let dropped = &self.manifest.segments[..count];
        let retained = Retained {
            segments: count,
            bytes: dropped.iter().map(|entry| entry.end_position.get()).sum(),
        };
        let start = dropped[count - 1].end_offset;
        self.drop_prefix(count, start.max(self.manifest.log_start_offset))?;
        Ok(retained)
    }

    /// How many of the first segments are sealed and may go. The last one listed stays: it is
    /// what knows where the log goes on.
    fn sealed_below(&self, mut goes: impl FnMut(&SegmentEntry) -> bool) -> usize {
        let listed = &self.manifest.segments;
        listed[..listed.len().saturating_sub(1)]
            .iter()
            .take_while(|entry| entry.state == SegmentState::Sealed && goes(entry))
            .count()
    }

    /// First the MANIFEST, then the readers, then the files.
    fn drop_prefix(&mut self, count: usize, start: Offset) -> Result<(), LogError> {
        let mut manifest = self.manifest.clone();
        let dropped: Vec<_> = manifest.segments.drain(..count).collect();
        manifest.log_start_offset = start;
        if let Some(first) = manifest.segments.first_mut() {
            first.start_offset = first.start_offset.max(start);
        }
        self.write_manifest_of(manifest)?;
        self.shared.set_log_start(start);
        self.shared.forget_trimmed_damage();
        let views = self.shared.segments();
        self.shared.set_segments(views[count..].to_vec());
        for entry in &dropped {
            self.dir.remove_segment(entry)?;
        }
        Ok(())
    }

    /// Replaces the MANIFEST for a change that leaves the active segment as it is.
    fn write_manifest_of(&mut self, manifest: flowstone_format::Manifest) -> Result<(), LogError> {
        if self.manifest.segments.is_empty() {
            self.dir.create()?;
        }
        self.dir.write_manifest(&manifest)?;
        if let (Some(active), Some(entry)) = (self.active.as_mut(), manifest.segments.last()) {
            active.entry.start_offset = entry.start_offset;
        }
        self.manifest = manifest;
        Ok(())
    }

    /// Seals off everything from `at` on; the log goes on there in a new segment. The old bytes
    /// stay behind the seal, and whole segments behind it are moved aside.
    ///
    /// # Errors
    /// [`LogError::NotABoundary`] inside a batch; [`LogError::OutOfRange`] below the high
    /// watermark, where offsets name the same records for ever, and above the end.
    pub fn truncate(&mut self, at: Offset) -> Result<(), LogError> {
        self.sound()?;
        self.sync()?;
        let watermark = self.reader().high_watermark();
        let end = self.tail.next_offset;
        if at < watermark || at > end {
            return Err(LogError::OutOfRange {
                requested: at,
                start: watermark,
                end,
            });
        }
        if at == end {
            return Ok(());
        }
        let budget = Arc::clone(self.producers.budget());
        let cut = self
            .manifest
            .segments
            .partition_point(|e| e.base_offset <= at)
            - 1;
        let listed = &self.manifest.segments;
        let mut producers =
            recover::producers::at_base(&self.dir, self.partition, listed, cut, &budget)?;
        let (tail, position, max_timestamp_ms) = self.boundary(cut, at, &mut producers)?;

        let mut manifest = self.manifest.clone();
        let behind = manifest.segments.split_off(cut + 1);
        let entry = &mut manifest.segments[cut];
        *entry = SegmentEntry {
            end_offset: at,
            end_position: position,
            last_epoch: tail.epoch,
            last_index: tail.next_index - 1,
            last_header_crc: tail.prev_header_crc,
            max_timestamp_ms,
            last_append_ms: tail.last_append_ms,
            state: SegmentState::Sealed,
            ..entry.clone()
        };
        let view = SegmentView::new(&self.dir, entry, &self.config);
        self.dir.write_manifest(&manifest)?;
        self.manifest = manifest;
        self.active = None;
        self.tail = tail;
        self.producers = producers;
        let mut views = self.shared.segments()[..cut].to_vec();
        views.push(Arc::new(view));
        self.shared.set_segments(views);
        for entry in [&self.manifest.segments[cut]].into_iter().chain(&behind) {
            // The index speaks of frames that are cut off; it is rebuilt when it is needed.
            let index = self.dir.index_path(entry.base_offset, entry.id);
            self.dir.remove_if_there(&index)?;
        }
        let names: Vec<_> = behind
            .iter()
            .flat_map(|entry| {
                let snapshot = producers_name(entry.base_offset, entry.id);
                let snapshot = (entry.producers_crc != 0).then_some(snapshot);
                [segment_name(entry.base_offset, entry.id)]
                    .into_iter()
                    .chain(snapshot)
            })
            .collect();
        self.dir.set_aside(names.iter().map(String::as_str))
    }

    /// Walks a segment up to the frame that begins at `at`, and its producers along.
    fn boundary(
        &self,
        segment: usize,
        at: Offset,
        producers: &mut ProducerState,
    ) -> Result<(Tail, Position, i64), LogError> {
        let entry = &self.manifest.segments[segment];
        let path = self.dir.segment_path(entry.base_offset, entry.id);
        let file = self.dir.open(&path)?;
        let limit = file.len().map_err(LogError::io("measure", &path))?;
        let previous = segment.checked_sub(1).map(|p| &self.manifest.segments[p]);
        let tail = Tail::before(entry, previous);
        let mut scan = Scan::new(&*file, entry.salt, FIRST_FRAME, limit, tail);
        let mut max_timestamp_ms = i64::MIN;
        while scan.tail().next_offset < at {
            match scan.next_frame() {
                Ok(Some(frame)) => {
                    max_timestamp_ms = max_timestamp_ms.max(frame.header.max_timestamp_ms);
                    producers.apply(&frame.header);
                }
                Ok(None) => return Err(LogError::NotABoundary { offset: at }),
                Err(ScanError::Io(error)) => return Err(LogError::io("read", &path)(error)),
                Err(ScanError::Bad(Bad { detail, .. })) => {
                    return Err(crate::error::Damage {
                        offset: scan.tail().next_offset,
                        path,
                        position: scan.position(),
                        detail,
                    }
                    .into());
                }
            }
        }
        if scan.tail().next_offset > at {
            return Err(LogError::NotABoundary { offset: at });
        }
        Ok((scan.tail(), scan.position(), max_timestamp_ms))
    }
}
