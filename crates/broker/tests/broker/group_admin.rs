//! Looking after groups: how far they are, setting that, forgetting it.

use std::time::Duration;

use flowstone_broker::{
    Cursor, Error, ResetOffsets, ResetTarget, ResetTo, Start, SubscribeRequest,
};

use crate::harness::{Driven, Machine, START_MS, at, read};

/// A topic of two partitions: four records with offsets 0 to 3 in the first, a second apart, of which
/// `trimmed` are gone, and none in the other.
pub(crate) fn visits(trimmed: u64) -> (Machine, Driven) {
    let machine = Machine::new(1);
    let broker = machine.open();
    broker.create("visits", 2);
    for value in ["a", "b", "c", "d"] {
        broker.put("visits", 0, value);
        machine.clock.advance(Duration::from_secs(1));
    }
    broker
        .wait(broker.broker.trim_partition("visits", 0, trimmed))
        .unwrap();
    (machine, broker)
}

pub(crate) fn cursor(group: &str, partition: u32, offset: u64) -> Cursor {
    Cursor {
        group: group.to_owned(),
        ..at("visits", partition, offset)
    }
}

pub(crate) fn member_of(group: &str, topic: &str) -> SubscribeRequest {
    SubscribeRequest {
        group: Some(group.to_owned()),
        ..read(topic)
    }
}

/// What a group has committed of the topic, by partition, or that nothing is known of it.
pub(crate) fn committed(broker: &Driven, group: &str) -> Option<[Option<u64>; 2]> {
    match broker.wait(broker.broker.describe_group(group)) {
        Ok(found) => {
            let mut offsets = found.offsets.iter().map(|at| at.committed_offset);
            let both = [offsets.next().unwrap(), offsets.next().unwrap()];
            assert_eq!(offsets.next(), None);
            Some(both)
        }
        Err(Error::GroupNotFound { .. }) => None,
        Err(other) => panic!("the group should be described, not {other:?}"),
    }
}

pub(crate) fn to(target: ResetTarget) -> ResetOffsets {
    ResetOffsets {
        group: "billing".to_owned(),
        topic: "visits".to_owned(),
        partitions: Vec::new(),
        target,
        validate_only: false,
        force: false,
    }
}

pub(crate) fn reset(broker: &Driven, request: ResetOffsets) -> Result<ResetTo, Error> {
    broker.wait(broker.broker.reset_offsets(request))
}

pub(crate) fn delete(broker: &Driven, group: &str) -> Result<(), Error> {
    broker.wait(broker.broker.delete_group(group))
}

fn offsets(cursors: &[Cursor]) -> Vec<(u32, u64)> {
    cursors.iter().map(|at| (at.partition, at.offset)).collect()
}

fn refused_field<T: std::fmt::Debug>(result: Result<T, Error>) -> (String, String) {
    match result {
        Err(Error::InvalidField { field, detail }) => (field, detail),
        other => panic!("a field should be refused, not {other:?}"),
    }
}

fn active<T>(result: Result<T, Error>) -> bool {
    matches!(result, Err(Error::GroupActive { group }) if group == "billing")
}

fn not_found<T>(result: Result<T, Error>, name: &str) -> bool {
    matches!(result, Err(Error::GroupNotFound { group }) if group == name)
}

#[test]
fn a_reset_goes_to_every_kind_of_place() {
    let places = [
        (Start::Earliest, 1),
        (Start::Latest, 4),
        (Start::TimeMs(START_MS + 2_000), 2),
        (Start::TimeMs(START_MS + 2_001), 3),
        (Start::TimeMs(START_MS + 60_000), 4),
        (Start::Last(2), 2),
        (Start::Last(100), 1),
    ];
    for (place, expected) in places {
        let (machine, broker) = visits(1);
        broker.commit(&[cursor("billing", 0, 3)]).unwrap();
        let told = reset(&broker, to(ResetTarget::To(place.clone()))).unwrap();
        assert_eq!(offsets(&told.before), [(0, 3)], "{place:?}");
        assert_eq!(offsets(&told.after), [(0, expected), (1, 0)], "{place:?}");
        let id = broker.broker.describe_topic("visits").unwrap().0.id;
        for told in told.before.iter().chain(&told.after) {
            let Cursor {
                group,
                session,
                topic,
                topic_id,
                ..
            } = told;
            assert_eq!((group.as_str(), topic.as_str()), ("billing", "visits"));
            assert_eq!((session.as_str(), *topic_id), ("", Some(id)));
        }
        machine.disk.power_cut();
        drop(broker);
        let broker = machine.open();
        let both = Some([Some(expected), Some(0)]);
        assert_eq!(committed(&broker, "billing"), both, "{place:?}");
    }
}

#[test]
fn an_offset_that_a_partition_does_not_have_is_refused_by_name() {
    let (_machine, broker) = visits(1);
    let only = |partitions: &[u32], offset| ResetOffsets {
        partitions: partitions.to_vec(),
        ..to(ResetTarget::To(Start::Offset(offset)))
    };
    let told = reset(&broker, only(&[0, 0], 2)).unwrap();
    assert_eq!(offsets(&told.after), [(0, 2)]);
    for (partitions, offset, told) in [
        (&[0][..], 0, "partition 0 has no offset 0: it starts at 1"),
        (
            &[0],
            5,
            "partition 0 has no offset 5: it starts at 1 and ends at 4",
        ),
        (
            &[],
            2,
            "partition 1 has no offset 2: it starts at 0 and ends at 0",
        ),
    ] {
        let (field, detail) = refused_field(reset(&broker, only(partitions, offset)));
        assert_eq!(field, "to.offset");
        assert!(detail.contains(told), "{detail}");
    }
    assert_eq!(reset(&broker, only(&[0], 4)).unwrap().after[0].offset, 4);
    assert_eq!(committed(&broker, "billing"), Some([Some(4), None]));
    assert!(matches!(
        reset(&broker, only(&[0, 2], 2)),
        Err(Error::PartitionNotFound { partition: 2, .. })
    ));
}

#[test]
fn a_shift_stays_where_there_are_records_and_holds_for_what_is_committed() {
    let (_machine, broker) = visits(1);
    let shift = |by| reset(&broker, to(ResetTarget::ShiftBy(by)));
    assert!(not_found(shift(1), "billing"), "nothing is there to shift");
    broker.create("orders", 1);
    let elsewhere = Cursor {
        topic: "orders".to_owned(),
        ..cursor("billing", 0, 0)
    };
    broker.commit(&[elsewhere]).unwrap();
    assert_eq!(refused_field(shift(1)).0, "shift_by");
    broker.commit(&[cursor("billing", 0, 3)]).unwrap();
    for (by, after) in [
        (-1, 2),
        (1, 3),
        (i64::MIN, 1),
        (i64::MAX, 4),
        (0, 4),
        (-4, 1),
    ] {
        let told = shift(by).unwrap();
        assert_eq!(offsets(&told.after), [(0, after)], "by {by}");
        assert_eq!(told.before.len(), 1);
    }
}

#[test]
fn a_copy_takes_what_the_other_group_has_committed_and_leaves_the_rest() {
    let (_machine, broker) = visits(0);
    let copy = |from: &str| reset(&broker, to(ResetTarget::CopyFrom(from.to_owned())));
    assert!(not_found(copy("audit"), "audit"));
    assert_eq!(refused_field(copy("billing")).0, "copy_from_group");
    broker
        .commit(&[cursor("audit", 0, 2), cursor("billing", 0, 4)])
        .unwrap();
    broker.commit(&[cursor("billing", 1, 0)]).unwrap();
    let told = copy("audit").unwrap();
    assert_eq!(offsets(&told.before), [(0, 4)]);
    assert_eq!(offsets(&told.after), [(0, 2)]);
    assert_eq!(committed(&broker, "billing"), Some([Some(2), Some(0)]));
    let other_partition = ResetOffsets {
        partitions: vec![1],
        ..to(ResetTarget::CopyFrom("audit".to_owned()))
    };
    assert_eq!(
        refused_field(reset(&broker, other_partition)).0,
        "copy_from_group"
    );
}

#[test]
fn a_dry_run_says_the_same_and_changes_nothing() {
    let (machine, broker) = visits(0);
    broker.commit(&[cursor("billing", 0, 3)]).unwrap();
    let dry = ResetOffsets {
        validate_only: true,
        ..to(ResetTarget::To(Start::Last(3)))
    };
    let syncs = machine.syncs();
    let told = reset(&broker, dry.clone()).unwrap();
    assert_eq!(machine.syncs(), syncs);
    assert_eq!(committed(&broker, "billing"), Some([Some(3), None]));
    let done = reset(
        &broker,
        ResetOffsets {
            validate_only: false,
            ..dry.clone()
        },
    );
    assert_eq!(done, Ok(told));
    assert_eq!(committed(&broker, "billing"), Some([Some(1), Some(0)]));
    let _member = broker.subscribe(member_of("billing", "visits"));
    assert!(active(reset(&broker, dry)), "it says that it could not");
}

#[test]
fn what_is_there_already_is_not_written_again() {
    let (machine, broker) = visits(0);
    reset(&broker, to(ResetTarget::To(Start::Latest))).unwrap();
    let syncs = machine.syncs();
    let told = reset(&broker, to(ResetTarget::To(Start::Latest))).unwrap();
    assert_eq!(machine.syncs(), syncs);
    assert_eq!(told.before, told.after);
}

#[test]
fn after_a_reset_members_read_from_there_and_commits_rise_again() {
    let (machine, broker) = visits(0);
    broker.commit(&[cursor("billing", 0, 4)]).unwrap();
    reset(&broker, to(ResetTarget::ShiftBy(-2))).unwrap();
    let mut reader = broker.subscribe(SubscribeRequest {
        max_batch_bytes: 1,
        ..member_of("billing", "visits")
    });
    reader.assignment();
    let behind = reader.cursor();
    assert_eq!(behind.offset, 3);
    broker.commit(&[behind]).unwrap();
    assert_eq!(committed(&broker, "billing"), Some([Some(3), None]));
    drop(reader);
    machine.disk.power_cut();
    drop(broker);
    let broker = machine.open();
    assert_eq!(committed(&broker, "billing"), Some([Some(3), None]));
}

#[test]
fn a_group_with_members_is_neither_reset_nor_deleted() {
    let (_machine, broker) = visits(0);
    let reader = broker.subscribe(member_of("billing", "visits"));
    let earliest = to(ResetTarget::To(Start::Earliest));
    assert!(active(reset(&broker, earliest.clone())));
    assert!(active(delete(&broker, "billing")));
    broker.create("orders", 1);
    let of_orders = ResetOffsets {
        topic: "orders".to_owned(),
        ..earliest.clone()
    };
    assert!(
        active(reset(&broker, of_orders)),
        "it is a matter of the whole group"
    );
    drop(reader);
    reset(&broker, earliest).unwrap();
    delete(&broker, "billing").unwrap();
}

#[test]
fn what_cannot_be_reset_is_refused() {
    let (_machine, broker) = visits(0);
    let committed_place = to(ResetTarget::To(Start::Committed));
    assert_eq!(
        refused_field(reset(&broker, committed_place)).0,
        "to.anchor"
    );
    let earliest = to(ResetTarget::To(Start::Earliest));
    let nobody = ResetOffsets {
        group: String::new(),
        ..earliest.clone()
    };
    assert_eq!(refused_field(reset(&broker, nobody)).0, "group");
    let nothing = ResetOffsets {
        topic: "orders".to_owned(),
        ..earliest
    };
    assert!(matches!(
        reset(&broker, nothing),
        Err(Error::TopicNotFound { .. })
    ));
    assert_eq!(committed(&broker, "billing"), None);
}

#[test]
fn a_reset_keeps_to_the_limit_of_committed_offsets() {
    let machine = Machine::new(1);
    let mut config = machine.config();
    config.limits.max_committed_offsets = 2;
    let broker = machine.open_with(config).unwrap();
    broker.create("visits", 2);
    broker.commit(&[cursor("audit", 0, 0)]).unwrap();
    let earliest = to(ResetTarget::To(Start::Earliest));
    assert!(matches!(
        reset(&broker, earliest.clone()),
        Err(Error::LimitExceeded {
            limit: "max_committed_offsets",
            value: 2
        })
    ));
    delete(&broker, "audit").unwrap();
    reset(&broker, earliest).unwrap();
}

#[test]
fn a_deleted_group_stays_deleted() {
    let (machine, broker) = visits(0);
    assert!(not_found(delete(&broker, "billing"), "billing"));
    assert_eq!(refused_field(delete(&broker, "")).0, "group");
    broker
        .commit(&[cursor("billing", 0, 3), cursor("audit", 0, 1)])
        .unwrap();
    delete(&broker, "billing").unwrap();
    assert!(not_found(delete(&broker, "billing"), "billing"));
    machine.disk.power_cut();
    drop(broker);
    let broker = machine.open();
    assert_eq!(committed(&broker, "billing"), None);
    assert_eq!(committed(&broker, "audit"), Some([Some(1), None]));
    let mut reader = broker.subscribe(member_of("billing", "visits"));
    reader.assignment();
    assert_eq!(reader.batch().2, ["a", "b", "c", "d"], "it begins anew");
}

#[test]
fn groups_tell_of_all_partitions_of_their_topics_and_how_much_is_left() {
    let (_machine, broker) = visits(1);
    broker.create("orders", 1);
    broker.put("orders", 0, "x");
    broker.commit(&[cursor("billing", 0, 0)]).unwrap();
    let _member = broker.subscribe(member_of("billing", "orders"));
    let told = broker
        .wait(broker.broker.describe_group("billing"))
        .unwrap();
    let told: Vec<_> = told
        .offsets
        .iter()
        .map(|at| {
            let place = (at.topic.as_str(), at.partition, at.committed_offset);
            (place, at.lag, at.oldest_uncommitted_ms)
        })
        .collect();
    assert_eq!(
        told,
        [
            (("orders", 0, None), 1, Some(START_MS + 4_000)),
            (("visits", 0, Some(0)), 3, Some(START_MS + 1_000)),
            (("visits", 1, None), 0, None),
        ],
        "of a member without commits, of commits without a member, and from the log start"
    );
}

#[test]
fn a_forced_reset_ends_the_sessions_and_who_joins_begins_there() {
    let (_machine, broker) = visits(0);
    let mut member = broker.subscribe(SubscribeRequest {
        max_batch_bytes: 1,
        ..member_of("billing", "visits")
    });
    member.assignment();
    let (first, second) = (member.cursor(), member.cursor());
    assert_eq!(broker.commit(&[first]), Ok(vec![]));
    let request = ResetOffsets {
        force: true,
        ..to(ResetTarget::To(Start::Offset(0)))
    };
    let request = ResetOffsets {
        partitions: vec![0],
        ..request
    };
    let done = broker.wait(broker.broker.reset_offsets(request)).unwrap();
    assert_eq!(done.after[0].offset, 0);
    assert!(matches!(
        member.next(),
        Some(Err(Error::StaleSession { .. }))
    ));
    assert!(matches!(
        broker.commit(&[second]),
        Err(Error::StaleSession { .. })
    ));
    let mut next = broker.subscribe(member_of("billing", "visits"));
    next.assignment();
    assert_eq!(next.batch().2, ["a", "b", "c", "d"]);
}

#[test]
fn who_joins_during_a_reset_waits_for_its_partitions() {
    let (_machine, broker) = visits(0);
    broker.commit(&[cursor("billing", 0, 3)]).unwrap();
    let request = ResetOffsets {
        partitions: vec![0],
        ..to(ResetTarget::To(Start::Offset(1)))
    };
    let mut reset = Box::pin(broker.broker.reset_offsets(request));
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    assert!(reset.as_mut().poll(&mut context).is_pending());
    let mut joining = Box::pin(broker.broker.subscribe(member_of("billing", "visits")));
    let std::task::Poll::Ready(Ok(mut member)) = joining.as_mut().poll(&mut context) else {
        panic!("a member may always join");
    };
    let mut told = Box::pin(member.next());
    assert!(told.as_mut().poll(&mut context).is_pending(), "not yet");
    drop(told);
    broker.wait(reset).unwrap();
    assert!(broker.wait(member.next()).is_some_and(|told| told.is_ok()));
    let Some(Ok(flowstone_broker::Delivery::Records { chunks, .. })) = broker.wait(member.next())
    else {
        panic!("records should come");
    };
    assert_eq!(crate::harness::texts(&chunks), ["b", "c", "d"]);
}
