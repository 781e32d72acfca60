//! Reading one partition once.

use bytes::Bytes;
use uuid::Uuid;

use crate::Start;

/// What to read.
#[derive(Clone, Debug, Default)]
pub struct FetchRequest {
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: u32,
    /// Where to start.
    pub start: Start,
    /// Most bytes of records, 0 for the broker's default. One record comes however large it is.
    pub max_bytes: u32,
    /// Most records, 0 for no limit.
    pub max_records: u32,
    /// The topic's id, checked if set.
    pub topic_id: Option<Uuid>,
}

/// What was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fetched {
    /// The records: runs of `0A len Record`, the bytes as they lie on disk. Empty when there is
    /// nothing to read yet.
    pub chunks: Vec<Bytes>,
    /// How many records these are.
    pub record_count: u32,
    /// Where the next fetch goes on.
    pub next_offset: u64,
    /// The end of what may be read, exclusive.
    pub high_watermark: u64,
    /// The first offset there is.
    pub log_start_offset: u64,
}
