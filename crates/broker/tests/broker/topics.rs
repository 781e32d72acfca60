//! Topics: made, listed, changed, deleted, made anew.

use std::collections::BTreeMap;

use flowstone_broker::{Acks, Error, Overflow, Start, TopicChange, TopicSpec};
use flowstone_disk::{Disk, OpKind};

use crate::harness::{DATA_DIR, Driven, FIRST_PARTITION, Machine, START_MS, partition_dir, values};

fn change(broker: &Driven, change: TopicChange) -> Result<flowstone_broker::TopicInfo, Error> {
    broker.wait(broker.broker.update_topic("visits", change))
}

fn field(result: Result<impl std::fmt::Debug, Error>) -> String {
    match result {
        Err(Error::InvalidField { field, .. }) => field,
        other => panic!("a field should be refused, not {other:?}"),
    }
}

#[test]
fn a_topic_is_what_it_was_asked_to_be_also_after_a_restart() {
    let machine = Machine::new(1);
    let spec = TopicSpec {
        name: "visits".to_owned(),
        partition_count: 3,
        retention_ms: Some(7),
        retention_bytes: Some(8 << 10),
        segment_bytes: Some(64 << 10),
        max_record_bytes: Some(100),
        default_acks: Some(Acks::Written),
        overflow: Overflow::Reject,
        labels: BTreeMap::from([("team".to_owned(), "lemonade".to_owned())]),
    };
    let broker = machine.open();
    let made = broker
        .wait(broker.broker.create_topic(spec.clone(), false))
        .unwrap();
    assert_eq!(made.spec, spec);
    assert_eq!(made.created_ms, START_MS);
    broker.shutdown();
    let (found, partitions) = machine.open().broker.describe_topic("visits").unwrap();
    assert_eq!(found, made);
    assert_eq!(partitions.len(), 3);
}

#[test]
fn a_topic_has_one_partition_if_nobody_says_how_many() {
    let broker = Machine::new(1).open();
    assert_eq!(broker.create("visits", 0).spec.partition_count, 1);
}

#[test]
fn validation_says_what_would_be_and_makes_nothing() {
    let broker = Machine::new(1).open();
    let spec = TopicSpec::new("visits", 0);
    let would_be = broker
        .wait(broker.broker.create_topic(spec.clone(), true))
        .unwrap();
    assert_eq!(would_be.spec.partition_count, 1);
    assert_eq!(broker.broker.list_topics("", None, 10), []);
    broker.create("visits", 1);
    let taken = broker.wait(broker.broker.create_topic(spec, true));
    assert!(matches!(taken, Err(Error::TopicExists { topic }) if topic == "visits"));
}

#[test]
fn what_a_topic_may_not_be_is_refused_by_field() {
    let broker = Machine::new(1).open();
    let create = |spec| broker.wait(broker.broker.create_topic(spec, false));
    let visits = || TopicSpec::new("visits", 1);
    let refused = [
        ("name", TopicSpec::new("a/b", 1)),
        (
            "retention",
            TopicSpec {
                retention_ms: Some(0),
                ..visits()
            },
        ),
        (
            "retention_bytes",
            TopicSpec {
                retention_bytes: Some(0),
                ..visits()
            },
        ),
        (
            "overflow",
            TopicSpec {
                overflow: Overflow::Reject,
                ..visits()
            },
        ),
        (
            "retention_bytes",
            TopicSpec {
                overflow: Overflow::Reject,
                retention_bytes: Some(4 << 10),
                ..visits()
            },
        ),
        (
            "segment_bytes",
            TopicSpec {
                segment_bytes: Some(8 << 10),
                ..visits()
            },
        ),
        (
            "segment_bytes",
            TopicSpec {
                segment_bytes: Some((1 << 30) + 1),
                ..visits()
            },
        ),
        (
            "max_record_bytes",
            TopicSpec {
                max_record_bytes: Some((8 << 10) + 1),
                ..visits()
            },
        ),
        (
            "max_record_bytes",
            TopicSpec {
                max_record_bytes: Some(0),
                ..visits()
            },
        ),
        (
            "labels",
            TopicSpec {
                labels: BTreeMap::from([(String::new(), String::new())]),
                ..visits()
            },
        ),
    ];
    for (name, spec) in refused {
        assert_eq!(field(create(spec)), name);
    }
    assert_eq!(broker.broker.list_topics("", None, 10), []);
}

#[test]
fn limits_of_topics_and_partitions_are_named() {
    let machine = Machine::new(1);
    let mut config = machine.config();
    config.limits.max_topics = 2;
    config.limits.max_partitions_per_topic = 4;
    config.limits.max_partitions = 5;
    let broker = machine.open_with(config).unwrap();
    let limit = |name, count| match broker.wait(
        broker
            .broker
            .create_topic(TopicSpec::new(name, count), false),
    ) {
        Err(Error::LimitExceeded { limit, value }) => (limit, value),
        other => panic!("a limit should be reached, not {other:?}"),
    };
    assert_eq!(limit("a", 5), ("max_partitions_per_topic", 4));
    broker.create("a", 3);
    assert_eq!(limit("b", 3), ("max_partitions", 5));
    broker.create("b", 1);
    assert_eq!(limit("c", 1), ("max_topics", 2));
    let grow = TopicChange {
        partition_count: Some(5),
        ..TopicChange::default()
    };
    let grown = broker.wait(broker.broker.update_topic("a", grow));
    assert!(matches!(
        grown,
        Err(Error::LimitExceeded {
            limit: "max_partitions_per_topic",
            ..
        })
    ));
}

#[test]
fn topics_are_listed_by_name_prefix_and_place() {
    let broker = Machine::new(1).open();
    for name in ["b", "a.2", "c", "a.1", "a"] {
        broker.create(name, 1);
    }
    let list = |prefix, after, limit| -> Vec<String> {
        let found = broker.broker.list_topics(prefix, after, limit);
        found.into_iter().map(|topic| topic.spec.name).collect()
    };
    assert_eq!(list("", None, 10), ["a", "a.1", "a.2", "b", "c"]);
    assert_eq!(list("a.", None, 10), ["a.1", "a.2"]);
    assert_eq!(list("a", Some("a.1"), 10), ["a.2"]);
    assert_eq!(list("", Some("a.1"), 2), ["a.2", "b"]);
    assert_eq!(
        list("b", Some("a"), 10),
        ["b"],
        "after a name before the prefix"
    );
    assert_eq!(list("x", None, 10), [""; 0]);
}

#[test]
fn a_change_touches_what_it_names_alone() {
    let machine = Machine::new(1);
    let broker = machine.open();
    broker.create("visits", 1);
    let keep = TopicChange {
        retention_ms: Some(Some(5)),
        ..TopicChange::default()
    };
    assert_eq!(change(&broker, keep).unwrap().spec.retention_ms, Some(5));
    let size = TopicChange {
        max_record_bytes: Some(Some(9)),
        ..TopicChange::default()
    };
    let changed = change(&broker, size).unwrap();
    assert_eq!(changed.spec.retention_ms, Some(5));
    assert_eq!(changed.spec.max_record_bytes, Some(9));
    let forget = TopicChange {
        retention_ms: Some(None),
        ..TopicChange::default()
    };
    let changed = change(&broker, forget).unwrap();
    assert_eq!(changed.spec.retention_ms, None);
    assert!(matches!(
        broker.produce("visits", None, values(["more than nine bytes"])),
        Err(Error::RecordTooLarge {
            index: 0,
            limit: 9,
            ..
        })
    ));
    broker.shutdown();
    let (found, _) = machine.open().broker.describe_topic("visits").unwrap();
    assert_eq!(found, changed);
}

#[test]
fn a_change_that_changes_nothing_writes_nothing() {
    let machine = Machine::new(1);
    let broker = machine.open();
    broker.create("visits", 2);
    let syncs = machine.syncs();
    let same = TopicChange {
        partition_count: Some(2),
        ..TopicChange::default()
    };
    change(&broker, same).unwrap();
    assert_eq!(machine.syncs(), syncs);
}

#[test]
fn partitions_grow_and_never_shrink() {
    let machine = Machine::new(1);
    let broker = machine.open();
    broker.create("visits", 2);
    broker.create("orders", 1);
    broker.put("visits", 1, "before");
    let count = |count| TopicChange {
        partition_count: Some(count),
        ..TopicChange::default()
    };
    assert_eq!(field(change(&broker, count(1))), "partition_count");
    assert_eq!(change(&broker, count(4)).unwrap().spec.partition_count, 4);
    broker.put("visits", 3, "after");
    broker.shutdown();
    let broker = machine.open();
    assert_eq!(broker.all("visits", 1), ["before"]);
    assert_eq!(broker.all("visits", 3), ["after"]);
    assert!(matches!(
        broker.produce("visits", Some(4), values(["nowhere"])),
        Err(Error::PartitionNotFound {
            partition: 4,
            partition_count: 4,
            ..
        })
    ));
}

#[test]
fn a_deleted_topic_leaves_no_files_and_its_name_is_free() {
    let machine = Machine::new(1);
    let broker = machine.open();
    let first = broker.create("visits", 1);
    broker.put("visits", 0, "of the first");
    assert!(machine.disk.list(&partition_dir(FIRST_PARTITION)).is_ok());
    broker.wait(broker.broker.delete_topic("visits")).unwrap();
    while broker.broker.run_pending() {}
    assert!(machine.disk.list(&partition_dir(FIRST_PARTITION)).is_err());
    assert!(matches!(
        broker.fetch("visits", 0, Start::Earliest),
        Err(Error::TopicNotFound { .. })
    ));

    let second = broker.create("visits", 1);
    assert_ne!(first.id, second.id);
    assert_eq!(broker.all("visits", 0), [""; 0]);
    assert_eq!(broker.put("visits", 0, "of the second"), 0);
    let known = flowstone_broker::FetchRequest {
        topic: "visits".to_owned(),
        topic_id: Some(first.id),
        ..Default::default()
    };
    assert!(matches!(
        broker.wait(broker.broker.fetch(known)),
        Err(Error::TopicRecreated { .. })
    ));
    broker.shutdown();
    assert_eq!(machine.open().all("visits", 0), ["of the second"]);
}

#[test]
fn what_a_deletion_left_behind_goes_with_the_next_start() {
    let machine = Machine::new(1);
    let broker = machine.open();
    broker.create("visits", 1);
    broker.create("orders", 1);
    broker.put("visits", 0, "goes");
    broker.put("orders", 0, "stays");
    let denied = std::io::ErrorKind::PermissionDenied;
    machine.disk.fail_nth(OpKind::RemoveDirAll, 1, denied);
    broker.wait(broker.broker.delete_topic("visits")).unwrap();
    broker.shutdown();
    assert!(machine.disk.list(&partition_dir(FIRST_PARTITION)).is_ok());
    let broker = machine.open();
    assert!(machine.disk.list(&partition_dir(FIRST_PARTITION)).is_err());
    assert_eq!(broker.all("orders", 0), ["stays"]);
}

#[test]
fn ten_thousand_empty_partitions_have_no_files() {
    let machine = Machine::new(1);
    let broker = machine.open();
    broker.create("wide", 10_000);
    broker.put("wide", 9_999, "the only one");
    broker.shutdown();
    let partitions = std::path::Path::new(DATA_DIR).join("partitions");
    // The metadata log and the partition that was written to.
    assert_eq!(machine.disk.list(&partitions).unwrap().len(), 2);
    let broker = machine.open();
    assert_eq!(broker.all("wide", 9_999), ["the only one"]);
    assert_eq!(
        broker.broker.describe_topic("wide").unwrap().1.len(),
        10_000
    );
}

#[test]
fn a_trim_moves_the_log_start_and_nothing_else() {
    let machine = Machine::new(1);
    let broker = machine.open();
    broker.create("visits", 1);
    for value in ["a", "b", "c", "d"] {
        broker.put("visits", 0, value);
    }
    let trim =
        |broker: &Driven, before| broker.wait(broker.broker.trim_partition("visits", 0, before));
    assert_eq!(trim(&broker, 2), Ok(2));
    assert_eq!(
        trim(&broker, 1),
        Ok(2),
        "below the log start it changes nothing"
    );
    assert_eq!(broker.all("visits", 0), ["c", "d"]);
    let below = Error::OffsetTrimmed {
        requested: 1,
        log_start_offset: 2,
        high_watermark: 4,
    };
    assert_eq!(broker.fetch("visits", 0, Start::Offset(1)), Err(below));
    let beyond = Error::OffsetBeyondEnd {
        requested: 5,
        log_start_offset: 2,
        high_watermark: 4,
    };
    assert_eq!(trim(&broker, 5), Err(beyond.clone()));
    assert_eq!(broker.fetch("visits", 0, Start::Offset(5)), Err(beyond));
    machine.disk.power_cut();
    drop(broker);
    let broker = machine.open();
    assert_eq!(broker.all("visits", 0), ["c", "d"]);
    assert_eq!(trim(&broker, 4), Ok(4), "up to the end");
    assert_eq!(broker.put("visits", 0, "e"), 4);
    assert_eq!(broker.all("visits", 0), ["e"]);
}

#[test]
fn a_change_that_was_begun_is_made_also_when_its_caller_has_gone_away() {
    let machine = Machine::new(1);
    let broker = machine.open();
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    let create = broker
        .broker
        .create_topic(TopicSpec::new("visits", 2), false);
    let mut create = Box::pin(create);
    assert!(create.as_mut().poll(&mut context).is_pending());
    drop(create);
    while broker.broker.run_pending() {}
    broker.put("visits", 1, "a");
    let mut delete = Box::pin(broker.broker.delete_topic("visits"));
    assert!(delete.as_mut().poll(&mut context).is_pending());
    drop(delete);
    broker.create("orders", 1);
    broker.put("orders", 0, "b");
    broker.shutdown();
    let broker = machine.open();
    assert_eq!(broker.broker.list_topics("", None, 9).len(), 1);
    assert_eq!(broker.all("orders", 0), ["b"]);
}

#[test]
fn every_setting_of_a_topic_takes_effect_at_run_time_and_survives() {
    let machine = Machine::new(1);
    let broker = machine.open();
    let spec = TopicSpec {
        segment_bytes: Some(64 << 10),
        ..TopicSpec::new("visits", 1)
    };
    broker
        .wait(broker.broker.create_topic(spec, false))
        .unwrap();
    let fill = |broker: &Driven| {
        for _ in 0..10 {
            broker.put("visits", 0, &"x".repeat(4000));
        }
        broker.broker.describe_topic("visits").unwrap().1[0].clone()
    };
    assert_eq!(fill(&broker).segment_count, 1);
    let smaller = TopicChange {
        segment_bytes: Some(Some(20 << 10)),
        labels: Some(BTreeMap::from([("team".to_owned(), "till".to_owned())])),
        ..TopicChange::default()
    };
    change(&broker, smaller).unwrap();
    // The segment that there is keeps its size; those to come are small.
    let told = fill(&broker);
    assert!(told.segment_count >= 3, "{told:?}");

    machine.clock.advance(std::time::Duration::from_secs(3600));
    let short = TopicChange {
        retention_ms: Some(Some(60_000)),
        ..TopicChange::default()
    };
    let changed = change(&broker, short).unwrap();
    assert!(broker.broker.run_retention());
    let emptied = broker.broker.describe_topic("visits").unwrap().1[0].clone();
    assert_eq!((emptied.log_start_offset, emptied.high_watermark), (20, 20));
    broker.shutdown();

    let broker = machine.open();
    let (found, partitions) = broker.broker.describe_topic("visits").unwrap();
    assert_eq!(found, changed);
    assert_eq!(found.spec.labels["team"], "till");
    assert_eq!(partitions[0].log_start_offset, 20, "it survives a restart");
    assert_eq!(fill(&broker).high_watermark, 30);
}
