//! Storing how far a group has read.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::sync::oneshot;
use uuid::Uuid;

use crate::core::Core;
use crate::names::{check_group, invalid};
use crate::offsets::command::{CommitSet, OffsetsCommand, PartitionOffset};
use crate::partition::Partition;
use crate::{Cursor, Error};

/// Offsets to store, by group and topic, then by partition.
type Commits = BTreeMap<(String, Uuid), BTreeMap<u32, u64>>;

/// Checks the cursors, stores those of sessions that are current, and returns the others.
pub(crate) async fn commit(
    core: &Arc<Core>,
    cursors: Vec<Cursor>,
    released: Vec<Cursor>,
) -> Result<Vec<Cursor>, Error> {
    let most = core.config.limits.max_cursors_per_commit as usize;
    if cursors.len() + released.len() > most {
        return Err(invalid("cursors", format!("one call takes at most {most}")));
    }
    let log = core.offsets.log()?;
    let right = log.shared().await;
    let mut commits = Commits::new();
    let mut stale = Vec::new();
    let given = cursors.len() + released.len();
    for (index, cursor) in cursors.into_iter().enumerate() {
        let field = format!("cursors[{index}]");
        match check(core, &cursor, &field)? {
            Standing::Current(topic, partition) => {
                check_offset(&partition, &cursor, &field)?;
                let partitions = commits.entry((cursor.group, topic)).or_default();
                let offset = partitions.entry(cursor.partition).or_default();
                *offset = cursor.offset.max(*offset);
            }
            Standing::Stale => stale.push(cursor),
        }
    }
    for (index, cursor) in released.into_iter().enumerate() {
        if let Standing::Stale = check(core, &cursor, &format!("released[{index}]"))? {
            stale.push(cursor);
        }
    }
    if let Some(first) = stale.first().filter(|_| stale.len() == given) {
        return Err(Error::StaleSession {
            group: first.group.clone(),
        });
    }
    let command = {
        let state = log.state();
        let (command, added) = command(commits, |group, topic, partition| {
            state.committed(group, topic, partition)
        });
        let limit = u64::from(core.config.limits.max_committed_offsets);
        if added > 0 && (state.count() + added) as u64 > limit {
            return Err(Error::LimitExceeded {
                limit: "max_committed_offsets",
                value: limit,
            });
        }
        command
    };
    if !command.commits.is_empty() {
        let (sender, receiver) = oneshot::channel();
        log.append(core, right, command, move |outcome| {
            let _ = sender.send(outcome);
        });
        receiver.await.unwrap_or(Err(Error::ShuttingDown))?;
    }
    Ok(stale)
}

enum Standing {
    /// The cursor's session may commit in this partition of this topic.
    Current(Uuid, Arc<Partition>),
    Stale,
}

fn check(core: &Core, cursor: &Cursor, field: &str) -> Result<Standing, Error> {
    check_group(&cursor.group).map_err(|error| match error {
        Error::InvalidField { detail, .. } => invalid(format!("{field}.group"), detail),
        other => other,
    })?;
    let topic = core.topics.get(&cursor.topic)?;
    topic.check_id(cursor.topic_id)?;
    let partition = topic.partition(cursor.partition)?;
    let session = core.members.session(&cursor.group, topic.id());
    match session {
        Some(_) if cursor.session.is_empty() => Err(Error::GroupActive {
            group: cursor.group.clone(),
        }),
        Some(session) if session == cursor.session => Ok(Standing::Current(topic.id(), partition)),
        None if cursor.session.is_empty() => Ok(Standing::Current(topic.id(), partition)),
        _ => Ok(Standing::Stale),
    }
}

fn check_offset(partition: &Partition, cursor: &Cursor, field: &str) -> Result<(), Error> {
    let end = partition.high_watermark();
    if cursor.offset > end {
        return Err(invalid(
            format!("{field}.offset"),
            format!(
                "offset {} is beyond the end of partition {}, which is {end}",
                cursor.offset, cursor.partition
            ),
        ));
    }
    Ok(())
}

/// What rises of the commits, and how many of them are the first of their partition.
fn command(
    commits: Commits,
    committed: impl Fn(&str, Uuid, u32) -> Option<u64>,
) -> (OffsetsCommand, usize) {
    let (mut command, mut added) = (OffsetsCommand::default(), 0);
    for ((group, topic), partitions) in commits {
        let mut offsets = Vec::new();
        for (partition, offset) in partitions {
            let before = committed(&group, topic, partition);
            if before.is_none_or(|before| before < offset) {
                offsets.push(PartitionOffset { partition, offset });
                added += usize::from(before.is_none());
            }
        }
        if !offsets.is_empty() {
            command.commits.push(CommitSet {
                group,
                topic_id: topic.as_bytes().to_vec(),
                offsets,
            });
        }
    }
    (command, added)
}
