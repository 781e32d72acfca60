//! Snapshots: neither of the broker's own logs grows for ever, and no crash on the way loses anything.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};

use flowstone_broker::{Cursor, TopicChange};
use flowstone_disk::Disk;

use crate::harness::{Driven, Machine, at, partition_dir, values};

/// A snapshot is due above 64 KiB; files have up to 256 KiB of space reserved ahead.
const INTERVAL_BYTES: u64 = 64 << 10;
const BOUND_BYTES: u64 = 384 << 10;
const GROUPS: usize = 40;

fn open(machine: &Machine) -> Driven {
    let mut config = machine.config();
    config.snapshot_interval_bytes = INTERVAL_BYTES;
    machine.open_with(config).expect("the directory opens")
}

fn visits() -> (Machine, Driven) {
    let machine = Machine::new(1);
    let broker = open(&machine);
    broker.create("visits", 1);
    broker
        .produce("visits", Some(0), values(vec!["x"; 100]))
        .unwrap();
    broker
        .produce("visits", Some(0), values(vec!["x"; 100]))
        .unwrap();
    (machine, broker)
}

/// Many groups with long names commit the same offset: ten kilobytes.
fn cursors(offset: u64) -> Vec<Cursor> {
    let group = |i: usize| format!("{i:0240}");
    (0..GROUPS)
        .map(|i| Cursor {
            group: group(i),
            ..at("visits", 0, offset)
        })
        .collect()
}

fn committed(broker: &Driven, group: usize) -> u64 {
    let group = broker
        .wait(broker.broker.describe_group(&format!("{group:0240}")))
        .unwrap();
    group.offsets[0].committed_offset.expect("it has committed")
}

fn size_of(machine: &Machine, partition: u64) -> u64 {
    let dir = partition_dir(partition);
    let open = |name: &str| {
        machine
            .disk
            .open(&dir.join(name), flowstone_disk::OpenMode::Read)
    };
    let names = machine.disk.list(&dir).unwrap();
    names
        .iter()
        .map(|entry| open(&entry.name).unwrap().len().unwrap())
        .sum()
}

/// A change of metadata of 8 kilobytes.
fn labels(round: u64) -> TopicChange {
    let label = |i: usize| (format!("label {i}"), format!("{round:01000}"));
    TopicChange {
        labels: Some((0..8).map(label).collect::<BTreeMap<_, _>>()),
        ..TopicChange::default()
    }
}

#[test]
fn the_offsets_log_is_bounded_and_replays_to_the_same() {
    let (machine, broker) = visits();
    let mut largest = 0;
    for offset in 1..=150 {
        broker.commit(&cursors(offset)).unwrap();
        largest = largest.max(size_of(&machine, 1));
    }
    assert!(
        largest < BOUND_BYTES,
        "1.5 MB were committed, {largest} bytes were kept"
    );
    assert!(
        size_of(&machine, 1) < largest,
        "what a snapshot stands for is removed"
    );
    machine.disk.power_cut();
    drop(broker);
    let broker = open(&machine);
    for group in [0, 7, GROUPS - 1] {
        assert_eq!(committed(&broker, group), 150);
    }
    assert_eq!(broker.broker.list_groups(None, 1000).len(), GROUPS);
}

#[test]
fn the_metadata_log_is_bounded_and_replays_to_the_same() {
    let (machine, broker) = visits();
    let mut largest = 0;
    for round in 0..150 {
        broker
            .wait(broker.broker.update_topic("visits", labels(round)))
            .unwrap();
        largest = largest.max(size_of(&machine, 0));
    }
    assert!(
        largest < BOUND_BYTES,
        "1.2 MB were changed, {largest} bytes were kept"
    );
    let before = broker.broker.describe_topic("visits").unwrap().0;
    broker.create("orders", 1);
    machine.disk.power_cut();
    drop(broker);
    let broker = open(&machine);
    assert_eq!(broker.broker.describe_topic("visits").unwrap().0, before);
    let next = broker.create("next", 1);
    assert_eq!(
        next.spec.partition_count, 1,
        "ids go on behind those of the snapshot"
    );
    assert_eq!(broker.all("next", 0), [""; 0]);
    assert_eq!(broker.all("visits", 0).len(), 200);
}

/// The commit that makes the log large enough for a snapshot, and how many operations it and the
/// snapshot are.
fn first_snapshot() -> (u64, u64) {
    let (machine, broker) = visits();
    for offset in 1..=100 {
        let before = machine.disk.count_all();
        broker.commit(&cursors(offset)).unwrap();
        while broker.broker.run_pending() {}
        let operations = machine.disk.count_all() - before;
        // A commit alone is a reservation, a write, a sync and a few for the floor.
        if offset > 1 && operations > 20 {
            return (offset, operations);
        }
    }
    panic!("100 commits of 10 kB are enough for a snapshot");
}

/// Cuts the power at the nth operation of the `last` commit and of the snapshot behind it.
fn cut_a_snapshot(last: u64, nth: u64) {
    let (machine, broker) = visits();
    for offset in 1..last {
        broker.commit(&cursors(offset)).unwrap();
    }
    while broker.broker.run_pending() {}
    let left = AtomicU64::new(nth);
    let disk = machine.disk.clone();
    machine.disk.set_hook(move |_| {
        if left.fetch_sub(1, Ordering::Relaxed) == 1 {
            disk.power_cut();
        }
        None
    });
    let acknowledged = broker.commit(&cursors(last)).is_ok();
    while broker.broker.run_pending() {}
    machine.disk.clear_faults();
    drop(broker);
    let broker = open(&machine);
    let found = committed(&broker, 0);
    let least = if acknowledged { last } else { last - 1 };
    assert!(
        (least..=last).contains(&found),
        "cut at {nth}: {found} is committed"
    );
    for group in [1, 20, GROUPS - 1] {
        assert_eq!(
            committed(&broker, group),
            found,
            "cut at {nth}: a commit is whole or not at all"
        );
    }
    broker.commit(&cursors(last + 1)).unwrap();
    assert_eq!(committed(&broker, GROUPS - 1), last + 1);
}

#[test]
fn a_power_cut_anywhere_in_a_snapshot_loses_nothing() {
    let (last, operations) = first_snapshot();
    for nth in 1..=operations {
        cut_a_snapshot(last, nth);
    }
}
