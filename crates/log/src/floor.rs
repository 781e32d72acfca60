//! FLOOR: the proof of what was durable, one file for a data directory.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use flowstone_disk::{Disk, File, OpenMode};
use flowstone_format::{
    FLOOR_BLOCK_LEN, FLOOR_HEADER_LEN, FLOOR_NAME, FLOOR_SLOT_LEN, FLOOR_SLOTS_PER_BLOCK,
    FloorSlot, PartitionId, check_floor_header, floor_header, floor_slot_positions,
};

use crate::error::LogError;

/// The disk writes whole sectors.
const SECTOR_BYTES: usize = 512;

/// Whether the file was there when it was opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FloorState {
    /// It was there.
    Present,
    /// It was made: right in a new data directory, worth a warning in an old one.
    Created,
}

/// The file with two slots a partition, of which the one with the greater counter holds.
#[derive(Debug)]
pub struct Floor {
    file: Arc<dyn File>,
    path: PathBuf,
}

impl Floor {
    /// Opens the file in `data_dir`, or makes it.
    ///
    /// # Errors
    /// When the disk fails, or when the file is not one that this version can read.
    pub fn open(disk: &Arc<dyn Disk>, data_dir: &Path) -> Result<(Self, FloorState), LogError> {
        let path = data_dir.join(FLOOR_NAME);
        match disk.open(&path, OpenMode::ReadWrite) {
            Ok(file) => {
                let floor = Self { file, path };
                if floor.is_unfinished()? {
                    floor.write_header()?;
                    return Ok((floor, FloorState::Created));
                }
                floor.check_header()?;
                // A failed sync may have left the header in the cache alone, where no later sync
                // would write it: it is written again, unchanged, as records above the floor are.
                match floor.write_header() {
                    // Only a file system that copies on write has no space for what is there.
                    Err(error @ LogError::DiskFull { .. }) => {
                        tracing::warn!(%error, "the header of FLOOR could not be written again");
                    }
                    written => written?,
                }
                Ok((floor, FloorState::Present))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let file = disk
                    .open(&path, OpenMode::CreateNew)
                    .map_err(LogError::io("create", &path))?;
                let floor = Self { file, path };
                floor.write_header()?;
                disk.sync_dir(data_dir)
                    .map_err(LogError::io("sync", data_dir))?;
                Ok((floor, FloorState::Created))
            }
            Err(error) => Err(LogError::io("open", &path)(error)),
        }
    }

    /// Opens the file without a right to change it, for tools; `None` when there is none.
    ///
    /// # Errors
    /// As [`Floor::open`].
    pub fn open_read_only(disk: &Arc<dyn Disk>, data_dir: &Path) -> Result<Option<Self>, LogError> {
        let path = data_dir.join(FLOOR_NAME);
        match disk.open(&path, OpenMode::Read) {
            Ok(file) => {
                let floor = Self { file, path };
                floor.check_header()?;
                Ok(Some(floor))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(LogError::io("open", &path)(error)),
        }
    }

    /// The newest slot of a partition. A slot that does not decode was being written when the
    /// power went; the other one holds.
    ///
    /// # Errors
    /// A read error: it is never taken for an empty slot.
    pub fn get(&self, partition: PartitionId) -> Result<Option<FloorSlot>, LogError> {
        let len = self.len()?;
        let mut newest: Option<FloorSlot> = None;
        for at in floor_slot_positions(partition) {
            if at + FLOOR_SLOT_LEN as u64 > len {
                continue;
            }
            let mut bytes = [0; FLOOR_SLOT_LEN];
            self.file
                .read_exact_at(&mut bytes, at)
                .map_err(LogError::io("read", &self.path))?;
            match FloorSlot::decode(&bytes, partition) {
                Ok(Some(slot)) if newest.as_ref().is_none_or(|n| slot.counter > n.counter) => {
                    newest = Some(slot);
                }
                Ok(_) => {}
                Err(error) => tracing::warn!(%partition, %error, "a FLOOR slot does not decode"),
            }
        }
        Ok(newest)
    }

    /// The greatest id of a partition that has a slot, readable or not.
    ///
    /// # Errors
    /// A read error.
    pub fn highest(&self) -> Result<Option<PartitionId>, LogError> {
        let len = self.len()?;
        let blocks = len
            .saturating_sub(FLOOR_HEADER_LEN)
            .div_ceil(FLOOR_BLOCK_LEN);
        for block in (0..blocks).rev() {
            for number in (0..FLOOR_SLOTS_PER_BLOCK).rev() {
                let partition = PartitionId::new(block * FLOOR_SLOTS_PER_BLOCK + number);
                for at in floor_slot_positions(partition) {
                    let mut bytes = [0; FLOOR_SLOT_LEN];
                    if at + FLOOR_SLOT_LEN as u64 > len {
                        continue;
                    }
                    self.file
                        .read_exact_at(&mut bytes, at)
                        .map_err(LogError::io("read", &self.path))?;
                    if bytes != [0; FLOOR_SLOT_LEN] {
                        return Ok(Some(partition));
                    }
                }
            }
        }
        Ok(None)
    }

    /// Writes the newest slot of a partition over its older one; durable only after [`Floor::sync`].
    /// The counter is set here.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn put(&self, slot: FloorSlot) -> Result<(), LogError> {
        let counter = self.get(slot.partition)?.map_or(0, |old| old.counter) + 1;
        let slot = FloorSlot { counter, ..slot };
        let places = floor_slot_positions(slot.partition);
        let at = places[usize::from(counter % 2 == 0)];
        self.file
            .write_all_at(&slot.encode(), at)
            .map_err(LogError::io("write", &self.path))
    }

    /// Makes all slots durable.
    ///
    /// # Errors
    /// [`LogError::SyncFailed`], which has to end the process.
    pub fn sync(&self) -> Result<(), LogError> {
        self.file.sync_data().map_err(LogError::sync(&self.path))
    }

    fn len(&self) -> Result<u64, LogError> {
        self.file.len().map_err(LogError::io("measure", &self.path))
    }

    fn read_header(&self) -> Result<Vec<u8>, LogError> {
        let len = self.len()?.min(FLOOR_HEADER_LEN);
        let mut bytes = vec![0; usize::try_from(len).expect("a small number")];
        self.file
            .read_exact_at(&mut bytes, 0)
            .map_err(LogError::io("read", &self.path))?;
        Ok(bytes)
    }

    /// Whether the header was never whole: its write failed, or the power went before the sync. Some
    /// of its sectors are missing or still zero, and no slot follows. Such a file claims nothing.
    fn is_unfinished(&self) -> Result<bool, LogError> {
        if self.len()? > FLOOR_HEADER_LEN {
            return Ok(false);
        }
        let (found, whole) = (self.read_header()?, floor_header());
        let mut sectors = found.chunks(SECTOR_BYTES).zip(whole.chunks(SECTOR_BYTES));
        let none_is_foreign = sectors
            .all(|(found, whole)| whole.starts_with(found) || found.iter().all(|&byte| byte == 0));
        Ok(none_is_foreign && found != whole)
    }

    fn check_header(&self) -> Result<(), LogError> {
        check_floor_header(&self.read_header()?).map_err(|source| LogError::Header {
            path: self.path.clone(),
            source,
        })
    }

    fn write_header(&self) -> Result<(), LogError> {
        self.file
            .write_all_at(&floor_header(), 0)
            .map_err(LogError::io("write", &self.path))?;
        self.file
            .sync_all()
            .map_err(LogError::io("sync", &self.path))
    }
}
