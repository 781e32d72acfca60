//! Groups with one member: what it is told, and offsets that are durable and only rise.

use std::time::Duration;

use flowstone_broker::{
    Committed, Cursor, Error, GroupInfo, GroupState, Start, Stop, SubscribeRequest, TopicChange,
};

use crate::harness::{Driven, Machine, Reader, START_MS, at, billing, read, visits};

fn named(member: &str) -> SubscribeRequest {
    SubscribeRequest {
        member: member.to_owned(),
        peer: "10.0.0.7:1".to_owned(),
        ..billing()
    }
}

/// A member that has been told what it reads.
fn join(broker: &Driven, request: SubscribeRequest) -> Reader {
    let mut reader = broker.subscribe(request);
    reader.assignment();
    reader
}

/// A cursor of the group without a session.
fn bare(partition: u32, offset: u64) -> Cursor {
    Cursor {
        group: "billing".to_owned(),
        ..at("visits", partition, offset)
    }
}

/// What the group has committed: partition and offset.
fn committed(broker: &Driven) -> Vec<(u32, u64)> {
    match broker.wait(broker.broker.describe_group("billing")) {
        Ok(group) => group
            .offsets
            .iter()
            .filter_map(|at| Some((at.partition, at.committed_offset?)))
            .collect(),
        Err(Error::GroupNotFound { .. }) => Vec::new(),
        Err(other) => panic!("the group should be described, not {other:?}"),
    }
}

fn active<T: std::fmt::Debug>(result: Result<T, Error>) -> bool {
    matches!(result, Err(Error::GroupActive { group }) if group == "billing")
}

#[test]
fn a_member_is_told_what_it_reads_and_goes_on_where_the_group_committed() {
    let (machine, broker) = visits(2);
    for value in ["a", "b", "c"] {
        broker.put("visits", 0, value);
    }
    let mut reader = broker.subscribe(SubscribeRequest {
        max_batch_bytes: 1,
        ..billing()
    });
    assert_eq!(
        reader.assignment(),
        [("visits".to_owned(), 0), ("visits".to_owned(), 1)]
    );
    let cursor = reader.cursor();
    assert_eq!((cursor.group.as_str(), cursor.offset), ("billing", 1));
    assert!(!cursor.session.is_empty());
    assert_eq!(broker.commit(&[cursor]), Ok(vec![]));
    drop(reader);
    broker.put("visits", 1, "z");

    machine.disk.power_cut();
    drop(broker);
    let broker = machine.open();
    assert_eq!(committed(&broker), [(0, 1)]);
    let mut reader = join(&broker, billing());
    assert_eq!(reader.batch().2, ["b", "c"]);
    assert_eq!(
        reader.batch().2,
        ["z"],
        "from the start where nothing was committed"
    );
}

#[test]
fn the_start_holds_where_nothing_was_committed() {
    let (_machine, broker) = visits(2);
    broker.put("visits", 0, "a");
    broker.put("visits", 1, "b");
    broker.commit(&[bare(0, 0)]).unwrap();
    let mut reader = join(
        &broker,
        SubscribeRequest {
            start: Start::Latest,
            ..billing()
        },
    );
    assert_eq!(reader.batch(), (0, 1, vec!["a".to_owned()]));
    assert!(reader.is_waiting(), "partition 1 starts at the end");
}

#[test]
fn a_second_stream_of_the_same_member_ends_the_first() {
    let (_machine, broker) = visits(1);
    broker.put("visits", 0, "a");
    let mut first = join(&broker, named("till"));
    let old = first.cursor();
    assert!(first.is_waiting());
    let mut second = join(&broker, named("till"));
    let replaced = Error::MemberReplaced {
        group: "billing".to_owned(),
        member: "till".to_owned(),
    };
    assert_eq!(first.next(), Some(Err(replaced)));
    let stale = Error::StaleSession {
        group: "billing".to_owned(),
    };
    assert_eq!(broker.commit(std::slice::from_ref(&old)), Err(stale));
    assert_eq!(committed(&broker), []);
    let new = second.cursor();
    assert_eq!(new.offset, old.offset);
    assert_eq!(
        broker.commit(&[old.clone(), new]),
        Ok(vec![old]),
        "the current one is stored"
    );
    assert_eq!(committed(&broker), [(0, 1)]);
    drop(first);
    assert!(
        active(broker.commit(&[bare(0, 1)])),
        "the second is still in"
    );
}

#[test]
fn a_session_ends_with_its_stream() {
    let (_machine, broker) = visits(1);
    broker.put("visits", 0, "a");
    let mut reader = join(&broker, billing());
    let cursor = reader.cursor();
    drop(reader);
    assert!(matches!(
        broker.commit(&[cursor]),
        Err(Error::StaleSession { .. })
    ));
}

#[test]
fn a_cursor_without_a_session_is_taken_while_nobody_is_in() {
    let (_machine, broker) = visits(1);
    broker.put("visits", 0, "a");
    assert_eq!(broker.commit(&[bare(0, 1)]), Ok(vec![]));
    let reader = join(&broker, billing());
    assert!(active(broker.commit(&[bare(0, 1)])));
    drop(reader);
    assert_eq!(broker.commit(&[bare(0, 1)]), Ok(vec![]));
}

#[test]
fn committed_offsets_only_rise() {
    let (machine, broker) = visits(1);
    for value in ["a", "b", "c"] {
        broker.put("visits", 0, value);
    }
    broker.commit(&[bare(0, 2)]).unwrap();
    let syncs = machine.syncs();
    assert_eq!(broker.commit(&[bare(0, 1), bare(0, 2)]), Ok(vec![]));
    assert_eq!(
        machine.syncs(),
        syncs,
        "nothing is written for what changes nothing"
    );
    assert_eq!(committed(&broker), [(0, 2)]);
    broker.commit(&[bare(0, 3)]).unwrap();
    assert_eq!(committed(&broker), [(0, 3)]);
}

#[test]
fn commits_that_wait_together_share_one_sync() {
    let (machine, broker) = visits(1);
    for i in 0..20 {
        broker.put("visits", 0, &i.to_string());
    }
    broker.commit(&[bare(0, 0)]).unwrap();
    let syncs = machine.syncs();
    let commits: Vec<_> = (1..=20)
        .map(|offset| {
            broker
                .broker
                .commit_offsets(vec![bare(0, offset)], Vec::new())
        })
        .collect();
    for stale in broker.wait(all(commits)) {
        assert_eq!(stale, Ok(Committed::default()));
    }
    assert_eq!(machine.syncs() - syncs, 1);
    assert_eq!(committed(&broker), [(0, 20)]);
}

/// Waits for all futures at once.
async fn all<T>(futures: Vec<impl Future<Output = T>>) -> Vec<T> {
    let mut futures: Vec<_> = futures.into_iter().map(Box::pin).collect();
    let mut done: Vec<Option<T>> = futures.iter().map(|_| None).collect();
    std::future::poll_fn(move |context| {
        for (future, done) in futures.iter_mut().zip(&mut done) {
            if done.is_none()
                && let std::task::Poll::Ready(ready) = future.as_mut().poll(context)
            {
                *done = Some(ready);
            }
        }
        if done.iter().all(Option::is_some) {
            std::task::Poll::Ready(done.iter_mut().filter_map(Option::take).collect())
        } else {
            std::task::Poll::Pending
        }
    })
    .await
}

#[test]
fn a_released_cursor_stores_nothing_and_is_held_against_its_session() {
    let (_machine, broker) = visits(1);
    broker.put("visits", 0, "a");
    let mut reader = join(&broker, billing());
    let cursor = reader.cursor();
    let release = |cursor: &Cursor| {
        broker.wait(
            broker
                .broker
                .commit_offsets(Vec::new(), vec![cursor.clone()]),
        )
    };
    assert_eq!(release(&cursor), Ok(Committed::default()));
    assert_eq!(committed(&broker), []);
    assert!(matches!(release(&cursor), Err(Error::StaleSession { .. })));
    assert_eq!(
        reader.assignment(),
        [("visits".to_owned(), 0)],
        "nobody else is there to have it"
    );
    let again = reader.cursor();
    assert_eq!(again.offset, cursor.offset, "it comes again");
    assert_eq!(broker.commit(&[again]), Ok(vec![]));
    assert!(matches!(release(&cursor), Err(Error::StaleSession { .. })));
}

#[test]
fn what_cannot_be_committed_is_refused_whole() {
    let (_machine, broker) = visits(1);
    broker.put("visits", 0, "a");
    let field = |cursors: &[Cursor]| match broker.commit(cursors) {
        Err(Error::InvalidField { field, .. }) => field,
        other => panic!("a field should be refused, not {other:?}"),
    };
    assert_eq!(field(&[bare(0, 1), bare(0, 2)]), "cursors[1].offset");
    assert_eq!(field(&[bare(0, 1), at("visits", 0, 1)]), "cursors[1].group");
    assert!(matches!(
        broker.commit(&[bare(0, 1), bare(1, 0)]),
        Err(Error::PartitionNotFound { partition: 1, .. })
    ));
    let orders = Cursor {
        topic: "orders".to_owned(),
        ..bare(0, 0)
    };
    assert!(matches!(
        broker.commit(&[bare(0, 1), orders]),
        Err(Error::TopicNotFound { .. })
    ));
    assert_eq!(committed(&broker), []);
    assert_eq!(broker.commit(&[]), Ok(vec![]));
}

#[test]
fn committed_offsets_are_bounded() {
    let machine = Machine::new(1);
    let mut config = machine.config();
    config.limits.max_committed_offsets = 2;
    let broker = machine.open_with(config).unwrap();
    broker.create("visits", 3);
    broker.commit(&[bare(0, 0), bare(1, 0)]).unwrap();
    assert!(matches!(
        broker.commit(&[bare(2, 0)]),
        Err(Error::LimitExceeded {
            limit: "max_committed_offsets",
            value: 2
        })
    ));
    broker.put("visits", 0, "a");
    assert_eq!(
        broker.commit(&[bare(0, 1)]),
        Ok(vec![]),
        "one that is there may rise"
    );
}

#[test]
fn nothing_of_a_deleted_topic_is_left_in_its_successor() {
    let (machine, broker) = visits(1);
    let old = broker.broker.describe_topic("visits").unwrap().0.id;
    broker.put("visits", 0, "a");
    broker.commit(&[bare(0, 1)]).unwrap();
    broker.wait(broker.broker.delete_topic("visits")).unwrap();
    assert_eq!(committed(&broker), []);
    broker.create("visits", 1);
    broker.put("visits", 0, "b");
    let of_old = Cursor {
        topic_id: Some(old),
        ..bare(0, 1)
    };
    assert!(matches!(
        broker.commit(&[of_old]),
        Err(Error::TopicRecreated { .. })
    ));
    broker.shutdown();
    let broker = machine.open();
    assert_eq!(committed(&broker), []);
    assert_eq!(join(&broker, billing()).batch().2, ["b"]);
}

#[test]
fn a_trimmed_commit_is_told_and_reading_goes_on_at_the_log_start() {
    let (_machine, broker) = visits(1);
    for value in ["a", "b", "c"] {
        broker.put("visits", 0, value);
    }
    broker.commit(&[bare(0, 1)]).unwrap();
    broker
        .wait(broker.broker.trim_partition("visits", 0, 2))
        .unwrap();
    let mut reader = join(&broker, billing());
    let (cursor, error) = reader.partition_error();
    assert_eq!(cursor.offset, 1);
    assert!(matches!(
        error,
        Error::OffsetTrimmed {
            requested: 1,
            log_start_offset: 2,
            ..
        }
    ));
    assert_eq!(reader.batch().2, ["c"]);
    assert!(reader.is_waiting());
}

#[test]
fn a_member_gets_partitions_that_are_added() {
    let (_machine, broker) = visits(1);
    let mut reader = join(
        &broker,
        SubscribeRequest {
            start: Start::Latest,
            ..billing()
        },
    );
    assert!(reader.is_waiting());
    let more = TopicChange {
        partition_count: Some(2),
        ..TopicChange::default()
    };
    broker
        .wait(broker.broker.update_topic("visits", more))
        .unwrap();
    broker.put("visits", 1, "new");
    assert_eq!(
        reader.assignment(),
        [("visits".to_owned(), 0), ("visits".to_owned(), 1)]
    );
    assert_eq!(reader.batch().2, ["new"]);
}

#[test]
fn what_makes_no_sense_with_a_group_is_refused() {
    let (_machine, broker) = visits(1);
    let refused = [
        (
            "partitions",
            SubscribeRequest {
                partitions: vec![0],
                ..billing()
            },
        ),
        (
            "stop",
            SubscribeRequest {
                stop: Some(Stop::CurrentEnd),
                ..billing()
            },
        ),
        (
            "resume_from",
            SubscribeRequest {
                resume_from: vec![at("visits", 0, 0)],
                ..billing()
            },
        ),
        (
            "stop_before",
            SubscribeRequest {
                stop_before: vec![at("visits", 0, 0)],
                ..billing()
            },
        ),
        (
            "group",
            SubscribeRequest {
                group: Some(String::new()),
                ..billing()
            },
        ),
        ("member", named("a\nb")),
    ];
    for (name, request) in refused {
        let error = broker.try_subscribe(request).map(drop);
        assert!(matches!(error, Err(Error::InvalidField { field, .. }) if field == name));
    }
    assert_eq!(broker.broker.list_groups(None, 10), []);
}

#[test]
fn groups_tell_their_members_and_how_far_they_are_behind() {
    let (machine, broker) = visits(2);
    for value in ["a", "b", "c"] {
        broker.put("visits", 0, value);
        machine.clock.advance(Duration::from_secs(1));
    }
    broker.commit(&[bare(0, 1), bare(1, 0)]).unwrap();
    let mut reader = broker.subscribe(named("till"));
    reader.assignment();
    let session = reader.cursor().session;
    let group = broker
        .wait(broker.broker.describe_group("billing"))
        .unwrap();
    assert_eq!(group.members.len(), 1);
    assert_eq!(group.members[0].member, "till");
    let holding = session.rsplit_once('.').map(|(member, _)| member);
    assert_eq!(Some(group.members[0].session.as_str()), holding);
    assert_eq!(group.state, GroupState::Stable);
    assert_eq!(group.members[0].peer, "10.0.0.7:1");
    assert_eq!(
        group.members[0].partitions,
        [("visits".to_owned(), 0), ("visits".to_owned(), 1)]
    );
    let behind: Vec<_> = group
        .offsets
        .iter()
        .map(|at| {
            (
                at.partition,
                at.committed_offset,
                at.high_watermark,
                at.oldest_uncommitted_ms,
            )
        })
        .collect();
    assert_eq!(
        behind,
        [
            (0, Some(1), 3, Some(START_MS + 1000)),
            (1, Some(0), 0, None)
        ]
    );
    assert!(matches!(
        broker.wait(broker.broker.describe_group("audit")),
        Err(Error::GroupNotFound { group }) if group == "audit"
    ));
}

#[test]
fn groups_are_listed_by_name_whether_they_have_members_or_offsets() {
    let (_machine, broker) = visits(1);
    let of = |group: &str| Cursor {
        group: group.to_owned(),
        ..bare(0, 0)
    };
    broker.commit(&[of("a"), of("c"), of("e")]).unwrap();
    let in_group = |group: &str| SubscribeRequest {
        group: Some(group.to_owned()),
        ..read("visits")
    };
    let _b = broker.subscribe(in_group("b"));
    let _c = broker.subscribe(in_group("c"));
    let list = |after, limit| -> Vec<(String, usize)> {
        let show = |group: GroupInfo| (group.name, group.members.len());
        broker
            .broker
            .list_groups(after, limit)
            .into_iter()
            .map(show)
            .collect()
    };
    let group = |name: &str, members| (name.to_owned(), members);
    let all = [group("a", 0), group("b", 1), group("c", 1), group("e", 0)];
    assert_eq!(list(None, 10), all);
    assert_eq!(list(None, 2), all[..2]);
    assert_eq!(list(Some("b"), 2), all[2..]);
}
