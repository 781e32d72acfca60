//! Space is taken before it is written to, in steps that double but for the second and the third, and no further than the segment reaches.

use flowstone_disk::{Op, OpKind};
use flowstone_format::{Manifest, SegmentEntry};
use flowstone_log::LogError;

use crate::harness::{Rig, record};

const KIB: u64 = 1 << 10;

/// A machine whose segments take several steps.
fn rig() -> Rig {
    let mut rig = Rig::new(2);
    rig.config.segment_bytes = 700 * KIB;
    rig.config.max_reserve_bytes = 256 * KIB;
    rig
}

#[test]
fn steps_double_behind_the_third() {
    let mut rig = rig();
    rig.config.segment_bytes = 8_000 * KIB;
    rig.config.max_reserve_bytes = 2_048 * KIB;
    let mut log = rig.open_log();
    rig.disk.start_trace();
    while log.reader().segment_count() < 2 {
        rig.put(&mut log, &[record(&[7; 90_000], 0)]).unwrap();
    }
    let reserved = |op: &Op| (op.kind == OpKind::Reserve).then_some((op.at + op.len) / KIB);
    let ends: Vec<_> = rig.disk.take_trace().iter().filter_map(reserved).collect();
    // The third is what the frame needs, since a page is too small for it.
    let expected = [64, 512, 536, 1_072, 2_144, 4_192, 6_240, 8_000];
    assert_eq!(ends[..expected.len()], expected, "in KiB: up to where");
}

#[test]
fn steps_grow_up_to_their_limit_and_end_with_the_segment() {
    let rig = rig();
    let mut log = rig.open_log();
    rig.disk.start_trace();
    while log.reader().segment_count() < 2 {
        rig.put(&mut log, &[record(&[7; 9_000], 0)]).unwrap();
    }
    let reserved = |op: &Op| (op.kind == OpKind::Reserve).then_some((op.at / KIB, op.len / KIB));
    let steps: Vec<_> = rig.disk.take_trace().iter().filter_map(reserved).collect();
    let expected = [
        (0, 64),
        (64, 256),
        (320, 192),
        (512, 4),
        (516, 184),
        (0, 64),
    ];
    assert_eq!(steps, expected, "in KiB: where from, and how much");
}

/// A step is as large as the frame needs, and pages are whole.
#[test]
fn a_frame_that_is_larger_than_a_step_gets_its_space_at_once() {
    let rig = rig();
    let mut log = rig.open_log();
    rig.put(&mut log, &[record(b"first", 0)]).unwrap();
    rig.disk.start_trace();
    rig.put(&mut log, &[record(&[7; 400_000], 0)]).unwrap();
    let reserved = |op: &Op| (op.kind == OpKind::Reserve).then_some((op.at, op.len));
    let steps: Vec<_> = rig.disk.take_trace().iter().filter_map(reserved).collect();
    let [(at, len)] = steps[..] else {
        panic!("one step: {steps:?}")
    };
    assert_eq!(at, 64 * KIB);
    assert!(at + len > 400_000 && at + len < 412_000, "{steps:?}");
    assert_eq!(len % 4_096, 0);
}

/// A disk of any size is filled to its last pages, and its end is always told by the space that is taken
/// ahead: a write that fails would leave open what became of it.
#[test]
fn a_full_disk_is_always_noticed_before_the_write() {
    for pages in 40..120 {
        let rig = rig();
        let mut log = rig.open_log();
        rig.put(&mut log, &[record(b"first", 0)]).unwrap();
        rig.disk.set_capacity(pages * 4_096);
        let full = loop {
            if let Err(error) = rig.put(&mut log, &[record(&[7; 3_000], 0)]) {
                break error;
            }
        };
        assert!(matches!(full, LogError::DiskFull { .. }), "{full}");
        assert!(!log.is_poisoned());
        let left = pages * 4_096 - rig.disk.used_bytes();
        assert!(left < 4_096, "{left} bytes of {pages} pages are left");
        rig.disk.set_capacity(u64::MAX);
        rig.put(&mut log, &[record(b"again", 0)]).unwrap();
    }
}

#[test]
fn the_entry_of_a_segment_that_begins_says_that_it_has_no_frame() {
    let rig = Rig::new(1);
    let mut log = rig.open_log();
    for frames in [3, 2] {
        for _ in 0..frames {
            rig.put(&mut log, &[record(b"value", 0)]).unwrap();
        }
        log.roll().unwrap();
    }
    let manifest = Manifest::decode(&rig.bytes_of(&rig.dir().join("MANIFEST"))).unwrap();
    let indexes = |entry: &SegmentEntry| (entry.first_index, entry.last_index);
    let found: Vec<_> = manifest.segments.iter().map(indexes).collect();
    assert_eq!(found, [(1, 3), (4, 5), (6, 5)]);
}

/// What a sealed segment does not need is given back, to the page.
#[test]
fn a_roll_gives_spare_space_back() {
    for records in [1, 30] {
        let rig = rig();
        let mut log = rig.open_log();
        for _ in 0..records {
            rig.put(&mut log, &[record(&[7; 9_000], 0)]).unwrap();
        }
        let end = log.reader().size_bytes();
        rig.disk.start_trace();
        log.roll().unwrap();
        let punched = |op: &Op| (op.kind == OpKind::Punch).then_some((op.at, op.at + op.len));
        let trace = rig.disk.take_trace();
        let punched: Vec<_> = trace.iter().filter_map(punched).collect();
        let reserved = if records == 1 { 64 * KIB } else { 320 * KIB };
        assert_eq!(punched, [(end.next_multiple_of(4_096), reserved)]);
    }
}

/// There is nothing to give back where the last frame ends on the last page.
#[test]
fn a_segment_without_spare_space_is_left_alone() {
    let mut rig = rig();
    rig.config.segment_bytes = 64 * KIB;
    let mut log = rig.open_log();
    rig.put(&mut log, &[record(&[7; 60_000], 0)]).unwrap();
    assert!(log.reader().size_bytes() > 60 * KIB);
    rig.disk.start_trace();
    log.roll().unwrap();
    let trace = rig.disk.take_trace();
    assert!(trace.iter().all(|op| op.kind != OpKind::Punch));
}

#[test]
fn the_smallest_segments_hold_a_frame() {
    let mut rig = rig();
    rig.config.segment_bytes = 1;
    let mut log = rig.open_log();
    for _ in 0..3 {
        rig.put(&mut log, &[record(b"value", 0)]).unwrap();
    }
    assert_eq!(log.log_end_offset().get(), 3);
}
