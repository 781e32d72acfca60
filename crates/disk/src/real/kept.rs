//! A file that is kept open on each file system with a lock, so that names can be made durable also
//! when no more files can be opened.
//!
//! To sync a directory takes an open directory. Between the rename of a MANIFEST and the sync of its
//! name there is no way back, so that the sync must not fail for want of a descriptor. syncfs takes
//! any file of the file system, and does more than is asked for.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

/// By the number of the device. Kept for as long as the process runs: one file for each file system.
static KEPT: Mutex<BTreeMap<u64, fs::File>> = Mutex::new(BTreeMap::new());

/// Keeps a file of the file system that holds `path`, which need not exist yet.
pub(super) fn keep(path: &Path) -> io::Result<()> {
    let dir = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let device = fs::metadata(dir)?.dev();
    let mut kept = KEPT.lock().unwrap_or_else(PoisonError::into_inner);
    if let std::collections::btree_map::Entry::Vacant(vacant) = kept.entry(device) {
        vacant.insert(fs::File::open(dir)?);
    }
    Ok(())
}

/// Syncs the whole file system of a directory that cannot be opened, or fails with that error.
pub(super) fn sync_instead(dir: &Path, error: io::Error) -> io::Result<()> {
    let metadata = fs::metadata(dir)?;
    if !metadata.is_dir() {
        return Err(io::ErrorKind::NotADirectory.into());
    }
    let kept = KEPT.lock().unwrap_or_else(PoisonError::into_inner);
    match kept.get(&metadata.dev()) {
        Some(file) => Ok(rustix::fs::syncfs(file)?),
        None => Err(error),
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
