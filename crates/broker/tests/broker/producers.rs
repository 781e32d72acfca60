//! Producers: what is repeated is appended once, whatever happens in between.

use std::io::ErrorKind;
use std::pin::pin;
use std::task::{Context, Waker};
use std::time::Duration;

use flowstone_broker::{
    Error, OpenedProducer, PendingProduce, Pipeline, ProduceRequest, Produced, Producer,
    TopicChange,
};
use flowstone_disk::OpKind;

use crate::harness::{Driven, FIRST_PARTITION, Machine, keyed, partition_dir, values};

fn producer(epoch: i32, sequence: i64) -> Option<Producer> {
    Some(Producer {
        id: "till-4".to_owned(),
        epoch,
        sequence,
    })
}

/// A value to a partition, as sequence `sequence` of epoch 0.
fn request(partition: u32, sequence: i64, value: &str) -> ProduceRequest {
    ProduceRequest {
        topic: "visits".to_owned(),
        partition: Some(partition),
        records: values([value]),
        producer: producer(0, sequence),
        ..ProduceRequest::default()
    }
}

/// Records by key to any of the partitions.
fn by_key(sequence: i64) -> ProduceRequest {
    let keys: Vec<String> = (0..20).map(|key| format!("{key} of {sequence}")).collect();
    let records: Vec<_> = keys.iter().map(|key| (key.as_str(), "x")).collect();
    ProduceRequest {
        topic: "visits".to_owned(),
        records: keyed(&records),
        producer: producer(0, sequence),
        ..ProduceRequest::default()
    }
}

fn without_key(sequence: i64) -> ProduceRequest {
    ProduceRequest {
        partition: None,
        ..request(0, sequence, "without a key")
    }
}

fn submit(broker: &Driven, request: ProduceRequest) -> PendingProduce {
    let bytes = request.records.len();
    let permit = broker.wait(broker.broker.admit(bytes)).unwrap();
    broker.broker.submit(request, permit).unwrap()
}

fn produce(broker: &Driven, request: ProduceRequest) -> Result<Produced, Error> {
    broker.wait(broker.broker.produce(request))
}

/// The offset of a request of one record, and whether it had been appended before.
fn place(broker: &Driven, request: ProduceRequest) -> (u64, bool) {
    let produced = produce(broker, request).unwrap();
    (produced.runs[0].base_offset, produced.duplicate)
}

fn open(broker: &Driven) -> Result<OpenedProducer, Error> {
    broker.wait(broker.broker.open_producer("visits", "till-4"))
}

fn opened(epoch: i32, last_sequence: i64) -> Result<OpenedProducer, Error> {
    Ok(OpenedProducer {
        epoch,
        last_sequence,
    })
}

fn stale(epoch: i32, current: i32) -> Result<Produced, Error> {
    Err(Error::StaleProducer { epoch, current })
}

fn grow(broker: &Driven, partition_count: u32) {
    let change = TopicChange {
        partition_count: Some(partition_count),
        ..TopicChange::default()
    };
    broker
        .wait(broker.broker.update_topic("visits", change))
        .unwrap();
}

fn count(broker: &Driven, partitions: u32) -> usize {
    (0..partitions).map(|p| broker.all("visits", p).len()).sum()
}

fn machine_with_topic(partition_count: u32) -> (Machine, Driven) {
    machine_of_seed_with_topic(7, partition_count)
}

fn machine_of_seed_with_topic(seed: u64, partition_count: u32) -> (Machine, Driven) {
    let machine = Machine::new(seed);
    let broker = machine.open();
    broker.create("visits", partition_count);
    (machine, broker)
}

#[test]
fn a_repeat_is_answered_with_the_place_of_the_first_try_also_after_a_restart() {
    let (machine, broker) = machine_with_topic(1);
    assert_eq!(place(&broker, request(0, 1, "a")), (0, false));
    assert_eq!(place(&broker, request(0, 2, "b")), (1, false));
    assert_eq!(place(&broker, request(0, 1, "a")), (0, true));
    broker.shutdown();
    machine.disk.power_cut();
    let broker = machine.open();
    assert_eq!(place(&broker, request(0, 2, "b")), (1, true));
    assert_eq!(place(&broker, request(0, 9, "with a gap")), (2, false));
    assert_eq!(place(&broker, request(0, 5, "late")), (3, false));
    assert_eq!(broker.all("visits", 0), ["a", "b", "with a gap", "late"]);
    assert_eq!(broker.broker.metrics().duplicate_requests, 1);
    let reused = Err(Error::SequenceReused {
        sequence: 5,
        partition: 0,
    });
    assert_eq!(produce(&broker, request(0, 5, "another")), reused);
}

#[test]
fn a_repeat_while_the_first_try_is_under_way_waits_for_its_sync() {
    let (machine, broker) = machine_with_topic(1);
    let tries = [(); 3].map(|()| submit(&broker, request(0, 1, "a")));
    let duplicates = tries.map(|pending| broker.wait(pending).unwrap().duplicate);
    assert_eq!(duplicates, [false, true, true]);
    let tries = [(); 2].map(|()| submit(&broker, request(0, 2, "b")));
    machine.disk.fail_nth(OpKind::SyncData, 1, ErrorKind::Other);
    for pending in tries {
        let outcome = broker.wait(pending);
        assert!(matches!(outcome, Err(Error::OutcomeUnknown { .. })));
    }
}

#[test]
fn a_repeat_appends_what_is_missing_of_a_request_over_several_partitions() {
    let (machine, broker) = machine_with_topic(4);
    let all = produce(&broker, by_key(1)).unwrap();
    assert!(all.runs.iter().any(|run| run.partition == 2));
    let failing = partition_dir(FIRST_PARTITION + 2);
    machine.disk.set_hook(move |op| {
        let is_segment = op.path.extension().is_some_and(|end| end == "segment");
        let fails = op.kind == OpKind::Write && is_segment && op.path.starts_with(&failing);
        fails.then(|| ErrorKind::Other.into())
    });
    let outcome = produce(&broker, by_key(2));
    assert!(matches!(outcome, Err(Error::OutcomeUnknown { .. })));
    machine.disk.clear_faults();
    let again = produce(&broker, by_key(2)).unwrap();
    assert!(!again.duplicate, "part of it was missing");
    assert_eq!(produce(&broker, by_key(1)).unwrap().runs, all.runs);
    let third = produce(&broker, by_key(2)).unwrap();
    assert_eq!((third.runs, third.duplicate), (again.runs, true));
    assert_eq!(count(&broker, 4), 40);
}

#[test]
fn what_is_older_than_the_window_is_not_guessed() {
    let (_machine, broker) = machine_with_topic(2);
    for sequence in 1..=1_025 {
        place(&broker, request(0, 2 * sequence, "x"));
    }
    let too_old = |sequence| {
        Err(Error::SequenceTooOld {
            sequence,
            partition: 0,
            lowest_known: 4,
        })
    };
    assert_eq!(produce(&broker, request(0, 2, "x")), too_old(2));
    assert_eq!(produce(&broker, request(0, 1, "x")), too_old(1));
    assert_eq!(place(&broker, request(0, 4, "x")), (1, true));
    assert_eq!(place(&broker, request(0, 3, "never sent")), (1_025, false));
    assert_eq!(place(&broker, request(1, 1, "elsewhere")), (0, false));
}

#[test]
fn an_opening_ends_older_epochs_and_tells_how_far_they_came() {
    let (machine, broker) = machine_with_topic(2);
    assert_eq!(produce(&broker, by_epoch(1, 1)), stale(1, 0));
    place(&broker, request(1, 17, "a"));
    place(&broker, request(0, 3, "b"));
    assert_eq!(open(&broker), opened(1, 17));
    assert_eq!(produce(&broker, request(1, 18, "c")), stale(0, 1));
    assert_eq!(
        produce(&broker, request(1, 17, "a")),
        stale(0, 1),
        "repeats too"
    );
    let repeat = produce(&broker, by_epoch(1, 17)).unwrap();
    assert!(repeat.duplicate, "whatever the epoch");
    assert_eq!(open(&broker), opened(2, 17));
    assert_eq!(produce(&broker, by_epoch(1, 18)), stale(1, 2));
    broker.shutdown();
    machine.disk.power_cut();
    let broker = machine.open();
    assert_eq!(produce(&broker, by_epoch(1, 18)), stale(1, 2));
    assert_eq!(produce(&broker, by_epoch(3, 18)), stale(3, 2));
    assert!(!produce(&broker, by_epoch(2, 18)).unwrap().duplicate);
    assert_eq!(open(&broker), opened(3, 18));
    let other = broker.wait(broker.broker.open_producer("visits", "till-5"));
    assert_eq!(other, opened(1, 0));
    assert_eq!(broker.broker.metrics().opened_producers, 2);
}

fn by_epoch(epoch: i32, sequence: i64) -> ProduceRequest {
    ProduceRequest {
        producer: producer(epoch, sequence),
        ..request(1, sequence, "a")
    }
}

#[test]
fn what_is_queued_while_an_opening_is_under_way_is_told_to_it_or_refused_when_its_turn_comes() {
    let (mut told, mut refused) = (0, 0);
    for seed in 0..40 {
        let (_machine, broker) = machine_of_seed_with_topic(seed, 2);
        place(&broker, request(0, 1, "a"));
        let mut opening = pin!(broker.broker.open_producer("visits", "till-4"));
        let mut context = Context::from_waker(Waker::noop());
        assert!(opening.as_mut().poll(&mut context).is_pending());
        let queued = submit(&broker, request(0, 2, "b"));
        let opening = broker.wait(opening);
        if opening == opened(1, 2) {
            told += 1;
            broker.wait(queued).expect("it is in the log");
            assert_eq!(broker.all("visits", 0), ["a", "b"]);
        } else {
            refused += 1;
            assert_eq!(opening, opened(1, 1));
            assert_eq!(broker.wait(queued), stale(0, 1));
            assert_eq!(broker.all("visits", 0), ["a"]);
        }
    }
    assert!(told > 0 && refused > 0, "told {told}, refused {refused}");
}

#[test]
fn a_producer_of_a_topic_with_a_damaged_partition_is_not_opened_on_a_guess() {
    let (machine, broker) = machine_with_topic(2);
    place(&broker, request(0, 1, "a"));
    place(&broker, request(0, 2, "b"));
    broker.shutdown();
    let segment = machine.path(FIRST_PARTITION, ".segment");
    machine.flip(&segment, 4096 + 40);
    let broker = machine.open();
    assert!(matches!(open(&broker), Err(Error::CorruptSegment { .. })));
    assert_eq!(
        place(&broker, request(1, 1, "the other goes on")),
        (0, false)
    );
}

#[test]
fn a_repeat_after_growth_goes_where_the_first_try_went() {
    let (machine, broker) = machine_with_topic(2);
    let sent = |sequence| match sequence % 2 {
        0 => by_key(sequence),
        _ => without_key(sequence),
    };
    let first: Vec<_> = (1..=6)
        .map(|sequence| produce(&broker, sent(sequence)).unwrap().runs)
        .collect();
    let same = |broker: &Driven, from: i64, places: &[Vec<_>]| {
        for (sequence, places) in (from..).zip(places) {
            let repeat = produce(broker, sent(sequence)).unwrap();
            assert_eq!(
                (&repeat.runs, repeat.duplicate),
                (places, true),
                "{sequence}"
            );
        }
    };
    grow(&broker, 5);
    same(&broker, 1, &first);
    let second: Vec<_> = (7..=12)
        .map(|sequence| produce(&broker, sent(sequence)).unwrap().runs)
        .collect();
    let beyond = |run: &flowstone_broker::AppendedRun| run.partition >= 2;
    assert!(second.iter().flatten().any(beyond), "new ones spread");
    grow(&broker, 7);
    same(&broker, 1, &first);
    same(&broker, 7, &second);
    let before = count(&broker, 7);
    broker.shutdown();
    let broker = machine.open();
    same(&broker, 1, &first);
    same(&broker, 7, &second);
    assert_eq!(count(&broker, 7), before);
}

#[test]
fn growth_waits_for_what_is_under_way_and_what_comes_waits_for_the_growth() {
    let (_machine, broker) = machine_with_topic(1);
    let under_way = submit(&broker, by_key(1));
    let change = TopicChange {
        partition_count: Some(4),
        ..TopicChange::default()
    };
    let mut growth = pin!(broker.broker.update_topic("visits", change));
    let mut context = Context::from_waker(Waker::noop());
    assert!(growth.as_mut().poll(&mut context).is_pending());
    let repeat = submit(&broker, by_key(1));
    let new = submit(&broker, by_key(2));
    let plain = ProduceRequest {
        producer: None,
        ..request(0, 1, "without a producer")
    };
    broker.broker.run_pending();
    let partition = |produced: &Produced| produced.runs.iter().map(|run| run.partition).max();
    let first = broker.wait(under_way).unwrap();
    assert_eq!(partition(&first), Some(0));
    assert!(
        !produce(&broker, plain).unwrap().duplicate,
        "it never waits"
    );
    let mut repeat = pin!(repeat);
    assert!(repeat.as_mut().poll(&mut context).is_pending());
    broker.wait(growth).unwrap();
    let repeat = broker.wait(repeat).unwrap();
    assert_eq!((&repeat.runs, repeat.duplicate), (&first.runs, true));
    assert!(partition(&broker.wait(new).unwrap()) > Some(0));
}

#[test]
fn a_growth_that_is_given_up_or_fails_lets_in_what_waits() {
    let (_machine, broker) = machine_with_topic(1);
    let under_way = submit(&broker, by_key(1));
    let waiting = {
        let change = TopicChange {
            partition_count: Some(4),
            ..TopicChange::default()
        };
        let mut growth = pin!(broker.broker.update_topic("visits", change));
        let mut context = Context::from_waker(Waker::noop());
        assert!(growth.as_mut().poll(&mut context).is_pending());
        submit(&broker, by_key(2))
    };
    assert!(!broker.wait(under_way).unwrap().duplicate);
    assert!(!broker.wait(waiting).unwrap().duplicate);
    grow(&broker, 2);
    assert!(produce(&broker, by_key(2)).unwrap().duplicate);
}

#[test]
fn an_expected_offset_is_looked_at_behind_the_producer() {
    let (machine, broker) = machine_with_topic(1);
    let at = |offset, sequence, value| ProduceRequest {
        expected_offset: Some(offset),
        ..request(0, sequence, value)
    };
    assert_eq!(place(&broker, at(0, 1, "a")), (0, false));
    assert_eq!(place(&broker, at(0, 1, "a")), (0, true));
    let mismatch = |expected, end_offset| {
        Err(Error::OffsetMismatch {
            partition: 0,
            expected,
            end_offset,
        })
    };
    assert_eq!(produce(&broker, at(0, 2, "b")), mismatch(0, 1));
    assert_eq!(produce(&broker, at(2, 2, "b")), mismatch(2, 1));
    assert_eq!(place(&broker, at(1, 2, "b")), (1, false));
    let plain = |offset| ProduceRequest {
        producer: None,
        ..at(offset, 1, "c")
    };
    assert_eq!(produce(&broker, plain(0)), mismatch(0, 2));
    let nowhere = ProduceRequest {
        partition: None,
        ..plain(2)
    };
    let refused = produce(&broker, nowhere);
    assert!(
        matches!(refused, Err(Error::InvalidField { field, .. }) if field == "expected_offset")
    );

    // The end that is told is that of a group under way: it is told once that is durable.
    let (first, second) = (submit(&broker, plain(2)), submit(&broker, plain(2)));
    assert_eq!(broker.wait(second), mismatch(2, 3));
    broker.wait(first).unwrap();
    let (first, second) = (submit(&broker, plain(3)), submit(&broker, plain(3)));
    machine.disk.fail_nth(OpKind::SyncData, 1, ErrorKind::Other);
    for pending in [first, second] {
        let outcome = broker.wait(pending);
        assert!(matches!(outcome, Err(Error::OutcomeUnknown { .. })));
    }
}

#[test]
fn nothing_of_a_pipeline_is_appended_behind_a_refused_producer() {
    let (_machine, broker) = machine_with_topic(1);
    place(&broker, request(0, 1, "a"));
    let pipeline = Pipeline::new();
    let submit = |request: ProduceRequest| {
        let bytes = request.records.len();
        let permit = broker.wait(broker.broker.admit(bytes)).unwrap();
        broker.broker.submit_pipelined(&pipeline, request, permit)
    };
    let answers = [
        submit(request(0, 2, "b")),
        submit(request(0, 1, "other records")),
        submit(request(0, 3, "c")),
    ]
    .map(|pending| pending.map(|pending| broker.wait(pending)));
    assert!(matches!(answers[0], Ok(Ok(_))));
    assert!(matches!(
        answers[1],
        Ok(Err(Error::SequenceReused { sequence: 1, .. }))
    ));
    assert!(matches!(
        answers[2],
        Ok(Err(Error::OutcomeUnknown { .. })) | Err(Error::OutcomeUnknown { .. })
    ));
    assert_eq!(broker.all("visits", 0), ["a", "b"]);
}

#[test]
fn a_producer_that_is_idle_for_long_is_forgotten_and_its_epochs_never_come_again() {
    let (machine, broker) = machine_with_topic(2);
    assert_eq!(open(&broker), opened(1, 0));
    produce(&broker, by_epoch(1, 5)).unwrap();
    let forget = |broker: &Driven| {
        broker.broker.run_retention();
        while broker.broker.run_pending() {}
    };
    machine.clock.advance(Duration::from_secs(23 * 3_600));
    forget(&broker);
    assert!(produce(&broker, by_epoch(1, 5)).unwrap().duplicate);
    assert_eq!(broker.broker.metrics().opened_producers, 1);
    machine.clock.advance(Duration::from_secs(2 * 3_600));
    forget(&broker);
    assert_eq!(broker.broker.metrics().opened_producers, 0);
    let left = broker.broker.metrics().producer_sequences;
    assert!(left <= 1, "at most that it was forgotten, not {left}");
    assert_eq!(produce(&broker, by_epoch(1, 6)), stale(1, 0));
    broker.shutdown();
    let broker = machine.open();
    assert_eq!(produce(&broker, by_epoch(1, 6)), stale(1, 0));
    assert_eq!(open(&broker).unwrap().epoch, 2);
}

#[test]
fn there_is_room_for_so_many_producers() {
    let machine = Machine::new(7);
    let mut config = machine.config();
    config.limits.max_opened_producers = 2;
    config.limits.max_producer_sequences = 1_024;
    let broker = machine.open_with(config).unwrap();
    broker.create("visits", 1);
    let open = |id| broker.wait(broker.broker.open_producer("visits", id));
    assert!(open("a").is_ok() && open("b").is_ok());
    let full = |limit, value| Error::LimitExceeded { limit, value };
    assert_eq!(open("c"), Err(full("max_opened_producers", 2)));
    assert_eq!(open("a").unwrap().epoch, 2, "it is there already");
    let put = |id: usize, sequence| {
        let producer = Producer {
            id: format!("one of many {id}"),
            epoch: 0,
            sequence,
        };
        produce(
            &broker,
            ProduceRequest {
                producer: Some(producer),
                ..request(0, 1, "x")
            },
        )
    };
    let refused = (0..).find_map(|id| put(id, 1).err().map(|error| (id, error)));
    let (id, error) = refused.expect("there is an end");
    assert_eq!(error, full("max_producer_sequences", 1_024));
    assert!(id > 1);
    assert!(put(0, 1).unwrap().duplicate);
    assert!(!put(0, 2).unwrap().duplicate, "those there are go on");
}

#[test]
fn a_topic_made_anew_knows_no_producer_of_the_old_one() {
    let (_machine, broker) = machine_with_topic(1);
    place(&broker, request(0, 1, "old"));
    open(&broker).unwrap();
    broker.wait(broker.broker.delete_topic("visits")).unwrap();
    broker.create("visits", 1);
    assert_eq!(place(&broker, request(0, 1, "new")), (0, false));
    assert_eq!(open(&broker), opened(1, 1));
    let missing = broker.wait(broker.broker.open_producer("nowhere", "till-4"));
    assert!(matches!(missing, Err(Error::TopicNotFound { .. })));
    let unnamed = broker.wait(broker.broker.open_producer("visits", ""));
    assert!(matches!(unnamed, Err(Error::InvalidField { field, .. }) if field == "id"));
}
