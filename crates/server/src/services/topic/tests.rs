//! Topics are read from requests as their comments say, and update masks name what changes.

use prost_types::Duration;

use super::*;

fn wanted() -> v1::Topic {
    v1::Topic {
        name: "visits".to_owned(),
        partition_count: 8,
        retention: Some(Duration {
            seconds: 60,
            nanos: 1,
        }),
        retention_bytes: Some(1 << 40),
        segment_bytes: Some(64 << 20),
        max_record_bytes: Some(1_000),
        default_acks: v1::Acks::Written.into(),
        overflow: v1::Overflow::Reject.into(),
        labels: [("team".to_owned(), "lemonade".to_owned())].into(),
        create_time: None,
        id: String::new(),
    }
}

fn whole_change() -> TopicChange {
    let spec = spec(wanted()).expect("valid");
    TopicChange {
        partition_count: Some(spec.partition_count),
        retention_ms: Some(spec.retention_ms),
        retention_bytes: Some(spec.retention_bytes),
        segment_bytes: Some(spec.segment_bytes),
        max_record_bytes: Some(spec.max_record_bytes),
        default_acks: Some(spec.default_acks),
        overflow: Some(spec.overflow),
        labels: Some(spec.labels),
    }
}

fn masked(topic: v1::Topic, paths: &[&str]) -> Result<TopicChange, Error> {
    let paths: Vec<String> = paths.iter().map(|path| (*path).to_owned()).collect();
    change(topic, &paths)
}

fn refused<T: std::fmt::Debug>(result: Result<T, Error>) -> String {
    match result.expect_err("refused") {
        Error::InvalidField { field, .. } => field,
        other => panic!("expected InvalidField, got {other:?}"),
    }
}

#[test]
fn a_topic_is_told_as_it_was_asked_for() {
    let spec = spec(wanted()).expect("valid");
    assert_eq!(spec.retention_ms, Some(60_001), "rounded up");
    let told = topic(TopicInfo {
        spec,
        id: flowstone_broker::Uuid::from_u128(7),
        created_ms: 1_500,
    });
    let expected = v1::Topic {
        retention: Some(Duration {
            seconds: 60,
            nanos: 1_000_000,
        }),
        create_time: Some(timestamp(1_500)),
        id: "00000000-0000-0000-0000-000000000007".to_owned(),
        ..wanted()
    };
    assert_eq!(told, expected);
}

#[test]
fn without_a_mask_what_is_set_changes() {
    assert_eq!(masked(wanted(), &[]).expect("valid"), whole_change());
    let one = v1::Topic {
        name: "visits".to_owned(),
        retention_bytes: Some(5),
        ..v1::Topic::default()
    };
    let expected = TopicChange {
        retention_bytes: Some(Some(5)),
        ..TopicChange::default()
    };
    assert_eq!(masked(one, &[]).expect("valid"), expected);
}

#[test]
fn a_mask_changes_what_it_names_and_clears_what_is_not_set() {
    let empty = v1::Topic::default();
    let cleared = masked(empty.clone(), &["retention", "labels", "default_acks"]).expect("valid");
    let expected = TopicChange {
        retention_ms: Some(None),
        default_acks: Some(None),
        labels: Some(BTreeMap::new()),
        ..TopicChange::default()
    };
    assert_eq!(cleared, expected);
    assert_eq!(masked(wanted(), &["*"]).expect("valid"), whole_change());
    let all_cleared = masked(empty.clone(), &["*"]).expect("valid");
    assert_eq!(all_cleared.partition_count, None);
    assert_eq!(all_cleared.segment_bytes, Some(None));

    for path in ["name", "id", "create_time", "labels.team", "Retention", ""] {
        assert_eq!(refused(masked(wanted(), &[path])), "update_mask", "{path}");
    }
    assert_eq!(
        refused(masked(empty, &["partition_count"])),
        "topic.partition_count"
    );
}

#[test]
fn every_path_is_one_that_can_be_put() {
    for path in CHANGEABLE {
        masked(wanted(), &[path]).expect("known");
    }
}

#[test]
fn wrong_settings_are_refused_by_name() {
    let with = |change: fn(&mut v1::Topic)| {
        let mut topic = wanted();
        change(&mut topic);
        spec(topic)
    };
    assert_eq!(
        refused(with(|topic| topic.partition_count = -1)),
        "topic.partition_count"
    );
    assert_eq!(
        refused(with(|topic| topic.retention_bytes = Some(0))),
        "topic.retention_bytes"
    );
    assert_eq!(
        refused(with(|topic| topic.segment_bytes = Some(-1))),
        "topic.segment_bytes"
    );
    assert_eq!(
        refused(with(|topic| topic.max_record_bytes = Some(0))),
        "topic.max_record_bytes"
    );
    assert_eq!(
        refused(with(|topic| topic.default_acks = 9)),
        "topic.default_acks"
    );
    assert_eq!(refused(with(|topic| topic.overflow = 9)), "topic.overflow");
    assert_eq!(
        refused(with(|topic| topic.retention = Some(Duration::default()))),
        "topic.retention"
    );
    let negative = |topic: &mut v1::Topic| {
        topic.retention = Some(Duration {
            seconds: -1,
            nanos: 0,
        });
    };
    assert_eq!(refused(with(negative)), "topic.retention");
}
