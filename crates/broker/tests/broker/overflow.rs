//! A topic that refuses records at its size: until readers, a trim, age or a change make room.

use std::time::Duration;

use flowstone_broker::{
    Cursor, Error, Overflow, ProduceRequest, Start, SubscribeRequest, TopicChange, TopicSpec,
};

use crate::harness::{Driven, Machine, at, read, values};

/// What a partition may hold: more than two segments of 16 KiB.
const LIMIT: u64 = 40 << 10;
const RECORD: usize = 3000;
/// What a record of `RECORD` bytes takes at most: its frame, and the header of a segment that it begins.
const FRAME: u64 = RECORD as u64 + 200 + 4096;

fn rejecting(retention_bytes: u64) -> TopicSpec {
    TopicSpec {
        retention_bytes: Some(retention_bytes),
        overflow: Overflow::Reject,
        ..TopicSpec::new("visits", 1)
    }
}

fn open(spec: TopicSpec) -> (Machine, Driven) {
    let machine = Machine::new(1);
    let broker = machine.open();
    broker
        .wait(broker.broker.create_topic(spec, false))
        .unwrap();
    (machine, broker)
}

fn put(broker: &Driven, partition: Option<u32>) -> Result<u64, Error> {
    let runs = broker.produce("visits", partition, values(["x".repeat(RECORD)]));
    runs.map(|runs| runs[0].base_offset)
}

/// Appends until the partition is full, and returns its end.
fn fill(broker: &Driven) -> u64 {
    for _ in 0..1000 {
        match put(broker, Some(0)) {
            Ok(_) => {}
            Err(Error::TopicFull {
                topic, partition, ..
            }) => {
                assert_eq!((topic.as_str(), partition), ("visits", 0));
                return end(broker);
            }
            Err(other) => panic!("the topic should be full, not {other:?}"),
        }
    }
    panic!("the topic never is full");
}

fn end(broker: &Driven) -> u64 {
    broker.broker.describe_topic("visits").unwrap().1[0].high_watermark
}

fn start(broker: &Driven) -> u64 {
    broker.broker.describe_topic("visits").unwrap().1[0].log_start_offset
}

fn size(broker: &Driven) -> u64 {
    broker.broker.describe_topic("visits").unwrap().1[0].size_bytes
}

fn commit(broker: &Driven, group: &str, partition: u32, offset: u64) {
    let cursor = Cursor {
        group: group.to_owned(),
        ..at("visits", partition, offset)
    };
    assert_eq!(broker.commit(&[cursor]), Ok(vec![]));
}

/// Whether a record is taken after at most one refusal.
fn has_room(broker: &Driven) -> bool {
    let _ = put(broker, Some(0));
    while broker.broker.run_pending() {}
    put(broker, Some(0)).is_ok()
}

#[test]
fn records_are_refused_at_the_size_and_stay() {
    let (machine, broker) = open(rejecting(LIMIT));
    let end = fill(&broker);
    assert!(
        (LIMIT..LIMIT + FRAME).contains(&size(&broker)),
        "{}",
        size(&broker)
    );
    assert!(!has_room(&broker), "nobody has read anything");
    assert!(!broker.broker.run_retention());
    assert_eq!(broker.all("visits", 0).len() as u64, end);
    broker.shutdown();

    let broker = machine.open();
    assert!(!has_room(&broker), "also after a restart");
    assert_eq!((start(&broker), self::end(&broker)), (0, end));
}

#[test]
fn a_trim_makes_room() {
    let (machine, broker) = open(rejecting(LIMIT));
    let end = fill(&broker);
    broker
        .wait(broker.broker.trim_partition("visits", 0, end - 2))
        .unwrap();
    assert!(has_room(&broker));
    assert_eq!(start(&broker), end - 2);
    broker.shutdown();
    assert_eq!(start(&machine.open()), end - 2);
}

#[test]
fn a_limit_below_one_segment_is_emptied_by_a_trim_and_by_readers() {
    let (_machine, broker) = open(rejecting(9000));
    let first = fill(&broker);
    broker
        .wait(broker.broker.trim_partition("visits", 0, first - 1))
        .unwrap();
    assert!(!has_room(&broker), "the segment still has a record");
    broker
        .wait(broker.broker.trim_partition("visits", 0, first))
        .unwrap();
    assert!(has_room(&broker));
    let second = fill(&broker);
    assert!(second > first);
    commit(&broker, "billing", 0, second);
    assert!(has_room(&broker));
    assert_eq!(start(&broker), second);
}

#[test]
fn room_comes_once_every_group_has_committed_past_a_segment() {
    let (_machine, broker) = open(rejecting(LIMIT));
    commit(&broker, "slow", 0, 0);
    let end = fill(&broker);
    commit(&broker, "billing", 0, end);
    assert!(!has_room(&broker), "one group has read nothing");
    commit(&broker, "slow", 0, 1);
    assert!(!has_room(&broker), "only whole segments go");
    commit(&broker, "slow", 0, end - 1);
    assert!(has_room(&broker));
    let kept = start(&broker);
    assert!(
        (1..end - 1).contains(&kept),
        "only what is in the way goes, not all that was read: {kept}"
    );
    let records = broker.all("visits", 0).len() as u64;
    assert_eq!(kept + records, self::end(&broker));
}

#[test]
fn what_all_have_read_stays_while_there_is_room() {
    let (_machine, broker) = open(rejecting(LIMIT));
    while size(&broker) + 2 * FRAME < LIMIT {
        put(&broker, Some(0)).unwrap();
    }
    commit(&broker, "billing", 0, end(&broker));
    assert!(!broker.broker.run_retention());
    assert_eq!(start(&broker), 0);
}

#[test]
fn a_group_that_has_read_another_partition_holds_back_what_it_has_not_read() {
    let spec = TopicSpec {
        partition_count: 2,
        ..rejecting(LIMIT)
    };
    let (_machine, broker) = open(spec);
    let end = fill(&broker);
    put(&broker, Some(1)).unwrap();
    commit(&broker, "audit", 1, 1);
    commit(&broker, "billing", 0, end);
    assert!(!has_room(&broker), "audit has read nothing of partition 0");
    commit(&broker, "audit", 0, end);
    assert!(has_room(&broker));
}

#[test]
fn records_without_a_key_go_past_a_full_partition() {
    let spec = TopicSpec {
        partition_count: 2,
        ..rejecting(LIMIT)
    };
    let (_machine, broker) = open(spec);
    fill(&broker);
    for _ in 0..4 {
        put(&broker, None).expect("partition 1 has room");
    }
    let parts = broker.broker.describe_topic("visits").unwrap().1;
    assert_eq!(parts[1].high_watermark, 4);
}

#[test]
fn requests_in_flight_overrun_the_limit_by_one_request_at_most() {
    let (_machine, broker) = open(rejecting(LIMIT));
    let pending: Vec<_> = (0..40)
        .map(|_| {
            let request = ProduceRequest {
                topic: "visits".to_owned(),
                partition: Some(0),
                records: values(["x".repeat(RECORD)]),
                ..ProduceRequest::default()
            };
            let permit = broker.wait(broker.broker.admit(request.records.len()));
            broker.broker.submit(request, permit.unwrap()).unwrap()
        })
        .collect();
    let outcomes: Vec<_> = pending.into_iter().map(|p| broker.wait(p)).collect();
    let taken = outcomes.iter().filter(|outcome| outcome.is_ok()).count();
    assert_eq!(taken as u64, end(&broker));
    let refused = outcomes.iter().filter_map(|outcome| outcome.as_ref().err());
    for error in refused {
        assert!(matches!(error, Error::TopicFull { .. }), "{error:?}");
    }
    assert!(
        (LIMIT..LIMIT + FRAME).contains(&size(&broker)),
        "{}",
        size(&broker)
    );
}

#[test]
fn the_setting_changes_at_run_time() {
    let (_machine, broker) = open(TopicSpec::new("visits", 1));
    for _ in 0..20 {
        put(&broker, Some(0)).unwrap();
    }
    let change = |change: TopicChange| broker.wait(broker.broker.update_topic("visits", change));
    let without_size = change(TopicChange {
        overflow: Some(Overflow::Reject),
        ..TopicChange::default()
    });
    assert!(matches!(
        without_size,
        Err(Error::InvalidField { field, .. }) if field == "overflow"
    ));
    let too_small = change(TopicChange {
        overflow: Some(Overflow::Reject),
        retention_bytes: Some(Some(4096)),
        ..TopicChange::default()
    });
    assert!(matches!(
        too_small,
        Err(Error::InvalidField { field, .. }) if field == "retention_bytes"
    ));
    change(TopicChange {
        overflow: Some(Overflow::Reject),
        retention_bytes: Some(Some(LIMIT)),
        ..TopicChange::default()
    })
    .unwrap();
    assert!(!has_room(&broker));
    change(TopicChange {
        retention_bytes: Some(Some(4 * LIMIT)),
        ..TopicChange::default()
    })
    .unwrap();
    assert!(has_room(&broker), "there is more room at once");
    let dropped = change(TopicChange {
        retention_bytes: Some(None),
        ..TopicChange::default()
    });
    assert!(dropped.is_err(), "a size that records are refused at stays");
    change(TopicChange {
        overflow: Some(Overflow::Trim),
        retention_bytes: Some(Some(LIMIT)),
        ..TopicChange::default()
    })
    .unwrap();
    assert!(put(&broker, Some(0)).is_ok());
    assert!(broker.broker.run_retention(), "the oldest segments go");
    assert!(start(&broker) > 0);
}

#[test]
fn age_makes_room_as_ever() {
    let spec = TopicSpec {
        retention_ms: Some(60_000),
        ..rejecting(LIMIT)
    };
    let (machine, broker) = open(spec);
    let end = fill(&broker);
    machine.clock.advance(Duration::from_secs(3600));
    assert!(has_room(&broker));
    assert_eq!(start(&broker), end);
}

#[test]
fn a_reader_keeps_what_it_holds_while_room_is_made() {
    let (_machine, broker) = open(rejecting(LIMIT));
    let end = fill(&broker);
    let held = broker.fetch("visits", 0, Start::Offset(0)).unwrap();
    let mut behind = broker.subscribe(SubscribeRequest {
        max_batch_bytes: 1,
        ..read("visits")
    });
    behind.batch();
    commit(&broker, "billing", 0, end);
    assert!(has_room(&broker));
    let texts = crate::harness::texts(&held.chunks);
    assert!(!texts.is_empty() && texts.iter().all(|text| *text == "x".repeat(RECORD)));
    let (cursor, error) = behind.partition_error();
    assert_eq!(cursor.offset, 1, "it has no group, so nobody waits for it");
    assert!(matches!(error, Error::OffsetTrimmed { .. }));
}

#[test]
fn a_topic_made_anew_is_not_full() {
    let (_machine, broker) = open(rejecting(LIMIT));
    fill(&broker);
    broker.wait(broker.broker.delete_topic("visits")).unwrap();
    broker
        .wait(broker.broker.create_topic(rejecting(LIMIT), false))
        .unwrap();
    assert_eq!(put(&broker, Some(0)), Ok(0));
}
