//! Damage that is found while the log is in use: the same as if an opening had found it.

use std::io::ErrorKind;

use flowstone_disk::OpKind;
use flowstone_format::{Offset, Position, SEGMENT_HEADER_LEN};
use flowstone_log::{Damage, Log, LogError, ReadError, ReadLimit, Retention};

use crate::harness::{Rig, publish, read_all, read_from, record};

/// A log of 60 records, a frame each, in segments of 16.
fn filled(rig: &Rig) -> Log {
    let mut log = rig.open_log();
    for n in 0..60 {
        rig.put(&mut log, &[record(format!("{n:0600}").as_bytes(), 0)])
            .unwrap();
    }
    log
}

/// Flips a bit in the payload of the frame that holds a value.
fn rot(rig: &Rig, segment: usize, value: u64) -> std::path::PathBuf {
    let file = rig.segment_files().remove(segment);
    let text = format!("{value:0600}");
    let bytes = rig.bytes_of(&file);
    let at = bytes
        .windows(text.len())
        .position(|window| window == text.as_bytes())
        .expect("the segment holds the value");
    rig.overwrite(&file, at as u64, b"1");
    file
}

fn read_one(log: &Log, offset: u64) -> Result<u64, ReadError> {
    let limit = ReadLimit {
        max_records: 1,
        ..ReadLimit::default()
    };
    let read = log.reader().read(Offset::new(offset), &limit)?;
    Ok(read.next_offset.get())
}

fn damaged_at(result: Result<u64, ReadError>) -> u64 {
    match result {
        Err(ReadError::Corrupt(damage)) => damage.offset.get(),
        other => panic!("it should be damaged: {other:?}"),
    }
}

fn contents(rig: &Rig) -> Vec<Vec<u8>> {
    rig.files().iter().map(|path| rig.bytes_of(path)).collect()
}

#[test]
fn what_a_read_finds_takes_the_log_offline_from_there_on() {
    let rig = Rig::new(1);
    let mut log = filled(&rig);
    let written = read_all(&log);
    rot(&rig, 1, 30);
    assert_eq!(read_one(&log, 50).unwrap(), 51, "nobody has seen it yet");
    assert_eq!(damaged_at(read_one(&log, 30)), 30);

    let before = contents(&rig);
    assert_eq!(read_all(&log), written[..30], "what lies below is served");
    for offset in [30, 31, 50, 60, 70] {
        assert_eq!(damaged_at(read_one(&log, offset)), 30);
    }
    assert_eq!(log.reader().high_watermark().get(), 30);
    let error = rig.put(&mut log, &[record(b"new", 0)]).unwrap_err();
    assert!(matches!(error, LogError::Corrupt(_)), "{error}");
    let small = Retention {
        max_age_ms: None,
        max_bytes: Some(1),
        ..Retention::default()
    };
    let error = log.retain(i64::MAX, small).unwrap_err();
    assert!(matches!(error, LogError::Corrupt(_)), "{error}");
    assert!(log.roll().is_err());
    assert_eq!(contents(&rig), before, "files are untouched");
}

#[test]
fn the_first_damage_counts_whatever_is_found_first() {
    let rig = Rig::new(1);
    let log = filled(&rig);
    rot(&rig, 3, 50);
    rot(&rig, 0, 5);
    assert_eq!(damaged_at(read_one(&log, 50)), 50);
    assert_eq!(damaged_at(read_one(&log, 5)), 5);
    assert_eq!(damaged_at(read_one(&log, 50)), 5);
    assert_eq!(read_one(&log, 4).unwrap(), 5);
}

#[test]
fn a_broken_header_before_the_offset_that_is_read_is_told_where_it_lies() {
    let rig = Rig::new(1);
    let log = filled(&rig);
    let file = rig.segment_files().remove(0);
    rig.overwrite(&file, SEGMENT_HEADER_LEN + 30, &[0xff]);
    assert_eq!(damaged_at(read_one(&log, 0)), 0);
    assert_eq!(log.reader().damage().unwrap().position.get(), 4096);
}

#[test]
fn a_trim_behind_the_damage_brings_the_log_back() {
    let rig = Rig::new(1);
    let mut log = filled(&rig);
    rot(&rig, 1, 30);
    damaged_at(read_one(&log, 30));
    let reader = log.reader();
    let end = reader.segment_end(Offset::new(30)).unwrap();
    assert!((31..60).contains(&end.get()));
    let active = rig.segment_files().pop();
    log.trim(Offset::new(20)).unwrap();
    assert_eq!(damaged_at(read_one(&log, 30)), 30, "it is still there");

    assert_eq!(log.trim(end).unwrap(), end);
    assert_eq!(reader.damage(), None);
    assert_eq!(read_one(&log, end.get()).unwrap(), end.get() + 1);
    rig.put(&mut log, &[record(b"new", 0)]).unwrap();
    assert_eq!(rig.segment_files().pop(), active, "no need to seal it");
    drop(log);
    let log = rig.open_log();
    assert_eq!(log.damage(), None);
    let read = read_from(&log.reader(), end, 1 << 20);
    assert_eq!(read.len() as u64, 61 - end.get());
}

#[test]
fn a_trim_behind_damage_in_the_active_segment_seals_it_off() {
    let rig = Rig::new(1);
    let mut log = filled(&rig);
    let last = rig.segment_files().len() - 1;
    rot(&rig, last, 58);
    damaged_at(read_one(&log, 58));
    assert_eq!(log.reader().segment_end(Offset::new(58)), None);
    log.trim(Offset::new(59)).unwrap();
    rig.put(&mut log, &[record(b"new", 0)]).unwrap();
    assert_eq!(read_all(&log).len(), 2);
    drop(log);
    let log = rig.open_log();
    assert_eq!(
        log.damage(),
        None,
        "an opening scans the active segment, and the damage is not there any more"
    );
    assert_eq!(read_all(&log).len(), 2);
}

#[test]
fn what_was_staged_when_damage_is_found_is_committed() {
    let rig = Rig::new(1);
    let mut log = filled(&rig);
    rot(&rig, 1, 30);
    rig.append(&mut log, &[record(b"staged", 0)]).unwrap();
    damaged_at(read_one(&log, 30));
    publish(&mut log).unwrap();
    assert_eq!(log.reader().durable_end().get(), 61);
    assert_eq!(log.reader().high_watermark().get(), 30);
    log.trim(Offset::new(60)).unwrap();
    assert_eq!(read_all(&log), [(60, b"staged".to_vec())]);
}

#[test]
fn an_error_that_passes_is_no_damage_and_one_of_the_medium_is() {
    let rig = Rig::new(1);
    drop(filled(&rig));
    for kind in [OpKind::Populate, OpKind::Read] {
        let log = rig.open_log();
        rig.disk.fail_nth(kind, 1, ErrorKind::OutOfMemory);
        // A failed read of an index is no error: it is rebuilt.
        let read = read_one(&log, 0);
        assert!(
            matches!(read, Err(ReadError::Io { .. }) | Ok(_)),
            "{read:?}"
        );
        rig.disk.clear_faults();
        assert_eq!(log.reader().damage(), None);
        assert_eq!(read_one(&log, 0).unwrap(), 1);
    }
    let log = rig.open_log();
    rig.disk.fail_nth(OpKind::Open, 1, ErrorKind::Other);
    rig.disk.fail_nth(OpKind::Open, 2, ErrorKind::Other);
    let read = read_one(&log, 0);
    assert!(matches!(read, Err(ReadError::Io { .. })), "{read:?}");
    rig.disk.clear_faults();
    assert_eq!(
        read_one(&log, 0).unwrap(),
        1,
        "a file that cannot be opened now is no damage"
    );

    rig.disk.set_hook(|op| {
        let broken = op.kind == OpKind::Populate && op.at > SEGMENT_HEADER_LEN;
        broken.then(|| ErrorKind::Other.into())
    });
    assert_eq!(damaged_at(read_one(&log, 30)), 30);
    rig.disk.clear_faults();
    assert_eq!(read_one(&log, 0).unwrap(), 1);
}

#[test]
fn a_read_serves_what_lies_before_the_damage_that_it_comes_upon() {
    let rig = Rig::new(1);
    let log = filled(&rig);
    rot(&rig, 1, 30);
    let read = log
        .reader()
        .read(Offset::new(20), &ReadLimit::default())
        .expect("what was read before the damage is served");
    assert_eq!((read.record_count, read.next_offset), (10, Offset::new(30)));
    assert_eq!(damaged_at(read_one(&log, 30)), 30);
}

#[test]
fn what_was_told_first_of_a_place_stays_until_it_is_trimmed() {
    let rig = Rig::new(1);
    let mut log = filled(&rig);
    let reader = log.reader();
    let told = |offset, detail: &str| Damage {
        offset: Offset::new(offset),
        path: rig.dir(),
        position: Position::ZERO,
        detail: detail.to_owned(),
    };
    reader.note_damage(&told(30, "first"));
    reader.note_damage(&told(30, "again"));
    reader.note_damage(&told(40, "behind"));
    assert_eq!(reader.damage(), Some(told(30, "first")));
    reader.note_damage(&told(20, "before"));
    assert_eq!(reader.damage(), Some(told(20, "before")));
    log.trim(Offset::new(20)).unwrap();
    assert!(reader.damage().is_some(), "the first record is damaged");
    log.trim(Offset::new(21)).unwrap();
    assert_eq!(reader.damage(), None);
    reader.note_damage(&told(5, "trimmed"));
    assert_eq!(reader.damage(), None);
}

#[test]
fn what_a_reader_has_found_stays_found_when_the_log_recovers() {
    let rig = Rig::new(1);
    let mut log = filled(&rig);
    rot(&rig, 1, 30);
    damaged_at(read_one(&log, 30));
    log.reopen(None).unwrap();
    assert_eq!(damaged_at(read_one(&log, 40)), 30);
}
