//! Consumer groups: who is in, and how far they have read.

/// A group, its members and its offsets.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GroupInfo {
    /// Its name.
    pub name: String,
    /// Who reads, by topic.
    pub members: Vec<MemberInfo>,
    /// What was committed, by topic and partition. Empty in a list of groups.
    pub offsets: Vec<GroupOffset>,
}

/// A member of a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberInfo {
    /// The name it gave, perhaps empty.
    pub member: String,
    /// Its session.
    pub session: String,
    /// Where it comes from, as the caller of subscribe said.
    pub peer: String,
    /// What it reads: topic and partition.
    pub partitions: Vec<(String, u32)>,
}

/// How far a group has read one partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupOffset {
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: u32,
    /// The next offset to read.
    pub committed_offset: u64,
    /// The end of what may be read, exclusive.
    pub high_watermark: u64,
    /// The time of the record at the committed offset, in Unix milliseconds; `None` when all is read
    /// or the record cannot be read.
    pub oldest_uncommitted_ms: Option<i64>,
}
