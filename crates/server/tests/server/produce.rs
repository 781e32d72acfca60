//! Produce: what is appended, and what is refused.

use std::time::Duration;

use bytes::Bytes;
use flowstone_proto::v1;
use prost::Message;
use tonic::Code;

use crate::gated_disk::Gate;
use crate::harness::{TestServer, assert_refused, record, to};

const PRODUCE: &str = "/flowstone.v1.LogService/Produce";

async fn refused(
    server: &TestServer,
    request: v1::ProduceRequest,
    code: Code,
    reason: &str,
    metadata: &[(&str, &str)],
) {
    let status = server.log().produce(request).await.expect_err("refused");
    assert_refused(&status, code, reason, metadata);
}

#[tokio::test]
async fn records_come_back_as_they_were_sent_with_what_the_broker_owns() {
    let server = TestServer::start().await;
    server.create_topic("visits", 4).await;
    let sent = v1::Record {
        key: Some(Bytes::from_static(b"lemon")),
        value: Some(Bytes::from_static(b"\x00\xFF\n")),
        headers: vec![
            v1::Header {
                key: "h".to_owned(),
                value: Bytes::from_static(b"1"),
            },
            v1::Header {
                key: "h".to_owned(),
                value: Bytes::new(),
            },
        ],
        timestamp_ms: 1_700_000_000_000,
        deliver_at_ms: 1_700_000_000_001,
        priority: 7,
        offset: 99,
    };
    let tombstone = v1::Record {
        key: Some(Bytes::from_static(b"lemon")),
        ..v1::Record::default()
    };
    let request = v1::ProduceRequest {
        records: vec![sent.clone(), tombstone.clone()],
        topic: "visits".to_owned(),
        ..v1::ProduceRequest::default()
    };
    let answer = server
        .log()
        .produce(request)
        .await
        .expect("appended")
        .into_inner();
    assert!(!answer.duplicate);
    assert_eq!(answer.runs.len(), 1, "one key, one partition");
    let run = &answer.runs[0];
    assert_eq!((run.base_offset, run.record_count), (0, 2));

    let fetched = server
        .log()
        .fetch(v1::FetchRequest {
            topic: "visits".to_owned(),
            partition: run.partition,
            ..v1::FetchRequest::default()
        })
        .await
        .expect("fetched")
        .into_inner();
    assert_eq!(fetched.records[0], v1::Record { offset: 0, ..sent });
    let read = &fetched.records[1];
    assert!(read.timestamp_ms > 1_700_000_000_000, "set by the broker");
    let expected = v1::Record {
        offset: 1,
        timestamp_ms: read.timestamp_ms,
        ..tombstone
    };
    assert_eq!(*read, expected);
    assert_eq!(
        (
            fetched.next_offset,
            fetched.high_watermark,
            fetched.log_start_offset
        ),
        (2, 2, 0)
    );
    server.stop().await;
}

#[tokio::test]
async fn what_was_read_can_be_produced_again_as_it_is() {
    let server = TestServer::start().await;
    server.create_topic("visits", 1).await;
    server.append("visits", 0, &["a", "b"]).await;
    let fetch = v1::FetchRequest {
        topic: "visits".to_owned(),
        ..v1::FetchRequest::default()
    };
    let read = server
        .log()
        .fetch(fetch)
        .await
        .expect("fetched")
        .into_inner();
    let again = v1::ProduceRequest {
        records: read.records,
        topic: "visits".to_owned(),
        acks: v1::Acks::Written.into(),
        ..v1::ProduceRequest::default()
    };
    let runs = server
        .log()
        .produce(again)
        .await
        .expect("appended")
        .into_inner()
        .runs;
    assert_eq!(runs[0].base_offset, 2);
    server
        .log()
        .produce(to("visits", &["c"]))
        .await
        .expect("appended, and synced with it");
    assert_eq!(server.values("visits", 0).await, ["a", "b", "a", "b", "c"]);
    server.stop().await;
}

#[tokio::test]
async fn wrong_fields_are_refused_by_name() {
    let server = TestServer::start().await;
    server.create_topic("visits", 2).await;
    let request = || to("visits", &["a"]);
    let invalid = Code::InvalidArgument;

    let absent = to("absent", &["a"]);
    refused(
        &server,
        absent,
        Code::NotFound,
        "TOPIC_NOT_FOUND",
        &[("topic", "absent")],
    )
    .await;
    let behind = v1::ProduceRequest {
        partition: Some(2),
        ..request()
    };
    let facts = [("partition", "2"), ("partition-count", "2")];
    refused(
        &server,
        behind,
        Code::NotFound,
        "PARTITION_NOT_FOUND",
        &facts,
    )
    .await;
    let negative = v1::ProduceRequest {
        partition: Some(-1),
        ..request()
    };
    refused(
        &server,
        negative,
        invalid,
        "INVALID_FIELD",
        &[("field", "partition")],
    )
    .await;
    let acks = v1::ProduceRequest {
        acks: 77,
        ..request()
    };
    refused(
        &server,
        acks,
        invalid,
        "INVALID_FIELD",
        &[("field", "acks")],
    )
    .await;
    let producer = v1::ProduceRequest {
        producer: Some(v1::Producer::default()),
        ..request()
    };
    let field = [("field", "producer.id")];
    refused(&server, producer, invalid, "INVALID_FIELD", &field).await;
    let nowhere = v1::ProduceRequest {
        expected_offset: Some(0),
        partition: None,
        ..request()
    };
    let field = [("field", "expected_offset")];
    refused(&server, nowhere, invalid, "INVALID_FIELD", &field).await;
    let negative = v1::ProduceRequest {
        expected_offset: Some(-1),
        partition: Some(0),
        ..request()
    };
    refused(&server, negative, invalid, "INVALID_FIELD", &field).await;
    let empty = to("visits", &[]);
    refused(
        &server,
        empty,
        invalid,
        "INVALID_FIELD",
        &[("field", "records")],
    )
    .await;
    assert!(server.values("visits", 0).await.is_empty());
    assert!(server.values("visits", 1).await.is_empty());
    server.stop().await;
}

#[tokio::test]
async fn wrong_records_are_refused_and_nothing_of_the_request_is_appended() {
    let server = TestServer::start_with(|config| {
        config.limits.max_record_bytes = 100;
        config.limits.max_request_bytes = 4_096;
        config.limits.max_records_per_request = 50;
    })
    .await;
    server.create_topic("visits", 1).await;
    let invalid = Code::InvalidArgument;

    let long = "x".repeat(101);
    let request = to("visits", &["fine", &long]);
    let facts = [("record", "1"), ("limit", "100")];
    refused(&server, request, invalid, "RECORD_TOO_LARGE", &facts).await;

    let many = vec!["x"; 51];
    let status = server
        .log()
        .produce(to("visits", &many))
        .await
        .expect_err("too many");
    assert_eq!(status.code(), invalid, "{status:?}");

    let long = "x".repeat(90);
    let large = vec![long.as_str(); 45];
    let facts = [("field", "records"), ("limit", "4096")];
    refused(
        &server,
        to("visits", &large),
        invalid,
        "INVALID_FIELD",
        &facts,
    )
    .await;
    let far_too_large = "x".repeat(1 << 20);
    let request = to("visits", &[&far_too_large]);
    refused(&server, request, invalid, "INVALID_FIELD", &facts).await;

    assert!(server.values("visits", 0).await.is_empty());
    server
        .append("visits", 0, &["the connection is still good"])
        .await;
    server.stop().await;
}

#[tokio::test]
async fn malformed_bytes_are_refused_with_what_is_wrong() {
    let server = TestServer::start().await;
    server.create_topic("visits", 1).await;
    let topic = b"\x12\x06visits";
    let with = |records: &[u8]| [records, topic].concat();

    let unknown = with(b"\x0A\x03\x12\x01v\x0A\x02\x58\x07");
    let status = server
        .call_raw(PRODUCE, unknown)
        .await
        .expect_err("unknown field");
    assert_refused(
        &status,
        Code::InvalidArgument,
        "MALFORMED_RECORD",
        &[("record", "1"), ("field", "11")],
    );
    for record in [
        &b"\x0A\x03\x12\x05v"[..],               // a length that is not there
        b"\x0A\x06\x12\x01v\x0A\x01k",           // value before key
        b"\x0A\x07\x1A\x05\x0A\x03\xC3\x28\x41", // a header's key that is no UTF-8
        b"\x8A\x00\x00",                         // a tag longer than it needs to be
    ] {
        let status = server
            .call_raw(PRODUCE, with(record))
            .await
            .expect_err("malformed");
        assert_refused(
            &status,
            Code::InvalidArgument,
            "MALFORMED_RECORD",
            &[("record", "0")],
        );
    }
    for (message, field) in [
        (&b"\x0A\x00\x12\x02\xC3\x28"[..], "topic"),
        (b"\x0A\x7F", "request"),
        (b"\x08\x01", "records"),
    ] {
        let message = Bytes::from_static(message);
        let status = server
            .call_raw(PRODUCE, message)
            .await
            .expect_err("no message");
        assert_refused(
            &status,
            Code::InvalidArgument,
            "INVALID_FIELD",
            &[("field", field)],
        );
    }
    assert!(server.values("visits", 0).await.is_empty());

    let odd_but_fine = [
        &topic[..],
        b"\x0A\x03\x12\x01a\xA0\x06\x01\x0A\x03\x12\x01b\x0A\x00",
    ]
    .concat();
    let answer = server
        .call_raw(PRODUCE, odd_but_fine)
        .await
        .expect("appended");
    let answer = v1::ProduceResponse::decode(answer).expect("a response");
    assert_eq!(answer.runs[0].record_count, 3);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deadline_that_passes_before_the_sync_leaves_the_outcome_unknown() {
    let gate = Gate::default();
    let dir = std::sync::Arc::new(tempfile::tempdir().expect("a directory"));
    let server = TestServer::start_in(dir, gate.env(), |_| {}).await;
    server.create_topic("visits", 1).await;
    server.append("visits", 0, &["first"]).await;

    gate.shut();
    let mut request = tonic::Request::new(to("visits", &["late"]));
    request.set_timeout(Duration::from_secs(1));
    let status = server.log().produce(request).await.expect_err("too slow");
    assert_refused(&status, Code::DeadlineExceeded, "OUTCOME_UNKNOWN", &[]);
    gate.open();
    server.append("visits", 0, &["last"]).await;
    assert_eq!(server.values("visits", 0).await, ["first", "late", "last"]);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deadline_that_passes_before_there_is_room_appends_nothing() {
    let gate = Gate::default();
    let dir = std::sync::Arc::new(tempfile::tempdir().expect("a directory"));
    let server = TestServer::start_in(dir, gate.env(), |config| {
        config.limits.max_record_bytes = 1_000_000;
        config.limits.max_request_bytes = 1_000_000;
        config.limits.max_produce_bytes_in_flight = 1 << 20;
    })
    .await;
    server.create_topic("visits", 1).await;
    server.append("visits", 0, &["first"]).await;

    gate.shut();
    let large = "x".repeat(900_000);
    let mut log = server.log();
    let request = to("visits", &[&large]);
    let holding = tokio::spawn(async move { log.produce(request).await });
    gate.somebody_waits().await;
    let mut request = tonic::Request::new(to("visits", &[&large]));
    request.set_timeout(Duration::from_secs(1));
    let status = server.log().produce(request).await.expect_err("no room");
    assert_refused(&status, Code::ResourceExhausted, "THROTTLED", &[]);
    gate.open();
    holding.await.expect("no panic").expect("appended");
    assert_eq!(server.values("visits", 0).await.len(), 2);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_goes_away_does_not_cancel_the_append() {
    let gate = Gate::default();
    let dir = std::sync::Arc::new(tempfile::tempdir().expect("a directory"));
    let server = TestServer::start_in(dir, gate.env(), |_| {}).await;
    server.create_topic("visits", 1).await;
    server.append("visits", 0, &["first"]).await;

    gate.shut();
    let mut log = server.log();
    let call = tokio::spawn(async move { log.produce(to("visits", &["left"])).await });
    gate.somebody_waits().await;
    call.abort();
    assert!(call.await.expect_err("aborted").is_cancelled());
    gate.open();
    server.append("visits", 0, &["last"]).await;
    assert_eq!(server.values("visits", 0).await, ["first", "left", "last"]);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_is_told_and_reads_go_on() {
    let gate = Gate::default();
    let dir = std::sync::Arc::new(tempfile::tempdir().expect("a directory"));
    let server = TestServer::start_in(dir, gate.env(), |_| {}).await;
    server.create_topic("visits", 1).await;
    server.append("visits", 0, &["first"]).await;

    gate.set_full(true);
    let large = "x".repeat(1 << 20);
    let large = vec![large.get(..1_000_000).expect("shorter"); 2];
    let status = server
        .log()
        .produce(to("visits", &large))
        .await
        .expect_err("full");
    assert_refused(&status, Code::ResourceExhausted, "DISK_FULL", &[]);
    assert_eq!(server.values("visits", 0).await, ["first"]);
    gate.set_full(false);
    server.append("visits", 0, &["again"]).await;
    assert_eq!(server.values("visits", 0).await, ["first", "again"]);
    server.stop().await;
}

#[tokio::test]
async fn a_request_may_go_to_several_partitions() {
    let server = TestServer::start().await;
    server.create_topic("visits", 3).await;
    let keyed = |key: &str| v1::Record {
        key: Some(Bytes::copy_from_slice(key.as_bytes())),
        ..record(key)
    };
    let request = v1::ProduceRequest {
        records: (0..60).map(|n| keyed(&format!("key-{}", n % 20))).collect(),
        topic: "visits".to_owned(),
        ..v1::ProduceRequest::default()
    };
    let runs = server
        .log()
        .produce(request.clone())
        .await
        .expect("appended")
        .into_inner()
        .runs;
    let told: i32 = runs.iter().map(|run| run.record_count).sum();
    assert_eq!(told, 60);

    let mut read = std::collections::HashMap::new();
    for partition in 0..3 {
        read.insert(partition, server.values("visits", partition).await);
    }
    let mut request = request.records.iter();
    for run in &runs {
        for offset in run.base_offset..run.base_offset + i64::from(run.record_count) {
            let sent = crate::harness::text(request.next().expect("as many as were sent"));
            assert_eq!(
                read[&run.partition][usize::try_from(offset).expect("small")],
                sent
            );
        }
    }
    assert!(read.values().filter(|values| !values.is_empty()).count() > 1);
    server.stop().await;
}
