//! Takes whole records off frames until a read is full.

use bytes::Bytes;
use flowstone_format::{FrameHeader, FrameKind, Offset, SEGMENT_HEADER_LEN, skip_records};

use super::{ReadBatch, ReadLimit};
use crate::error::ReadError;
use crate::view::{SegmentView, Window};

/// The state of one read.
pub(super) struct Run<'a> {
    pub(super) at: Offset,
    pub(super) before: Offset,
    pub(super) limit: &'a ReadLimit,
    /// Takes only what is in memory.
    pub(super) resident_only: bool,
    pub(super) batch: ReadBatch,
}

impl Run<'_> {
    pub(super) fn is_full(&self) -> bool {
        self.batch.record_count > 0
            && (self.batch.bytes >= self.limit.max_bytes
                || self.batch.record_count >= self.limit.max_records)
    }

    /// From here on only whole frames are taken: to cut one is to walk its records, up to the cut and once more when the
    /// next read goes on from there.
    fn is_half_full(&self) -> bool {
        self.batch.record_count > 0 && self.batch.bytes >= self.limit.max_bytes / 2
    }

    /// Takes what is wanted of one segment; false when the next record does not fit any more.
    pub(super) fn walk(&mut self, view: &SegmentView) -> Result<bool, ReadError> {
        let (mut window, mut expected) = if self.resident_only {
            seek_resident_frame(view, self.at)?
        } else {
            seek_frame(view, self.at)?
        };
        while self.at < self.before && !self.is_full() && expected < view.end_offset() {
            if window.at_end() {
                let detail = "the segment ends before the records that it should hold";
                return Err(view.corrupt(expected, window.at(), detail.into()).into());
            }
            let header = next_header(view, &mut window, expected)?;
            expected = header.next_offset();
            if expected > self.at {
                if self.resident_only && self.batch.record_count == 0 {
                    view.note_place(header.base_offset, window.at());
                }
                if header.kind == FrameKind::Data {
                    let payload = window.payload(&header)?;
                    if !self.take(view, window.at(), &header, &payload)? {
                        return Ok(false);
                    }
                } else {
                    self.at = expected.min(self.before);
                }
            }
            window.skip(header.frame_len());
        }
        Ok(true)
    }

    /// Takes what is wanted of one frame; false when the read is full before the frame's end.
    fn take(
        &mut self,
        view: &SegmentView,
        position: u64,
        header: &FrameHeader,
        payload: &Bytes,
    ) -> Result<bool, ReadError> {
        let no_record = || {
            let detail = "its payload is not a run of records";
            view.corrupt(self.at, position, detail.into())
        };
        let skipped = self.at - header.base_offset;
        let mut from = 0;
        if skipped > 0 {
            let skipped = u32::try_from(skipped).map_err(|_| no_record())?;
            from = skip_records(payload, skipped).ok_or_else(no_record)?;
        }
        let room = self.limit.max_bytes.saturating_sub(self.batch.bytes);
        let wanted = header.next_offset().min(self.before) - self.at;
        let wanted = u32::try_from(wanted)
            .unwrap_or(u32::MAX)
            .min(self.limit.max_records - self.batch.record_count);
        let whole = u64::from(wanted) == header.next_offset() - self.at;
        let (count, to) = if whole && payload.len() - from <= room {
            (wanted, payload.len())
        } else if whole && self.is_half_full() {
            return Ok(false);
        } else {
            self.cut(payload, from, wanted, room)
                .ok_or_else(no_record)?
        };
        if count > 0 {
            self.batch.chunks.push(payload.slice(from..to));
            self.batch.record_count += count;
            self.batch.bytes += to - from;
            self.at += u64::from(count);
        }
        Ok(self.at == header.next_offset())
    }

    /// How many of at most `wanted` records from byte `from` on fit into `room`, and where they
    /// end. The first record of a read fits always.
    fn cut(&self, payload: &[u8], from: usize, wanted: u32, room: usize) -> Option<(u32, usize)> {
        let (mut count, mut to) = (0, from);
        while count < wanted {
            let end = to + skip_records(&payload[to..], 1)?;
            let first = self.batch.record_count == 0 && count == 0;
            if end - from > room && !first {
                break;
            }
            (count, to) = (count + 1, end);
        }
        Some((count, to))
    }
}

/// A window on the frame that holds an offset, or on one before it. An index that leads to
/// something else than the frame it names is thrown away: it is never evidence.
fn seek_frame(view: &SegmentView, at: Offset) -> Result<(Window<'_>, Offset), ReadError> {
    let entry = view.seek_offset(at)?;
    let mut window = view.window(entry.position.get())?;
    if entry.position.get() == SEGMENT_HEADER_LEN {
        return Ok((window, entry.offset));
    }
    match window.header(at) {
        Ok(header) if header.base_offset == entry.offset => Ok((window, entry.offset)),
        Err(error @ ReadError::Io { .. }) => Err(error),
        _ => {
            view.distrust_index()?;
            let entry = view.seek_offset(at)?;
            Ok((view.window(entry.position.get())?, entry.offset))
        }
    }
}

/// The same where all that it takes is in memory.
fn seek_resident_frame(view: &SegmentView, at: Offset) -> Result<(Window<'_>, Offset), ReadError> {
    if !view.is_at_hand() {
        return Err(view.would_block());
    }
    let entry = view.seek_offset(at)?;
    let entry = (entry.offset, entry.position.get());
    // Many readers at the end want the same frame, and between it and the index's may lie some others.
    let (offset, position) = view.place_at_most(at).map_or(entry, |last| entry.max(last));
    Ok((view.window(position)?.resident_only(), offset))
}

/// The header at the window's place, which has to begin at `expected`.
pub(super) fn next_header(
    view: &SegmentView,
    window: &mut Window<'_>,
    expected: Offset,
) -> Result<FrameHeader, ReadError> {
    let header = window.header(expected)?;
    if header.base_offset == expected {
        return Ok(header);
    }
    let detail = format!(
        "the frame begins at offset {}, not {expected}",
        header.base_offset
    );
    Err(view.corrupt(expected, window.at(), detail).into())
}
