//! Appending: where records go, what is refused, and when the answer comes.

use std::time::Duration;

use flowstone_broker::{
    Acks, AppendedRun, Error, FetchRequest, PendingProduce, Pipeline, ProduceRequest, Start,
    TopicChange, TopicSpec,
};
use flowstone_disk::OpKind;

use crate::harness::{Driven, Machine, Record, START_MS, decode, keyed, run, texts, values};

fn request(partition: Option<u32>, value: &str) -> ProduceRequest {
    ProduceRequest {
        topic: "visits".to_owned(),
        partition,
        acks: None,
        records: values([value]),
        ..ProduceRequest::default()
    }
}

fn submit(broker: &Driven, request: ProduceRequest) -> Result<PendingProduce, Error> {
    let permit = broker
        .wait(broker.broker.admit(request.records.len()))
        .unwrap();
    broker.broker.submit(request, permit)
}

fn machine_with_topic(partition_count: u32) -> (Machine, Driven) {
    let machine = Machine::new(1);
    let broker = machine.open();
    broker.create("visits", partition_count);
    (machine, broker)
}

#[test]
fn what_was_acknowledged_is_there_after_a_restart_with_offset_and_time() {
    let (machine, broker) = machine_with_topic(1);
    let stamped = run([
        Record {
            value: Some(b"mine".to_vec()),
            timestamp_ms: 77,
            ..Record::default()
        },
        Record {
            key: Some(Vec::new()),
            offset: Some(99),
            ..Record::default()
        },
    ]);
    broker.put("visits", 0, "first");
    broker.produce("visits", Some(0), stamped).unwrap();
    broker.shutdown();

    let broker = machine.open();
    let fetched = broker.fetch("visits", 0, Start::Earliest).unwrap();
    let record = |key: Option<&str>, value: Option<&str>, timestamp_ms, offset| Record {
        key: key.map(|key| key.as_bytes().to_vec()),
        value: value.map(|value| value.as_bytes().to_vec()),
        timestamp_ms,
        offset: Some(offset),
    };
    assert_eq!(
        decode(&fetched.chunks),
        [
            record(None, Some("first"), START_MS, 0),
            record(None, Some("mine"), 77, 1),
            record(Some(""), None, START_MS, 2),
        ]
    );
    assert_eq!(
        (
            fetched.record_count,
            fetched.next_offset,
            fetched.high_watermark
        ),
        (3, 3, 3)
    );
}

#[test]
fn keys_go_where_kafkas_java_client_sends_them() {
    let (_machine, broker) = machine_with_topic(8);
    // murmur2 of these is -973932308, -790332482 and 479470107 in Kafka's own tests.
    let keys = [
        ("21", -973_932_308i32),
        ("foobar", -790_332_482),
        ("abc", 479_470_107),
    ];
    for (key, hash) in keys {
        let partition = (hash & 0x7fff_ffff).cast_unsigned() % 8;
        let runs = broker
            .produce("visits", None, keyed(&[(key, key)]))
            .unwrap();
        assert_eq!(runs.len(), 1);
        assert_eq!(runs[0].partition, partition, "{key}");
    }
}

#[test]
fn runs_tell_where_each_record_of_a_mixed_request_went() {
    let (_machine, broker) = machine_with_topic(8);
    let mut records = Vec::new();
    for i in 0..60u32 {
        let key = (i % 4 != 0).then(|| format!("key {}", i % 7).into_bytes());
        let value = Some(i.to_string().into_bytes());
        records.push(Record {
            key,
            value,
            ..Record::default()
        });
    }
    let runs = broker
        .produce("visits", None, run(records.clone()))
        .unwrap();
    let mut places = Vec::new();
    for AppendedRun {
        partition,
        base_offset,
        record_count,
    } in runs
    {
        places.extend((0..u64::from(record_count)).map(|n| (partition, base_offset + n)));
    }
    assert_eq!(places.len(), records.len());
    for (record, &(partition, offset)) in records.iter().zip(&places) {
        let fetched = broker
            .fetch("visits", partition, Start::Offset(offset))
            .unwrap();
        let found = &decode(&fetched.chunks)[0];
        assert_eq!((&found.key, &found.value), (&record.key, &record.value));
    }
    let mut keyless: Vec<u32> = records
        .iter()
        .zip(&places)
        .filter(|(record, _)| record.key.is_none())
        .map(|(_, place)| place.0)
        .collect();
    keyless.dedup();
    assert_eq!(keyless.len(), 1, "records without a key stay together");
}

#[test]
fn requests_without_keys_take_turns() {
    let (_machine, broker) = machine_with_topic(3);
    let mut partitions: Vec<u32> = (0..6)
        .map(|_| broker.produce("visits", None, values(["a", "b"])).unwrap())
        .map(|runs| {
            assert_eq!(runs.len(), 1);
            runs[0].partition
        })
        .collect();
    partitions.sort_unstable();
    assert_eq!(partitions, [0, 0, 1, 1, 2, 2]);
}

#[test]
fn requests_that_wait_together_share_one_sync() {
    let (machine, broker) = machine_with_topic(1);
    broker.put("visits", 0, "makes the segment");
    let syncs = machine.syncs();
    let pending: Vec<_> = (0..50)
        .map(|i| submit(&broker, request(Some(0), &i.to_string())).unwrap())
        .collect();
    for (i, pending) in pending.into_iter().enumerate() {
        let produced = broker.wait(pending).unwrap();
        assert_eq!(
            produced.runs[0].base_offset,
            1 + i as u64,
            "offsets follow the order of the calls"
        );
    }
    assert_eq!(machine.syncs() - syncs, 1);
}

#[test]
fn an_ack_waits_for_the_sync_unless_it_was_asked_not_to() {
    let (machine, broker) = machine_with_topic(1);
    broker.put("visits", 0, "makes the segment");
    let written = ProduceRequest {
        acks: Some(Acks::Written),
        ..request(Some(0), "written")
    };
    let written = submit(&broker, written).unwrap();
    let durable = submit(&broker, request(Some(0), "durable")).unwrap();
    machine
        .disk
        .fail_nth(OpKind::SyncData, 1, std::io::ErrorKind::Other);
    assert!(broker.wait(written).is_ok());
    assert!(matches!(
        broker.wait(durable),
        Err(Error::OutcomeUnknown { .. })
    ));
}

#[test]
fn the_acks_of_the_topic_hold_where_a_request_names_none() {
    let (machine, broker) = machine_with_topic(1);
    broker.put("visits", 0, "makes the segment");
    let written = TopicChange {
        default_acks: Some(Some(Acks::Written)),
        ..TopicChange::default()
    };
    broker
        .wait(broker.broker.update_topic("visits", written))
        .unwrap();
    let by_topic = submit(&broker, request(Some(0), "by topic")).unwrap();
    let durable = ProduceRequest {
        acks: Some(Acks::Durable),
        ..request(Some(0), "by request")
    };
    let durable = submit(&broker, durable).unwrap();
    machine
        .disk
        .fail_nth(OpKind::SyncData, 1, std::io::ErrorKind::Other);
    assert!(broker.wait(by_topic).is_ok());
    assert!(broker.wait(durable).is_err());
}

#[test]
fn readers_see_nothing_before_it_is_durable() {
    let (_machine, broker) = machine_with_topic(1);
    broker.put("visits", 0, "durable");
    let pending = submit(&broker, request(Some(0), "queued")).unwrap();
    let fetched = broker.fetch("visits", 0, Start::Earliest).unwrap();
    assert_eq!(texts(&fetched.chunks), ["durable"]);
    broker.wait(pending).unwrap();
    assert_eq!(broker.all("visits", 0), ["durable", "queued"]);
}

#[test]
fn what_cannot_be_appended_is_refused_whole_and_says_why() {
    let (machine, broker) = machine_with_topic(4);
    let produce = |records| broker.produce("visits", None, records);
    let mut malformed = keyed(&[("a", "fine"), ("b", "fine")]).to_vec();
    malformed.extend_from_slice(&[0x0a, 0x02, 0x58, 0x01]);
    assert!(matches!(
        produce(malformed.into()),
        Err(Error::MalformedRecord {
            index: 2,
            field: Some(11),
            ..
        })
    ));
    assert!(matches!(
        produce(values(["fine", &"x".repeat(5000)])),
        Err(Error::RecordTooLarge {
            index: 1,
            limit: 4096,
            ..
        })
    ));
    let field = |result: Result<Vec<AppendedRun>, Error>| match result {
        Err(Error::InvalidField { field, .. }) => field,
        other => panic!("a field should be refused, not {other:?}"),
    };
    assert_eq!(field(produce(values::<&str>([]))), "records");
    assert_eq!(
        field(produce(values([
            "x".repeat(3000),
            "y".repeat(3000),
            "z".repeat(3000)
        ]))),
        "records"
    );
    assert_eq!(field(produce(values(vec!["x"; 101]))), "records");
    let late = |ahead_ms| {
        run([Record {
            timestamp_ms: START_MS + ahead_ms,
            ..Record::default()
        }])
    };
    assert_eq!(field(produce(late(3_600_001))), "records[0].timestamp_ms");
    machine.clock.advance(Duration::from_millis(1));
    assert!(
        produce(late(3_600_001)).is_ok(),
        "an hour ahead is not too much"
    );
    assert!(matches!(
        broker.produce("orders", None, values(["x"])),
        Err(Error::TopicNotFound { topic }) if topic == "orders"
    ));
    assert!(matches!(
        broker.produce("visits", Some(4), values(["x"])),
        Err(Error::PartitionNotFound {
            partition: 4,
            partition_count: 4,
            ..
        })
    ));
    let ends = broker.broker.describe_topic("visits").unwrap().1;
    assert_eq!(ends.iter().map(|info| info.high_watermark).sum::<u64>(), 1);
}

#[test]
fn after_a_failure_nothing_later_of_a_pipeline_is_appended() {
    let (_machine, broker) = machine_with_topic(1);
    let pipeline = Pipeline::new();
    let submit = |partition, value: &str| {
        let permit = broker.wait(broker.broker.admit(value.len())).unwrap();
        let request = request(Some(partition), value);
        broker.broker.submit_pipelined(&pipeline, request, permit)
    };
    let first = submit(0, "first").unwrap();
    assert!(matches!(
        submit(9, "refused at once"),
        Err(Error::PartitionNotFound { .. })
    ));
    assert!(matches!(
        submit(0, "third"),
        Err(Error::OutcomeUnknown { .. })
    ));
    assert!(
        broker.wait(first).is_ok(),
        "what came before the failure goes on"
    );
    assert_eq!(broker.all("visits", 0), ["first"]);
}

#[test]
fn a_record_that_is_refused_in_its_turn_breaks_a_pipeline_too() {
    let (_machine, broker) = machine_with_topic(1);
    let pipeline = Pipeline::new();
    let submit = |value: &str| {
        let permit = broker.wait(broker.broker.admit(value.len())).unwrap();
        let request = request(Some(0), value);
        let submitted = broker.broker.submit_pipelined(&pipeline, request, permit);
        submitted.unwrap()
    };
    let [first, large, third] = ["first", &"x".repeat(5000), "third"].map(submit);
    assert!(broker.wait(first).is_ok());
    let large = broker.wait(large);
    assert!(
        matches!(large, Err(Error::RecordTooLarge { .. })),
        "{large:?}"
    );
    assert!(matches!(
        broker.wait(third),
        Err(Error::OutcomeUnknown { .. })
    ));
    assert_eq!(broker.all("visits", 0), ["first"]);
}

#[test]
fn a_failure_in_the_queue_breaks_a_pipeline_too() {
    let (machine, broker) = machine_with_topic(1);
    broker.put("visits", 0, "makes the segment");
    let pipeline = Pipeline::new();
    let submit = |value: &str| {
        let permit = broker.wait(broker.broker.admit(value.len())).unwrap();
        broker
            .broker
            .submit_pipelined(&pipeline, request(Some(0), value), permit)
            .unwrap()
    };
    let large = submit(&"x".repeat(4000));
    let large_too = [(); 15].map(|()| submit(&"x".repeat(4000)));
    let small = submit("small");
    machine.disk.set_capacity(machine.disk.used_bytes());
    assert!(broker.wait(large).is_ok(), "there is space in the segment");
    let failed: Vec<_> = large_too
        .into_iter()
        .map(|pending| broker.wait(pending))
        .collect();
    let first_failed = failed
        .iter()
        .position(Result::is_err)
        .expect("the disk is full");
    assert!(failed[first_failed..].iter().all(Result::is_err));
    assert!(
        broker.wait(small).is_err(),
        "it would fit, but comes after a failure"
    );
}

#[test]
fn room_for_requests_is_bounded_and_given_back() {
    let machine = Machine::new(1);
    let mut config = machine.config();
    config.limits.max_produce_bytes_in_flight = 16 << 10;
    let broker = machine.open_with(config).unwrap();
    broker.create("visits", 1);
    let mut admitted: Vec<_> = (0..16)
        .map(|_| broker.wait(broker.broker.admit(0)).unwrap())
        .collect();
    let waiting = std::pin::pin!(broker.broker.admit(0));
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    let mut waiting = waiting;
    assert!(waiting.as_mut().poll(&mut context).is_pending());
    let pending = broker
        .broker
        .submit(request(Some(0), "x"), admitted.pop().unwrap())
        .unwrap();
    assert!(
        waiting.as_mut().poll(&mut context).is_pending(),
        "it is still in flight"
    );
    broker.wait(pending).unwrap();
    assert!(waiting.as_mut().poll(&mut context).is_ready());
}

#[test]
fn a_fetch_holds_what_was_asked_for_and_one_record_at_least() {
    let (_machine, broker) = machine_with_topic(1);
    let value = "x".repeat(1000);
    for _ in 0..5 {
        broker.put("visits", 0, &value);
    }
    let fetch = |max_bytes, max_records| {
        let request = FetchRequest {
            topic: "visits".to_owned(),
            max_bytes,
            max_records,
            ..FetchRequest::default()
        };
        broker
            .wait(broker.broker.fetch(request))
            .unwrap()
            .record_count
    };
    assert_eq!(fetch(0, 0), 5);
    assert_eq!(fetch(2500, 0), 2);
    assert_eq!(fetch(1, 0), 1);
    assert_eq!(fetch(0, 3), 3);
}

#[test]
fn a_fetch_starts_where_its_position_stands() {
    let (machine, broker) = machine_with_topic(1);
    for value in ["a", "b", "c", "d"] {
        broker.put("visits", 0, value);
        machine.clock.advance(Duration::from_secs(1));
    }
    let fetch = |start| texts(&broker.fetch("visits", 0, start).unwrap().chunks);
    assert_eq!(fetch(Start::Earliest), ["a", "b", "c", "d"]);
    assert_eq!(fetch(Start::Latest), [""; 0]);
    assert_eq!(fetch(Start::Offset(3)), ["d"]);
    assert_eq!(fetch(Start::Offset(4)), [""; 0], "the end is no error");
    assert_eq!(fetch(Start::Last(2)), ["c", "d"]);
    assert_eq!(fetch(Start::Last(9)), ["a", "b", "c", "d"]);
    assert_eq!(fetch(Start::TimeMs(START_MS + 1001)), ["c", "d"]);
    assert_eq!(fetch(Start::TimeMs(START_MS + 9000)), [""; 0]);
    let committed = broker.fetch("visits", 0, Start::Committed);
    assert!(matches!(committed, Err(Error::InvalidField { .. })));
}

#[test]
fn offsets_are_listed_as_positions_stand() {
    let (machine, broker) = machine_with_topic(2);
    let id = broker.broker.describe_topic("visits").unwrap().0.id;
    for value in ["a", "b", "c"] {
        broker.put("visits", 1, value);
        machine.clock.advance(Duration::from_secs(1));
    }
    let list = |at, partitions: &[u32]| {
        let found = broker.wait(broker.broker.list_offsets("visits", &at, partitions, None));
        found.map(|(topic_id, found)| {
            assert_eq!(topic_id, id);
            found
                .iter()
                .map(|at| (at.partition, at.offset, at.high_watermark))
                .collect::<Vec<_>>()
        })
    };
    assert_eq!(list(Start::Latest, &[]), Ok(vec![(0, 0, 0), (1, 3, 3)]));
    assert_eq!(list(Start::Last(2), &[1]), Ok(vec![(1, 1, 3)]));
    assert_eq!(
        list(Start::TimeMs(START_MS + 1), &[]),
        Ok(vec![(0, 0, 0), (1, 1, 3)])
    );
    assert!(matches!(
        list(Start::Offset(1), &[]),
        Err(Error::OffsetBeyondEnd { .. })
    ));
    assert!(matches!(
        list(Start::Committed, &[]),
        Err(Error::InvalidField { .. })
    ));
    assert!(matches!(
        list(Start::Latest, &[2]),
        Err(Error::PartitionNotFound { .. })
    ));
}

#[test]
fn waiting_for_data_ends_when_there_is_some_or_never_will_be() {
    let (_machine, broker) = machine_with_topic(1);
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    let wait = |topic| Box::pin(broker.broker.wait_for_data(topic, 0, 0));
    let mut for_record = wait("visits");
    assert!(for_record.as_mut().poll(&mut context).is_pending());
    broker.put("visits", 0, "x");
    assert!(for_record.as_mut().poll(&mut context).is_ready());

    broker.create("deleted", 1);
    let mut for_deleted = wait("deleted");
    assert!(for_deleted.as_mut().poll(&mut context).is_pending());
    broker.wait(broker.broker.delete_topic("deleted")).unwrap();
    assert!(for_deleted.as_mut().poll(&mut context).is_ready());
    assert!(wait("deleted").as_mut().poll(&mut context).is_ready());

    broker.create("quiet", 1);
    let mut for_the_end = wait("quiet");
    assert!(for_the_end.as_mut().poll(&mut context).is_pending());
    broker.broker.stop_accepting();
    assert!(for_the_end.as_mut().poll(&mut context).is_ready());
}

#[test]
fn a_stopping_broker_takes_nothing_new_and_finishes_what_it_has() {
    let (machine, broker) = machine_with_topic(1);
    let pending = submit(&broker, request(Some(0), "in time")).unwrap();
    broker.broker.stop_accepting();
    let late = broker.produce("visits", Some(0), values(["late"]));
    assert_eq!(late, Err(Error::ShuttingDown));
    let topic = broker.wait(broker.broker.create_topic(TopicSpec::new("late", 1), false));
    assert_eq!(topic.map(|_| ()), Err(Error::ShuttingDown));
    broker.clone().shutdown();
    assert!(broker.wait(pending).is_ok());
    let read = broker.fetch("visits", 0, Start::Earliest);
    assert_eq!(
        read,
        Err(Error::ShuttingDown),
        "the directory is given free"
    );
    assert_eq!(machine.open().all("visits", 0), ["in time"]);
}
