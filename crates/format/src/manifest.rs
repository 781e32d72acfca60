//! MANIFEST: which segments a partition's log is made of.

use uuid::Uuid;

use crate::error::HeaderError;
use crate::layout::{self, CRC_LEN, Field, Kind};
use crate::offset::{Generation, Offset, PartitionId, Position};
use crate::segment::SEGMENT_HEADER_LEN;

/// The length of MANIFEST's header in bytes; entries follow.
pub const MANIFEST_HEADER_LEN: usize = 64;
/// The length of one segment's entry in bytes.
pub const MANIFEST_ENTRY_LEN: usize = 128;
/// What MANIFEST begins with: `FLSM`.
pub const MANIFEST_MAGIC: [u8; 4] = *b"FLSM";
/// The version of MANIFEST.
pub const MANIFEST_VERSION: u16 = 1;

const KIND: Kind = Kind {
    what: "MANIFEST",
    magic: MANIFEST_MAGIC,
    version: MANIFEST_VERSION,
};

mod at {
    crate::layout::fields! {
        MAGIC 0 4, VERSION 4 2, RESERVED_A 6 2, FEATURES 8 8, PARTITION 16 8, GENERATION 24 8,
        LOG_START_OFFSET 32 8, SEGMENT_COUNT 40 4, RESERVED_B 44 20,
    }
}

mod entry_at {
    crate::layout::fields! {
        ID 0 16, GENERATION 16 8, BASE_OFFSET 24 8, START_OFFSET 32 8, END_OFFSET 40 8,
        END_POSITION 48 8, FIRST_EPOCH 56 8, LAST_EPOCH 64 8, FIRST_INDEX 72 8, LAST_INDEX 80 8,
        SALT 88 8, MAX_TIMESTAMP_MS 96 8, LAST_APPEND_MS 104 8, HEADER_CRC 112 4,
        LAST_HEADER_CRC 116 4, LOCATION 120 1, STATE 121 1, RESERVED 122 2,
        PRODUCERS_CRC 124 4,
    }
}

/// Where a segment's file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Location {
    /// In the partition's directory.
    Local = 1,
}

/// Whether a segment still grows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SegmentState {
    /// It is appended to.
    Active = 1,
    /// It has ended at its end offset and position; what lies behind is not read.
    Sealed = 2,
    /// As [`SegmentState::Sealed`], but not all of it may be on disk yet, and so nothing of the segments
    /// behind it counts as durable.
    Closing = 3,
}

/// A partition's segments.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    /// The partition.
    pub partition: PartitionId,
    /// Greatest generation that any segment has had.
    pub generation: Generation,
    /// Lowest offset that may be read; trim moves it.
    pub log_start_offset: Offset,
    /// The segments in order of their offsets. At most the last is active; at most one is closing, and is not
    /// the last.
    pub segments: Vec<SegmentEntry>,
}

/// One segment in the MANIFEST.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SegmentEntry {
    /// The segment's id.
    pub id: Uuid,
    /// The generation that began with it.
    pub generation: Generation,
    /// Offset of the first record in the file.
    pub base_offset: Offset,
    /// First offset that is visible: below it the file is not read.
    pub start_offset: Offset,
    /// End of the offsets that are visible; without meaning while it is active.
    pub end_offset: Offset,
    /// End of the last frame that counts; without meaning while it is active.
    pub end_position: Position,
    /// Leader epoch of its first frame.
    pub first_epoch: u64,
    /// Leader epoch of its last frame; without meaning while it is active.
    pub last_epoch: u64,
    /// Entry index of its first frame.
    pub first_index: u64,
    /// Entry index of its last frame; while it is active, or empty, one less than the first.
    pub last_index: u64,
    /// The salt in its header.
    pub salt: u64,
    /// The CRC of its header.
    pub header_crc: u32,
    /// header_crc of its last frame; without meaning while it is active.
    pub last_header_crc: u32,
    /// Greatest timestamp of its records, Unix milliseconds; without meaning while it is active.
    pub max_timestamp_ms: i64,
    /// append_ms of its last frame; while it is active, or empty, of the last frame before it.
    pub last_append_ms: i64,
    /// Where the file is.
    pub location: Location,
    /// Whether it still grows.
    pub state: SegmentState,
    /// The CRC of the producer snapshot beside it; 0 when there was nothing to tell at its base, and
    /// there is no file.
    pub producers_crc: u32,
}

impl Manifest {
    /// The fields of the header in order.
    pub const LAYOUT: &[Field] = at::ALL;

    /// The bytes of the file.
    pub fn encode(&self) -> Vec<u8> {
        let count = u32::try_from(self.segments.len()).expect("fewer than 2^32 segments");
        let entries_len = self.segments.len() * MANIFEST_ENTRY_LEN;
        let mut out = vec![0; MANIFEST_HEADER_LEN + entries_len + CRC_LEN];
        KIND.put_head(&mut out);
        at::PARTITION.put(&mut out, self.partition.get().to_le_bytes());
        at::GENERATION.put(&mut out, self.generation.get().to_le_bytes());
        at::LOG_START_OFFSET.put(&mut out, self.log_start_offset.get().to_le_bytes());
        at::SEGMENT_COUNT.put(&mut out, count.to_le_bytes());
        let slots = out[MANIFEST_HEADER_LEN..].chunks_exact_mut(MANIFEST_ENTRY_LEN);
        for (segment, slot) in self.segments.iter().zip(slots) {
            segment.encode(slot);
        }
        layout::seal(&mut out);
        out
    }

    /// Reads a whole file.
    pub fn decode(bytes: &[u8]) -> Result<Self, HeaderError> {
        KIND.check(bytes)?;
        KIND.need(bytes, MANIFEST_HEADER_LEN + CRC_LEN)?;
        KIND.reserved(bytes, at::RESERVED_B)?;
        let entries = KIND.entries(
            &bytes[MANIFEST_HEADER_LEN..],
            at::SEGMENT_COUNT.u32(bytes),
            MANIFEST_ENTRY_LEN,
        )?;
        let mut manifest = Self {
            partition: PartitionId::new(at::PARTITION.u64(bytes)),
            generation: Generation::new(at::GENERATION.u64(bytes)),
            log_start_offset: Offset::new(at::LOG_START_OFFSET.u64(bytes)),
            segments: Vec::with_capacity(entries.len()),
        };
        for entry in entries {
            let segment = SegmentEntry::decode(entry)?;
            manifest.check_next(&segment)?;
            manifest.segments.push(segment);
        }
        manifest.check_closing()?;
        Ok(manifest)
    }

    /// Whether `segment` may stand behind those that are listed already.
    fn check_next(&self, segment: &SegmentEntry) -> Result<(), HeaderError> {
        let detail = if segment.generation > self.generation {
            "is of a later generation than the MANIFEST"
        } else if segment.start_offset < segment.base_offset {
            "is visible from before its base"
        } else if segment.has_ended() && segment.end_offset < segment.start_offset {
            "ends before it begins"
        } else {
            match self.segments.last() {
                Some(last) if last.state == SegmentState::Active => "stands behind an active one",
                Some(last) if segment.base_offset < last.base_offset => {
                    "has a lower base than the one before"
                }
                Some(last) if segment.start_offset < last.end_offset => {
                    "overlaps with the one before"
                }
                Some(last) if segment.generation < last.generation => {
                    "is of an earlier generation than the one before"
                }
                // Repair puts segments of the same generation behind one that it has cut.
                Some(last)
                    if segment.generation == last.generation
                        && segment.base_offset == last.base_offset =>
                {
                    "has the generation and the base of the one before"
                }
                _ => return Ok(()),
            }
        };
        Err(KIND.invalid(format!("segment {} {detail}", segment.id)))
    }

    /// Whether a segment that is closing stands where one may.
    fn check_closing(&self) -> Result<(), HeaderError> {
        let is_closing = |entry: &&SegmentEntry| entry.state == SegmentState::Closing;
        let mut closing = self.segments.iter().filter(is_closing);
        let (Some(first), second) = (closing.next(), closing.next()) else {
            return Ok(());
        };
        let detail = if second.is_some() {
            "is closing, and one behind it, too"
        } else if self.segments.last().is_some_and(|last| last.id == first.id) {
            "is closing, and none is behind it"
        } else {
            return Ok(());
        };
        Err(KIND.invalid(format!("segment {} {detail}", first.id)))
    }
}

impl SegmentEntry {
    /// The fields of an entry in order.
    pub const LAYOUT: &[Field] = entry_at::ALL;

    /// Whether nothing more is appended to it, so that all its fields mean something.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        match self.state {
            SegmentState::Active => false,
            SegmentState::Closing | SegmentState::Sealed => true,
        }
    }

    /// As it was listed when it was begun, behind `previous`.
    #[must_use]
    pub fn as_begun(&self, previous: Option<&Self>) -> Self {
        Self {
            end_offset: self.base_offset,
            end_position: Position::new(SEGMENT_HEADER_LEN),
            last_epoch: self.first_epoch,
            last_index: self.first_index.wrapping_sub(1),
            last_header_crc: self.header_crc,
            max_timestamp_ms: i64::MIN,
            last_append_ms: previous.map_or(i64::MIN, |before| before.last_append_ms),
            state: SegmentState::Active,
            ..self.clone()
        }
    }

    fn encode(&self, out: &mut [u8]) {
        entry_at::ID.put(out, self.id.into_bytes());
        entry_at::GENERATION.put(out, self.generation.get().to_le_bytes());
        entry_at::BASE_OFFSET.put(out, self.base_offset.get().to_le_bytes());
        entry_at::START_OFFSET.put(out, self.start_offset.get().to_le_bytes());
        entry_at::END_OFFSET.put(out, self.end_offset.get().to_le_bytes());
        entry_at::END_POSITION.put(out, self.end_position.get().to_le_bytes());
        entry_at::FIRST_EPOCH.put(out, self.first_epoch.to_le_bytes());
        entry_at::LAST_EPOCH.put(out, self.last_epoch.to_le_bytes());
        entry_at::FIRST_INDEX.put(out, self.first_index.to_le_bytes());
        entry_at::LAST_INDEX.put(out, self.last_index.to_le_bytes());
        entry_at::SALT.put(out, self.salt.to_le_bytes());
        entry_at::MAX_TIMESTAMP_MS.put(out, self.max_timestamp_ms.to_le_bytes());
        entry_at::LAST_APPEND_MS.put(out, self.last_append_ms.to_le_bytes());
        entry_at::HEADER_CRC.put(out, self.header_crc.to_le_bytes());
        entry_at::LAST_HEADER_CRC.put(out, self.last_header_crc.to_le_bytes());
        entry_at::LOCATION.put(out, [self.location as u8]);
        entry_at::STATE.put(out, [self.state as u8]);
        entry_at::PRODUCERS_CRC.put(out, self.producers_crc.to_le_bytes());
    }

    fn decode(bytes: &[u8]) -> Result<Self, HeaderError> {
        let id = Uuid::from_bytes(entry_at::ID.bytes16(bytes));
        let location = match entry_at::LOCATION.u8(bytes) {
            1 => Location::Local,
            other => return Err(KIND.invalid(format!("segment {id} has location {other}"))),
        };
        let state = match entry_at::STATE.u8(bytes) {
            1 => SegmentState::Active,
            2 => SegmentState::Sealed,
            3 => SegmentState::Closing,
            other => return Err(KIND.invalid(format!("segment {id} has state {other}"))),
        };
        KIND.reserved(bytes, entry_at::RESERVED)?;
        Ok(Self {
            id,
            generation: Generation::new(entry_at::GENERATION.u64(bytes)),
            base_offset: Offset::new(entry_at::BASE_OFFSET.u64(bytes)),
            start_offset: Offset::new(entry_at::START_OFFSET.u64(bytes)),
            end_offset: Offset::new(entry_at::END_OFFSET.u64(bytes)),
            end_position: Position::new(entry_at::END_POSITION.u64(bytes)),
            first_epoch: entry_at::FIRST_EPOCH.u64(bytes),
            last_epoch: entry_at::LAST_EPOCH.u64(bytes),
            first_index: entry_at::FIRST_INDEX.u64(bytes),
            last_index: entry_at::LAST_INDEX.u64(bytes),
            salt: entry_at::SALT.u64(bytes),
            header_crc: entry_at::HEADER_CRC.u32(bytes),
            last_header_crc: entry_at::LAST_HEADER_CRC.u32(bytes),
            max_timestamp_ms: entry_at::MAX_TIMESTAMP_MS.i64(bytes),
            last_append_ms: entry_at::LAST_APPEND_MS.i64(bytes),
            location,
            state,
            producers_crc: entry_at::PRODUCERS_CRC.u32(bytes),
        })
    }
}
