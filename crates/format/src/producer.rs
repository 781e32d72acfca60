//! What a frame says of the producer that sent it.

use std::fmt;
use std::ops::Range;

use crate::frame::{FrameHeader, FrameKind};
use crate::offset::Offset;

/// How many sequences of one producer a partition remembers.
pub const PRODUCER_WINDOW: usize = 1024;

/// A producer, as frames name it: the first 16 bytes of the BLAKE3 hash of the id that it chose.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ProducerId([u8; 16]);

impl ProducerId {
    /// Of the id that a client sends.
    pub fn of(id: &str) -> Self {
        let hash = blake3::hash(id.as_bytes());
        let (first, _) = hash
            .as_bytes()
            .split_first_chunk()
            .expect("a hash has 32 bytes");
        Self(*first)
    }

    /// From the bytes in a frame; `None` when they are all zero, which is no producer.
    pub fn from_bytes(bytes: [u8; 16]) -> Option<Self> {
        (bytes != [0; 16]).then_some(Self(bytes))
    }

    /// The bytes as they stand in a frame.
    pub const fn into_bytes(self) -> [u8; 16] {
        self.0
    }
}

impl fmt::Display for ProducerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", u128::from_be_bytes(self.0))
    }
}

impl fmt::Debug for ProducerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ProducerId({self})")
    }
}

/// What a partition remembers of one request of a producer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProducerSequence {
    /// The producer's number of the request, at least 1.
    pub sequence: i64,
    /// Offset of its first record in this partition.
    pub base_offset: Offset,
    /// How many records it has in this partition, at least 1.
    pub record_count: u32,
    /// CRC-32 of these records as the client sent them.
    pub client_crc: u32,
    /// How many partitions the topic had when the request was routed.
    pub routing_count: u32,
}

impl FrameHeader {
    /// The producer of the frame, and what is to be remembered of the request, also when its records
    /// were compacted away since.
    pub fn producer(&self) -> Option<(ProducerId, ProducerSequence)> {
        let tells = matches!(self.kind, FrameKind::Data | FrameKind::Empty)
            && self.sequence >= 1
            && self.offset_span >= 1;
        let id = ProducerId::from_bytes(self.producer_id).filter(|_| tells)?;
        let sequence = ProducerSequence {
            sequence: self.sequence,
            base_offset: self.base_offset,
            // Compaction lowers record_count, never the span.
            record_count: self.offset_span,
            client_crc: self.client_crc,
            routing_count: self.routing_count,
        };
        Some((id, sequence))
    }
}

/// The CRC-32 of one partition's records as the client sent them: `runs` are their places in `request`.
pub fn client_crc(request: &[u8], runs: &[Range<usize>]) -> u32 {
    let mut crc = crc32fast::Hasher::new();
    for run in runs {
        crc.update(&request[run.clone()]);
    }
    crc.finalize()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_the_first_half_of_its_hash() {
        // The first test vector that the authors of BLAKE3 publish: of no bytes.
        let id = ProducerId::of("");
        assert_eq!(id.to_string(), "af1349b9f5f9a1a6a0404dea36dcc949");
        assert_eq!(ProducerId::from_bytes(id.into_bytes()), Some(id));
        assert_eq!(ProducerId::from_bytes([0; 16]), None);
        assert_ne!(ProducerId::of("a"), ProducerId::of("b"));
        assert_eq!(format!("{id:?}"), format!("ProducerId({id})"));
    }

    #[test]
    fn the_runs_are_summed_up_as_if_they_were_one() {
        let request = b"0123456789";
        let whole = crc32fast::hash(b"01236789");
        assert_eq!(client_crc(request, &[0..4, 6..10]), whole);
        assert_eq!(client_crc(request, &[]), 0);
    }
}
