//! Removing what topics no longer keep: by age of the append, by size of the partition, and what all
//! groups have read where a topic refuses records at its size.

use std::sync::Arc;

use flowstone_format::Offset;
use flowstone_log::{MakeRoom, Retention};

use crate::core::Core;
use crate::partition::Partition;
use crate::producers;
use crate::topics::{Topic, TopicNow};
use crate::{Error, Overflow};

/// Applies the retention of all topics, and forgets producers that are idle. True if anything was
/// removed.
pub(crate) fn apply(core: &Arc<Core>) -> bool {
    let mut removed = false;
    for topic in core.topics.all() {
        let now = topic.now();
        for partition in &now.partitions {
            expire_producers(core, partition);
        }
        let spec = &now.info.spec;
        if spec.retention_ms.is_none() && spec.retention_bytes.is_none() {
            continue;
        }
        for partition in &now.partitions {
            if core.is_dead() || core.is_stopping() {
                return removed;
            }
            removed |= apply_to(core, partition, retention(core, &topic, &now, partition));
        }
    }
    if !core.is_dead() {
        core.reserve.look();
        core.housekeeping
            .add(producers::forget_idle(Arc::clone(core)));
    }
    removed
}

/// The refusal of records by a partition that is full, and somebody who looks for room in it.
pub(crate) fn refuse_if_full(core: &Core, partition: &Arc<Partition>) -> Result<(), Error> {
    let Some(full) = partition.full() else {
        return Ok(());
    };
    core.housekeeping.look_for_room(partition);
    Err(full)
}

/// Removes from a partition that refuses records what its topic no longer keeps.
pub(crate) fn look_for_room(core: &Core, partition: &Partition) {
    partition.look_for_room();
    let Ok(topic) = core.topics.get(partition.topic_name()) else {
        return;
    };
    let now = topic.now();
    // The topic may be another one of the same name.
    let known = now.partitions.get(partition.index() as usize);
    if known.is_some_and(|known| known.id() == partition.id()) && !core.is_dead() {
        apply_to(core, partition, retention(core, &topic, &now, partition));
    }
}

/// What a partition of a topic keeps now.
fn retention(core: &Core, topic: &Topic, now: &TopicNow, partition: &Partition) -> Retention {
    let spec = &now.info.spec;
    let keeps = Retention {
        max_age_ms: spec.retention_ms,
        ..Retention::default()
    };
    match (spec.overflow, spec.retention_bytes) {
        (Overflow::Reject, Some(full_bytes)) => Retention {
            make_room: Some(MakeRoom {
                full_bytes,
                below: needed_by_nobody_below(core, topic, partition),
            }),
            ..keeps
        },
        (_, max_bytes) => Retention { max_bytes, ..keeps },
    }
}

/// Up to where a partition was trimmed, or read by every group that has offsets in its topic.
fn needed_by_nobody_below(core: &Core, topic: &Topic, partition: &Partition) -> Offset {
    let offsets = core.offsets.log().ok();
    let read = offsets.and_then(|log| log.state().read_by_all(topic.id(), partition.index()));
    let read = read.unwrap_or(0).min(partition.high_watermark());
    Offset::new(read.max(partition.log_start_offset()))
}

fn expire_producers(core: &Core, partition: &Partition) {
    let retention_ms = i64::try_from(core.config.producer_retention_ms).unwrap_or(i64::MAX);
    if let Some(log) = partition.log().as_mut() {
        log.expire_producers(core.append_clock.least_ms(retention_ms), retention_ms);
    }
}

fn apply_to(core: &Core, partition: &Partition, retention: Retention) -> bool {
    let before = partition.log_start_offset();
    let mut guard = partition.log();
    let Some(log) = guard.as_mut() else {
        return false;
    };
    if log.is_poisoned() || log.reader().is_offline() {
        return false;
    }
    let now_ms = core
        .append_clock
        .least_ms(retention.max_age_ms.unwrap_or(0));
    let retained = core.reserve.with_space(|| log.retain(now_ms, retention));
    drop(guard);
    if let Ok(retained) = &retained {
        let counters = &core.counters;
        counters.retention_segments.add(retained.segments as u64);
        counters.retention_bytes.add(retained.bytes);
    }
    if let Err(error) = retained {
        let id = partition.id().get();
        let error = core.log_error(partition, &error);
        tracing::warn!(id, %error, "retention could not be applied; it is tried again");
    }
    partition.log_start_offset() > before
}
