//! Damaged, cut and foreign bytes are errors, never panics and never other values.

use flowstone_format::{
    Codec, FRAME_HEADER_LEN, FloorSlot, FrameError, FrameHeader, FrameKind, HeaderError, Identity,
    MAX_HEADER_LEN, MAX_PAYLOAD_LEN, MAX_UNCOMPRESSED_LEN, Manifest, Offset, PartitionId, Position,
    SegmentHeader, SegmentIndex, check_floor_header, floor_header,
};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use uuid::Uuid;

use crate::{samples, targets};

type Check = Box<dyn Fn(&[u8]) -> Option<HeaderError>>;

/// One of each structure, and what decoding it says.
fn structures() -> Vec<(&'static str, Vec<u8>, Check)> {
    let mut runner = TestRunner::deterministic();
    let segment = sample(&mut runner, samples::segment_header());
    let slot = sample(&mut runner, samples::floor_slot());
    let identity = sample(&mut runner, samples::identity());
    let full = samples::manifest().prop_filter("has segments", |m| m.segments.len() > 2);
    let manifest = sample(&mut runner, full);
    let full = samples::index().prop_filter("has entries", |i| i.entries().len() > 2);
    let index = sample(&mut runner, full);
    let id = Uuid::from_bytes([1; 16]);
    let partition = slot.partition;
    vec![
        (
            "segment header",
            segment.encode(),
            Box::new(|b| SegmentHeader::decode(b).err()),
        ),
        (
            "MANIFEST",
            manifest.encode(),
            Box::new(|b| Manifest::decode(b).err()),
        ),
        (
            "FLOOR header",
            floor_header(),
            Box::new(|b| check_floor_header(b).err()),
        ),
        (
            "FLOOR slot",
            slot.encode().to_vec(),
            Box::new(move |b| FloorSlot::decode(b, partition).err()),
        ),
        (
            "index",
            index.encode(id),
            Box::new(move |b| SegmentIndex::decode(b, id).err()),
        ),
        (
            "IDENTITY",
            identity.encode(),
            Box::new(|b| Identity::decode(b).err()),
        ),
    ]
}

fn sample<S: Strategy>(runner: &mut TestRunner, strategy: S) -> S::Value {
    strategy.new_tree(runner).unwrap().current()
}

fn reseal(bytes: &mut [u8]) {
    let end = bytes.len() - 4;
    let crc = crc32fast::hash(&bytes[..end]).to_le_bytes();
    bytes[end..].copy_from_slice(&crc);
}

#[test]
fn every_flipped_byte_is_noticed() {
    for (name, bytes, check) in structures() {
        assert_eq!(check(&bytes), None, "{name} as it is");
        for at in 0..bytes.len() {
            for bits in [0x01, 0x80, 0xFF] {
                let mut flipped = bytes.clone();
                flipped[at] ^= bits;
                let expected = match at {
                    0..4 => HeaderError::BadMagic { what: name },
                    _ => HeaderError::BadCrc { what: name },
                };
                assert_eq!(check(&flipped), Some(expected), "{name}, byte {at}");
            }
        }
    }
}

#[test]
fn every_cut_is_noticed() {
    for (name, bytes, check) in structures() {
        for len in 0..bytes.len() {
            let cut = check(&bytes[..len]);
            assert!(
                matches!(
                    cut,
                    Some(HeaderError::Truncated { what, .. } | HeaderError::BadCrc { what }) if what == name
                ),
                "{name}, {len} bytes: {cut:?}"
            );
        }
    }
}

#[test]
fn a_newer_version_and_unknown_features_are_told_as_such() {
    for (what, bytes, check) in structures() {
        let mut newer = bytes.clone();
        newer[4] = 2;
        reseal(&mut newer);
        let (found, known) = (2, 1);
        let expected = HeaderError::NewerVersion { what, found, known };
        assert_eq!(check(&newer), Some(expected));

        let mut features = bytes.clone();
        features[9] = 0x80;
        reseal(&mut features);
        let bits = 0x8000;
        let expected = HeaderError::UnknownFeatures { what, bits };
        assert_eq!(check(&features), Some(expected));

        let mut reserved = bytes.clone();
        reserved[6] = 1;
        reseal(&mut reserved);
        let detail = "reserved bytes at 6 are not zero".to_owned();
        assert_eq!(
            check(&reserved),
            Some(HeaderError::Invalid { what, detail })
        );
    }
}

#[test]
fn a_count_that_the_bytes_do_not_hold_is_refused() {
    for (name, count_at) in [("MANIFEST", 40), ("index", 32)] {
        let (_, mut bytes, check) = structures().into_iter().find(|s| s.0 == name).unwrap();
        bytes[count_at..count_at + 4].copy_from_slice(&u32::MAX.to_le_bytes());
        reseal(&mut bytes);
        let error = check(&bytes).unwrap().to_string();
        assert!(error.contains("for 4294967295 entries"), "{error}");
    }
}

#[test]
fn a_slot_of_another_partition_is_refused_and_an_empty_one_is_none() {
    let slot = FloorSlot {
        partition: PartitionId::new(3),
        generation: flowstone_format::Generation::new(1),
        offset: Offset::new(2),
        position: Position::new(4096),
        counter: 5,
    };
    let error = FloorSlot::decode(&slot.encode(), PartitionId::new(4)).unwrap_err();
    assert_eq!(error.to_string(), "FLOOR slot: partition 3 where 4 belongs");
    assert_eq!(FloorSlot::decode(&[0; 512], PartitionId::new(4)), Ok(None));
}

const SALT: u64 = 0x1122_3344_5566_7788;
const AT: Position = Position::new(4096);

fn frame() -> (FrameHeader, Vec<u8>) {
    let header = FrameHeader {
        kind: FrameKind::Data,
        codec: Codec::Zstd,
        transactional: false,
        header_len: FRAME_HEADER_LEN as u16,
        payload_len: 20,
        payload_crc: 1,
        base_offset: Offset::new(7),
        offset_span: 3,
        record_count: 2,
        leader_epoch: 1,
        entry_index: 1,
        append_ms: 5,
        max_timestamp_ms: 6,
        producer_id: [0; 16],
        sequence: 0,
        producer_epoch: 0,
        routing_count: 1,
        uncompressed_len: 40,
        client_crc: 0,
        durable_upto: Position::new(4096),
        prev_header_crc: 9,
    };
    let mut bytes = vec![0; FRAME_HEADER_LEN];
    header.encode(SALT, AT, &mut bytes);
    (header, bytes)
}

/// What decoding says after `change`, with the checksum put right.
fn changed(change: impl FnOnce(&mut Vec<u8>)) -> FrameError {
    let (_, mut bytes) = frame();
    change(&mut bytes);
    assert!(targets::stamp_frame(&mut bytes, SALT, AT));
    FrameHeader::decode(&bytes, SALT, AT).unwrap_err()
}

fn put(bytes: &mut [u8], at: usize, value: u32) {
    bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
}

#[test]
fn every_flipped_byte_of_a_frame_header_is_noticed() {
    let (_, bytes) = frame();
    for at in 0..FRAME_HEADER_LEN {
        for bits in [0x01, 0x80, 0xFF] {
            let mut flipped = bytes.clone();
            flipped[at] ^= bits;
            let error = FrameHeader::decode(&flipped, SALT, AT).unwrap_err();
            assert!(!error.is_newer(), "byte {at}: {error}");
        }
    }
}

#[test]
fn a_frame_belongs_to_its_place_and_its_segment() {
    let (_, bytes) = frame();
    let moved = FrameHeader::decode(&bytes, SALT, AT + 1);
    assert_eq!(moved, Err(FrameError::BadHeaderCrc));
    let foreign = FrameHeader::decode(&bytes, SALT + 1, AT);
    assert_eq!(foreign, Err(FrameError::BadHeaderCrc));
}

#[test]
fn a_cut_frame_header_tells_how_much_it_needs() {
    let (_, bytes) = frame();
    for len in 0..FRAME_HEADER_LEN {
        let need = FRAME_HEADER_LEN;
        let cut = FrameHeader::decode(&bytes[..len], SALT, AT);
        assert_eq!(cut, Err(FrameError::Truncated { len, need }));
    }
    let zero = FrameHeader::decode(&[0; 128], SALT, AT);
    assert_eq!(zero, Err(FrameError::BadMagic));
    assert_eq!(
        FrameHeader::decode(b"FLS\0", SALT, AT),
        Err(FrameError::BadMagic)
    );
}

#[test]
fn unknown_versions_bits_kinds_and_codecs_are_told_apart_from_damage() {
    let version = changed(|b| b[4] = 2);
    let (found, known) = (2, 1);
    assert_eq!(version, FrameError::UnknownVersion { found, known });
    let bits = changed(|b| put(b, 8, 0x8000_0100));
    assert_eq!(bits, FrameError::UnknownAttributes { bits: 0x8000_0100 });
    assert_eq!(
        changed(|b| b[8] = 0x05),
        FrameError::UnknownKind { kind: 5 }
    );
    assert_eq!(
        changed(|b| b[8] = 0x30),
        FrameError::UnknownCodec { codec: 3 }
    );
    for error in [version, bits] {
        assert!(error.is_newer(), "{error}");
    }
}

#[test]
fn lengths_are_held_against_their_limits() {
    let short = changed(|b| {
        put(b, 12, 128 + MAX_PAYLOAD_LEN + 1);
        put(b, 16, MAX_PAYLOAD_LEN + 1);
    });
    assert_eq!(
        short.to_string(),
        "payload_len is 8388609, outside 0 to 8388608"
    );
    let long = changed(|b| put(b, 104, MAX_UNCOMPRESSED_LEN + 1));
    assert_eq!(
        long.to_string(),
        "uncompressed_len is 67108865, outside 0 to 67108864"
    );
    let (_, mut bytes) = frame();
    for header_len in [0, 127, MAX_HEADER_LEN + 1, u16::MAX] {
        bytes[6..8].copy_from_slice(&header_len.to_le_bytes());
        let error = FrameHeader::decode(&bytes, SALT, AT).unwrap_err();
        assert!(matches!(
            error,
            FrameError::BadLength {
                field: "header_len",
                ..
            }
        ));
    }
}

#[test]
fn fields_that_contradict_each_other_are_refused() {
    type Change = fn(&mut Vec<u8>);
    let cases: [(&str, Change); 8] = [
        (
            "frame_len is not the sum of header_len and payload_len",
            |b| put(b, 12, 149),
        ),
        (
            "uncompressed_len is not payload_len, and there is no codec",
            |b| b[8] = 0,
        ),
        ("record_count is greater than offset_span", |b| {
            put(b, 36, 4)
        }),
        ("offset_span is 0, and the frame is not of kind raft", |b| {
            put(b, 32, 0);
            put(b, 36, 0);
        }),
        ("a data frame without records", |b| put(b, 36, 0)),
        ("a data frame without records", |b| {
            put(b, 12, 128);
            put(b, 16, 0);
        }),
        (
            "record_count is greater than the payload has room for",
            |b| {
                put(b, 32, 21);
                put(b, 36, 21);
            },
        ),
        ("the offsets are greater than an int64", |b| {
            b[24..32].copy_from_slice(&(i64::MAX as u64 - 2).to_le_bytes());
        }),
    ];
    for (detail, change) in cases {
        assert_eq!(changed(change), FrameError::Invalid { detail });
    }
}

#[test]
fn an_extension_is_skipped() {
    let (header, plain) = frame();
    for header_len in [129u16, 160, MAX_HEADER_LEN] {
        let mut bytes = plain[..112].to_vec();
        bytes.resize(usize::from(header_len) - 16, 0xEE);
        bytes.extend(&plain[112..]);
        bytes[6..8].copy_from_slice(&header_len.to_le_bytes());
        put(&mut bytes, 12, u32::from(header_len) + 20);
        assert!(targets::stamp_frame(&mut bytes, SALT, AT));
        let (found, _) = FrameHeader::decode(&bytes, SALT, AT).unwrap();
        let expected = FrameHeader {
            header_len,
            ..header.clone()
        };
        assert_eq!(found, expected);
        let need = usize::from(header_len);
        let len = need - 1;
        let cut = FrameHeader::decode(&bytes[..len], SALT, AT);
        assert_eq!(cut, Err(FrameError::Truncated { len, need }));
    }
}

#[test]
fn a_payload_is_held_against_length_and_crc() {
    let payload = b"layer by layer";
    let (mut header, _) = frame();
    header.payload_len = payload.len() as u32;
    header.payload_crc = crc32fast::hash(payload);
    assert_eq!(header.check_payload(payload), Ok(()));
    assert_eq!(
        header.check_payload(&payload[1..]).unwrap_err().to_string(),
        "13 bytes of payload where the header says 14"
    );
    let rotten = header.check_payload(b"layer by bayer");
    assert_eq!(rotten, Err(FrameError::BadPayloadCrc));
}

proptest! {
    /// Every decoder survives every input, and accepts only what it would write.
    #[test]
    fn arbitrary_bytes_never_panic(data in vec(any::<u8>(), 0..600)) {
        for target in targets::ALL {
            target(&data);
        }
    }

    /// The same for bytes that are nearly right.
    #[test]
    fn changed_structures_never_panic(
        manifest in samples::manifest(),
        index in samples::index(),
        header in samples::frame_header(),
        changes in vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
    ) {
        let mut frame = vec![0; 16 + FRAME_HEADER_LEN];
        header.encode(0, Position::ZERO, &mut frame[16..]);
        for (bytes, target) in [
            (manifest.encode(), targets::manifest as fn(&[u8])),
            (index.encode(Uuid::from_bytes([7; 16])), targets::index),
            (frame, targets::frame),
        ] {
            let mut bytes = bytes;
            for (at, byte) in &changes {
                let at = at.index(bytes.len());
                bytes[at] = *byte;
            }
            target(&bytes);
        }
    }
}
