//! What is written while a sync is under way is not taken for synced.

use std::io;

use flowstone_disk::OpKind;
use flowstone_format::Offset;
use flowstone_log::{Log, LogError, Unsynced};

use crate::harness::{Rig, read_all, strings, values};

fn write(rig: &Rig, log: &mut Log, value: &str) -> Option<Unsynced> {
    rig.append(log, &values([value])).unwrap();
    log.write().unwrap();
    log.unsynced().unwrap()
}

#[test]
fn a_sync_makes_durable_what_was_written_when_it_began_and_no_more() {
    let rig = Rig::new(1);
    let mut log = rig.open_log();
    rig.put(&mut log, &values(["a"])).unwrap();
    assert!(log.unsynced().unwrap().is_none());
    let first = write(&rig, &mut log, "b").unwrap();
    first.sync().unwrap();
    let second = write(&rig, &mut log, "c").unwrap();

    let durable = log.synced(&first).unwrap().unwrap();
    assert_eq!(durable.offset, Offset::new(2));
    log.set_high_watermark(durable.offset);
    assert_eq!(strings(read_all(&log)), [(0, "a".into()), (1, "b".into())]);
    let floor = log.floor().unwrap();
    assert_eq!(floor.offset, Offset::new(2));

    second.sync().unwrap();
    assert_eq!(log.synced(&second).unwrap().unwrap().offset, Offset::new(3));
    assert_eq!(
        log.synced(&first).unwrap().unwrap().offset,
        Offset::new(3),
        "never back"
    );
    assert!(log.unsynced().unwrap().is_none());
}

#[test]
fn a_roll_while_a_sync_is_under_way_leaves_nothing_behind() {
    let rig = Rig::new(1);
    let mut log = rig.open_log();
    let first = write(&rig, &mut log, "a").unwrap();
    log.roll().unwrap();
    let second = write(&rig, &mut log, "b").unwrap();
    first.sync().unwrap();
    let durable = log.synced(&first).unwrap().unwrap();
    assert_eq!(durable.offset, Offset::new(1), "of the new segment nothing");
    log.set_high_watermark(durable.offset);
    second.sync().unwrap();
    let durable = log.synced(&second).unwrap().unwrap();
    log.set_high_watermark(durable.offset);
    drop(log);
    rig.disk.power_cut();
    let log = rig.open_log();
    assert_eq!(strings(read_all(&log)), [(0, "a".into()), (1, "b".into())]);
}

#[test]
fn a_sync_of_before_a_reopening_tells_nothing() {
    let rig = Rig::new(1);
    let mut log = rig.open_log();
    let first = write(&rig, &mut log, "a").unwrap();
    rig.append(&mut log, &values(["b"])).unwrap();
    rig.disk.fail_nth(OpKind::Write, 1, io::ErrorKind::Other);
    log.write().unwrap_err();
    assert!(log.unsynced().is_err(), "it takes nothing");
    assert!(log.synced(&first).unwrap().is_none());
    log.reopen(None).unwrap();
    first.sync().unwrap();
    assert!(log.synced(&first).unwrap().is_none());
}

#[test]
fn a_failed_sync_is_told_to_all_who_sync_the_segment() {
    let rig = Rig::new(1);
    let mut log = rig.open_log();
    let first = write(&rig, &mut log, "a").unwrap();
    let second = write(&rig, &mut log, "b").unwrap();
    rig.disk.fail_nth(OpKind::SyncData, 1, io::ErrorKind::Other);
    let failed = |result| matches!(result, Err(LogError::SyncFailed { .. }));
    assert!(failed(first.sync()));
    let syncs = rig.disk.count(OpKind::SyncData);
    assert!(failed(second.sync()));
    assert!(failed(log.sync().map(drop)));
    assert_eq!(
        rig.disk.count(OpKind::SyncData),
        syncs,
        "none is tried again"
    );
    let large = values(["c".repeat(12 << 10).as_str()]);
    let appended = rig.append(&mut log, &large);
    assert!(matches!(appended, Err(LogError::Poisoned { .. })));
}
