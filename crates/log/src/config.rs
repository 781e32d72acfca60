//! What can be set for one partition's log.

use flowstone_format::{FRAME_HEADER_LEN, SEGMENT_HEADER_LEN};

/// The settings of a log. A change holds for segments that are begun after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogConfig {
    /// The most bytes a segment file may hold, its header among them. Rounded up to 4,096.
    pub segment_bytes: u64,
    /// How many bytes of frames lie between two entries of the sparse index.
    pub index_interval_bytes: u64,
    /// Space is reserved ahead in steps that double up to this many bytes.
    pub max_reserve_bytes: u64,
    /// With more than this that is not synced, a roll leaves the sync of the old segment to whoever syncs next, and
    /// frames go to the new one meanwhile.
    pub roll_unsynced_bytes: u64,
}

impl Default for LogConfig {
    fn default() -> Self {
        Self {
            segment_bytes: 1 << 30,
            index_interval_bytes: 32 << 10,
            max_reserve_bytes: 16 << 20,
            roll_unsynced_bytes: 16 << 20,
        }
    }
}

impl LogConfig {
    /// The capacity that a new segment gets: whole pages, and room for the header and one frame at least.
    pub(crate) fn capacity(&self) -> u64 {
        self.segment_bytes
            .max(SEGMENT_HEADER_LEN + FRAME_HEADER_LEN as u64)
            .next_multiple_of(4096)
    }
}
