//! One sync for all that was written to a partition, or to many, and the answers to those who wait for it.
//!
//! The log is not held while it syncs: the next group is written meanwhile.

use std::sync::Arc;
use std::time::Duration;

use flowstone_log::{LogError, Unsynced};

use crate::Error;
use crate::append::unanswered::Waiting;
use crate::core::Core;
use crate::partition::Partition;

/// From so many partitions on, one sync of the whole file system costs less than one of each file. With
/// everything on one thread it is done early, so that tests see it.
pub(crate) fn sync_all_min(inline: bool) -> usize {
    if inline { 3 } else { 16 }
}

/// What one sync of a partition is for.
struct Round {
    partition: Arc<Partition>,
    group: Vec<Waiting>,
    /// `None` if all of it is durable already.
    unsynced: Option<Unsynced>,
    /// Why it is not known what becomes of the group.
    unknown: Option<Error>,
}

/// Syncs partitions that have something to sync, and answers.
pub(crate) fn sync(core: &Core, partitions: Vec<Arc<Partition>>) {
    let mut rounds: Vec<Round> = partitions.into_iter().map(|it| begin(core, it)).collect();
    let began = core.env.clock.monotonic();
    let failed = sync_files(core, &mut rounds);
    let took = core.env.clock.monotonic().saturating_sub(began);
    for round in rounds {
        let partition = Arc::clone(&round.partition);
        finish(core, round, took);
        core.appends.synced(partition);
    }
    core.appends.sync_ended();
    if let Some(reason) = failed {
        core.die(&reason);
    }
}

/// What was written to a partition until now, and who waits for it.
fn begin(core: &Core, partition: Arc<Partition>) -> Round {
    let guard = partition.log();
    let group = partition.unanswered().take();
    let unsynced = match guard.as_ref() {
        _ if core.is_dead() => Err(Error::OutcomeUnknown {
            detail: "the broker stopped before it synced".to_owned(),
        }),
        Some(log) => log
            .unsynced()
            .map_err(|error| partition.append_error(&error)),
        None => Err(partition
            .refusal()
            .expect("a partition without a log has a refusal")),
    };
    drop(guard);
    let (unsynced, unknown) = match unsynced {
        Ok(unsynced) => (unsynced, None),
        Err(error) => (None, Some(error)),
    };
    Round {
        partition,
        group,
        unsynced,
        unknown,
    }
}

/// Syncs what the rounds are for. Answers with why the broker cannot go on, if one fails.
fn sync_files(core: &Core, rounds: &mut [Round]) -> Option<String> {
    let mut failed = None;
    let pending = rounds.iter().filter(|round| round.unsynced.is_some());
    let all = pending.count() >= sync_all_min(core.appends.is_inline());
    if all && let Err(error) = core.env.disk.sync_all(&core.config.data_dir) {
        let dir = core.config.data_dir.display();
        failed = Some(format!("sync {dir}: {error}"));
    }
    for round in rounds {
        let Some(unsynced) = &round.unsynced else {
            continue;
        };
        if !all && let Err(error) = unsynced.sync() {
            round.unknown = Some(round.partition.append_error(&error));
            failed.get_or_insert(error.to_string());
        } else if let (true, Some(reason)) = (all, &failed) {
            let detail = reason.clone();
            round.unknown = Some(Error::OutcomeUnknown { detail });
        }
    }
    failed
}

/// Lets readers go up to what is durable now, and answers.
fn finish(core: &Core, round: Round, took: Duration) {
    let Round {
        partition,
        group,
        unsynced,
        unknown,
    } = round;
    if let Some(error) = unknown {
        for waiting in group {
            waiting.fail(error.clone());
        }
        return;
    }
    let mut guard = partition.log();
    let mut unknown = Error::OutcomeUnknown {
        detail: "the partition was recovered while the records were synced".to_owned(),
    };
    let mut failed = None;
    let durable = guard.as_mut().and_then(|log| {
        let Some(unsynced) = &unsynced else {
            return Some(log.durable());
        };
        // The space of the reserve is there for what is small and keeps the log going.
        match core.reserve.with_space(|| log.synced(unsynced)) {
            Ok(durable) => durable,
            Err(error) => {
                unknown = Error::OutcomeUnknown {
                    detail: error.to_string(),
                };
                failed = Some(error);
                Some(log.durable())
            }
        }
    });
    if let Some(error @ LogError::SyncFailed { .. }) = failed {
        drop(guard);
        for waiting in group {
            waiting.fail(unknown.clone());
        }
        core.die(&error.to_string());
        return;
    }
    let mut floor = None;
    if let (Some(log), Some(durable)) = (guard.as_ref(), durable) {
        log.set_high_watermark(durable.offset);
        floor = log.floor();
    }
    drop(guard);
    count(core, &partition, &group, took);
    for mut waiting in group {
        if durable.is_some_and(|durable| waiting.is_below(durable.offset)) {
            waiting.answer_now();
        } else {
            waiting.fail(unknown.clone());
        }
    }
    partition.wake_readers();
    if let Some(slot) = floor {
        core.floor.put(slot);
    }
}

/// Takes note of a group that was synced.
fn count(core: &Core, partition: &Partition, group: &[Waiting], took: Duration) {
    let counters = &core.counters;
    counters.committed(took);
    if partition.is_internal() {
        return;
    }
    counters.group_requests.add(group.len() as u64);
    for (appended, bytes) in group.iter().filter_map(Waiting::appended) {
        if appended.duplicate {
            counters.duplicate_requests.add(1);
        } else {
            counters
                .appended_records
                .add(u64::from(appended.record_count));
            counters.appended_bytes.add(bytes as u64);
        }
    }
}
