//! Repeats, openings and expected offsets, as plain stubs see them.

use flowstone_proto::v1;
use tonic::Code;

use crate::harness::{TestServer, assert_refused, record};

fn request(epoch: i32, sequence: i64, value: &str) -> v1::ProduceRequest {
    v1::ProduceRequest {
        records: vec![record(value)],
        topic: "visits".to_owned(),
        partition: Some(0),
        producer: Some(v1::Producer {
            id: "till-4".to_owned(),
            epoch,
            sequence,
        }),
        ..v1::ProduceRequest::default()
    }
}

async fn place(server: &TestServer, request: v1::ProduceRequest) -> (i64, bool) {
    let response = server.log().produce(request).await.expect("it is taken");
    let response = response.into_inner();
    (response.runs[0].base_offset, response.duplicate)
}

async fn refused(
    server: &TestServer,
    request: v1::ProduceRequest,
    code: Code,
    reason: &str,
    facts: &[(&str, &str)],
) {
    let status = server.log().produce(request).await.expect_err("refused");
    assert_refused(&status, code, reason, facts);
}

#[tokio::test]
async fn a_repeat_is_told_as_one_and_what_is_no_repeat_is_refused() {
    let server = TestServer::start().await;
    server.create_topic("visits", 2).await;
    assert_eq!(place(&server, request(0, 1, "a")).await, (0, false));
    assert_eq!(place(&server, request(0, 1, "a")).await, (0, true));
    let facts = [("sequence", "1"), ("partition", "0")];
    let other = request(0, 1, "b");
    let invalid = Code::InvalidArgument;
    refused(&server, other, invalid, "SEQUENCE_REUSED", &facts).await;
    let expecting = |offset, sequence| v1::ProduceRequest {
        expected_offset: Some(offset),
        ..request(0, sequence, "c")
    };
    let facts = [("partition", "0"), ("end-offset", "1")];
    let wrong = expecting(7, 2);
    refused(&server, wrong, Code::Aborted, "OFFSET_MISMATCH", &facts).await;
    assert_eq!(place(&server, expecting(1, 2)).await, (1, false));
    assert_eq!(place(&server, expecting(1, 2)).await, (1, true));
    let dir = server.stop().await;
    let server = TestServer::start_in(dir, flowstone_disk::Env::real(), |_| {}).await;
    assert_eq!(place(&server, request(0, 1, "a")).await, (0, true));
    server.stop().await;
}

#[tokio::test]
async fn an_opened_producer_learns_how_far_it_came_and_older_ones_are_over() {
    let server = TestServer::start().await;
    server.create_topic("visits", 2).await;
    place(&server, request(0, 41, "a")).await;
    let open = || async {
        let request = v1::OpenProducerRequest {
            topic: "visits".to_owned(),
            id: "till-4".to_owned(),
        };
        let opened = server.log().open_producer(request).await;
        let opened = opened.expect("it can be opened").into_inner();
        (opened.epoch, opened.last_sequence)
    };
    assert_eq!(open().await, (1, 41));
    let facts = [("epoch", "0"), ("current-epoch", "1")];
    let old = request(0, 42, "b");
    refused(&server, old, Code::Aborted, "STALE_PRODUCER", &facts).await;
    assert_eq!(place(&server, request(1, 41, "a")).await, (0, true));
    assert_eq!(place(&server, request(1, 42, "b")).await, (1, false));
    assert_eq!(open().await, (2, 42));
    let unnamed = v1::OpenProducerRequest {
        topic: "visits".to_owned(),
        id: String::new(),
    };
    let status = server.log().open_producer(unnamed).await;
    assert_refused(
        &status.expect_err("it needs a name"),
        Code::InvalidArgument,
        "INVALID_FIELD",
        &[("field", "id")],
    );
    server.stop().await;
}
