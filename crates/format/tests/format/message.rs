//! The records as a client's generated code has them, with strategies for them.

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use prost::Message;

/// `Header` of proto/flowstone/v1/record.proto.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Header {
    #[prost(string, tag = "1")]
    pub(crate) key: String,
    #[prost(bytes = "vec", tag = "2")]
    pub(crate) value: Vec<u8>,
}

/// `Record` of proto/flowstone/v1/record.proto.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Record {
    #[prost(bytes = "vec", optional, tag = "1")]
    pub(crate) key: Option<Vec<u8>>,
    #[prost(bytes = "vec", optional, tag = "2")]
    pub(crate) value: Option<Vec<u8>>,
    #[prost(message, repeated, tag = "3")]
    pub(crate) headers: Vec<Header>,
    #[prost(int64, tag = "4")]
    pub(crate) timestamp_ms: i64,
    #[prost(int64, tag = "5")]
    pub(crate) deliver_at_ms: i64,
    #[prost(int32, tag = "6")]
    pub(crate) priority: i32,
    #[prost(int64, tag = "15")]
    pub(crate) offset: i64,
}

/// A message that carries records as field 1, as requests and responses do.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Records {
    #[prost(message, repeated, tag = "1")]
    pub(crate) records: Vec<Record>,
}

/// A borrowed record as the message that it encodes.
impl From<&flowstone_format::Record<'_>> for Record {
    fn from(record: &flowstone_format::Record<'_>) -> Self {
        let headers = record.headers().map(|(key, value)| Header {
            key: key.to_owned(),
            value: value.to_vec(),
        });
        Self {
            key: record.key.map(<[u8]>::to_vec),
            value: record.value.map(<[u8]>::to_vec),
            headers: headers.collect(),
            timestamp_ms: record.timestamp_ms,
            deliver_at_ms: record.deliver_at_ms,
            priority: record.priority.into(),
            offset: record.offset.unwrap_or_default() as i64,
        }
    }
}

fn time() -> impl Strategy<Value = i64> {
    prop_oneof![
        Just(0),
        Just(-1),
        Just(i64::MIN),
        Just(i64::MAX),
        0..2_000_000_000_000i64,
        any::<i64>()
    ]
}

fn bytes() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![4 => vec(any::<u8>(), 0..20), 1 => vec(any::<u8>(), 120..300)]
}

prop_compose! {
    pub(crate) fn record()(
        key in option::of(bytes()),
        value in option::of(bytes()),
        headers in vec((".{0,8}", bytes()).prop_map(|(key, value)| Header { key, value }), 0..4),
        timestamp_ms in time(),
        deliver_at_ms in time(),
        priority in 0..=9,
        offset in time(),
    ) -> Record {
        Record { key, value, headers, timestamp_ms, deliver_at_ms, priority, offset }
    }
}

/// One to twelve records.
pub(crate) fn records() -> impl Strategy<Value = Records> {
    vec(record(), 1..12).prop_map(|records| Records { records })
}
