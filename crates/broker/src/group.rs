//! Consumer groups: who is in, and how far they have read.

mod delete;
mod reset;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use flowstone_format::{RecordLimits, Records};
use flowstone_log::ReadLimit;
use uuid::Uuid;

use crate::Error;
use crate::core::Core;
use crate::groups::GroupNow;
use crate::partition::Partition;
use crate::topics::Topic;

pub(crate) use delete::delete;
pub(crate) use reset::reset;
pub use reset::{ResetOffsets, ResetTarget, ResetTo};

/// A group, its members and its offsets.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GroupInfo {
    /// Its name.
    pub name: String,
    /// How it stands.
    pub state: GroupState,
    /// Who reads, by topic.
    pub members: Vec<MemberInfo>,
    /// All partitions of the topics that the group has members in or has committed in, by topic and
    /// partition. Empty in a list of groups.
    pub offsets: Vec<GroupOffset>,
}

/// How a group stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum GroupState {
    /// Nobody is in.
    #[default]
    Empty,
    /// All partitions are with those that are to have them.
    Stable,
    /// Partitions are on their way from one member to another.
    Rebalancing,
}

impl GroupState {
    fn of(now: &GroupNow) -> Self {
        match (now.members.is_empty(), now.rebalancing) {
            (true, _) => Self::Empty,
            (false, true) => Self::Rebalancing,
            (false, false) => Self::Stable,
        }
    }
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
    /// The next offset to read; `None` while nothing is committed.
    pub committed_offset: Option<u64>,
    /// The end of what may be read, exclusive.
    pub high_watermark: u64,
    /// Offsets from the committed one to the end, or from the log start where that lies behind it or
    /// nothing is committed.
    pub lag: u64,
    /// The time of the first record that counts as lag, in Unix milliseconds; `None` when all is read
    /// or the record cannot be read.
    pub oldest_uncommitted_ms: Option<i64>,
}

/// Groups that have members or committed offsets, by name, without their offsets.
pub(crate) fn list(core: &Core, after: Option<&str>, limit: usize) -> Vec<GroupInfo> {
    let mut names: BTreeSet<String> = core.groups.names_after(after, limit).into_iter().collect();
    if let Ok(log) = core.offsets.log() {
        let state = log.state();
        names.extend(state.names_after(after).take(limit).map(str::to_owned));
    }
    names
        .into_iter()
        .take(limit)
        .map(|name| {
            let now = core.groups.now_of(&name);
            GroupInfo {
                state: GroupState::of(&now),
                members: now.members,
                name,
                offsets: Vec::new(),
            }
        })
        .collect()
}

/// A group, its members and its offsets.
pub(crate) async fn describe(core: &Arc<Core>, name: &str) -> Result<GroupInfo, Error> {
    let now = core.groups.now_of(name);
    let state = GroupState::of(&now);
    let committed = core.offsets.log()?.state().group(name).cloned();
    if now.members.is_empty() && committed.is_none() {
        return Err(not_found(name));
    }
    let committed = committed.unwrap_or_default();
    let of_commits = committed.topics();
    let of_commits = of_commits.filter_map(|(id, _)| core.topics.get_by_id(id));
    // By name, then by id: a topic may be made anew between the two looks.
    let topics: BTreeMap<(String, Uuid), Arc<Topic>> = now
        .topics
        .into_iter()
        .chain(of_commits)
        .map(|topic| ((topic.name().to_owned(), topic.id()), topic))
        .collect();
    let look = move || {
        let mut offsets = Vec::new();
        for ((name, id), topic) in topics {
            for partition in &topic.now().partitions {
                let at = committed.get(id, partition.index());
                offsets.push(group_offset(name.clone(), partition, at));
            }
        }
        offsets
    };
    Ok(GroupInfo {
        name: name.to_owned(),
        state,
        members: now.members,
        offsets: core.pool.run(look).await?,
    })
}

/// Whether anything is known of a group.
fn exists(core: &Core, name: &str) -> Result<bool, Error> {
    let committed = core.offsets.log()?.state().group(name).is_some();
    Ok(committed || core.groups.check_empty(name).is_err())
}

fn not_found(name: &str) -> Error {
    Error::GroupNotFound {
        group: name.to_owned(),
    }
}

/// How far one partition is read. Blocks.
fn group_offset(topic: String, partition: &Partition, committed: Option<u64>) -> GroupOffset {
    let high_watermark = partition.high_watermark();
    let from = committed.unwrap_or(0).max(partition.log_start_offset());
    GroupOffset {
        topic,
        partition: partition.index(),
        committed_offset: committed,
        high_watermark,
        lag: high_watermark.saturating_sub(from),
        oldest_uncommitted_ms: (from < high_watermark)
            .then(|| time_at(partition, from))
            .flatten(),
    }
}

/// The time of the record at an offset, or of the next one behind it.
fn time_at(partition: &Partition, from: u64) -> Option<i64> {
    let limit = ReadLimit {
        max_bytes: 1,
        max_records: 1,
        before: None,
    };
    let batch = partition.read(from, &limit).ok()?;
    let (_, record) = Records::new(batch.chunks.first()?, &RecordLimits::NONE)
        .next()?
        .ok()?;
    Some(record.timestamp_ms)
}
