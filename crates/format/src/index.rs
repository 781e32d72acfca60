//! The sparse index of one segment by offset and by time: derived, never evidence.

use uuid::Uuid;

use crate::error::HeaderError;
use crate::layout::{self, CRC_LEN, Field, Kind};
use crate::offset::{Offset, Position};

/// The length of an index file's header in bytes.
pub const INDEX_HEADER_LEN: usize = 40;
/// The length of an entry in bytes.
pub const INDEX_ENTRY_LEN: usize = 24;
/// What an index file begins with: `FLSX`.
pub const INDEX_MAGIC: [u8; 4] = *b"FLSX";
/// The version of the index format.
pub const INDEX_VERSION: u16 = 1;

const KIND: Kind = Kind {
    what: "index",
    magic: INDEX_MAGIC,
    version: INDEX_VERSION,
};

mod at {
    crate::layout::fields! {
        MAGIC 0 4, VERSION 4 2, RESERVED_A 6 2, FEATURES 8 8, SEGMENT 16 16, ENTRY_COUNT 32 4,
        RESERVED_B 36 4,
    }
}

mod entry_at {
    crate::layout::fields! { OFFSET 0 8, POSITION 8 8, MAX_TIMESTAMP_BEFORE_MS 16 8 }
}

/// A place in a segment where reading can begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IndexEntry {
    /// Offset of a frame's first record.
    pub offset: Offset,
    /// Where this frame begins.
    pub position: Position,
    /// The greatest timestamp of all records before this frame in the segment, in
    /// Unix milliseconds; `i64::MIN` when there are none.
    pub max_timestamp_before_ms: i64,
}

impl IndexEntry {
    /// The fields in order.
    pub const LAYOUT: &[Field] = entry_at::ALL;

    /// Whether the entry may stand behind `before`.
    fn follows(&self, before: &Self) -> bool {
        self.offset > before.offset
            && self.position > before.position
            && self.max_timestamp_before_ms >= before.max_timestamp_before_ms
    }
}

/// Entries of one segment. Offsets and positions ascend, and times never fall.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SegmentIndex {
    entries: Vec<IndexEntry>,
}

impl SegmentIndex {
    /// The fields of the file's header in order.
    pub const LAYOUT: &[Field] = at::ALL;

    /// An empty index.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds an entry. Panics unless its offset and position are greater, and its
    /// time is not less, than those of the last.
    pub fn push(&mut self, entry: IndexEntry) {
        if let Some(last) = self.entries.last() {
            assert!(
                entry.follows(last),
                "index entries ascend: {entry:?} after {last:?}"
            );
        }
        self.entries.push(entry);
    }

    /// All entries in order.
    pub fn entries(&self) -> &[IndexEntry] {
        &self.entries
    }

    /// The last entry at or before `offset`; None when reading has to begin at the
    /// segment's first frame.
    pub fn position_for_offset(&self, offset: Offset) -> Option<IndexEntry> {
        let after = self.entries.partition_point(|e| e.offset <= offset);
        after.checked_sub(1).map(|i| self.entries[i])
    }

    /// The last entry that all records before are earlier than `timestamp_ms`: the
    /// first record at or after that time lies behind it. None when reading has to
    /// begin at the segment's first frame.
    pub fn position_for_time(&self, timestamp_ms: i64) -> Option<IndexEntry> {
        let after = self
            .entries
            .partition_point(|e| e.max_timestamp_before_ms < timestamp_ms);
        after.checked_sub(1).map(|i| self.entries[i])
    }

    /// The bytes of the index file of `segment`.
    pub fn encode(&self, segment: Uuid) -> Vec<u8> {
        let count =
            u32::try_from(self.entries.len()).expect("a segment has fewer than 2^32 frames");
        let mut out = vec![0; INDEX_HEADER_LEN + self.entries.len() * INDEX_ENTRY_LEN + CRC_LEN];
        KIND.put_head(&mut out);
        at::SEGMENT.put(&mut out, segment.into_bytes());
        at::ENTRY_COUNT.put(&mut out, count.to_le_bytes());
        let slots = out[INDEX_HEADER_LEN..].chunks_exact_mut(INDEX_ENTRY_LEN);
        for (entry, slot) in self.entries.iter().zip(slots) {
            entry_at::OFFSET.put(slot, entry.offset.get().to_le_bytes());
            entry_at::POSITION.put(slot, entry.position.get().to_le_bytes());
            entry_at::MAX_TIMESTAMP_BEFORE_MS
                .put(slot, entry.max_timestamp_before_ms.to_le_bytes());
        }
        layout::seal(&mut out);
        out
    }

    /// Reads a whole index file, which must be that of `segment`.
    pub fn decode(bytes: &[u8], segment: Uuid) -> Result<Self, HeaderError> {
        KIND.check(bytes)?;
        KIND.need(bytes, INDEX_HEADER_LEN + CRC_LEN)?;
        KIND.reserved(bytes, at::RESERVED_B)?;
        let found = Uuid::from_bytes(at::SEGMENT.bytes16(bytes));
        if found != segment {
            return Err(KIND.invalid(format!("it belongs to segment {found}, not {segment}")));
        }
        let entries = KIND.entries(
            &bytes[INDEX_HEADER_LEN..],
            at::ENTRY_COUNT.u32(bytes),
            INDEX_ENTRY_LEN,
        )?;
        let mut index = Self {
            entries: Vec::with_capacity(entries.len()),
        };
        for slot in entries {
            let entry = IndexEntry {
                offset: Offset::new(entry_at::OFFSET.u64(slot)),
                position: Position::new(entry_at::POSITION.u64(slot)),
                max_timestamp_before_ms: entry_at::MAX_TIMESTAMP_BEFORE_MS.i64(slot),
            };
            if index
                .entries
                .last()
                .is_some_and(|last| !entry.follows(last))
            {
                return Err(KIND.invalid(format!("entries do not ascend at {}", entry.offset)));
            }
            index.entries.push(entry);
        }
        Ok(index)
    }
}
