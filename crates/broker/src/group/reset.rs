//! Setting how far a group has read, to somewhere else.

use std::sync::Arc;

use tokio::sync::oneshot;

use super::not_found;
use crate::core::Core;
use crate::names::{check_group, invalid};
use crate::offsets::{OffsetsCommand, OffsetsState, PartitionOffset};
use crate::partition::Partition;
use crate::resolve::{check_range, resolve};
use crate::topics::Topic;
use crate::{Cursor, Error, Start};

/// What to reset, and to where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResetOffsets {
    /// The group. It may be one that has committed nothing yet.
    pub group: String,
    /// The topic.
    pub topic: String,
    /// The partitions; empty: all.
    pub partitions: Vec<u32>,
    /// Where they are to be read from.
    pub target: ResetTarget,
    /// Only says what would be.
    pub validate_only: bool,
    /// Also while the group has members, whose sessions end.
    pub force: bool,
}

/// Where a group is to read on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ResetTarget {
    /// A position, in each partition. Not [`Start::Committed`].
    To(Start),
    /// So many offsets behind the committed one, or before it if negative, as far as there is something.
    /// Holds for partitions that the group has committed.
    ShiftBy(i64),
    /// What another group has committed; partitions of which it has committed nothing stay as they are.
    CopyFrom(String),
}

/// What a reset has changed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ResetTo {
    /// What was committed before, of the partitions in `after`.
    pub before: Vec<Cursor>,
    /// What is committed now, of each partition that the reset holds for.
    pub after: Vec<Cursor>,
}

/// Where one partition is read from, before and after.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Move {
    partition: u32,
    before: Option<u64>,
    after: u64,
}

/// Sets the offsets, durably, unless it is only to say what would be.
pub(crate) async fn reset(core: &Arc<Core>, request: ResetOffsets) -> Result<ResetTo, Error> {
    core.check_accepting()?;
    check_group(&request.group)?;
    check_target(&request)?;
    let topic = core.topics.get(&request.topic)?;
    let partitions = choose(&topic, &request.partitions)?;
    let resolved = resolve_all(core, &partitions, &request.target).await?;
    let log = core.offsets.log()?;
    // Whatever can be refused is refused before any session ends.
    let moves = plan(&log.state(), &request, &topic, &partitions, &resolved)?;
    check_room(core, &log.state(), &moves)?;
    if !request.force {
        core.groups.check_empty(&request.group)?;
    }
    if request.validate_only {
        return Ok(answer(&request.group, &topic, &moves));
    }
    let alone = log.alone().await;
    if topic.is_deleted() {
        return Err(topic.not_found());
    }
    // Commits may have come in between.
    let moves = plan(&log.state(), &request, &topic, &partitions, &resolved)?;
    check_room(core, &log.state(), &moves)?;
    core.offsets.idle().touch(&request.group);
    // Who joins from now on begins at what is set here.
    let frozen = core.groups.freeze(&request.group, request.force)?;
    let changed: Vec<PartitionOffset> = moves
        .iter()
        .filter(|made| made.before != Some(made.after))
        .map(|made| PartitionOffset {
            partition: made.partition,
            offset: made.after,
        })
        .collect();
    if !changed.is_empty() {
        let command = OffsetsCommand::reset(request.group.clone(), topic.id(), changed);
        let (sender, receiver) = oneshot::channel();
        log.append(core, (frozen, alone), command, move |outcome| {
            let _ = sender.send(outcome);
        });
        receiver.await.unwrap_or(Err(Error::ShuttingDown))?;
    }
    Ok(answer(&request.group, &topic, &moves))
}

fn check_target(request: &ResetOffsets) -> Result<(), Error> {
    match &request.target {
        ResetTarget::To(Start::Committed) => Err(invalid(
            "to.anchor",
            "what is committed is what a reset changes: name another place, or copy_from_group",
        )),
        ResetTarget::CopyFrom(from) if *from == request.group => Err(invalid(
            "copy_from_group",
            "it is the group itself: name another one",
        )),
        _ => Ok(()),
    }
}

/// The partitions by number. One that is named twice is meant once.
fn choose(topic: &Topic, numbers: &[u32]) -> Result<Vec<Arc<Partition>>, Error> {
    if numbers.is_empty() {
        return Ok(topic.now().partitions.clone());
    }
    let mut numbers = numbers.to_vec();
    numbers.sort_unstable();
    numbers.dedup();
    let find = |number: &u32| topic.partition(*number);
    numbers.iter().map(find).collect()
}

/// The offset of each partition that the target stands for by itself.
async fn resolve_all(
    core: &Core,
    partitions: &[Arc<Partition>],
    target: &ResetTarget,
) -> Result<Vec<Option<u64>>, Error> {
    let start = match target {
        ResetTarget::To(start) => start.clone(),
        ResetTarget::ShiftBy(_) => {
            for partition in partitions {
                partition.check_readable()?;
            }
            return Ok(vec![None; partitions.len()]);
        }
        ResetTarget::CopyFrom(_) => return Ok(vec![None; partitions.len()]),
    };
    let partitions = partitions.to_vec();
    let find = move |partition: &Arc<Partition>| {
        partition.check_readable()?;
        let offset = resolve(&start, partition, None)?;
        if check_range(partition, offset).is_err() {
            return Err(not_there(partition, offset));
        }
        Ok(Some(offset))
    };
    core.pool
        .run(move || partitions.iter().map(find).collect())
        .await?
}

/// The refusal of an offset that one of the partitions does not have.
fn not_there(partition: &Partition, offset: u64) -> Error {
    let (first, end) = (partition.log_start_offset(), partition.high_watermark());
    let number = partition.index();
    invalid(
        "to.offset",
        format!(
            "partition {number} has no offset {offset}: it starts at {first} and ends at {end}; name \
             one from {first} to {end}, or leave that partition out"
        ),
    )
}

/// Which partitions move from where to where.
fn plan(
    state: &OffsetsState,
    request: &ResetOffsets,
    topic: &Topic,
    partitions: &[Arc<Partition>],
    resolved: &[Option<u64>],
) -> Result<Vec<Move>, Error> {
    let committed = |group: &str, partition: u32| state.committed(group, topic.id(), partition);
    let mut moves = Vec::new();
    for (partition, resolved) in partitions.iter().zip(resolved) {
        let number = partition.index();
        let before = committed(&request.group, number);
        let after = match &request.target {
            ResetTarget::To(_) => *resolved,
            ResetTarget::ShiftBy(by) => before.map(|at| shift(partition, at, *by)),
            ResetTarget::CopyFrom(from) => committed(from, number),
        };
        moves.extend(after.map(|after| Move {
            partition: number,
            before,
            after,
        }));
    }
    if !moves.is_empty() || partitions.is_empty() {
        return Ok(moves);
    }
    let (field, group) = match &request.target {
        ResetTarget::CopyFrom(from) => ("copy_from_group", from),
        _ => ("shift_by", &request.group),
    };
    if state.group(group).is_none() {
        return Err(not_found(group));
    }
    Err(invalid(
        field,
        format!(
            "group {group:?} has committed nothing of these partitions of topic {:?}",
            topic.name()
        ),
    ))
}

/// A place some way off, but not where nothing is.
fn shift(partition: &Partition, from: u64, by: i64) -> u64 {
    let end = partition.high_watermark();
    let first = partition.log_start_offset().min(end);
    from.saturating_add_signed(by).clamp(first, end)
}

fn check_room(core: &Core, state: &OffsetsState, moves: &[Move]) -> Result<(), Error> {
    let added = moves.iter().filter(|made| made.before.is_none()).count();
    let limit = u64::from(core.config.limits.max_committed_offsets);
    if added > 0 && (state.count() + added) as u64 > limit {
        return Err(Error::LimitExceeded {
            limit: "max_committed_offsets",
            value: limit,
        });
    }
    Ok(())
}

fn answer(group: &str, topic: &Topic, moves: &[Move]) -> ResetTo {
    let cursor = |partition: u32, offset: u64| Cursor {
        group: group.to_owned(),
        session: String::new(),
        topic: topic.name().to_owned(),
        partition,
        offset,
        topic_id: Some(topic.id()),
    };
    let before = |made: &Move| Some(cursor(made.partition, made.before?));
    ResetTo {
        before: moves.iter().filter_map(before).collect(),
        after: moves
            .iter()
            .map(|made| cursor(made.partition, made.after))
            .collect(),
    }
}
