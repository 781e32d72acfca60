//! The state machine as a story: commands, and what there is after each.

use super::*;
use crate::internal::StateMachine;

const VISITS: u128 = 1;
const ORDERS: u128 = 2;
const VISITS_AGAIN: u128 = 3;

fn id(id: u128) -> Vec<u8> {
    Uuid::from_u128(id).as_bytes().to_vec()
}

fn create(name: &str, topic: u128, partition_count: u32) -> MetadataCommand {
    CreateTopic {
        name: name.to_owned(),
        id: id(topic),
        created_ms: 1_000,
        partition_count,
        settings: TopicSettings::default(),
    }
    .into()
}

fn update(topic: u128, partition_count: u32, retention_ms: Option<i64>) -> MetadataCommand {
    UpdateTopic {
        id: id(topic),
        partition_count,
        settings: TopicSettings {
            retention_ms,
            ..TopicSettings::default()
        },
    }
    .into()
}

fn delete(topic: u128) -> MetadataCommand {
    DeleteTopic { id: id(topic) }.into()
}

/// Every topic in a line, by name, and the next id.
fn show(state: &MetadataState) -> String {
    let mut lines: Vec<String> = state
        .topics()
        .map(|topic| {
            let ids: Vec<_> = topic.partition_ids().map(PartitionId::get).collect();
            let keeps = topic.info().spec.retention_ms;
            format!("{} {ids:?} keeps {keeps:?}", topic.name)
        })
        .collect();
    lines.sort();
    lines.push(format!("next {}", state.next_partition().get()));
    lines.join("; ")
}

fn story() -> [(MetadataCommand, &'static str); 6] {
    [
        (
            create("visits", VISITS, 2),
            "visits [16, 17] keeps None; next 18",
        ),
        (
            create("orders", ORDERS, 1),
            "orders [18] keeps None; visits [16, 17] keeps None; next 19",
        ),
        (
            update(VISITS, 4, Some(60_000)),
            "orders [18] keeps None; visits [16, 17, 19, 20] keeps Some(60000); next 21",
        ),
        (
            update(VISITS, 4, None),
            "orders [18] keeps None; visits [16, 17, 19, 20] keeps None; next 21",
        ),
        (delete(VISITS), "orders [18] keeps None; next 21"),
        (
            create("visits", VISITS_AGAIN, 1),
            "orders [18] keeps None; visits [21] keeps None; next 22",
        ),
    ]
}

#[test]
fn partition_ids_are_given_out_once_whatever_happens_to_topics() {
    let mut state = MetadataState::default();
    for (command, after) in story() {
        state.apply(&command).expect("the story is consistent");
        assert_eq!(show(&state), after);
    }
}

#[test]
fn a_snapshot_stands_for_the_commands_before_it() {
    let mut state = MetadataState::default();
    for (command, _) in story() {
        state.apply(&command).expect("the story is consistent");
        let restored = MetadataState::restore(state.snapshot()).expect("it is a snapshot");
        assert_eq!(restored, state);
    }
}

#[test]
fn a_command_that_cannot_follow_is_refused_and_changes_nothing() {
    let mut state = MetadataState::default();
    state
        .apply(&create("visits", VISITS, 2))
        .expect("the first");
    let before = state.clone();
    let unknown_acks = TopicSettings {
        default_acks: 9,
        ..TopicSettings::default()
    };
    let impossible = [
        create("visits", ORDERS, 1),
        create("orders", VISITS, 1),
        create("orders", ORDERS, 0),
        update(VISITS, 1, None),
        update(ORDERS, 1, None),
        delete(ORDERS),
        CreateTopic {
            name: "orders".to_owned(),
            id: vec![1, 2, 3],
            partition_count: 1,
            ..CreateTopic::default()
        }
        .into(),
        UpdateTopic {
            id: id(VISITS),
            partition_count: 2,
            settings: unknown_acks,
        }
        .into(),
        MetadataCommand::default(),
    ];
    for command in impossible {
        assert!(state.apply(&command).is_err(), "{command:?}");
        assert_eq!(state, before, "{command:?}");
    }
}

#[test]
fn a_snapshot_that_contradicts_itself_is_refused() {
    let mut state = MetadataState::default();
    state
        .apply(&create("visits", VISITS, 2))
        .expect("the first");
    let good = state.snapshot();

    let mut ids_of_nobody = good.clone();
    ids_of_nobody.next_partition = 17;
    let mut twice = good.clone();
    twice.topics.push(good.topics[0].clone());
    let mut empty = good;
    empty.topics[0].partitions.clear();
    for snapshot in [ids_of_nobody, twice, empty] {
        assert!(MetadataState::restore(snapshot).is_err());
    }
}
