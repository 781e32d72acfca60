//! A roll does not wait for the old segment's sync: what is written behind it counts once that is on disk, and is gone
//! where that was cut short.

#![allow(
    clippy::single_range_in_vec_init,
    reason = "what is lost is a list of ranges"
)]

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use flowstone_disk::{Disk, OpKind, OpenMode};
use flowstone_format::{
    FLOOR_NAME, FloorSlot, Generation, MANIFEST_NAME, MANIFEST_TEMP_NAME, Manifest, Offset,
    Position, SegmentState,
};
use flowstone_log::inspect::{self, PartitionReport};
use flowstone_log::{Log, LogError};

use crate::crash_points::{Crash, crash_at};
use crate::harness::{DATA_DIR, PARTITION, Rig, read_all, record, values};
use crate::repair;

fn value(number: u64) -> Vec<u8> {
    let mut value = format!("{number}-").into_bytes();
    value.resize(600, b'v');
    value
}

/// Appends records with the numbers of their offsets, one a batch, and hands them to the operating system.
fn write(rig: &Rig, log: &mut Log, count: u64) -> Result<(), LogError> {
    for _ in 0..count {
        let offset = log.log_end_offset().get();
        rig.append(log, &[record(&value(offset), 0)])?;
    }
    log.write()
}

/// Three records that are durable and three that are not, and a segment behind them with two.
fn closing(rig: &Rig) -> Log {
    closing_with(rig, 3)
}

fn closing_with(rig: &Rig, unsynced: u64) -> Log {
    let mut log = rig.open_log();
    write(rig, &mut log, 3).unwrap();
    log.sync().unwrap();
    write(rig, &mut log, unsynced).unwrap();
    log.roll().unwrap();
    write(rig, &mut log, 2).unwrap();
    assert_eq!(states(rig), [SegmentState::Closing, SegmentState::Active]);
    log
}

fn manifest(rig: &Rig) -> Manifest {
    Manifest::decode(&rig.bytes_of(&rig.dir().join(MANIFEST_NAME))).unwrap()
}

fn states(rig: &Rig) -> Vec<SegmentState> {
    let segments = manifest(rig).segments;
    segments.iter().map(|entry| entry.state).collect()
}

fn expected(end: u64) -> Vec<(u64, Vec<u8>)> {
    (0..end).map(|offset| (offset, value(offset))).collect()
}

fn look(rig: &Rig) -> PartitionReport {
    let disk = rig.disk.disk();
    inspect::inspect(&disk, Path::new(DATA_DIR), PARTITION, |_, _| ()).unwrap()
}

/// Lets the last frames of the closing segment read as zeros, as if they had never come to disk.
fn lose_the_end(rig: &Rig) -> PathBuf {
    let entry = &manifest(rig).segments[0];
    let name = flowstone_format::segment_name(entry.base_offset, entry.id);
    let path = rig.dir().join(name);
    rig.overwrite(&path, entry.end_position.get() - 1_000, &[0; 1_000]);
    path
}

/// Puts the MANIFEST back to when the first segment was closing.
fn list_as_closing(rig: &Rig) {
    let mut manifest = manifest(rig);
    manifest.segments[0].state = SegmentState::Closing;
    rig.overwrite(&rig.dir().join(MANIFEST_NAME), 0, &manifest.encode());
}

#[test]
fn a_roll_syncs_no_more_than_it_may_and_frames_go_on() {
    for (roll_unsynced_bytes, left) in [(0, true), (2_000, true), (2_500, false)] {
        let mut rig = Rig::new(1);
        rig.config.roll_unsynced_bytes = roll_unsynced_bytes;
        let mut log = rig.open_log();
        write(&rig, &mut log, 3).unwrap();
        let synced = rig.disk.count(OpKind::SyncData);
        log.roll().unwrap();
        write(&rig, &mut log, 1).unwrap();
        let of_roll = rig.disk.count(OpKind::SyncData) - synced;
        assert_eq!(of_roll == 0, left, "{roll_unsynced_bytes}");
        assert_eq!(states(&rig)[0] == SegmentState::Closing, left);
        assert_eq!(log.durable().offset.get(), if left { 0 } else { 3 });
    }
}

#[test]
fn what_stands_behind_a_closing_segment_is_durable_with_it_and_not_before() {
    let rig = Rig::new(1);
    let mut log = closing(&rig);
    assert_eq!(log.durable().offset.get(), 3);
    let (floor, listed) = (log.floor().unwrap(), manifest(&rig).segments);
    assert_eq!(floor.generation, listed[0].generation);
    assert_eq!(floor.offset.get(), 3);

    let unsynced = log.unsynced().unwrap().unwrap();
    unsynced.sync().unwrap();
    write(&rig, &mut log, 1).unwrap();
    let durable = log.synced(&unsynced).unwrap().unwrap();
    assert_eq!(durable.offset.get(), 8, "not what came after the sync");
    assert_eq!(states(&rig), [SegmentState::Sealed, SegmentState::Active]);
    let floor = log.floor().unwrap();
    assert_eq!(floor.generation, listed[1].generation);
    log.set_high_watermark(durable.offset);
    assert_eq!(read_all(&log), expected(8));
    drop(log);
    rig.disk.power_cut();
    let log = rig.open_log();
    assert_eq!(read_all(&log)[..8], expected(8));
}

#[test]
fn a_sync_that_began_before_the_roll_makes_nothing_durable_that_came_later() {
    let rig = Rig::new(1);
    let mut log = rig.open_log();
    write(&rig, &mut log, 2).unwrap();
    let before = log.unsynced().unwrap().unwrap();
    write(&rig, &mut log, 1).unwrap();
    log.roll().unwrap();
    write(&rig, &mut log, 1).unwrap();
    before.sync().unwrap();
    assert_eq!(log.synced(&before).unwrap().unwrap().offset.get(), 2);
    assert_eq!(states(&rig), [SegmentState::Closing, SegmentState::Active]);
    let rest = log.unsynced().unwrap().unwrap();
    rest.sync().unwrap();
    assert_eq!(log.synced(&rest).unwrap().unwrap().offset.get(), 4);
    assert_eq!(log.synced(&before).unwrap().unwrap().offset.get(), 4);
}

#[test]
fn a_second_roll_waits_for_the_first() {
    let rig = Rig::new(1);
    let mut log = closing(&rig);
    log.roll().unwrap();
    use SegmentState::{Active, Closing, Sealed};
    assert_eq!(states(&rig), [Sealed, Closing, Active]);
    assert_eq!(log.durable().offset.get(), 6);
    assert_eq!(log.sync().unwrap().offset.get(), 8);
    assert_eq!(states(&rig), [Sealed, Sealed, Active]);
}

#[test]
fn a_disk_that_is_full_at_the_seal_leaves_what_is_behind_it_not_durable() {
    let rig = Rig::new(1);
    let mut log = closing(&rig);
    let unsynced = log.unsynced().unwrap().unwrap();
    unsynced.sync().unwrap();
    rig.disk.set_hook(|op| {
        let is_temp = op.path.ends_with(MANIFEST_TEMP_NAME) && op.kind == OpKind::Open;
        is_temp.then(|| io::ErrorKind::StorageFull.into())
    });
    for _ in 0..2 {
        let error = log.synced(&unsynced).unwrap_err();
        assert!(matches!(error, LogError::DiskFull { .. }), "{error}");
        assert_eq!(log.durable().offset.get(), 6);
        assert!(!log.is_poisoned());
    }
    write(&rig, &mut log, 1).unwrap();
    rig.disk.clear_faults();
    let unsynced = log.unsynced().unwrap().unwrap();
    unsynced.sync().unwrap();
    assert_eq!(log.synced(&unsynced).unwrap().unwrap().offset.get(), 9);
}

#[test]
fn a_start_without_space_for_the_seal_serves_what_is_before_it_and_goes_on_later() {
    let rig = Rig::new(1);
    drop(closing(&rig));
    rig.disk.set_hook(|op| {
        let is_temp = op.path.ends_with(MANIFEST_TEMP_NAME) && op.kind == OpKind::Open;
        is_temp.then(|| io::ErrorKind::StorageFull.into())
    });
    let mut log = rig.open_log();
    assert_eq!(log.damage(), None);
    assert!(log.is_poisoned());
    assert_eq!(read_all(&log), expected(6));
    rig.disk.clear_faults();
    log.reopen(None).unwrap();
    assert_eq!(read_all(&log), expected(8));
    write(&rig, &mut log, 1).unwrap();
}

#[test]
fn all_that_was_written_survives_the_process() {
    let rig = Rig::new(1);
    drop(closing(&rig));
    rig.disk.process_crash();
    let report = look(&rig);
    assert_eq!(report.damages, []);
    assert_eq!(report.end_offset().get(), 8);
    let log = rig.open_log();
    assert_eq!(read_all(&log), expected(8));
    assert_eq!(states(&rig), [SegmentState::Sealed, SegmentState::Active]);
}

#[test]
fn what_is_behind_a_segment_that_was_cut_short_goes_with_its_end() {
    let (mut whole, mut cut) = (0, 0);
    for seed in 0..100 {
        let rig = Rig::new(seed);
        drop(closing_with(&rig, 1));
        rig.disk.power_cut();
        let told = look(&rig);
        assert_eq!(told.damages, []);
        let mut log = rig.open_log();
        assert_eq!(log.damage(), None);
        let end = log.log_end_offset().get();
        assert_eq!(told.end_offset().get(), end);
        assert_eq!(read_all(&log), expected(end));
        match end {
            3 => {
                cut += 1;
                assert!(told.segments[0].torn_tail);
                assert_eq!(states(&rig), [SegmentState::Sealed]);
                assert_eq!(rig.segment_files().len(), 1, "it is moved aside");
            }
            4.. => whole += 1,
            _ => panic!("what was durable is gone: {end}"),
        }
        write(&rig, &mut log, 2).unwrap();
        log.sync().unwrap();
        drop(log);
        rig.disk.power_cut();
        assert_eq!(read_all(&rig.open_log()), expected(end + 2));
    }
    assert!(whole > 5 && cut > 5, "{whole} whole and {cut} cut");
}

#[test]
fn a_closing_segment_that_was_known_to_be_on_disk_is_not_cut_but_damaged() {
    let durable_behind = |rig: &Rig| {
        let mut log = closing(rig);
        log.sync().unwrap();
        write(rig, &mut log, 1).unwrap();
        log.sync().unwrap();
        log
    };
    // By a frame behind it, which tells of a sync of the one before.
    let rig = Rig::new(1);
    drop(durable_behind(&rig));
    list_as_closing(&rig);
    assert_eq!(
        rig.fork().open_log().log_end_offset().get(),
        9,
        "it is whole"
    );
    let path = lose_the_end(&rig);
    let damaged = |rig: &Rig, by: &str| {
        let log = rig.open_log();
        let damage = log.damage().unwrap();
        assert_eq!(damage.path, path);
        assert!(damage.detail.contains(by), "{}", damage.detail);
        let told = look(rig).damages;
        assert_eq!(told.len(), 1);
        assert_eq!(told[0].detail, damage.detail);
        assert_eq!(read_all(&log), expected(damage.offset.get()));
        assert!((3..6).contains(&damage.offset.get()));
    };
    damaged(&rig, "as the segment behind it tells");

    // By FLOOR alone.
    let rig = Rig::new(1);
    drop(closing(&rig));
    lose_the_end(&rig);
    assert_eq!(look(&rig).damages, []);
    let file = rig
        .disk
        .open(&Path::new(DATA_DIR).join(FLOOR_NAME), OpenMode::ReadWrite);
    let slot = FloorSlot {
        partition: PARTITION,
        generation: Generation::new(2),
        offset: Offset::new(6),
        position: Position::new(4_096),
        counter: 99,
    };
    let [first, _] = flowstone_format::floor_slot_positions(PARTITION);
    file.unwrap().write_all_at(&slot.encode(), first).unwrap();
    damaged(&rig, "as FLOOR tells");
}

#[test]
fn rot_in_a_closing_segment_is_damage() {
    let rig = Rig::new(1);
    drop(closing(&rig));
    let entry = manifest(&rig).segments.remove(0);
    let name = flowstone_format::segment_name(entry.base_offset, entry.id);
    let path = rig.dir().join(name);
    rig.overwrite(&path, entry.end_position.get() - 300, b"rot");
    let log = rig.open_log();
    assert_eq!(log.damage().unwrap().offset.get(), 5);
    assert_eq!(read_all(&log), expected(5));
    assert_eq!(look(&rig).damages.len(), 1);
    drop(log);
    let written: BTreeMap<_, _> = expected(8).into_iter().collect();
    assert_eq!(repair::repaired(&rig, 0), [5..6]);
    repair::check(&rig, &written, &[5..6], 8);
}

#[test]
fn a_repair_leaves_a_closing_segment_to_the_next_start() {
    let rig = Rig::new(1);
    let mut log = rig.open_log();
    rig.put(&mut log, &values(["to be damaged"])).unwrap();
    log.roll().unwrap();
    write(&rig, &mut log, 3).unwrap();
    log.roll().unwrap();
    write(&rig, &mut log, 2).unwrap();
    drop(log);
    let first = &manifest(&rig).segments[0];
    let name = flowstone_format::segment_name(first.base_offset, first.id);
    rig.overwrite(&rig.dir().join(name), first.end_position.get() - 20, b"rot");
    let written: BTreeMap<_, _> = expected(6).into_iter().skip(1).collect();
    for active_is_lost in [false, true] {
        let rig = rig.fork();
        let end = if active_is_lost {
            let last = manifest(&rig).segments.remove(2);
            let name = flowstone_format::segment_name(last.base_offset, last.id);
            rig.disk.remove_file(&rig.dir().join(name)).unwrap();
            4
        } else {
            6
        };
        assert_eq!(repair::repaired(&rig, 0), [0..1]);
        let written = written.clone().into_iter().filter(|(at, _)| *at < end);
        repair::check(&rig, &written.collect(), &[0..1], end);
    }
}

/// A life with syncs as a broker makes them, beside which frames are written: what was acknowledged after a sync, and
/// how far it was written.
#[derive(Default)]
struct Life {
    durable: u64,
    written: u64,
}

impl Life {
    fn live(&mut self, rig: &Rig) -> Result<(), LogError> {
        let (mut log, floor) = rig.open()?;
        assert!(log.log_end_offset().get() >= self.durable);
        self.written = log.log_end_offset().get();
        for round in 0..8 {
            self.write(rig, &mut log, 9)?;
            let unsynced = log.unsynced()?.expect("something was written");
            self.write(rig, &mut log, 2 + round)?;
            unsynced.sync()?;
            self.write(rig, &mut log, 1)?;
            let durable = log.synced(&unsynced)?.expect("nothing was reopened");
            log.set_high_watermark(durable.offset);
            self.durable = durable.offset.get();
            if round % 3 == 0 {
                floor.put(log.floor().expect("there is a segment"))?;
                floor.sync()?;
            }
        }
        Ok(())
    }

    fn write(&mut self, rig: &Rig, log: &mut Log, count: u64) -> Result<(), LogError> {
        write(rig, log, count)?;
        self.written = log.log_end_offset().get();
        Ok(())
    }

    /// That all is there that was durable, or that was written.
    fn check(&self, log: &Log, all: bool) {
        assert_eq!(log.damage(), None, "a crash is never damage");
        let end = log.log_end_offset().get();
        let least = if all { self.written } else { self.durable };
        assert!(end >= least, "{end} of {least}");
        assert_eq!(read_all(log), expected(end));
    }
}

#[test]
fn a_crash_at_every_operation_beside_syncs_takes_nothing_that_was_promised() {
    for crash in [Crash::PowerCut, Crash::ProcessDies] {
        let mut points = 0;
        for nth in 1.. {
            let mut rig = Rig::new(nth);
            rig.config.segment_bytes = 12 << 10;
            let mut life = Life::default();
            life.live(&rig).expect("nothing disturbs the first life");
            if !crash_at(&rig, nth, crash, || life.live(&rig)) {
                break;
            }
            points += 1;
            let written = life.written;
            crash_at(&rig, 1 + nth * 7 % 29, crash, || life.live(&rig));
            life.written = written.max(life.written);
            life.check(&rig.open_log(), crash == Crash::ProcessDies);
            life.live(&rig).expect("the log goes on after its crashes");
        }
        assert!(points > 100, "only {points} points");
    }
}
