//! Calls that ask for what there is not, or not yet.

use flowstone_proto::v1 as proto;
use flowstone_proto::v1::start_position::Position;
use flowstone_tests::Stub;
use tonic::{Code, Status};

use super::{TOPIC, assert_nothing_is_lost, with_visits};

fn trailer<'a>(status: &'a Status, name: &str) -> Option<&'a str> {
    Some(status.metadata().get(name)?.to_str().unwrap())
}

async fn fetch(stub: &Stub, offset: i64) -> Result<proto::FetchResponse, Status> {
    let request = proto::FetchRequest {
        topic: TOPIC.to_owned(),
        start: Some(proto::StartPosition {
            position: Some(Position::Offset(offset)),
        }),
        ..proto::FetchRequest::default()
    };
    let response = stub.log.clone().fetch(request).await?;
    Ok(response.into_inner())
}

#[tokio::test]
async fn an_offset_out_of_range_is_told_with_the_range() {
    let broker = with_visits();
    let stub = Stub::connect(&broker.url()).await.unwrap();
    // The end itself is where the next record will be.
    assert_eq!(fetch(&stub, 10).await.unwrap().records, []);
    let beyond = fetch(&stub, 11).await.unwrap_err();
    let trim = ["topic", "trim", TOPIC, "-p", "0", "--before", "4"];
    broker.flowstone(trim).run().ok();
    let trimmed = fetch(&stub, 3).await.unwrap_err();
    assert_eq!(fetch(&stub, 4).await.unwrap().records.len(), 6);
    let told = [
        (beyond, "OFFSET_BEYOND_END", "0"),
        (trimmed, "OFFSET_TRIMMED", "4"),
    ];
    for (status, reason, start) in told {
        assert_eq!(status.code(), Code::OutOfRange, "{status}");
        assert_eq!(trailer(&status, "flowstone-reason"), Some(reason));
        assert_eq!(trailer(&status, "flowstone-log-start-offset"), Some(start));
        assert_eq!(trailer(&status, "flowstone-high-watermark"), Some("10"));
    }

    let consume = |from| ["consume", TOPIC, "-p", "0", "-e", "-o", from];
    broker
        .flowstone(consume("11"))
        .run()
        .fails(1, &["offset 11", "starts at 4", "ends at 10"]);
    broker
        .flowstone(consume("3"))
        .run()
        .fails(1, &["offset 3 was trimmed", "starts at 4"]);
    assert_eq!(broker.flowstone(consume("4")).run().ok().lines().len(), 6);
    let trim = ["topic", "trim", TOPIC, "-p", "0", "--before", "11"];
    broker.flowstone(trim).run().fails(1, &["11", "10"]);
    assert_eq!(
        broker.flowstone(consume("start")).run().ok().lines().len(),
        6
    );
}

#[tokio::test]
async fn a_producer_that_makes_no_sense_is_refused_by_name() {
    let broker = with_visits();
    let stub = Stub::connect(&broker.url()).await.unwrap();
    let plain = || proto::ProduceRequest {
        topic: TOPIC.to_owned(),
        partition: Some(0),
        records: vec![proto::Record::default()],
        ..proto::ProduceRequest::default()
    };
    let with_producer = proto::ProduceRequest {
        producer: Some(proto::Producer {
            id: "till-1".to_owned(),
            epoch: 0,
            sequence: 0,
        }),
        ..plain()
    };
    let with_expectation = proto::ProduceRequest {
        partition: None,
        expected_offset: Some(10),
        ..plain()
    };
    let mut refused = Vec::new();
    for request in [with_producer, with_expectation] {
        refused.push(stub.log.clone().produce(request).await.unwrap_err());
    }
    let open = proto::OpenProducerRequest {
        topic: TOPIC.to_owned(),
        id: "x".repeat(129),
    };
    refused.push(stub.log.clone().open_producer(open).await.unwrap_err());
    let fields = ["producer.sequence", "expected_offset", "id"];
    for (status, field) in refused.iter().zip(fields) {
        assert_eq!(status.code(), Code::InvalidArgument, "{status}");
        assert_eq!(trailer(status, "flowstone-reason"), Some("INVALID_FIELD"));
        assert_eq!(trailer(status, "flowstone-field"), Some(field));
    }
    assert_nothing_is_lost(&broker);
}
