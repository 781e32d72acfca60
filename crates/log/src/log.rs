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
use crate::closing::Closing;
use crate::config::LogConfig;
use crate::dir::PartitionDir;
use crate::error::{Damage, LogError};
use crate::idempotence::Verdict;
use crate::open_segments::OpenSegments;
use crate::producers::{ProducerBatch, ProducerBudget, ProducerState};
use crate::reader::LogReader;
use crate::recover::{self, Recovered, empty_manifest};
use crate::shared::Shared;
use crate::spare;
use crate::syncs::Unsynced;
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
    /// Who sent it, if it is to be appended once however often it is repeated.
    pub producer: Option<ProducerBatch>,
    /// Append it only if it gets this offset.
    pub expected_offset: Option<Offset>,
}

/// Where a batch went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Appended {
    /// The offset of its first record.
    pub base_offset: Offset,
    /// How many records it has.
    pub record_count: u32,
    /// The append time that it was given, in Unix milliseconds; of a duplicate, that of the
    /// producer's last append.
    pub append_ms: i64,
    /// It had been appended before, and offset and count are those of that time. That may have been
    /// just now: as long as its frame is not synced, neither is the duplicate.
    pub duplicate: bool,
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
    /// The segment before, as long as not all of it is known to be on disk.
    pub(crate) closing: Option<Closing>,
    /// Behind the last staged frame.
    pub(crate) tail: Tail,
    /// Frames not yet handed to the operating system.
    pub(crate) staged: Vec<u8>,
    pub(crate) poisoned: bool,
    /// How often it was recovered again.
    pub(crate) reopened: u64,
    pub(crate) damage: Option<Damage>,
    /// As of the last staged frame.
    pub(crate) producers: ProducerState,
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
        let budget = Arc::new(ProducerBudget::unlimited());
        let open = Arc::new(OpenSegments::unlimited());
        Self::open_within(env, dir, partition, floor, config, &budget, &open)
    }

    /// Opens the log like [`Log::open`], and remembers producers within a budget, and keeps files
    /// open within a bound, that it shares with other logs.
    ///
    /// # Errors
    /// As [`Log::open`].
    pub fn open_within(
        env: &Env,
        dir: &Path,
        partition: PartitionId,
        floor: Option<FloorSlot>,
        config: LogConfig,
        budget: &Arc<ProducerBudget>,
        open: &Arc<OpenSegments>,
    ) -> Result<Self, LogError> {
        let dir = PartitionDir::within(Arc::clone(&env.disk), dir, Arc::clone(open));
        let recovered = recover::recover(&dir, partition, floor.as_ref(), &config, budget)?;
        let mut log = Self {
            env: env.clone(),
            dir,
            partition,
            config,
            manifest: empty_manifest(partition),
            active: None,
            closing: None,
            tail: recovered.tail,
            staged: Vec::new(),
            poisoned: false,
            reopened: 0,
            damage: None,
            producers: ProducerState::new(budget),
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
        self.reopened += 1;
        self.let_go_of_staged();
        // What this process knows to be durable counts, whatever FLOOR was told.
        let place = |slot: &FloorSlot| (slot.generation, slot.position);
        let floor = floor.into_iter().chain(self.floor()).max_by_key(place);
        // What it counts for is given back before the same is read again.
        let budget = Arc::clone(self.producers.budget());
        self.producers = ProducerState::new(&budget);
        let floor = floor.as_ref();
        let recovered = recover::recover(&self.dir, self.partition, floor, &self.config, &budget)?;
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
        self.closing = None;
        self.tail = recovered.tail;
        self.damage = recovered.damage;
        self.producers = recovered.producers;
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

    /// Bytes that all frames and headers take on disk, also those not yet synced, without space
    /// reserved ahead.
    #[must_use]
    pub fn size_bytes(&self) -> u64 {
        let active = self.active.as_ref().map_or(0, Active::unsynced_bytes);
        let closing = self.closing.as_ref().map_or(0, Closing::unsynced_bytes);
        self.reader().size_bytes() + closing + active
    }

    /// Changes the settings for the segments to come.
    pub fn set_config(&mut self, config: LogConfig) {
        self.config = config;
    }

    /// Stages one batch: gives it offsets, builds its frame and reserves space for it, in a new
    /// segment where the active one has no room. [`Log::sync`] makes it durable. A batch that its
    /// producer repeats is not staged again.
    ///
    /// # Errors
    /// [`LogError::DiskFull`], [`LogError::Record`] and those that speak of the producer or the
    /// expected offset leave the log as it was. A failed write poisons it;
    /// [`LogError::SyncFailed`] has to end the process.
    pub fn append(&mut self, batch: &Batch<'_>) -> Result<Appended, LogError> {
        self.sound()?;
        if self.staged.is_empty() {
            self.staged = spare::take();
        }
        let appended = self.stage(batch);
        if self.staged.is_empty() {
            self.let_go_of_staged();
        }
        appended
    }

    /// Lets the next one have the buffer that frames are staged in, which holds nothing that is needed.
    fn let_go_of_staged(&mut self) {
        spare::give_back(std::mem::take(&mut self.staged));
    }

    fn stage(&mut self, batch: &Batch<'_>) -> Result<Appended, LogError> {
        let client_crc = match self.judge(batch)? {
            Verdict::Duplicate(appended) => return Ok(appended),
            Verdict::New(client_crc) => client_crc,
        };
        let producer = batch.producer;
        if producer.is_some_and(|producer| self.producers.returns(producer.id)) {
            self.begin_segment()?;
        }
        let frame_start = self.staged.len();
        let meta = BatchMeta {
            base_offset: self.tail.next_offset,
            leader_epoch: self.tail.epoch,
            entry_index: self.tail.next_index,
            append_ms: self.tail.last_append_ms.max(batch.append_ms),
            producer_id: producer.map_or([0; 16], |producer| producer.id.into_bytes()),
            sequence: producer.map_or(0, |producer| producer.sequence),
            producer_epoch: producer.map_or(0, |producer| producer.epoch),
            routing_count: batch.routing_count,
            client_crc,
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
        if producer.is_some() {
            self.producers.apply(&header);
        }
        if self.staged.len() >= MAX_STAGED_BYTES {
            self.write()?;
        }
        Ok(Appended {
            base_offset: header.base_offset,
            record_count: header.record_count,
            append_ms: header.append_ms,
            duplicate: false,
        })
    }

    /// Makes room for the frame that is staged last, from `frame_start` on; returns where it is
    /// staged then. After an error the caller drops it.
    fn make_room(&mut self, frame_start: usize, frame_len: u64) -> Result<usize, LogError> {
        let limit = self.config.capacity() - SEGMENT_HEADER_LEN;
        if self.active.as_ref().is_some_and(|a| a.fits(frame_len)) {
            let active = self.active.as_mut().expect("looked at just now");
            active.make_ready(frame_len, &self.config)?;
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
        debug_assert!(self.staged.is_empty(), "the old segment was written");
        let active = self.active.as_mut().expect("it was begun just now");
        active.make_ready(frame_len, &self.config)?;
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
        self.let_go_of_staged();
        self.poisoned = written.is_err();
        written
    }

    /// Writes what is staged and syncs it.
    ///
    /// # Errors
    /// As [`Log::write`]; [`LogError::SyncFailed`] has to end the process.
    pub fn sync(&mut self) -> Result<Durable, LogError> {
        self.write()?;
        self.close()?;
        if let Some(active) = self.active.as_mut() {
            let synced = active.sync(self.tail.next_offset);
            self.poisoned = synced.is_err();
            synced?;
        }
        Ok(self.durable())
    }

    /// What was written and is not synced, to be synced while more is appended; `None` if there is
    /// nothing. What is only staged is not part of it.
    ///
    /// # Errors
    /// As [`Log::write`], when the log takes nothing.
    pub fn unsynced(&self) -> Result<Option<Unsynced>, LogError> {
        self.usable()?;
        debug_assert!(self.staged.is_empty(), "all that is staged was written");
        let closing = self.closing.as_ref().map(Closing::unsynced);
        let active = self.active.as_ref();
        let active = active.and_then(|active| active.unsynced(self.tail.next_offset));
        let parts = [closing, active];
        let any = parts.iter().any(Option::is_some);
        Ok(any.then_some(Unsynced {
            parts,
            reopened: self.reopened,
        }))
    }

    /// Takes note that a sync of this has returned. Answers with what is durable now; `None` if the
    /// log was reopened meanwhile, so that what became of the records is not known.
    ///
    /// # Errors
    /// When a segment that was closing is on disk and the MANIFEST could not say so, for want of space say: then
    /// nothing of the segment behind it is durable, and what was synced may be told once more.
    /// [`LogError::SyncFailed`] has to end the process.
    pub fn synced(&mut self, synced: &Unsynced) -> Result<Option<Durable>, LogError> {
        if self.reopened != synced.reopened || self.poisoned {
            return Ok(None);
        }
        for part in synced.parts.iter().flatten() {
            // Of a segment before these two a roll has seen to it that all is on disk.
            if let Some(closing) = self.closing.as_mut().filter(|one| one.is_of(part)) {
                closing.synced(part);
                self.seal_closed()?;
            } else if let Some(active) = self.active.as_mut()
                && active.entry.generation == part.generation
            {
                active.part_synced(part);
            }
        }
        Ok(Some(self.durable()))
    }

    /// What a sync has made durable.
    #[must_use]
    pub fn durable(&self) -> Durable {
        let offset = match (&self.closing, &self.active) {
            (Some(closing), _) => closing.durable_offset(),
            (None, Some(active)) => active.durable_offset,
            (None, None) => self.tail.next_offset,
        };
        Durable { offset }
    }

    /// Lets readers see everything below `offset`, which has to be durable.
    ///
    /// # Panics
    /// When it is not durable: a reader must never see what a power cut could take back.
    pub fn set_high_watermark(&self, offset: Offset) {
        let durable = self.durable().offset;
        assert!(
            offset <= durable,
            "a watermark of {offset} is above the durable end {durable}"
        );
        self.shared.set_high_watermark(offset);
    }

    /// What FLOOR should say of this partition now.
    #[must_use]
    pub fn floor(&self) -> Option<FloorSlot> {
        let active = match &self.closing {
            Some(closing) => Some(closing.segment()),
            None => self.active.as_ref(),
        };
        active.map(|active| FloorSlot {
            partition: self.partition,
            generation: active.entry.generation,
            offset: active.durable_offset,
            position: active.durable_end,
            counter: 0,
        })
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

#[cfg(test)]
mod tests;
