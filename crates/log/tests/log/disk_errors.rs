//! Errors of the disk: nothing is acknowledged after one, and a full disk is an answer, not an end.

use std::io;
use std::path::Path;

use flowstone_disk::{Disk, OpKind, OpenMode};
use flowstone_format::Offset;
use flowstone_log::{Floor, LogError};
use uuid::Uuid;

use crate::harness::{DATA_DIR, Rig, publish, read_all, record, strings, values};

#[test]
fn a_failed_sync_is_told_as_what_it_is_and_is_never_tried_again() {
    let rig = Rig::new(1);
    let mut log = rig.open_log();
    rig.put(&mut log, &values(["a"])).unwrap();
    rig.append(&mut log, &values(["b"])).unwrap();
    rig.disk.fail_nth(OpKind::SyncData, 1, io::ErrorKind::Other);
    let error = log.sync().unwrap_err();
    assert!(matches!(error, LogError::SyncFailed { .. }), "{error}");
    let syncs = rig.disk.count(OpKind::SyncData);
    assert!(matches!(log.sync(), Err(LogError::Poisoned { .. })));
    assert!(matches!(
        rig.append(&mut log, &values(["c"])),
        Err(LogError::Poisoned { .. })
    ));
    assert_eq!(rig.disk.count(OpKind::SyncData), syncs);
    assert_eq!(strings(read_all(&log)), [(0, "a".into())], "reads go on");
}

#[test]
fn bytes_of_a_failed_sync_that_linger_in_the_cache_are_synced_before_they_are_served() {
    // Which of the pages a failed sync has brought to disk all the same is the seed's.
    for seed in 1..=40 {
        let rig = Rig::new(seed);
        let mut log = rig.open_log();
        rig.put(&mut log, &values(["a"])).unwrap();
        rig.append(&mut log, &values(["b"])).unwrap();
        rig.disk.fail_nth(OpKind::SyncData, 1, io::ErrorKind::Other);
        log.sync().unwrap_err();
        rig.disk.process_crash();
        // The cache still holds "b", marked clean; the disk may not.
        let log = rig.open_log();
        let served = strings(read_all(&log));
        rig.disk.power_cut();
        assert_eq!(strings(read_all(&rig.open_log())), served, "seed {seed}");
    }
}

#[test]
fn a_failed_write_poisons_until_a_reopen_which_keeps_what_was_acknowledged() {
    let rig = Rig::new(1);
    let mut log = rig.open_log();
    rig.put(&mut log, &values(["a"])).unwrap();
    let reader = log.reader();
    rig.append(&mut log, &values(["b"])).unwrap();
    rig.disk.fail_nth(OpKind::Write, 1, io::ErrorKind::Other);
    assert!(matches!(log.write(), Err(LogError::Io { .. })));
    assert!(log.is_poisoned());
    assert!(matches!(
        rig.append(&mut log, &values(["c"])),
        Err(LogError::Poisoned { .. })
    ));

    log.reopen(None).unwrap();
    rig.put(&mut log, &values(["d"])).unwrap();
    let left = strings(read_all(&log));
    let values: Vec<&str> = left.iter().map(|(_, value)| value.as_str()).collect();
    assert!(
        values == ["a", "d"] || values == ["a", "b", "d"],
        "a failed write may have been done, whole or not at all: {values:?}"
    );
    assert_eq!(
        reader.high_watermark().get(),
        left.len() as u64,
        "readers from before stay valid"
    );
    rig.disk.power_cut();
    assert_eq!(strings(read_all(&rig.open_log())), left);
}

#[test]
fn a_write_cut_short_is_sealed_off_at_the_reopen() {
    let rig = Rig::new(1);
    let mut log = rig.open_log();
    rig.put(&mut log, &values(["a"])).unwrap();
    rig.append(&mut log, &[record(&[b'b'; 3000], 0)]).unwrap();
    log.write().unwrap();
    // The frame's last bytes did not make it.
    let file = rig.segment_files().remove(0);
    let bytes = rig.bytes_of(&file);
    let end = bytes.iter().rposition(|&byte| byte != 0).unwrap();
    rig.overwrite(&file, end as u64 - 700, &[0; 701]);
    log.reopen(None).unwrap();
    rig.put(&mut log, &values(["c"])).unwrap();
    assert_eq!(strings(read_all(&log)), [(0, "a".into()), (1, "c".into())]);
    assert_eq!(
        rig.segment_files().len(),
        2,
        "the old segment is sealed, its bytes are kept"
    );
}

#[test]
fn a_full_disk_refuses_and_recovers_without_a_reopen() {
    let rig = Rig::new(1);
    let mut log = rig.open_log();
    rig.put(&mut log, &values(["a"])).unwrap();
    rig.disk.set_capacity(rig.disk.used_bytes());
    let mut acknowledged = 1;
    let error = loop {
        match rig.put(&mut log, &[record(&[b'x'; 3000], 0)]) {
            Ok(_) => acknowledged += 1,
            Err(error) => break error,
        }
        assert!(acknowledged < 100, "a full disk says so");
    };
    assert!(matches!(error, LogError::DiskFull { .. }), "{error}");
    assert!(!log.is_poisoned());
    publish(&mut log).unwrap();
    assert_eq!(read_all(&log).len(), acknowledged, "reads go on");
    rig.disk.set_capacity(u64::MAX);
    rig.put(&mut log, &values(["z"])).unwrap();
    assert_eq!(read_all(&log).len(), acknowledged + 1);
    drop(log);
    assert_eq!(read_all(&rig.open_log()).len(), acknowledged + 1);
}

#[test]
fn a_batch_that_is_refused_for_want_of_space_leaves_its_group_as_it_was() {
    let rig = Rig::new(1);
    let mut log = rig.open_log();
    rig.put(&mut log, &values(["a"])).unwrap();
    rig.append(&mut log, &values(["b"])).unwrap();
    rig.disk
        .fail_nth(OpKind::Open, 1, io::ErrorKind::StorageFull);
    let error = rig
        .append(&mut log, &[record(&[b'x'; 11_900], 0)])
        .unwrap_err();
    assert!(matches!(error, LogError::DiskFull { .. }), "{error}");
    rig.append(&mut log, &values(["c"])).unwrap();
    publish(&mut log).unwrap();
    let expected = [(0, "a".into()), (1, "b".into()), (2, "c".into())];
    assert_eq!(strings(read_all(&log)), expected);
}

#[test]
fn a_seal_without_space_waits_and_what_lies_before_it_is_served() {
    let rig = Rig::new(1);
    let mut log = rig.open_log();
    rig.put(&mut log, &values(["a"])).unwrap();
    rig.append(&mut log, &[record(&[b'b'; 3000], 0)]).unwrap();
    log.write().unwrap();
    let file = rig.segment_files().remove(0);
    let end = rig
        .bytes_of(&file)
        .iter()
        .rposition(|&byte| byte != 0)
        .unwrap();
    rig.overwrite(&file, end as u64 - 700, &[0; 701]);
    drop(log);

    rig.disk.set_hook(|op| {
        let manifest = op.path.to_string_lossy().contains("MANIFEST");
        (manifest && op.kind == OpKind::Write).then(|| io::ErrorKind::StorageFull.into())
    });
    let mut log = rig.open_log();
    assert_eq!(strings(read_all(&log)), [(0, "a".into())]);
    assert!(log.is_poisoned());
    assert!(matches!(log.reopen(None), Err(LogError::DiskFull { .. })));
    rig.disk.clear_faults();
    log.reopen(None).unwrap();
    rig.put(&mut log, &values(["c"])).unwrap();
    assert_eq!(strings(read_all(&log)), [(0, "a".into()), (1, "c".into())]);
}

#[test]
fn a_file_that_finds_no_space_aside_stays_where_it_is() {
    let rig = Rig::new(1);
    let mut log = rig.open_log();
    rig.put(&mut log, &values(["a"])).unwrap();
    drop(log);
    let stray = rig.dir().join("00000000000000000005-12345678.segment");
    rig.disk.open(&stray, OpenMode::CreateNew).unwrap();
    rig.disk.set_hook(|op| {
        (op.kind == OpKind::CreateDirAll && op.path.ends_with("aside"))
            .then(|| io::ErrorKind::StorageFull.into())
    });
    let mut log = rig.open_log();
    rig.put(&mut log, &values(["b"])).unwrap();
    assert_eq!(strings(read_all(&log)), [(0, "a".into()), (1, "b".into())]);
    assert_eq!(rig.segment_files().len(), 2);
    drop(log);
    rig.disk.clear_faults();
    rig.open_log();
    assert_eq!(rig.segment_files().len(), 1, "the other one is moved aside");
}

#[test]
fn a_write_without_space_that_was_reserved_is_no_refusal() {
    let rig = Rig::new(1);
    let mut log = rig.open_log();
    rig.put(&mut log, &values(["a"])).unwrap();
    rig.append(&mut log, &values(["b"])).unwrap();
    rig.disk
        .fail_nth(OpKind::Write, 1, io::ErrorKind::StorageFull);
    assert!(matches!(log.write(), Err(LogError::Io { .. })));
    assert!(log.is_poisoned());
}

/// Whatever operation fails, with whatever error: no acknowledged record is lost, and the log is
/// in order after a restart.
#[test]
fn an_error_at_every_operation_acknowledges_nothing_that_is_lost() {
    for kind in [io::ErrorKind::Other, io::ErrorKind::StorageFull] {
        let mut failed_lives = 0;
        for nth in 1.. {
            let rig = Rig::new(nth);
            let left = std::sync::atomic::AtomicU64::new(nth);
            rig.disk.set_hook(move |_| {
                let now = left.fetch_sub(1, std::sync::atomic::Ordering::SeqCst) == 1;
                now.then(|| kind.into())
            });
            let mut acknowledged = Vec::new();
            let outcome = (|| -> Result<(), LogError> {
                let (mut log, floor) = rig.open()?;
                for n in 0..25_u64 {
                    let value = format!("{n:0900}").into_bytes();
                    let appended = rig.put(&mut log, &[record(&value, 0)])?;
                    acknowledged.push((appended.base_offset.get(), value));
                    if let Some(slot) = log.floor() {
                        floor.put(slot)?;
                    }
                }
                floor.sync()
            })();
            rig.disk.clear_faults();
            rig.disk.process_crash();
            rig.disk.power_cut();
            let log = rig.open_log();
            assert_eq!(log.damage(), None, "operation {nth}");
            let found = read_all(&log);
            assert_eq!(found[..acknowledged.len()], acknowledged, "operation {nth}");
            if outcome.is_ok() && acknowledged.len() == 25 && rig.disk.count_all() > nth + 1000 {
                break;
            }
            if outcome.is_err() {
                failed_lives += 1;
            } else if nth > 400 {
                break;
            }
        }
        assert!(
            failed_lives > 50,
            "only {failed_lives} lives ended in an error"
        );
    }
}

#[test]
fn a_read_error_while_opening_is_neither_a_torn_tail_nor_rot() {
    let mut refused = 0;
    for nth in 1..=20 {
        let rig = Rig::new(nth);
        let mut log = rig.open_log();
        // Its sectors of zeros would pass for a torn write.
        rig.put(&mut log, &[record(&[0; 3000], 0)]).unwrap();
        drop(log);
        rig.disk.fail_nth(OpKind::Read, nth, io::ErrorKind::Other);
        match rig.open() {
            Err(LogError::Io { .. } | LogError::Header { .. }) => refused += 1,
            Err(error) => panic!("read {nth}: {error}"),
            Ok((log, _)) => {
                assert_eq!(log.damage(), None, "read {nth}");
                assert_eq!(log.log_end_offset().get(), 1, "read {nth}");
            }
        }
        rig.disk.clear_faults();
        assert_eq!(
            read_all(&rig.open_log()),
            [(0, vec![0; 3000])],
            "read {nth}"
        );
    }
    assert!(refused >= 3, "only {refused} reads were made while opening");
}

#[test]
fn a_reopen_remembers_what_this_process_has_synced() {
    let rig = Rig::new(1);
    let mut log = rig.open_log();
    rig.put(&mut log, &values(["a"])).unwrap();
    rig.put(&mut log, &[record(&[b'b'; 3000], 0)]).unwrap();
    // A sector of the last acknowledged frame is gone; FLOOR has not been told of it yet.
    let file = rig.segment_files().remove(0);
    let end = rig
        .bytes_of(&file)
        .iter()
        .rposition(|&byte| byte != 0)
        .unwrap() as u64;
    rig.overwrite(&file, end / 512 * 512 - 512, &[0; 512]);
    rig.append(&mut log, &values(["c"])).unwrap();
    rig.disk.fail_nth(OpKind::Write, 1, io::ErrorKind::Other);
    log.write().unwrap_err();
    log.reopen(None).unwrap();
    let damage = log.damage().expect("not a torn tail: it was acknowledged");
    assert_eq!(damage.offset.get(), 1);
}

#[test]
fn the_header_of_floor_that_a_failed_sync_left_in_the_cache_is_written_again() {
    for seed in 0..16 {
        let rig = Rig::new(seed);
        rig.disk.fail_nth(OpKind::SyncAll, 1, io::ErrorKind::Other);
        rig.open().map(drop).unwrap_err();
        rig.disk.process_crash();
        // The cache holds the whole header, marked clean; the disk does not.
        let (mut log, floor) = rig.open().unwrap();
        rig.put(&mut log, &values(["a"])).unwrap();
        floor.put(log.floor().unwrap()).unwrap();
        floor.sync().unwrap();
        rig.disk.power_cut();
        assert_eq!(strings(read_all(&rig.open_log())), [(0, "a".into())]);
    }
}

#[test]
fn a_floor_whose_header_was_cut_short_is_begun_again_and_a_damaged_one_is_not() {
    let path = Path::new(DATA_DIR).join("FLOOR");
    // Sectors of the header that the power cut has kept: only the first, only the last.
    for kept in [0, 7] {
        let rig = Rig::new(1);
        drop(rig.open().unwrap());
        let file = rig.disk.open(&path, OpenMode::ReadWrite).unwrap();
        for sector in (0..8).filter(|sector| *sector != kept) {
            file.write_all_at(&[0; 512], sector * 512).unwrap();
        }
        let (mut log, floor) = rig.open().unwrap();
        rig.put(&mut log, &values(["a"])).unwrap();
        floor.put(log.floor().unwrap()).unwrap();

        file.write_all_at(&[0; 512], 0).unwrap();
        let disk: std::sync::Arc<dyn Disk> = rig.disk.disk();
        let refused = Floor::open(&disk, Path::new(DATA_DIR)).map(drop);
        assert!(
            matches!(refused, Err(LogError::Header { .. })),
            "slots follow: {refused:?}"
        );
    }
}

#[test]
fn space_that_is_refused_for_another_reason_than_a_full_disk_is_not_asked_for_again() {
    let mut rig = Rig::new(1);
    rig.config.segment_bytes = 1 << 20;
    let mut log = rig.open_log();
    rig.put(&mut log, &values(["a"])).unwrap();
    let denied = io::ErrorKind::PermissionDenied;
    rig.disk.fail_nth(OpKind::Reserve, 1, denied);
    let error = rig
        .put(&mut log, &[record(&[b'x'; 100_000], 0)])
        .unwrap_err();
    assert!(matches!(error, LogError::Io { .. }), "{error}");
    let full = io::ErrorKind::StorageFull;
    rig.disk.fail_nth(OpKind::Reserve, 1, full);
    rig.put(&mut log, &[record(&[b'x'; 100_000], 0)])
        .expect("what it needs is there, though not what it would like");
}

#[test]
fn a_reopening_knows_what_was_durable_whatever_floor_was_told() {
    let rig = Rig::new(1);
    let mut log = rig.open_log();
    rig.put(&mut log, &values(["a"])).unwrap();
    let first_end = log.floor().unwrap().position;
    rig.put(&mut log, &values(["b"])).unwrap();
    rig.overwrite(&rig.segment_files()[0], first_end.get(), &[0; 512]);
    log.reopen(None).unwrap();
    assert!(log.damage().is_some(), "an acknowledged record is gone");
}

/// A directory that cannot be listed is not an empty one: what its files would tell is not known.
#[test]
fn an_opening_that_cannot_list_its_files_fails() {
    let rig = Rig::new(1);
    rig.put(&mut rig.open_log(), &values(["a"])).unwrap();
    rig.disk.fail_nth(OpKind::List, 1, io::ErrorKind::Other);
    let error = rig.open().map(|_| ()).unwrap_err();
    assert!(
        matches!(
            error,
            LogError::Io {
                operation: "list",
                ..
            }
        ),
        "{error}"
    );
    assert_eq!(strings(read_all(&rig.open_log())), [(0, "a".into())]);
}

/// An index whose segment is gone is removed at the opening, or that fails.
#[test]
fn an_opening_that_cannot_remove_what_nothing_refers_to_fails() {
    let rig = Rig::new(1);
    rig.put(&mut rig.open_log(), &values(["a"])).unwrap();
    let name = flowstone_format::index_name(Offset::new(9), Uuid::from_bytes([9; 16]));
    let path = rig.dir().join(name);
    drop(rig.disk.open(&path, OpenMode::CreateNew).unwrap());
    rig.disk
        .fail_nth(OpKind::RemoveFile, 1, io::ErrorKind::Other);
    let error = rig.open().map(|_| ()).unwrap_err();
    assert!(
        matches!(
            error,
            LogError::Io {
                operation: "remove",
                ..
            }
        ),
        "{error}"
    );
    assert_eq!(strings(read_all(&rig.open_log())), [(0, "a".into())]);
    assert!(!rig.files().contains(&path));
}
