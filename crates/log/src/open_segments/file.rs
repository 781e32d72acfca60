//! The file of an active segment, closed while nobody writes to it.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

use flowstone_disk::{Disk, File, Map, OpenMode};

use super::{Kept, Pool};

/// A file that is open whenever bytes of it may not be on disk yet. The descriptor that they were
/// written through is the one that tells of an error of their sync.
#[derive(Debug)]
pub(crate) struct SegmentFile {
    disk: Arc<dyn Disk>,
    path: PathBuf,
    pub(super) kept: Arc<Kept<dyn File>>,
    unsynced: Mutex<Unsynced>,
}

#[derive(Debug, Default)]
struct Unsynced {
    /// Held while there are changes that no sync has covered, so that the pool does not close it.
    file: Option<Arc<dyn File>>,
    /// Changes that have begun and ended. Where a sync begins between, it does not cover the change.
    begun: u64,
    ended: u64,
}

/// How much a file had been changed at a moment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Changes {
    begun: u64,
    ended: u64,
}

impl SegmentFile {
    /// A file that exists.
    pub(crate) fn existing(disk: &Arc<dyn Disk>, path: &Path, pool: &Arc<Pool<dyn File>>) -> Self {
        Self {
            disk: Arc::clone(disk),
            path: path.to_path_buf(),
            kept: Kept::new(pool),
            unsynced: Mutex::default(),
        }
    }

    /// Makes a new file.
    pub(crate) fn create(
        disk: &Arc<dyn Disk>,
        path: &Path,
        pool: &Arc<Pool<dyn File>>,
    ) -> io::Result<Self> {
        let file = Self::existing(disk, path, pool);
        let made = disk.open(path, OpenMode::CreateNew)?;
        file.unsynced().file = Some(Arc::clone(&made));
        file.kept.put(&made);
        Ok(file)
    }

    /// Opens the file for changes to come: it stays open until they are synced, so that none of
    /// them fails for want of a descriptor.
    pub(crate) fn prepare(&self) -> io::Result<()> {
        let file = self.open()?;
        let mut unsynced = self.unsynced();
        // A sync that is under way does not let it go.
        unsynced.begun += 1;
        unsynced.ended += 1;
        unsynced.file = Some(file);
        Ok(())
    }

    fn open(&self) -> io::Result<Arc<dyn File>> {
        self.kept
            .get(|| self.disk.open(&self.path, OpenMode::ReadWrite))
    }

    fn change<R>(&self, change: impl FnOnce(&dyn File) -> io::Result<R>) -> io::Result<R> {
        let file = self.open()?;
        let mut unsynced = self.unsynced();
        unsynced.begun += 1;
        unsynced.file = Some(Arc::clone(&file));
        drop(unsynced);
        let changed = change(&*file);
        self.unsynced().ended += 1;
        changed
    }

    fn sync(&self, sync: impl FnOnce(&dyn File) -> io::Result<()>) -> io::Result<()> {
        let file = self.open()?;
        let changes = self.changes();
        // After an error it stays open for ever: the process ends.
        sync(&*file)?;
        self.synced(changes);
        Ok(())
    }

    /// What was changed until now.
    pub(crate) fn changes(&self) -> Changes {
        let unsynced = self.unsynced();
        Changes {
            begun: unsynced.begun,
            ended: unsynced.ended,
        }
    }

    /// Takes note that a sync, by whatever means, has succeeded that began after these changes were looked at.
    pub(crate) fn synced(&self, changes: Changes) {
        let mut unsynced = self.unsynced();
        if changes.begun == changes.ended && unsynced.begun == changes.begun {
            unsynced.file = None;
        }
    }

    fn unsynced(&self) -> MutexGuard<'_, Unsynced> {
        self.unsynced.lock().expect("nothing panics with it")
    }
}

impl File for SegmentFile {
    fn len(&self) -> io::Result<u64> {
        self.open()?.len()
    }

    fn read_exact_at(&self, buf: &mut [u8], at: u64) -> io::Result<()> {
        self.open()?.read_exact_at(buf, at)
    }

    fn write_all_at(&self, buf: &[u8], at: u64) -> io::Result<()> {
        self.change(|file| file.write_all_at(buf, at))
    }

    fn reserve(&self, at: u64, len: u64) -> io::Result<()> {
        self.change(|file| file.reserve(at, len))
    }

    fn punch(&self, at: u64, len: u64) -> io::Result<()> {
        self.change(|file| file.punch(at, len))
    }

    fn sync_data(&self) -> io::Result<()> {
        self.sync(|file| file.sync_data())
    }

    fn sync_all(&self) -> io::Result<()> {
        self.sync(|file| file.sync_all())
    }

    fn map(&self, capacity: u64) -> io::Result<Arc<dyn Map>> {
        self.open()?.map(capacity)
    }
}
