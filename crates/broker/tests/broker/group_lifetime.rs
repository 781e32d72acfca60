//! How long groups and what they have committed are kept, and what a crash in between leaves of them.

use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use flowstone_broker::{Committed, Cursor, ResetOffsets, ResetTarget, Start};

use crate::group_admin::{committed, cursor, delete, member_of, reset, to, visits};
use crate::harness::Driven;

#[test]
fn groups_are_kept_for_ever_unless_a_time_is_set() {
    let (machine, broker) = visits(0);
    broker.commit(&[cursor("billing", 0, 1)]).unwrap();
    for _ in 0..3 {
        machine.clock.advance(Duration::from_secs(1 << 30));
        broker.broker.run_retention();
        while broker.broker.run_pending() {}
    }
    assert!(committed(&broker, "billing").is_some());
}

#[test]
fn a_group_that_nobody_uses_is_forgotten_after_the_time_that_is_set() {
    const HOUR: Duration = Duration::from_secs(3_600);
    let (machine, broker) = visits(0);
    broker.shutdown();
    let mut config = machine.config();
    config.groups.offsets_retention_ms = 3_600_000;
    let broker = machine.open_with(config.clone()).unwrap();
    let look = |broker: &Driven| {
        broker.broker.run_retention();
        while broker.broker.run_pending() {}
        let groups = broker.broker.list_groups(None, 10).into_iter();
        groups.map(|group| group.name).collect::<Vec<_>>()
    };
    let all = ["idle", "member", "reset", "used"];
    for group in all {
        broker.commit(&[cursor(group, 0, 1)]).unwrap();
    }
    let member = broker.subscribe(member_of("member", "visits"));
    assert_eq!(look(&broker), all);
    machine.clock.advance(HOUR - Duration::from_millis(1));
    assert_eq!(look(&broker), all, "a moment too early");
    // A commit that changes nothing is a sign of life, too.
    broker.commit(&[cursor("used", 0, 1)]).unwrap();
    let again = ResetOffsets {
        group: "reset".to_owned(),
        ..to(ResetTarget::To(Start::Latest))
    };
    reset(&broker, again).unwrap();
    // One that comes and goes between two looks as well.
    drop(broker.subscribe(member_of("idle", "visits")));
    machine.clock.advance(Duration::from_millis(1));
    assert_eq!(look(&broker), all);
    drop(member);
    machine.clock.advance(HOUR - Duration::from_millis(1));
    broker.commit(&[cursor("used", 0, 2)]).unwrap();
    assert_eq!(look(&broker), all);
    machine.clock.advance(Duration::from_millis(1));
    assert_eq!(look(&broker), ["member", "used"]);

    // A start counts anew, and what was forgotten stays so.
    machine.disk.power_cut();
    drop(broker);
    let broker = machine.open_with(config).unwrap();
    assert_eq!(look(&broker), ["member", "used"]);
    machine.clock.advance(HOUR - Duration::from_millis(1));
    assert_eq!(look(&broker), ["member", "used"]);
    machine.clock.advance(Duration::from_millis(1));
    assert_eq!(look(&broker), [""; 0]);
}

#[test]
fn offsets_of_a_deleted_topic_are_gone_for_good() {
    let (machine, broker) = visits(0);
    broker.create("orders", 1);
    let of_orders = Cursor {
        topic: "orders".to_owned(),
        ..cursor("audit", 0, 0)
    };
    broker
        .commit(&[cursor("billing", 0, 3), cursor("audit", 0, 1), of_orders])
        .unwrap();
    broker.wait(broker.broker.delete_topic("visits")).unwrap();
    let names = |broker: &Driven| -> Vec<String> {
        let groups = broker.broker.list_groups(None, 10);
        groups.into_iter().map(|group| group.name).collect()
    };
    assert_eq!(names(&broker), ["audit"]);
    broker.create("visits", 2);
    machine.disk.power_cut();
    drop(broker);
    let broker = machine.open();
    assert_eq!(names(&broker), ["audit"]);
    let told = broker.wait(broker.broker.describe_group("audit")).unwrap();
    assert_eq!(told.offsets.len(), 1);
    assert_eq!(told.offsets[0].topic, "orders");
}

#[test]
fn a_commit_on_its_way_while_its_topic_is_deleted_leaves_nothing() {
    let (_machine, broker) = visits(0);
    let commit = broker
        .broker
        .commit_offsets(vec![cursor("billing", 0, 3)], Vec::new());
    let mut commit = Box::pin(commit);
    let waker = std::task::Waker::noop();
    let polled = commit
        .as_mut()
        .poll(&mut std::task::Context::from_waker(waker));
    assert!(polled.is_pending(), "it waits for its sync");
    broker.wait(broker.broker.delete_topic("visits")).unwrap();
    assert_eq!(broker.wait(commit), Ok(Committed::default()));
    assert_eq!(broker.broker.list_groups(None, 10), []);
}

/// What a group has committed of both partitions; `None` if nothing is known of it.
type Offsets = Option<[Option<u64>; 2]>;

/// Does something on a machine whose disk fails from the nth operation on, cuts the power, and tells what
/// a new process finds of both groups, and whether it was acknowledged, for every n up to the first where
/// nothing fails any more.
fn cut_at_every_operation(work: impl Fn(&Driven) -> bool) -> Vec<(bool, [Offsets; 2])> {
    let mut found = Vec::new();
    for nth in 0..1_000 {
        let (machine, broker) = visits(0);
        broker
            .commit(&[cursor("billing", 0, 3), cursor("audit", 0, 1)])
            .unwrap();
        let failed = machine.fail_behind(nth);
        let acknowledged = work(&broker);
        machine.disk.clear_faults();
        machine.disk.power_cut();
        drop(broker);
        machine.disk.power_cut();
        let broker = machine.open();
        let both = ["billing", "audit"].map(|group| committed(&broker, group));
        found.push((acknowledged, both));
        if !failed.load(Relaxed) {
            assert!(nth > 0, "nothing was done");
            return found;
        }
    }
    panic!("it never comes to an end");
}

#[test]
fn a_reset_that_is_cut_off_is_done_or_not() {
    let done = Some([Some(0), Some(0)]);
    let not_done = Some([Some(3), None]);
    let found = cut_at_every_operation(|broker| {
        reset(broker, to(ResetTarget::To(Start::Earliest))).is_ok()
    });
    assert!(found.last().unwrap().0, "in the end it is done");
    for (acknowledged, [billing, audit]) in found {
        assert!(billing == done || billing == not_done && !acknowledged);
        assert_eq!(audit, Some([Some(1), None]));
    }
}

#[test]
fn a_deletion_that_is_cut_off_is_done_or_not() {
    let found = cut_at_every_operation(|broker| delete(broker, "billing").is_ok());
    assert!(found.last().unwrap().0, "in the end it is done");
    for (acknowledged, [billing, audit]) in found {
        assert!(billing.is_none() || billing == Some([Some(3), None]) && !acknowledged);
        assert_eq!(audit, Some([Some(1), None]));
    }
}
