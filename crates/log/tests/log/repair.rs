//! Repair: what is lost becomes gaps, every other record is read as before, and no offset is used again.

#![allow(
    clippy::single_range_in_vec_init,
    reason = "what is lost is a list of ranges"
)]

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use flowstone_disk::{Disk, Env, OpenMode};
use flowstone_format::{
    FLOOR_NAME, FloorSlot, FrameHeader, FrameKind, Generation, Offset, Position, SegmentHeader,
    SegmentState,
};
use flowstone_log::inspect::{self, SegmentReport};
use flowstone_log::repair::{self, Repair};
use flowstone_log::{Log, LogError, ReadLimit};

use crate::harness::{DATA_DIR, PARTITION, Rig, read_all, record, values};

/// Twenty-seven records in batches of one to three, over two sealed segments and an active one.
pub(crate) fn fill(rig: &Rig) -> BTreeMap<u64, Vec<u8>> {
    let (mut log, floor) = rig.open().unwrap();
    let mut number = 0;
    for round in 0..15_usize {
        let records: Vec<_> = (0..1 + round % 3)
            .map(|_| {
                number += 1;
                record(format!("{number:0450}").as_bytes(), 0)
            })
            .collect();
        rig.clock.advance(std::time::Duration::from_millis(10));
        rig.put(&mut log, &records[..records.len().min(2)]).unwrap();
        if round % 5 == 4 && round < 14 {
            log.roll().unwrap();
        }
    }
    floor.put(log.floor().unwrap()).unwrap();
    floor.sync().unwrap();
    read_all(&log).into_iter().collect()
}

pub(crate) fn plan(rig: &Rig, committed: u64) -> Result<Repair, LogError> {
    repair::plan(
        &rig.disk.disk(),
        Path::new(DATA_DIR),
        PARTITION,
        Offset::new(committed),
    )
}

pub(crate) fn env(rig: &Rig) -> Env {
    Env::simulated(&rig.disk, &rig.clock, rig.disk.count_all())
}

/// Every segment of a sound partition and the headers of its frames.
pub(crate) fn listing(rig: &Rig) -> Vec<(SegmentReport, Vec<FrameHeader>)> {
    let disk: Arc<dyn Disk> = rig.disk.disk();
    let mut headers: Vec<(PathBuf, FrameHeader)> = Vec::new();
    let report = inspect::inspect(&disk, Path::new(DATA_DIR), PARTITION, |segment, frame| {
        let name = flowstone_format::segment_name(segment.base_offset, segment.id);
        headers.push((rig.dir().join(name), frame.header.clone()));
    });
    let segments = report.unwrap().segments.into_iter();
    let of = |segment: SegmentReport| {
        let own = headers.iter().filter(|(path, _)| *path == segment.path);
        let own = own.map(|(_, header)| header.clone()).collect();
        (segment, own)
    };
    segments.map(of).collect()
}

/// The MANIFEST tells of each segment what its frames are, the first begins where the log does, and entry
/// indexes leave none out but before a gap.
fn assert_listed_as_they_are(rig: &Rig, log_start: Offset) {
    let mut last_index = 0;
    for (number, (segment, frames)) in listing(rig).into_iter().enumerate() {
        let entry = &segment.entry;
        let start = if number == 0 { log_start } else { Offset::ZERO };
        assert_eq!(entry.start_offset, start.max(entry.base_offset));
        let (Some(first), Some(last)) = (frames.first(), frames.last()) else {
            continue;
        };
        let told = (entry.first_index, entry.first_epoch);
        assert_eq!(told, (first.entry_index, first.leader_epoch));
        for frame in &frames {
            let next = last_index + 1;
            let gap = frame.kind == FrameKind::Gap || last_index == 0;
            assert!(frame.entry_index == next || gap && frame.entry_index > next);
            last_index = frame.entry_index;
        }
        if entry.state == SegmentState::Sealed {
            let max_ms = frames.iter().map(|frame| frame.max_timestamp_ms).max();
            assert_eq!(Some(entry.max_timestamp_ms), max_ms);
            assert_eq!(entry.last_append_ms, last.append_ms);
            let told = (entry.last_index, entry.last_epoch);
            assert_eq!(told, (last.entry_index, last.leader_epoch));
        }
    }
}

/// Segments that a repair has written, all but those `before`, take the pages that their frames need.
fn assert_no_larger_than_needed(rig: &Rig, before: &[PathBuf]) {
    for (segment, _) in listing(rig) {
        if !before.contains(&segment.path) {
            let (header, _) = SegmentHeader::decode(&rig.bytes_of(&segment.path)).unwrap();
            let end = segment.end_position.get().next_multiple_of(4_096);
            assert_eq!(header.capacity, end.max(8_192));
        }
    }
}

/// Repairs, and answers with what was lost. Afterwards the partition is sound by all accounts.
pub(crate) fn repaired(rig: &Rig, committed: u64) -> Vec<Range<u64>> {
    let plan = plan(rig, committed).unwrap();
    assert!(!plan.is_sound(), "there was something to repair");
    let is_there = rig.disk.list(&rig.dir()).is_ok();
    let before = if is_there {
        rig.segment_files()
    } else {
        Vec::new()
    };
    plan.execute(&env(rig)).unwrap();
    assert_no_larger_than_needed(rig, &before);
    let again = self::plan(rig, committed).unwrap();
    assert!(again.is_sound(), "{:?}", again.damages);
    assert_eq!(again.end_offset, plan.end_offset, "the plan told the end");
    assert_eq!(again.log_start_offset, plan.log_start_offset);
    assert_eq!(again.kept_records, plan.kept_records, "it told these, too");
    assert_listed_as_they_are(rig, plan.log_start_offset);
    let lost = plan.segments.iter().flat_map(|segment| &segment.lost);
    lost.map(|offsets| offsets.start.get()..offsets.end.get())
        .collect()
}

/// Every record but the lost ones is read, a gap is skipped from any offset in it, and the log
/// goes on behind `end`.
pub(crate) fn check(rig: &Rig, written: &BTreeMap<u64, Vec<u8>>, lost: &[Range<u64>], end: u64) {
    let mut log = rig.open_log();
    assert_eq!(log.damage(), None);
    let is_lost = |offset: &u64| lost.iter().any(|range| range.contains(offset));
    let expected: Vec<_> = written
        .iter()
        .filter(|(offset, _)| !is_lost(offset))
        .map(|(offset, value)| (*offset, value.clone()))
        .collect();
    assert_eq!(read_all(&log), expected);
    for offset in lost.iter().cloned().flatten().take(50) {
        let limit = ReadLimit {
            max_records: 1,
            ..ReadLimit::default()
        };
        let batch = log.reader().read(Offset::new(offset), &limit).unwrap();
        let next = written.keys().find(|at| **at > offset && !is_lost(at));
        assert_eq!(batch.record_count, u32::from(next.is_some()));
        assert_eq!(batch.next_offset.get(), next.map_or(end, |next| next + 1));
    }
    assert_eq!(log.log_end_offset().get(), end);
    let appended = rig.put(&mut log, &values(["after the repair"])).unwrap();
    assert_eq!(appended.base_offset.get(), end);
    drop(log);
    let log = rig.open_log();
    assert_eq!(log.damage(), None);
    assert_eq!(read_all(&log).len(), expected.len() + 1);
}

/// Kind, offsets and file positions of all frames.
pub(crate) fn frames(rig: &Rig) -> Vec<(FrameKind, Range<u64>, Range<u64>, PathBuf)> {
    let disk: Arc<dyn Disk> = rig.disk.disk();
    let mut frames = Vec::new();
    inspect::inspect(&disk, Path::new(DATA_DIR), PARTITION, |segment, frame| {
        let name = flowstone_format::segment_name(segment.base_offset, segment.id);
        let at = frame.position.get();
        frames.push((
            frame.header.kind,
            frame.header.base_offset.get()..frame.header.next_offset().get(),
            at..at + frame.header.frame_len(),
            rig.dir().join(name),
        ));
    })
    .unwrap();
    frames
}

pub(crate) fn flip(rig: &Rig, path: &Path, at: u64) {
    let byte = rig.bytes_of(path)[usize::try_from(at).unwrap()];
    rig.overwrite(path, at, &[byte ^ 0x20]);
}

#[test]
fn a_sound_partition_is_left_alone() {
    let rig = Rig::new(1);
    let written = fill(&rig);
    let plan = plan(&rig, 0).unwrap();
    assert!(plan.is_sound());
    assert_eq!(plan.kept_records, written.len() as u64);
    let sizes = frames(&rig)
        .into_iter()
        .map(|frame| frame.2.end - frame.2.start);
    assert_eq!(plan.kept_bytes, sizes.sum::<u64>());
    assert_eq!(plan.end_offset.get(), written.len() as u64);
}

#[test]
fn every_frame_but_the_damaged_one_is_kept_wherever_a_byte_is_flipped() {
    let base = Rig::new(1);
    let written = fill(&base);
    let end = written.len() as u64;
    assert_eq!(base.segment_files().len(), 3);
    let all = frames(&base);
    let headers: Vec<FrameHeader> = listing(&base)
        .into_iter()
        .flat_map(|(_, headers)| headers)
        .collect();
    for (number, (_, offsets, bytes, path)) in all.iter().enumerate() {
        let path = path.as_path();
        let size = |(_, offsets, bytes, _): &(_, Range<u64>, Range<u64>, _)| {
            (offsets.end - offsets.start, bytes.end - bytes.start)
        };
        let add = |(a, b), (c, d)| (a + c, b + d);
        let kept = all.iter().filter(|frame| frame.1 != *offsets).map(size);
        let kept = kept.fold((0, 0), add);
        let behind = all
            .iter()
            .filter(|frame| frame.3 == *path && frame.2.start > bytes.start);
        let behind = behind.map(size).fold((0, 0), add);
        for at in [
            bytes.start + 1,
            bytes.start + 30,
            bytes.start + 126,
            bytes.end - 1,
        ] {
            let rig = base.fork();
            flip(&rig, path, at);
            let plan = plan(&rig, 0).unwrap();
            assert_eq!(plan.segments.len(), 1, "no other is touched");
            let change = &plan.segments[0];
            assert_eq!((change.copied_records, change.copied_bytes), behind);
            assert_eq!((plan.kept_records, plan.kept_bytes), kept);
            let kept = rig.bytes_of(path);
            let lost = repaired(&rig, 0);
            let after = listing(&rig);
            let after: Vec<_> = after.iter().flat_map(|(_, headers)| headers).collect();
            for (before, after) in headers.iter().zip(&after) {
                assert_eq!(after.base_offset, before.base_offset);
                assert_eq!(after.entry_index, before.entry_index, "none is used again");
            }
            // A gap is as late as what stands before it, the first as what comes next.
            let next_to = number.checked_sub(1).unwrap_or(1);
            assert_eq!(after[number].append_ms, headers[next_to].append_ms);
            assert_eq!(
                lost,
                vec![offsets.clone()],
                "byte {at} of {}",
                path.display()
            );
            let aside = rig.dir().join("aside").join(path.file_name().unwrap());
            let is_aside = bytes.start == 4096;
            let copy = if is_aside { aside } else { path.to_path_buf() };
            assert_eq!(
                rig.bytes_of(&copy),
                kept,
                "the damaged file is kept as it was"
            );
            check(&rig, &written, &lost, end);
        }
    }
}

#[test]
fn a_plan_changes_nothing_and_tells_what_is_lost_and_kept() {
    let rig = Rig::new(1);
    let written = fill(&rig);
    let (_, offsets, bytes, path) = frames(&rig).remove(2);
    flip(&rig, &path, bytes.start + 200);
    let before: Vec<_> = rig.files().iter().map(|file| rig.bytes_of(file)).collect();
    let plan = plan(&rig, 0).unwrap();
    let after: Vec<_> = rig.files().iter().map(|file| rig.bytes_of(file)).collect();
    assert_eq!(before, after);
    assert_eq!(plan.segments.len(), 1, "one segment changes");
    let change = &plan.segments[0];
    assert_eq!(change.path.as_deref(), Some(&*path));
    let place = (Offset::new(offsets.start), Position::new(bytes.start));
    assert_eq!(change.sealed_at, Some(place));
    assert_eq!(plan.lost_offsets(), offsets.end - offsets.start);
    assert_eq!(
        plan.kept_records + plan.lost_offsets(),
        written.len() as u64
    );
    assert_eq!(plan.aside, Vec::<PathBuf>::new());
}

#[test]
fn a_rotten_header_loses_no_frame_and_a_missing_file_only_its_own() {
    let base = Rig::new(1);
    let written = fill(&base);
    let end = written.len() as u64;
    for path in base.segment_files() {
        let rig = base.fork();
        flip(&rig, &path, 100);
        assert_eq!(repaired(&rig, 0), []);
        check(&rig, &written, &[], end);

        let rig = base.fork();
        let own: Vec<_> = frames(&rig)
            .into_iter()
            .filter(|frame| frame.3 == path)
            .collect();
        rig.disk.remove_file(&path).unwrap();
        let lost = repaired(&rig, 0);
        let whole = own[0].1.start..own.last().unwrap().1.end;
        assert_eq!(lost, [whole]);
        check(&rig, &written, &lost, end);
    }
}

#[test]
fn no_offset_that_floor_or_a_group_knows_is_used_again() {
    let rig = Rig::new(1);
    let written = fill(&rig);
    let end = written.len() as u64;
    let path = rig.segment_files().remove(2);
    let first = frames(&rig)
        .into_iter()
        .find(|frame| frame.3 == path)
        .unwrap();
    // The file ends in its second frame; FLOOR knows more.
    let bytes = rig.bytes_of(&path);
    rig.disk.remove_file(&path).unwrap();
    let short = rig.disk.open(&path, OpenMode::CreateNew).unwrap();
    short
        .write_all_at(&bytes[..usize::try_from(first.2.end + 200).unwrap()], 0)
        .unwrap();
    let committed = rig.fork();
    let lost = repaired(&rig, 0);
    assert_eq!(lost, [first.1.end..end]);
    check(&rig, &written, &lost, end);

    let lost = repaired(&committed, end + 7);
    assert_eq!(lost, [first.1.end..end + 7]);
    check(&committed, &written, &lost, end + 7);
}

/// FLOOR is not needed for it, nor a frame behind it.
#[test]
fn no_offset_is_used_again_that_the_header_of_a_lost_frame_tells() {
    let rig = Rig::new(1);
    let written = fill(&rig);
    let end = written.len() as u64;
    let (_, offsets, bytes, path) = frames(&rig).pop().unwrap();
    assert_eq!((offsets.end - offsets.start, offsets.end), (2, end));
    rig.disk
        .remove_file(&Path::new(DATA_DIR).join(FLOOR_NAME))
        .unwrap();
    flip(&rig, &path, bytes.end - 1);
    assert_eq!(repaired(&rig, 0), std::slice::from_ref(&offsets));
    check(&rig, &written, &[offsets], end);
}

#[test]
fn damage_below_the_log_start_takes_nothing_that_can_be_read() {
    let base = Rig::new(1);
    let written = fill(&base);
    let end = written.len() as u64;
    let (_, trimmed, ..) = frames(&base).remove(3);
    let mut log = base.open_log();
    log.trim(Offset::new(trimmed.start)).unwrap();
    drop(log);
    let written: BTreeMap<_, _> = written
        .range(trimmed.start..)
        .map(|(k, v)| (*k, v.clone()))
        .collect();
    for number in 0..5 {
        let rig = base.fork();
        let (_, offsets, bytes, path) = frames(&rig).remove(number);
        flip(&rig, &path, bytes.start + 40);
        let lost = repaired(&rig, 0);
        let visible = offsets.start >= trimmed.start;
        assert_eq!(lost, if visible { vec![offsets] } else { vec![] });
        assert_eq!(rig.open_log().log_start_offset().get(), trimmed.start);
        check(&rig, &written, &lost, end);
    }
}

#[test]
fn more_offsets_than_one_frame_covers_take_several() {
    let rig = Rig::new(1);
    let written = fill(&rig);
    let path = rig.segment_files().remove(2);
    rig.disk.remove_file(&path).unwrap();
    let far = 3 * u64::from(u32::MAX);
    let lost = repaired(&rig, far);
    let gaps: Vec<_> = frames(&rig)
        .into_iter()
        .filter(|frame| frame.0 == FrameKind::Gap)
        .collect();
    assert_eq!(gaps.len(), 3);
    assert_eq!(lost[0].end, far);
    check(&rig, &written, &lost, far);
}

#[test]
fn more_frames_than_are_held_at_a_time_are_copied() {
    let mut rig = Rig::new(1);
    rig.config.segment_bytes = 16 << 20;
    let mut log = rig.open_log();
    for number in 0..12 {
        rig.put(&mut log, &[record(&[number; 700 << 10], 0)])
            .unwrap();
    }
    let written: BTreeMap<_, _> = read_all(&log).into_iter().collect();
    drop(log);
    let (_, offsets, bytes, path) = frames(&rig).remove(1);
    flip(&rig, &path, bytes.start + 1_000);
    let plan = plan(&rig, 0).unwrap();
    assert!(plan.segments[0].copied_bytes > 7_000_000);
    assert_eq!(repaired(&rig, 0), std::slice::from_ref(&offsets));
    check(&rig, &written, &[offsets], 12);
}

#[test]
fn a_time_is_looked_up_over_a_gap() {
    let rig = Rig::new(1);
    fill(&rig);
    let (_, offsets, bytes, path) = frames(&rig).remove(2);
    let first_ms = |log: &Log, offset: u64| {
        let batch = log
            .reader()
            .read(Offset::new(offset), &ReadLimit::default())
            .unwrap();
        let chunk = batch.chunks[0].clone();
        let mut records =
            flowstone_format::Records::new(&chunk, &flowstone_format::RecordLimits::NONE);
        records.next().unwrap().unwrap().1.timestamp_ms
    };
    let log = rig.open_log();
    let (before, lost, behind) = (
        first_ms(&log, offsets.start - 1),
        first_ms(&log, offsets.start),
        first_ms(&log, offsets.end),
    );
    drop(log);
    flip(&rig, &path, bytes.start + 150);
    repaired(&rig, 0);
    let reader = rig.open_log().reader();
    let found = |ms| reader.offset_for_time(ms).unwrap().map(Offset::get);
    assert!(found(before).unwrap() < offsets.start);
    assert_eq!(
        found(lost),
        Some(offsets.end),
        "the first record of that time or later"
    );
    assert_eq!(found(behind), Some(offsets.end));
}

#[test]
fn sectors_that_cannot_be_read_are_lost_and_the_rest_is_kept() {
    let rig = Rig::new(1);
    let written = fill(&rig);
    let end = written.len() as u64;
    let (_, offsets, bytes, path) = frames(&rig).remove(2);
    let bad = bytes.start + 150..bytes.start + 151;
    let (bad_path, from, to) = (
        path.clone(),
        bad.start / 512 * 512,
        bad.end.div_ceil(512) * 512,
    );
    rig.disk.set_hook(move |op| {
        let reads = matches!(
            op.kind,
            flowstone_disk::OpKind::Read | flowstone_disk::OpKind::Populate
        );
        let hit = op.path == bad_path && op.at < to && op.at + op.len > from;
        (reads && hit).then(|| std::io::ErrorKind::Other.into())
    });
    let lost = repaired(&rig, 0);
    assert!(lost.len() == 1 && lost[0].start <= offsets.start && lost[0].end >= offsets.end);
    assert!(lost[0].end - lost[0].start <= 4, "{lost:?}");
    check(&rig, &written, &lost, end);
}

#[test]
fn a_floor_of_a_later_generation_is_believed() {
    let rig = Rig::new(1);
    let written = fill(&rig);
    let end = written.len() as u64;
    let file = rig
        .disk
        .open(&Path::new(DATA_DIR).join(FLOOR_NAME), OpenMode::ReadWrite)
        .unwrap();
    let slot = FloorSlot {
        partition: PARTITION,
        generation: Generation::new(9),
        offset: Offset::new(end + 5),
        position: Position::new(5000),
        counter: 99,
    };
    let [first, _] = flowstone_format::floor_slot_positions(PARTITION);
    file.write_all_at(&slot.encode(), first).unwrap();
    let lost = repaired(&rig, 0);
    assert_eq!(lost, [end..end + 5]);
    check(&rig, &written, &lost, end + 5);
}
