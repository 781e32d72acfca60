//! A record in 16 bytes.

use std::hash::{DefaultHasher, Hash, Hasher};

use flowstone_proto::v1::Record;
use prost::Message;

/// Tells records apart by all that the broker must not change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Digest(u64, u64);

impl Digest {
    /// Of a record without the fields that the broker owns.
    pub(super) fn of(record: &Record) -> Self {
        let bytes = Record {
            timestamp_ms: 0,
            offset: 0,
            ..record.clone()
        }
        .encode_to_vec();
        let half = |half: u8| {
            let mut hasher = DefaultHasher::new();
            (half, &bytes).hash(&mut hasher);
            hasher.finish()
        };
        Self(half(0), half(1))
    }
}
