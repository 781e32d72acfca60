//! What a subscription yields.

use bytes::Bytes;

use crate::{Cursor, Error};

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
    /// What this member of a group reads, each as topic and partition. The first delivery of a group.
    Assignment {
        /// All that it may read.
        partitions: Vec<(String, u32)>,
        /// No more records come of these: commit what is processed of them, or release them.
        revoking: Vec<(String, u32)>,
        /// Commits for these now fail. One that is among `partitions` too has come back since, and its
        /// records come again from what is committed.
        lost: Vec<(String, u32)>,
        /// After which those of `revoking` are lost, in milliseconds.
        revoke_timeout_ms: u64,
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
