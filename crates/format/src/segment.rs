//! The header of a segment file: 4,096 bytes before its frames.

use uuid::Uuid;

use crate::error::HeaderError;
use crate::layout::{self, Field, Kind};
use crate::offset::{Generation, Offset, PartitionId};

/// The length of a segment's header in bytes; the first frame begins here.
pub const SEGMENT_HEADER_LEN: u64 = 4096;
/// What a segment file begins with: `FLSS`.
pub const SEGMENT_MAGIC: [u8; 4] = *b"FLSS";
/// The version of the segment format.
pub const SEGMENT_VERSION: u16 = 1;

const LEN: usize = SEGMENT_HEADER_LEN as usize;

const KIND: Kind = Kind {
    what: "segment header",
    magic: SEGMENT_MAGIC,
    version: SEGMENT_VERSION,
};

mod at {
    crate::layout::fields! {
        MAGIC 0 4, VERSION 4 2, RESERVED_A 6 2, FEATURES 8 8, PARTITION 16 8, ID 24 16,
        GENERATION 40 8, BASE_OFFSET 48 8, SALT 56 8, CAPACITY 64 8, CREATED_MS 72 8,
        RESERVED_B 80 4012, CRC 4092 4,
    }
}

/// What a segment file says about itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SegmentHeader {
    /// The partition that the segment belongs to.
    pub partition: PartitionId,
    /// The segment's own id.
    pub id: Uuid,
    /// The partition's generation that began with this segment.
    pub generation: Generation,
    /// Offset of its first record.
    pub base_offset: Offset,
    /// Random bits that each frame's checksum begins with. Never sent to clients.
    pub salt: u64,
    /// The size in bytes that the file never exceeds.
    pub capacity: u64,
    /// When it was made, Unix milliseconds.
    pub created_ms: i64,
}

impl SegmentHeader {
    /// The fields in order.
    pub const LAYOUT: &[Field] = at::ALL;

    /// The 4,096 bytes that a segment file begins with.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = vec![0; LEN];
        KIND.put_head(&mut out);
        at::PARTITION.put(&mut out, self.partition.get().to_le_bytes());
        at::ID.put(&mut out, self.id.into_bytes());
        at::GENERATION.put(&mut out, self.generation.get().to_le_bytes());
        at::BASE_OFFSET.put(&mut out, self.base_offset.get().to_le_bytes());
        at::SALT.put(&mut out, self.salt.to_le_bytes());
        at::CAPACITY.put(&mut out, self.capacity.to_le_bytes());
        at::CREATED_MS.put(&mut out, self.created_ms.to_le_bytes());
        layout::seal(&mut out);
        out
    }

    /// Reads the header that `bytes` begins with. Returns it and its CRC, which is
    /// the first frame's prev_header_crc.
    pub fn decode(bytes: &[u8]) -> Result<(Self, u32), HeaderError> {
        let bytes = &bytes[..bytes.len().min(LEN)];
        KIND.check_whole(bytes, LEN)?;
        KIND.reserved(bytes, at::RESERVED_B)?;
        let header = Self {
            partition: PartitionId::new(at::PARTITION.u64(bytes)),
            id: Uuid::from_bytes(at::ID.bytes16(bytes)),
            generation: Generation::new(at::GENERATION.u64(bytes)),
            base_offset: Offset::new(at::BASE_OFFSET.u64(bytes)),
            salt: at::SALT.u64(bytes),
            capacity: at::CAPACITY.u64(bytes),
            created_ms: at::CREATED_MS.i64(bytes),
        };
        if header.capacity <= SEGMENT_HEADER_LEN {
            return Err(KIND.invalid(format!("capacity {} has no room", header.capacity)));
        }
        Ok((header, at::CRC.u32(bytes)))
    }
}
