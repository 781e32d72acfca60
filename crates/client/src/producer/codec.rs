//! Requests of a produce stream, put together from bytes that were encoded before.
//!
//! The records of a request are its field 1, a run of `0A len Record`, so a run that grew record
//! by record is the request once the fields after it are appended.

use bytes::{BufMut, Bytes, BytesMut};
use flowstone_proto::v1 as proto;
use prost::Message;
use prost::encoding::{encode_varint, encoded_len_varint};
use tonic::Status;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};

/// Field 1, length-delimited: `records` in `ProduceRequest`, and `produce` in
/// `ProduceStreamRequest`.
const FIELD_1: u8 = 0x0a;

/// The length of `0A len Record` for a record of `body_bytes`.
pub(super) fn entry_len(body_bytes: usize) -> usize {
    1 + encoded_len_varint(body_bytes as u64) + body_bytes
}

/// Appends `0A len Record`.
pub(super) fn put_entry(run: &mut BytesMut, record: &proto::Record) {
    run.put_u8(FIELD_1);
    record
        .encode_length_delimited(run)
        .expect("a BytesMut grows as needed");
}

/// The fields of a `ProduceRequest` after its records.
pub(super) fn request_tail(topic: &str, partition: Option<i32>, acks: proto::Acks) -> Bytes {
    proto::ProduceRequest {
        topic: topic.to_owned(),
        partition,
        acks: acks.into(),
        ..proto::ProduceRequest::default()
    }
    .encode_to_vec()
    .into()
}

/// The fields behind those of [`request_tail`], which differ from request to request.
pub(super) fn request_end(
    producer: Option<proto::Producer>,
    expected_offset: Option<i64>,
) -> Bytes {
    proto::ProduceRequest {
        producer,
        expected_offset,
        ..proto::ProduceRequest::default()
    }
    .encode_to_vec()
    .into()
}

/// A `ProduceStreamRequest`: the run of its records, what follows them in each request, and what only
/// this one has.
#[derive(Clone, Debug)]
pub(super) struct RawRequest {
    pub(super) run: Bytes,
    pub(super) tail: Bytes,
    pub(super) end: Bytes,
}

/// Raw requests out, decoded responses in.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct ProduceCodec;

impl Codec for ProduceCodec {
    type Encode = RawRequest;
    type Decode = proto::ProduceStreamResponse;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for ProduceCodec {
    type Item = RawRequest;
    type Error = Status;

    fn encode(&mut self, request: RawRequest, out: &mut EncodeBuf<'_>) -> Result<(), Status> {
        let len = request.run.len() + request.tail.len() + request.end.len();
        out.reserve(entry_len(len));
        out.put_u8(FIELD_1);
        encode_varint(len as u64, out);
        out.put_slice(&request.run);
        out.put_slice(&request.tail);
        out.put_slice(&request.end);
        Ok(())
    }
}

impl Decoder for ProduceCodec {
    type Item = proto::ProduceStreamResponse;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<Self::Item>, Status> {
        proto::ProduceStreamResponse::decode(from)
            .map(Some)
            .map_err(|error| Status::internal(format!("the broker's answer is malformed: {error}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn run_and_tail_are_the_request_that_prost_would_encode() {
        let records = vec![
            proto::Record {
                key: Some("stand-1".into()),
                value: Some(vec![7; 300].into()),
                timestamp_ms: 1_431_857_103_000,
                ..proto::Record::default()
            },
            proto::Record::default(),
        ];
        let mut run = BytesMut::new();
        for record in &records {
            let before = run.len();
            put_entry(&mut run, record);
            assert_eq!(run.len() - before, entry_len(record.encoded_len()));
        }
        let mut raw = run.to_vec();
        let producer = proto::Producer {
            id: "till-4".into(),
            epoch: 3,
            sequence: 77,
        };
        raw.extend(request_tail("visits", Some(0), proto::Acks::Written));
        raw.extend(request_end(Some(producer.clone()), Some(0)));
        let request = proto::ProduceRequest {
            records,
            topic: "visits".into(),
            partition: Some(0),
            acks: proto::Acks::Written.into(),
            producer: Some(producer),
            expected_offset: Some(0),
        };
        assert_eq!(raw, request.encode_to_vec());
    }
}
