//! Subscribe and CommitOffsets.

use std::time::{Duration, Instant};

use flowstone_proto::v1;
use tonic::{Code, Status, Streaming};
use v1::start_position::{Anchor, Position};
use v1::stop_position::Position as Stop;

use crate::harness::{TestServer, assert_refused, text, trailer};

fn whole(topic: &str) -> v1::SubscribeRequest {
    v1::SubscribeRequest {
        topic: topic.to_owned(),
        stop: until(Stop::CurrentEnd(true)),
        ..v1::SubscribeRequest::default()
    }
}

fn as_member(topic: &str, group: &str) -> v1::SubscribeRequest {
    v1::SubscribeRequest {
        topic: topic.to_owned(),
        group: group.to_owned(),
        ..v1::SubscribeRequest::default()
    }
}

fn from(position: Position) -> Option<v1::StartPosition> {
    Some(v1::StartPosition {
        position: Some(position),
    })
}

fn until(position: Stop) -> Option<v1::StopPosition> {
    Some(v1::StopPosition {
        position: Some(position),
    })
}

async fn subscribe(
    server: &TestServer,
    request: v1::SubscribeRequest,
) -> Result<Streaming<v1::SubscribeResponse>, Status> {
    Ok(server.log().subscribe(request).await?.into_inner())
}

/// Everything up to the end of the stream, as `partition:value`, sorted by partition.
async fn read_all(server: &TestServer, request: v1::SubscribeRequest) -> Vec<String> {
    let mut stream = subscribe(server, request).await.expect("subscribed");
    let mut read = Vec::new();
    while let Some(response) = stream.message().await.expect("no failure") {
        assert_eq!(response.error, None);
        if response.records.is_empty() {
            continue;
        }
        let cursor = response.cursor.expect("with records comes a cursor");
        let last = response.records.last().expect("not empty");
        assert_eq!(cursor.offset, last.offset + 1);
        assert!(response.high_watermark >= cursor.offset);
        let told = response.records.iter().map(|r| (cursor.partition, text(r)));
        read.extend(told);
    }
    read.sort_by_key(|(partition, _)| *partition);
    read.into_iter()
        .map(|(partition, value)| format!("{partition}:{value}"))
        .collect()
}

/// The next response with records.
async fn next_records(stream: &mut Streaming<v1::SubscribeResponse>) -> v1::SubscribeResponse {
    loop {
        let response = stream
            .message()
            .await
            .expect("no failure")
            .expect("goes on");
        assert_eq!(response.error, None);
        if !response.records.is_empty() {
            return response;
        }
    }
}

async fn two_partitions() -> TestServer {
    let server = TestServer::start().await;
    server.create_topic("visits", 2).await;
    server.append("visits", 0, &["a", "b", "c"]).await;
    server.append("visits", 1, &["x", "y"]).await;
    server
}

#[tokio::test]
async fn a_reader_of_its_own_takes_any_start_and_stop() {
    let server = two_partitions().await;
    let all = ["0:a", "0:b", "0:c", "1:x", "1:y"];
    assert_eq!(read_all(&server, whole("visits")).await, all);
    let one = v1::SubscribeRequest {
        partitions: vec![1],
        ..whole("visits")
    };
    assert_eq!(read_all(&server, one).await, ["1:x", "1:y"]);
    let last = v1::SubscribeRequest {
        start: from(Position::Last(1)),
        ..whole("visits")
    };
    assert_eq!(read_all(&server, last).await, ["0:c", "1:y"]);
    let before = v1::SubscribeRequest {
        stop: until(Stop::Offset(1)),
        ..whole("visits")
    };
    assert_eq!(read_all(&server, before).await, ["0:a", "1:x"]);
    let counted = v1::SubscribeRequest {
        stop: until(Stop::Count(4)),
        ..whole("visits")
    };
    assert_eq!(read_all(&server, counted).await.len(), 4);
    let cursor = |partition, offset| v1::Cursor {
        topic: "visits".to_owned(),
        partition,
        offset,
        ..v1::Cursor::default()
    };
    let resumed = v1::SubscribeRequest {
        resume_from: vec![cursor(0, 1)],
        stop_before: vec![cursor(0, 2), cursor(1, 1)],
        ..whole("visits")
    };
    assert_eq!(read_all(&server, resumed).await, ["0:b", "1:x"]);
    server.stop().await;
}

#[tokio::test]
async fn a_stream_follows_what_is_appended_and_says_that_it_is_alive() {
    let server = TestServer::start_with(|config| config.heartbeat_interval_ms = 100).await;
    server.create_topic("visits", 1).await;
    let follow = v1::SubscribeRequest {
        stop: None,
        ..whole("visits")
    };
    let mut stream = subscribe(&server, follow).await.expect("subscribed");
    let heartbeat = stream.message().await.expect("alive").expect("goes on");
    assert!(heartbeat.records.is_empty() && heartbeat.error.is_none());
    for value in ["a", "b"] {
        server.append("visits", 0, &[value]).await;
        let response = next_records(&mut stream).await;
        assert_eq!(
            response.records.iter().map(text).collect::<Vec<_>>(),
            [value]
        );
    }
    drop(stream);
    server.stop().await;
}

/// The sign of life that was due when the last record came is put off, not sent.
#[tokio::test]
async fn a_sign_of_life_comes_a_whole_interval_after_the_last_record() {
    const INTERVAL: Duration = Duration::from_millis(500);
    let server = TestServer::start_with(|config| {
        config.heartbeat_interval_ms = INTERVAL.as_millis() as u64;
    })
    .await;
    server.create_topic("visits", 1).await;
    let follow = v1::SubscribeRequest {
        stop: None,
        ..whole("visits")
    };
    let mut stream = subscribe(&server, follow).await.expect("subscribed");
    let heartbeat = stream.message().await.expect("alive").expect("goes on");
    assert!(heartbeat.records.is_empty());
    let mut last_sent = Instant::now();
    for _ in 0..20 {
        last_sent = Instant::now();
        server.append("visits", 0, &["a"]).await;
        assert_eq!(next_records(&mut stream).await.records.len(), 1);
    }
    let heartbeat = stream.message().await.expect("alive").expect("goes on");
    assert!(heartbeat.records.is_empty());
    let silent = last_sent.elapsed();
    assert!(silent >= INTERVAL, "after {silent:?}");
    drop(stream);
    server.stop().await;
}

#[tokio::test]
async fn wrong_subscriptions_are_refused_with_what_is_wrong() {
    let server = two_partitions().await;
    let refused = async |request| subscribe(&server, request).await.expect_err("refused");
    let follow = || v1::SubscribeRequest {
        topic: "visits".to_owned(),
        ..v1::SubscribeRequest::default()
    };

    let status = refused(whole("absent")).await;
    assert_refused(
        &status,
        Code::NotFound,
        "TOPIC_NOT_FOUND",
        &[("topic", "absent")],
    );
    let behind = v1::SubscribeRequest {
        partitions: vec![5],
        ..follow()
    };
    let status = refused(behind).await;
    assert_refused(
        &status,
        Code::NotFound,
        "PARTITION_NOT_FOUND",
        &[("partition", "5")],
    );
    for (what, request) in [
        (
            "processing_timeout",
            v1::SubscribeRequest {
                processing_timeout: Some(prost_types::Duration::default()),
                ..as_member("visits", "g")
            },
        ),
        (
            "max_uncommitted_records",
            v1::SubscribeRequest {
                max_uncommitted_records: -1,
                ..as_member("visits", "g")
            },
        ),
        (
            "max_uncommitted_records",
            v1::SubscribeRequest {
                max_uncommitted_records: 1,
                ..follow()
            },
        ),
    ] {
        let status = refused(request).await;
        assert_refused(
            &status,
            Code::InvalidArgument,
            "INVALID_FIELD",
            &[("field", what)],
        );
    }
    let cursor = || v1::Cursor {
        topic: "visits".to_owned(),
        ..v1::Cursor::default()
    };
    for (field, request) in [
        (
            "partitions",
            v1::SubscribeRequest {
                partitions: vec![-1],
                ..follow()
            },
        ),
        (
            "partitions",
            v1::SubscribeRequest {
                partitions: vec![0],
                ..as_member("visits", "g")
            },
        ),
        (
            "stop",
            v1::SubscribeRequest {
                stop: until(Stop::CurrentEnd(true)),
                ..as_member("visits", "g")
            },
        ),
        (
            "resume_from",
            v1::SubscribeRequest {
                resume_from: vec![cursor()],
                ..as_member("visits", "g")
            },
        ),
        (
            "stop_before",
            v1::SubscribeRequest {
                stop_before: vec![cursor()],
                ..as_member("visits", "g")
            },
        ),
        (
            "group",
            v1::SubscribeRequest {
                start: from(Position::Anchor(Anchor::Committed.into())),
                ..follow()
            },
        ),
        (
            "max_batch_bytes",
            v1::SubscribeRequest {
                max_batch_bytes: -1,
                ..follow()
            },
        ),
    ] {
        let status = refused(request).await;
        assert_refused(
            &status,
            Code::InvalidArgument,
            "INVALID_FIELD",
            &[("field", field)],
        );
    }
    server.stop().await;
}

#[tokio::test]
async fn a_stream_that_starts_below_the_log_says_where_it_starts() {
    let server = two_partitions().await;
    let trim = v1::TrimPartitionRequest {
        topic: "visits".to_owned(),
        partition: 0,
        before_offset: 2,
    };
    server.topics().trim_partition(trim).await.expect("trimmed");
    let trimmed = v1::SubscribeRequest {
        partitions: vec![0],
        start: from(Position::Offset(0)),
        ..whole("visits")
    };
    let mut stream = match subscribe(&server, trimmed).await {
        Err(status) => {
            assert_refused(&status, Code::OutOfRange, "OFFSET_TRIMMED", &[]);
            server.stop().await;
            return;
        }
        Ok(stream) => stream,
    };
    let status = stream.message().await.expect_err("trimmed");
    let marks = [("log-start-offset", "2"), ("high-watermark", "3")];
    assert_refused(&status, Code::OutOfRange, "OFFSET_TRIMMED", &marks);
    server.stop().await;
}

#[tokio::test]
async fn a_group_goes_on_where_it_committed_also_after_a_restart() {
    let server = two_partitions().await;
    let mut stream = subscribe(&server, as_member("visits", "g"))
        .await
        .expect("joined");
    let first = stream
        .message()
        .await
        .expect("no failure")
        .expect("goes on");
    let assigned = first
        .assignment
        .expect("the first is the assignment")
        .partitions;
    assert_eq!(assigned.len(), 2);
    let mut committed = Vec::new();
    while committed.len() < 2 {
        let response = next_records(&mut stream).await;
        let mut cursor = response.cursor.expect("with records comes a cursor");
        assert_eq!(cursor.group, "g");
        assert!(!cursor.session.is_empty() && !cursor.topic_id.is_empty());
        if cursor.partition == 0 {
            cursor.offset = 1;
        }
        committed.push(cursor);
    }
    let commit = v1::CommitOffsetsRequest {
        cursors: committed.clone(),
        released: Vec::new(),
    };
    let told = server
        .log()
        .commit_offsets(commit.clone())
        .await
        .expect("committed");
    assert_eq!(told.into_inner(), v1::CommitOffsetsResponse::default());

    drop(stream);

    let dir = server.stop().await;
    let server = TestServer::start_in(dir, flowstone_disk::Env::real(), |_| {}).await;
    let status = server
        .log()
        .commit_offsets(commit)
        .await
        .expect_err("its session is over");
    assert_refused(&status, Code::Aborted, "STALE_SESSION", &[("group", "g")]);
    let mut stream = subscribe(&server, as_member("visits", "g"))
        .await
        .expect("joined");
    let response = next_records(&mut stream).await;
    assert_eq!(
        response.records.iter().map(text).collect::<Vec<_>>(),
        ["b", "c"]
    );

    let listed = server
        .log()
        .list_offsets(v1::ListOffsetsRequest {
            topic: "visits".to_owned(),
            at: from(Position::Anchor(Anchor::Committed.into())),
            group: "g".to_owned(),
            ..v1::ListOffsetsRequest::default()
        })
        .await
        .expect("listed")
        .into_inner();
    let offsets: Vec<i64> = listed.partitions.iter().map(|p| p.offset).collect();
    assert_eq!(offsets, [1, 2]);
    server.stop().await;
}

#[tokio::test]
async fn a_second_stream_of_a_member_ends_the_first() {
    let server = two_partitions().await;
    let named = || v1::SubscribeRequest {
        member: "m".to_owned(),
        ..as_member("visits", "g")
    };
    let mut first = subscribe(&server, named()).await.expect("joined");
    first
        .message()
        .await
        .expect("no failure")
        .expect("assigned");
    let mut second = subscribe(&server, named()).await.expect("takes its place");
    second
        .message()
        .await
        .expect("no failure")
        .expect("assigned");
    let status = loop {
        match first.message().await {
            Ok(Some(_)) => {}
            Ok(None) => panic!("it ends with a reason"),
            Err(status) => break status,
        }
    };
    assert_refused(
        &status,
        Code::Aborted,
        "MEMBER_REPLACED",
        &[("group", "g"), ("member", "m")],
    );
    assert_eq!(trailer(&status, "retry-ms"), None);
    server.stop().await;
}

#[tokio::test]
async fn wrong_cursors_are_refused_by_name() {
    let server = two_partitions().await;
    let cursor = v1::Cursor {
        group: "g".to_owned(),
        topic: "visits".to_owned(),
        offset: -1,
        ..v1::Cursor::default()
    };
    let commit = v1::CommitOffsetsRequest {
        cursors: vec![cursor],
        released: Vec::new(),
    };
    let status = server
        .log()
        .commit_offsets(commit)
        .await
        .expect_err("negative");
    assert_refused(
        &status,
        Code::InvalidArgument,
        "INVALID_FIELD",
        &[("field", "cursors[0].offset")],
    );
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_does_not_read_holds_back_nobody() {
    let server = TestServer::start().await;
    server.create_topic("visits", 1).await;
    let large = "x".repeat(500_000);
    for _ in 0..20 {
        server.append("visits", 0, &[&large, &large]).await;
    }
    let follow = v1::SubscribeRequest {
        stop: None,
        ..whole("visits")
    };
    let mut stalled = subscribe(&server, follow).await.expect("subscribed");
    next_records(&mut stalled).await;
    let all = tokio::time::timeout(Duration::from_secs(30), read_all(&server, whole("visits")));
    assert_eq!(all.await.expect("not held back").len(), 40);
    drop(stalled);
    server.stop().await;
}
