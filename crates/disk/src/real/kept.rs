//! A file that is kept open on each file system with a lock, to sync the whole of it with.
//!
//! A descriptor hears of the write-back errors since it was opened or told of the last one, so that one
//! that is opened for the sync would not hear of an error before it. And names can be made durable with it
//! also when no more files can be opened: to sync a directory takes an open directory, and between the
//! rename of a MANIFEST and the sync of its name there is no way back. syncfs takes any file of the file
//! system, and does more than is asked for.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

/// By the number of the device. Kept for as long as the process runs: one file for each file system.
static KEPT: Mutex<BTreeMap<u64, Arc<Kept>>> = Mutex::new(BTreeMap::new());

#[derive(Debug)]
struct Kept {
    file: fs::File,
    /// Whether a sync has failed. Of those who sync at the same time only one would hear of it.
    failed: Mutex<bool>,
}

impl Kept {
    fn sync(&self) -> io::Result<()> {
        let mut failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
        if *failed {
            return Err(io::Error::other(
                "an earlier sync of the file system has failed",
            ));
        }
        // Unlike sync(2) it reports write-back errors (Linux 5.8).
        let synced = rustix::fs::syncfs(&self.file);
        *failed = synced.is_err();
        Ok(synced?)
    }
}

fn kept(device: u64) -> Option<Arc<Kept>> {
    let kept = KEPT.lock().unwrap_or_else(PoisonError::into_inner);
    kept.get(&device).map(Arc::clone)
}

/// Keeps a file of the file system that holds `path`, which need not exist yet.
pub(super) fn keep(path: &Path) -> io::Result<()> {
    let dir = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let device = fs::metadata(dir)?.dev();
    let mut kept = KEPT.lock().unwrap_or_else(PoisonError::into_inner);
    if let std::collections::btree_map::Entry::Vacant(vacant) = kept.entry(device) {
        vacant.insert(Arc::new(Kept {
            file: fs::File::open(dir)?,
            failed: Mutex::new(false),
        }));
    }
    Ok(())
}

/// Syncs the whole file system of a directory that cannot be opened, or fails with that error.
pub(super) fn sync_instead(dir: &Path, error: io::Error) -> io::Result<()> {
    let metadata = fs::metadata(dir)?;
    if !metadata.is_dir() {
        return Err(io::ErrorKind::NotADirectory.into());
    }
    match kept(metadata.dev()) {
        Some(kept) => kept.sync(),
        None => Err(error),
    }
}

/// Syncs the whole file system that holds `path`.
pub(super) fn sync_all(path: &Path) -> io::Result<()> {
    match kept(fs::metadata(path)?.dev()) {
        Some(kept) => kept.sync(),
        None => Ok(rustix::fs::syncfs(fs::File::open(path)?)?),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_is_synced_by_what_is_kept_of_its_file_system() {
        let dir = tempfile::tempdir().unwrap();
        let out = || io::Error::from_raw_os_error(24);
        keep(&dir.path().join("LOCK")).unwrap();
        sync_instead(dir.path(), out()).unwrap();
        let missing = sync_instead(&dir.path().join("absent"), out()).unwrap_err();
        assert_eq!(missing.kind(), io::ErrorKind::NotFound);
        let elsewhere = sync_instead(Path::new("/proc"), out()).unwrap_err();
        assert_eq!(elsewhere.raw_os_error(), Some(24), "of no other one");
    }
}
