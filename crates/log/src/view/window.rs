//! The way to a segment's bytes: brought into memory, and checked, before anybody sees them.

use std::sync::Arc;

use bytes::Bytes;
use flowstone_disk::Map;
use flowstone_format::{FRAME_HEADER_LEN, FrameHeader, MAX_HEADER_LEN, Offset, Position};

use super::SegmentView;
use super::checked::Moment;
use crate::error::ReadError;

/// How much is faulted in at once beyond what was asked for.
const READ_AHEAD_BYTES: u64 = 64 << 10;

/// A place in a segment and the bytes from there on that were faulted in. Every access to the
/// mapping goes through here, so that no page is touched that was not brought in first.
#[derive(Debug)]
pub(crate) struct Window<'a> {
    view: &'a SegmentView,
    map: Arc<dyn Map>,
    at: u64,
    /// What was brought in from `at` on.
    bytes: Bytes,
    /// When they were looked for.
    moment: Moment,
    /// Brings nothing in that is not in memory.
    resident_only: bool,
}

impl<'a> Window<'a> {
    pub(super) fn new(view: &'a SegmentView, map: Arc<dyn Map>, at: u64) -> Self {
        Self {
            view,
            map,
            at,
            bytes: Bytes::new(),
            moment: Moment::default(),
            resident_only: false,
        }
    }

    /// From now on a window on what is in memory, which never waits for the disk.
    pub(crate) fn resident_only(self) -> Self {
        Self {
            resident_only: true,
            ..self
        }
    }

    pub(crate) fn at(&self) -> u64 {
        self.at
    }

    /// Whether nothing readable follows.
    pub(crate) fn at_end(&self) -> bool {
        self.at >= self.view.end_position()
    }

    pub(crate) fn skip(&mut self, len: u64) {
        self.at += len;
        let len = usize::try_from(len).unwrap_or(usize::MAX);
        self.bytes = if len <= self.bytes.len() {
            self.bytes.split_off(len)
        } else {
            Bytes::new()
        };
    }

    /// Brings in at least `len` bytes, fewer at the segment's end. `offset` is the first that is
    /// lost if they cannot be read.
    fn bring_in(&mut self, len: u64, offset: Offset) -> Result<(), ReadError> {
        let left = self.view.end_position().saturating_sub(self.at);
        if (self.bytes.len() as u64) < len.min(left) {
            let end = self.at + left.min(len.max(READ_AHEAD_BYTES));
            self.moment = self.view.checked.now();
            let resident = matches!(self.map.resident(self.at..end), Ok(true));
            if !resident {
                // What is brought in now was not checked, nor what the kernel reads along with it.
                self.moment = self.view.checked.forget();
            }
            if !self.resident_only {
                self.map
                    .populate(self.at..end)
                    .map_err(|error| self.view.unreadable(offset, self.at, error))?;
            } else if !resident {
                return Err(self.view.would_block());
            }
            self.bytes = self.map.slice(self.at..end);
        }
        Ok(())
    }

    /// The header of the frame at this place. `offset` is the first that is lost if it is bad.
    pub(crate) fn header(&mut self, offset: Offset) -> Result<FrameHeader, ReadError> {
        self.bring_in(FRAME_HEADER_LEN as u64, offset)?;
        let at = Position::new(self.at);
        match FrameHeader::decode(&self.bytes, self.view.salt, at) {
            Err(flowstone_format::FrameError::Truncated { .. }) => {
                self.bring_in(u64::from(MAX_HEADER_LEN), offset)?;
                FrameHeader::decode(&self.bytes, self.view.salt, at)
            }
            decoded => decoded,
        }
        .map(|(header, _)| header)
        .map_err(|error| self.view.corrupt(offset, self.at, error.to_string()).into())
    }

    /// The payload of the frame at this place, checked against its CRC unless it was before and has stayed in
    /// memory since.
    pub(crate) fn payload(&mut self, header: &FrameHeader) -> Result<Bytes, ReadError> {
        let offset = header.base_offset;
        self.bring_in(header.frame_len(), offset)?;
        let from = usize::from(header.header_len);
        let to = usize::try_from(header.frame_len()).expect("frame lengths are bounded");
        if to > self.bytes.len() {
            let detail = "the frame reaches past the segment's end".into();
            return Err(self.view.corrupt(offset, self.at, detail).into());
        }
        let payload = self.bytes.slice(from..to);
        let frame = self.at..self.at + header.frame_len();
        if !self.view.checked.has(&frame) {
            header
                .check_payload(&payload)
                .map_err(|error| self.view.corrupt(offset, self.at, error.to_string()))?;
            self.view.checked.add(frame, self.moment);
        }
        Ok(payload)
    }
}
