//! A partition's directory: the MANIFEST's replacement and the moves of whole files.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use flowstone_disk::{Disk, File, OpenMode};
use flowstone_format::{
    ASIDE_DIR, MANIFEST_NAME, MANIFEST_TEMP_NAME, Manifest, Offset, SegmentEntry, index_name,
    producers_name, segment_name,
};
use uuid::Uuid;

use crate::error::LogError;
use crate::open_segments::OpenSegments;

/// The directory of one partition on a disk.
#[derive(Clone, Debug)]
pub(crate) struct PartitionDir {
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) path: PathBuf,
    /// What stays open of its segments.
    pub(crate) open: Arc<OpenSegments>,
}

impl PartitionDir {
    /// A directory whose files stay open for as long as they are held.
    pub(crate) fn new(disk: Arc<dyn Disk>, path: &Path) -> Self {
        Self::within(disk, path, Arc::default())
    }

    /// A directory that shares a bound on what is open with others.
    pub(crate) fn within(disk: Arc<dyn Disk>, path: &Path, open: Arc<OpenSegments>) -> Self {
        Self {
            disk,
            path: path.to_path_buf(),
            open,
        }
    }

    pub(crate) fn manifest_path(&self) -> PathBuf {
        self.path.join(MANIFEST_NAME)
    }

    pub(crate) fn segment_path(&self, base: Offset, id: Uuid) -> PathBuf {
        self.path.join(segment_name(base, id))
    }

    pub(crate) fn index_path(&self, base: Offset, id: Uuid) -> PathBuf {
        self.path.join(index_name(base, id))
    }

    pub(crate) fn producers_path(&self, base: Offset, id: Uuid) -> PathBuf {
        self.path.join(producers_name(base, id))
    }

    /// Removes the files of a segment that the MANIFEST does not list any more.
    pub(crate) fn remove_segment(&self, entry: &SegmentEntry) -> Result<(), LogError> {
        self.remove_if_there(&self.segment_path(entry.base_offset, entry.id))?;
        self.remove_if_there(&self.index_path(entry.base_offset, entry.id))?;
        if entry.producers_crc != 0 {
            self.remove_if_there(&self.producers_path(entry.base_offset, entry.id))?;
        }
        Ok(())
    }

    /// Makes the directory, durably.
    pub(crate) fn create(&self) -> Result<(), LogError> {
        self.disk
            .create_dir_all(&self.path)
            .map_err(LogError::io("create", &self.path))?;
        let parent = self
            .path
            .parent()
            .expect("a partition's directory lies in the data directory");
        self.disk
            .sync_dir(parent)
            .map_err(LogError::io("sync", parent))
    }

    /// Names of the files, sorted; empty when there is no directory.
    pub(crate) fn file_names(&self) -> Result<Vec<String>, LogError> {
        match self.disk.list(&self.path) {
            Ok(entries) => Ok(entries
                .into_iter()
                .filter(|entry| !entry.is_dir)
                .map(|entry| entry.name)
                .collect()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            Err(error) => Err(LogError::io("list", &self.path)(error)),
        }
    }

    /// Reads a whole small file; `None` when it does not exist.
    pub(crate) fn read_file(&self, path: &Path) -> Result<Option<Vec<u8>>, LogError> {
        let file = match self.disk.open(path, OpenMode::Read) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(LogError::io("open", path)(error)),
        };
        let len = file.len().map_err(LogError::io("measure", path))?;
        let mut bytes = vec![0; usize::try_from(len).expect("a file's length fits into usize")];
        file.read_exact_at(&mut bytes, 0)
            .map_err(LogError::io("read", path))?;
        Ok(Some(bytes))
    }

    /// Replaces the MANIFEST: temporary file, fsync, rename, fsync of the directory. Until the
    /// rename a failure leaves the old one; behind it, what is on disk is unknown.
    pub(crate) fn write_manifest(&self, manifest: &Manifest) -> Result<(), LogError> {
        let temp = self.path.join(MANIFEST_TEMP_NAME);
        self.remove_if_there(&temp)?;
        self.write_new_file(&temp, &manifest.encode())?;
        self.name_manifest()?;
        self.disk
            .sync_dir(&self.path)
            .map_err(LogError::sync(&self.path))
    }

    /// Writes the temporary file of a MANIFEST, and syncs nothing.
    pub(crate) fn write_manifest_ahead(&self, manifest: &Manifest) -> Result<(), LogError> {
        let temp = self.path.join(MANIFEST_TEMP_NAME);
        self.remove_if_there(&temp)?;
        let file = self
            .disk
            .open(&temp, OpenMode::CreateNew)
            .map_err(LogError::io("create", &temp))?;
        let written = file.write_all_at(&manifest.encode(), 0);
        if written.is_err() {
            let _ = self.disk.remove_file(&temp);
        }
        written.map_err(LogError::io("write", &temp))
    }

    /// Lets the temporary file take the MANIFEST's place, and syncs nothing.
    pub(crate) fn name_manifest(&self) -> Result<(), LogError> {
        let temp = self.path.join(MANIFEST_TEMP_NAME);
        let target = self.manifest_path();
        self.disk.rename(&temp, &target).map_err(|error| {
            // The error that counts is the rename's; a temporary file left behind is removed next time.
            let _ = self.disk.remove_file(&temp);
            LogError::io("rename to", &target)(error)
        })
    }

    /// Puts a copy of a file's bytes aside, durably, before the file is replaced.
    pub(crate) fn keep_copy(&self, name: &str, bytes: &[u8]) -> Result<PathBuf, LogError> {
        let aside = self.path.join(ASIDE_DIR);
        self.disk
            .create_dir_all(&aside)
            .map_err(LogError::io("create", &aside))?;
        let copy = aside.join(name);
        self.write_new_file(&copy, bytes)?;
        for dir in [&aside, &self.path] {
            self.disk.sync_dir(dir).map_err(LogError::io("sync", dir))?;
        }
        Ok(copy)
    }

    /// Writes a file that nothing refers to yet and syncs it; a failure removes it again. The caller
    /// syncs the directory.
    pub(crate) fn write_new_file(&self, path: &Path, bytes: &[u8]) -> Result<(), LogError> {
        let file = self
            .disk
            .open(path, OpenMode::CreateNew)
            .map_err(LogError::io("create", path))?;
        let written = file
            .write_all_at(bytes, 0)
            .map_err(LogError::io("write", path))
            .and_then(|()| file.sync_all().map_err(LogError::io("sync", path)));
        if written.is_err() {
            let _ = self.disk.remove_file(path);
        }
        written
    }

    /// Writes the index file of a sealed segment. It is derived, so that a failure costs a rebuild and no more.
    pub(crate) fn write_index(&self, path: &Path, bytes: &[u8]) {
        let written = self.remove_if_there(path).and_then(|()| {
            let file = self
                .disk
                .open(path, OpenMode::CreateNew)
                .map_err(LogError::io("create", path))?;
            file.write_all_at(bytes, 0)
                .map_err(LogError::io("write", path))
        });
        if let Err(error) = written {
            tracing::warn!(%error, "an index was not written; it will be rebuilt when it is needed");
            let _ = self.disk.remove_file(path);
        }
    }

    /// Opens a file for reading and writing.
    pub(crate) fn open(&self, path: &Path) -> Result<Arc<dyn File>, LogError> {
        self.disk
            .open(path, OpenMode::ReadWrite)
            .map_err(LogError::io("open", path))
    }

    pub(crate) fn remove_if_there(&self, path: &Path) -> Result<(), LogError> {
        match self.disk.remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(LogError::io("remove", path)(error))
            }
            _ => Ok(()),
        }
    }

    /// Moves files out of the way, where nothing reads them. The caller has synced what made them unlisted.
    pub(crate) fn set_aside<'a>(
        &self,
        names: impl IntoIterator<Item = &'a str>,
    ) -> Result<(), LogError> {
        let aside = self.path.join(ASIDE_DIR);
        let mut moved = false;
        for name in names {
            self.disk
                .create_dir_all(&aside)
                .map_err(LogError::io("create", &aside))?;
            let from = self.path.join(name);
            tracing::warn!(file = %from.display(), "an unlisted file is moved aside");
            self.disk
                .rename(&from, &aside.join(name))
                .map_err(LogError::io("move aside", &from))?;
            moved = true;
        }
        if moved {
            for dir in [&aside, &self.path] {
                self.disk.sync_dir(dir).map_err(LogError::io("sync", dir))?;
            }
        }
        Ok(())
    }
}
