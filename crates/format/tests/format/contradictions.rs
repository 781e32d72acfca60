//! Structures whose checksum fits, but whose contents cannot be.

use flowstone_format::{
    Generation, IndexEntry, Manifest, Offset, PRODUCER_ENTRY_LEN, PRODUCER_SEQUENCE_LEN,
    PRODUCER_WINDOW, PRODUCERS_HEADER_LEN, PartitionId, Position, ProducerEntry, ProducerId,
    ProducerSequence, ProducerSnapshot, SegmentEntry, SegmentHeader, SegmentIndex, SegmentState,
};
use proptest::strategy::Strategy;
use proptest::test_runner::TestRunner;
use uuid::Uuid;

use crate::samples::{self, reseal, sample};

/// Whatever is too short for its own head is refused before a field of it is read.
#[test]
fn a_structure_without_a_whole_head_is_refused() {
    for len in 4..20 {
        let mut bytes = vec![0; len];
        bytes[..4].copy_from_slice(&flowstone_format::MANIFEST_MAGIC);
        if len >= 8 {
            reseal(&mut bytes);
        }
        let error = Manifest::decode(&bytes).unwrap_err().to_string();
        assert!(error.contains(&format!("{len} bytes")), "{error}");
    }
}

#[test]
fn a_segment_without_room_is_refused() {
    let mut runner = TestRunner::deterministic();
    let mut header = sample(&mut runner, samples::segment_header());
    header.capacity = 4096;
    let error = SegmentHeader::decode(&header.encode()).unwrap_err();
    assert_eq!(
        error.to_string(),
        "segment header: capacity 4096 has no room"
    );
}

/// Three segments: 0 to 10, 10 to 20, and from 20 on.
fn three_segments() -> Manifest {
    let mut runner = TestRunner::deterministic();
    let full = samples::manifest().prop_filter("has a segment", |m| !m.segments.is_empty());
    let mut manifest = sample(&mut runner, full);
    let segment = |i: u8| SegmentEntry {
        id: Uuid::from_bytes([i; 16]),
        generation: Generation::new(u64::from(i) + 1),
        base_offset: Offset::new(u64::from(i) * 10),
        start_offset: Offset::new(u64::from(i) * 10),
        end_offset: Offset::new(u64::from(i) * 10 + 10),
        state: SegmentState::Sealed,
        ..manifest.segments[0].clone()
    };
    let mut segments = [0, 1, 2].map(segment).to_vec();
    segments[2].state = SegmentState::Active;
    manifest.generation = Generation::new(3);
    manifest.segments = segments;
    manifest
}

/// A segment that holds raft frames only takes no offsets.
#[test]
fn two_segments_may_begin_at_the_same_offset() {
    let mut manifest = three_segments();
    let (first, second) = manifest.segments.split_at_mut(1);
    first[0].base_offset = second[0].base_offset;
    first[0].start_offset = second[0].base_offset;
    assert_eq!(Manifest::decode(&manifest.encode()), Ok(manifest));
}

#[test]
fn one_segment_that_others_follow_may_be_closing() {
    let mut manifest = three_segments();
    manifest.segments[1].state = SegmentState::Closing;
    assert_eq!(Manifest::decode(&manifest.encode()), Ok(manifest.clone()));
    manifest.segments[2].state = SegmentState::Sealed;
    assert_eq!(Manifest::decode(&manifest.encode()), Ok(manifest));
}

#[test]
fn segments_that_contradict_each_other_are_refused() {
    type Change = fn(&mut Manifest);
    let cases: [(usize, &str, Change); 11] = [
        (2, "is of a later generation than the MANIFEST", |m| {
            m.generation = Generation::new(2);
        }),
        (1, "is visible from before its base", |m| {
            m.segments[1].base_offset = Offset::new(11);
        }),
        (1, "ends before it begins", |m| {
            m.segments[1].end_offset = Offset::new(9);
        }),
        (1, "ends before it begins", |m| {
            m.segments[1].state = SegmentState::Closing;
            m.segments[1].end_offset = Offset::new(9);
        }),
        (0, "is closing, and one behind it, too", |m| {
            m.segments[0].state = SegmentState::Closing;
            m.segments[1].state = SegmentState::Closing;
        }),
        (2, "is closing, and none is behind it", |m| {
            m.segments[2].state = SegmentState::Closing;
        }),
        (2, "stands behind an active one", |m| {
            m.segments[1].state = SegmentState::Active;
        }),
        (2, "has a lower base than the one before", |m| {
            m.segments[2].base_offset = Offset::new(9);
        }),
        (1, "overlaps with the one before", |m| {
            m.segments[0].end_offset = Offset::new(11);
        }),
        (2, "is of an earlier generation than the one before", |m| {
            m.segments[2].generation = Generation::new(1);
        }),
        (
            1,
            "has the generation and the base of the one before",
            |m| {
                m.segments[1].generation = m.segments[0].generation;
                m.segments[1].base_offset = m.segments[0].base_offset;
                m.segments[0].end_offset = m.segments[0].base_offset;
            },
        ),
    ];
    assert_eq!(
        Manifest::decode(&three_segments().encode()),
        Ok(three_segments())
    );
    for (at, detail, change) in cases {
        let mut manifest = three_segments();
        change(&mut manifest);
        let error = Manifest::decode(&manifest.encode())
            .unwrap_err()
            .to_string();
        let id = manifest.segments[at].id;
        assert_eq!(error, format!("MANIFEST: segment {id} {detail}"));
    }
}

#[test]
fn locations_and_states_that_are_not_known_are_refused() {
    let manifest = three_segments();
    let second = 64 + 128;
    for (at, value, detail) in [
        (120, 0, "has location 0"),
        (120, 2, "has location 2"),
        (121, 0, "has state 0"),
        (121, 4, "has state 4"),
    ] {
        let mut bytes = manifest.encode();
        bytes[second + at] = value;
        reseal(&mut bytes);
        let error = Manifest::decode(&bytes).unwrap_err().to_string();
        let id = manifest.segments[1].id;
        assert_eq!(error, format!("MANIFEST: segment {id} {detail}"));
    }
}

#[test]
fn an_index_of_another_segment_or_with_falling_entries_is_refused() {
    let mut index = SegmentIndex::new();
    for i in [1, 2] {
        index.push(IndexEntry {
            offset: Offset::new(i),
            position: Position::new(i),
            max_timestamp_before_ms: i as i64,
        });
    }
    let (id, other) = (Uuid::from_bytes([1; 16]), Uuid::from_bytes([2; 16]));
    let bytes = index.encode(id);
    let error = SegmentIndex::decode(&bytes, other).unwrap_err().to_string();
    let expected = format!("index: it belongs to segment {id}, not {other}");
    assert_eq!(error, expected);
    // Offsets and positions ascend, so that the same once more is refused too; times may stay.
    for (at, value) in [(0, 0), (8, 0), (16, 0), (0, 1), (8, 1)] {
        let mut falling = bytes.clone();
        falling[40 + 24 + at] = value;
        reseal(&mut falling);
        let error = SegmentIndex::decode(&falling, id).unwrap_err().to_string();
        assert!(
            error.starts_with("index: entries do not ascend at "),
            "{error}"
        );
    }
}

#[test]
#[should_panic(expected = "index entries ascend")]
fn an_index_is_not_built_with_falling_entries() {
    let mut index = SegmentIndex::new();
    for offset in [2, 1] {
        index.push(IndexEntry {
            offset: Offset::new(offset),
            position: Position::new(4096),
            max_timestamp_before_ms: 0,
        });
    }
}

/// Two producers, the second with sequences 5 and 7, in a snapshot that ends at offset 100.
fn two_producers() -> ProducerSnapshot {
    let sequence = |sequence, base_offset| ProducerSequence {
        sequence,
        base_offset: Offset::new(base_offset),
        record_count: 2,
        client_crc: 3,
        routing_count: 4,
    };
    let producer = |id, sequences| ProducerEntry {
        id: ProducerId::from_bytes([id; 16]).unwrap(),
        epoch: 0,
        last_append_ms: 1,
        dropped: 4,
        sequences,
    };
    ProducerSnapshot {
        partition: PartitionId::new(1),
        segment: Uuid::from_bytes([9; 16]),
        base_offset: Offset::new(100),
        lost_upto_ms: None,
        producers: vec![
            producer(1, vec![sequence(5, 0), sequence(6, 2)]),
            producer(2, vec![sequence(5, 98), sequence(7, 50)]),
        ],
    }
}

#[test]
fn producers_that_contradict_themselves_are_refused() {
    type Change = fn(&mut ProducerSnapshot);
    let second = "producer 02020202020202020202020202020202";
    let cases: [(String, Change); 8] = [
        (
            format!("producers do not ascend at {}", "02".repeat(16)),
            |s| {
                s.producers[0].id = s.producers[1].id;
            },
        ),
        (format!("{second} has sequence 5 behind 5"), |s| {
            s.producers[1].sequences[1].sequence = 5;
        }),
        (format!("{second} has sequence 0 behind 0"), |s| {
            s.producers[1].sequences[0].sequence = 0;
        }),
        (
            format!("{second} has 0 records at offset 98 for sequence 5, below 100"),
            |s| s.producers[1].sequences[0].record_count = 0,
        ),
        (
            format!("{second} has 2 records at offset 99 for sequence 5, below 100"),
            |s| s.producers[1].sequences[0].base_offset = Offset::new(99),
        ),
        (
            format!("{second} has dropped 7, and its highest sequence is 7"),
            |s| s.producers[1].dropped = 7,
        ),
        (
            format!("{second} has dropped -1, and its highest sequence is 7"),
            |s| s.producers[1].dropped = -1,
        ),
        (format!("{second} has 0 sequences"), |s| {
            s.producers[1].sequences.clear();
        }),
    ];
    let (bytes, crc) = two_producers().encode();
    assert_eq!(ProducerSnapshot::decode(&bytes), Ok((two_producers(), crc)));
    for (detail, change) in cases {
        let mut snapshot = two_producers();
        change(&mut snapshot);
        let (bytes, _) = snapshot.encode();
        let error = ProducerSnapshot::decode(&bytes).unwrap_err().to_string();
        assert_eq!(error, format!("producer snapshot: {detail}"));
    }
    let mut nameless = bytes;
    nameless[64..80].fill(0);
    reseal(&mut nameless);
    let error = ProducerSnapshot::decode(&nameless).unwrap_err().to_string();
    assert_eq!(error, "producer snapshot: a producer's id is zero");
}

/// What the bytes cannot hold is refused before room is made for it.
#[test]
fn more_producers_or_sequences_than_there_are_bytes_are_refused() {
    const COUNT_AT: usize = 56;
    const SEQUENCES_AT: usize = 100;
    const LEAST_BYTES: usize = PRODUCER_ENTRY_LEN + PRODUCER_SEQUENCE_LEN;
    let (bytes, _) = two_producers().encode();
    let have = bytes.len() - PRODUCERS_HEADER_LEN - 4;
    let told = |at: usize, count: usize| {
        let mut bytes = bytes.clone();
        bytes[at..at + 4].copy_from_slice(&u32::try_from(count).unwrap().to_le_bytes());
        reseal(&mut bytes);
        ProducerSnapshot::decode(&bytes).unwrap_err().to_string()
    };
    let too_many = have / LEAST_BYTES + 1;
    assert_eq!(
        told(COUNT_AT, too_many),
        format!("producer snapshot: {have} bytes for {too_many} producers")
    );
    let (id, have) = ("01".repeat(16), have - PRODUCER_ENTRY_LEN);
    assert_eq!(
        told(SEQUENCES_AT, PRODUCER_WINDOW),
        format!("producer snapshot: producer {id} has {PRODUCER_WINDOW} sequences in {have} bytes")
    );
}

/// 0 stands for "no snapshot" in a MANIFEST, so that no snapshot may have it.
#[test]
fn the_checksum_of_a_snapshot_is_never_0() {
    let with_crcs = |crcs: u32| {
        let mut snapshot = two_producers();
        snapshot.producers[0].sequences[0].client_crc = crcs;
        snapshot
    };
    // The sum is linear in the 32 bits of a field: they are solved for a sum of 0.
    let sum = |bits: u32| {
        let (bytes, _) = with_crcs(bits).encode();
        crc32fast::hash(&bytes[..bytes.len() - 4])
    };
    let zero = sum(0);
    let mut rows: Vec<(u32, u32)> = (0..32)
        .map(|bit| (sum(1 << bit) ^ zero, 1 << bit))
        .collect();
    let (mut wanted, mut bits) = (zero, 0);
    for at in 0..32 {
        let column = 1 << at;
        let pivot = rows
            .iter()
            .position(|(image, _)| image & column != 0)
            .unwrap();
        let (image, source) = rows.swap_remove(pivot);
        for row in rows.iter_mut().filter(|row| row.0 & column != 0) {
            *row = (row.0 ^ image, row.1 ^ source);
        }
        if wanted & column != 0 {
            (wanted, bits) = (wanted ^ image, bits ^ source);
        }
    }
    let snapshot = with_crcs(bits);
    let (mut bytes, crc) = snapshot.encode();
    assert_eq!(
        bytes[60..64],
        [1, 0, 0, 0],
        "it is the one that needs the filler"
    );
    assert_ne!(crc, 0);
    assert_eq!(ProducerSnapshot::decode(&bytes), Ok((snapshot, crc)));

    bytes[60] = 0;
    reseal(&mut bytes);
    assert_eq!(bytes[bytes.len() - 4..], [0; 4]);
    let error = ProducerSnapshot::decode(&bytes).unwrap_err().to_string();
    assert!(error.contains("its checksum is 0"), "{error}");
    for filler in [1, 2] {
        let (mut bytes, _) = two_producers().encode();
        bytes[60] = filler;
        reseal(&mut bytes);
        let error = ProducerSnapshot::decode(&bytes).unwrap_err().to_string();
        assert_eq!(
            error,
            format!("producer snapshot: filler {filler} is not needed")
        );
    }
}
