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
        first_partition: 0,
    }
    .into()
}

/// A topic that says itself which ids it got.
fn create_at(name: &str, topic: u128, partition_count: u32, first: u64) -> MetadataCommand {
    let MetadataCommand {
        kind: Some(Kind::Create(command)),
    } = create(name, topic, partition_count)
    else {
        unreachable!("it makes a topic");
    };
    CreateTopic {
        first_partition: first,
        ..command
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
        first_partition: 0,
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
            first_partition: 0,
        }
        .into(),
        create_at("orders", ORDERS, 1, 40),
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

/// What is left out, and what there is after the rest.
fn after_loss(commands: &[MetadataCommand]) -> (Vec<usize>, String) {
    let mut state = MetadataState::default();
    let mut left_out = Vec::new();
    for (number, command) in commands.iter().enumerate() {
        let before = state.clone();
        if state.apply_after_loss(command).is_err() {
            assert_eq!(state, before, "{command:?}");
            left_out.push(number);
        }
    }
    (left_out, show(&state))
}

#[test]
fn after_a_loss_no_topic_gets_the_ids_of_another() {
    // A topic of 4 partitions was made before this one, and that is lost.
    let found = after_loss(&[create_at("orders", ORDERS, 2, 20)]);
    assert_eq!(
        found,
        (vec![], "orders [20, 21] keeps None; next 22".to_owned())
    );
    // An early version did not say which ids there were: better no topic than another's records.
    let found = after_loss(&[create("orders", ORDERS, 2), delete(ORDERS)]);
    assert_eq!(found, (vec![0, 1], "next 16".to_owned()));
    // The topic of this name was deleted, and that is lost.
    let found = after_loss(&[
        create_at("visits", VISITS, 2, 16),
        create_at("visits", VISITS_AGAIN, 1, 18),
    ]);
    assert_eq!(
        found,
        (vec![], "visits [18] keeps None; next 19".to_owned())
    );
}

#[test]
fn after_a_loss_growth_is_believed_only_where_it_follows() {
    let grown = |count, first| {
        let MetadataCommand {
            kind: Some(Kind::Update(command)),
        } = update(VISITS, count, None)
        else {
            unreachable!("it changes a topic");
        };
        MetadataCommand::from(UpdateTopic {
            first_partition: first,
            ..command
        })
    };
    let made = create_at("visits", VISITS, 2, 16);
    let found = after_loss(&[made.clone(), grown(4, 18)]);
    assert_eq!(
        found,
        (
            vec![],
            "visits [16, 17, 18, 19] keeps None; next 20".to_owned()
        )
    );
    // It had grown to four before, and that is lost.
    let found = after_loss(&[made.clone(), grown(6, 20)]);
    assert_eq!(
        found,
        (vec![1], "visits [16, 17] keeps None; next 18".to_owned())
    );
    let found = after_loss(&[made, update(VISITS, 2, Some(5)), update(ORDERS, 2, None)]);
    assert_eq!(
        found,
        (vec![2], "visits [16, 17] keeps Some(5); next 18".to_owned())
    );
}
