//! Commits, and how far each group is after them.

use super::*;
use crate::internal::StateMachine;

const VISITS: Uuid = Uuid::from_u128(1);
const ORDERS: Uuid = Uuid::from_u128(2);

fn commit(group: &str, topic: Uuid, offsets: &[(u32, u64)]) -> OffsetsCommand {
    OffsetsCommand {
        commits: vec![CommitSet {
            group: group.to_owned(),
            topic_id: topic.as_bytes().to_vec(),
            offsets: offsets
                .iter()
                .map(|&(partition, offset)| PartitionOffset { partition, offset })
                .collect(),
        }],
    }
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
    let mut state = OffsetsState::default();
    assert!(state.apply(&bad).is_err());
    assert_eq!(state, OffsetsState::default());
}
