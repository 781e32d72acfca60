//! Rot is told, never guessed away: the right bytes or an error, and files untouched.

use flowstone_disk::{Disk, OpenMode};
use flowstone_format::{Offset, SEGMENT_HEADER_LEN};
use flowstone_log::{Floor, Log, LogError, ReadError, ReadLimit, inspect};

use crate::harness::{DATA_DIR, PARTITION, Rig, read_all, record, strings, values};

/// Five records, a frame each, whose floor is at their end.
fn with_floor(rig: &Rig) -> Vec<(u64, Vec<u8>)> {
    let (mut log, floor) = rig.open().unwrap();
    for n in 0..5 {
        rig.put(&mut log, &[record(format!("{n:0600}").as_bytes(), 0)])
            .unwrap();
    }
    keep_floor(&log, &floor);
    read_all(&log)
}

fn keep_floor(log: &Log, floor: &Floor) {
    floor.put(log.floor().unwrap()).unwrap();
    floor.sync().unwrap();
}

/// Everything that is served is what was written; then the damage is told.
fn served_before_damage(log: &Log, written: &[(u64, Vec<u8>)]) -> u64 {
    let damage = log.damage().expect("the damage is told").clone();
    assert_eq!(
        read_all(log),
        written[..usize::try_from(damage.offset.get()).unwrap()]
    );
    let error = log.reader().read(damage.offset, &ReadLimit::default());
    assert!(matches!(error, Err(ReadError::Corrupt(_))), "{error:?}");
    assert!(log.reader().is_offline());
    damage.offset.get()
}

fn contents(rig: &Rig) -> Vec<(std::path::PathBuf, Vec<u8>)> {
    rig.files()
        .into_iter()
        .map(|path| (path.clone(), rig.bytes_of(&path)))
        .collect()
}

#[test]
fn every_flipped_byte_below_the_floor_is_found_at_the_open() {
    let rig = Rig::new(1);
    let written = with_floor(&rig);
    let file = rig.segment_files().remove(0);
    let bytes = rig.bytes_of(&file);
    let end = bytes.iter().rposition(|&byte| byte != 0).unwrap() + 1;
    for at in (0..end).step_by(7) {
        rig.overwrite(&file, at as u64, &[bytes[at] ^ 0x10]);
        let before = contents(&rig);
        let mut log = rig.open_log();
        served_before_damage(&log, &written);
        let error = rig.put(&mut log, &values(["x"])).unwrap_err();
        assert!(matches!(error, LogError::Corrupt(_)), "{error}");
        assert_eq!(contents(&rig), before, "files are untouched");
        rig.overwrite(&file, at as u64, &[bytes[at]]);
    }
    assert_eq!(read_all(&rig.open_log()), written);
}

/// The last 64 MiB below the floor are checked whole at a start. Before that headers are, and payloads by whoever reads
/// them, as those of sealed segments.
#[test]
fn a_flipped_byte_far_below_the_floor_is_found_by_who_reads_it() {
    let mut rig = Rig::new(1);
    rig.config.segment_bytes = 128 << 20;
    let (mut log, floor) = rig.open().unwrap();
    for n in 0..13u8 {
        let records = vec![record(&vec![n + 1; 1_000_000], 0); 7];
        rig.put(&mut log, &records).unwrap();
    }
    keep_floor(&log, &floor);
    drop((log, floor));
    let file = rig.segment_files().remove(0);
    let flipped = |at: u64, was: u8| {
        rig.overwrite(&file, at, &[was ^ 0x10]);
        let log = rig.open_log();
        rig.overwrite(&file, at, &[was]);
        log.damage().map(|damage| damage.offset.get())
    };
    // A payload that is near, and one that is far.
    let near = file_position_of_frame(&rig, 10) + 4096;
    assert_eq!(flipped(near, 11), Some(70));
    let far = file_position_of_frame(&rig, 1) + 4096;
    rig.overwrite(&file, far, &[0xff]);
    let log = rig.open_log();
    assert_eq!(log.damage(), None);
    let reader = log.reader();
    let first = reader.read(Offset::new(0), &ReadLimit::default()).unwrap();
    assert!(first.record_count > 0);
    let second = reader.read(Offset::new(7), &ReadLimit::default());
    assert!(matches!(second, Err(ReadError::Corrupt(_))), "{second:?}");
    assert!(reader.is_offline());
    drop((log, reader));
    rig.overwrite(&file, far, &[2]);
    // A header that is far.
    let third = file_position_of_frame(&rig, 2);
    let was = rig.bytes_of(&file)[usize::try_from(third).unwrap() + 30];
    assert_eq!(flipped(third + 30, was), Some(14));
}

/// Where the frame begins that stands behind `n` others.
fn file_position_of_frame(rig: &Rig, n: usize) -> u64 {
    let file = rig.segment_files().remove(0);
    let bytes = rig.bytes_of(&file);
    let mut at = usize::try_from(SEGMENT_HEADER_LEN).unwrap();
    for _ in 0..n {
        let len = bytes[at + 12..at + 16].try_into().unwrap();
        at += usize::try_from(u32::from_le_bytes(len)).unwrap();
    }
    at as u64
}

#[test]
fn every_zeroed_sector_and_every_shorter_file_below_the_floor_is_found() {
    let rig = Rig::new(1);
    let written = with_floor(&rig);
    let file = rig.segment_files().remove(0);
    let bytes = rig.bytes_of(&file);
    let end = bytes.iter().rposition(|&byte| byte != 0).unwrap() + 1;
    for at in (0..end).step_by(512) {
        let sector = &bytes[at..(at + 512).min(end)];
        if sector.iter().all(|&byte| byte == 0) {
            continue;
        }
        rig.overwrite(&file, at as u64, &vec![0; sector.len()]);
        served_before_damage(&rig.open_log(), &written);
        rig.overwrite(&file, at as u64, sector);
    }
    for len in (0..end).step_by(97) {
        rig.disk.remove_file(&file).unwrap();
        let short = rig.disk.open(&file, OpenMode::CreateNew).unwrap();
        short.write_all_at(&bytes[..len], 0).unwrap();
        served_before_damage(&rig.open_log(), &written);
    }
}

#[test]
fn zeros_above_the_floor_are_a_torn_tail_and_garbage_is_rot() {
    let rig = Rig::new(1);
    let written = with_floor(&rig);
    let mut log = rig.open_log();
    rig.append(&mut log, &[record(&[b'u'; 2000], 0)]).unwrap();
    log.write().unwrap();
    drop(log);
    let file = rig.segment_files().remove(0);
    let end = rig
        .bytes_of(&file)
        .iter()
        .rposition(|&byte| byte != 0)
        .unwrap() as u64;
    rig.overwrite(&file, end - 100, b"garbage");
    let before = contents(&rig);
    assert_eq!(served_before_damage(&rig.open_log(), &written), 5);
    assert_eq!(contents(&rig), before);

    rig.overwrite(&file, end - 1100, &[0; 1024]);
    let log = rig.open_log();
    assert_eq!(
        log.damage(),
        None,
        "a sector of the frame never reached the disk"
    );
    assert_eq!(read_all(&log), written);
}

#[test]
fn a_later_frame_proves_that_an_earlier_one_was_durable() {
    let rig = Rig::new(1);
    let mut log = rig.open_log();
    for n in 0..3 {
        rig.put(&mut log, &[record(format!("{n:0900}").as_bytes(), 0)])
            .unwrap();
    }
    let written = read_all(&log);
    drop(log);
    // No slot in FLOOR; a sector of the second frame reads as zeros, as if torn. The third frame
    // was written after the second was synced and says so.
    let file = rig.segment_files().remove(0);
    rig.overwrite(&file, SEGMENT_HEADER_LEN + 1536, &[0; 512]);
    assert_eq!(served_before_damage(&rig.open_log(), &written), 1);
}

#[test]
fn rot_in_a_sealed_segment_is_an_error_from_there_on_once_it_is_read() {
    let rig = Rig::new(1);
    let mut log = rig.open_log();
    for n in 0..60 {
        rig.put(&mut log, &[record(format!("{n:0600}").as_bytes(), 0)])
            .unwrap();
    }
    let written = read_all(&log);
    drop(log);
    let file = rig.segment_files().remove(0);
    let bytes = rig.bytes_of(&file);
    for at in (4096..bytes.len()).step_by(211) {
        rig.overwrite(&file, at as u64, &[bytes[at] ^ 1]);
        let log = rig.open_log();
        assert_eq!(
            log.damage(),
            None,
            "sealed segments are checked when they are read"
        );
        let mut errors: usize = 0;
        for (offset, value) in &written {
            let limit = ReadLimit {
                max_records: 1,
                ..ReadLimit::default()
            };
            match log.reader().read(Offset::new(*offset), &limit) {
                Ok(batch) => {
                    let chunk = &batch.chunks[0];
                    assert_eq!(errors, 0, "from the damage on nothing is served");
                    assert!(
                        chunk
                            .windows(value.len())
                            .any(|window| window == &value[..])
                    );
                }
                Err(ReadError::Corrupt(damage)) => {
                    assert_eq!(damage.path, file);
                    assert!(damage.offset.get() + errors as u64 == *offset);
                    errors += 1;
                }
                Err(error) => panic!("{error}"),
            }
        }
        let spare = bytes[at..].iter().all(|&byte| byte == 0);
        assert!(errors > 0 || spare, "byte {at}");
        assert_eq!(log.reader().is_offline(), errors > 0);
        rig.overwrite(&file, at as u64, &[bytes[at]]);
    }
}

#[test]
fn a_missing_segment_takes_the_partition_offline_from_there_on() {
    let rig = Rig::new(1);
    let mut log = rig.open_log();
    for n in 0..60 {
        rig.put(&mut log, &[record(format!("{n:0600}").as_bytes(), 0)])
            .unwrap();
    }
    let written = read_all(&log);
    drop(log);
    let files = rig.segment_files();
    rig.disk.remove_file(&files[1]).unwrap();
    let log = rig.open_log();
    let damage = log.damage().unwrap();
    assert_eq!(
        (&damage.path, damage.detail.as_str()),
        (&files[1], "it is missing")
    );
    served_before_damage(&log, &written);
}

#[test]
fn a_missing_manifest_means_empty_only_if_nothing_tells_of_records() {
    let rig = Rig::new(1);
    with_floor(&rig);
    rig.disk.remove_file(&rig.dir().join("MANIFEST")).unwrap();
    let before = contents(&rig);
    let log = rig.open_log();
    assert!(
        log.damage()
            .unwrap()
            .detail
            .contains("FLOOR knows of records up to offset 5")
    );
    assert_eq!(contents(&rig), before);

    let rig = Rig::new(2);
    rig.put(&mut rig.open_log(), &values(["no slot in FLOOR"]))
        .unwrap();
    rig.disk.remove_file(&rig.dir().join("MANIFEST")).unwrap();
    assert!(
        rig.open_log()
            .damage()
            .unwrap()
            .detail
            .contains("holds records")
    );

    let rig = Rig::new(3);
    rig.put(&mut rig.open_log(), &values(["x"])).unwrap();
    rig.disk.remove_file(&rig.dir().join("MANIFEST")).unwrap();
    let file = rig.segment_files().remove(0);
    let len = rig.bytes_of(&file).len();
    rig.overwrite(&file, SEGMENT_HEADER_LEN, &vec![0; len - 4096]);
    let mut log = rig.open_log();
    assert_eq!(log.damage(), None, "a first append that never came to pass");
    assert!(rig.segment_files().is_empty());
    rig.put(&mut log, &values(["first"])).unwrap();
    assert_eq!(strings(read_all(&log)), [(0, "first".into())]);
}

#[test]
fn an_older_manifest_put_back_is_noticed() {
    let rig = Rig::new(1);
    with_floor(&rig);
    let manifest = rig.dir().join("MANIFEST");
    let older = rig.bytes_of(&manifest);
    let (mut log, floor) = rig.open().unwrap();
    log.roll().unwrap();
    rig.put(&mut log, &values(["in a later segment"])).unwrap();
    let put_back = |rig: &Rig| {
        rig.disk.remove_file(&manifest).unwrap();
        let file = rig.disk.open(&manifest, OpenMode::CreateNew).unwrap();
        file.write_all_at(&older, 0).unwrap();
    };
    put_back(&rig);
    let reopened = rig.open_log();
    let detail = &reopened.damage().unwrap().detail;
    assert!(
        detail.contains("was begun after it and holds records"),
        "{detail}"
    );

    keep_floor(&log, &floor);
    let reopened = rig.open_log();
    let detail = &reopened.damage().unwrap().detail;
    assert!(detail.contains("FLOOR knows of generation 2"), "{detail}");
    assert_eq!(reopened.damage().unwrap().offset.get(), 0);
}

#[test]
fn a_manifest_with_any_byte_flipped_is_never_believed() {
    let rig = Rig::new(1);
    with_floor(&rig);
    let manifest = rig.dir().join("MANIFEST");
    let bytes = rig.bytes_of(&manifest);
    for (at, byte) in bytes.iter().enumerate() {
        rig.overwrite(&manifest, at as u64, &[byte ^ 1]);
        match rig.open() {
            Ok((log, _)) => assert!(log.damage().is_some(), "byte {at}"),
            Err(error) => assert!(
                matches!(error, LogError::Header { .. }),
                "byte {at}: {error}"
            ),
        }
        rig.overwrite(&manifest, at as u64, &[*byte]);
    }
    assert_eq!(rig.open_log().damage(), None);
}

#[test]
fn an_unlisted_segment_without_records_is_moved_aside() {
    let rig = Rig::new(1);
    with_floor(&rig);
    let stray = rig.dir().join("00000000000000000005-12345678.segment");
    let file = rig.disk.open(&stray, OpenMode::CreateNew).unwrap();
    file.write_all_at(&[0; 4096], 0).unwrap();
    let log = rig.open_log();
    assert_eq!(log.damage(), None);
    assert_eq!(rig.segment_files().len(), 1);
    let aside = rig.disk.list(&rig.dir().join("aside")).unwrap();
    assert_eq!(aside[0].name, "00000000000000000005-12345678.segment");
}

#[test]
fn inspection_tells_sound_from_torn_from_rotten_and_changes_nothing() {
    let rig = Rig::new(1);
    let disk: std::sync::Arc<dyn Disk> = std::sync::Arc::new(rig.disk.clone());
    let look = || {
        let mut frames = 0;
        let report = inspect::inspect(&disk, DATA_DIR.as_ref(), PARTITION, |_, _| frames += 1);
        (report.unwrap(), frames)
    };
    with_floor(&rig);
    assert_eq!(
        inspect::partitions(&disk, DATA_DIR.as_ref()).unwrap(),
        [PARTITION]
    );
    let (report, frames) = look();
    assert_eq!(report.damages, []);
    assert_eq!(
        (
            frames,
            report.segments[0].record_count,
            report.end_offset().get()
        ),
        (5, 5, 5)
    );
    assert!(!report.segments[0].torn_tail);

    let file = rig.segment_files().remove(0);
    let end = rig
        .bytes_of(&file)
        .iter()
        .rposition(|&byte| byte != 0)
        .unwrap() as u64
        + 1;
    rig.overwrite(&file, end, b"FLSB");
    let before = contents(&rig);
    let (report, _) = look();
    assert_eq!(report.damages, []);
    assert!(report.segments[0].torn_tail);
    assert_eq!(contents(&rig), before);

    rig.overwrite(&file, end - 50, b"rot");
    let (report, frames) = look();
    assert_eq!(frames, 4);
    assert_eq!(report.damages.len(), 1);
    assert_eq!(
        (report.damages[0].offset.get(), &report.damages[0].path),
        (4, &file)
    );
}

#[test]
fn inspection_tells_a_sealed_segment_that_ends_otherwise_than_the_manifest_says() {
    let rig = Rig::new(1);
    let mut log = rig.open_log();
    rig.put(&mut log, &values(["a", "b"])).unwrap();
    log.roll().unwrap();
    drop(log);
    let path = rig.dir().join(flowstone_format::MANIFEST_NAME);
    let mut manifest = flowstone_format::Manifest::decode(&rig.bytes_of(&path)).unwrap();
    manifest.segments[0].last_append_ms += 1;
    rig.overwrite(&path, 0, &manifest.encode());
    let disk: std::sync::Arc<dyn Disk> = std::sync::Arc::new(rig.disk.clone());
    let report = inspect::inspect(&disk, DATA_DIR.as_ref(), PARTITION, |_, _| {}).unwrap();
    assert_eq!(report.damages.len(), 1);
    let told = report.damages[0].to_string();
    assert!(
        told.contains("ends otherwise than the MANIFEST says"),
        "{told}"
    );
}
