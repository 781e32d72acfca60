//! A full disk: the reserve keeps commits, trims and deletions going, and records wait for space.

use std::io::ErrorKind;
use std::path::Path;
use std::time::Duration;

use flowstone_broker::{BrokerConfig, Cursor, Error, TopicChange, TopicSpec};
use flowstone_disk::{Disk, OpKind};

use crate::harness::{DATA_DIR, Driven, FIRST_PARTITION, Machine, at, values};

const RESERVE_BYTES: u64 = 1 << 20;
/// What records may take before the disk is full.
const ROOM_BYTES: u64 = 200 << 10;

fn config(machine: &Machine) -> BrokerConfig {
    let mut config = machine.config();
    config.disk_reserve_bytes = RESERVE_BYTES;
    config.snapshot_interval_bytes = 64 << 10;
    config
}

/// A broker on a disk that records have filled, and how many each of two partitions has.
fn full() -> (Machine, Driven, [usize; 2]) {
    let machine = Machine::new(1);
    let broker = machine.open_with(config(&machine)).unwrap();
    broker.create("visits", 2);
    broker.put("visits", 0, "first");
    broker.put("visits", 1, "first");
    machine
        .disk
        .set_capacity(machine.disk.used_bytes() + ROOM_BYTES);
    let (mut counts, mut room) = ([1, 1], [true, true]);
    while room != [false, false] {
        for partition in [0, 1] {
            room[partition as usize] = put(&broker, partition).is_ok();
            counts[partition as usize] += usize::from(room[partition as usize]);
        }
        assert!(counts[0] < 1000, "the disk never fills up");
    }
    (machine, broker, counts)
}

/// Appends a record that is worth a page.
fn put(broker: &Driven, partition: u32) -> Result<u64, Error> {
    let records = values(["x".repeat(4000)]);
    let runs = broker.produce("visits", Some(partition), records)?;
    Ok(runs[0].base_offset)
}

/// Commits by that many groups, one after the other, so that each makes the offsets log grow.
fn commit(broker: &Driven, groups: std::ops::Range<usize>) -> Result<(), Error> {
    for group in groups {
        broker.commit(&[cursor(group)])?;
    }
    Ok(())
}

fn cursor(group: usize) -> Cursor {
    Cursor {
        group: format!("group {group} {}", "x".repeat(100)),
        ..at("visits", 0, 1)
    }
}

fn committed(broker: &Driven) -> usize {
    broker.broker.list_groups(None, 10_000).len()
}

fn has_reserve(machine: &Machine) -> bool {
    let names = machine.disk.list(Path::new(DATA_DIR)).unwrap();
    names.iter().any(|entry| entry.name == "RESERVE")
}

fn went_on(machine: &Machine) -> bool {
    machine.fatal.lock().unwrap().is_empty()
}

#[test]
fn offsets_are_committed_for_as_long_as_the_disk_is_full() {
    let (machine, broker, counts) = full();
    assert!(has_reserve(&machine), "records alone do not take it");
    // Far more bytes than the reserve has: snapshots let the older ones go.
    for round in 0..12 {
        for group in 0..500 {
            let cursor = Cursor {
                offset: 1 + round % counts[0] as u64,
                ..cursor(group)
            };
            assert_eq!(broker.commit(&[cursor]), Ok(vec![]), "round {round}");
        }
        machine.clock.advance(Duration::from_secs(1));
        for _ in 0..20 {
            assert_eq!(put(&broker, 0), Err(Error::DiskFull), "round {round}");
        }
    }
    assert!(!has_reserve(&machine));
    assert_eq!(broker.all("visits", 0).len(), counts[0], "reads go on");
    assert!(went_on(&machine));

    machine.disk.power_cut();
    let broker = machine.open_with(config(&machine)).unwrap();
    assert_eq!(committed(&broker), 500, "they are durable");
}

#[test]
fn records_wait_for_the_reserve_and_do_not_take_its_space() {
    let (machine, broker, _) = full();
    let mut groups = 0;
    while has_reserve(&machine) {
        commit(&broker, groups..groups + 1).unwrap();
        groups += 1;
    }
    let free = || machine.disk.free_bytes(Path::new(DATA_DIR)).unwrap();
    let before = free();
    assert!(before > RESERVE_BYTES / 2);
    for partition in [0, 1, 0, 1] {
        machine.clock.advance(Duration::from_secs(1));
        assert_eq!(put(&broker, partition), Err(Error::DiskFull));
        assert_eq!(
            broker.produce("visits", Some(partition), values(["small"])),
            Err(Error::DiskFull)
        );
    }
    let created = broker.wait(
        broker
            .broker
            .create_topic(TopicSpec::new("orders", 1), false),
    );
    assert_eq!(created.map(drop), Err(Error::DiskFull));
    assert_eq!(free(), before);
    commit(&broker, groups..groups + 100).unwrap();
    assert!(went_on(&machine));
}

#[test]
fn records_are_taken_again_once_there_is_space_for_the_reserve_and_more() {
    let (machine, broker, counts) = full();
    commit(&broker, 0..500).unwrap();
    assert!(!has_reserve(&machine));
    let used = machine.disk.used_bytes();
    machine.disk.set_capacity(used + RESERVE_BYTES);
    machine.clock.advance(Duration::from_secs(1));
    assert_eq!(
        put(&broker, 0),
        Err(Error::DiskFull),
        "it would be given up again at once"
    );

    machine.disk.set_capacity(used + 2 * RESERVE_BYTES);
    assert_eq!(put(&broker, 0), Err(Error::DiskFull), "not looked for yet");
    machine.clock.advance(Duration::from_millis(50));
    assert_eq!(put(&broker, 0), Ok(counts[0] as u64));
    assert!(has_reserve(&machine));
}

#[test]
fn trims_deletions_and_shorter_retention_make_space_on_a_full_disk() {
    let (machine, broker, counts) = full();
    // What comes next finds no space without the reserve.
    machine.disk.set_capacity(machine.disk.used_bytes());
    let trimmed = broker.wait(broker.broker.trim_partition("visits", 0, counts[0] as u64));
    assert_eq!(trimmed, Ok(counts[0] as u64));
    let change = TopicChange {
        retention_bytes: Some(Some(1)),
        ..TopicChange::default()
    };
    broker
        .wait(broker.broker.update_topic("visits", change))
        .unwrap();
    broker.broker.run_retention();
    assert!(broker.broker.describe_topic("visits").unwrap().1[1].log_start_offset > 0);
    broker.wait(broker.broker.delete_topic("visits")).unwrap();
    while broker.broker.run_pending() {}

    machine.clock.advance(Duration::from_secs(1));
    machine
        .disk
        .set_capacity(machine.disk.used_bytes() + 2 * RESERVE_BYTES);
    broker.create("visits", 1);
    assert_eq!(put(&broker, 0), Ok(0));
    assert!(went_on(&machine));
}

#[test]
fn a_trim_gives_the_reserve_up_when_its_manifest_finds_no_space() {
    let (machine, broker, counts) = full();
    let before = counts[0] as u64;
    machine
        .disk
        .fail_nth(OpKind::Write, 1, ErrorKind::StorageFull);
    let trimmed = broker.wait(broker.broker.trim_partition("visits", 0, before));
    assert_eq!(trimmed, Ok(before));
    assert!(!has_reserve(&machine));
}

#[test]
fn a_disk_without_a_byte_left_refuses_commits_and_goes_on() {
    let (machine, broker, counts) = full();
    commit(&broker, 0..500).unwrap();
    assert!(!has_reserve(&machine));
    // Somebody else takes what is left.
    machine.disk.set_capacity(machine.disk.used_bytes());
    let mut groups = 500;
    let refused = loop {
        match commit(&broker, groups..groups + 1) {
            Ok(()) => groups += 1,
            Err(error) => break error,
        }
        assert!(groups < 5000, "the offsets log never runs out of space");
    };
    assert_eq!(refused, Error::DiskFull);
    assert_eq!(
        commit(&broker, groups..groups + 1),
        Err(Error::DiskFull),
        "it is an answer, and no end"
    );
    assert!(went_on(&machine));
    assert_eq!(broker.all("visits", 0).len(), counts[0]);

    machine.disk.set_capacity(u64::MAX);
    machine.clock.advance(Duration::from_secs(1));
    commit(&broker, groups..groups + 1).unwrap();
    assert_eq!(put(&broker, 0), Ok(counts[0] as u64));
    broker.shutdown();
    let broker = machine.open_with(config(&machine)).unwrap();
    assert_eq!(committed(&broker), groups + 1);
}

#[test]
fn a_broker_starts_on_a_full_disk_with_its_reserve() {
    let (machine, broker, counts) = full();
    drop(broker);
    machine.disk.power_cut();
    machine.disk.set_capacity(machine.disk.used_bytes());
    let broker = machine.open_with(config(&machine)).unwrap();
    assert!(has_reserve(&machine));
    assert_eq!(broker.all("visits", 0).len(), counts[0]);
    assert_eq!(broker.all("visits", 1).len(), counts[1]);
    commit(&broker, 0..500).unwrap();
    assert_eq!(put(&broker, 0), Err(Error::DiskFull));
    assert!(went_on(&machine));
}

#[test]
fn a_broker_starts_without_a_reserve_and_makes_it_when_there_is_space() {
    let machine = Machine::new(1);
    let broker = machine.open();
    broker.create("visits", 1);
    assert_eq!(put(&broker, 0), Ok(0));
    broker.shutdown();
    assert!(!has_reserve(&machine), "it was not asked for");
    machine.disk.set_capacity(machine.disk.used_bytes());
    let broker = machine.open_with(config(&machine)).unwrap();
    assert_eq!(broker.all("visits", 0).len(), 1);
    assert_eq!(put(&broker, 0), Err(Error::DiskFull));
    machine.disk.set_capacity(u64::MAX);
    machine.clock.advance(Duration::from_secs(1));
    assert_eq!(put(&broker, 0), Ok(1));
    assert!(has_reserve(&machine));
    broker.shutdown();

    let mut other = config(&machine);
    other.disk_reserve_bytes *= 2;
    let used = machine.disk.used_bytes();
    let broker = machine.open_with(other).unwrap();
    assert_eq!(machine.disk.used_bytes(), used + RESERVE_BYTES);
    broker.shutdown();
    let broker = machine.open();
    assert!(!has_reserve(&machine), "it is not asked for any more");
    assert_eq!(put(&broker, 0), Ok(2));
}

#[test]
fn a_reserve_that_cannot_be_made_for_another_reason_stops_nothing() {
    let machine = Machine::new(1);
    machine.disk.set_hook(|op| {
        (op.path.ends_with("RESERVE") && op.kind == OpKind::Open)
            .then(|| ErrorKind::PermissionDenied.into())
    });
    let broker = machine.open_with(config(&machine)).unwrap();
    broker.create("visits", 1);
    assert_eq!(put(&broker, 0), Ok(0));
}

#[test]
fn a_torn_commit_is_sealed_off_in_the_space_of_the_reserve() {
    let machine = Machine::new(1);
    let broker = machine.open_with(config(&machine)).unwrap();
    broker.create("visits", 1);
    broker.put("visits", 0, "first");
    commit(&broker, 0..3).unwrap();
    let segment = machine.path(1, ".segment");
    drop(broker);
    machine.disk.process_crash();
    // A frame's header that was cut short behind the last one.
    let file = machine
        .disk
        .open(&segment, flowstone_disk::OpenMode::ReadWrite)
        .unwrap();
    let mut bytes = vec![0; 16 << 10];
    file.read_exact_at(&mut bytes, 0).unwrap();
    let end = bytes.iter().rposition(|&byte| byte != 0).unwrap() + 1;
    file.write_all_at(b"FLSB", end as u64).unwrap();
    machine.disk.set_capacity(machine.disk.used_bytes());
    // Behind the header of FLOOR, the first try is that of the start, when the reserve stands.
    machine
        .disk
        .fail_nth(OpKind::Write, 2, ErrorKind::StorageFull);
    let broker = machine.open_with(config(&machine)).unwrap();
    assert_eq!(committed(&broker), 3);
    commit(&broker, 3..10).unwrap();
    assert!(!has_reserve(&machine));
    drop(broker);
    machine.disk.power_cut();
    let broker = machine.open_with(config(&machine)).unwrap();
    assert_eq!(committed(&broker), 10);
    assert!(went_on(&machine));
}

#[test]
fn commits_on_a_full_disk_outlast_a_power_cut_at_any_moment() {
    let operations = {
        let (machine, broker, _) = full();
        let before = machine.disk.count_all();
        commit(&broker, 0..400).unwrap();
        machine.disk.count_all() - before
    };
    for cut in (0..operations).step_by(89) {
        let (machine, broker, counts) = full();
        let (disk, at) = (machine.disk.clone(), machine.disk.count_all() + cut);
        let switch = disk.clone();
        machine.disk.set_hook(move |_| {
            (disk.count_all() == at).then(|| {
                switch.power_cut();
                ErrorKind::Other.into()
            })
        });
        let mut acknowledged = 0;
        while acknowledged < 400 && commit(&broker, acknowledged..acknowledged + 1).is_ok() {
            acknowledged += 1;
        }
        machine.disk.clear_faults();
        drop(broker);
        let broker = machine.open_with(config(&machine)).unwrap();
        let found = committed(&broker);
        assert!(
            (acknowledged..=acknowledged + 1).contains(&found),
            "cut {cut}: {found} of {acknowledged} commits are there"
        );
        assert_eq!(broker.all("visits", 0).len(), counts[0], "cut {cut}");
        commit(&broker, found..found + 100).unwrap();
    }
}

#[test]
fn a_write_into_reserved_space_that_finds_none_has_an_unknown_outcome() {
    let (machine, broker, _) = full();
    machine.disk.set_capacity(u64::MAX);
    machine
        .disk
        .fail_nth(OpKind::Write, 1, ErrorKind::StorageFull);
    let lost = broker.produce("visits", Some(1), values(["small"]));
    assert!(
        matches!(lost, Err(Error::OutcomeUnknown { .. })),
        "some of it may be there after a restart: {lost:?}"
    );
    assert!(machine.path(FIRST_PARTITION, ".segment").is_absolute());
    assert!(put(&broker, 1).is_ok(), "the partition is recovered");
}
