//! Storing how far a group has read.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use tokio::sync::oneshot;
use uuid::Uuid;

use crate::core::Core;
use crate::groups::{Holding, InFlight, Session};
use crate::internal::Shared;
use crate::names::{check_group, invalid};
use crate::offsets::command::{CommitSet, OffsetsCommand, PartitionOffset};
use crate::partition::Partition;
use crate::topics::Topic;
use crate::{Cursor, Error};

/// What became of a commit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Committed {
    /// The cursors whose session has ended or has lost the partition: not stored; the others are.
    pub stale: Vec<Cursor>,
    /// Topic and partition of all that the sessions of this call have to give up.
    pub revoking: Vec<(String, u32)>,
}

/// Offsets to store, by group and topic, then by partition.
type Commits = BTreeMap<(String, Uuid), BTreeMap<u32, u64>>;

/// A cursor whose topic and partition exist.
struct Named {
    cursor: Cursor,
    topic: Arc<Topic>,
    partition: Arc<Partition>,
    who: Who,
}

/// Who commits.
enum Who {
    /// Somebody who is not in the group.
    Outsider,
    Member(Session),
    /// No session was ever called so.
    Nobody,
}

/// Checks the cursors, stores those of members that hold the partition, and returns the others.
pub(crate) async fn commit(
    core: &Arc<Core>,
    cursors: Vec<Cursor>,
    released: Vec<Cursor>,
) -> Result<Committed, Error> {
    let most = core.config.limits.max_cursors_per_commit as usize;
    let given = cursors.len() + released.len();
    if given > most {
        return Err(invalid("cursors", format!("one call takes at most {most}")));
    }
    // Held from before the sessions are looked at until the offsets are stored, lest a reset comes
    // between.
    let right = core.offsets.log()?.shared().await;
    // All is checked before anything changes.
    let cursors = named(core, cursors, "cursors")?;
    let released = named(core, released, "released")?;
    for (index, named) in cursors.iter().enumerate() {
        check_offset(named, index)?;
    }
    let mut sessions = BTreeMap::new();
    for named in cursors.iter().chain(&released) {
        core.offsets.idle().touch(&named.cursor.group);
        if let Who::Member(session) = named.who {
            let key = (named.cursor.group.clone(), named.topic.id(), session.id);
            sessions
                .entry(key)
                .or_insert_with(|| named.cursor.topic.clone());
        }
    }
    let mut begun = begin(core, cursors);
    begun.stale.extend(release(core, released));
    if let Some(first) = begun.stale.first().filter(|_| begun.stale.len() == given) {
        return Err(Error::StaleSession {
            group: first.group.clone(),
        });
    }
    store(core, right, begun.commits, begun.in_flight).await?;
    let mut revoking = BTreeSet::new();
    for ((group, topic, session), name) in sessions {
        let partitions = core.groups.revoking_of(&group, topic, session);
        revoking.extend(partitions.into_iter().map(|it| (name.clone(), it)));
    }
    Ok(Committed {
        stale: begun.stale,
        revoking: revoking.into_iter().collect(),
    })
}

/// Stores where members begin to read, so that those after them begin there too. Tells of each whether
/// it still holds the partition; what it has lost is not stored.
pub(crate) async fn pin(
    core: &Arc<Core>,
    group: &str,
    topic: &Arc<Topic>,
    starts: &[(Holding, u64)],
) -> Result<Vec<bool>, Error> {
    let right = core.offsets.log()?.shared().await;
    let (current, in_flight) = core.groups.begin(group, topic, starts);
    let held = starts.iter().zip(&current).filter(|(_, current)| **current);
    let offsets: BTreeMap<u32, u64> = held
        .map(|((holding, offset), _)| (holding.partition, *offset))
        .collect();
    let commits = Commits::from([((group.to_owned(), topic.id()), offsets)]);
    store(core, right, commits, in_flight.into_iter().collect()).await?;
    Ok(current)
}

/// What of a call goes on.
#[derive(Default)]
struct Begun {
    commits: Commits,
    in_flight: Vec<InFlight>,
    stale: Vec<Cursor>,
}

/// Asks for each cursor whether it may be stored.
fn begin(core: &Core, cursors: Vec<Named>) -> Begun {
    let mut begun = Begun::default();
    let mut current = Vec::with_capacity(cursors.len());
    let together =
        |a: &Named, b: &Named| a.cursor.group == b.cursor.group && a.topic.id() == b.topic.id();
    for run in cursors.chunk_by(together) {
        let of_members = run.iter().filter_map(|named| {
            let holding = named.holding()?;
            Some((holding, named.cursor.offset))
        });
        let of_members: Vec<_> = of_members.collect();
        let (told, in_flight) = match of_members.is_empty() {
            true => (Vec::new(), None),
            false => {
                let first = &run[0];
                core.groups
                    .begin(&first.cursor.group, &first.topic, &of_members)
            }
        };
        begun.in_flight.extend(in_flight);
        let mut told = told.into_iter();
        current.extend(run.iter().map(|named| match named.who {
            Who::Outsider => true,
            Who::Member(_) => told.next().unwrap_or(false),
            Who::Nobody => false,
        }));
    }
    for (named, current) in cursors.into_iter().zip(current) {
        let cursor = named.cursor;
        if !current {
            begun.stale.push(cursor);
            continue;
        }
        let key = (cursor.group, named.topic.id());
        let partitions = begun.commits.entry(key).or_default();
        let offset = partitions.entry(cursor.partition).or_default();
        *offset = cursor.offset.max(*offset);
    }
    begun
}

/// Gives partitions up, and returns the cursors that are stale.
fn release(core: &Core, released: Vec<Named>) -> Vec<Cursor> {
    let is_stale = |named: &Named| match (&named.who, named.holding()) {
        (Who::Outsider, _) => false,
        (_, Some(holding)) => !core
            .groups
            .release(&named.cursor.group, &named.topic, holding),
        (_, None) => true,
    };
    let stale = released.into_iter().filter(is_stale);
    stale.map(|named| named.cursor).collect()
}

/// Makes offsets durable, and ends the commits that are in flight for them.
async fn store(
    core: &Arc<Core>,
    right: Shared,
    commits: Commits,
    in_flight: Vec<InFlight>,
) -> Result<(), Error> {
    let log = core.offsets.log()?;
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
    let finish = |in_flight: Vec<InFlight>| in_flight.into_iter().for_each(InFlight::stored);
    if command.commits.is_empty() {
        finish(in_flight);
        return Ok(());
    }
    let (sender, receiver) = oneshot::channel();
    log.append(core, right, command, move |outcome| {
        match outcome {
            Ok(()) => finish(in_flight),
            Err(_) => drop(in_flight),
        }
        let _ = sender.send(outcome);
    });
    receiver.await.unwrap_or(Err(Error::ShuttingDown))
}

/// Finds topics and partitions of cursors. Those without a session are refused while their group has
/// members.
fn named(core: &Core, cursors: Vec<Cursor>, field: &str) -> Result<Vec<Named>, Error> {
    let one = |(index, cursor): (usize, Cursor)| {
        check_group(&cursor.group).map_err(|error| match error {
            Error::InvalidField { detail, .. } => {
                invalid(format!("{field}[{index}].group"), detail)
            }
            other => other,
        })?;
        let topic = core.topics.get(&cursor.topic)?;
        topic.check_id(cursor.topic_id)?;
        let partition = topic.partition(cursor.partition)?;
        let who = if cursor.session.is_empty() {
            core.groups.check_empty(&cursor.group)?;
            Who::Outsider
        } else {
            cursor.session.parse().map_or(Who::Nobody, Who::Member)
        };
        Ok(Named {
            cursor,
            topic,
            partition,
            who,
        })
    };
    cursors.into_iter().enumerate().map(one).collect()
}

impl Named {
    /// The holding that a member's cursor names.
    fn holding(&self) -> Option<Holding> {
        match self.who {
            Who::Member(Session { id, number }) => Some(Holding {
                session: id,
                number,
                partition: self.cursor.partition,
            }),
            Who::Outsider | Who::Nobody => None,
        }
    }
}

fn check_offset(named: &Named, index: usize) -> Result<(), Error> {
    let end = named.partition.high_watermark();
    let cursor = &named.cursor;
    if cursor.offset > end {
        return Err(invalid(
            format!("cursors[{index}].offset"),
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
