//! Commits, and how far each group is after them.

use super::*;
use crate::internal::StateMachine;

const VISITS: Uuid = Uuid::from_u128(1);
const ORDERS: Uuid = Uuid::from_u128(2);

fn commit(group: &str, topic: Uuid, offsets: &[(u32, u64)]) -> OffsetsCommand {
    OffsetsCommand {
        commits: reset(group, topic, offsets).resets,
        ..OffsetsCommand::default()
    }
}

fn reset(group: &str, topic: Uuid, offsets: &[(u32, u64)]) -> OffsetsCommand {
    let offsets = offsets
        .iter()
        .map(|&(partition, offset)| PartitionOffset { partition, offset })
        .collect();
    OffsetsCommand::reset(group.to_owned(), topic, offsets)
}

fn state(commands: &[OffsetsCommand]) -> OffsetsState {
    let mut state = OffsetsState::default();
    for command in commands {
        state.apply(command).expect("commits always apply");
    }
    state
}

#[test]
fn offsets_only_rise_and_in_whatever_order_commits_come() {
    let commits = [
        commit("billing", VISITS, &[(0, 5), (1, 7)]),
        commit("billing", VISITS, &[(0, 3)]),
        commit("billing", VISITS, &[(1, 8)]),
    ];
    let mut backwards = commits.clone();
    backwards.reverse();
    for state in [state(&commits), state(&backwards)] {
        assert_eq!(state.committed("billing", VISITS, 0), Some(5));
        assert_eq!(state.committed("billing", VISITS, 1), Some(8));
        assert_eq!(state.committed("billing", VISITS, 2), None);
        assert_eq!(state.committed("billing", ORDERS, 0), None);
        assert_eq!(state.count(), 2);
    }
}

#[test]
fn offset_zero_is_a_commit() {
    let state = state(&[commit("billing", VISITS, &[(0, 0)])]);
    assert_eq!(state.committed("billing", VISITS, 0), Some(0));
    assert_eq!(state.count(), 1);
}

#[test]
fn a_snapshot_holds_every_group_and_topic() {
    let state = state(&[
        commit("billing", VISITS, &[(0, 5), (9, 1)]),
        commit("billing", ORDERS, &[(0, 2)]),
        commit("audit", VISITS, &[(0, 1)]),
    ]);
    assert_eq!(OffsetsState::restore(state.snapshot()), Ok(state));
}

#[test]
fn what_belongs_to_a_deleted_topic_is_forgotten() {
    let mut state = state(&[
        commit("billing", VISITS, &[(0, 5)]),
        commit("billing", ORDERS, &[(0, 2), (1, 2)]),
        commit("audit", VISITS, &[(0, 1)]),
    ]);
    state.retain_topics(|topic| topic == ORDERS);
    assert_eq!(state.names_after(None).collect::<Vec<_>>(), ["billing"]);
    assert_eq!(state.count(), 2);
    assert_eq!(state.committed("billing", VISITS, 0), None);
}

#[test]
fn groups_are_listed_from_the_one_after() {
    let state = state(&[
        commit("a", VISITS, &[(0, 1)]),
        commit("b", VISITS, &[(0, 1)]),
        commit("c", VISITS, &[(0, 1)]),
    ]);
    assert_eq!(state.names_after(Some("a")).collect::<Vec<_>>(), ["b", "c"]);
}

#[test]
fn a_topic_id_of_another_length_is_refused_and_changes_nothing() {
    let mut bad = commit("billing", VISITS, &[(0, 5)]);
    bad.commits.push(CommitSet {
        topic_id: vec![1],
        ..bad.commits[0].clone()
    });
    let mut bad_reset = reset("billing", VISITS, &[(0, 5)]);
    bad_reset.resets.push(bad.commits[1].clone());
    let bad_topic = OffsetsCommand {
        deleted_groups: vec!["audit".to_owned()],
        deleted_topics: vec![vec![1; 17]],
        ..OffsetsCommand::default()
    };
    let before = state(&[commit("audit", VISITS, &[(0, 1)])]);
    for bad in [bad, bad_reset, bad_topic] {
        let mut state = before.clone();
        assert!(state.apply(&bad).is_err());
        assert_eq!(state, before);
    }
}

#[test]
fn a_reset_also_goes_back_and_commits_rise_from_there() {
    let mut commands = vec![
        commit("billing", VISITS, &[(0, 5), (1, 7)]),
        reset("billing", VISITS, &[(0, 2), (3, 9)]),
    ];
    let there = |state: &OffsetsState| -> Vec<Option<u64>> {
        (0..4)
            .map(|partition| state.committed("billing", VISITS, partition))
            .collect()
    };
    let after = state(&commands);
    assert_eq!(there(&after), [Some(2), Some(7), None, Some(9)]);
    assert_eq!(after.count(), 3);
    commands.push(commit("billing", VISITS, &[(0, 3), (3, 8)]));
    assert_eq!(
        there(&state(&commands)),
        [Some(3), Some(7), None, Some(9)],
        "commits rise from where the reset has put it"
    );
    // One command with both, as no snapshot and no broker has it today: the commit counts last.
    let both = OffsetsCommand {
        commits: commit("billing", VISITS, &[(0, 4)]).commits,
        ..reset("billing", VISITS, &[(0, 1)])
    };
    commands.push(both);
    assert_eq!(there(&state(&commands))[0], Some(4));
}

#[test]
fn a_partition_that_stands_twice_in_one_command_is_counted_once() {
    let twice = [(7, 3), (2, 1), (7, 9), (7, 4)];
    let raised = state(&[commit("billing", VISITS, &twice)]);
    assert_eq!(raised.committed("billing", VISITS, 7), Some(9));
    let set = state(&[reset("billing", VISITS, &twice)]);
    assert_eq!(
        set.committed("billing", VISITS, 7),
        Some(4),
        "the last counts"
    );
    assert_eq!((raised.count(), set.count()), (2, 2));
}

#[test]
fn a_deleted_group_is_gone_with_all_its_topics_and_may_begin_anew() {
    let mut commands = vec![
        commit("billing", VISITS, &[(0, 5), (1, 1)]),
        commit("billing", ORDERS, &[(0, 2)]),
        commit("audit", VISITS, &[(0, 1)]),
        OffsetsCommand::delete_groups(vec!["billing".to_owned(), "nobody".to_owned()]),
    ];
    let gone = state(&commands);
    assert_eq!(gone.names_after(None).collect::<Vec<_>>(), ["audit"]);
    assert_eq!(gone.count(), 1);
    commands.push(commit("billing", VISITS, &[(0, 2)]));
    let anew = state(&commands);
    assert_eq!(anew.committed("billing", VISITS, 0), Some(2));
    assert_eq!(anew.count(), 2);
}

#[test]
fn a_deleted_topic_is_forgotten_by_a_command_too() {
    let commands = [
        commit("billing", VISITS, &[(0, 5)]),
        commit("billing", ORDERS, &[(0, 2)]),
        commit("audit", VISITS, &[(0, 1)]),
        OffsetsCommand::delete_topic(VISITS),
    ];
    assert!(state(&commands[..3]).has_topic(VISITS));
    let after = state(&commands);
    assert!(!after.has_topic(VISITS) && after.has_topic(ORDERS));
    assert_eq!(after.names_after(None).collect::<Vec<_>>(), ["billing"]);
    assert_eq!(after.count(), 1);
}

#[test]
fn a_command_of_version_1_reads_as_it_was_written() {
    // commits { group: "a", topic_id: 16 bytes, offsets { partition: 1, offset: 5 } }
    let mut bytes = vec![0x0A, 27, 0x0A, 1, b'a', 0x12, 16];
    bytes.extend([0; 15]);
    bytes.extend([1, 0x1A, 4, 0x08, 1, 0x10, 5]);
    let command: OffsetsCommand = prost::Message::decode(&*bytes).expect("it is a command");
    assert_eq!(command, commit("a", VISITS, &[(1, 5)]));
    assert_eq!(prost::Message::encode_to_vec(&command), bytes);
}
