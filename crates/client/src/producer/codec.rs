//! Requests of a produce stream, put together from bytes that were encoded before.
//!
//! The records of a request are its field 1, a run of `0A len Record`, so a run that grew record
//! by record is the request once the fields after it are appended.

use bytes::{BufMut, Bytes};
use flowstone_proto::v1 as proto;
use prost::Message;
use prost::encoding::{encode_varint, encoded_len_varint};
use tonic::Status;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};

use crate::records::tag;

/// Field 1, length-delimited: `records` in `ProduceRequest`, and `produce` in
/// `ProduceStreamRequest`.
const FIELD_1: u8 = 0x0a;

/// A record that is to become `0A len Record`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Entry<'a> {
    pub(super) record: &'a proto::Record,
    /// Of the record alone.
    pub(super) body_bytes: usize,
}

impl<'a> Entry<'a> {
    pub(super) fn new(record: &'a proto::Record) -> Self {
        Self {
            record,
            body_bytes: record.encoded_len(),
        }
    }

    /// With what stands before it.
    pub(super) fn len(&self) -> usize {
        entry_len(self.body_bytes)
    }

    /// Appends the bytes that prost would, without counting references and lengths again.
    pub(super) fn put(&self, run: &mut Vec<u8>) {
        let record = self.record;
        run.reserve(self.len());
        put_head(run, FIELD_1, self.body_bytes);
        if let Some(key) = &record.key {
            put_head(run, tag::KEY, key.len());
            run.extend_from_slice(key);
        }
        if let Some(value) = &record.value {
            put_head(run, tag::VALUE, value.len());
            run.extend_from_slice(value);
        }
        for header in &record.headers {
            put_head(run, tag::HEADER, header.encoded_len());
            header.encode(run).expect("a Vec grows as needed");
        }
        for (tag, number) in [
            (tag::TIMESTAMP_MS, record.timestamp_ms),
            (tag::DELIVER_AT_MS, record.deliver_at_ms),
            (tag::PRIORITY, record.priority.into()),
            (tag::OFFSET, record.offset),
        ] {
            if number != 0 {
                run.push(tag);
                encode_varint(number as u64, run);
            }
        }
    }
}

fn put_head(run: &mut Vec<u8>, tag: u8, len: usize) {
    run.push(tag);
    encode_varint(len as u64, run);
}

/// The length of an embedded message in field 1.
fn entry_len(body_bytes: usize) -> usize {
    1 + encoded_len_varint(body_bytes as u64) + body_bytes
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
            proto::Record {
                value: Some("".into()),
                headers: ["", "source"]
                    .map(|key| proto::Header {
                        key: key.into(),
                        value: "till".into(),
                    })
                    .to_vec(),
                timestamp_ms: -1,
                deliver_at_ms: i64::MAX,
                priority: -1,
                offset: 1,
                ..proto::Record::default()
            },
        ];
        let mut raw = Vec::new();
        for record in &records {
            let before = raw.len();
            let entry = Entry::new(record);
            entry.put(&mut raw);
            assert_eq!(raw.len() - before, entry.len());
        }
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
