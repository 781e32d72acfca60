//! The real disk, told of each sync of a file.

use std::fmt;
use std::io;
use std::path::Path;
use std::sync::Arc;

use flowstone_broker::Env;
use flowstone_disk::{DirEntry, Disk, File, Lock, Map, OpenMode, RealDisk};

/// An environment on the real disk, in which this is called before a file is synced.
pub(crate) fn env(before_sync: impl Fn() + Send + Sync + 'static) -> Env {
    Env {
        disk: Arc::new(WatchedDisk(Watch(Arc::new(before_sync)))),
        ..Env::real()
    }
}

#[derive(Clone)]
struct Watch(Arc<dyn Fn() + Send + Sync>);

impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Watch")
    }
}

#[derive(Debug)]
struct WatchedDisk(Watch);

#[derive(Debug)]
struct WatchedFile {
    file: Arc<dyn File>,
    watch: Watch,
}

impl Disk for WatchedDisk {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn File>> {
        let file = RealDisk.open(path, mode)?;
        let watch = self.0.clone();
        Ok(Arc::new(WatchedFile { file, watch }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        RealDisk.rename(from, to)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        RealDisk.remove_file(path)
    }

    fn remove_dir_all(&self, path: &Path) -> io::Result<()> {
        RealDisk.remove_dir_all(path)
    }

    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        RealDisk.create_dir_all(path)
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        RealDisk.sync_dir(path)
    }

    fn sync_all(&self, path: &Path) -> io::Result<()> {
        RealDisk.sync_all(path)
    }

    fn list(&self, path: &Path) -> io::Result<Vec<DirEntry>> {
        RealDisk.list(path)
    }

    fn free_bytes(&self, path: &Path) -> io::Result<u64> {
        RealDisk.free_bytes(path)
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn Lock>> {
        RealDisk.lock(path)
    }
}

impl File for WatchedFile {
    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn read_exact_at(&self, buf: &mut [u8], at: u64) -> io::Result<()> {
        self.file.read_exact_at(buf, at)
    }

    fn write_all_at(&self, buf: &[u8], at: u64) -> io::Result<()> {
        self.file.write_all_at(buf, at)
    }

    fn reserve(&self, at: u64, len: u64) -> io::Result<()> {
        self.file.reserve(at, len)
    }

    fn punch(&self, at: u64, len: u64) -> io::Result<()> {
        self.file.punch(at, len)
    }

    fn sync_data(&self) -> io::Result<()> {
        (self.watch.0)();
        self.file.sync_data()
    }

    fn sync_all(&self) -> io::Result<()> {
        self.file.sync_all()
    }

    fn map(&self, capacity: u64) -> io::Result<Arc<dyn Map>> {
        self.file.map(capacity)
    }
}
