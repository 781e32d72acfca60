//! Flowstone's messages as bytes, encoded once, and what of them is payload.

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use flowstone_proto::v1::start_position::{Anchor, Position as StartAt};
use flowstone_proto::v1::stop_position::Position as StopAt;
use flowstone_proto::v1::{
    Acks, ProduceRequest, ProduceStreamRequest, ProduceStreamResponse, Record, StartPosition,
    StopPosition, SubscribeRequest,
};
use prost::Message;

use crate::work::{Durability, noise};

/// The stream that appends.
pub(crate) const PRODUCE: &str = "/flowstone.v1.LogService/ProduceStream";
/// The stream that reads.
pub(crate) const SUBSCRIBE: &str = "/flowstone.v1.LogService/Subscribe";
/// What Flowstone answers a reader with by default (`default_response_bytes`).
pub(crate) const RESPONSE_BYTES: usize = 1 << 20;

/// The `acks` of a durability.
pub(crate) fn acks(durability: Durability) -> Acks {
    match durability {
        Durability::Written => Acks::Written,
        Durability::Synced => Acks::Durable,
    }
}

/// One request of a produce stream, without a producer id.
pub(crate) fn produce_request(
    topic: &str,
    partition: i32,
    durability: Durability,
    value_bytes: usize,
    records: usize,
) -> Bytes {
    let record = Record {
        value: Some(noise(value_bytes).into()),
        ..Record::default()
    };
    let produce = ProduceRequest {
        records: vec![record; records],
        topic: topic.to_owned(),
        partition: Some(partition),
        acks: acks(durability).into(),
        ..ProduceRequest::default()
    };
    let request = ProduceStreamRequest {
        produce: Some(produce),
    };
    request.encode_to_vec().into()
}

/// Whether this answer says that the records are appended.
///
/// # Errors
/// When it says anything else.
pub(crate) fn check_ack(answer: Bytes) -> Result<()> {
    let answer =
        ProduceStreamResponse::decode(answer).context("the broker's answer is malformed")?;
    match (answer.error, answer.produce) {
        (None, Some(_)) => Ok(()),
        (Some(error), _) => bail!("the broker refused a request: {}", error.message),
        (None, None) => bail!("the broker's answer is empty"),
    }
}

/// The request that reads a topic from its start to its present end.
pub(crate) fn subscribe_request(topic: &str) -> Bytes {
    let request = SubscribeRequest {
        topic: topic.to_owned(),
        start: Some(StartPosition {
            position: Some(StartAt::Anchor(Anchor::Earliest.into())),
        }),
        stop: Some(StopPosition {
            position: Some(StopAt::CurrentEnd(true)),
        }),
        ..SubscribeRequest::default()
    };
    request.encode_to_vec().into()
}

/// The bytes that a stored record of such a value takes in a response, somewhere among the first tens of
/// millions.
pub(crate) fn stored_record_bytes(value_bytes: usize) -> usize {
    let record = Record {
        value: Some(vec![0; value_bytes].into()),
        timestamp_ms: 1_800_000_000_000,
        offset: 10_000_000,
        ..Record::default()
    };
    record.encode_length_delimited_to_vec().len() + 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_little_larger_than_its_values() {
        let request = produce_request("a-topic", 0, Durability::Written, 1024, 256);
        assert!(
            (256 << 10..260 << 10).contains(&request.len()),
            "{}",
            request.len()
        );
        let decoded = ProduceStreamRequest::decode(request)
            .unwrap()
            .produce
            .unwrap();
        assert_eq!(decoded.records.len(), 256);
        assert_eq!(decoded.acks(), Acks::Written);
    }

    #[test]
    fn only_an_answer_with_offsets_is_an_ack() {
        assert!(check_ack(Bytes::new()).is_err());
        let refused = ProduceStreamResponse {
            error: Some(flowstone_proto::v1::ErrorStatus {
                message: "no room".into(),
                ..Default::default()
            }),
            ..Default::default()
        };
        let error = check_ack(refused.encode_to_vec().into())
            .unwrap_err()
            .to_string();
        assert!(error.contains("no room"), "{error}");
    }

    #[test]
    fn a_stored_record_carries_its_time_and_offset() {
        // The value with 2 bytes around it, 7 of a time, 5 of an offset, and 2 in front of the record.
        assert_eq!(stored_record_bytes(100), 116);
    }
}
