//! Finds the first record of a time or later.

use flowstone_format::{FrameHeader, FrameKind, Offset, RecordLimits, Records};

use super::walk::next_header;
use crate::error::ReadError;
use crate::view::SegmentView;

/// A search for a timestamp in one segment.
pub(super) struct Seek {
    pub(super) timestamp_ms: i64,
    pub(super) from: Offset,
    pub(super) before: Offset,
}

impl Seek {
    pub(super) fn walk(&mut self, view: &SegmentView) -> Result<Option<Offset>, ReadError> {
        let start = view.seek_time(self.timestamp_ms, self.from)?;
        let mut window = view.window(start.position.get())?;
        let mut expected = start.offset;
        while expected < self.before && !window.at_end() {
            let header = next_header(view, &mut window, expected)?;
            expected = header.next_offset();
            let may_hold = header.kind == FrameKind::Data
                && expected > self.from
                && header.max_timestamp_ms >= self.timestamp_ms;
            if may_hold && let Some(found) = self.find(&header, &window.payload(&header)?) {
                return Ok(Some(found));
            }
            window.skip(header.frame_len());
        }
        Ok(None)
    }

    fn find(&self, header: &FrameHeader, payload: &[u8]) -> Option<Offset> {
        Records::new(payload, &RecordLimits::NONE)
            .map_while(Result::ok)
            .enumerate()
            .map(|(n, (_, record))| (header.base_offset + n as u64, record.timestamp_ms))
            .find(|&(offset, ms)| {
                ms >= self.timestamp_ms && offset >= self.from && offset < self.before
            })
            .map(|(offset, _)| offset)
    }
}
