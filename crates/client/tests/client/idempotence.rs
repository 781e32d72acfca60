//! Producers that the broker knows: repeats are safe, and a name survives a restart.

use flowstone_client::{Error, Producer, ProducerBuilder, Record, reason};
use tonic::Code;

use crate::broker::{Broker, Produce};

/// A broker that remembers so many sequences.
async fn remembering(window: i32, actions: &[Produce]) -> Broker {
    let broker = Broker::start().await;
    broker.state().limits.producer_window = window;
    broker.state().produce = actions.iter().cloned().collect();
    broker
}

async fn build(builder: ProducerBuilder) -> Producer {
    builder.batch_bytes(1).build().await.unwrap()
}

async fn send(producer: &Producer, values: &[&str]) {
    for value in values {
        let record = Record {
            key: Some("stand".into()),
            value: Some((*value).to_owned().into()),
            ..Record::default()
        };
        producer.send(record).await.unwrap();
    }
}

fn sequences(broker: &Broker) -> Vec<i64> {
    let state = broker.state();
    let producers = state.producers.iter();
    producers
        .map(|(producer, _)| producer.as_ref().map_or(0, |producer| producer.sequence))
        .collect()
}

fn is_unknown(error: &Error) -> bool {
    error.is(reason::OUTCOME_UNKNOWN)
}

#[tokio::test]
async fn what_was_sent_over_a_lost_connection_is_repeated_and_there_once() {
    let lost = [
        Produce::Ack,
        Produce::AppendAndBreak,
        Produce::Break,
        Produce::Refuse(Code::Unavailable, reason::OUTCOME_UNKNOWN),
    ];
    let broker = remembering(1_024, &lost).await;
    let producer = build(broker.client().producer("visits")).await;
    send(&producer, &["a", "b", "c"]).await;
    producer.close().await.unwrap();
    assert_eq!(broker.appended(), ["a", "b", "c"]);
    let state = broker.state();
    let ids: Vec<_> = state.producers.iter().map(|(p, _)| p.clone()).collect();
    let first = ids[0].clone().unwrap();
    assert_eq!((first.epoch, first.id.len()), (0, 36));
    assert!(ids.iter().all(|p| p.as_ref().unwrap().id == first.id));
}

#[tokio::test]
async fn no_two_producers_have_one_id() {
    let broker = remembering(1_024, &[]).await;
    for _ in 0..2 {
        let producer = build(broker.client().producer("visits")).await;
        send(&producer, &["a"]).await;
        producer.close().await.unwrap();
    }
    assert_eq!(broker.appended(), ["a", "a"]);
}

#[tokio::test]
async fn it_can_be_switched_off_and_is_off_where_the_broker_remembers_nothing() {
    for (window, idempotent) in [(1_024, false), (0, true)] {
        let broker = remembering(window, &[Produce::Break]).await;
        let builder = broker.client().producer("visits");
        let producer = build(builder.idempotent(idempotent)).await;
        send(&producer, &["a"]).await;
        assert!(is_unknown(&producer.flush().await.unwrap_err()));
        assert_eq!(sequences(&broker), [0]);
    }
    let broker = remembering(0, &[]).await;
    let named = broker.client().producer("visits").id("till-4").build();
    assert_eq!(named.await.unwrap_err().code(), Code::Unimplemented);
}

#[tokio::test]
async fn a_small_window_is_gone_through_in_order() {
    let broker = remembering(3, &[]).await;
    broker.close_gate().await;
    let producer = build(broker.client().producer("visits")).await;
    send(&producer, &["a", "b", "c", "d", "e"]).await;
    broker.arrival().await;
    broker.state().produce = [Produce::Break].into();
    broker.open_gate();
    producer.close().await.unwrap();
    assert_eq!(broker.appended(), ["a", "b", "c", "d", "e"]);
    let sent = sequences(&broker);
    assert_eq!(sent, [1, 1, 2, 3, 4, 5]);
}

#[tokio::test]
async fn a_named_producer_goes_on_where_it_had_come() {
    let broker = remembering(16, &[]).await;
    broker.state().opened = (4, 100);
    let named = || broker.client().producer("visits").id("till-4");
    let producer = named().build().await.unwrap();
    assert_eq!(
        (producer.last_sequence(), producer.next_sequence()),
        (100, 101)
    );
    send(&producer, &["a", "b"]).await;
    producer.close().await.unwrap();
    assert_eq!(sequences(&broker), [101, 102], "each record by itself");
    let first = broker.state().producers[0].0.clone().unwrap();
    assert_eq!((first.id.as_str(), first.epoch), ("till-4", 5));

    let unsure = named().resume(true).build().await.unwrap();
    assert_eq!((unsure.last_sequence(), unsure.next_sequence()), (100, 85));
    let one_partition = named().resume(true).partition(0).build().await.unwrap();
    assert_eq!(one_partition.next_sequence(), 101);
    broker.state().opened.1 = 3;
    let young = named().resume(true).build().await.unwrap();
    assert_eq!(young.next_sequence(), 1);
}

#[tokio::test]
async fn a_producer_that_was_opened_by_another_process_is_over() {
    let stale = Produce::Refuse(Code::Aborted, reason::STALE_PRODUCER);
    let broker = remembering(16, &[Produce::AppendAndBreak, stale]).await;
    broker.close_gate().await;
    let producer = build(broker.client().producer("visits").id("till-4")).await;
    send(&producer, &["a", "b", "c"]).await;
    broker.open_gate();
    assert!(
        is_unknown(&producer.flush().await.unwrap_err()),
        "the first may be there"
    );
    let totals = producer.totals();
    assert_eq!(totals.unknown_records + totals.failed_records, 3);
    assert_eq!(sequences(&broker), [1, 1], "the others are not tried");
}

#[tokio::test]
async fn what_the_broker_has_forgotten_is_unknown() {
    let too_old = Produce::Refuse(Code::FailedPrecondition, reason::SEQUENCE_TOO_OLD);
    let broker = remembering(16, &[too_old]).await;
    let producer = build(broker.client().producer("visits")).await;
    send(&producer, &["a"]).await;
    assert!(is_unknown(&producer.flush().await.unwrap_err()));
}

#[tokio::test]
async fn each_record_expects_the_offset_behind_the_one_before() {
    let broker = remembering(16, &[]).await;
    let expecting = broker.client().producer("visits").expected_offset(7);
    let error = expecting.clone().build().await.unwrap_err();
    assert_eq!(error.code(), Code::InvalidArgument);
    let producer = build(expecting.partition(0)).await;
    send(&producer, &["a", "b"]).await;
    producer.close().await.unwrap();
    let state = broker.state();
    let expected: Vec<_> = state.producers.iter().map(|(_, offset)| *offset).collect();
    assert_eq!(expected, [Some(7), Some(8)]);
}
