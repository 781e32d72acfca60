//! Structures whose checksum fits, but whose contents cannot be.

use flowstone_format::{
    Generation, IndexEntry, Manifest, Offset, Position, SegmentEntry, SegmentHeader, SegmentIndex,
    SegmentState,
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
fn segments_that_contradict_each_other_are_refused() {
    type Change = fn(&mut Manifest);
    let cases: [(usize, &str, Change); 8] = [
        (2, "is of a later generation than the MANIFEST", |m| {
            m.generation = Generation::new(2);
        }),
        (1, "is visible from before its base", |m| {
            m.segments[1].base_offset = Offset::new(11);
        }),
        (1, "ends before it begins", |m| {
            m.segments[1].end_offset = Offset::new(9);
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
        (121, 3, "has state 3"),
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
