//! Frame headers that are damaged, cut, of another place, or too new.

use flowstone_format::{
    BatchMeta, Codec, FRAME_HEADER_LEN, FrameError, FrameHeader, FrameKind, MAX_HEADER_LEN,
    MAX_PAYLOAD_LEN, MAX_UNCOMPRESSED_LEN, Offset, Position, ProducerId, ProducerSequence,
    RecordErrorKind, RecordLimits, build_batch,
};

use crate::targets;

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

#[test]
fn a_frame_tells_what_to_remember_of_its_producer() {
    let (plain, _) = frame();
    assert_eq!(plain.producer(), None, "it has none");
    let sent = FrameHeader {
        producer_id: ProducerId::of("p").into_bytes(),
        sequence: 1,
        client_crc: 11,
        ..plain
    };
    let (id, sequence) = sent.producer().unwrap();
    let expected = ProducerSequence {
        sequence: 1,
        base_offset: Offset::new(7),
        record_count: 3,
        client_crc: 11,
        routing_count: 1,
    };
    assert_eq!((id, sequence), (ProducerId::of("p"), expected));

    let with = |change: fn(&mut FrameHeader)| {
        let mut header = sent.clone();
        change(&mut header);
        header.producer()
    };
    assert!(with(|header| header.offset_span = 1).is_some());
    assert!(with(|header| header.kind = FrameKind::Empty).is_some());
    assert_eq!(with(|header| header.kind = FrameKind::Gap), None);
    assert_eq!(with(|header| header.sequence = 0), None);
    assert_eq!(with(|header| header.offset_span = 0), None);
    assert_eq!(with(|header| header.producer_id = [0; 16]), None);
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

/// A run of one record with a value of this many bytes, at least 2 MiB.
fn one_record(value_len: usize) -> Vec<u8> {
    let varint = |value: usize| {
        [0, 7, 14, 21]
            .map(|shift| (value >> shift) as u8 & 0x7f | if shift < 21 { 0x80 } else { 0 })
    };
    let mut run = vec![0x0A];
    run.extend(varint(value_len + 5));
    run.push(0x12);
    run.extend(varint(value_len));
    run.resize(run.len() + value_len, b'v');
    run
}

#[test]
fn a_payload_may_have_its_greatest_length_and_no_byte_more() {
    let meta = BatchMeta {
        base_offset: Offset::ZERO,
        leader_epoch: 1,
        entry_index: 1,
        append_ms: 1_700_000_000_000,
        producer_id: [0; 16],
        sequence: 0,
        producer_epoch: 0,
        routing_count: 1,
        client_crc: 0,
    };
    // What stands before in the buffer does not count.
    let mut out = vec![0xEE; 1000];
    let mut build = |value_len| {
        out.truncate(1000);
        let run = one_record(value_len);
        let whole = 0..run.len();
        let runs = std::slice::from_ref(&whole);
        build_batch(&mut out, &run, runs, &meta, &RecordLimits::NONE)
            .map(|header| header.payload_len)
    };
    let overhead = build(4 << 20).unwrap() - (4 << 20);
    let most = (MAX_PAYLOAD_LEN - overhead) as usize;
    assert_eq!(build(most), Ok(MAX_PAYLOAD_LEN));
    let error = build(most + 1).unwrap_err();
    assert_eq!(
        error.kind,
        RecordErrorKind::BatchTooLarge {
            limit: MAX_PAYLOAD_LEN
        }
    );
}

#[test]
fn records_may_fill_the_payload_and_offsets_may_reach_the_last_one() {
    let decoded = |change: fn(&mut FrameHeader)| {
        let (mut header, mut bytes) = frame();
        change(&mut header);
        header.encode(SALT, AT, &mut bytes);
        FrameHeader::decode(&bytes, SALT, AT).map(|(found, _)| assert_eq!(found, header))
    };
    // An empty record takes two bytes: its tag and its length.
    assert_eq!(
        decoded(|h| (h.record_count, h.offset_span) = (20, 20)),
        Ok(())
    );
    let too_many = decoded(|h| (h.record_count, h.offset_span) = (21, 21));
    let told = too_many.unwrap_err().to_string();
    assert!(told.contains("than the payload has room for"), "{told}");

    const LAST: Offset = Offset::new(Offset::MAX.get() - 3);
    assert_eq!(decoded(|h| h.base_offset = LAST), Ok(()));
    let too_far = decoded(|h| (h.base_offset, h.offset_span) = (LAST, 4));
    let told = too_far.unwrap_err().to_string();
    assert!(told.contains("greater than an int64"), "{told}");
}
