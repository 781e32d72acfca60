//! Trim and retention drop a prefix; truncation seals off a suffix.

use std::sync::Mutex;
use std::time::Duration;

use flowstone_disk::{Disk, OpKind};
use flowstone_format::Offset;
use flowstone_log::{Log, LogError, MakeRoom, ReadError, ReadLimit, Retained, Retention};

use crate::harness::{Rig, START_MS, publish, read_all, record, strings, values};

fn filled(rig: &Rig, records: u64) -> Log {
    let mut log = rig.open_log();
    for n in 0..records {
        rig.clock.set(START_MS + i64::try_from(n).unwrap() * 1000);
        rig.put(&mut log, &[record(format!("{n:0500}").as_bytes(), 0)])
            .unwrap();
    }
    log
}

fn offsets(log: &Log) -> Vec<u64> {
    read_all(log)
        .into_iter()
        .map(|(offset, _)| offset)
        .collect()
}

#[test]
fn a_trim_moves_the_start_at_once_and_for_good() {
    let rig = Rig::new(1);
    let mut log = filled(&rig, 100);
    let segments = log.reader().segment_count();
    assert_eq!(log.trim(Offset::new(45)).unwrap().get(), 45);
    assert_eq!(offsets(&log), (45..100).collect::<Vec<_>>());
    assert!(
        log.reader().segment_count() < segments,
        "whole segments below are gone"
    );
    let below = log.reader().read(Offset::new(44), &ReadLimit::default());
    assert!(
        matches!(below, Err(ReadError::OutOfRange { log_start_offset, .. }) if log_start_offset.get() == 45)
    );
    let operations = rig.disk.count_all();
    for no_higher in [10, 45] {
        let start = log.trim(Offset::new(no_higher)).unwrap();
        assert_eq!(start.get(), 45, "a start never goes back");
    }
    assert_eq!(rig.disk.count_all(), operations, "nothing was written");
    rig.disk.power_cut();
    assert_eq!(offsets(&rig.open_log()), (45..100).collect::<Vec<_>>());
}

#[test]
fn a_trim_to_the_end_leaves_a_log_that_goes_on() {
    let rig = Rig::new(1);
    let mut log = filled(&rig, 40);
    assert_eq!(log.trim(Offset::new(40)).unwrap().get(), 40);
    assert!(offsets(&log).is_empty());
    drop(log);
    let mut log = rig.open_log();
    rig.put(&mut log, &values(["next"])).unwrap();
    assert_eq!(strings(read_all(&log)), [(40, "next".into())]);
}

#[test]
fn a_trim_beyond_the_watermark_is_refused() {
    let rig = Rig::new(1);
    let mut log = filled(&rig, 3);
    rig.append(&mut log, &values(["not visible yet"])).unwrap();
    let error = log.trim(Offset::new(4)).unwrap_err();
    assert!(matches!(error, LogError::OutOfRange { .. }), "{error}");
}

#[test]
fn retention_by_age_drops_whole_segments_only() {
    let rig = Rig::new(1);
    let mut log = filled(&rig, 100);
    let retention = Retention {
        max_age_ms: Some(60_000),
        max_bytes: None,
        ..Retention::default()
    };
    let now = START_MS + 99_000;
    let retained = log.retain(now, retention).unwrap();
    assert!(retained.segments > 0 && retained.bytes > 0);
    let start = log.log_start_offset().get();
    assert!(
        start > 0 && start <= 39,
        "records younger than a minute stay: {start}"
    );
    assert_eq!(offsets(&log), (start..100).collect::<Vec<_>>());
    assert_eq!(log.retain(now, retention).unwrap(), Retained::default());
    drop(log);
    assert_eq!(offsets(&rig.open_log()), (start..100).collect::<Vec<_>>());
}

#[test]
fn a_segment_of_just_the_greatest_age_stays() {
    let rig = Rig::new(1);
    let mut log = rig.open_log();
    rig.put(&mut log, &values(["old"])).unwrap();
    log.roll().unwrap();
    rig.clock.advance(Duration::from_millis(1));
    rig.put(&mut log, &values(["new"])).unwrap();
    let retention = Retention {
        max_age_ms: Some(60_000),
        ..Retention::default()
    };
    let retained = log.retain(START_MS + 60_000, retention).unwrap();
    assert_eq!(retained, Retained::default());
    assert_eq!(
        log.retain(START_MS + 60_001, retention).unwrap().segments,
        1
    );
    assert_eq!(strings(read_all(&log)), [(1, "new".into())]);
    let segments = log.reader().segment_count();
    assert_eq!(segments, 2, "the new record's was sealed, too");
}

#[test]
fn a_quiet_partition_is_emptied_by_age_and_goes_on_at_its_offset() {
    let rig = Rig::new(1);
    let mut log = filled(&rig, 5);
    let retention = Retention {
        max_age_ms: Some(60_000),
        max_bytes: None,
        ..Retention::default()
    };
    log.retain(START_MS + 3_600_000, retention).unwrap();
    assert!(offsets(&log).is_empty());
    assert_eq!(log.log_start_offset().get(), 5);
    drop(log);
    let mut log = rig.open_log();
    rig.put(&mut log, &values(["next"])).unwrap();
    assert_eq!(strings(read_all(&log)), [(5, "next".into())]);
}

#[test]
fn a_trickle_of_records_is_kept_for_little_longer_than_its_age() {
    const MAX_AGE_MS: i64 = 80_000;
    let rig = Rig::new(1);
    let mut log = rig.open_log();
    let retention = Retention {
        max_age_ms: Some(MAX_AGE_MS),
        ..Retention::default()
    };
    for second in 0..300 {
        let now = START_MS + second * 1000;
        rig.clock.set(now);
        rig.put(&mut log, &values(["drip"])).unwrap();
        log.retain(now, retention).unwrap();
        let oldest = log.log_start_offset().get();
        let age = now - (START_MS + i64::try_from(oldest).unwrap() * 1000);
        // A segment holds records of an eighth of the age, and of the second in which it is found to.
        assert!(age <= MAX_AGE_MS + MAX_AGE_MS / 8 + 2000, "{age}");
        assert!(age >= MAX_AGE_MS.min(second * 1000), "{age}");
    }
    let segments = log.reader().segment_count();
    assert!((8..=10).contains(&segments), "{segments}");
}

#[test]
fn a_recovered_segment_is_sealed_at_its_age() {
    let rig = Rig::new(1);
    let mut log = rig.open_log();
    rig.put(&mut log, &values(["drip"])).unwrap();
    drop(log);
    let mut log = rig.open_log();
    let retention = Retention {
        max_age_ms: Some(80_000),
        ..Retention::default()
    };
    log.retain(START_MS + 10_000, retention).unwrap();
    assert_eq!(log.reader().segment_count(), 1);
    log.retain(START_MS + 10_001, retention).unwrap();
    assert_eq!(log.reader().segment_count(), 2);
}

#[test]
fn retention_by_size_keeps_at_least_that_much() {
    let rig = Rig::new(1);
    let mut log = filled(&rig, 100);
    let before = log.reader().size_bytes();
    let retention = Retention {
        max_age_ms: None,
        max_bytes: Some(30_000),
        ..Retention::default()
    };
    let retained = log.retain(START_MS, retention).unwrap();
    let after = log.reader().size_bytes();
    assert_eq!(before - after, retained.bytes);
    assert!(
        (30_000..30_000 + rig.config.segment_bytes).contains(&after),
        "{after}"
    );
}

#[test]
fn room_is_made_only_where_there_is_none_and_only_of_what_nobody_needs() {
    let rig = Rig::new(1);
    let mut log = filled(&rig, 100);
    let room = |full_bytes, below| Retention {
        make_room: Some(MakeRoom {
            full_bytes,
            below: Offset::new(below),
        }),
        ..Retention::default()
    };
    let size = log.size_bytes();
    let listed = rig.bytes_of(&rig.dir().join("MANIFEST"));
    let keeps = |log: &mut flowstone_log::Log, retention| {
        assert_eq!(
            log.retain(START_MS, retention).unwrap(),
            Retained::default()
        );
    };
    keeps(&mut log, room(size + 1, 100));
    keeps(&mut log, room(1, 0));
    assert_eq!(
        rig.bytes_of(&rig.dir().join("MANIFEST")),
        listed,
        "none was sealed"
    );
    log.retain(START_MS, room(size, 100)).unwrap();
    let start = log.log_start_offset().get();
    assert!(start > 0 && log.size_bytes() < size);
    keeps(&mut log, room(size, 100));
    log.retain(START_MS, room(1, 60)).unwrap();
    let start = log.log_start_offset().get();
    assert!((40..=60).contains(&start), "{start}");
    assert_eq!(offsets(&log), (start..100).collect::<Vec<_>>());
    log.retain(START_MS, room(4097, 99)).unwrap();
    assert!(!offsets(&log).is_empty(), "the last record is needed");
    log.retain(START_MS, room(4097, 100)).unwrap();
    assert_eq!(
        log.size_bytes(),
        4096,
        "an active segment is sealed and goes too"
    );
    drop(log);
    let mut log = rig.open_log();
    assert!(offsets(&log).is_empty());
    rig.put(&mut log, &values(["next"])).unwrap();
    assert_eq!(strings(read_all(&log)), [(100, "next".into())]);
}

#[test]
fn a_reader_keeps_what_it_holds_while_its_segment_goes() {
    let rig = Rig::new(1);
    let mut log = filled(&rig, 100);
    let held = log
        .reader()
        .read(Offset::ZERO, &ReadLimit::default())
        .unwrap();
    let copy: Vec<_> = held.chunks.iter().map(|chunk| chunk.to_vec()).collect();
    log.trim(Offset::new(90)).unwrap();
    assert_eq!(copy, held.chunks);
}

#[test]
fn a_read_that_a_trim_overtakes_is_out_of_range() {
    let rig = Rig::new(1);
    let log = filled(&rig, 100);
    let reader = log.reader();
    let first = rig.segment_files().remove(0);
    let log = Mutex::new(Some(log));
    rig.disk.set_hook(move |op| {
        if op.kind == OpKind::Open && op.path == first {
            let taken = log.lock().unwrap().take();
            if let Some(mut log) = taken {
                log.trim(Offset::new(90)).unwrap();
            }
        }
        None
    });
    let read = reader.read(Offset::ZERO, &ReadLimit::default());
    assert!(
        matches!(read, Err(ReadError::OutOfRange { log_start_offset, .. }) if log_start_offset.get() == 90),
        "{read:?}"
    );
    assert_eq!(reader.damage(), None);
}

#[test]
fn a_truncation_seals_off_the_suffix_and_keeps_its_bytes() {
    let rig = Rig::new(1);
    let mut log = rig.open_log();
    rig.put(&mut log, &values(["a", "b"])).unwrap();
    rig.append(&mut log, &values(["c"])).unwrap();
    rig.append(&mut log, &values(["d"])).unwrap();
    log.sync().unwrap();
    let file = rig.segment_files().remove(0);
    let bytes = rig.bytes_of(&file);

    let inside = log.truncate(Offset::new(1)).unwrap_err();
    assert!(
        matches!(inside, LogError::OutOfRange { .. }),
        "below the watermark: {inside}"
    );
    log.truncate(Offset::new(3)).unwrap();
    assert_eq!(log.log_end_offset().get(), 3);
    rig.append(&mut log, &values(["D"])).unwrap();
    publish(&mut log).unwrap();
    let expected = [
        (0, "a".into()),
        (1, "b".into()),
        (2, "c".into()),
        (3, "D".into()),
    ];
    assert_eq!(strings(read_all(&log)), expected);
    assert_eq!(
        rig.bytes_of(&file),
        bytes,
        "the old bytes stay behind the seal"
    );
    rig.disk.power_cut();
    assert_eq!(strings(read_all(&rig.open_log())), expected);
}

#[test]
fn a_truncation_falls_between_batches() {
    let rig = Rig::new(1);
    let mut log = rig.open_log();
    rig.append(&mut log, &values(["a", "b"])).unwrap();
    let error = log.truncate(Offset::new(1)).unwrap_err();
    assert!(matches!(error, LogError::NotABoundary { .. }), "{error}");
}

#[test]
fn a_truncation_over_segments_moves_them_aside() {
    let rig = Rig::new(1);
    let mut log = rig.open_log();
    for n in 0..100 {
        rig.append(&mut log, &[record(format!("{n:0500}").as_bytes(), 0)])
            .unwrap();
    }
    log.sync().unwrap();
    let segments = log.reader().segment_count();
    log.truncate(Offset::new(10)).unwrap();
    publish(&mut log).unwrap();
    assert_eq!(log.reader().segment_count(), 1);
    let aside = rig.disk.list(&rig.dir().join("aside")).unwrap();
    assert_eq!(aside.len(), segments - 1);
    assert_eq!(offsets(&log), (0..10).collect::<Vec<_>>());
    rig.put(&mut log, &values(["next"])).unwrap();
    drop(log);
    assert_eq!(offsets(&rig.open_log()), (0..11).collect::<Vec<_>>());
}

#[test]
fn everything_may_be_truncated_away() {
    let rig = Rig::new(1);
    let mut log = rig.open_log();
    rig.append(&mut log, &values(["a"])).unwrap();
    log.truncate(Offset::ZERO).unwrap();
    rig.put(&mut log, &values(["A"])).unwrap();
    assert_eq!(strings(read_all(&log)), [(0, "A".into())]);
    drop(log);
    assert_eq!(strings(read_all(&rig.open_log())), [(0, "A".into())]);
}
