//! Requests of a produce stream, put together from bytes that were encoded before.
//!
//! The records of a request are its field 1, a run of `0A len Record`, so a run that grew record
//! by record is the request once what stands before it is put in and the fields after it are appended.

use bytes::Bytes;
use flowstone_grpc::{PREFIX_BYTES, prefix};
use flowstone_proto::v1 as proto;
use prost::Message;
use prost::encoding::{encode_varint, encoded_len_varint};

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
    #[inline]
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

/// The tag of a delimited field and its length, which is short nearly always and then put in at once.
#[inline]
fn put_head(run: &mut Vec<u8>, tag: u8, len: usize) {
    match len {
        ..0x80 => run.extend_from_slice(&[tag, len as u8]),
        0x80..0x4000 => run.extend_from_slice(&[tag, 0x80 | len as u8, (len >> 7) as u8]),
        _ => {
            run.push(tag);
            encode_varint(len as u64, run);
        }
    }
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

/// So many bytes stand before the records of a request at most: the message's prefix, and `0A len` of the
/// `ProduceRequest` in it.
const HEAD_BYTES_MAX: usize = PREFIX_BYTES + 1 + 5;

/// What is behind the records is seldom longer than this.
const TAIL_BYTES: usize = 512;

/// The records of a request, encoded one by one to where they are sent from: with room for what stands before them.
#[derive(Debug)]
pub(super) struct Run(Vec<u8>);

impl Run {
    /// With room for so many bytes of records.
    pub(super) fn with_capacity(bytes: usize) -> Self {
        let mut run = Vec::with_capacity(HEAD_BYTES_MAX + bytes + TAIL_BYTES);
        run.resize(HEAD_BYTES_MAX, 0);
        Self(run)
    }

    /// Of the records.
    pub(super) fn len(&self) -> usize {
        self.0.len() - HEAD_BYTES_MAX
    }

    #[inline]
    pub(super) fn push(&mut self, entry: &Entry<'_>) {
        entry.put(&mut self.0);
    }

    /// The `ProduceStreamRequest`, with its prefix, that has these records and then the other fields.
    pub(super) fn into_message(mut self, fields: [&[u8]; 2]) -> Bytes {
        for field in fields {
            self.0.extend_from_slice(field);
        }
        let request_bytes = self.len();
        let message_bytes = entry_len(request_bytes);
        let mut head = Vec::with_capacity(HEAD_BYTES_MAX);
        head.extend_from_slice(&prefix(message_bytes));
        put_head(&mut head, FIELD_1, request_bytes);
        let begin = HEAD_BYTES_MAX - head.len();
        self.0[begin..HEAD_BYTES_MAX].copy_from_slice(&head);
        Bytes::from(self.0).slice(begin..)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn run_and_tail_are_the_request_that_prost_would_encode() {
        let mut records = vec![
            proto::Record {
                key: Some("stand-1".into()),
                value: Some(vec![7; 20_000].into()),
                timestamp_ms: 1_431_857_103_000,
                ..proto::Record::default()
            },
            proto::Record::default(),
            proto::Record {
                key: Some(vec![b'k'; 128].into()),
                value: Some(vec![7; 16_383].into()),
                ..proto::Record::default()
            },
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
        let set: [fn(&mut proto::Record); 5] = [
            |record| record.headers = vec![proto::Header::default()],
            |record| record.timestamp_ms = 1,
            |record| record.deliver_at_ms = 1,
            |record| record.priority = 1,
            |record| record.offset = 1,
        ];
        records.extend(set.map(|set| {
            let mut record = proto::Record::default();
            set(&mut record);
            record
        }));
        let mut run = Run::with_capacity(0);
        for record in &records {
            let before = run.len();
            let entry = Entry::new(record);
            run.push(&entry);
            assert_eq!(run.len() - before, entry.len());
        }
        let producer = proto::Producer {
            id: "till-4".into(),
            epoch: 3,
            sequence: 77,
        };
        let tail = request_tail("visits", Some(0), proto::Acks::Written);
        let end = request_end(Some(producer.clone()), Some(0));
        let message = run.into_message([&tail, &end]);
        let request = proto::ProduceRequest {
            records,
            topic: "visits".into(),
            partition: Some(0),
            acks: proto::Acks::Written.into(),
            producer: Some(producer),
            expected_offset: Some(0),
        };
        let request = proto::ProduceStreamRequest {
            produce: Some(request),
        }
        .encode_to_vec();
        assert_eq!(message, [&prefix(request.len()), &request[..]].concat());
    }
}
