//! What changes committed offsets, as it is stored. Numbers are never used again for something else.

use prost::Message;
use uuid::Uuid;

/// A command of the offsets log. What is forgotten goes first, then come resets, then commits.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct OffsetsCommand {
    /// Offsets of partitions rise to these; those that are higher already stay.
    #[prost(message, repeated, tag = "1")]
    pub(crate) commits: Vec<CommitSet>,
    /// Offsets of partitions are these from now on, also where they were higher.
    #[prost(message, repeated, tag = "2")]
    pub(crate) resets: Vec<CommitSet>,
    /// Groups that are forgotten with all that they have committed.
    #[prost(string, repeated, tag = "3")]
    pub(crate) deleted_groups: Vec<String>,
    /// Ids of topics of which all groups forget what they have committed.
    #[prost(bytes = "vec", repeated, tag = "4")]
    pub(crate) deleted_topics: Vec<Vec<u8>>,
}

impl OffsetsCommand {
    /// Sets the offsets of one group in one topic.
    pub(crate) fn reset(group: String, topic: Uuid, offsets: Vec<PartitionOffset>) -> Self {
        let set = CommitSet {
            group,
            topic_id: topic.as_bytes().to_vec(),
            offsets,
        };
        Self {
            resets: vec![set],
            ..Self::default()
        }
    }

    /// Forgets groups.
    pub(crate) fn delete_groups(names: Vec<String>) -> Self {
        Self {
            deleted_groups: names,
            ..Self::default()
        }
    }

    /// Forgets a topic.
    pub(crate) fn delete_topic(id: Uuid) -> Self {
        Self {
            deleted_topics: vec![id.as_bytes().to_vec()],
            ..Self::default()
        }
    }
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

#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub(crate) struct PartitionOffset {
    #[prost(uint32, tag = "1")]
    pub(crate) partition: u32,
    /// The next one to read.
    #[prost(uint64, tag = "2")]
    pub(crate) offset: u64,
}
