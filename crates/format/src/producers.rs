//! What a partition remembers of its producers as of the base of a segment: the file beside it.

use uuid::Uuid;

use crate::error::HeaderError;
use crate::layout::{self, CRC_LEN, Field, Kind};
use crate::offset::{Offset, PartitionId};
use crate::producer::{PRODUCER_WINDOW, ProducerId, ProducerSequence};

/// The length of a producer snapshot's header in bytes.
pub const PRODUCERS_HEADER_LEN: usize = 64;
/// The length of what stands before a producer's sequences, in bytes.
pub const PRODUCER_ENTRY_LEN: usize = 40;
/// The length of one sequence in bytes.
pub const PRODUCER_SEQUENCE_LEN: usize = 28;
/// What a producer snapshot begins with: `FLSP`.
pub const PRODUCERS_MAGIC: [u8; 4] = *b"FLSP";
/// The version of producer snapshots.
pub const PRODUCERS_VERSION: u16 = 1;

const KIND: Kind = Kind {
    what: "producer snapshot",
    magic: PRODUCERS_MAGIC,
    version: PRODUCERS_VERSION,
};

mod at {
    crate::layout::fields! {
        MAGIC 0 4, VERSION 4 2, RESERVED_A 6 2, FEATURES 8 8, PARTITION 16 8, SEGMENT 24 16,
        BASE_OFFSET 40 8, LOST_UPTO_MS 48 8, PRODUCER_COUNT 56 4, FILLER 60 4,
    }
}

mod entry_at {
    crate::layout::fields! {
        ID 0 16, LAST_APPEND_MS 16 8, DROPPED 24 8, EPOCH 32 4, SEQUENCE_COUNT 36 4,
    }
}

mod sequence_at {
    crate::layout::fields! {
        SEQUENCE 0 8, BASE_OFFSET 8 8, RECORD_COUNT 16 4, CLIENT_CRC 20 4, ROUTING_COUNT 24 4,
    }
}

/// The producers of a partition, as the frames below a segment's base tell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProducerSnapshot {
    /// The partition.
    pub partition: PartitionId,
    /// The segment that it belongs to.
    pub segment: Uuid,
    /// The segment's base: the end of the frames that it tells of.
    pub base_offset: Offset,
    /// Frames up to this append time may be missing, Unix milliseconds.
    pub lost_upto_ms: Option<i64>,
    /// The producers in order of their ids.
    pub producers: Vec<ProducerEntry>,
}

/// One producer in a snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProducerEntry {
    /// Who.
    pub id: ProducerId,
    /// The highest epoch in any of its frames.
    pub epoch: i32,
    /// When its last frame was appended, Unix milliseconds.
    pub last_append_ms: i64,
    /// The highest sequence that is no longer among `sequences`; 0 if there is none.
    pub dropped: i64,
    /// The highest sequences, ascending: 1 to [`PRODUCER_WINDOW`].
    pub sequences: Vec<ProducerSequence>,
}

impl ProducerSnapshot {
    /// The fields of the file's header in order.
    pub const LAYOUT: &[Field] = at::ALL;

    /// The bytes of the file, and their checksum, which is never 0.
    pub fn encode(&self) -> (Vec<u8>, u32) {
        let count = u32::try_from(self.producers.len()).expect("fewer than 2^32 producers");
        let mut out = vec![0; PRODUCERS_HEADER_LEN];
        KIND.put_head(&mut out);
        at::PARTITION.put(&mut out, self.partition.get().to_le_bytes());
        at::SEGMENT.put(&mut out, self.segment.into_bytes());
        at::BASE_OFFSET.put(&mut out, self.base_offset.get().to_le_bytes());
        let lost = self.lost_upto_ms.unwrap_or(i64::MIN);
        at::LOST_UPTO_MS.put(&mut out, lost.to_le_bytes());
        at::PRODUCER_COUNT.put(&mut out, count.to_le_bytes());
        for producer in &self.producers {
            producer.encode(&mut out);
        }
        out.resize(out.len() + CRC_LEN, 0);
        layout::seal(&mut out);
        if layout::stored_crc(&out) == 0 {
            // One bit that changes always changes the sum.
            at::FILLER.put(&mut out, 1u32.to_le_bytes());
            layout::seal(&mut out);
        }
        let crc = layout::stored_crc(&out);
        (out, crc)
    }

    /// Reads a whole file; its checksum comes with it.
    pub fn decode(bytes: &[u8]) -> Result<(Self, u32), HeaderError> {
        KIND.check(bytes)?;
        KIND.need(bytes, PRODUCERS_HEADER_LEN + CRC_LEN)?;
        let crc = layout::stored_crc(bytes);
        if crc == 0 {
            return Err(KIND.invalid("its checksum is 0, which stands for no snapshot"));
        }
        let filler = at::FILLER.u32(bytes);
        if filler != 0 && (filler != 1 || !sums_up_to_zero_without_filler(bytes)) {
            return Err(KIND.invalid(format!("filler {filler} is not needed")));
        }
        let base_offset = Offset::new(at::BASE_OFFSET.u64(bytes));
        let count = at::PRODUCER_COUNT.u32(bytes) as usize;
        let mut rest = &bytes[PRODUCERS_HEADER_LEN..bytes.len() - CRC_LEN];
        let least = PRODUCER_ENTRY_LEN + PRODUCER_SEQUENCE_LEN;
        if count > rest.len() / least {
            let have = rest.len();
            return Err(KIND.invalid(format!("{have} bytes for {count} producers")));
        }
        let mut producers: Vec<ProducerEntry> = Vec::with_capacity(count);
        for _ in 0..count {
            let (producer, behind) = ProducerEntry::decode(rest, base_offset)?;
            if producers.last().is_some_and(|last| last.id >= producer.id) {
                return Err(KIND.invalid(format!("producers do not ascend at {}", producer.id)));
            }
            producers.push(producer);
            rest = behind;
        }
        if !rest.is_empty() {
            let more = rest.len();
            return Err(KIND.invalid(format!("{more} bytes behind the last producer")));
        }
        let lost = at::LOST_UPTO_MS.i64(bytes);
        let snapshot = Self {
            partition: PartitionId::new(at::PARTITION.u64(bytes)),
            segment: Uuid::from_bytes(at::SEGMENT.bytes16(bytes)),
            base_offset,
            lost_upto_ms: (lost != i64::MIN).then_some(lost),
            producers,
        };
        Ok((snapshot, crc))
    }
}

/// Whether the checksum would be 0 if the filler were.
fn sums_up_to_zero_without_filler(bytes: &[u8]) -> bool {
    let mut sum = crc32fast::Hasher::new();
    sum.update(&bytes[..at::FILLER.at]);
    sum.update(&[0; at::FILLER.len]);
    sum.update(&bytes[PRODUCERS_HEADER_LEN..bytes.len() - CRC_LEN]);
    sum.finalize() == 0
}

impl ProducerEntry {
    /// The fields before its sequences, in order.
    pub const LAYOUT: &[Field] = entry_at::ALL;

    fn encode(&self, out: &mut Vec<u8>) {
        let begin = out.len();
        let sequences_len = self.sequences.len() * PRODUCER_SEQUENCE_LEN;
        out.resize(begin + PRODUCER_ENTRY_LEN + sequences_len, 0);
        let (entry, sequences) = out[begin..].split_at_mut(PRODUCER_ENTRY_LEN);
        let count = u32::try_from(self.sequences.len()).expect("a window is small");
        entry_at::ID.put(entry, self.id.into_bytes());
        entry_at::LAST_APPEND_MS.put(entry, self.last_append_ms.to_le_bytes());
        entry_at::DROPPED.put(entry, self.dropped.to_le_bytes());
        entry_at::EPOCH.put(entry, self.epoch.to_le_bytes());
        entry_at::SEQUENCE_COUNT.put(entry, count.to_le_bytes());
        let slots = sequences.chunks_exact_mut(PRODUCER_SEQUENCE_LEN);
        for (sequence, slot) in self.sequences.iter().zip(slots) {
            sequence.encode(slot);
        }
    }

    /// Reads the producer that `bytes` begins with; what lies behind it comes with it.
    fn decode(bytes: &[u8], end: Offset) -> Result<(Self, &[u8]), HeaderError> {
        KIND.need(bytes, PRODUCER_ENTRY_LEN)?;
        let (entry, rest) = bytes.split_at(PRODUCER_ENTRY_LEN);
        let named = entry_at::ID.bytes16(entry);
        let id =
            ProducerId::from_bytes(named).ok_or_else(|| KIND.invalid("a producer's id is zero"))?;
        let invalid = |detail: String| KIND.invalid(format!("producer {id} {detail}"));
        let count = entry_at::SEQUENCE_COUNT.u32(entry) as usize;
        if !(1..=PRODUCER_WINDOW).contains(&count) {
            return Err(invalid(format!("has {count} sequences")));
        }
        if rest.len() < count * PRODUCER_SEQUENCE_LEN {
            let have = rest.len();
            return Err(invalid(format!("has {count} sequences in {have} bytes")));
        }
        let (slots, rest) = rest.split_at(count * PRODUCER_SEQUENCE_LEN);
        let mut sequences: Vec<ProducerSequence> = Vec::with_capacity(count);
        for slot in slots.chunks_exact(PRODUCER_SEQUENCE_LEN) {
            let known = ProducerSequence::decode(slot);
            let number = known.sequence;
            let last = sequences.last().map_or(0, |last| last.sequence);
            if number <= last {
                return Err(invalid(format!("has sequence {number} behind {last}")));
            }
            let known_end = known.base_offset.checked_add(known.record_count.into());
            if known.record_count == 0 || known_end.is_none_or(|known| known > end) {
                return Err(invalid(format!(
                    "has {} records at offset {} for sequence {number}, below {end}",
                    known.record_count, known.base_offset
                )));
            }
            sequences.push(known);
        }
        let producer = Self {
            id,
            epoch: entry_at::EPOCH.i32(entry),
            last_append_ms: entry_at::LAST_APPEND_MS.i64(entry),
            dropped: entry_at::DROPPED.i64(entry),
            sequences,
        };
        let highest = producer.sequences.last().map_or(0, |last| last.sequence);
        if !(0..highest).contains(&producer.dropped) {
            let dropped = producer.dropped;
            return Err(invalid(format!(
                "has dropped {dropped}, and its highest sequence is {highest}"
            )));
        }
        Ok((producer, rest))
    }
}

impl ProducerSequence {
    /// The fields in order.
    pub const LAYOUT: &[Field] = sequence_at::ALL;

    fn encode(&self, out: &mut [u8]) {
        sequence_at::SEQUENCE.put(out, self.sequence.to_le_bytes());
        sequence_at::BASE_OFFSET.put(out, self.base_offset.get().to_le_bytes());
        sequence_at::RECORD_COUNT.put(out, self.record_count.to_le_bytes());
        sequence_at::CLIENT_CRC.put(out, self.client_crc.to_le_bytes());
        sequence_at::ROUTING_COUNT.put(out, self.routing_count.to_le_bytes());
    }

    fn decode(bytes: &[u8]) -> Self {
        Self {
            sequence: sequence_at::SEQUENCE.i64(bytes),
            base_offset: Offset::new(sequence_at::BASE_OFFSET.u64(bytes)),
            record_count: sequence_at::RECORD_COUNT.u32(bytes),
            client_crc: sequence_at::CLIENT_CRC.u32(bytes),
            routing_count: sequence_at::ROUTING_COUNT.u32(bytes),
        }
    }
}
