//! The frame header: 128 bytes before each batch, bound to its place in its segment.

use std::ops::Range;

use crate::error::FrameError;
use crate::layout::Field;
use crate::offset::{Offset, Position};

/// The length of a frame header as this version writes it, in bytes.
pub const FRAME_HEADER_LEN: usize = 128;
/// The greatest length of a frame header with extensions, in bytes.
pub const MAX_HEADER_LEN: u16 = 1024;
/// The length of the local part at the end of each header, in bytes.
pub const LOCAL_LEN: usize = 16;
/// The greatest stored payload in bytes.
pub const MAX_PAYLOAD_LEN: u32 = 8 << 20;
/// The greatest payload after decompression, in bytes.
pub const MAX_UNCOMPRESSED_LEN: u32 = 64 << 20;
/// What each frame begins with: `FLSB`.
pub const FRAME_MAGIC: [u8; 4] = *b"FLSB";
/// The version of the frame header.
pub const FRAME_VERSION: u16 = 1;

/// The shortest record, `0A 00`.
const MIN_RECORD_LEN: u64 = 2;

mod at {
    crate::layout::fields! {
        MAGIC 0 4, VERSION 4 2, HEADER_LEN 6 2, ATTRIBUTES 8 4, FRAME_LEN 12 4, PAYLOAD_LEN 16 4,
        PAYLOAD_CRC 20 4, BASE_OFFSET 24 8, OFFSET_SPAN 32 4, RECORD_COUNT 36 4, LEADER_EPOCH 40 8,
        ENTRY_INDEX 48 8, APPEND_MS 56 8, MAX_TIMESTAMP_MS 64 8, PRODUCER_ID 72 16, SEQUENCE 88 8,
        PRODUCER_EPOCH 96 4, ROUTING_COUNT 100 4, UNCOMPRESSED_LEN 104 4, CLIENT_CRC 108 4,
    }
}

/// Places in the local part, counted from its beginning.
mod local_at {
    crate::layout::fields! { DURABLE_UPTO 0 8, PREV_HEADER_CRC 8 4, HEADER_CRC 12 4 }
}

const KIND_BITS: u32 = 0x0F;
const CODEC_SHIFT: u32 = 4;
const CODEC_BITS: u32 = 0x70;
const TRANSACTIONAL_BIT: u32 = 0x80;
const KNOWN_BITS: u32 = KIND_BITS | CODEC_BITS | TRANSACTIONAL_BIT;

/// What a frame holds. Readers skip all but data.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FrameKind {
    /// Records.
    Data = 0,
    /// A marker of a transaction.
    Control = 1,
    /// An entry of the replication protocol without records.
    Raft = 2,
    /// Its records were compacted away.
    Empty = 3,
    /// Its records are lost; repair writes it.
    Gap = 4,
}

impl FrameKind {
    const ALL: [Self; 5] = [
        Self::Data,
        Self::Control,
        Self::Raft,
        Self::Empty,
        Self::Gap,
    ];
}

/// How a payload is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Codec {
    /// Not at all.
    None = 0,
    /// LZ4.
    Lz4 = 1,
    /// Zstandard.
    Zstd = 2,
}

impl Codec {
    const ALL: [Self; 3] = [Self::None, Self::Lz4, Self::Zstd];
}

/// The header of a frame. Magic, version and frame_len follow from the rest;
/// header_crc comes from `encode` and `decode`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FrameHeader {
    /// What the frame holds.
    pub kind: FrameKind,
    /// How the payload is compressed.
    pub codec: Codec,
    /// Whether the frame belongs to a transaction.
    pub transactional: bool,
    /// Length of the header in bytes, extensions and local part included.
    pub header_len: u16,
    /// Length of the stored payload in bytes.
    pub payload_len: u32,
    /// CRC-32 of the stored payload.
    pub payload_crc: u32,
    /// Offset of the first record.
    pub base_offset: Offset,
    /// How many offsets the frame covers: the next one begins at base + span.
    pub offset_span: u32,
    /// How many records there are; fewer than the span after compaction.
    pub record_count: u32,
    /// Epoch of the leader that appended it.
    pub leader_epoch: u64,
    /// Its place in the partition's sequence of frames, from 1.
    pub entry_index: u64,
    /// The broker's clock at the append, never falling; Unix milliseconds.
    pub append_ms: i64,
    /// The greatest timestamp of the records; append_ms without records.
    pub max_timestamp_ms: i64,
    /// Hash of the producer's id; zero without one.
    pub producer_id: [u8; 16],
    /// The producer's sequence number.
    pub sequence: i64,
    /// The producer's epoch.
    pub producer_epoch: i32,
    /// How many partitions the topic had when the request was routed.
    pub routing_count: u32,
    /// Length of the payload after decompression, in bytes.
    pub uncompressed_len: u32,
    /// CRC-32 of the records as the client sent them; 0 without a producer.
    pub client_crc: u32,
    /// Position in this segment up to which a sync had returned when the frame was written.
    pub durable_upto: Position,
    /// header_crc of the frame before; the segment header's CRC for the first.
    pub prev_header_crc: u32,
}

impl FrameHeader {
    /// The fields before the local part, in order.
    pub const LAYOUT: &[Field] = at::ALL;
    /// The fields of the local part, counted from its beginning.
    pub const LOCAL_LAYOUT: &[Field] = local_at::ALL;

    /// Length of header and payload in bytes.
    pub fn frame_len(&self) -> u64 {
        u64::from(self.header_len) + u64::from(self.payload_len)
    }

    /// The offset after the frame's last.
    pub fn next_offset(&self) -> Offset {
        self.base_offset + u64::from(self.offset_span)
    }

    fn attributes(&self) -> u32 {
        let transactional = if self.transactional {
            TRANSACTIONAL_BIT
        } else {
            0
        };
        self.kind as u32 | (self.codec as u32) << CODEC_SHIFT | transactional
    }

    /// Writes the header for a frame at position `at` of the segment with `salt`
    /// into the first 128 bytes of `out`, and returns the header_crc it stored.
    /// Panics when `out` is shorter or `header_len` is not 128: this version
    /// writes no extensions.
    pub fn encode(&self, salt: u64, at: Position, out: &mut [u8]) -> u32 {
        assert_eq!(
            usize::from(self.header_len),
            FRAME_HEADER_LEN,
            "frame headers are written without extensions"
        );
        let header = &mut out[..FRAME_HEADER_LEN];
        let frame_len = u32::from(self.header_len) + self.payload_len;
        at::MAGIC.put(header, FRAME_MAGIC);
        at::VERSION.put(header, FRAME_VERSION.to_le_bytes());
        at::HEADER_LEN.put(header, self.header_len.to_le_bytes());
        at::ATTRIBUTES.put(header, self.attributes().to_le_bytes());
        at::FRAME_LEN.put(header, frame_len.to_le_bytes());
        at::PAYLOAD_LEN.put(header, self.payload_len.to_le_bytes());
        at::PAYLOAD_CRC.put(header, self.payload_crc.to_le_bytes());
        at::BASE_OFFSET.put(header, self.base_offset.get().to_le_bytes());
        at::OFFSET_SPAN.put(header, self.offset_span.to_le_bytes());
        at::RECORD_COUNT.put(header, self.record_count.to_le_bytes());
        at::LEADER_EPOCH.put(header, self.leader_epoch.to_le_bytes());
        at::ENTRY_INDEX.put(header, self.entry_index.to_le_bytes());
        at::APPEND_MS.put(header, self.append_ms.to_le_bytes());
        at::MAX_TIMESTAMP_MS.put(header, self.max_timestamp_ms.to_le_bytes());
        at::PRODUCER_ID.put(header, self.producer_id);
        at::SEQUENCE.put(header, self.sequence.to_le_bytes());
        at::PRODUCER_EPOCH.put(header, self.producer_epoch.to_le_bytes());
        at::ROUTING_COUNT.put(header, self.routing_count.to_le_bytes());
        at::UNCOMPRESSED_LEN.put(header, self.uncompressed_len.to_le_bytes());
        at::CLIENT_CRC.put(header, self.client_crc.to_le_bytes());

        let (_, local) = header.split_at_mut(FRAME_HEADER_LEN - LOCAL_LEN);
        local_at::DURABLE_UPTO.put(local, self.durable_upto.get().to_le_bytes());
        local_at::PREV_HEADER_CRC.put(local, self.prev_header_crc.to_le_bytes());
        let crc = header_crc(salt, at, header);
        let (_, local) = header.split_at_mut(FRAME_HEADER_LEN - LOCAL_LEN);
        local_at::HEADER_CRC.put(local, crc.to_le_bytes());
        crc
    }

    /// Reads the header of the frame that `bytes` begins with, at position `at` of
    /// the segment with `salt`; `bytes` may be longer or shorter than the frame.
    /// Returns the header and its header_crc. Extensions are skipped.
    ///
    /// The checksum is held before anything is called unknown or contradictory,
    /// so that damage is not taken for a newer version.
    pub fn decode(bytes: &[u8], salt: u64, at: Position) -> Result<(Self, u32), FrameError> {
        let len = bytes.len();
        let magic = len.min(FRAME_MAGIC.len());
        if bytes[..magic] != FRAME_MAGIC[..magic] {
            return Err(FrameError::BadMagic);
        }
        if len < FRAME_HEADER_LEN {
            let need = FRAME_HEADER_LEN;
            return Err(FrameError::Truncated { len, need });
        }
        let header_len = at::HEADER_LEN.u16(bytes);
        within(
            "header_len",
            header_len.into(),
            FRAME_HEADER_LEN as u64,
            MAX_HEADER_LEN.into(),
        )?;
        let need = usize::from(header_len);
        if len < need {
            return Err(FrameError::Truncated { len, need });
        }
        let header = &bytes[..need];
        let local = &header[need - LOCAL_LEN..];
        let crc = local_at::HEADER_CRC.u32(local);
        if crc != header_crc(salt, at, header) {
            return Err(FrameError::BadHeaderCrc);
        }
        let found = at::VERSION.u16(header);
        if found != FRAME_VERSION {
            let known = FRAME_VERSION;
            return Err(FrameError::UnknownVersion { found, known });
        }
        let (kind, codec, transactional) = read_attributes(at::ATTRIBUTES.u32(header))?;
        let decoded = Self {
            kind,
            codec,
            transactional,
            header_len,
            payload_len: at::PAYLOAD_LEN.u32(header),
            payload_crc: at::PAYLOAD_CRC.u32(header),
            base_offset: Offset::new(at::BASE_OFFSET.u64(header)),
            offset_span: at::OFFSET_SPAN.u32(header),
            record_count: at::RECORD_COUNT.u32(header),
            leader_epoch: at::LEADER_EPOCH.u64(header),
            entry_index: at::ENTRY_INDEX.u64(header),
            append_ms: at::APPEND_MS.i64(header),
            max_timestamp_ms: at::MAX_TIMESTAMP_MS.i64(header),
            producer_id: at::PRODUCER_ID.bytes16(header),
            sequence: at::SEQUENCE.i64(header),
            producer_epoch: at::PRODUCER_EPOCH.i32(header),
            routing_count: at::ROUTING_COUNT.u32(header),
            uncompressed_len: at::UNCOMPRESSED_LEN.u32(header),
            client_crc: at::CLIENT_CRC.u32(header),
            durable_upto: Position::new(local_at::DURABLE_UPTO.u64(local)),
            prev_header_crc: local_at::PREV_HEADER_CRC.u32(local),
        };
        decoded.check(at::FRAME_LEN.u32(header))?;
        Ok((decoded, crc))
    }

    /// Gives a frame another place: stamps the local part of the header that `frame` begins with
    /// anew, for position `at` of the segment with `salt`, and returns the header_crc it stored. The
    /// logical part, extensions among it, stays as it is.
    ///
    /// Panics when `frame` is shorter than its header, which has to have been decoded before.
    pub fn restamp(
        frame: &mut [u8],
        salt: u64,
        at: Position,
        durable_upto: Position,
        prev_header_crc: u32,
    ) -> u32 {
        let header_len = usize::from(at::HEADER_LEN.u16(frame));
        let header = &mut frame[..header_len];
        let (_, local) = header.split_at_mut(header_len - LOCAL_LEN);
        local_at::DURABLE_UPTO.put(local, durable_upto.get().to_le_bytes());
        local_at::PREV_HEADER_CRC.put(local, prev_header_crc.to_le_bytes());
        let crc = header_crc(salt, at, header);
        let (_, local) = header.split_at_mut(header_len - LOCAL_LEN);
        local_at::HEADER_CRC.put(local, crc.to_le_bytes());
        crc
    }

    /// The header of a gap: a frame without payload over offsets whose records are lost. It has the
    /// index of the last frame that was lost, which may be more than one after the frame before.
    ///
    /// Panics when there is no offset, or more than fit into a u32.
    pub fn gap(offsets: Range<Offset>, epoch: u64, entry_index: u64, append_ms: i64) -> Self {
        let span = u32::try_from(offsets.end - offsets.start).expect("a gap's offsets fit");
        assert!(span > 0, "a gap has offsets");
        Self {
            kind: FrameKind::Gap,
            codec: Codec::None,
            transactional: false,
            header_len: FRAME_HEADER_LEN as u16,
            payload_len: 0,
            payload_crc: 0,
            base_offset: offsets.start,
            offset_span: span,
            record_count: 0,
            leader_epoch: epoch,
            entry_index,
            append_ms,
            max_timestamp_ms: append_ms,
            producer_id: [0; 16],
            sequence: 0,
            producer_epoch: 0,
            routing_count: 0,
            uncompressed_len: 0,
            client_crc: 0,
            durable_upto: Position::ZERO,
            prev_header_crc: 0,
        }
    }

    /// Whether the fields agree with each other and with the limits.
    fn check(&self, frame_len: u32) -> Result<(), FrameError> {
        let payload_len = u64::from(self.payload_len);
        within("payload_len", payload_len, 0, MAX_PAYLOAD_LEN.into())?;
        let uncompressed_len = u64::from(self.uncompressed_len);
        let max = MAX_UNCOMPRESSED_LEN.into();
        within("uncompressed_len", uncompressed_len, 0, max)?;
        let span = u64::from(self.offset_span);
        let detail = if u64::from(frame_len) != self.frame_len() {
            "frame_len is not the sum of header_len and payload_len"
        } else if self.codec == Codec::None && uncompressed_len != payload_len {
            "uncompressed_len is not payload_len, and there is no codec"
        } else if self.record_count > self.offset_span {
            "record_count is greater than offset_span"
        } else if self.offset_span == 0 && self.kind != FrameKind::Raft {
            "offset_span is 0, and the frame is not of kind raft"
        } else if self.kind == FrameKind::Data && (payload_len == 0 || self.record_count == 0) {
            "a data frame without records"
        } else if self.kind == FrameKind::Data
            && u64::from(self.record_count) * MIN_RECORD_LEN > uncompressed_len
        {
            "record_count is greater than the payload has room for"
        } else if self
            .base_offset
            .checked_add(span)
            .is_none_or(|next| next > Offset::MAX)
        {
            "the offsets are greater than an int64"
        } else {
            return Ok(());
        };
        Err(FrameError::Invalid { detail })
    }

    /// Holds a payload against the header's length and CRC.
    pub fn check_payload(&self, payload: &[u8]) -> Result<(), FrameError> {
        let (len, expected) = (payload.len(), self.payload_len);
        if len as u64 != u64::from(expected) {
            return Err(FrameError::PayloadLength { len, expected });
        }
        if crc32fast::hash(payload) != self.payload_crc {
            return Err(FrameError::BadPayloadCrc);
        }
        Ok(())
    }
}

fn read_attributes(attributes: u32) -> Result<(FrameKind, Codec, bool), FrameError> {
    let bits = attributes & !KNOWN_BITS;
    if bits != 0 {
        return Err(FrameError::UnknownAttributes { bits });
    }
    let kind = attributes & KIND_BITS;
    let codec = (attributes & CODEC_BITS) >> CODEC_SHIFT;
    let transactional = attributes & TRANSACTIONAL_BIT != 0;
    match (
        FrameKind::ALL.get(kind as usize),
        Codec::ALL.get(codec as usize),
    ) {
        (Some(&kind), Some(&codec)) => Ok((kind, codec, transactional)),
        (None, _) => Err(FrameError::UnknownKind { kind: kind as u8 }),
        (_, None) => Err(FrameError::UnknownCodec { codec: codec as u8 }),
    }
}

fn within(field: &'static str, value: u64, min: u64, max: u64) -> Result<(), FrameError> {
    if (min..=max).contains(&value) {
        return Ok(());
    }
    Err(FrameError::BadLength {
        field,
        value,
        min,
        max,
    })
}

/// The CRC of a header in its place: one of another segment, or moved inside its
/// own, does not fit.
fn header_crc(salt: u64, at: Position, header: &[u8]) -> u32 {
    let mut crc = crc32fast::Hasher::new();
    crc.update(&salt.to_le_bytes());
    crc.update(&at.get().to_le_bytes());
    crc.update(&header[..header.len() - local_at::HEADER_CRC.len]);
    crc.finalize()
}
