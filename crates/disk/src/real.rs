//! The real disk: Linux system calls through std and rustix, maps through memmap2.

mod direct;
mod file;
mod freed_memory;
mod kept;
mod map;
mod open_files;

use std::fs;
use std::io;
use std::path::Path;
use std::sync::Arc;

use crate::{DirEntry, Disk, File, Lock, OpenMode};

pub use freed_memory::keep_freed_memory;
pub use open_files::{is_out_of_open_files, maps_limit, open_files_limit, raise_open_files_limit};

/// The file systems of this machine.
#[derive(Clone, Copy, Debug, Default)]
pub struct RealDisk;

impl Disk for RealDisk {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn File>> {
        // std opens close-on-exec, and `create_new` is O_CREAT | O_EXCL.
        let mut options = fs::OpenOptions::new();
        match mode {
            OpenMode::ReadDirect => return Ok(Arc::new(direct::DirectFile::open(path)?)),
            OpenMode::Read => options.read(true),
            OpenMode::ReadWrite => options.read(true).write(true),
            OpenMode::CreateNew => options.read(true).write(true).create_new(true),
        };
        Ok(Arc::new(file::RealFile::new(options.open(path)?)))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn remove_dir_all(&self, path: &Path) -> io::Result<()> {
        fs::remove_dir_all(path)
    }

    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        fs::create_dir_all(path)
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        match open_dir(path) {
            Err(error) if is_out_of_open_files(&error) => kept::sync_instead(path, error),
            dir => dir?.sync_all(),
        }
    }

    fn sync_all(&self, path: &Path) -> io::Result<()> {
        kept::sync_all(path)
    }

    fn list(&self, path: &Path) -> io::Result<Vec<DirEntry>> {
        let mut entries = Vec::new();
        for entry in fs::read_dir(path)? {
            let entry = entry?;
            let Ok(name) = entry.file_name().into_string() else {
                continue;
            };
            let file_type = entry.file_type()?;
            let is_dir = file_type.is_dir() || (file_type.is_symlink() && entry.path().is_dir());
            entries.push(DirEntry { name, is_dir });
        }
        entries.sort();
        Ok(entries)
    }

    fn free_bytes(&self, path: &Path) -> io::Result<u64> {
        let stat = rustix::fs::statvfs(path)?;
        Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn Lock>> {
        let file = fs::OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)?;
        kept::keep(path)?;
        // flock(LOCK_EX | LOCK_NB): it belongs to the open file, so the kernel lets go when the
        // process ends.
        file.try_lock()?;
        Ok(Box::new(RealLock { _file: file }))
    }
}

/// fsync of a file opened by mistake in place of its directory would succeed and make no name
/// durable.
fn open_dir(path: &Path) -> io::Result<fs::File> {
    let dir = fs::File::open(path)?;
    if dir.metadata()?.is_dir() {
        Ok(dir)
    } else {
        Err(io::ErrorKind::NotADirectory.into())
    }
}

/// The lock is the open file: closing it lets go.
#[derive(Debug)]
struct RealLock {
    _file: fs::File,
}

impl Lock for RealLock {}
