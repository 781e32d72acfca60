//! What all logs together keep open of their segments: files, maps and indexes. What is cold is closed when there
//! is too much of it, and opened again when it is asked for.

mod file;
mod pool;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use flowstone_disk::{File, Map};
use flowstone_format::{IndexEntry, SegmentIndex};

pub(crate) use file::{Changes, SegmentFile};
pub(crate) use pool::{Kept, Pool};

/// Files, maps and indexes of segments, at most so many for all logs that share this.
#[derive(Debug)]
pub struct OpenSegments {
    /// Of active segments, for their writers.
    pub(crate) files: Arc<Pool<dyn File>>,
    /// Of segments that are read.
    pub(crate) maps: Arc<Pool<dyn Map>>,
    /// Of sealed segments that are read. That of an active one is always there.
    pub(crate) indexes: Arc<Pool<SegmentIndex>>,
}

impl OpenSegments {
    /// At most `files` files, `maps` maps and `index_bytes` of indexes stay open. What is in use at
    /// the moment does, however much it is: a file with bytes that are not synced, and a map or an
    /// index that a read is going through.
    #[must_use]
    pub fn new(files: usize, maps: usize, index_bytes: usize) -> Self {
        Self {
            files: Arc::new(Pool::new(files, |_| 1)),
            maps: Arc::new(Pool::new(maps, |_| 1)),
            indexes: Arc::new(Pool::new(index_bytes, |index: &SegmentIndex| {
                size_of_val::<[IndexEntry]>(index.entries()).max(1)
            })),
        }
    }

    /// Nothing is ever closed.
    #[must_use]
    pub fn unlimited() -> Self {
        Self::new(usize::MAX, usize::MAX, usize::MAX)
    }
}

impl Default for OpenSegments {
    fn default() -> Self {
        Self::unlimited()
    }
}
