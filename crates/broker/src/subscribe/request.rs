//! What a subscription is asked for.

use crate::{Cursor, Start, Stop};

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
    /// The member's name, perhaps empty. A second stream of the same name ends the first, and gets its
    /// partitions; so does one that comes soon after it has ended.
    pub member: String,
    /// Where the caller comes from, for [`MemberInfo::peer`](crate::MemberInfo::peer).
    pub peer: String,
    /// Most bytes of one delivery, 0 for the broker's default. One record comes however large it is.
    pub max_batch_bytes: u32,
    /// With a group: the member is put out if it holds uncommitted records and does not call to commit
    /// for this long, in milliseconds. `None`: the broker's default.
    pub processing_timeout_ms: Option<u64>,
    /// With a group, of each partition: no more records are delivered than this many beyond the commit.
    /// 0: no limit.
    pub max_uncommitted_records: u32,
    /// Cursors as they were received; `start` holds for partitions not named.
    pub resume_from: Vec<Cursor>,
    /// Offsets of partitions, exclusive; `stop` holds for partitions not named.
    pub stop_before: Vec<Cursor>,
}
