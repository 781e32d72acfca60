//! Consumer groups: who is in, and how far they have read.

use std::collections::BTreeSet;
use std::sync::Arc;

use flowstone_format::{RecordLimits, Records};
use flowstone_log::ReadLimit;

use crate::Error;
use crate::core::Core;
use crate::partition::Partition;

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

/// Groups that have members or committed offsets, by name, without their offsets.
pub(crate) fn list(core: &Core, after: Option<&str>, limit: usize) -> Vec<GroupInfo> {
    let mut names: BTreeSet<String> = core.members.names_after(after, limit).into_iter().collect();
    if let Ok(log) = core.offsets.log() {
        let state = log.state();
        names.extend(state.names_after(after).take(limit).map(str::to_owned));
    }
    names
        .into_iter()
        .take(limit)
        .map(|name| GroupInfo {
            members: core.members.of(&name),
            name,
            offsets: Vec::new(),
        })
        .collect()
}

/// A group, its members and its offsets.
pub(crate) async fn describe(core: &Arc<Core>, name: &str) -> Result<GroupInfo, Error> {
    let members = core.members.of(name);
    let committed = core.offsets.log()?.state().group(name).cloned();
    if members.is_empty() && committed.is_none() {
        return Err(Error::GroupNotFound {
            group: name.to_owned(),
        });
    }
    let mut found: Vec<(String, Arc<Partition>, u64)> = Vec::new();
    for (topic, offsets) in committed.unwrap_or_default() {
        let Some(topic) = core.topics.get_by_id(topic) else {
            continue;
        };
        for (partition, offset) in offsets {
            if let Ok(partition) = topic.partition(partition) {
                found.push((topic.name().to_owned(), partition, offset));
            }
        }
    }
    found.sort_by(|a, b| (&a.0, a.1.index()).cmp(&(&b.0, b.1.index())));
    let look = move || found.into_iter().map(group_offset).collect();
    Ok(GroupInfo {
        name: name.to_owned(),
        members,
        offsets: core.pool.run(look).await?,
    })
}

/// How far one partition is read. Blocks.
fn group_offset((topic, partition, offset): (String, Arc<Partition>, u64)) -> GroupOffset {
    GroupOffset {
        topic,
        partition: partition.index(),
        committed_offset: offset,
        high_watermark: partition.high_watermark(),
        oldest_uncommitted_ms: time_of_next(&partition, offset),
    }
}

/// The time of the first record that is not committed.
fn time_of_next(partition: &Partition, committed: u64) -> Option<i64> {
    let from = committed.max(partition.log_start_offset());
    if from >= partition.high_watermark() {
        return None;
    }
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
