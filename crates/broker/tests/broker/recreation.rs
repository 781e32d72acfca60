//! A topic that is deleted and made anew under its name: nothing of the old one shines through, wherever a
//! crash comes in, whoever was reading, writing or committing.

use std::sync::atomic::Ordering::Relaxed;

use flowstone_broker::{
    Cursor, Error, FetchRequest, ProduceRequest, Producer, Start, SubscribeRequest, TopicInfo, Uuid,
};
use flowstone_disk::Disk;

use crate::harness::{Driven, FIRST_PARTITION, Machine, at, partition_dir, read, values};

/// An old topic with records, a group that has read some, and a producer that has written them.
fn old() -> (Machine, Driven, TopicInfo) {
    let machine = Machine::new(1);
    let broker = machine.open();
    let info = broker.create("visits", 2);
    for value in ["old a", "old b", "old c"] {
        broker.put("visits", 0, value);
    }
    let epoch = broker
        .wait(broker.broker.open_producer("visits", "till"))
        .unwrap()
        .epoch;
    broker
        .wait(broker.broker.produce(by_till(epoch, 9, 1, "old d")))
        .unwrap();
    broker.commit(&[cursor("billing", 0, 2)]).unwrap();
    (machine, broker, info)
}

fn by_till(epoch: i32, sequence: i64, partition: u32, value: &str) -> ProduceRequest {
    ProduceRequest {
        topic: "visits".to_owned(),
        partition: Some(partition),
        records: values([value]),
        producer: Some(Producer {
            id: "till".to_owned(),
            epoch,
            sequence,
        }),
        ..ProduceRequest::default()
    }
}

fn cursor(group: &str, partition: u32, offset: u64) -> Cursor {
    Cursor {
        group: group.to_owned(),
        ..at("visits", partition, offset)
    }
}

fn member() -> SubscribeRequest {
    SubscribeRequest {
        group: Some("billing".to_owned()),
        ..read("visits")
    }
}

fn of(topic_id: Uuid, cursor: Cursor) -> Cursor {
    Cursor {
        topic_id: Some(topic_id),
        ..cursor
    }
}

fn delete(broker: &Driven) -> Result<(), Error> {
    broker.wait(broker.broker.delete_topic("visits"))
}

/// What a group has committed of partition 0; `None` if it has committed nothing at all.
fn committed(broker: &Driven, group: &str) -> Option<u64> {
    match broker.wait(broker.broker.describe_group(group)) {
        Ok(found) => found.offsets.iter().find_map(|at| at.committed_offset),
        Err(Error::GroupNotFound { .. }) => None,
        Err(other) => panic!("the group should be described, not {other:?}"),
    }
}

fn fetch_of(broker: &Driven, topic_id: Uuid) -> Result<flowstone_broker::Fetched, Error> {
    let request = FetchRequest {
        topic: "visits".to_owned(),
        start: Start::Offset(0),
        topic_id: Some(topic_id),
        ..FetchRequest::default()
    };
    broker.wait(broker.broker.fetch(request))
}

fn assert_empty(broker: &Driven) {
    for partition in 0..2 {
        assert_eq!(broker.all("visits", partition), [""; 0]);
    }
    assert_eq!(committed(broker, "billing"), None);
    let opened = broker
        .wait(broker.broker.open_producer("visits", "till"))
        .unwrap();
    assert_eq!((opened.epoch, opened.last_sequence), (1, 0));
}

#[test]
fn a_new_topic_of_an_old_name_knows_no_record_offset_group_or_producer() {
    let (machine, broker, old) = old();
    delete(&broker).unwrap();
    let new = broker.create("visits", 2);
    assert_ne!(old.id, new.id);
    assert_empty(&broker);
    assert_eq!(broker.put("visits", 0, "new"), 0);
    broker.shutdown();
    let broker = machine.open();
    assert_eq!(broker.all("visits", 0), ["new"]);
    assert_eq!(committed(&broker, "billing"), None);
    let mut reader = broker.subscribe(member());
    reader.assignment();
    assert_eq!(
        reader.batch().2,
        ["new"],
        "from the start, as a group that is new"
    );
}

#[test]
fn who_was_at_the_old_topic_hears_so_and_harms_nothing_of_the_new_one() {
    let (_machine, broker, old) = old();
    let mut plain = broker.subscribe(read("visits"));
    plain.batch();
    plain.batch();
    let mut group = broker.subscribe(member());
    group.assignment();
    let held = group.cursor();
    assert_eq!(held.topic_id, Some(old.id));
    // Submitted before the deletion, appended or refused after it.
    let late = by_till(1, 10, 0, "late");
    let permit = broker
        .wait(broker.broker.admit(late.records.len()))
        .unwrap();
    let late = broker.broker.submit(late, permit).unwrap();
    delete(&broker).unwrap();
    let _ = broker.wait(late);
    broker.create("visits", 2);

    for reader in [&mut plain, &mut group] {
        let gone = std::iter::from_fn(|| reader.next()).find_map(Result::err);
        assert!(
            matches!(gone, Some(Error::TopicNotFound { .. })),
            "{gone:?}"
        );
    }
    assert!(matches!(
        fetch_of(&broker, old.id),
        Err(Error::TopicRecreated { .. })
    ));
    for cursor in [held.clone(), of(old.id, cursor("billing", 0, 1))] {
        let outcome = broker.commit(&[cursor]);
        assert!(
            matches!(
                outcome,
                Err(Error::TopicRecreated { .. } | Error::StaleSession { .. })
            ),
            "{outcome:?}"
        );
    }
    let resumed = broker.try_subscribe(SubscribeRequest {
        resume_from: vec![of(old.id, at("visits", 0, 1))],
        ..read("visits")
    });
    assert!(matches!(resumed, Err(Error::TopicRecreated { .. })));
    let stale = broker.wait(broker.broker.produce(by_till(1, 11, 0, "of the old epoch")));
    assert!(
        matches!(stale, Err(Error::StaleProducer { .. })),
        "nobody has opened this producer of the new topic: {stale:?}"
    );
    assert_empty(&broker);
    // A session of the old topic does not commit in the new one, without the id either.
    let without_id = Cursor {
        topic_id: None,
        ..held
    };
    broker.put("visits", 0, "new");
    assert!(broker.commit(&[without_id]).is_err());
    assert_eq!(committed(&broker, "billing"), None);
}

/// What was acknowledged before everything failed.
#[derive(Debug, Default, PartialEq, Eq)]
struct Acknowledged {
    deleted: bool,
    created: bool,
    appended: bool,
    committed: bool,
}

/// Deletes the topic, makes it anew, appends and commits, with readers of the old one there.
fn recreate(broker: &Driven) -> Acknowledged {
    let mut told = Acknowledged::default();
    let mut reader = broker.try_subscribe(member());
    told.deleted = delete(broker).is_ok();
    let spec = flowstone_broker::TopicSpec::new("visits", 2);
    told.created = broker.wait(broker.broker.create_topic(spec, false)).is_ok();
    if let Ok(reader) = &mut reader {
        let _ = reader.next();
    }
    told.appended = told.created && broker.produce("visits", Some(0), values(["new"])).is_ok();
    told.committed = told.appended && broker.commit(&[cursor("audit", 0, 1)]).is_ok();
    while broker.broker.run_pending() {}
    told
}

fn check(nth: u64, machine: &Machine, told: &Acknowledged, old: &TopicInfo) {
    let broker = machine.open();
    while broker.broker.run_pending() {}
    let found = broker.broker.describe_topic("visits");
    match found {
        Ok((info, _)) if info.id == old.id => {
            assert!(!told.deleted, "cut at {nth}: a deletion was taken back");
            assert_eq!(broker.all("visits", 0), ["old a", "old b", "old c"]);
            assert_eq!(committed(&broker, "billing"), Some(2), "cut at {nth}");
            return;
        }
        Ok(_) => {}
        Err(Error::TopicNotFound { .. }) => {
            assert!(!told.created, "cut at {nth}: the new topic is lost");
            broker.create("visits", 2);
        }
        Err(other) => panic!("cut at {nth}: {other:?}"),
    }
    for id in [FIRST_PARTITION, FIRST_PARTITION + 1] {
        let left = machine.disk.list(&partition_dir(id));
        assert!(
            left.is_err(),
            "cut at {nth}: files of the old topic are left"
        );
    }
    let records = broker.all("visits", 0);
    assert!(
        records == ["new"] || records.is_empty() && !told.appended,
        "cut at {nth}: {records:?} after {told:?}"
    );
    assert_eq!(broker.all("visits", 1), [""; 0], "cut at {nth}");
    assert_eq!(committed(&broker, "billing"), None, "cut at {nth}");
    let audit = committed(&broker, "audit");
    assert!(
        audit == Some(1) || audit.is_none() && !told.committed,
        "cut at {nth}: {audit:?} after {told:?}"
    );
    let opened = broker
        .wait(broker.broker.open_producer("visits", "till"))
        .unwrap();
    assert_eq!((opened.epoch, opened.last_sequence), (1, 0), "cut at {nth}");
}

#[test]
fn a_crash_between_any_two_steps_lets_nothing_of_the_old_topic_through() {
    for power in [true, false] {
        for nth in 0.. {
            let (machine, broker, old) = old();
            let failed = machine.fail_behind(nth);
            let told = recreate(&broker);
            // Nothing that the process still does reaches the disk.
            drop(broker);
            machine.disk.clear_faults();
            if power {
                machine.disk.power_cut();
            } else {
                machine.disk.process_crash();
            }
            check(nth, &machine, &told, &old);
            if !failed.load(Relaxed) {
                assert!(told.committed && nth > 20, "{nth} operations, {told:?}");
                break;
            }
        }
    }
}
