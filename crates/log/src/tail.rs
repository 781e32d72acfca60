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

#[cfg(test)]
mod tests {
    use super::*;

    /// Behind a frame with entry index 4 that ends before offset 10.
    const TAIL: Tail = Tail {
        next_offset: Offset::new(10),
        next_index: 5,
        epoch: 3,
        last_append_ms: 1_000,
        prev_header_crc: 77,
    };

    /// What follows it, changed.
    fn admits(change: impl Fn(&mut FrameHeader)) -> Result<(), String> {
        let offsets = TAIL.next_offset..Offset::new(12);
        let mut header = FrameHeader::gap(offsets, TAIL.epoch, 5, TAIL.last_append_ms);
        header.kind = FrameKind::Data;
        header.prev_header_crc = TAIL.prev_header_crc;
        change(&mut header);
        TAIL.admits(&header)
    }

    #[test]
    fn a_frame_follows_or_is_told_apart() {
        assert_eq!(admits(|_| ()), Ok(()));
        assert_eq!(admits(|header| header.leader_epoch = 4), Ok(()));
        assert_eq!(admits(|header| header.append_ms = 1_001), Ok(()));
        type Change = fn(&mut FrameHeader);
        let misfits: [(Change, &str); 7] = [
            (|header| header.prev_header_crc = 78, "does not follow"),
            (|header| header.base_offset = Offset::new(11), "offset 11"),
            (|header| header.base_offset = Offset::new(9), "offset 9"),
            (|header| header.entry_index = 6, "entry index 6"),
            (|header| header.entry_index = 4, "entry index 4"),
            (|header| header.leader_epoch = 2, "epoch 2"),
            (|header| header.append_ms = 999, "append time"),
        ];
        for (change, told) in misfits {
            let detail = admits(change).expect_err(told);
            assert!(detail.contains(told), "{detail}");
        }
    }

    #[test]
    fn only_a_gap_leaves_entry_indexes_out_and_none_goes_back() {
        let gap = |index| {
            admits(|header| {
                header.kind = FrameKind::Gap;
                header.entry_index = index;
            })
        };
        assert_eq!((gap(5), gap(6), gap(9)), (Ok(()), Ok(()), Ok(())));
        assert!(gap(4).is_err());
    }
}
