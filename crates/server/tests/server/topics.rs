//! TopicService.

use flowstone_proto::v1;
use prost_types::{Duration, FieldMask};
use tonic::Code;
use tonic_types::StatusExt;

use crate::harness::{TestServer, assert_refused, to};

fn named(name: &str) -> v1::Topic {
    v1::Topic {
        name: name.to_owned(),
        ..v1::Topic::default()
    }
}

fn create(topic: v1::Topic) -> v1::CreateTopicRequest {
    v1::CreateTopicRequest {
        topic: Some(topic),
        validate_only: false,
    }
}

fn update(topic: v1::Topic, paths: &[&str]) -> v1::UpdateTopicRequest {
    v1::UpdateTopicRequest {
        topic: Some(topic),
        update_mask: Some(FieldMask {
            paths: paths.iter().map(|path| (*path).to_owned()).collect(),
        }),
    }
}

#[tokio::test]
async fn a_topic_lives_from_create_to_delete() {
    let server = TestServer::start().await;
    let mut topics = server.topics();
    let asked = v1::Topic {
        partition_count: 3,
        retention: Some(Duration {
            seconds: 3_600,
            nanos: 0,
        }),
        retention_bytes: Some(1 << 30),
        max_record_bytes: Some(2_000),
        default_acks: v1::Acks::Written.into(),
        labels: [("team".to_owned(), "lemonade".to_owned())].into(),
        ..named("visits")
    };
    let mut only_checked = create(asked.clone());
    only_checked.validate_only = true;
    let checked = topics.create_topic(only_checked).await.expect("valid");
    assert_eq!(checked.into_inner().topic.expect("told").partition_count, 3);
    let request = v1::GetTopicRequest {
        topic: "visits".to_owned(),
    };
    let status = topics.get_topic(request.clone()).await.expect_err("absent");
    assert_refused(
        &status,
        Code::NotFound,
        "TOPIC_NOT_FOUND",
        &[("topic", "visits")],
    );

    let made = topics
        .create_topic(create(asked.clone()))
        .await
        .expect("made");
    let made = made.into_inner().topic.expect("told");
    assert_eq!(made.id.len(), 36);
    assert!(made.create_time.is_some());
    let as_asked = v1::Topic {
        create_time: None,
        id: String::new(),
        ..made.clone()
    };
    assert_eq!(as_asked, asked);

    server.append("visits", 1, &["a", "b"]).await;
    let told = topics
        .get_topic(request.clone())
        .await
        .expect("there")
        .into_inner();
    assert_eq!(told.topic.as_ref(), Some(&made));
    let marks: Vec<_> = told
        .partitions
        .iter()
        .map(|p| (p.partition, p.log_start_offset, p.high_watermark, p.offline))
        .collect();
    assert_eq!(
        marks,
        [(0, 0, 0, false), (1, 0, 2, false), (2, 0, 0, false)]
    );
    assert!(told.partitions[1].size_bytes > 0);
    assert_eq!(told.partitions[1].segment_count, 1);

    let delete = v1::DeleteTopicRequest {
        topic: "visits".to_owned(),
    };
    topics.delete_topic(delete.clone()).await.expect("deleted");
    let status = topics.delete_topic(delete).await.expect_err("gone");
    assert_refused(&status, Code::NotFound, "TOPIC_NOT_FOUND", &[]);
    let anew = server.create_topic("visits", 1).await;
    assert_ne!(anew.id, made.id);
    server.stop().await;
}

#[tokio::test]
async fn topics_are_refused_with_what_is_wrong() {
    let server = TestServer::start().await;
    server.create_topic("taken", 1).await;
    let mut topics = server.topics();

    let status = topics
        .create_topic(create(named("taken")))
        .await
        .expect_err("taken");
    assert_refused(
        &status,
        Code::AlreadyExists,
        "TOPIC_EXISTS",
        &[("topic", "taken")],
    );

    let status = topics
        .create_topic(v1::CreateTopicRequest::default())
        .await
        .expect_err("no topic");
    assert_refused(
        &status,
        Code::InvalidArgument,
        "INVALID_FIELD",
        &[("field", "topic")],
    );

    let negative = v1::Topic {
        partition_count: -1,
        ..named("t")
    };
    let status = topics
        .create_topic(create(negative))
        .await
        .expect_err("negative");
    assert_refused(
        &status,
        Code::InvalidArgument,
        "INVALID_FIELD",
        &[("field", "topic.partition_count")],
    );
    for name in ["", ".", "a b", "ä", &"x".repeat(250)] {
        let status = topics
            .create_topic(create(named(name)))
            .await
            .expect_err("no name");
        assert_refused(&status, Code::InvalidArgument, "INVALID_FIELD", &[]);
    }
    let rejecting = v1::Topic {
        overflow: v1::Overflow::Reject.into(),
        ..named("t")
    };
    let status = topics
        .create_topic(create(rejecting))
        .await
        .expect_err("at which size?");
    assert_refused(
        &status,
        Code::InvalidArgument,
        "INVALID_FIELD",
        &[("field", "overflow")],
    );
    let too_many = v1::Topic {
        partition_count: 1_000_000,
        ..named("t")
    };
    let status = topics
        .create_topic(create(too_many))
        .await
        .expect_err("too many");
    assert_eq!(status.code(), Code::ResourceExhausted);
    assert_refused(
        &status,
        Code::ResourceExhausted,
        "LIMIT_EXCEEDED",
        &[("limit", "max_partitions_per_topic")],
    );
    server.stop().await;
}

#[tokio::test]
async fn an_update_changes_what_the_mask_names() {
    let server = TestServer::start().await;
    server.create_topic("visits", 2).await;
    let mut topics = server.topics();
    let wanted = v1::Topic {
        partition_count: 4,
        retention_bytes: Some(1_000_000),
        labels: [("a".to_owned(), "b".to_owned())].into(),
        ..named("visits")
    };
    let told = topics
        .update_topic(update(wanted.clone(), &["labels"]))
        .await
        .expect("updated")
        .into_inner()
        .topic
        .expect("told");
    assert_eq!((told.partition_count, told.retention_bytes), (2, None));
    assert_eq!(told.labels, wanted.labels);

    let told = topics
        .update_topic(update(wanted, &[]))
        .await
        .expect("updated");
    let told = told.into_inner().topic.expect("told");
    assert_eq!(
        (told.partition_count, told.retention_bytes),
        (4, Some(1_000_000))
    );

    let cleared = topics
        .update_topic(update(named("visits"), &["retention_bytes", "labels"]))
        .await
        .expect("updated");
    let cleared = cleared.into_inner().topic.expect("told");
    assert_eq!(
        (cleared.partition_count, cleared.retention_bytes),
        (4, None)
    );
    assert!(cleared.labels.is_empty());
    let request = v1::GetTopicRequest {
        topic: "visits".to_owned(),
    };
    let read = topics.get_topic(request).await.expect("there").into_inner();
    assert_eq!(read.topic, Some(cleared));
    assert_eq!(read.partitions.len(), 4);

    let fewer = v1::Topic {
        partition_count: 1,
        ..named("visits")
    };
    let status = topics
        .update_topic(update(fewer, &[]))
        .await
        .expect_err("never fewer");
    assert_refused(&status, Code::InvalidArgument, "INVALID_FIELD", &[]);
    let status = topics
        .update_topic(update(named("visits"), &["colour"]))
        .await
        .expect_err("unknown");
    assert_refused(
        &status,
        Code::InvalidArgument,
        "INVALID_FIELD",
        &[("field", "update_mask")],
    );
    let status = topics
        .update_topic(update(named("absent"), &["labels"]))
        .await
        .expect_err("absent");
    assert_refused(
        &status,
        Code::NotFound,
        "TOPIC_NOT_FOUND",
        &[("topic", "absent")],
    );
    server.stop().await;
}

#[tokio::test]
async fn a_full_topic_says_when_to_try_again_and_takes_records_once_it_may_hold_more() {
    let server = TestServer::start().await;
    let mut topics = server.topics();
    let full = v1::Topic {
        overflow: v1::Overflow::Reject.into(),
        retention_bytes: Some(4097),
        ..named("visits")
    };
    let told = topics.create_topic(create(full)).await.expect("created");
    let told = told.into_inner().topic.expect("told");
    assert_eq!(told.overflow(), v1::Overflow::Reject);
    server.append("visits", 0, &["fills it"]).await;
    let status = server
        .log()
        .produce(to("visits", &["is refused"]))
        .await
        .expect_err("full");
    assert_refused(
        &status,
        Code::ResourceExhausted,
        "TOPIC_FULL",
        &[("topic", "visits"), ("partition", "0")],
    );
    let retry = status.get_error_details().retry_info().cloned();
    assert!(retry.is_some_and(|retry| retry.retry_delay.is_some()));
    let trims = v1::Topic {
        overflow: v1::Overflow::Trim.into(),
        ..named("visits")
    };
    let told = topics
        .update_topic(update(trims, &[]))
        .await
        .expect("changed");
    assert_eq!(
        told.into_inner().topic.expect("told").overflow(),
        v1::Overflow::Unspecified
    );
    server.append("visits", 0, &["is taken"]).await;
    server.stop().await;
}

#[tokio::test]
async fn topics_are_listed_in_pages() {
    let server = TestServer::start().await;
    for name in ["b", "a", "c-1", "c-2", "c-3"] {
        server.create_topic(name, 1).await;
    }
    let mut topics = server.topics();
    let mut list = async |page_size, page_token: &str, prefix: &str| {
        topics
            .list_topics(v1::ListTopicsRequest {
                page_size,
                page_token: page_token.to_owned(),
                prefix: prefix.to_owned(),
            })
            .await
            .map(|found| {
                let found = found.into_inner();
                let names: Vec<String> = found.topics.into_iter().map(|t| t.name).collect();
                (names, found.next_page_token)
            })
    };
    let (names, token) = list(0, "", "").await.expect("listed");
    assert_eq!(
        (names.join(" ").as_str(), token.as_str()),
        ("a b c-1 c-2 c-3", "")
    );
    let (names, token) = list(2, "", "c-").await.expect("listed");
    assert_eq!(names, ["c-1", "c-2"]);
    let (names, end) = list(2, &token, "c-").await.expect("listed");
    assert_eq!((names.join(" ").as_str(), end.as_str()), ("c-3", ""));
    let status = list(2, &token, "")
        .await
        .expect_err("another request's token");
    assert_refused(
        &status,
        Code::InvalidArgument,
        "INVALID_FIELD",
        &[("field", "page_token")],
    );
    let status = list(-1, "", "").await.expect_err("negative");
    assert_refused(
        &status,
        Code::InvalidArgument,
        "INVALID_FIELD",
        &[("field", "page_size")],
    );
    server.stop().await;
}

#[tokio::test]
async fn a_trim_drops_what_is_before_an_offset() {
    let server = TestServer::start().await;
    server.create_topic("visits", 1).await;
    server.append("visits", 0, &["a", "b", "c"]).await;
    let mut topics = server.topics();
    let mut trim = async |partition, before_offset| {
        topics
            .trim_partition(v1::TrimPartitionRequest {
                topic: "visits".to_owned(),
                partition,
                before_offset,
            })
            .await
            .map(|told| told.into_inner().log_start_offset)
    };
    assert_eq!(trim(0, 2).await.expect("trimmed"), 2);
    assert_eq!(trim(0, 1).await.expect("nothing to do"), 2);
    let status = trim(0, -1).await.expect_err("negative");
    assert_refused(
        &status,
        Code::InvalidArgument,
        "INVALID_FIELD",
        &[("field", "before_offset")],
    );
    let status = trim(1, 0).await.expect_err("no such partition");
    assert_refused(
        &status,
        Code::NotFound,
        "PARTITION_NOT_FOUND",
        &[
            ("topic", "visits"),
            ("partition", "1"),
            ("partition-count", "1"),
        ],
    );
    assert_eq!(server.values("visits", 0).await, ["c"]);
    server.stop().await;
}
