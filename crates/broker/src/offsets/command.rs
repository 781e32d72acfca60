//! What changes committed offsets, as it is stored. Numbers are never used again for something else.

use prost::Message;

/// A command of the offsets log.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct OffsetsCommand {
    /// Offsets of partitions rise to these; those that are higher already stay.
    #[prost(message, repeated, tag = "1")]
    pub(crate) commits: Vec<CommitSet>,
}

/// Offsets of one group in one topic.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct CommitSet {
    #[prost(string, tag = "1")]
    pub(crate) group: String,
    #[prost(bytes = "vec", tag = "2")]
    pub(crate) topic_id: Vec<u8>,
    #[prost(message, repeated, tag = "3")]
    pub(crate) offsets: Vec<PartitionOffset>,
}

#[derive(Clone, Copy, PartialEq, Message)]
pub(crate) struct PartitionOffset {
    #[prost(uint32, tag = "1")]
    pub(crate) partition: u32,
    /// The next one to read.
    #[prost(uint64, tag = "2")]
    pub(crate) offset: u64,
}
