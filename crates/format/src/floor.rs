//! FLOOR: two slots a partition that prove up to where its log was durable.

use crate::error::HeaderError;
use crate::layout::{self, Field, Kind};
use crate::offset::{Generation, Offset, PartitionId, Position};

/// The length of FLOOR's header in bytes; the first block of slots begins here.
pub const FLOOR_HEADER_LEN: u64 = 4096;
/// The length of a slot in bytes: one sector, written whole or not at all.
pub const FLOOR_SLOT_LEN: usize = 512;
/// How many partitions share a block.
pub const FLOOR_SLOTS_PER_BLOCK: u64 = 64;
/// The length of a block in bytes: the first slots of its partitions, then the second ones.
pub const FLOOR_BLOCK_LEN: u64 = 2 * FLOOR_SLOTS_PER_BLOCK * FLOOR_SLOT_LEN as u64;
/// What FLOOR begins with: `FLSF`.
pub const FLOOR_HEADER_MAGIC: [u8; 4] = *b"FLSF";
/// What a slot begins with: `FLSL`.
pub const FLOOR_SLOT_MAGIC: [u8; 4] = *b"FLSL";
/// The version of FLOOR's header and slots.
pub const FLOOR_VERSION: u16 = 1;

const HEADER: Kind = Kind {
    what: "FLOOR header",
    magic: FLOOR_HEADER_MAGIC,
    version: FLOOR_VERSION,
};

const SLOT: Kind = Kind {
    what: "FLOOR slot",
    magic: FLOOR_SLOT_MAGIC,
    version: FLOOR_VERSION,
};

mod header_at {
    crate::layout::fields! {
        MAGIC 0 4, VERSION 4 2, RESERVED_A 6 2, FEATURES 8 8, RESERVED_B 16 4076, CRC 4092 4,
    }
}

mod at {
    crate::layout::fields! {
        MAGIC 0 4, VERSION 4 2, RESERVED_A 6 2, FEATURES 8 8, PARTITION 16 8, GENERATION 24 8,
        OFFSET 32 8, POSITION 40 8, COUNTER 48 8, RESERVED_B 56 452, CRC 508 4,
    }
}

/// One value of a partition's durable floor: all before it was synced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FloorSlot {
    /// The partition.
    pub partition: PartitionId,
    /// The active segment that `position` lies in.
    pub generation: Generation,
    /// The offset after the last durable one.
    pub offset: Offset,
    /// The end of the last durable frame in its segment.
    pub position: Position,
    /// Of a partition's two slots the one with the greater counter holds.
    pub counter: u64,
}

impl FloorSlot {
    /// The fields in order.
    pub const LAYOUT: &[Field] = at::ALL;
    /// The fields of FLOOR's header in order.
    pub const HEADER_LAYOUT: &[Field] = header_at::ALL;

    /// The bytes of the slot.
    pub fn encode(&self) -> [u8; FLOOR_SLOT_LEN] {
        let mut out = [0; FLOOR_SLOT_LEN];
        SLOT.put_head(&mut out);
        at::PARTITION.put(&mut out, self.partition.get().to_le_bytes());
        at::GENERATION.put(&mut out, self.generation.get().to_le_bytes());
        at::OFFSET.put(&mut out, self.offset.get().to_le_bytes());
        at::POSITION.put(&mut out, self.position.get().to_le_bytes());
        at::COUNTER.put(&mut out, self.counter.to_le_bytes());
        layout::seal(&mut out);
        out
    }

    /// Reads the slot of `partition` that `bytes` begins with. None when it is all
    /// zero: never written.
    pub fn decode(bytes: &[u8], partition: PartitionId) -> Result<Option<Self>, HeaderError> {
        SLOT.need(bytes, FLOOR_SLOT_LEN)?;
        let bytes = &bytes[..FLOOR_SLOT_LEN];
        if bytes.iter().all(|&byte| byte == 0) {
            return Ok(None);
        }
        SLOT.check(bytes)?;
        SLOT.reserved(bytes, at::RESERVED_B)?;
        let slot = Self {
            partition: PartitionId::new(at::PARTITION.u64(bytes)),
            generation: Generation::new(at::GENERATION.u64(bytes)),
            offset: Offset::new(at::OFFSET.u64(bytes)),
            position: Position::new(at::POSITION.u64(bytes)),
            counter: at::COUNTER.u64(bytes),
        };
        if slot.partition != partition {
            let found = slot.partition;
            return Err(SLOT.invalid(format!("partition {found} where {partition} belongs")));
        }
        Ok(Some(slot))
    }
}

/// Where the two slots of a partition begin in FLOOR, in bytes. They lie half a
/// block (32 KiB) apart, so that one bad spot of the medium does not take both.
///
/// Panics for ids that no file is large enough for.
pub fn floor_slot_positions(partition: PartitionId) -> [u64; 2] {
    let block = partition.get() / FLOOR_SLOTS_PER_BLOCK;
    let slot = partition.get() % FLOOR_SLOTS_PER_BLOCK;
    let first = block
        .checked_mul(FLOOR_BLOCK_LEN)
        .and_then(|at| at.checked_add(FLOOR_HEADER_LEN + slot * FLOOR_SLOT_LEN as u64))
        .expect("partition ids are counted up from 0 and stay far below 2^53");
    [first, first + FLOOR_BLOCK_LEN / 2]
}

/// The 4,096 bytes that FLOOR begins with.
pub fn floor_header() -> Vec<u8> {
    let mut out = vec![0; FLOOR_HEADER_LEN as usize];
    HEADER.put_head(&mut out);
    layout::seal(&mut out);
    out
}

/// Checks the header that FLOOR begins with.
pub fn check_floor_header(bytes: &[u8]) -> Result<(), HeaderError> {
    let len = FLOOR_HEADER_LEN as usize;
    let bytes = &bytes[..bytes.len().min(len)];
    HEADER.check_whole(bytes, len)?;
    HEADER.reserved(bytes, header_at::RESERVED_B)
}
