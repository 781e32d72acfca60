//! Subscriptions: what is asked for again after a stream has failed.

use std::time::Duration;

use flowstone_client::{Cursor, Event, Record, Start, Stop, Subscription, reason};
use flowstone_proto::v1 as proto;
use tonic::Code;

use crate::broker::{Broker, short_heartbeats};

const LOST: Option<Result<(), (Code, &str)>> = Some(Err((Code::Unavailable, "")));
const DONE: Option<Result<(), (Code, &str)>> = Some(Ok(()));

fn cursor(partition: i32, offset: i64) -> Cursor {
    Cursor {
        topic: "visits".to_owned(),
        topic_id: "the-topic".to_owned(),
        partition,
        offset,
        ..Cursor::default()
    }
}

/// Records `from..to` of a partition.
fn batch(partition: i32, from: i64, to: i64) -> proto::SubscribeResponse {
    proto::SubscribeResponse {
        records: (from..to)
            .map(|offset| Record {
                offset,
                ..Record::default()
            })
            .collect(),
        cursor: Some(cursor(partition, to)),
        high_watermark: to,
        ..proto::SubscribeResponse::default()
    }
}

fn problem(
    at: Cursor,
    code: Code,
    reason: &str,
    facts: &[(&str, &str)],
) -> proto::SubscribeResponse {
    proto::SubscribeResponse {
        cursor: Some(at),
        error: Some(proto::ErrorStatus {
            code: code.into(),
            reason: reason.to_owned(),
            metadata: facts
                .iter()
                .map(|&(name, fact)| (name.to_owned(), fact.to_owned()))
                .collect(),
            ..proto::ErrorStatus::default()
        }),
        ..proto::SubscribeResponse::default()
    }
}

/// The offsets that come until the end, with their partitions.
async fn offsets(subscription: &mut Subscription) -> Vec<(i32, i64)> {
    let mut all = Vec::new();
    while let Some(event) = subscription.next().await {
        if let Event::Records(batch) = event.unwrap() {
            let partition = batch.partition();
            all.extend(
                batch
                    .records
                    .iter()
                    .map(|record| (partition, record.offset)),
            );
        }
    }
    all
}

fn resumed(request: &proto::SubscribeRequest) -> Vec<(i32, i64)> {
    let cursors = request.resume_from.iter();
    cursors.map(|at| (at.partition, at.offset)).collect()
}

fn stops(request: &proto::SubscribeRequest) -> Vec<(i32, i64)> {
    let cursors = request.stop_before.iter();
    cursors.map(|at| (at.partition, at.offset)).collect()
}

#[tokio::test]
async fn after_a_lost_connection_it_goes_on_behind_what_came_and_keeps_its_end() {
    let broker = Broker::start().await;
    {
        let mut state = broker.state();
        state.ends = [3, 2];
        let first = vec![batch(0, 0, 2), batch(1, 0, 1)];
        state.subscribe.push_back((first, LOST));
        let second = vec![batch(0, 2, 3), batch(1, 1, 2)];
        state.subscribe.push_back((second, DONE));
    }
    let visits = broker.client().subscribe("visits").stop(Stop::CurrentEnd);
    let mut visits = visits.open().await.unwrap();
    let came = offsets(&mut visits).await;
    assert_eq!(came, [(0, 0), (0, 1), (1, 0), (0, 2), (1, 1)]);
    let state = broker.state();
    let [first, second] = &state.subscribed[..] else {
        panic!("{:?}", state.subscribed);
    };
    for request in [first, second] {
        assert_eq!(stops(request), [(0, 3), (1, 2)]);
        assert_eq!(request.partitions, [0, 1]);
        assert_eq!(request.stop, None);
    }
    assert_eq!(resumed(first), []);
    assert_eq!(resumed(second), [(0, 2), (1, 1)]);
    assert_eq!(second.resume_from[0].topic_id, "the-topic");
}

#[tokio::test]
async fn nothing_is_asked_for_again_once_everything_came() {
    let broker = Broker::start().await;
    broker.state().ends = [1, 0];
    broker
        .state()
        .subscribe
        .push_back((vec![batch(0, 0, 1)], LOST));
    let visits = broker.client().subscribe("visits").stop(Stop::CurrentEnd);
    // Partition 1 is empty, and reading it begins at its end.
    let visits = visits.resume_from([cursor(1, 0)]);
    let mut visits = visits.open().await.unwrap();
    assert_eq!(offsets(&mut visits).await, [(0, 0)]);
    assert_eq!(broker.state().subscribed.len(), 1);
}

#[tokio::test]
async fn a_start_that_moves_is_looked_up_once() {
    let broker = Broker::start().await;
    broker.state().ends = [7, 9];
    broker.state().subscribe.push_back((vec![], LOST));
    broker
        .state()
        .subscribe
        .push_back((vec![batch(1, 9, 10)], LOST));
    broker
        .state()
        .subscribe
        .push_back((vec![batch(0, 7, 8)], None));
    let visits = broker.client().subscribe("visits").start(Start::Latest);
    // The first attempt to open fails as a whole and is the caller's to repeat.
    let error = visits.clone().open().await.unwrap_err();
    assert_eq!(error.code(), Code::Unavailable);
    broker.state().ends = [7, 9];
    let mut visits = visits.open().await.unwrap();
    for _ in 0..2 {
        visits.next().await.unwrap().unwrap();
    }
    let state = broker.state();
    assert_eq!(resumed(&state.subscribed[1]), [(0, 7), (1, 9)]);
    assert_eq!(resumed(&state.subscribed[2]), [(0, 7), (1, 10)]);
}

#[tokio::test]
async fn a_count_goes_on_counting() {
    let broker = Broker::start().await;
    broker
        .state()
        .subscribe
        .push_back((vec![batch(0, 0, 3)], LOST));
    broker
        .state()
        .subscribe
        .push_back((vec![batch(0, 3, 5)], DONE));
    let visits = broker.client().subscribe("visits").stop(Stop::Count(5));
    let mut visits = visits.open().await.unwrap();
    assert_eq!(offsets(&mut visits).await.len(), 5);
    let state = broker.state();
    assert_eq!(state.subscribed[1].stop, Some(Stop::Count(2).into()));
}

#[tokio::test]
async fn silence_is_a_lost_connection_and_heartbeats_are_no_silence() {
    let broker = Broker::start().await;
    broker.state().limits = short_heartbeats();
    broker
        .state()
        .subscribe
        .push_back((vec![batch(0, 0, 1)], None));
    let alive = vec![proto::SubscribeResponse::default(), batch(0, 1, 2)];
    broker.state().subscribe.push_back((alive, None));
    let visits = broker.client().subscribe("visits");
    let mut visits = visits.open().await.unwrap();
    for expected in 0..2 {
        match visits.next().await.unwrap().unwrap() {
            Event::Records(batch) => {
                assert_eq!(batch.records.iter().next().unwrap().offset, expected)
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(resumed(&broker.state().subscribed[1]), [(0, 1)]);
}

#[tokio::test]
async fn an_error_that_no_repeat_helps_against_ends_it() {
    let broker = Broker::start().await;
    let end = Some(Err((Code::Aborted, "MEMBER_REPLACED")));
    broker
        .state()
        .subscribe
        .push_back((vec![batch(0, 0, 1)], end));
    let visits = broker.client().subscribe("visits").group("billing");
    let mut visits = visits.open().await.unwrap();
    assert!(visits.next().await.unwrap().is_ok());
    assert!(
        visits
            .next()
            .await
            .unwrap()
            .unwrap_err()
            .is("MEMBER_REPLACED")
    );
    assert!(visits.next().await.is_none());
    assert_eq!(broker.state().subscribed.len(), 1);
}

#[tokio::test]
async fn it_gives_up_after_as_long_as_it_was_told() {
    let broker = Broker::start().await;
    broker
        .state()
        .subscribe
        .push_back((vec![batch(0, 0, 1)], LOST));
    for _ in 0..100 {
        broker.state().subscribe.push_back((vec![], LOST));
    }
    let visits = broker.client().subscribe("visits");
    let visits = visits.retry_for(Duration::from_millis(200));
    let mut visits = visits.open().await.unwrap();
    assert!(visits.next().await.unwrap().is_ok());
    let error = visits.next().await.unwrap().unwrap_err();
    assert_eq!(error.code(), Code::Unavailable);
    assert!(broker.state().subscribed.len() > 2);
}

#[tokio::test]
async fn a_stream_without_an_end_that_ends_is_opened_again() {
    let broker = Broker::start().await;
    broker
        .state()
        .subscribe
        .push_back((vec![batch(0, 0, 1)], DONE));
    broker
        .state()
        .subscribe
        .push_back((vec![batch(0, 1, 2)], None));
    let mut visits = broker.client().subscribe("visits").open().await.unwrap();
    for _ in 0..2 {
        visits.next().await.unwrap().unwrap();
    }
    assert_eq!(resumed(&broker.state().subscribed[1]), [(0, 1)]);
}

/// A member is told what it has.
fn assignment(partitions: &[i32], revoking: &[i32], lost: &[i32]) -> proto::SubscribeResponse {
    let of = |numbers: &[i32]| -> Vec<proto::TopicPartition> {
        let of = |&partition: &i32| proto::TopicPartition {
            topic: "visits".to_owned(),
            partition,
        };
        numbers.iter().map(of).collect()
    };
    proto::SubscribeResponse {
        assignment: Some(proto::Assignment {
            partitions: of(partitions),
            revoking: of(revoking),
            lost: of(lost),
            revoke_timeout: None,
        }),
        ..proto::SubscribeResponse::default()
    }
}

async fn member(broker: &Broker) -> Subscription {
    let visits = broker.client().subscribe("visits").group("billing");
    visits.start(Start::Latest).open().await.unwrap()
}

/// The next event must be records; its cursor.
async fn records(visits: &mut Subscription) -> Cursor {
    match visits.next().await.unwrap().unwrap() {
        Event::Records(batch) => batch.cursor,
        other => panic!("records should come next, not {other:?}"),
    }
}

/// The next event must be an assignment: what this member has, and what it has lost.
async fn assigned(visits: &mut Subscription) -> (Vec<i32>, Vec<i32>) {
    let numbers = |of: Vec<proto::TopicPartition>| of.iter().map(|of| of.partition).collect();
    match visits.next().await.unwrap().unwrap() {
        Event::Assignment(told) => (numbers(told.partitions), numbers(told.lost)),
        other => panic!("an assignment should come next, not {other:?}"),
    }
}

#[tokio::test]
async fn a_member_joins_again_after_it_was_told_that_all_is_lost() {
    for end in [LOST, Some(Err((Code::Aborted, reason::STALE_SESSION)))] {
        let broker = Broker::start().await;
        let told = vec![assignment(&[0, 1], &[2], &[]), batch(0, 0, 1)];
        broker.state().subscribe.push_back((told.clone(), end));
        broker.state().subscribe.push_back((told, None));
        let mut visits = member(&broker).await;
        assert_eq!(assigned(&mut visits).await, (vec![0, 1], vec![]));
        let cursor = records(&mut visits).await;
        visits.processed(cursor);
        assert_eq!(assigned(&mut visits).await, (vec![], vec![0, 1, 2]));
        assert!(!visits.has_uncommitted(), "it cannot be committed any more");
        assert_eq!(assigned(&mut visits).await, (vec![0, 1], vec![]));
        records(&mut visits).await;
        let state = broker.state();
        assert_eq!(state.subscribed.len(), 2);
        assert_eq!(state.subscribed[0], state.subscribed[1]);
        assert!(resumed(&state.subscribed[1]).is_empty());
    }
}

#[tokio::test]
async fn a_member_that_was_put_out_is_told_and_does_not_come_back_by_itself() {
    for why in [reason::MEMBER_TIMED_OUT, reason::MEMBER_REPLACED] {
        let broker = Broker::start().await;
        let told = vec![assignment(&[0], &[], &[])];
        let end = Some(Err((Code::Aborted, why)));
        broker.state().subscribe.push_back((told, end));
        let mut visits = member(&broker).await;
        assigned(&mut visits).await;
        assert!(visits.next().await.unwrap().unwrap_err().is(why));
        assert!(visits.next().await.is_none());
        assert_eq!(broker.state().subscribed.len(), 1);
    }
}

#[tokio::test]
async fn what_is_processed_is_committed_unless_it_is_lost() {
    let broker = Broker::start().await;
    let told = vec![
        assignment(&[0, 1], &[], &[]),
        batch(0, 0, 1),
        batch(1, 0, 1),
        batch(1, 1, 5),
        assignment(&[1], &[], &[0]),
    ];
    broker.state().subscribe.push_back((told, None));
    let mut visits = member(&broker).await;
    assert_eq!(visits.commit().await.unwrap().stale, []);
    assert_eq!(broker.state().committed.len(), 0, "there was nothing");
    assigned(&mut visits).await;
    for _ in 0..3 {
        let cursor = records(&mut visits).await;
        visits.processed(cursor);
    }
    assert_eq!(assigned(&mut visits).await, (vec![1], vec![0]));
    broker.state().commit_fails = Some((Code::Unavailable, ""));
    visits.commit().await.unwrap_err();
    assert!(visits.has_uncommitted(), "it is committed the next time");
    broker.state().commit_fails = None;
    visits.commit().await.unwrap();
    assert!(!visits.has_uncommitted());
    assert_eq!(broker.state().committed, [vec![cursor(1, 5)]]);

    visits.processed(cursor(1, 7));
    broker.state().commit_fails = Some((Code::Aborted, reason::STALE_SESSION));
    assert_eq!(visits.commit().await.unwrap().stale, [cursor(1, 7)]);
    assert!(!visits.has_uncommitted());
}

#[tokio::test]
async fn a_trim_under_the_reader_is_told_and_reading_goes_on_behind_it() {
    let broker = Broker::start().await;
    let trimmed = problem(
        cursor(0, 1),
        Code::OutOfRange,
        reason::OFFSET_TRIMMED,
        &[("log-start-offset", "5")],
    );
    broker
        .state()
        .subscribe
        .push_back((vec![batch(0, 0, 1), trimmed], LOST));
    broker
        .state()
        .subscribe
        .push_back((vec![batch(0, 5, 6)], None));
    let mut visits = broker.client().subscribe("visits").open().await.unwrap();
    assert!(matches!(visits.next().await, Some(Ok(Event::Records(_)))));
    match visits.next().await.unwrap().unwrap() {
        Event::Partition(problem) => assert!(problem.error.is(reason::OFFSET_TRIMMED)),
        other => panic!("{other:?}"),
    }
    assert!(matches!(visits.next().await, Some(Ok(Event::Records(_)))));
    assert_eq!(resumed(&broker.state().subscribed[1]), [(0, 5)]);
}

#[tokio::test]
async fn a_short_read_never_looks_like_a_whole_one() {
    let broker = Broker::start().await;
    broker.state().ends = [2, 1];
    let damaged = problem(cursor(0, 1), Code::DataLoss, "CORRUPT_SEGMENT", &[]);
    broker
        .state()
        .subscribe
        .push_back((vec![batch(0, 0, 1), damaged], LOST));
    // The broker that is connected to next knows nothing of it.
    broker
        .state()
        .subscribe
        .push_back((vec![batch(1, 0, 1)], DONE));
    let visits = broker.client().subscribe("visits").stop(Stop::CurrentEnd);
    let mut visits = visits.open().await.unwrap();
    let mut last = None;
    while let Some(event) = visits.next().await {
        last = Some(event);
    }
    assert_eq!(last.unwrap().unwrap_err().code(), Code::DataLoss);
}

#[tokio::test]
async fn the_end_of_a_damaged_partition_is_not_taken_for_its_end() {
    let broker = Broker::start().await;
    broker.state().ends = [1, 0];
    broker.state().offline = vec![1];
    let all = (vec![batch(0, 0, 1)], DONE);
    broker.state().subscribe.extend([all.clone(), all]);
    let visits = broker.client().subscribe("visits").stop(Stop::CurrentEnd);
    let mut all = visits.clone().open().await.unwrap();
    assert!(all.next().await.unwrap().is_ok());
    let error = all.next().await.unwrap().unwrap_err();
    assert!(error.is(reason::CORRUPT_SEGMENT), "{error}");
    // The other partition alone is whole.
    broker.state().ends = [1, 0];
    let mut sound = visits.partitions([0]).open().await.unwrap();
    assert_eq!(offsets(&mut sound).await, [(0, 0)]);
}
