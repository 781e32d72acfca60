//! The single writer of a partition's log: append, write, sync, roll.

use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use flowstone_disk::Env;
use flowstone_format::{
    BatchMeta, FRAME_HEADER_LEN, FloorSlot, Manifest, Offset, PartitionId, RecordLimits,
    SEGMENT_HEADER_LEN, build_batch,
};

use crate::active::Active;
use crate::config::LogConfig;
use crate::dir::PartitionDir;
use crate::error::{Damage, LogError};
use crate::reader::LogReader;
use crate::recover::{self, Recovered, empty_manifest};
use crate::shared::Shared;
use crate::tail::Tail;

/// Frames are handed to the operating system at the latest when this much is staged.
const MAX_STAGED_BYTES: usize = 4 << 20;

/// The records of one request that go to this partition.
#[derive(Clone, Copy, Debug)]
pub struct Batch<'a> {
    /// The request's record run as the client sent it, already scanned.
    pub request: &'a [u8],
    /// Which bytes of it go here: whole records, in order.
    pub runs: &'a [Range<usize>],
    /// How many records those are.
    pub record_count: u32,
    /// The broker's clock in Unix milliseconds; the log never goes back behind the frame before.
    pub append_ms: i64,
    /// How many partitions the topic had when the request was routed.
    pub routing_count: u32,
    /// What the scan was held against.
    pub limits: &'a RecordLimits,
}

/// Where a batch went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Appended {
    /// The offset of its first record.
    pub base_offset: Offset,
    /// How many records it has.
    pub record_count: u32,
    /// The append time that it was given, in Unix milliseconds.
    pub append_ms: i64,
}

/// What a sync has made durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Durable {
    /// Everything below this offset is on disk.
    pub offset: Offset,
}

/// One partition's log. There is one writer; readers are had from [`Log::reader`].
#[derive(Debug)]
pub struct Log {
    pub(crate) env: Env,
    pub(crate) dir: PartitionDir,
    pub(crate) partition: PartitionId,
    pub(crate) config: LogConfig,
    /// What the MANIFEST on disk says, once there is one.
    pub(crate) manifest: Manifest,
    pub(crate) active: Option<Active>,
    /// Behind the last staged frame.
    pub(crate) tail: Tail,
    /// Frames not yet handed to the operating system.
    pub(crate) staged: Vec<u8>,
    pub(crate) poisoned: bool,
    pub(crate) damage: Option<Damage>,
    pub(crate) shared: Arc<Shared>,
}

impl Log {
    /// Opens the log in `dir` and recovers it. What was not acknowledged may be cut off; what was
    /// is there, or the log says that it is damaged ([`Log::damage`]) and serves what lies below.
    /// An empty partition makes no files. The caller has synced the file system before.
    ///
    /// # Errors
    /// When the disk fails, or when the files are of a newer version: then nothing was touched.
    pub fn open(
        env: &Env,
        dir: &Path,
        partition: PartitionId,
        floor: Option<FloorSlot>,
        config: LogConfig,
    ) -> Result<Self, LogError> {
        let dir = PartitionDir::new(Arc::clone(&env.disk), dir);
        let recovered = recover::recover(&dir, partition, floor.as_ref(), &config)?;
        let mut log = Self {
            env: env.clone(),
            dir,
            partition,
            config,
            manifest: empty_manifest(partition),
            active: None,
            tail: recovered.tail,
            staged: Vec::new(),
            poisoned: false,
            damage: None,
            shared: Arc::new(Shared::default()),
        };
        if let Err(error) = log.take(recovered) {
            tracing::warn!(%error, "a torn tail waits for space to be sealed off");
        }
        Ok(log)
    }

    /// Recovers again after a failed write. Readers stay valid.
    ///
    /// # Errors
    /// As [`Log::open`]; the log then stays poisoned. Also [`LogError::DiskFull`] while there is no
    /// space to seal off what a failed write left behind.
    pub fn reopen(&mut self, floor: Option<FloorSlot>) -> Result<(), LogError> {
        self.poisoned = true;
        self.staged.clear();
        // What this process knows to be durable counts, whatever FLOOR was told.
        let place = |slot: &FloorSlot| (slot.generation, slot.position);
        let floor = floor.into_iter().chain(self.floor()).max_by_key(place);
        let recovered = recover::recover(&self.dir, self.partition, floor.as_ref(), &self.config)?;
        self.take(recovered)
    }

    /// Goes on with what recovery found, and shows it to the readers.
    fn take(&mut self, recovered: Recovered) -> Result<(), LogError> {
        let end = match &recovered.damage {
            Some(damage) => damage.offset,
            None => recovered.tail.next_offset,
        };
        self.shared.reset(
            recovered.views,
            recovered.manifest.log_start_offset,
            end,
            recovered.damage.clone(),
        );
        self.manifest = recovered.manifest;
        self.active = recovered.active;
        self.tail = recovered.tail;
        self.damage = recovered.damage;
        self.poisoned = recovered.unsealed.is_some();
        recovered.unsealed.map_or(Ok(()), Err)
    }

    /// Whether nothing is taken until [`Log::reopen`] succeeds: after a failed write, or while a
    /// torn tail could not be sealed off for want of space.
    #[must_use]
    pub fn is_poisoned(&self) -> bool {
        self.poisoned
    }

    /// A reader of this log; it stays valid for as long as anyone holds it.
    #[must_use]
    pub fn reader(&self) -> LogReader {
        LogReader::new(Arc::clone(&self.shared))
    }

    /// What was found to be wrong with the partition when it was opened, if anything; then nothing
    /// is appended any more. What reads and scrubs find later, [`LogReader::damage`] tells.
    #[must_use]
    pub fn damage(&self) -> Option<&Damage> {
        self.damage.as_ref()
    }

    /// The next offset to be assigned.
    #[must_use]
    pub fn log_end_offset(&self) -> Offset {
        self.tail.next_offset
    }

    /// The first offset that has not been trimmed.
    #[must_use]
    pub fn log_start_offset(&self) -> Offset {
        self.manifest.log_start_offset
    }

    /// Changes the settings for the segments to come.
    pub fn set_config(&mut self, config: LogConfig) {
        self.config = config;
    }

    /// Stages one batch: gives it offsets, builds its frame and reserves space for it, in a new
    /// segment where the active one has no room. [`Log::sync`] makes it durable.
    ///
    /// # Errors
    /// [`LogError::DiskFull`] and [`LogError::Record`] leave the log as it was. A failed write
    /// poisons it; [`LogError::SyncFailed`] has to end the process.
    pub fn append(&mut self, batch: &Batch<'_>) -> Result<Appended, LogError> {
        self.sound()?;
        let frame_start = self.staged.len();
        let meta = BatchMeta {
            base_offset: self.tail.next_offset,
            leader_epoch: self.tail.epoch,
            entry_index: self.tail.next_index,
            append_ms: self.tail.last_append_ms.max(batch.append_ms),
            producer_id: [0; 16],
            sequence: 0,
            producer_epoch: 0,
            routing_count: batch.routing_count,
            client_crc: 0,
        };
        let built = build_batch(
            &mut self.staged,
            batch.request,
            batch.runs,
            &meta,
            batch.limits,
        );
        let header = match built {
            Ok(header) => header,
            Err(error) => {
                self.staged.truncate(frame_start);
                return Err(error.into());
            }
        };
        debug_assert_eq!(header.record_count, batch.record_count);
        let frame_start = match self.make_room(frame_start, header.frame_len()) {
            Ok(frame_start) => frame_start,
            Err(error) => {
                self.staged.truncate(frame_start.min(self.staged.len()));
                return Err(error);
            }
        };

        let active = self.active.as_mut().expect("make_room leaves one");
        let mut header = header;
        header.durable_upto = active.durable_end;
        header.prev_header_crc = self.tail.prev_header_crc;
        let frame = &mut self.staged[frame_start..];
        let header_crc = header.encode(
            active.entry.salt,
            active.staged_end,
            &mut frame[..FRAME_HEADER_LEN],
        );
        active.note_frame(&header);
        self.tail.advance(&header, header_crc);
        if self.staged.len() >= MAX_STAGED_BYTES {
            self.write()?;
        }
        Ok(Appended {
            base_offset: header.base_offset,
            record_count: header.record_count,
            append_ms: header.append_ms,
        })
    }

    /// Makes room for the frame that is staged last, from `frame_start` on; returns where it is
    /// staged then. After an error the caller drops it.
    fn make_room(&mut self, frame_start: usize, frame_len: u64) -> Result<usize, LogError> {
        let limit = self.config.capacity() - SEGMENT_HEADER_LEN;
        if self.active.as_ref().is_some_and(|a| a.fits(frame_len)) {
            let active = self.active.as_mut().expect("looked at just now");
            active.reserve(frame_len, &self.config)?;
            return Ok(frame_start);
        }
        if frame_len > limit {
            return Err(LogError::BatchTooLarge {
                bytes: frame_len,
                limit,
            });
        }
        let frame = self.staged.split_off(frame_start);
        self.begin_segment()?;
        debug_assert!(
            self.staged.is_empty(),
            "the old segment was written and synced"
        );
        let active = self.active.as_mut().expect("it was begun just now");
        active.reserve(frame_len, &self.config)?;
        self.staged = frame;
        Ok(0)
    }

    /// Hands all staged frames to the operating system.
    ///
    /// # Errors
    /// A failed write poisons the log: nothing is taken until [`Log::reopen`].
    pub fn write(&mut self) -> Result<(), LogError> {
        self.usable()?;
        if self.staged.is_empty() {
            return Ok(());
        }
        let active = self
            .active
            .as_mut()
            .expect("frames are staged for a segment");
        let written = active.write(&self.staged);
        self.staged.clear();
        self.poisoned = written.is_err();
        written
    }

    /// Writes what is staged and syncs it.
    ///
    /// # Errors
    /// As [`Log::write`]; [`LogError::SyncFailed`] has to end the process.
    pub fn sync(&mut self) -> Result<Durable, LogError> {
        self.write()?;
        if let Some(active) = self.active.as_mut() {
            let synced = active.sync(self.tail.next_offset);
            self.poisoned = synced.is_err();
            synced?;
        }
        Ok(Durable {
            offset: self.tail.next_offset,
        })
    }

    /// Lets readers see everything below `offset`, which has to be durable.
    ///
    /// # Panics
    /// When it is not durable: a reader must never see what a power cut could take back.
    pub fn set_high_watermark(&self, offset: Offset) {
        let durable = self
            .active
            .as_ref()
            .map_or(self.tail.next_offset, |active| active.durable_offset);
        assert!(
            offset <= durable,
            "a watermark of {offset} is above the durable end {durable}"
        );
        self.shared.set_high_watermark(offset);
    }

    /// What FLOOR should say of this partition now.
    #[must_use]
    pub fn floor(&self) -> Option<FloorSlot> {
        self.active.as_ref().map(|active| FloorSlot {
            partition: self.partition,
            generation: active.entry.generation,
            offset: active.durable_offset,
            position: active.durable_end,
            counter: 0,
        })
    }

    /// Seals the active segment and begins the next one. Does nothing when it holds no frame.
    ///
    /// # Errors
    /// As [`Log::append`]; for want of space the old segment stays active.
    pub fn roll(&mut self) -> Result<(), LogError> {
        self.sound()?;
        self.roll_now()
    }

    pub(crate) fn roll_now(&mut self) -> Result<(), LogError> {
        match &self.active {
            Some(active) if !active.is_empty() => self.begin_segment(),
            _ => Ok(()),
        }
    }

    /// Begins a new active segment. In this order: the old one is synced, the new file is made and
    /// synced with its name, the MANIFEST names it, and only then may anything be appended.
    fn begin_segment(&mut self) -> Result<(), LogError> {
        self.sync()?;
        if self.manifest.segments.is_empty() {
            self.dir.create()?;
        }
        let generation = self.manifest.generation.next();
        let mut tail = self.tail;
        let new = Active::create(
            &self.env,
            &self.dir,
            self.partition,
            generation,
            &tail,
            &self.config,
        )?;
        tail.prev_header_crc = new.entry.header_crc;

        let mut manifest = self.manifest.clone();
        if let Some(active) = &self.active {
            *manifest
                .segments
                .last_mut()
                .expect("the active segment is listed") = active.sealed_entry(&self.tail);
        }
        manifest.generation = generation;
        manifest.segments.push(new.entry.clone());
        if let Err(error) = self.dir.write_manifest(&manifest) {
            if !matches!(error, LogError::SyncFailed { .. }) {
                // Nothing refers to the new file; should the removal fail, the next open moves it aside.
                let _ = self.dir.disk.remove_file(&new.path);
            }
            return Err(error);
        }
        self.manifest = manifest;
        self.shared.push(Arc::clone(&new.view));
        if let Some(old) = self.active.replace(new) {
            old.finish(&self.dir);
        }
        self.tail = tail;
        Ok(())
    }

    /// Fails if the log takes nothing, after damage or a failed write.
    pub(crate) fn sound(&self) -> Result<(), LogError> {
        if let Some(damage) = self.shared.damage() {
            return Err(damage.into());
        }
        self.usable()
    }

    /// Fails if what is staged cannot be written. Damage that is found meanwhile is no reason.
    pub(crate) fn usable(&self) -> Result<(), LogError> {
        if let Some(damage) = &self.damage {
            return Err(damage.clone().into());
        }
        if self.poisoned {
            return Err(LogError::Poisoned {
                path: self.dir.path.clone(),
            });
        }
        Ok(())
    }
}
