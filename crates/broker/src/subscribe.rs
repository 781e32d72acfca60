//! Reading a topic until a stop position, or for ever, alone or as a member of a group.

use bytes::Bytes;

use crate::{Cursor, Error, Start, Stop};

/// What to read. With a group, `partitions`, `stop`, `resume_from` and `stop_before` are refused.
#[derive(Clone, Debug, Default)]
pub struct SubscribeRequest {
    /// The topic.
    pub topic: String,
    /// Empty: all, also those to come.
    pub partitions: Vec<u32>,
    /// Where to start; with a group, in partitions that it has not committed.
    pub start: Start,
    /// Where to stop. `None`: never.
    pub stop: Option<Stop>,
    /// Read as a member of this group.
    pub group: Option<String>,
    /// The member's name, perhaps empty. A second stream of the same name ends the first.
    pub member: String,
    /// Where the caller comes from, for [`MemberInfo::peer`](crate::MemberInfo::peer).
    pub peer: String,
    /// Most bytes of one delivery, 0 for the broker's default. One record comes however large it is.
    pub max_batch_bytes: u32,
    /// Cursors as they were received; `start` holds for partitions not named.
    pub resume_from: Vec<Cursor>,
    /// Offsets of partitions, exclusive; `stop` holds for partitions not named.
    pub stop_before: Vec<Cursor>,
}

/// A running subscription. Dropping it ends it and leaves the group.
#[derive(Debug)]
pub struct Subscription {}

/// What a subscription yields.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// Records of one partition, in order.
    Records {
        /// Commit this once the records are processed; its offset is the next one to read.
        cursor: Cursor,
        /// The end of what may be read of this partition, exclusive.
        high_watermark: u64,
        /// Runs of `0A len Record`, the bytes as they lie on disk.
        chunks: Vec<Bytes>,
        /// How many records these are.
        record_count: u32,
    },
    /// All that this member may read, as topic and partition. The first delivery of a group.
    Assignment {
        /// Topic and partition.
        partitions: Vec<(String, u32)>,
    },
    /// Something is wrong with one partition; the others go on.
    PartitionError {
        /// The partition, and the offset that could not be read.
        cursor: Cursor,
        /// What is wrong.
        error: Error,
    },
    /// Nothing new, but the broker is there.
    Heartbeat {},
}

impl Subscription {
    /// The next delivery; `None` when every partition has reached its stop position. After an error
    /// or `None` there is nothing more. It may be dropped and called again at any time: nothing is
    /// lost and nothing comes twice.
    pub async fn next(&mut self) -> Option<Result<Delivery, Error>> {
        Some(Err(Error::Unimplemented { what: "subscribe" }))
    }

    /// What to send when nothing else was sent for a while.
    pub fn heartbeat(&self) -> Delivery {
        Delivery::Heartbeat {}
    }
}
