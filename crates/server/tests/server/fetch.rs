//! Fetch and ListOffsets.

use std::path::Path;
use std::time::{Duration, Instant};

use bytes::Bytes;
use flowstone_proto::v1;
use prost::Message;
use tonic::Code;
use v1::start_position::{Anchor, Position};

use crate::harness::{TestServer, assert_refused, text, to};

fn at(position: Position) -> Option<v1::StartPosition> {
    Some(v1::StartPosition {
        position: Some(position),
    })
}

fn fetch(topic: &str, position: Position) -> v1::FetchRequest {
    v1::FetchRequest {
        topic: topic.to_owned(),
        start: at(position),
        ..v1::FetchRequest::default()
    }
}

fn wait(duration: Duration) -> Option<prost_types::Duration> {
    Some(duration.try_into().expect("short"))
}

async fn values(server: &TestServer, request: v1::FetchRequest) -> Vec<String> {
    let fetched = server
        .log()
        .fetch(request)
        .await
        .expect("fetched")
        .into_inner();
    fetched.records.iter().map(text).collect()
}

#[tokio::test]
async fn every_start_position_is_found() {
    let server = TestServer::start().await;
    server.create_topic("visits", 1).await;
    for (n, value) in ["a", "b", "c", "d"].into_iter().enumerate() {
        let mut request = to("visits", &[value]);
        request.records[0].timestamp_ms = 1_000 * (n as i64 + 1);
        server.log().produce(request).await.expect("appended");
    }
    let time = |ms: i64| {
        Position::Time(prost_types::Timestamp {
            seconds: ms / 1_000,
            nanos: (ms % 1_000) as i32 * 1_000_000,
        })
    };
    for (position, expected) in [
        (Position::Anchor(Anchor::Unspecified.into()), "abcd"),
        (Position::Anchor(Anchor::Earliest.into()), "abcd"),
        (Position::Anchor(Anchor::Latest.into()), ""),
        (Position::Offset(2), "cd"),
        (Position::Offset(4), ""),
        (Position::Last(1), "d"),
        (Position::Last(9), "abcd"),
        (time(2_000), "bcd"),
        (time(2_001), "cd"),
        (time(9_000), ""),
    ] {
        let found = values(&server, fetch("visits", position)).await.concat();
        assert_eq!(found, expected, "{position:?}");
        let listed = server
            .log()
            .list_offsets(v1::ListOffsetsRequest {
                topic: "visits".to_owned(),
                at: at(position),
                ..v1::ListOffsetsRequest::default()
            })
            .await
            .expect("listed")
            .into_inner();
        let place = &listed.partitions[0];
        assert_eq!(place.offset, 4 - expected.len() as i64, "{position:?}");
        assert_eq!((place.log_start_offset, place.high_watermark), (0, 4));
    }
    let one = v1::FetchRequest {
        max_records: 1,
        ..fetch("visits", Position::Offset(1))
    };
    assert_eq!(values(&server, one).await, ["b"]);
    let small = v1::FetchRequest {
        max_bytes: 1,
        ..fetch("visits", Position::Offset(1))
    };
    assert_eq!(
        values(&server, small).await,
        ["b"],
        "at least one record comes"
    );
    server.stop().await;
}

#[tokio::test]
async fn fetches_are_refused_with_the_facts() {
    let server = TestServer::start().await;
    let topic = server.create_topic("visits", 1).await;
    server.append("visits", 0, &["a", "b", "c"]).await;
    let trim = v1::TrimPartitionRequest {
        topic: "visits".to_owned(),
        partition: 0,
        before_offset: 2,
    };
    server.topics().trim_partition(trim).await.expect("trimmed");
    let refused = async |request| server.log().fetch(request).await.expect_err("refused");
    let invalid = async |request, field: &str| {
        let status = refused(request).await;
        assert_refused(
            &status,
            Code::InvalidArgument,
            "INVALID_FIELD",
            &[("field", field)],
        );
    };

    let marks = [
        ("offset", "1"),
        ("log-start-offset", "2"),
        ("high-watermark", "3"),
    ];
    let status = refused(fetch("visits", Position::Offset(1))).await;
    assert_refused(&status, Code::OutOfRange, "OFFSET_TRIMMED", &marks);
    let marks = [
        ("offset", "4"),
        ("log-start-offset", "2"),
        ("high-watermark", "3"),
    ];
    let status = refused(fetch("visits", Position::Offset(4))).await;
    assert_refused(&status, Code::OutOfRange, "OFFSET_BEYOND_END", &marks);
    let status = refused(fetch("absent", Position::Offset(0))).await;
    assert_refused(
        &status,
        Code::NotFound,
        "TOPIC_NOT_FOUND",
        &[("topic", "absent")],
    );

    invalid(fetch("visits", Position::Offset(-1)), "start.offset").await;
    invalid(
        fetch("visits", Position::Anchor(Anchor::Committed.into())),
        "start",
    )
    .await;
    let request = || fetch("visits", Position::Offset(2));
    let negative = v1::FetchRequest {
        partition: -1,
        ..request()
    };
    invalid(negative, "partition").await;
    let negative = v1::FetchRequest {
        max_bytes: -1,
        ..request()
    };
    invalid(negative, "max_bytes").await;
    let negative = v1::FetchRequest {
        max_wait: Some(prost_types::Duration {
            seconds: -1,
            nanos: 0,
        }),
        ..request()
    };
    invalid(negative, "max_wait").await;
    let no_id = v1::FetchRequest {
        topic_id: "7".to_owned(),
        ..request()
    };
    invalid(no_id, "topic_id").await;

    let checked = v1::FetchRequest {
        topic_id: topic.id.clone(),
        ..request()
    };
    assert_eq!(values(&server, checked.clone()).await, ["c"]);
    let delete = v1::DeleteTopicRequest {
        topic: "visits".to_owned(),
    };
    server.topics().delete_topic(delete).await.expect("deleted");
    server.create_topic("visits", 1).await;
    let status = refused(checked).await;
    assert_refused(
        &status,
        Code::FailedPrecondition,
        "TOPIC_RECREATED",
        &[("topic", "visits")],
    );
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fetch_waits_for_records_and_no_longer_than_it_was_told() {
    let server = TestServer::start().await;
    server.create_topic("visits", 1).await;
    let latest = Position::Anchor(Anchor::Latest.into());

    let started = Instant::now();
    let short = v1::FetchRequest {
        max_wait: wait(Duration::from_millis(50)),
        ..fetch("visits", latest)
    };
    let empty = server
        .log()
        .fetch(short)
        .await
        .expect("fetched")
        .into_inner();
    assert!(started.elapsed() >= Duration::from_millis(50));
    assert_eq!(
        (empty.records.len(), empty.next_offset, empty.high_watermark),
        (0, 0, 0)
    );

    let long = v1::FetchRequest {
        max_wait: wait(Duration::from_secs(30)),
        ..fetch("visits", Position::Offset(0))
    };
    let mut log = server.log();
    let waiting = tokio::spawn(async move { log.fetch(long).await });
    server.append("visits", 0, &["a"]).await;
    let fetched = waiting
        .await
        .expect("no panic")
        .expect("fetched")
        .into_inner();
    assert_eq!(fetched.records.iter().map(text).collect::<Vec<_>>(), ["a"]);

    let mut with_deadline = tonic::Request::new(v1::FetchRequest {
        max_wait: wait(Duration::from_secs(30)),
        ..fetch("visits", Position::Offset(1))
    });
    with_deadline.set_timeout(Duration::from_secs(1));
    let empty = server
        .log()
        .fetch(with_deadline)
        .await
        .expect("answered before the deadline");
    assert!(empty.into_inner().records.is_empty());
    server.stop().await;
}

/// The records of an encoded response: everything before its first field that is no record.
fn records_region(response: &Bytes) -> Bytes {
    let decoded = v1::FetchResponse::decode(response.clone()).expect("a response");
    let rest = v1::FetchResponse {
        records: Vec::new(),
        ..decoded
    };
    let rest = rest.encode_to_vec();
    assert!(response.ends_with(&rest));
    response.slice(..response.len() - rest.len())
}

fn some_file_holds(dir: &Path, region: &[u8]) -> bool {
    std::fs::read_dir(dir).expect("readable").any(|entry| {
        let path = entry.expect("readable").path();
        if path.is_dir() {
            return some_file_holds(&path, region);
        }
        let bytes = std::fs::read(&path).expect("readable");
        path.extension()
            .is_some_and(|extension| extension == "segment")
            && bytes.windows(region.len()).any(|window| window == region)
    })
}

#[tokio::test]
async fn response_bytes_of_a_fetch_are_the_files_bytes() {
    let server = TestServer::start().await;
    server.create_topic("visits", 1).await;
    for batch in 0..3 {
        let values: Vec<String> = (0..200).map(|n| format!("visit {batch} {n}")).collect();
        let values: Vec<&str> = values.iter().map(String::as_str).collect();
        server.append("visits", 0, &values).await;
    }
    for (from, count) in [(0, 200), (200, 200), (400, 200), (17, 100)] {
        let request = v1::FetchRequest {
            max_records: count,
            ..fetch("visits", Position::Offset(from))
        };
        let response = server
            .call_raw("/flowstone.v1.LogService/Fetch", request.encode_to_vec())
            .await
            .expect("fetched");
        let region = records_region(&response);
        let records = v1::FetchResponse::decode(region.clone())
            .expect("records")
            .records;
        assert_eq!(records.len(), count as usize);
        assert_eq!(records[0].offset, from);
        assert!(
            some_file_holds(server.dir.path(), &region),
            "records from {from}"
        );
    }
    server.stop().await;
}

#[tokio::test]
async fn damage_is_told_and_never_served() {
    let server = TestServer::start().await;
    server.create_topic("visits", 1).await;
    server.append("visits", 0, &["before"]).await;
    server.append("visits", 0, &["the damaged one"]).await;
    let dir = server.stop().await;

    let mut flipped = 0;
    let mut folders = vec![dir.path().to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).expect("readable") {
            let path = entry.expect("readable").path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let mut bytes = std::fs::read(&path).expect("readable");
            let damaged = b"the damaged one";
            if let Some(at) = bytes
                .windows(damaged.len())
                .position(|found| found == damaged)
            {
                bytes[at] ^= 1;
                std::fs::write(&path, bytes).expect("writable");
                flipped += 1;
            }
        }
    }
    assert_eq!(flipped, 1);

    let server = TestServer::start_in(dir, flowstone_disk::Env::real(), |_| {}).await;
    assert_eq!(
        values(&server, fetch("visits", Position::Offset(0))).await,
        ["before"]
    );
    let status = server
        .log()
        .fetch(fetch("visits", Position::Offset(1)))
        .await
        .expect_err("damaged");
    assert_refused(
        &status,
        Code::DataLoss,
        "CORRUPT_SEGMENT",
        &[("topic", "visits"), ("partition", "0"), ("offset", "1")],
    );
    let status = server
        .log()
        .produce(to("visits", &["x"]))
        .await
        .expect_err("offline");
    assert_refused(&status, Code::DataLoss, "CORRUPT_SEGMENT", &[]);

    let subscribe = v1::SubscribeRequest {
        topic: "visits".to_owned(),
        stop: Some(v1::StopPosition {
            position: Some(v1::stop_position::Position::CurrentEnd(true)),
        }),
        ..v1::SubscribeRequest::default()
    };
    let mut stream = server
        .log()
        .subscribe(subscribe)
        .await
        .expect("open")
        .into_inner();
    let first = stream.message().await.expect("undamaged").expect("goes on");
    assert_eq!(
        first.records.iter().map(text).collect::<Vec<_>>(),
        ["before"]
    );
    let second = stream
        .message()
        .await
        .expect("told inside")
        .expect("goes on");
    let error = second.error.expect("a failure");
    assert_eq!(error.reason, "CORRUPT_SEGMENT");
    assert_eq!(second.cursor.expect("told").offset, 1);
    let status = stream
        .message()
        .await
        .expect_err("a short read never looks like a whole one");
    assert_refused(
        &status,
        Code::DataLoss,
        "CORRUPT_SEGMENT",
        &[("offset", "1")],
    );

    let get = v1::GetTopicRequest {
        topic: "visits".to_owned(),
    };
    let told = server
        .topics()
        .get_topic(get)
        .await
        .expect("there")
        .into_inner();
    assert!(told.partitions[0].offline);
    server.stop().await;
}
