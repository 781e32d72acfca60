//! Subscriptions without a group: every start, every stop, and what may happen in between.

use std::pin::pin;
use std::time::Duration;

use flowstone_broker::{Cursor, Delivery, Error, Start, Stop, SubscribeRequest, TopicChange};

use crate::harness::{Driven, Machine, START_MS, at, read, values, woken_by};

/// A topic of two partitions; a0 to a3 in the first, b0 and b1 in the second, a second apart.
fn visits() -> (Machine, Driven) {
    let machine = Machine::new(1);
    let broker = machine.open();
    broker.create("visits", 2);
    for (partition, value) in [
        (0, "a0"),
        (1, "b0"),
        (0, "a1"),
        (0, "a2"),
        (1, "b1"),
        (0, "a3"),
    ] {
        broker.put("visits", partition, value);
        machine.clock.advance(Duration::from_secs(1));
    }
    (machine, broker)
}

fn until(start: Start, stop: Stop) -> SubscribeRequest {
    SubscribeRequest {
        start,
        stop: Some(stop),
        ..read("visits")
    }
}

/// The values that a request brings before it ends.
fn found(broker: &Driven, request: SubscribeRequest) -> Vec<String> {
    broker
        .subscribe(request)
        .rest()
        .into_iter()
        .map(|(_, value)| value)
        .collect()
}

#[test]
fn every_start_begins_where_it_says() {
    let (_machine, broker) = visits();
    let from = |start| found(&broker, until(start, Stop::CurrentEnd));
    assert_eq!(from(Start::Earliest), ["a0", "a1", "a2", "a3", "b0", "b1"]);
    assert_eq!(from(Start::Latest), [""; 0]);
    assert_eq!(from(Start::Offset(1)), ["a1", "a2", "a3", "b1"]);
    assert_eq!(
        from(Start::Offset(2)),
        ["a2", "a3"],
        "the end of one is no error"
    );
    assert_eq!(from(Start::Last(1)), ["a3", "b1"]);
    assert_eq!(from(Start::Last(3)), ["a1", "a2", "a3", "b0", "b1"]);
    assert_eq!(from(Start::TimeMs(START_MS + 3000)), ["a2", "a3", "b1"]);
    assert_eq!(from(Start::TimeMs(START_MS + 5000)), ["a3"]);
}

#[test]
fn every_stop_ends_where_it_says() {
    let (_machine, broker) = visits();
    let to = |stop| found(&broker, until(Start::Earliest, stop));
    assert_eq!(to(Stop::CurrentEnd), ["a0", "a1", "a2", "a3", "b0", "b1"]);
    assert_eq!(to(Stop::Offset(1)), ["a0", "b0"]);
    assert_eq!(to(Stop::Offset(0)), [""; 0]);
    assert_eq!(to(Stop::TimeMs(START_MS + 3000)), ["a0", "a1", "b0"]);
    assert_eq!(
        to(Stop::TimeMs(START_MS + 9000)),
        ["a0", "a1", "a2", "a3", "b0", "b1"]
    );
    assert_eq!(to(Stop::Count(0)), [""; 0]);
    assert_eq!(to(Stop::Count(5)).len(), 5);
}

#[test]
fn positions_are_resolved_when_the_call_starts() {
    let (_machine, broker) = visits();
    let mut to_the_end = broker.subscribe(until(Start::Last(1), Stop::CurrentEnd));
    let mut to_a_time = broker.subscribe(until(Start::Last(1), Stop::TimeMs(START_MS + 60_000)));
    let mut new_only = broker.subscribe(until(Start::Latest, Stop::Offset(5)));
    broker.put("visits", 0, "late");
    let expected = [(0, "a3".to_owned()), (1, "b1".to_owned())];
    assert_eq!(to_the_end.rest(), expected);
    assert_eq!(to_a_time.rest(), expected);
    assert_eq!(new_only.batch(), (0, 5, vec!["late".to_owned()]));
    assert!(
        new_only.is_waiting(),
        "partition 1 has not reached its stop"
    );
}

#[test]
fn a_stop_behind_the_end_is_waited_for() {
    let (_machine, broker) = visits();
    let one = SubscribeRequest {
        partitions: vec![1],
        ..until(Start::Earliest, Stop::Offset(4))
    };
    let mut reader = broker.subscribe(one);
    assert_eq!(reader.batch().2, ["b0", "b1"]);
    assert!(reader.is_waiting());
    broker
        .produce("visits", Some(1), values(["b2", "b3", "b4"]))
        .unwrap();
    assert_eq!(
        reader.batch(),
        (1, 4, vec!["b2".to_owned(), "b3".to_owned()])
    );
    assert_eq!(reader.next(), None);
    assert_eq!(reader.next(), None, "and nothing more");
}

#[test]
fn a_count_is_of_the_whole_call() {
    let (_machine, broker) = visits();
    let mut reader = broker.subscribe(until(Start::Earliest, Stop::Count(8)));
    let first = reader.batch().2.len() + reader.batch().2.len();
    assert_eq!(first, 6);
    assert!(reader.is_waiting());
    broker
        .produce("visits", Some(0), values(["c", "d", "e"]))
        .unwrap();
    assert_eq!(reader.batch().2, ["c", "d"]);
    assert_eq!(reader.next(), None);
}

#[test]
fn partitions_can_be_chosen_and_take_turns() {
    let (_machine, broker) = visits();
    let chosen = SubscribeRequest {
        partitions: vec![1],
        ..until(Start::Earliest, Stop::CurrentEnd)
    };
    assert_eq!(found(&broker, chosen), ["b0", "b1"]);
    let small = SubscribeRequest {
        max_batch_bytes: 1,
        ..until(Start::Earliest, Stop::CurrentEnd)
    };
    let mut reader = broker.subscribe(small);
    let order: Vec<u32> = (0..6).map(|_| reader.batch().0).collect();
    assert_eq!(order, [0, 1, 0, 1, 0, 0]);
    assert_eq!(reader.next(), None);
}

#[test]
fn a_reader_is_woken_by_what_comes_to_its_partitions_and_by_nothing_else() {
    let (_machine, broker) = visits();
    let mut second = broker.subscribe(SubscribeRequest {
        partitions: vec![1],
        start: Start::Latest,
        ..read("visits")
    });
    let put = |partition, value| {
        broker.put("visits", partition, value);
    };
    assert_eq!(second.woken_by(|| put(0, "a4")), 0);
    let put_twice = || ["b2", "b3"].into_iter().for_each(|value| put(1, value));
    assert_eq!(second.woken_by(put_twice), 1);
    assert_eq!(second.batch(), (1, 4, vec!["b2".into(), "b3".into()]));
    let mut fetching = pin!(broker.broker.wait_for_data("visits", 1, 4));
    assert_eq!(woken_by(fetching.as_mut(), || put(0, "a5")), 0);
    assert_eq!(woken_by(fetching.as_mut(), || put(1, "b4")), 1);
    broker.wait(fetching);
    assert_eq!(second.batch(), (1, 5, vec!["b4".into()]));
    for count in [3, 4] {
        let more = TopicChange {
            partition_count: Some(count),
            ..TopicChange::default()
        };
        let grown = broker.broker.update_topic("visits", more);
        let grow = || drop(broker.wait(grown).unwrap());
        assert_eq!(second.woken_by(grow), 1);
        assert!(second.is_waiting());
    }
    let delete = || broker.wait(broker.broker.delete_topic("visits")).unwrap();
    assert_eq!(second.woken_by(delete), 1);
    assert!(matches!(
        second.next(),
        Some(Err(Error::TopicNotFound { .. }))
    ));
}

#[test]
fn a_cursor_resumes_where_it_was_received() {
    let (_machine, broker) = visits();
    let small = SubscribeRequest {
        max_batch_bytes: 1,
        ..read("visits")
    };
    let mut reader = broker.subscribe(small);
    let (a, b) = (reader.cursor(), reader.cursor());
    let id = broker.broker.describe_topic("visits").unwrap().0.id;
    assert_eq!(
        a,
        Cursor {
            topic_id: Some(id),
            ..at("visits", 0, 1)
        }
    );
    assert_eq!(
        b,
        Cursor {
            topic_id: Some(id),
            ..at("visits", 1, 1)
        }
    );
    let resume = SubscribeRequest {
        resume_from: vec![b],
        ..until(Start::Offset(2), Stop::CurrentEnd)
    };
    assert_eq!(
        found(&broker, resume),
        ["a2", "a3", "b1"],
        "`start` holds for the others"
    );
}

#[test]
fn stops_can_be_named_by_partition() {
    let (_machine, broker) = visits();
    let request = SubscribeRequest {
        stop_before: vec![at("visits", 0, 2)],
        ..until(Start::Earliest, Stop::CurrentEnd)
    };
    assert_eq!(found(&broker, request), ["a0", "a1", "b0", "b1"]);
    let without_stop = SubscribeRequest {
        stop_before: vec![at("visits", 0, 2), at("visits", 1, 1)],
        ..read("visits")
    };
    assert_eq!(found(&broker, without_stop), ["a0", "a1", "b0"]);
}

#[test]
fn what_cannot_be_subscribed_to_is_refused() {
    let (_machine, broker) = visits();
    let refused = |request| {
        broker
            .try_subscribe(request)
            .map(drop)
            .expect_err("it is refused")
    };
    let field = |request| match refused(request) {
        Error::InvalidField { field, .. } => field,
        other => panic!("a field should be refused, not {other:?}"),
    };
    let resume = |cursors| SubscribeRequest {
        resume_from: cursors,
        ..read("visits")
    };
    assert!(matches!(
        refused(read("orders")),
        Error::TopicNotFound { .. }
    ));
    let third = SubscribeRequest {
        partitions: vec![0, 2],
        ..read("visits")
    };
    assert!(matches!(
        refused(third),
        Error::PartitionNotFound { partition: 2, .. }
    ));
    let twice = SubscribeRequest {
        partitions: vec![1, 1],
        ..read("visits")
    };
    assert_eq!(field(twice), "partitions");
    assert_eq!(
        field(resume(vec![at("orders", 0, 0)])),
        "resume_from[0].topic"
    );
    assert_eq!(
        field(resume(vec![at("visits", 2, 0)])),
        "resume_from[0].partition"
    );
    let twice = vec![at("visits", 0, 0), at("visits", 0, 1)];
    assert_eq!(field(resume(twice)), "resume_from[1].partition");
    let other = Cursor {
        topic_id: Some(flowstone_broker::Uuid::nil()),
        ..at("visits", 0, 0)
    };
    assert!(matches!(
        refused(resume(vec![other])),
        Error::TopicRecreated { .. }
    ));
    let committed = SubscribeRequest {
        start: Start::Committed,
        ..read("visits")
    };
    assert_eq!(field(committed), "group");
    let member = SubscribeRequest {
        member: "till".to_owned(),
        ..read("visits")
    };
    assert_eq!(field(member), "member");
    assert!(matches!(
        refused(resume(vec![at("visits", 0, 5)])),
        Error::OffsetBeyondEnd {
            requested: 5,
            high_watermark: 4,
            ..
        }
    ));
    broker
        .wait(broker.broker.trim_partition("visits", 0, 2))
        .unwrap();
    let trimmed = SubscribeRequest {
        start: Start::Offset(1),
        ..read("visits")
    };
    assert!(matches!(
        refused(trimmed),
        Error::OffsetTrimmed {
            requested: 1,
            log_start_offset: 2,
            high_watermark: 4
        }
    ));
}

#[test]
fn what_is_trimmed_ahead_of_a_reader_is_told_and_it_goes_on_behind() {
    let (_machine, broker) = visits();
    let small = SubscribeRequest {
        partitions: vec![0],
        max_batch_bytes: 1,
        ..until(Start::Earliest, Stop::CurrentEnd)
    };
    let mut reader = broker.subscribe(small);
    assert_eq!(reader.batch().2, ["a0"]);
    broker
        .wait(broker.broker.trim_partition("visits", 0, 3))
        .unwrap();
    let (cursor, error) = reader.partition_error();
    let trimmed = Error::OffsetTrimmed {
        requested: 1,
        log_start_offset: 3,
        high_watermark: 4,
    };
    assert_eq!((cursor.partition, cursor.offset), (0, 1));
    assert_eq!(error, trimmed);
    assert_eq!(reader.batch().2, ["a3"]);
    assert_eq!(
        reader.next(),
        Some(Err(trimmed)),
        "a short read never looks like a whole one"
    );
    assert_eq!(reader.next(), None);
}

#[test]
fn partitions_that_are_added_are_read_from_their_start() {
    let (_machine, broker) = visits();
    let grow = |count| {
        let more = TopicChange {
            partition_count: Some(count),
            ..TopicChange::default()
        };
        broker
            .wait(broker.broker.update_topic("visits", more))
            .unwrap();
    };
    let mut all = broker.subscribe(SubscribeRequest {
        start: Start::Latest,
        ..read("visits")
    });
    let chosen = SubscribeRequest {
        partitions: vec![0, 1],
        start: Start::Latest,
        ..read("visits")
    };
    let mut chosen = broker.subscribe(chosen);
    let mut stops = broker.subscribe(until(Start::Latest, Stop::Offset(9)));
    assert!(all.is_waiting());
    grow(4);
    broker.put("visits", 3, "new");
    assert_eq!(all.batch(), (3, 1, vec!["new".to_owned()]));
    assert!(chosen.is_waiting());
    assert!(
        stops.is_waiting(),
        "what is read up to a stop was settled when the call began"
    );
}

#[test]
fn nothing_is_lost_or_told_twice_when_a_caller_gives_up_waiting() {
    let (_machine, broker) = visits();
    let mut reader = broker.subscribe(SubscribeRequest {
        start: Start::Latest,
        ..read("visits")
    });
    assert!(reader.is_waiting());
    for i in 0..20 {
        let value = format!("value {i}");
        broker.put("visits", i % 2, &value);
        assert_eq!(reader.batch().2, [value]);
        assert!(reader.is_waiting());
    }
}

#[test]
fn a_subscription_ends_with_its_topic() {
    let (_machine, broker) = visits();
    let mut reader = broker.subscribe(SubscribeRequest {
        start: Start::Latest,
        ..read("visits")
    });
    assert!(reader.is_waiting());
    broker.wait(broker.broker.delete_topic("visits")).unwrap();
    broker.create("visits", 2);
    broker.put("visits", 0, "of another topic");
    assert!(matches!(
        reader.next(),
        Some(Err(Error::TopicNotFound { .. }))
    ));
    assert_eq!(reader.next(), None);
}

#[test]
fn a_subscription_ends_with_the_broker() {
    let (_machine, broker) = visits();
    let mut reader = broker.subscribe(read("visits"));
    reader.batch();
    broker.broker.stop_accepting();
    assert_eq!(reader.next(), Some(Err(Error::ShuttingDown)));
    let late = broker.try_subscribe(read("visits")).map(drop);
    assert_eq!(late, Err(Error::ShuttingDown));
}

#[test]
fn subscriptions_are_bounded() {
    let machine = Machine::new(1);
    let mut config = machine.config();
    config.limits.max_subscriptions = 1;
    let broker = machine.open_with(config).unwrap();
    broker.create("visits", 1);
    let reader = broker.subscribe(read("visits"));
    assert!(matches!(
        broker.try_subscribe(read("visits")).map(drop),
        Err(Error::LimitExceeded {
            limit: "max_subscriptions",
            value: 1
        })
    ));
    drop(reader);
    broker.subscribe(read("visits"));
}

#[test]
fn a_delivery_tells_how_far_there_is_to_go() {
    let (_machine, broker) = visits();
    let small = SubscribeRequest {
        max_batch_bytes: 1,
        ..read("visits")
    };
    let mut reader = broker.subscribe(small);
    match reader.next() {
        Some(Ok(Delivery::Records {
            cursor,
            high_watermark,
            record_count,
            ..
        })) => {
            assert_eq!((cursor.offset, high_watermark, record_count), (1, 4, 1));
        }
        other => panic!("records should come, not {other:?}"),
    }
}
