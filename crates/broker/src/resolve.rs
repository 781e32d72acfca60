//! What positions stand for: offsets of partitions.

use std::sync::Arc;

use uuid::Uuid;

use crate::core::Core;
use crate::names::invalid;
use crate::partition::Partition;
use crate::{Error, PartitionOffsets, Start, Stop};

/// The offset of a start position. An offset that was asked for is not held against the log. Blocks.
pub(crate) fn resolve(
    start: &Start,
    partition: &Partition,
    committed: Option<u64>,
) -> Result<u64, Error> {
    let (first, end) = (partition.log_start_offset(), partition.high_watermark());
    Ok(match *start {
        Start::Earliest => first,
        Start::Latest => end,
        Start::Committed => committed.unwrap_or(first),
        Start::Offset(offset) => offset,
        Start::TimeMs(time_ms) => partition.offset_for_time(time_ms)?.unwrap_or(end),
        Start::Last(count) => end.saturating_sub(count).max(first),
    })
}

/// The offset of a stop position; `None` if the partition is read on without one. Blocks.
pub(crate) fn resolve_stop(stop: &Stop, partition: &Partition) -> Result<Option<u64>, Error> {
    let end = partition.high_watermark();
    // Where a damaged partition really ends nobody knows: reading comes to the damage and says so.
    let current_end = partition.damage_at(end).is_none().then_some(end);
    Ok(match *stop {
        Stop::CurrentEnd => current_end,
        Stop::Offset(offset) => Some(offset),
        Stop::TimeMs(time_ms) => partition.offset_for_time(time_ms)?.or(current_end),
        Stop::Count(_) => None,
    })
}

/// Fails if there is nothing at an offset and never will be, or not yet. The end itself is fine.
pub(crate) fn check_range(partition: &Partition, offset: u64) -> Result<(), Error> {
    if (partition.log_start_offset()..=partition.high_watermark()).contains(&offset) {
        return Ok(());
    }
    match partition.damage_at(offset) {
        Some(damage) => Err(damage),
        None => Err(partition.out_of_range(offset)),
    }
}

pub(crate) async fn list_offsets(
    core: &Arc<Core>,
    topic: &str,
    at: &Start,
    partitions: &[u32],
    group: Option<&str>,
) -> Result<(Uuid, Vec<PartitionOffsets>), Error> {
    core.check_alive()?;
    let topic = core.topics.get(topic)?;
    let now = topic.now();
    if *at == Start::Committed && group.is_none() {
        return Err(no_group());
    }
    let chosen: Vec<Arc<Partition>> = match partitions {
        [] => now.partitions.clone(),
        chosen => chosen
            .iter()
            .map(|&at| topic.partition(at))
            .collect::<Result<_, _>>()?,
    };
    let committed: Vec<Option<u64>> = match group {
        Some(group) if *at == Start::Committed => {
            let state = core.offsets.log()?.state();
            let of = |p: &Arc<Partition>| state.committed(group, topic.id(), p.index());
            chosen.iter().map(of).collect()
        }
        _ => vec![None; chosen.len()],
    };
    let at = at.clone();
    let found = core
        .pool
        .run(move || {
            chosen
                .iter()
                .zip(committed)
                .map(|(partition, committed)| find(&at, partition, committed))
                .collect::<Result<Vec<_>, Error>>()
        })
        .await??;
    Ok((topic.id(), found))
}

/// The error of a committed offset that is nobody's.
pub(crate) fn no_group() -> Error {
    invalid("group", "a committed offset is a group's: name the group")
}

fn find(
    at: &Start,
    partition: &Partition,
    committed: Option<u64>,
) -> Result<PartitionOffsets, Error> {
    partition.check_readable()?;
    let offset = resolve(at, partition, committed)?;
    if matches!(at, Start::Offset(_)) {
        check_range(partition, offset)?;
    }
    Ok(PartitionOffsets {
        partition: partition.index(),
        offset,
        log_start_offset: partition.log_start_offset(),
        high_watermark: partition.high_watermark(),
    })
}
