//! Syncing what was written while more is written.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use flowstone_disk::File;
use flowstone_format::{Generation, Offset, Position};

use crate::error::LogError;
use crate::open_segments::{Changes, SegmentFile};

/// Syncs a file for several callers, one at a time. The kernel tells a failed write-back to one of those
/// who sync a descriptor at the same time, and to none who comes later; here it is told to all.
#[derive(Debug)]
pub(crate) struct Syncs {
    file: Arc<SegmentFile>,
    path: PathBuf,
    /// Whether a sync has failed. There is no other after that.
    failed: Mutex<bool>,
}

impl Syncs {
    pub(crate) fn new(file: &Arc<SegmentFile>, path: &Path) -> Self {
        Self {
            file: Arc::clone(file),
            path: path.to_owned(),
            failed: Mutex::new(false),
        }
    }

    /// Makes all durable that was written before the call.
    pub(crate) fn sync(&self) -> Result<(), LogError> {
        let mut failed = self.failed.lock().expect("nothing panics while it syncs");
        if *failed {
            let source = std::io::Error::other("an earlier sync of the file has failed");
            return Err(LogError::sync(&self.path)(source));
        }
        let synced = self.file.sync_data().map_err(LogError::sync(&self.path));
        *failed = synced.is_err();
        synced
    }
}

/// What was written to a log and waits for a sync, which needs no log: more may be appended meanwhile.
#[derive(Debug)]
pub struct Unsynced {
    /// Of the segment that is closing, and of the active one.
    pub(crate) parts: [Option<UnsyncedPart>; 2],
    /// How often the log had been reopened.
    pub(crate) reopened: u64,
}

/// What was written to one segment and waits for a sync.
#[derive(Debug)]
pub(crate) struct UnsyncedPart {
    pub(crate) syncs: Arc<Syncs>,
    pub(crate) generation: Generation,
    pub(crate) end: Position,
    pub(crate) end_offset: Offset,
    /// Of the file.
    pub(crate) changes: Changes,
}

impl Unsynced {
    /// Makes it durable, as a sync of the whole file system would. [`Log::synced`](crate::Log::synced) has to
    /// be told.
    ///
    /// # Errors
    /// [`LogError::SyncFailed`] has to end the process.
    pub fn sync(&self) -> Result<(), LogError> {
        self.parts
            .iter()
            .flatten()
            .try_for_each(|part| part.syncs.sync())
    }
}
