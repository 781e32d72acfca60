//! ProduceStream: answers in order, and the first failure ends it.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use flowstone_proto::v1;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status, Streaming};

use crate::gated_disk::Gate;
use crate::harness::{RawCodec, TestServer, assert_refused, to};

type Requests = mpsc::Sender<v1::ProduceStreamRequest>;

async fn open(server: &TestServer) -> (Requests, Streaming<v1::ProduceStreamResponse>) {
    let (requests, received) = mpsc::channel(1_000);
    let answers = server
        .log()
        .produce_stream(ReceiverStream::new(received))
        .await
        .expect("opened")
        .into_inner();
    (requests, answers)
}

fn wrapped(produce: v1::ProduceRequest) -> v1::ProduceStreamRequest {
    v1::ProduceStreamRequest {
        produce: Some(produce),
    }
}

async fn send(requests: &Requests, topic: &str, value: &str) {
    requests
        .send(wrapped(to(topic, &[value])))
        .await
        .expect("the stream is open");
}

async fn base_offset(answers: &mut Streaming<v1::ProduceStreamResponse>) -> i64 {
    let answer = answers
        .message()
        .await
        .expect("no failure")
        .expect("an answer");
    assert_eq!(answer.error, None);
    answer.produce.expect("appended").runs[0].base_offset
}

/// The last answer tells the failure, and the call ends with the same.
async fn failure(answers: &mut Streaming<v1::ProduceStreamResponse>) -> Status {
    let last = answers
        .message()
        .await
        .expect("told inside first")
        .expect("an answer");
    let error = last.error.expect("a failure");
    assert_eq!(last.produce, None);
    let status = answers.message().await.expect_err("the call ends so");
    assert_eq!(error.code, i32::from(status.code()));
    assert_eq!(error.message, status.message());
    let reason = crate::harness::trailer(&status, "reason");
    assert_eq!(Some(error.reason), reason);
    for (key, value) in &error.metadata {
        assert_eq!(crate::harness::trailer(&status, key).as_ref(), Some(value));
    }
    let retry = crate::harness::trailer(&status, "retry-ms").is_some();
    assert_eq!(error.retry_delay.is_some(), retry);
    assert_eq!(
        answers.message().await.ok().flatten(),
        None,
        "nothing after it"
    );
    status
}

#[tokio::test]
async fn many_requests_are_answered_in_their_order() {
    let server = TestServer::start_with(|config| config.produce_stream_requests_max = 16).await;
    server.create_topic("visits", 1).await;
    let (requests, mut answers) = open(&server).await;
    for n in 0..500 {
        send(&requests, "visits", &n.to_string()).await;
    }
    drop(requests);
    for n in 0..500 {
        assert_eq!(base_offset(&mut answers).await, n);
    }
    assert_eq!(answers.message().await.expect("ends well"), None);
    let expected: Vec<String> = (0..500).map(|n| n.to_string()).collect();
    assert_eq!(server.values("visits", 0).await, expected);
    server.stop().await;
}

#[tokio::test]
async fn one_request_at_a_time_is_answered_without_waiting_for_more() {
    let server = TestServer::start().await;
    server.create_topic("visits", 1).await;
    let (requests, mut answers) = open(&server).await;
    for n in 0..10 {
        send(&requests, "visits", "x").await;
        assert_eq!(base_offset(&mut answers).await, n);
    }
    drop(requests);
    assert_eq!(answers.message().await.expect("ends well"), None);
    server.stop().await;
}

#[tokio::test]
async fn the_first_failing_request_ends_the_stream_and_nothing_later_is_appended() {
    let server = TestServer::start().await;
    server.create_topic("visits", 1).await;
    let (requests, mut answers) = open(&server).await;
    for value in ["a", "b"] {
        send(&requests, "visits", value).await;
    }
    send(&requests, "absent", "c").await;
    for value in ["d", "e"] {
        send(&requests, "visits", value).await;
    }
    assert_eq!(base_offset(&mut answers).await, 0);
    assert_eq!(base_offset(&mut answers).await, 1);
    let status = failure(&mut answers).await;
    assert_refused(
        &status,
        Code::NotFound,
        "TOPIC_NOT_FOUND",
        &[("topic", "absent")],
    );
    assert_eq!(server.values("visits", 0).await, ["a", "b"]);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_append_stops_those_that_were_sent_behind_it() {
    let gate = Gate::default();
    let dir = Arc::new(tempfile::tempdir().expect("a directory"));
    let server = TestServer::start_in(dir, gate.env(), |_| {}).await;
    server.create_topic("visits", 1).await;
    server.append("visits", 0, &["first"]).await;
    gate.shut();
    gate.set_full(true);
    let (requests, mut answers) = open(&server).await;
    send(&requests, "visits", "before").await;
    gate.somebody_waits().await;
    let large = "x".repeat(900_000);
    let request = wrapped(to("visits", &[&large, &large]));
    requests.send(request).await.expect("the stream is open");
    send(&requests, "visits", "behind").await;
    // While these are answered over the same connection, all three are submitted.
    for _ in 0..5 {
        server.values("visits", 0).await;
    }
    gate.open();
    assert_eq!(base_offset(&mut answers).await, 1);
    let status = failure(&mut answers).await;
    assert_refused(&status, Code::ResourceExhausted, "DISK_FULL", &[]);
    gate.set_full(false);
    assert_eq!(server.values("visits", 0).await, ["first", "before"]);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_disk_slows_the_sender_and_nothing_piles_up() {
    const ROOM_BYTES: u32 = 4 << 20;
    /// That of the first connection, half of which is the stream's.
    const WINDOW_BYTES: u32 = 2 << 20;
    const REQUESTS: usize = 512;
    let gate = Gate::default();
    let dir = Arc::new(tempfile::tempdir().expect("a directory"));
    let server = TestServer::start_in(dir, gate.env(), |config| {
        config.limits.max_produce_bytes_in_flight = ROOM_BYTES;
        config.http2.total_window_bytes = 16 * WINDOW_BYTES;
    })
    .await;
    server.create_topic("visits", 1).await;
    server.append("visits", 0, &["first"]).await;
    gate.shut();

    let (requests, received) = mpsc::channel(1);
    let value = "x".repeat(64 << 10);
    let mut log = server.log();
    let opened = log.produce_stream(ReceiverStream::new(received)).await;
    let mut answers = opened.expect("opened").into_inner();
    let (told, mut sent) = tokio::sync::watch::channel(0);
    let sender = tokio::spawn(async move {
        for number in 1..=REQUESTS {
            let request = wrapped(to("visits", &[&value]));
            requests.send(request).await.expect("the stream is open");
            told.send_replace(number);
        }
    });
    gate.somebody_waits().await;
    // Until the client has found no room for another one for a while.
    let pause = Duration::from_millis(500);
    while let Ok(changed) = tokio::time::timeout(pause, sent.changed()).await {
        changed.expect("the sender is at work");
        let bytes = *sent.borrow_and_update() * (64 << 10);
        // What lies in the buffers of both ends comes on top.
        let most = (ROOM_BYTES + WINDOW_BYTES) as usize + (2 << 20);
        assert!(
            bytes < most,
            "{bytes} bytes were taken while the disk stood still"
        );
    }
    let other_call = tokio::time::timeout(Duration::from_secs(30), server.values("visits", 0));
    let values = other_call
        .await
        .expect("other calls of the connection go on");
    assert_eq!(values, ["first"]);
    gate.open();
    for offset in 1..=REQUESTS as i64 {
        assert_eq!(base_offset(&mut answers).await, offset);
    }
    sender.await.expect("all was sent");
    server.stop().await;
}

#[tokio::test]
async fn requests_of_a_stream_are_refused_as_those_of_a_single_call() {
    let server = TestServer::start_with(|config| config.limits.max_request_bytes = 1 << 20).await;
    server.create_topic("visits", 1).await;
    let large = "x".repeat(1_000_000);
    let invalid = Code::InvalidArgument;
    for (request, code, reason, fact) in [
        (
            v1::ProduceStreamRequest::default(),
            invalid,
            "INVALID_FIELD",
            ("field", "produce"),
        ),
        (
            wrapped(v1::ProduceRequest {
                producer: Some(v1::Producer::default()),
                ..to("visits", &["a"])
            }),
            invalid,
            "INVALID_FIELD",
            ("field", "producer.id"),
        ),
        (
            wrapped(to("visits", &[&large, &large])),
            invalid,
            "INVALID_FIELD",
            ("field", "records"),
        ),
        (
            wrapped(to("visits", &[&large, &large, &large])),
            invalid,
            "INVALID_FIELD",
            ("limit", "1048576"),
        ),
    ] {
        let (requests, mut answers) = open(&server).await;
        requests.send(request).await.expect("the stream is open");
        let status = failure(&mut answers).await;
        assert_refused(&status, code, reason, &[fact]);
    }
    server.stop().await;
}

#[tokio::test]
async fn a_message_that_is_no_request_is_answered_in_its_turn() {
    let server = TestServer::start().await;
    server.create_topic("visits", 1).await;
    let mut client = tonic::client::Grpc::new(server.channel.clone());
    client.ready().await.expect("connected");
    let messages = [
        &b"\x0A\x0D\x0A\x03\x12\x01a\x12\x06visits"[..],
        b"\x0A\x06\x0A\x00\x12\x02\xC3\x28",
    ];
    let mut answers = client
        .streaming(
            tonic::Request::new(tokio_stream::iter(messages.map(Bytes::from_static))),
            http::uri::PathAndQuery::from_static("/flowstone.v1.LogService/ProduceStream"),
            RawCodec,
        )
        .await
        .expect("opened")
        .into_inner();
    let decode = |answer: Bytes| <v1::ProduceStreamResponse as prost::Message>::decode(answer);
    let first = answers
        .message()
        .await
        .expect("appended")
        .expect("an answer");
    assert!(decode(first).expect("a response").produce.is_some());
    let second = answers
        .message()
        .await
        .expect("told inside")
        .expect("an answer");
    let error = decode(second)
        .expect("a response")
        .error
        .expect("a failure");
    assert_eq!(
        (error.reason.as_str(), error.metadata["field"].as_str()),
        ("INVALID_FIELD", "topic")
    );
    let status = answers.message().await.expect_err("the call ends so");
    assert_refused(
        &status,
        Code::InvalidArgument,
        "INVALID_FIELD",
        &[("field", "topic")],
    );
    server.stop().await;
}
