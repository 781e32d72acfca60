//! Records that the broker does not take.

use bytes::Bytes;
use flowstone_proto::v1 as proto;
use flowstone_tests::{Broker, Stub, raw_call};
use prost::Message;
use tonic::{Code, Status};

use super::{TOPIC, assert_nothing_is_lost, with_visits};

const RECORD_BYTES_MAX: usize = 1 << 20;

fn trailer<'a>(status: &'a Status, name: &str) -> &'a str {
    let value = status.metadata().get(name);
    let value = value.unwrap_or_else(|| panic!("no trailer {name}: {status}"));
    value.to_str().unwrap()
}

/// Produces to partition 0: a good record, then the record of these bytes.
async fn produce_raw(stub: &Stub, body: &[u8]) -> Result<Bytes, Status> {
    let good = proto::ProduceRequest {
        topic: TOPIC.to_owned(),
        partition: Some(0),
        records: vec![proto::Record {
            value: Some("good".into()),
            ..proto::Record::default()
        }],
        ..proto::ProduceRequest::default()
    };
    let mut request = good.encode_to_vec();
    request.push(0x0a);
    prost::encode_length_delimiter(body.len(), &mut request).unwrap();
    request.extend_from_slice(body);
    let method = "/flowstone.v1.LogService/Produce";
    raw_call(stub.channel.clone(), method, request.into()).await
}

#[tokio::test]
async fn malformed_records_are_refused_with_all_of_their_request() {
    let broker = with_visits();
    let stub = Stub::connect(&broker.url()).await.unwrap();
    let malformed: [(&str, &[u8]); 10] = [
        ("a field that there is not", &[0x3a, 0x01, b'x']),
        ("a key after a value", &[0x12, 0x01, b'v', 0x0a, 0x01, b'k']),
        ("two values", &[0x12, 0x01, b'a', 0x12, 0x01, b'b']),
        ("a value that is cut off", &[0x12, 0x05, b'v']),
        (
            "a length that is longer than it need be",
            &[0x12, 0x81, 0x00, b'v'],
        ),
        ("a group", &[0x13, 0x14]),
        (
            "a header whose name is no text",
            &[0x1a, 0x03, 0x0a, 0x01, 0xff],
        ),
        ("a header that is cut off", &[0x1a, 0x02, 0x0a, 0x05]),
        ("a priority of 10", &[0x30, 0x0a]),
        (
            "a number of eleven bytes",
            &[
                0x20, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01,
            ],
        ),
    ];
    for (what, body) in malformed {
        let status = produce_raw(&stub, body).await.expect_err(what);
        assert_eq!(status.code(), Code::InvalidArgument, "{what}: {status}");
        assert_eq!(
            trailer(&status, "flowstone-reason"),
            "MALFORMED_RECORD",
            "{what}"
        );
        assert_eq!(trailer(&status, "flowstone-record"), "1", "{what}");
        assert!(status.message().contains("record 1"), "{what}: {status}");
    }
    let status = produce_raw(&stub, &[0x3a, 0x01, b'x']).await.unwrap_err();
    assert_eq!(
        trailer(&status, "flowstone-field"),
        "7",
        "the field is named"
    );
    assert_nothing_is_lost(&broker);
    // The same with nothing wrong goes in: the rest of the request is not what was refused.
    produce_raw(&stub, &[0x12, 0x01, b'v']).await.unwrap();
}

async fn produce(stub: &Stub, values: Vec<Vec<u8>>) -> Result<(), Status> {
    let records = values.into_iter().map(|value| proto::Record {
        value: Some(value.into()),
        ..proto::Record::default()
    });
    let request = proto::ProduceRequest {
        topic: TOPIC.to_owned(),
        partition: Some(1),
        records: records.collect(),
        ..proto::ProduceRequest::default()
    };
    stub.log.clone().produce(request).await.map(drop)
}

#[tokio::test]
async fn a_record_that_is_too_large_is_refused_with_all_of_its_request() {
    let broker = with_visits();
    let stub = Stub::connect(&broker.url()).await.unwrap();
    let too_large = vec![vec![1; 10], vec![1; RECORD_BYTES_MAX]];
    let status = produce(&stub, too_large).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
    assert_eq!(trailer(&status, "flowstone-reason"), "RECORD_TOO_LARGE");
    assert_eq!(
        trailer(&status, "flowstone-limit"),
        RECORD_BYTES_MAX.to_string()
    );
    assert_eq!(trailer(&status, "flowstone-record"), "1");

    let many = vec![vec![1; 900_000]; 4];
    let status = produce(&stub, many).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument, "{status}");
    assert_eq!(trailer(&status, "flowstone-field"), "records");
    assert!(status.message().contains("several requests"), "{status}");

    // Far beyond what a message may be.
    let status = produce(&stub, vec![vec![1; 40 << 20]]).await.unwrap_err();
    assert!(
        matches!(
            status.code(),
            Code::InvalidArgument | Code::ResourceExhausted | Code::OutOfRange
        ),
        "{status}"
    );
    assert_nothing_is_lost(&broker);
}

#[test]
fn a_line_that_is_too_long_is_told_by_its_number() {
    let broker = with_visits();
    let long = "x".repeat(RECORD_BYTES_MAX + 1);
    let run = broker
        .flowstone(["produce", TOPIC, "-p", "0"])
        .stdin(format!("{long}\nnext\n"));
    run.run()
        .fails(1, &["standard input, line 1", "1048576 bytes"]);
    assert_nothing_is_lost(&broker);

    // What came before is in, and the summary tells how much that is.
    let run = broker
        .flowstone(["produce", TOPIC, "-p", "0"])
        .stdin(format!("before\n{long}\n"));
    run.run().fails(
        1,
        &[
            "standard input, line 2",
            "acknowledged before the failure: 1 record",
        ],
    );
    let read = broker
        .flowstone(["consume", TOPIC, "-p", "0", "-o", "10:end"])
        .run()
        .ok();
    assert_eq!(read.lines(), ["before"]);
}

#[test]
fn a_topic_may_take_less() {
    let broker = Broker::start();
    let create = ["topic", "create", "small", "--max-record-bytes", "100"];
    broker.flowstone(create).run().ok();
    let run = broker
        .flowstone(["produce", "small"])
        .stdin("y".repeat(100));
    run.run().fails(1, &["line 1", "at most 100"]);
    let read = broker.flowstone(["consume", "small", "-e"]).run().ok();
    assert_eq!(read.stdout, b"");
}
