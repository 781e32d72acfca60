//! Groups with several members: who reads what, and what happens to it when they come and go.

use std::time::Duration;

use flowstone_broker::{
    Committed, Cursor, Delivery, Error, GroupState, Start, SubscribeRequest, TopicChange,
};

use crate::harness::{Driven, Machine, Reader, billing, visits};

fn named(member: &str) -> SubscribeRequest {
    SubscribeRequest {
        member: member.to_owned(),
        ..billing()
    }
}

/// What a member is told of its partitions: all that it may read, what is revoked, what is lost.
fn told(reader: &mut Reader) -> (Vec<u32>, Vec<u32>, Vec<u32>) {
    let numbers = |of: Vec<(String, u32)>| of.into_iter().map(|(_, number)| number).collect();
    match reader.next() {
        Some(Ok(Delivery::Assignment {
            partitions,
            revoking,
            lost,
            ..
        })) => (numbers(partitions), numbers(revoking), numbers(lost)),
        other => panic!("an assignment should come next, not {other:?}"),
    }
}

fn reads(reader: &mut Reader) -> Vec<u32> {
    told(reader).0
}

fn state(broker: &Driven) -> GroupState {
    let group = broker.wait(broker.broker.describe_group("billing"));
    group.expect("it is there").state
}

fn commit(broker: &Driven, cursor: &Cursor) -> Result<Committed, Error> {
    let commit = broker
        .broker
        .commit_offsets(vec![cursor.clone()], Vec::new());
    broker.wait(commit)
}

fn stale() -> Error {
    Error::StaleSession {
        group: "billing".to_owned(),
    }
}

#[test]
fn members_share_the_partitions_evenly_and_only_what_has_to_move_moves() {
    let (_machine, broker) = visits(4);
    let mut first = broker.subscribe(billing());
    assert_eq!(told(&mut first), (vec![0, 1, 2, 3], vec![], vec![]));
    let mut second = broker.subscribe(billing());
    assert_eq!(told(&mut second), (vec![2, 3], vec![], vec![]));
    assert_eq!(told(&mut first), (vec![0, 1], vec![], vec![2, 3]));
    let mut third = broker.subscribe(billing());
    assert_eq!(told(&mut third), (vec![3], vec![], vec![]));
    assert_eq!(told(&mut second), (vec![2], vec![], vec![3]));
    assert!(first.is_waiting(), "its partitions stay");
    drop(first);
    assert_eq!(told(&mut second), (vec![0, 2], vec![], vec![]));
    assert_eq!(told(&mut third), (vec![1, 3], vec![], vec![]));
    broker.put("visits", 1, "a");
    assert_eq!(third.batch(), (1, 1, vec!["a".to_owned()]));
    assert!(second.is_waiting());
}

#[test]
fn a_revoked_partition_goes_on_at_the_commit_once_all_of_it_is_committed() {
    let (_machine, broker) = visits(2);
    broker.put("visits", 0, "a");
    broker.put("visits", 1, "b");
    let mut first = broker.subscribe(SubscribeRequest {
        max_batch_bytes: 1,
        ..billing()
    });
    reads(&mut first);
    let (zero, one) = (first.cursor(), first.cursor());
    assert_eq!((zero.partition, one.partition), (0, 1));
    let mut second = broker.subscribe(billing());
    assert_eq!(told(&mut first), (vec![0], vec![1], vec![]));
    assert_eq!(told(&mut second), (vec![], vec![], vec![]), "not yet");
    assert_eq!(state(&broker), GroupState::Rebalancing);
    broker.put("visits", 1, "c");
    broker.put("visits", 0, "d");
    assert_eq!(
        first.batch().2,
        ["d"],
        "only what is revoked is not read on"
    );
    assert!(first.is_waiting());
    assert!(second.is_waiting());
    let committed = commit(&broker, &zero).unwrap();
    assert_eq!(committed.revoking, [("visits".to_owned(), 1)]);
    assert_eq!(commit(&broker, &one), Ok(Committed::default()));
    assert_eq!(told(&mut first), (vec![0], vec![], vec![1]));
    assert_eq!(told(&mut second), (vec![1], vec![], vec![]));
    assert_eq!(second.batch(), (1, 2, vec!["c".to_owned()]));
    assert_eq!(state(&broker), GroupState::Stable);
    assert_eq!(commit(&broker, &one), Err(stale()));
}

#[test]
fn a_revoked_partition_that_is_released_comes_again_to_the_next() {
    let (_machine, broker) = visits(2);
    broker.put("visits", 1, "a");
    let mut first = broker.subscribe(billing());
    reads(&mut first);
    let cursor = first.cursor();
    broker.put("visits", 0, "b");
    first.cursor();
    let mut second = broker.subscribe(billing());
    assert_eq!(reads(&mut second), [0; 0]);
    assert_eq!(told(&mut first), (vec![0], vec![1], vec![]));
    let release = broker
        .broker
        .commit_offsets(Vec::new(), vec![cursor.clone()]);
    assert_eq!(broker.wait(release), Ok(Committed::default()));
    assert_eq!(reads(&mut second), [1]);
    assert_eq!(second.batch(), (1, 1, vec!["a".to_owned()]));
    assert_eq!(commit(&broker, &cursor), Err(stale()));
}

#[test]
fn a_revoked_partition_is_lost_when_the_time_is_over() {
    let (machine, broker) = visits(2);
    broker.put("visits", 0, "a");
    broker.put("visits", 1, "b");
    let mut first = broker.subscribe(billing());
    reads(&mut first);
    let (_, one) = (first.cursor(), first.cursor());
    let mut second = broker.subscribe(billing());
    reads(&mut second);
    assert_eq!(told(&mut first), (vec![0], vec![1], vec![]));
    machine.clock.advance(Duration::from_millis(29_999));
    broker.broker.run_pending();
    assert!(second.is_waiting());
    machine.clock.advance(Duration::from_millis(1));
    assert_eq!(told(&mut first), (vec![0], vec![], vec![1]));
    assert_eq!(reads(&mut second), [1]);
    assert_eq!(second.batch().2, ["b"]);
    assert_eq!(commit(&broker, &one), Err(stale()));
}

#[test]
fn a_commit_on_its_way_to_disk_is_waited_for_before_the_next_begins() {
    let (_machine, broker) = visits(1);
    broker.put("visits", 0, "a");
    broker.put("visits", 0, "b");
    let mut first = broker.subscribe(SubscribeRequest {
        max_batch_bytes: 1,
        ..billing()
    });
    reads(&mut first);
    let cursor = first.cursor();
    let mut on_its_way = Box::pin(broker.broker.commit_offsets(vec![cursor], Vec::new()));
    let waker = std::task::Waker::noop();
    let mut context = std::task::Context::from_waker(waker);
    assert!(on_its_way.as_mut().poll(&mut context).is_pending());
    // It is stored also when nobody waits for it any more.
    drop(on_its_way);
    drop(first);
    let mut second = broker.subscribe(billing());
    assert_eq!(reads(&mut second), [0; 0]);
    assert_eq!(reads(&mut second), [0], "after the commit");
    assert_eq!(second.batch(), (0, 2, vec!["b".to_owned()]));
}

#[test]
fn a_member_with_a_name_is_waited_for_and_gets_its_partitions_again() {
    let (machine, broker) = visits(4);
    broker.put("visits", 1, "a");
    let mut first = broker.subscribe(named("till"));
    let mut second = broker.subscribe(named("desk"));
    assert_eq!(reads(&mut first), [0, 1]);
    assert_eq!(reads(&mut second), [2, 3]);
    let cursor = first.cursor();
    drop(first);
    machine.clock.advance(Duration::from_millis(9_999));
    broker.broker.run_pending();
    assert!(second.is_waiting());
    let bare = Cursor {
        session: String::new(),
        ..cursor.clone()
    };
    assert!(matches!(
        commit(&broker, &bare),
        Err(Error::GroupActive { .. })
    ));
    assert_eq!(
        commit(&broker, &cursor),
        Ok(Committed::default()),
        "the session is still its own"
    );
    let mut again = broker.subscribe(named("till"));
    assert_eq!(reads(&mut again), [0, 1]);
    assert!(second.is_waiting());
    assert_eq!(commit(&broker, &cursor), Err(stale()));
    drop(again);
    machine.clock.advance(Duration::from_secs(10));
    broker.broker.run_pending();
    assert_eq!(reads(&mut second), [0, 1, 2, 3]);
}

#[test]
fn a_member_that_does_nothing_with_what_it_holds_is_put_out() {
    let (machine, broker) = visits(2);
    broker.put("visits", 0, "a");
    let mut hanging = broker.subscribe(SubscribeRequest {
        processing_timeout_ms: Some(1_000),
        ..named("till")
    });
    let mut other = broker.subscribe(billing());
    reads(&mut hanging);
    reads(&mut other);
    machine.clock.advance(Duration::from_secs(60));
    let cursor = hanging.cursor();
    machine.clock.advance(Duration::from_millis(999));
    let zero = Cursor {
        offset: 0,
        ..cursor.clone()
    };
    // A call that says nothing new is a sign of life.
    assert_eq!(commit(&broker, &zero), Ok(Committed::default()));
    machine.clock.advance(Duration::from_millis(999));
    broker.broker.run_pending();
    assert!(hanging.is_waiting());
    machine.clock.advance(Duration::from_millis(1));
    broker.broker.run_pending();
    let out = Error::MemberTimedOut {
        group: "billing".to_owned(),
        member: "till".to_owned(),
        timeout_ms: 1_000,
    };
    assert_eq!(hanging.next(), Some(Err(out)));
    assert_eq!(reads(&mut other), [0, 1]);
    assert_eq!(other.batch().2, ["a"]);
    assert_eq!(commit(&broker, &cursor), Err(stale()));
}

#[test]
fn a_member_that_holds_nothing_may_wait_for_ever() {
    let (machine, broker) = visits(1);
    broker.put("visits", 0, "a");
    let mut idle = broker.subscribe(SubscribeRequest {
        processing_timeout_ms: Some(1_000),
        ..billing()
    });
    reads(&mut idle);
    let cursor = idle.cursor();
    commit(&broker, &cursor).unwrap();
    machine.clock.advance(Duration::from_secs(3_600));
    broker.broker.run_pending();
    broker.put("visits", 0, "b");
    assert_eq!(idle.batch().2, ["b"]);
}

#[test]
fn no_more_is_sent_than_may_be_uncommitted_and_a_commit_makes_room() {
    let (_machine, broker) = visits(2);
    for value in ["a", "b", "c", "d", "e"] {
        broker.put("visits", 0, value);
    }
    broker.put("visits", 1, "z");
    let mut reader = broker.subscribe(SubscribeRequest {
        max_uncommitted_records: 2,
        ..billing()
    });
    reads(&mut reader);
    let first = reader.cursor();
    assert_eq!((first.partition, first.offset), (0, 2));
    assert_eq!(
        reader.batch(),
        (1, 1, vec!["z".to_owned()]),
        "each for itself"
    );
    assert!(reader.is_waiting(), "it pauses");
    let half = Cursor {
        offset: 1,
        ..first.clone()
    };
    commit(&broker, &half).unwrap();
    assert_eq!(reader.batch(), (0, 3, vec!["c".to_owned()]));
    assert!(reader.is_waiting());
    commit(&broker, &first).unwrap();
    assert_eq!(reader.batch(), (0, 4, vec!["d".to_owned()]));
}

#[test]
fn a_start_at_the_end_is_kept_for_the_next_owner_and_over_a_restart() {
    let (machine, broker) = visits(1);
    broker.put("visits", 0, "old");
    let latest = || SubscribeRequest {
        start: Start::Latest,
        ..billing()
    };
    let mut first = broker.subscribe(latest());
    reads(&mut first);
    broker.put("visits", 0, "a");
    assert_eq!(first.batch().2, ["a"]);
    drop(first);
    broker.put("visits", 0, "b");
    let mut second = broker.subscribe(latest());
    reads(&mut second);
    assert_eq!(second.batch().2, ["a", "b"], "nothing was committed since");
    drop(second);
    machine.disk.power_cut();
    drop(broker);
    let broker = machine.open();
    let mut third = broker.subscribe(latest());
    reads(&mut third);
    assert_eq!(third.batch().2, ["a", "b"]);
}

#[test]
fn partitions_that_are_added_are_shared_and_read_from_their_first_record() {
    let (_machine, broker) = visits(2);
    let latest = || SubscribeRequest {
        start: Start::Latest,
        ..billing()
    };
    let mut first = broker.subscribe(latest());
    let mut second = broker.subscribe(latest());
    assert_eq!(reads(&mut first), [0]);
    assert_eq!(reads(&mut second), [1]);
    let more = TopicChange {
        partition_count: Some(4),
        ..TopicChange::default()
    };
    broker
        .wait(broker.broker.update_topic("visits", more))
        .unwrap();
    broker.put("visits", 2, "a");
    broker.put("visits", 3, "b");
    assert_eq!(reads(&mut first), [0, 2]);
    assert_eq!(reads(&mut second), [1, 3]);
    assert_eq!(first.batch().2, ["a"]);
    drop(second);
    assert_eq!(reads(&mut first), [0, 1, 2, 3]);
    assert_eq!(first.batch().2, ["b"]);
}

#[test]
fn more_members_than_partitions_wait_for_one() {
    let (_machine, broker) = visits(1);
    let mut first = broker.subscribe(billing());
    let mut second = broker.subscribe(billing());
    assert_eq!(reads(&mut first), [0]);
    assert_eq!(reads(&mut second), [0; 0]);
    assert!(second.is_waiting());
    drop(first);
    assert_eq!(reads(&mut second), [0]);
}

#[test]
fn a_deleted_topic_ends_the_members_and_a_new_one_knows_nothing_of_them() {
    let (_machine, broker) = visits(2);
    let mut till = broker.subscribe(named("till"));
    reads(&mut till);
    broker.wait(broker.broker.delete_topic("visits")).unwrap();
    assert!(matches!(
        till.next(),
        Some(Err(Error::TopicNotFound { .. }))
    ));
    drop(till);
    broker.create("visits", 2);
    let mut desk = broker.subscribe(named("desk"));
    assert_eq!(reads(&mut desk), [0, 1], "nobody is waited for");
}

#[test]
fn a_stop_ends_the_streams_and_still_takes_their_commits() {
    let (_machine, broker) = visits(1);
    broker.put("visits", 0, "a");
    let mut reader = broker.subscribe(billing());
    reads(&mut reader);
    let cursor = reader.cursor();
    broker.broker.stop_accepting();
    assert_eq!(reader.next(), Some(Err(Error::ShuttingDown)));
    drop(reader);
    assert_eq!(commit(&broker, &cursor), Ok(Committed::default()));
    broker.shutdown();
}

#[test]
fn members_that_are_away_count_against_the_limit_of_subscriptions() {
    let machine = Machine::new(1);
    let mut config = machine.config();
    config.limits.max_subscriptions = 2;
    let broker = machine.open_with(config).unwrap();
    broker.create("visits", 1);
    drop(broker.subscribe(named("one")));
    drop(broker.subscribe(named("two")));
    assert!(matches!(
        broker.try_subscribe(named("three")).map(drop),
        Err(Error::LimitExceeded { .. })
    ));
    machine.clock.advance(Duration::from_secs(10));
    broker.broker.run_pending();
    broker.subscribe(named("three"));
}
