//! One of each structure to the letter. What is on people's disks stays readable:
//! a change here needs a new version, not new bytes in this file.
//!
//! The bytes were put together from docs/format.md alone, not by this crate.

use std::fmt::Write;
use std::slice::from_ref;

use flowstone_format::{
    BatchMeta, FloorSlot, Generation, Identity, IndexEntry, Location, Manifest, Offset,
    PartitionId, Position, ProducerEntry, ProducerId, ProducerSequence, ProducerSnapshot,
    RecordLimits, SegmentEntry, SegmentHeader, SegmentIndex, SegmentState, build_batch,
    floor_header,
};
use uuid::Uuid;

const TIME_MS: i64 = 1_700_000_000_000;
const SALT: u64 = 0x8877_6655_4433_2211;

/// 32 bytes a line.
fn hex(bytes: &[u8]) -> String {
    let mut out = String::new();
    for line in bytes.chunks(32) {
        for byte in line {
            write!(out, "{byte:02x}").unwrap();
        }
        out.push('\n');
    }
    out
}

fn lines(lines: &[&str]) -> String {
    lines.iter().map(|line| format!("{line}\n")).collect()
}

/// Asserts that `bytes` are `begin`, zeros, and the checksum `crc`.
fn assert_padded(bytes: &[u8], begin: &[&str], crc: &str) {
    let (body, stored_crc) = bytes.split_at(bytes.len() - 4);
    let used = begin.iter().map(|line| line.len() / 2).sum();
    let (body, padding) = body.split_at(used);
    assert_eq!(hex(body), lines(begin));
    assert!(padding.iter().all(|&byte| byte == 0));
    assert_eq!(hex(stored_crc), lines(&[crc]));
}

fn id(first: u8) -> [u8; 16] {
    std::array::from_fn(|i| first + i as u8)
}

fn uuid(first: u8) -> Uuid {
    Uuid::from_bytes(id(first))
}

#[test]
fn frame() {
    // One record with the value "v", and nothing else.
    let request = [0x0A, 0x03, 0x12, 0x01, b'v'];
    let meta = BatchMeta {
        base_offset: Offset::new(42),
        leader_epoch: 3,
        entry_index: 7,
        append_ms: TIME_MS,
        producer_id: id(0x10),
        sequence: 5,
        producer_epoch: 6,
        routing_count: 8,
        client_crc: 0xC1C2_C3C4,
    };
    let mut out = Vec::new();
    let limits = RecordLimits::default();
    let runs = from_ref(&(0..5));
    let mut header = build_batch(&mut out, &request, runs, &meta, &limits).unwrap();
    header.durable_upto = Position::new(4096);
    header.prev_header_crc = 0xA1A2_A3A4;
    let crc = header.encode(SALT, Position::new(4224), &mut out);
    assert_eq!(crc, 0xB8AA_2CA9);
    assert_eq!(
        hex(&out),
        lines(&[
            "464c534201008000000000008e0000000e00000036435af02a00000000000000",
            "0100000001000000030000000000000007000000000000000068e5cf8b010000",
            "0068e5cf8b010000101112131415161718191a1b1c1d1e1f0500000000000000",
            "06000000080000000e000000c4c3c2c10010000000000000a4a3a2a1a92caab8",
            "0a0c1201762080d095ffbc31782a",
        ])
    );
}

#[test]
fn segment_header() {
    let header = SegmentHeader {
        partition: PartitionId::new(9),
        id: uuid(0x20),
        generation: Generation::new(2),
        base_offset: Offset::new(42),
        salt: SALT,
        capacity: 256 << 20,
        created_ms: TIME_MS,
    };
    let bytes = header.encode();
    assert_eq!(bytes.len(), 4096);
    let begin = [
        "464c535301000000000000000000000009000000000000002021222324252627",
        "28292a2b2c2d2e2f02000000000000002a000000000000001122334455667788",
        "00000010000000000068e5cf8b010000",
    ];
    assert_padded(&bytes, &begin, "9fabd484");
}

fn two_segments() -> Manifest {
    let sealed = SegmentEntry {
        id: uuid(0x20),
        generation: Generation::new(1),
        base_offset: Offset::new(38),
        start_offset: Offset::new(40),
        end_offset: Offset::new(42),
        end_position: Position::new(5000),
        first_epoch: 1,
        last_epoch: 2,
        first_index: 5,
        last_index: 6,
        salt: SALT,
        header_crc: 0xB1B2_B3B4,
        last_header_crc: 0xB5B6_B7B8,
        max_timestamp_ms: TIME_MS,
        last_append_ms: TIME_MS + 1,
        location: Location::Local,
        state: SegmentState::Sealed,
        producers_crc: 0,
    };
    let active = SegmentEntry {
        id: uuid(0x30),
        generation: Generation::new(2),
        base_offset: Offset::new(42),
        start_offset: Offset::new(42),
        end_offset: Offset::ZERO,
        end_position: Position::ZERO,
        first_epoch: 3,
        last_epoch: 0,
        first_index: 7,
        last_index: 0,
        salt: SALT,
        header_crc: 0xC1C2_C3C4,
        last_header_crc: 0,
        max_timestamp_ms: 0,
        last_append_ms: 0,
        location: Location::Local,
        state: SegmentState::Active,
        producers_crc: 0,
    };
    Manifest {
        partition: PartitionId::new(9),
        generation: Generation::new(2),
        log_start_offset: Offset::new(40),
        segments: vec![sealed, active],
    }
}

#[test]
fn manifest() {
    assert_eq!(
        hex(&two_segments().encode()),
        lines(&[
            "464c534d01000000000000000000000009000000000000000200000000000000",
            "2800000000000000020000000000000000000000000000000000000000000000",
            "202122232425262728292a2b2c2d2e2f01000000000000002600000000000000",
            "28000000000000002a0000000000000088130000000000000100000000000000",
            "0200000000000000050000000000000006000000000000001122334455667788",
            "0068e5cf8b0100000168e5cf8b010000b4b3b2b1b8b7b6b50102000000000000",
            "303132333435363738393a3b3c3d3e3f02000000000000002a00000000000000",
            "2a00000000000000000000000000000000000000000000000300000000000000",
            "0000000000000000070000000000000000000000000000001122334455667788",
            "00000000000000000000000000000000c4c3c2c1000000000101000000000000",
            "2111839f",
        ])
    );
}

/// Four bytes that were zero in the MANIFESTs before there were producer snapshots.
#[test]
fn manifest_with_a_producer_snapshot() {
    let mut manifest = two_segments();
    manifest.segments[1].producers_crc = 0xD1D2_D3D4;
    let bytes = manifest.encode();
    let before = two_segments().encode();
    assert_eq!(bytes[..316], before[..316]);
    assert_eq!(hex(&bytes[316..]), lines(&["d4d3d2d159f1a0fb"]));
}

#[test]
fn producer_snapshot() {
    let sequence =
        |sequence, base_offset, record_count, client_crc, routing_count| ProducerSequence {
            sequence,
            base_offset: Offset::new(base_offset),
            record_count,
            client_crc,
            routing_count,
        };
    let snapshot = ProducerSnapshot {
        partition: PartitionId::new(9),
        segment: uuid(0x20),
        base_offset: Offset::new(42),
        lost_upto_ms: Some(TIME_MS - 1),
        producers: vec![
            ProducerEntry {
                id: ProducerId::from_bytes(id(0x50)).unwrap(),
                epoch: 6,
                last_append_ms: TIME_MS,
                dropped: 0,
                sequences: vec![sequence(3, 40, 2, 0xC1C2_C3C4, 12)],
            },
            ProducerEntry {
                id: ProducerId::from_bytes(id(0x60)).unwrap(),
                epoch: -1,
                last_append_ms: TIME_MS + 1,
                dropped: 7,
                sequences: vec![
                    sequence(8, 30, 1, 0xD1D2_D3D4, 12),
                    sequence(10, 38, 1, 0xE1E2_E3E4, 24),
                ],
            },
        ],
    };
    let (bytes, crc) = snapshot.encode();
    assert_eq!(
        hex(&bytes),
        lines(&[
            "464c535001000000000000000000000009000000000000002021222324252627",
            "28292a2b2c2d2e2f2a00000000000000ff67e5cf8b0100000200000000000000",
            "505152535455565758595a5b5c5d5e5f0068e5cf8b0100000000000000000000",
            "06000000010000000300000000000000280000000000000002000000c4c3c2c1",
            "0c000000606162636465666768696a6b6c6d6e6f0168e5cf8b01000007000000",
            "00000000ffffffff0200000008000000000000001e0000000000000001000000",
            "d4d3d2d10c0000000a00000000000000260000000000000001000000e4e3e2e1",
            "18000000768b2a4f",
        ])
    );
    assert_eq!(crc, 0x4f2a_8b76);
    assert_eq!(ProducerSnapshot::decode(&bytes), Ok((snapshot, crc)));
}

#[test]
fn floor() {
    let slot = FloorSlot {
        partition: PartitionId::new(9),
        generation: Generation::new(2),
        offset: Offset::new(43),
        position: Position::new(4370),
        counter: 77,
    };
    let begin = [
        "464c534c01000000000000000000000009000000000000000200000000000000",
        "2b0000000000000012110000000000004d00000000000000",
    ];
    assert_padded(&slot.encode(), &begin, "f85916b8");

    let header = floor_header();
    assert_eq!(header.len(), 4096);
    assert_padded(&header, &["464c5346010000000000000000000000"], "6e55317c");
}

#[test]
fn index() {
    let mut index = SegmentIndex::new();
    index.push(IndexEntry {
        offset: Offset::new(42),
        position: Position::new(4096),
        max_timestamp_before_ms: i64::MIN,
    });
    index.push(IndexEntry {
        offset: Offset::new(43),
        position: Position::new(4242),
        max_timestamp_before_ms: TIME_MS,
    });
    assert_eq!(
        hex(&index.encode(uuid(0x20))),
        lines(&[
            "464c5358010000000000000000000000202122232425262728292a2b2c2d2e2f",
            "02000000000000002a0000000000000000100000000000000000000000000080",
            "2b0000000000000092100000000000000068e5cf8b01000035c0e24f",
        ])
    );
}

#[test]
fn identity() {
    let identity = Identity {
        cluster_id: uuid(0x40),
        directory_id: uuid(0x50),
        created_ms: TIME_MS,
    };
    assert_eq!(
        hex(&identity.encode()),
        lines(&[
            "464c5349010000000000000000000000404142434445464748494a4b4c4d4e4f",
            "505152535455565758595a5b5c5d5e5f0068e5cf8b0100000000000010dfeaa9",
        ])
    );
}
