//! How much of segments stays open.

use flowstone_disk::{maps_limit, open_files_limit};

/// How much of all partitions' segments stays open at a time. What is in use does, whatever is set
/// here; the rest is closed where it is cold, and opened again when it is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OpenLimits {
    /// Files that are appended to, one for each partition that was written to.
    pub files: usize,
    /// Segments that are mapped for readers.
    pub maps: usize,
    /// Bytes of the indexes of sealed segments.
    pub index_bytes: usize,
}

impl OpenLimits {
    /// Half of the files and maps that the system lets this process have: connections, what is being
    /// read, and the program itself take of the other half.
    pub fn of_this_process() -> Self {
        let half = |limit: u64| usize::try_from(limit / 2).unwrap_or(usize::MAX).max(1);
        Self {
            files: half(open_files_limit()),
            maps: half(maps_limit()),
            index_bytes: 32 << 20,
        }
    }
}
