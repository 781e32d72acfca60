//! Disks that fail, fill up and rot: what is told, what goes on, and what ends.

use std::io::ErrorKind;
use std::time::Duration;

use flowstone_broker::{
    Cursor, Error, PendingProduce, ProduceRequest, Start, Stop, SubscribeRequest, TopicSpec,
};
use flowstone_disk::OpKind;

use crate::harness::{Driven, FIRST_PARTITION, Machine, at, partition_dir, read, values};

/// Two partitions with a record each.
fn visits() -> (Machine, Driven) {
    let machine = Machine::new(1);
    let broker = machine.open();
    broker.create("visits", 2);
    broker.put("visits", 0, "a");
    broker.put("visits", 1, "b");
    (machine, broker)
}

fn submit(broker: &Driven, partition: u32, value: &str) -> PendingProduce {
    let permit = broker.wait(broker.broker.admit(value.len())).unwrap();
    let request = ProduceRequest {
        topic: "visits".to_owned(),
        partition: Some(partition),
        records: values([value]),
        acks: None,
        ..ProduceRequest::default()
    };
    broker.broker.submit(request, permit).unwrap()
}

fn unknown<T>(result: Result<T, Error>) -> bool {
    matches!(result, Err(Error::OutcomeUnknown { .. }))
}

fn corrupt<T>(result: Result<T, Error>) -> bool {
    matches!(result, Err(Error::CorruptSegment { topic, .. }) if topic == "visits")
}

fn ends(machine: &Machine) -> usize {
    machine.fatal.lock().unwrap().len()
}

/// The place of the nth frame's payload in a segment of frames with one short value each.
fn payload_of(machine: &Machine, partition: u64, nth: u64) -> (std::path::PathBuf, u64) {
    let first_payload = 4096 + 128;
    let len = stored_len();
    (
        machine.path(partition, ".segment"),
        first_payload + nth * (128 + len) + 3,
    )
}

/// The stored length of a record of one letter: tag, length, value, timestamp, offset.
fn stored_len() -> u64 {
    2 + 3 + 7 + 2
}

#[test]
fn a_failed_sync_ends_the_broker_and_acknowledges_nothing() {
    let (machine, broker) = visits();
    let pending = [submit(&broker, 0, "c"), submit(&broker, 0, "d")];
    let other = submit(&broker, 1, "e");
    machine.disk.fail_nth(OpKind::SyncData, 1, ErrorKind::Other);
    for pending in pending {
        assert!(unknown(broker.wait(pending)));
    }
    let other = broker.wait(other);
    assert!(
        unknown(other.clone()) || other == Err(Error::ShuttingDown),
        "it was written and not synced, or not begun: {other:?}"
    );
    assert_eq!(ends(&machine), 1);

    // Nothing may be believed or written from here on.
    machine.disk.start_trace();
    assert_eq!(
        broker.produce("visits", Some(1), values(["f"])),
        Err(Error::ShuttingDown)
    );
    assert_eq!(
        broker.fetch("visits", 0, Start::Earliest),
        Err(Error::ShuttingDown)
    );
    let created = broker.wait(
        broker
            .broker
            .create_topic(TopicSpec::new("orders", 1), false),
    );
    assert_eq!(created.map(drop), Err(Error::ShuttingDown));
    let trimmed = broker.wait(broker.broker.trim_partition("visits", 0, 1));
    assert_eq!(trimmed, Err(Error::ShuttingDown));
    machine.clock.advance(Duration::from_secs(3600));
    while broker.broker.run_pending() {}
    assert!(unknown(broker.wait(broker.broker.shutdown())));
    assert_eq!(machine.disk.take_trace(), []);
    assert_eq!(ends(&machine), 1, "it is told once");

    machine.disk.power_cut();
    let broker = machine.open();
    let other = broker.all("visits", 1);
    assert!(other == ["b"] || other == ["b", "e"], "{other:?}");
    let left = broker.all("visits", 0);
    assert!(["a", "c", "d"].starts_with(&left.iter().map(String::as_str).collect::<Vec<_>>()));
    assert!(!left.is_empty(), "what was acknowledged is there");
}

#[test]
fn a_failed_write_is_unknown_and_the_partition_goes_on() {
    let (machine, broker) = visits();
    let pending = [submit(&broker, 0, "c"), submit(&broker, 0, "d")];
    machine.disk.fail_nth(OpKind::Write, 1, ErrorKind::Other);
    for pending in pending {
        assert!(unknown(broker.wait(pending)));
    }
    assert_eq!(ends(&machine), 0);
    // Any part of the write may be there; of the requests, each whole or not at all.
    let mut left = broker.all("visits", 0);
    let whole: Vec<&str> = left.iter().map(String::as_str).collect();
    assert!(!whole.is_empty() && ["a", "c", "d"].starts_with(&whole));
    assert_eq!(broker.put("visits", 0, "e"), left.len() as u64);
    assert_eq!(broker.put("visits", 1, "f"), 1);
    broker.shutdown();
    let broker = machine.open();
    left.push("e".to_owned());
    assert_eq!(broker.all("visits", 0), left);
    assert_eq!(broker.all("visits", 1), ["b", "f"]);
}

#[test]
fn a_partition_that_cannot_be_reopened_is_offline_alone() {
    let (machine, broker) = visits();
    let path = machine.path(FIRST_PARTITION, ".segment");
    let failing = path.clone();
    machine.disk.set_hook(move |op| {
        // A file that cannot be opened leaves the log as it was; what fails here is the write.
        let spared = matches!(op.kind, OpKind::Populate | OpKind::Open);
        (op.path == failing && !spared).then(|| ErrorKind::Other.into())
    });
    assert!(unknown(broker.produce("visits", Some(0), values(["c"]))));
    machine.disk.clear_faults();
    assert!(corrupt(broker.produce("visits", Some(0), values(["d"]))));
    assert!(corrupt(
        broker.wait(broker.broker.trim_partition("visits", 0, 1))
    ));
    assert_eq!(broker.put("visits", 1, "e"), 1);
    let offline: Vec<_> = broker
        .broker
        .describe_topic("visits")
        .unwrap()
        .1
        .iter()
        .map(|info| info.offline_reason.is_some())
        .collect();
    assert_eq!(offline, [true, false]);
    for _ in 0..4 {
        let runs = broker.produce("visits", None, values(["keyless"])).unwrap();
        assert_eq!(
            runs[0].partition, 1,
            "records that may go anywhere avoid it"
        );
    }
    drop(broker);
    let left = machine.open().all("visits", 0);
    assert!(
        left == ["a"] || left == ["a", "c"],
        "after a restart it is back: {left:?}"
    );
}

#[test]
fn a_full_disk_refuses_what_does_not_fit_and_nothing_else() {
    let (machine, broker) = visits();
    machine.disk.set_capacity(machine.disk.used_bytes());
    let large = "x".repeat(4000);
    let mut kept = 1;
    let full = loop {
        match broker.produce("visits", Some(0), values([&large])) {
            Ok(_) => kept += 1,
            Err(error) => break error,
        }
        assert!(kept < 100, "the disk never fills up");
    };
    assert_eq!(full, Error::DiskFull);
    assert_eq!(
        broker.produce("visits", Some(0), values([&large])),
        Err(Error::DiskFull)
    );
    assert_eq!(broker.all("visits", 0).len(), kept, "reads go on");
    assert_eq!(
        broker.put("visits", 1, "small"),
        1,
        "what has space is appended"
    );
    assert_eq!(ends(&machine), 0);

    machine.disk.set_capacity(u64::MAX);
    assert_eq!(broker.put("visits", 0, &large), kept as u64);
    broker.shutdown();
    assert_eq!(machine.open().all("visits", 0).len(), kept + 1);
}

#[test]
fn a_failed_write_of_metadata_ends_the_broker() {
    let (machine, broker) = visits();
    machine.disk.fail_nth(OpKind::Write, 1, ErrorKind::Other);
    let created = broker.wait(
        broker
            .broker
            .create_topic(TopicSpec::new("orders", 1), false),
    );
    assert!(unknown(created));
    assert_eq!(ends(&machine), 1);
    machine.disk.power_cut();
    drop(broker);
    let broker = machine.open();
    assert_eq!(broker.broker.list_topics("", None, 9).len(), 1);
    broker.create("orders", 1);
}

#[test]
fn a_full_disk_refuses_metadata_and_goes_on() {
    let machine = Machine::new(1);
    let broker = machine.open();
    machine.disk.set_capacity(machine.disk.used_bytes());
    let create = || {
        broker
            .wait(
                broker
                    .broker
                    .create_topic(TopicSpec::new("visits", 1), false),
            )
            .map(drop)
    };
    assert_eq!(create(), Err(Error::DiskFull));
    assert_eq!(broker.broker.list_topics("", None, 9), []);
    assert_eq!(ends(&machine), 0);
    machine.disk.set_capacity(u64::MAX);
    assert_eq!(create(), Ok(()));
}

#[test]
fn rot_takes_one_partition_offline_from_there_on() {
    let (machine, broker) = visits();
    for value in ["c", "d"] {
        broker.put("visits", 0, value);
    }
    broker.shutdown();
    let (segment, place) = payload_of(&machine, FIRST_PARTITION, 1);
    machine.flip(&segment, place);

    let broker = machine.open();
    let below = broker.fetch("visits", 0, Start::Earliest).unwrap();
    assert_eq!((below.record_count, below.next_offset), (1, 1));
    for start in [Start::Offset(1), Start::Offset(2)] {
        assert!(corrupt(broker.fetch("visits", 0, start)));
    }
    assert!(corrupt(broker.produce("visits", Some(0), values(["e"]))));
    assert_eq!(broker.all("visits", 1), ["b"]);
    assert_eq!(broker.put("visits", 1, "f"), 1);
    let info = broker.broker.describe_topic("visits").unwrap().1[0].clone();
    let reason = info.offline_reason.unwrap();
    assert!(reason.contains("damaged at offset 1"), "{reason}");
}

#[test]
fn a_request_for_a_damaged_partition_is_refused_before_any_part_is_appended() {
    let (machine, broker) = visits();
    broker.shutdown();
    let (segment, place) = payload_of(&machine, FIRST_PARTITION, 0);
    machine.flip(&segment, place);
    let broker = machine.open();
    let keys: Vec<String> = (0..20).map(|i| format!("key {i}")).collect();
    let records: Vec<_> = keys.iter().map(|key| (key.as_str(), "x")).collect();
    assert!(corrupt(broker.produce(
        "visits",
        None,
        crate::harness::keyed(&records)
    )));
    assert_eq!(broker.all("visits", 1), ["b"]);
}

#[test]
fn a_reader_hears_of_damage_while_the_others_go_on() {
    let (machine, broker) = visits();
    for value in ["c", "d"] {
        broker.put("visits", 0, value);
    }
    broker.shutdown();
    let (segment, place) = payload_of(&machine, FIRST_PARTITION, 1);
    machine.flip(&segment, place);

    let broker = machine.open();
    let mut follows = broker.subscribe(read("visits"));
    let mut values_seen = vec![follows.batch().2, follows.batch().2];
    values_seen.sort();
    assert_eq!(values_seen, [["a"], ["b"]]);
    let (cursor, error) = follows.partition_error();
    assert_eq!((cursor.partition, cursor.offset), (0, 1));
    assert!(matches!(
        error,
        Error::CorruptSegment {
            partition: 0,
            offset: 1,
            ..
        }
    ));
    assert!(follows.is_waiting());
    broker.put("visits", 1, "e");
    assert_eq!(follows.batch(), (1, 2, vec!["e".to_owned()]));

    let to_the_end = SubscribeRequest {
        stop: Some(Stop::CurrentEnd),
        ..read("visits")
    };
    let mut reader = broker.subscribe(to_the_end);
    reader.batch();
    reader.batch();
    reader.partition_error();
    assert!(matches!(
        reader.next(),
        Some(Err(Error::CorruptSegment { partition: 0, .. }))
    ));
    assert_eq!(reader.next(), None);

    let alone = SubscribeRequest {
        partitions: vec![0],
        ..read("visits")
    };
    let mut reader = broker.subscribe(alone);
    reader.batch();
    reader.partition_error();
    assert!(
        matches!(reader.next(), Some(Err(Error::CorruptSegment { .. }))),
        "no partition is left"
    );
}

#[test]
fn a_partition_that_cannot_be_opened_is_offline_alone() {
    let (machine, broker) = visits();
    broker.shutdown();
    let dir = partition_dir(FIRST_PARTITION);
    machine.disk.set_hook(move |op| {
        (op.path.starts_with(&dir) && op.kind == OpKind::Read).then(|| ErrorKind::Other.into())
    });
    let broker = machine.open();
    machine.disk.clear_faults();
    assert!(corrupt(broker.fetch("visits", 0, Start::Earliest)));
    assert!(corrupt(broker.produce("visits", Some(0), values(["c"]))));
    let listed = broker.wait(
        broker
            .broker
            .list_offsets("visits", &Start::Latest, &[], None),
    );
    assert!(corrupt(listed));
    assert_eq!(broker.all("visits", 1), ["b"]);
    let mut reader = broker.subscribe(read("visits"));
    let (cursor, error) = reader.partition_error();
    assert_eq!(cursor.partition, 0);
    assert!(matches!(error, Error::CorruptSegment { .. }));
    assert_eq!(reader.batch().2, ["b"]);
    drop(reader);
    broker.shutdown();
    assert_eq!(
        machine.open().all("visits", 0),
        ["a"],
        "its files were left alone"
    );
}

#[test]
fn damaged_offsets_stop_groups_and_nothing_else() {
    let (machine, broker) = visits();
    let cursor = Cursor {
        group: "billing".to_owned(),
        ..at("visits", 0, 1)
    };
    broker.commit(std::slice::from_ref(&cursor)).unwrap();
    broker.shutdown();
    machine.flip(&machine.path(1, ".segment"), 4096 + 140);
    let broker = machine.open();
    assert!(matches!(
        broker.commit(&[cursor]),
        Err(Error::CorruptSegment { .. })
    ));
    let member = SubscribeRequest {
        group: Some("billing".to_owned()),
        ..read("visits")
    };
    let joined = broker.try_subscribe(member).map(drop);
    assert!(matches!(joined, Err(Error::CorruptSegment { .. })));
    let described = broker.wait(broker.broker.describe_group("billing"));
    assert!(matches!(described, Err(Error::CorruptSegment { .. })));
    assert_eq!(broker.put("visits", 0, "c"), 1);
    assert_eq!(broker.all("visits", 0), ["a", "c"]);
}

#[test]
fn floors_are_synced_once_nothing_was_committed_for_a_while() {
    let (machine, broker) = visits();
    while broker.broker.run_pending() {}
    let syncs = machine.syncs();
    while broker.broker.run_pending() {}
    assert_eq!(machine.syncs(), syncs, "not at once");
    machine.clock.advance(Duration::from_millis(100));
    while broker.broker.run_pending() {}
    assert_eq!(machine.syncs(), syncs + 1);
    machine.clock.advance(Duration::from_millis(100));
    while broker.broker.run_pending() {}
    assert_eq!(machine.syncs(), syncs + 1, "once is enough");
}
