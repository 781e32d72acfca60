//! What the records of an internal log hold: commands, and the pieces of snapshots.

use prost::{Message, Oneof};

/// The value of one record.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Entry {
    #[prost(oneof = "EntryKind", tags = "1, 2, 3, 4")]
    pub(crate) kind: Option<EntryKind>,
}

/// What an entry is.
#[derive(Clone, PartialEq, Oneof)]
pub(crate) enum EntryKind {
    /// A command of the state machine.
    #[prost(bytes, tag = "1")]
    Command(Vec<u8>),
    /// A snapshot of the state as it is here follows.
    #[prost(message, tag = "2")]
    Begin(SnapshotBegin),
    /// The next bytes of the snapshot.
    #[prost(bytes, tag = "3")]
    Chunk(Vec<u8>),
    /// The snapshot is whole: it stands for everything before.
    #[prost(message, tag = "4")]
    End(SnapshotEnd),
}

#[derive(Clone, Copy, PartialEq, Message)]
pub(crate) struct SnapshotBegin {
    /// Bytes of all chunks together.
    #[prost(uint64, tag = "1")]
    pub(crate) total_bytes: u64,
}

#[derive(Clone, Copy, PartialEq, Message)]
pub(crate) struct SnapshotEnd {}

/// A record as producers write it, with nothing but a value.
#[derive(Clone, PartialEq, Message)]
struct ValueRecord {
    #[prost(bytes = "vec", optional, tag = "2")]
    value: Option<Vec<u8>>,
}

#[derive(Clone, PartialEq, Message)]
struct RecordRun {
    #[prost(message, repeated, tag = "1")]
    records: Vec<ValueRecord>,
}

impl Entry {
    /// A run of one record that holds the entry.
    pub(crate) fn record_run(kind: EntryKind) -> Vec<u8> {
        let entry = Self { kind: Some(kind) };
        let record = ValueRecord {
            value: Some(entry.encode_to_vec()),
        };
        RecordRun {
            records: vec![record],
        }
        .encode_to_vec()
    }
}

/// Why bytes are not what was asked for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum DecodeError {
    /// They are no such message at all.
    #[error("it does not decode: {0}")]
    Malformed(#[from] prost::DecodeError),
    /// They hold more than this version knows.
    #[error("it holds what this version does not know")]
    Newer,
}

/// Decodes a message and refuses what this version would lose: a message that holds only what is
/// known encodes to the same bytes again.
pub(crate) fn decode_strictly<M: Message + Default>(bytes: &[u8]) -> Result<M, DecodeError> {
    let message = M::decode(bytes)?;
    if message.encode_to_vec() == bytes {
        Ok(message)
    } else {
        Err(DecodeError::Newer)
    }
}
