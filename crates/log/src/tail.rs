//! Where a log goes on: what the next frame must say to be the next one.

use flowstone_format::{FrameHeader, FrameKind, Offset, SegmentEntry};

/// The end of the chain of frames, as far as it was walked or written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Tail {
    /// The next offset to be assigned.
    pub(crate) next_offset: Offset,
    /// The next frame's entry index; the first frame of a partition has 1.
    pub(crate) next_index: u64,
    /// The epoch of the last frame; epochs never fall.
    pub(crate) epoch: u64,
    /// The append time of the last frame; it never falls, whatever the clock does.
    pub(crate) last_append_ms: i64,
    /// The stored checksum of the header before: of the last frame, or of the segment.
    pub(crate) prev_header_crc: u32,
}

impl Tail {
    /// The tail of a partition that has never had a frame.
    pub(crate) fn new(next_offset: Offset) -> Self {
        Self {
            next_offset,
            next_index: 1,
            epoch: 1,
            last_append_ms: i64::MIN,
            prev_header_crc: 0,
        }
    }

    /// The tail before the first frame of a listed segment.
    pub(crate) fn before(entry: &SegmentEntry, previous: Option<&SegmentEntry>) -> Self {
        Self {
            next_offset: entry.base_offset,
            next_index: entry.first_index,
            epoch: entry.first_epoch,
            // Without a frame, the entry tells what stood before the segment.
            last_append_ms: if entry.last_index < entry.first_index {
                entry.last_append_ms
            } else {
                previous.map_or(i64::MIN, |p| p.last_append_ms)
            },
            prev_header_crc: entry.header_crc,
        }
    }

    /// The tail behind a sealed segment.
    pub(crate) fn after(entry: &SegmentEntry) -> Self {
        Self {
            next_offset: entry.end_offset,
            next_index: entry.last_index + 1,
            epoch: entry.last_epoch,
            last_append_ms: entry.last_append_ms,
            prev_header_crc: entry.last_header_crc,
        }
    }

    /// Whether a frame follows this tail; otherwise what does not fit.
    pub(crate) fn admits(&self, header: &FrameHeader) -> Result<(), String> {
        if header.prev_header_crc != self.prev_header_crc {
            return Err("the frame does not follow the one before it".into());
        }
        if header.base_offset != self.next_offset {
            return Err(format!(
                "the frame begins at offset {}, not {}",
                header.base_offset, self.next_offset
            ));
        }
        let skips = header.kind == FrameKind::Gap && header.entry_index > self.next_index;
        if header.entry_index != self.next_index && !skips {
            return Err(format!(
                "the frame has entry index {}, not {}",
                header.entry_index, self.next_index
            ));
        }
        if header.leader_epoch < self.epoch {
            return Err(format!(
                "the frame's epoch {} is lower than {} before it",
                header.leader_epoch, self.epoch
            ));
        }
        if header.append_ms < self.last_append_ms {
            return Err("the frame's append time is before that of the frame before".into());
        }
        Ok(())
    }

    /// Steps behind a frame.
    pub(crate) fn advance(&mut self, header: &FrameHeader, header_crc: u32) {
        self.next_offset = header.next_offset();
        self.next_index = header.entry_index + 1;
        self.epoch = header.leader_epoch;
        self.last_append_ms = header.append_ms;
        self.prev_header_crc = header_crc;
    }
}
