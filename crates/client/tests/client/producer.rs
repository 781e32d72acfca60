//! Producers: batches, pipelining, and what becomes of records when a stream fails.

use std::collections::HashSet;
use std::time::Duration;

use flowstone_client::{Delivery, Error, Producer, Record, reason};
use futures_util::FutureExt;
use tonic::Code;

use crate::broker::{Broker, Produce};

fn record(value: impl Into<String>) -> Record {
    Record {
        value: Some(value.into().into()),
        ..Record::default()
    }
}

fn keyed(value: &str) -> Record {
    Record {
        key: Some("stand".into()),
        ..record(value)
    }
}

async fn send(producer: &Producer, value: &str) -> Delivery {
    producer.send(keyed(value)).await.unwrap()
}

/// A producer whose every record is a request of its own.
async fn one_by_one(broker: &Broker) -> Producer {
    let producer = broker.client().producer("visits").batch_bytes(1);
    producer.build().await.unwrap()
}

fn script(broker: &Broker, actions: &[Produce]) {
    broker.state().produce = actions.iter().cloned().collect();
}

fn is_unknown(error: &Error) -> bool {
    error.is(reason::OUTCOME_UNKNOWN)
}

#[tokio::test]
async fn a_partition_that_is_not_there_is_told_before_the_first_record() {
    let broker = Broker::start().await;
    for partition in [2, -1] {
        let producer = broker.client().producer("visits").partition(partition);
        let error = producer.build().await.unwrap_err();
        assert!(error.is(reason::PARTITION_NOT_FOUND), "{error}");
        assert!(error.to_string().contains("it has 2"), "{error}");
    }
}

#[tokio::test]
async fn records_travel_in_batches_and_each_learns_its_place() {
    let broker = Broker::start().await;
    let producer = broker.client().producer("visits").partition(1);
    let producer = producer.build().await.unwrap();
    let mut deliveries = Vec::new();
    for number in 0..1000 {
        deliveries.push(producer.send(record(format!("{number}"))).await.unwrap());
    }
    producer.flush().await.unwrap();
    for (offset, delivery) in (0..).zip(deliveries) {
        let at = delivery.await.unwrap();
        assert_eq!((at.partition, at.offset), (1, offset));
    }
    let sent: Vec<_> = (0..1000).map(|number| number.to_string()).collect();
    assert_eq!(broker.appended(), sent);
    let requests = broker.state().request_sizes.len();
    assert!(requests < 1000, "{requests} requests");
    assert_eq!(producer.totals().acknowledged_records, 1000);
    producer.close().await.unwrap();
}

#[tokio::test]
async fn records_that_are_sent_together_keep_their_order_among_others() {
    let broker = Broker::start().await;
    let producer = broker.client().producer("visits").partition(1);
    // Room for a few at a time, so that most wait.
    let producer = producer.batch_bytes(40).in_flight_bytes(400);
    let producer = producer.build().await.unwrap();
    let all: Vec<_> = (0..1000)
        .map(|number| record(format!("{number}")))
        .collect();
    producer.send_all(&all[..300]).await.unwrap();
    let between = producer.send(&all[300]).await.unwrap();
    producer.send_all(&[]).await.unwrap();
    producer.send_all(&all[301..]).await.unwrap();
    producer.flush().await.unwrap();
    assert_eq!(between.await.unwrap().offset, 300);
    let sent: Vec<_> = (0..1000).map(|number| number.to_string()).collect();
    assert_eq!(broker.appended(), sent);
    assert_eq!(producer.totals().acknowledged_records, 1000);
}

#[tokio::test]
async fn of_records_that_are_sent_together_those_before_one_that_is_too_large_are_taken() {
    let broker = Broker::start().await;
    broker.state().limits.max_record_bytes = 100;
    let producer = broker.client().producer("visits").build().await.unwrap();
    let mut all: Vec<_> = (0..200).map(|number| record(format!("{number}"))).collect();
    all[150] = record("x".repeat(100));
    let error = producer.send_all(&all).await.unwrap_err();
    assert!(error.is(reason::RECORD_TOO_LARGE));
    assert_eq!(error.metadata()["index"], "150");
    assert_eq!(error.metadata()["limit"], "100");
    producer.send_all(&all[151..]).await.unwrap();
    producer.close().await.unwrap();
    let others = (0..150).chain(151..200);
    let sent: Vec<_> = others.map(|number| number.to_string()).collect();
    assert_eq!(broker.appended(), sent);
}

#[tokio::test]
async fn no_request_is_larger_than_the_broker_takes() {
    let broker = Broker::start().await;
    broker.state().limits.max_request_bytes = 200;
    broker.state().limits.max_record_bytes = 100;
    broker.state().limits.max_records_per_request = 3;
    broker.close_gate().await;
    let producer = broker.client().producer("visits").build().await.unwrap();
    for number in 0..100 {
        let length = if number % 2 == 0 { 60 } else { 1 };
        producer.send(record("x".repeat(length))).await.unwrap();
    }
    broker.open_gate();
    producer.close().await.unwrap();
    let state = broker.state();
    assert_eq!(state.appended.len(), 100);
    assert!(state.request_sizes.iter().all(|&size| size <= 3));
    // Two of the longer ones fit into a request with a short one, and no third.
    assert!(state.request_sizes.len() >= 34, "{:?}", state.request_sizes);
}

#[tokio::test]
async fn a_record_that_is_too_large_is_refused_at_once_and_the_others_go_on() {
    let broker = Broker::start().await;
    broker.state().limits.max_record_bytes = 1000;
    broker.state().topic_max_record_bytes = Some(50);
    let producer = broker.client().producer("visits").build().await.unwrap();
    let error = producer.send(record("x".repeat(50))).await.unwrap_err();
    assert!(error.is(reason::RECORD_TOO_LARGE));
    assert_eq!(error.metadata()["limit"], "50");
    // 48 bytes and their two of tag and length are the most.
    producer.send(record("x".repeat(48))).await.unwrap();
    producer.close().await.unwrap();
    assert_eq!(broker.appended().len(), 1);
}

#[tokio::test]
async fn a_refused_request_fails_alone_and_those_behind_it_are_sent_again() {
    let broker = Broker::start().await;
    let refuse = Produce::Refuse(Code::InvalidArgument, "MALFORMED_RECORD");
    script(&broker, &[Produce::Ack, refuse]);
    broker.close_gate().await;
    let producer = one_by_one(&broker).await;
    let first = send(&producer, "first").await;
    let bad = send(&producer, "bad").await;
    let last = send(&producer, "last").await;
    broker.open_gate();
    let error = producer.flush().await.unwrap_err();
    assert!(error.is("MALFORMED_RECORD"), "{error}");
    assert_eq!(bad.await.unwrap_err().reason(), error.reason());
    assert_eq!(first.await.unwrap().offset, 0);
    assert_eq!(last.await.unwrap().offset, 1);
    assert_eq!(broker.appended(), ["first", "last"]);
    // It was told once.
    assert!(producer.failure().is_none());
    producer.flush().await.unwrap();
    let totals = producer.totals();
    assert_eq!((totals.acknowledged_records, totals.failed_records), (2, 1));
}

#[tokio::test]
async fn what_was_sent_over_a_lost_connection_is_unknown_and_later_records_go_on() {
    for lost in [Produce::Break, Produce::AppendAndBreak] {
        let broker = Broker::start().await;
        script(&broker, &[Produce::Ack, lost]);
        let producer = one_by_one(&broker).await;
        send(&producer, "first").await.await.unwrap();
        let error = send(&producer, "second").await.await.unwrap_err();
        assert!(is_unknown(&error), "{error}");
        assert!(producer.failure().as_ref().is_some_and(is_unknown));
        send(&producer, "third").await.await.unwrap();
        assert_eq!(producer.totals().unknown_records, 1);
        assert!(is_unknown(&producer.close().await.unwrap_err()));
    }
}

#[tokio::test]
async fn with_retry_unknown_it_is_repeated_in_order_and_may_be_there_twice() {
    let broker = Broker::start().await;
    script(&broker, &[Produce::AppendAndBreak]);
    broker.close_gate().await;
    let producer = broker.client().producer("visits").retry_unknown(true);
    let producer = producer.batch_bytes(1).build().await.unwrap();
    send(&producer, "first").await;
    send(&producer, "second").await;
    broker.open_gate();
    producer.flush().await.unwrap();
    assert_eq!(broker.appended(), ["first", "first", "second"]);
    assert_eq!(producer.totals().acknowledged_records, 2);
}

#[tokio::test]
async fn what_was_surely_not_appended_is_repeated() {
    for action in [
        Produce::Refuse(Code::ResourceExhausted, reason::THROTTLED),
        Produce::Refuse(Code::ResourceExhausted, reason::DISK_FULL),
        Produce::Refuse(Code::Unavailable, reason::SHUTTING_DOWN),
        Produce::EndWith(Code::Unavailable, reason::SHUTTING_DOWN),
    ] {
        let broker = Broker::start().await;
        script(&broker, &[action]);
        let producer = one_by_one(&broker).await;
        send(&producer, "only").await.await.unwrap();
        assert_eq!(broker.appended(), ["only"]);
        producer.close().await.unwrap();
    }
}

#[tokio::test]
async fn a_full_partition_leaves_a_request_for_several_unknown() {
    let broker = Broker::start().await;
    let full = Produce::Refuse(Code::ResourceExhausted, reason::DISK_FULL);
    script(&broker, &[full]);
    let producer = broker.client().producer("visits").build().await.unwrap();
    // Both are in one request: nothing else ran between them.
    let first = send(&producer, "first").await;
    send(&producer, "second").await;
    assert!(is_unknown(&first.await.unwrap_err()));
    assert_eq!(broker.state().request_sizes, [2]);
    assert_eq!(producer.totals().unknown_records, 2);
}

#[tokio::test]
async fn the_brokers_own_unknown_outcome_stays_what_it_is() {
    let broker = Broker::start().await;
    script(
        &broker,
        &[Produce::Refuse(Code::Unavailable, reason::OUTCOME_UNKNOWN)],
    );
    let producer = one_by_one(&broker).await;
    let error = send(&producer, "only").await.await.unwrap_err();
    assert_eq!(error.message(), "refused");
    assert!(is_unknown(&error));
}

#[tokio::test]
async fn sending_waits_while_too_much_is_unanswered() {
    let broker = Broker::start().await;
    broker.close_gate().await;
    let producer = broker.client().producer("visits").in_flight_bytes(100);
    let producer = producer.build().await.unwrap();
    producer.send(record("x".repeat(80))).await.unwrap();
    let mut waiting = Box::pin(producer.send(record("y".repeat(80))));
    assert!(waiting.as_mut().now_or_never().is_none());
    broker.open_gate();
    waiting.await.unwrap().await.unwrap();
    // A record larger than all the room travels alone.
    let large = producer.send(record("z".repeat(500))).await.unwrap();
    large.await.unwrap();
    producer.close().await.unwrap();
}

#[tokio::test]
async fn a_large_record_that_waits_is_not_overtaken_by_small_ones() {
    let broker = Broker::start().await;
    broker.close_gate().await;
    let producer = broker.client().producer("visits").in_flight_bytes(1000);
    let producer = producer.build().await.unwrap();
    let first = producer.send(record("x".repeat(400))).await.unwrap();
    let mut large = Box::pin(producer.send(record("y".repeat(900))));
    assert!(large.as_mut().now_or_never().is_none());
    let mut small = Box::pin(producer.send(record("small")));
    assert!(small.as_mut().now_or_never().is_none(), "there is room");
    // One that gives up waiting holds up nobody.
    let mut given_up = Box::pin(producer.send(record("given up")));
    assert!(given_up.as_mut().now_or_never().is_none());
    drop(given_up);
    broker.open_gate();
    first.await.unwrap();
    let (large, small) = tokio::join!(large, small);
    let (large, small) = (large.unwrap().await, small.unwrap().await);
    assert_eq!(large.unwrap().offset, 1);
    assert_eq!(small.unwrap().offset, 2);
    producer.close().await.unwrap();
    assert_eq!(broker.appended().len(), 3);
}

/// Sends records of 50 keys, over and over, faster than they are taken. Tells how many different keys a request
/// has on average.
async fn keys_in_a_request(broker: &Broker) -> f64 {
    broker.close_gate().await;
    let producer = broker.client().producer("visits").batch_bytes(4 << 10);
    let producer = producer.in_flight_bytes(512 << 10);
    let producer = producer.build().await.unwrap();
    let mut sent = Vec::new();
    let sending = async {
        for number in 0..40_000 {
            let record = Record {
                key: Some(format!("k{}", number % 50).into()),
                ..record(format!("{number:0100}"))
            };
            sent.push(producer.send(record).await.unwrap());
        }
    };
    // Whoever sends has some turns until the next request is looked at.
    let taking = async {
        loop {
            broker.arrival().await;
            for _ in 0..20 {
                tokio::task::yield_now().await;
            }
            broker.let_one_pass();
        }
    };
    tokio::select! {
        () = sending => {}
        () = taking => {}
    }
    broker.open_gate();
    producer.close().await.unwrap();

    let appended = broker.appended();
    for (number, delivery) in sent.into_iter().enumerate() {
        let at = usize::try_from(delivery.await.unwrap().offset).unwrap();
        assert_eq!(appended[at], format!("{number:0100}"));
    }
    let mut last_of_key = [None; 50];
    for value in &appended {
        let number: usize = value.parse().unwrap();
        let last = last_of_key[number % 50].replace(number);
        assert!(last < Some(number), "{number} comes after {last:?}");
    }
    let state = broker.state();
    let mut rest = &state.appended[..];
    let keys = state.request_sizes.iter().map(|&size| {
        let (request, behind) = rest.split_at(size);
        rest = behind;
        let keys: HashSet<_> = request.iter().map(|record| &record.key).collect();
        keys.len()
    });
    keys.sum::<usize>() as f64 / state.request_sizes.len() as f64
}

#[tokio::test]
async fn records_that_wait_are_sorted_by_partition_and_keep_the_order_of_their_key() {
    let broker = Broker::start().await;
    let mixed = keys_in_a_request(&broker).await;
    assert!(mixed > 20.0, "two partitions need no order: {mixed}");

    let broker = Broker::start().await;
    broker.state().more_partitions = 998;
    let sorted = keys_in_a_request(&broker).await;
    assert!(sorted < mixed / 3.0, "{sorted} of {mixed}");
}

/// The test has one thread.
#[tokio::test]
async fn requests_leave_while_more_records_are_sent_on_the_same_thread() {
    let broker = Broker::start().await;
    let producer = broker.client().producer("visits").batch_bytes(100);
    let producer = producer.build().await.unwrap();
    for number in 0..2000 {
        producer.send(record(format!("{number}"))).await.unwrap();
    }
    assert!(!broker.state().request_sizes.is_empty());
    producer.close().await.unwrap();
    assert_eq!(broker.appended().len(), 2000);
}

#[tokio::test]
async fn a_broker_that_never_answers_is_given_up() {
    let broker = Broker::start().await;
    broker.close_gate().await;
    let producer = broker
        .client()
        .producer("visits")
        .delivery_timeout(Duration::from_secs(1))
        .build()
        .await
        .unwrap();
    let error = send(&producer, "only").await.await.unwrap_err();
    assert!(is_unknown(&error), "{error}");
    assert!(error.message().contains("within 1s"), "{error}");
}

#[tokio::test]
async fn what_is_given_up_says_what_went_wrong() {
    let broker = Broker::start().await;
    let full = Produce::Refuse(Code::ResourceExhausted, reason::DISK_FULL);
    script(&broker, &vec![full; 1000]);
    let producer = broker
        .client()
        .producer("visits")
        .batch_bytes(1)
        .delivery_timeout(Duration::from_secs(1))
        .build()
        .await
        .unwrap();
    let first = send(&producer, "first").await;
    let second = send(&producer, "second").await;
    for delivery in [first, second] {
        assert!(delivery.await.unwrap_err().is(reason::DISK_FULL));
    }
    let totals = producer.totals();
    assert_eq!((totals.failed_records, totals.unknown_records), (2, 0));
    // Once there is room again, so there is for what comes then.
    broker.state().produce.clear();
    send(&producer, "third").await.await.unwrap();
    assert_eq!(broker.appended(), ["third"]);
}

/// Its last attempt begins in time and is refused too late, so that nothing is left to be repeated.
#[tokio::test]
async fn what_comes_after_something_was_given_up_has_an_attempt_of_its_own() {
    for _ in 0..10 {
        if after_it_was_refused_too_late().await {
            return;
        }
    }
    panic!("it was never refused as it should be: too late, and before it was given up unanswered");
}

/// False where the machine was too slow for that.
async fn after_it_was_refused_too_late() -> bool {
    let within = Duration::from_secs(1);
    let broker = Broker::start().await;
    let full = Produce::Refuse(Code::ResourceExhausted, reason::DISK_FULL);
    script(&broker, &[full.clone(), full]);
    broker.state().retry_after = Some(within / 2);
    let producer = broker
        .client()
        .producer("visits")
        .delivery_timeout(within)
        .build()
        .await
        .unwrap();
    broker.close_gate().await;
    let begun = tokio::time::Instant::now();
    let first = send(&producer, "first").await;
    broker.arrival().await;
    broker.let_one_pass();
    broker.arrival().await;
    let repeated_in_time = begun.elapsed() < within;
    broker.state().retry_after = Some(3 * within);
    tokio::time::sleep_until(begun + within + within / 4).await;
    broker.open_gate();
    if !first.await.unwrap_err().is(reason::DISK_FULL) || !repeated_in_time {
        return false;
    }
    send(&producer, "second").await.await.unwrap();
    assert_eq!(broker.appended(), ["second"]);
    true
}

#[tokio::test]
async fn a_dropped_producer_still_sends_what_it_was_given() {
    let broker = Broker::start().await;
    let producer = broker.client().producer("visits").build().await.unwrap();
    send(&producer, "first").await;
    let last = send(&producer, "last").await;
    drop(producer);
    last.await.unwrap();
    assert_eq!(broker.appended(), ["first", "last"]);
}

#[tokio::test]
async fn an_abandoned_producer_answers_for_everything_at_once() {
    let broker = Broker::start().await;
    broker.close_gate().await;
    let producer = one_by_one(&broker).await;
    let sent = send(&producer, "sent").await;
    broker.arrival().await;
    // Nothing else runs between these two.
    let waiting = send(&producer, "waiting").await;
    producer.abandon().await;
    assert!(is_unknown(&sent.await.unwrap_err()));
    let error = waiting.await.unwrap_err();
    assert_eq!((error.code(), error.reason()), (Code::Cancelled, None));
}
