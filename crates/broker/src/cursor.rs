//! Places in a topic: where to start, where to stop, and how far somebody has read.

use uuid::Uuid;

/// Where reading starts. Resolved to an offset of each partition once, when the call starts. With a
/// group it holds only for partitions that the group has not committed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Start {
    /// The first offset there is.
    #[default]
    Earliest,
    /// The end: only what comes from now on.
    Latest,
    /// What the group named beside has committed; the first offset where it has committed nothing.
    Committed,
    /// This offset, in each partition.
    Offset(u64),
    /// The lowest offset whose record is of this time or later, in Unix milliseconds; else the end.
    TimeMs(i64),
    /// This many records before the end, in each partition, or all if there are fewer.
    Last(u64),
}

/// Where reading stops, exclusive. Resolved once, when the call starts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stop {
    /// The end as it is when the call starts.
    CurrentEnd,
    /// This offset, in each partition. One behind the end is waited for.
    Offset(u64),
    /// As [`Start::TimeMs`]; the current end where no record is that young.
    TimeMs(i64),
    /// After this many records of the whole call.
    Count(u64),
}

/// How far a reader is in one partition. It is sent back unchanged to commit it or to resume there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cursor {
    /// The group, empty without one.
    pub group: String,
    /// The membership that this was delivered to; empty without a group. It fences a member that
    /// has lost the partition.
    pub session: String,
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: u32,
    /// The next one to read.
    pub offset: u64,
    /// The topic's id, checked if set.
    pub topic_id: Option<Uuid>,
}

/// What a [`Start`] stands for in one partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionOffsets {
    /// The partition.
    pub partition: u32,
    /// The offset found.
    pub offset: u64,
    /// The first offset there is.
    pub log_start_offset: u64,
    /// The end of what may be read, exclusive.
    pub high_watermark: u64,
}
