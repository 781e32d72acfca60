//! Removing what topics no longer keep: by age of the append, and by size of the partition.

use flowstone_log::Retention;

use crate::core::Core;
use crate::partition::Partition;

/// Applies the retention of all topics. True if anything was removed.
pub(crate) fn apply(core: &Core) -> bool {
    let mut removed = false;
    for topic in core.topics.all() {
        let now = topic.now();
        let retention = Retention {
            max_age_ms: now.info.spec.retention_ms,
            max_bytes: now.info.spec.retention_bytes,
        };
        if retention.max_age_ms.is_none() && retention.max_bytes.is_none() {
            continue;
        }
        for partition in &now.partitions {
            if core.is_dead() || core.is_stopping() {
                return removed;
            }
            removed |= apply_to(core, partition, retention);
        }
    }
    if !core.is_dead() {
        core.reserve.look();
    }
    removed
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
