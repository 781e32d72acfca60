//! One partition as it runs: its log, the requests that wait for it, and whether it takes any.

mod errors;
mod fullness;
mod queue;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};

use flowstone_disk::Env;
use flowstone_format::{
    FloorSlot, Offset, PARTITIONS_DIR, PartitionId, Position, partition_dir_name,
};
use flowstone_log::{
    Damage, Log, LogConfig, LogError, LogReader, OpenSegments, ProducerBudget, ReadBatch, ReadLimit,
};

use self::errors::corrupt;
use self::fullness::Fullness;
use self::queue::Queue;
use crate::append::Unanswered;
use crate::listeners::{Listener, Listeners, Listening, News};
use crate::metadata::FIRST_TOPIC_PARTITION;
use crate::producers::RoutedBefore;
use crate::{Error, PartitionInfo};

/// So many places of damage are told of one partition; who sees them needs no more.
const MAX_TOLD: usize = 100;

/// What a partition is called.
#[derive(Clone, Debug)]
pub(crate) struct Label {
    /// The topic's name, or that of an internal log.
    pub(crate) topic: Arc<str>,
    /// The partition's number in its topic.
    pub(crate) partition: u32,
    /// Whether this is one of the broker's own logs, whose writes may not fail with the outcome
    /// unknown: what was replayed and what is in memory would part.
    pub(crate) internal: bool,
}

/// One partition.
#[derive(Debug)]
pub(crate) struct Partition {
    id: PartitionId,
    label: Label,
    /// `None` when the partition could not be opened.
    reader: Option<LogReader>,
    /// `None` when it could not be opened, could not be reopened, or was deleted; then there is a
    /// refusal.
    log: Mutex<Option<Log>>,
    /// Why nothing is appended any more, for ever. Damage that is found later is the log's own to
    /// tell.
    refusal: OnceLock<Error>,
    /// The places of damage that were told, each once.
    told: Mutex<Vec<(PathBuf, Position)>>,
    listeners: Listeners,
    queue: Queue,
    unanswered: Unanswered,
    segment_bytes: AtomicU64,
    fullness: Fullness,
}

impl Partition {
    /// Opens a partition's log, which remembers producers, and keeps segments open, within what it
    /// shares with others.
    pub(crate) fn open_log(
        env: &Env,
        data_dir: &Path,
        id: PartitionId,
        floor: Result<Option<FloorSlot>, LogError>,
        segment_bytes: u64,
        (budget, open): (&Arc<ProducerBudget>, &Arc<OpenSegments>),
    ) -> Result<Log, LogError> {
        let dir = data_dir.join(PARTITIONS_DIR).join(partition_dir_name(id));
        let config = log_config(id, segment_bytes);
        Log::open_within(env, &dir, id, floor?, config, budget, open)
    }

    /// A partition whose log was opened, or could not be: then it is offline, which is not an error
    /// of the broker.
    pub(crate) fn new(
        id: PartitionId,
        opened: Result<Log, LogError>,
        segment_bytes: u64,
        label: Label,
    ) -> Self {
        let refusal = OnceLock::new();
        let log = match opened {
            Ok(log) => Some(log),
            Err(error) => {
                tracing::error!(
                    topic = %label.topic, partition = label.partition, id = id.get(), %error,
                    "a partition could not be opened and is offline"
                );
                let _ = refusal.set(match error {
                    LogError::TooManyOpenFiles { .. } => Error::TooManyOpenFiles,
                    error => corrupt(&label, Offset::ZERO, error.to_string()),
                });
                None
            }
        };
        let damage = log.as_ref().and_then(Log::damage).cloned();
        let partition = Self {
            id,
            reader: log.as_ref().map(Log::reader),
            log: Mutex::new(log),
            refusal,
            told: Mutex::default(),
            listeners: Listeners::default(),
            queue: Queue::default(),
            unanswered: Unanswered::default(),
            segment_bytes: AtomicU64::new(segment_bytes),
            fullness: Fullness::default(),
            label,
        };
        if let Some(damage) = damage {
            partition.tell_damage(&damage);
        }
        partition
    }

    pub(crate) fn id(&self) -> PartitionId {
        self.id
    }

    /// Its number in its topic.
    pub(crate) fn index(&self) -> u32 {
        self.label.partition
    }

    pub(crate) fn is_internal(&self) -> bool {
        self.label.internal
    }

    /// Whether its next append is the one that makes its files.
    pub(crate) fn has_no_segment(&self) -> bool {
        let empty = |reader: &LogReader| reader.segment_count() == 0;
        !self.is_internal() && self.reader.as_ref().is_some_and(empty)
    }

    /// Why nothing can be appended, if so.
    pub(crate) fn refusal(&self) -> Option<Error> {
        let damage = || self.reader.as_ref()?.damage();
        let found = |damage: Damage| corrupt(&self.label, damage.offset, damage.to_string());
        let refusal = self.refusal.get().cloned();
        refusal.or_else(|| damage().map(found))
    }

    /// Takes note of damage that somebody has found: what lies below is served, nothing is
    /// appended. Told once for each place.
    pub(crate) fn note_damage(&self, damage: &Damage) {
        let Some(reader) = &self.reader else { return };
        reader.note_damage(damage);
        self.tell_damage(damage);
    }

    /// Says what is wrong, once for each place, and wakes those who wait for records that will not
    /// come.
    pub(crate) fn tell_damage(&self, damage: &Damage) {
        let place = (damage.path.clone(), damage.position);
        let mut told = self.told.lock().expect("nothing panics while it tells");
        if told.contains(&place) || told.len() >= MAX_TOLD {
            return;
        }
        told.push(place);
        drop(told);
        let segment_end = self
            .reader
            .as_ref()
            .and_then(|r| r.segment_end(damage.offset));
        tracing::error!(
            topic = %self.label.topic, partition = self.label.partition, id = self.id.get(),
            offset = damage.offset.get(), file = %damage.path.display(),
            position = damage.position.get(), detail = damage.detail,
            segment_end = segment_end.map(Offset::get),
            "a partition is damaged: what lies below is served, nothing is appended"
        );
        self.wake_readers();
    }

    /// From now on nothing is appended.
    pub(crate) fn refuse(&self, error: Error) {
        let _ = self.refusal.set(error);
    }

    /// Lets go of the log, whose files are about to be removed or cannot be believed any more.
    pub(crate) fn close(&self, why: Error) {
        self.refuse(why);
        *self.log() = None;
    }

    /// The single writer. Held while a group is written, but not while it is synced.
    pub(crate) fn log(&self) -> MutexGuard<'_, Option<Log>> {
        self.log
            .lock()
            .expect("whoever panics with a log in hand ends the process")
    }

    /// What segments to come are made with.
    pub(crate) fn log_config(&self) -> LogConfig {
        log_config(self.id, self.segment_bytes.load(Ordering::Relaxed))
    }

    pub(crate) fn set_segment_bytes(&self, bytes: u64) {
        self.segment_bytes.store(bytes, Ordering::Relaxed);
    }

    /// From how many bytes on records are refused; `None`: never.
    pub(crate) fn set_full_bytes(&self, bytes: Option<u64>) {
        self.fullness.set_limit(bytes);
    }

    /// Why records are refused until there is room, if so.
    pub(crate) fn full(&self) -> Option<Error> {
        self.fullness.limit()?;
        self.full_at(self.reader.as_ref()?.size_bytes())
    }

    /// As [`full`](Self::full), where the log holds so many bytes.
    pub(crate) fn full_at(&self, bytes: u64) -> Option<Error> {
        let limit = self.fullness.limit()?;
        (bytes >= limit).then(|| Error::TopicFull {
            topic: self.label.topic.to_string(),
            partition: self.index(),
            limit,
        })
    }

    /// Notes that somebody should look for room. False if that was noted before.
    pub(crate) fn want_room(&self) -> bool {
        self.fullness.want_room()
    }

    /// From here on a wish for room is a new one.
    pub(crate) fn look_for_room(&self) {
        self.fullness.look_for_room();
    }

    /// The name of its topic.
    pub(crate) fn topic_name(&self) -> &str {
        &self.label.topic
    }

    /// Tells all who read it that there may be more to read, or nothing more ever.
    pub(crate) fn wake_readers(&self) {
        self.listeners.tell();
    }

    /// Lets a listener hear of it.
    pub(crate) fn listen(&self, listener: &Arc<Listener>) -> Listening {
        self.listeners.add(listener, News::Partition(self.index()))
    }

    /// Adds what its log, if there is one, remembers that was routed by another number of partitions.
    pub(crate) fn routed_otherwise(
        &self,
        log: Option<&Log>,
        count: u32,
        routed: &mut RoutedBefore,
    ) {
        for (id, sequence, count) in log.into_iter().flat_map(|log| log.routed_otherwise(count)) {
            routed.note(id, sequence, count);
        }
    }

    /// The requests that wait to be appended.
    pub(crate) fn queue(&self) -> &Queue {
        &self.queue
    }

    /// Who waits for its next sync.
    pub(crate) fn unanswered(&self) -> &Unanswered {
        &self.unanswered
    }

    /// The first offset there is.
    pub(crate) fn log_start_offset(&self) -> u64 {
        self.reader
            .as_ref()
            .map_or(0, |reader| reader.log_start_offset().get())
    }

    /// The end of what is durable, also behind damage, exclusive.
    pub(crate) fn durable_end(&self) -> u64 {
        self.reader
            .as_ref()
            .map_or(0, |reader| reader.durable_end().get())
    }

    /// The end of what may be read, exclusive. Damage cuts it short.
    pub(crate) fn high_watermark(&self) -> u64 {
        self.reader
            .as_ref()
            .map_or(0, |reader| reader.high_watermark().get())
    }

    /// Fails if the partition could not be opened.
    pub(crate) fn check_readable(&self) -> Result<(), Error> {
        self.reader().map(|_| ())
    }

    /// Reads records from an offset on. Blocks.
    pub(crate) fn read(&self, from: u64, limit: &ReadLimit) -> Result<ReadBatch, Error> {
        let reader = self.reader()?;
        let read = reader.read(Offset::new(from), limit);
        if let Some(damage) = reader.damage() {
            self.tell_damage(&damage);
        }
        let batch = read.map_err(|error| self.read_error(error))?;
        match self.damage_at(from) {
            Some(damage) if batch.record_count == 0 => Err(damage),
            _ => Ok(batch),
        }
    }

    /// The same of what is in memory, without waiting for the disk; `None` where [`read`](Self::read) has to
    /// find out.
    pub(crate) fn read_resident(&self, from: u64, limit: &ReadLimit) -> Option<ReadBatch> {
        let reader = self.reader.as_ref()?;
        let batch = reader.read_resident(Offset::new(from), limit)?;
        (batch.record_count > 0).then_some(batch)
    }

    /// The lowest offset whose record is of this time or later. Blocks.
    pub(crate) fn offset_for_time(&self, timestamp_ms: i64) -> Result<Option<u64>, Error> {
        let reader = self.reader()?;
        let found = reader.offset_for_time(timestamp_ms);
        if let Some(damage) = reader.damage() {
            self.tell_damage(&damage);
        }
        found
            .map(|found| found.map(Offset::get))
            .map_err(|error| self.read_error(error))
    }

    /// The damage that ends what can be read, if an offset has come to it.
    pub(crate) fn damage_at(&self, offset: u64) -> Option<Error> {
        let refusal = self.refusal()?;
        match refusal {
            Error::CorruptSegment {
                offset: damaged, ..
            } if offset >= damaged => Some(refusal),
            _ => None,
        }
    }

    /// How it stands.
    pub(crate) fn info(&self) -> PartitionInfo {
        let partition = self.index();
        match &self.reader {
            Some(reader) => PartitionInfo {
                partition,
                log_start_offset: reader.log_start_offset().get(),
                high_watermark: reader.high_watermark().get(),
                size_bytes: reader.size_bytes(),
                segment_count: u32::try_from(reader.segment_count()).unwrap_or(u32::MAX),
                offline_reason: self.refusal().map(|refusal| refusal.to_string()),
            },
            None => PartitionInfo {
                partition,
                log_start_offset: 0,
                high_watermark: 0,
                size_bytes: 0,
                segment_count: 0,
                offline_reason: self.refusal().map(|refusal| refusal.to_string()),
            },
        }
    }

    fn reader(&self) -> Result<&LogReader, Error> {
        self.reader.as_ref().ok_or_else(|| {
            self.refusal()
                .expect("a partition without a reader has a refusal")
        })
    }
}

/// The internal logs grow slowly, and on a full disk in the space of the reserve: they take little
/// of it ahead.
const INTERNAL_RESERVE_BYTES: u64 = 256 << 10;

/// The index of a segment has about so many entries at most, of 24 bytes: it is in memory for as long as the segment is
/// active.
const INDEX_ENTRIES_MAX: u64 = 8_192;

fn log_config(id: PartitionId, segment_bytes: u64) -> LogConfig {
    let default = LogConfig::default();
    LogConfig {
        segment_bytes,
        index_interval_bytes: default
            .index_interval_bytes
            .max(segment_bytes / INDEX_ENTRIES_MAX),
        max_reserve_bytes: if id.get() < FIRST_TOPIC_PARTITION {
            INTERNAL_RESERVE_BYTES
        } else {
            default.max_reserve_bytes
        },
        roll_unsynced_bytes: default.roll_unsynced_bytes.min(segment_bytes / 8),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_segments_have_no_larger_index() {
        let interval_of = |bytes| log_config(PartitionId::new(99), bytes).index_interval_bytes;
        assert_eq!(interval_of(1 << 20), 32 << 10);
        assert_eq!(interval_of(256 << 20), 32 << 10);
        assert_eq!(interval_of(1 << 30), 128 << 10);
    }
}
