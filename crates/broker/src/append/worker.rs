//! An append thread: takes a partition and writes all that is queued for it, or syncs what was written.

use std::sync::Arc;

use flowstone_format::Offset;
use flowstone_log::{Log, LogError};

use crate::append::run_queue::Work;
use crate::append::sync::sync;
use crate::append::unanswered::Waiting;
use crate::append::{AppendJob, Pipelined};
use crate::core::Core;
use crate::partition::Partition;
use crate::{Acks, Error};

/// What one group holds at most, which bounds how long its first request waits for the last.
const MAX_GROUP_BYTES: usize = 8 << 20;
const MAX_GROUP_REQUESTS: usize = 4096;

/// Works until the run queue is stopped and drained.
pub(crate) fn run_worker(core: &Core) {
    while let Some(work) = core.appends.next() {
        do_work(core, work);
    }
}

/// Does one piece of work if there is one.
pub(crate) fn work_once(core: &Core) -> bool {
    let work = core.appends.try_next();
    work.map(|work| do_work(core, work)).is_some()
}

fn do_work(core: &Core, work: Work) {
    match work {
        Work::Write(partition) => write_queued(core, partition),
        Work::WriteFirst(partitions) => {
            begin_first_segments(core, &partitions);
            for partition in partitions {
                write_queued(core, partition);
            }
        }
        Work::Sync(partitions) => sync(core, partitions),
    }
}

fn write_queued(core: &Core, partition: Arc<Partition>) {
    let jobs = partition
        .queue()
        .take_group(MAX_GROUP_BYTES, MAX_GROUP_REQUESTS);
    if core.is_dead() {
        for job in jobs {
            job.refuse(Error::ShuttingDown);
        }
    } else {
        append_group(core, &partition, jobs);
    }
    core.appends.give_back(partition);
}

/// Begins the first segments of partitions together, where that is possible. Whatever is in the way is told to those
/// who append. Nobody else holds more than one log.
fn begin_first_segments(core: &Core, partitions: &[Arc<Partition>]) {
    let mut guards: Vec<_> = partitions.iter().map(|it| (it, it.log())).collect();
    // With the logs in hand, as everybody takes these two.
    let Ok(admitted) = core.reserve.admit_records() else {
        return;
    };
    let logs = guards.iter_mut().filter_map(|(partition, guard)| {
        let takes_any = !core.is_dead() && partition.refusal().is_none();
        let log = guard.as_mut().filter(|_| takes_any)?;
        log.set_config(partition.log_config());
        Some(log)
    });
    let begun = flowstone_log::begin_first_segments(logs);
    drop(guards);
    drop(admitted);
    if let Err(error) = begun {
        core.die(&error.to_string());
    }
}

fn append_group(core: &Core, partition: &Arc<Partition>, jobs: Vec<AppendJob>) {
    let mut guard = partition.log();
    if let Some(error) = unusable(core, partition, &mut guard) {
        drop(guard);
        for job in jobs {
            job.refuse(error.clone());
        }
        return;
    }
    let log = guard.as_mut().expect("it is usable");
    log.set_config(partition.log_config());

    let mut group = Vec::with_capacity(jobs.len());
    let written =
        stage(core, partition, log, jobs, &mut group).and_then(|()| write(log, &mut group));
    let Err(error) = written else {
        // With the log in hand, so that groups are answered in the order of their records.
        core.appends.written(partition, group);
        return;
    };
    // What was written before and not synced is read again with the rest.
    let mut unknown = partition.unanswered().take();
    unknown.append(&mut group);
    // One of the broker's own logs cannot go on either: whether a change was made would be known
    // only after a restart.
    let fatal = match &error {
        LogError::SyncFailed { .. } => Some(error.to_string()),
        _ if partition.is_internal() => Some(error.to_string()),
        _ => match reopen(core, partition, &mut guard) {
            Reopened::Ends(reason) => Some(reason),
            Reopened::Over | Reopened::Waits(_) => None,
        },
    };
    drop(guard);
    for waiting in unknown {
        waiting.fail(partition.append_error(&error));
    }
    if let Some(reason) = fatal {
        core.die(&reason);
    }
}

/// Why nothing can be appended now. A log that waits for its recovery is reopened first.
fn unusable(core: &Core, partition: &Partition, guard: &mut Option<Log>) -> Option<Error> {
    if let Some(refusal) = partition.refusal() {
        return Some(refusal);
    }
    let log = guard
        .as_ref()
        .expect("a partition without a refusal has a log");
    if log.is_poisoned() {
        match reopen(core, partition, guard) {
            Reopened::Over => {}
            Reopened::Waits(error) => return Some(error),
            Reopened::Ends(reason) => {
                core.die(&reason);
                return Some(Error::ShuttingDown);
            }
        }
    }
    partition.refusal()
}

/// The log of a partition of which nothing is under way: all that was appended is durable. Recovered
/// first if it waits for that.
pub(crate) fn settled<'a>(
    core: &Core,
    partition: &Partition,
    guard: &'a mut Option<Log>,
) -> Result<&'a mut Log, Error> {
    if core.is_dead() {
        return Err(Error::ShuttingDown);
    }
    if let Some(error) = unusable(core, partition, guard) {
        return Err(error);
    }
    let log = guard.as_mut().expect("it is usable");
    // Those who wait for this sync are answered by whoever is about to make it.
    match log.sync() {
        Ok(durable) => {
            log.set_high_watermark(durable.offset);
            Ok(log)
        }
        Err(error) => Err(core.log_error(partition, &error)),
    }
}

/// Stages the requests one after the other. An error means that the log takes nothing more.
fn stage(
    core: &Core,
    partition: &Arc<Partition>,
    log: &mut Log,
    jobs: Vec<AppendJob>,
    group: &mut Vec<Waiting>,
) -> Result<(), LogError> {
    let internal = partition.is_internal();
    let admitted = (!internal).then(|| core.reserve.admit_records());
    let _admitted = match admitted.transpose() {
        Ok(admitted) => admitted,
        Err(error) => {
            for job in jobs {
                job.refuse(error.clone());
            }
            return Ok(());
        }
    };
    let now_ms = core.append_clock.stamp_ms();
    let mut jobs = jobs.into_iter();
    while let Some(job) = jobs.next() {
        let broken = job.pipeline.as_ref().and_then(Pipelined::broken);
        let stale = || job.producer.as_ref()?.check().err();
        if let Some(error) = broken.or_else(stale) {
            job.refuse(error);
            continue;
        }
        // Again, since many requests may have come in at the same time: what is there when the limit is
        // reached is at most one request more.
        if let Some(full) = partition.full_at(log.size_bytes())
            && !is_duplicate(log, &job, now_ms)
        {
            core.housekeeping.look_for_room(partition);
            job.refuse(full);
            continue;
        }
        let appended = if internal {
            core.reserve.with_space(|| log.append(&job.batch(now_ms)))
        } else {
            log.append(&job.batch(now_ms))
        };
        match appended {
            Ok(appended) => group.push(Waiting::new(job, Ok(appended))),
            Err(error) if log.is_poisoned() || matches!(error, LogError::SyncFailed { .. }) => {
                for job in std::iter::once(job).chain(jobs) {
                    job.refuse(partition.append_error(&error));
                }
                return Err(error);
            }
            Err(
                error @ (LogError::SequenceReused { .. }
                | LogError::SequenceTooOld { .. }
                | LogError::OffsetMismatch { .. }),
            ) => {
                group.push(Waiting::refused(job, partition.append_error(&error)));
            }
            Err(error @ LogError::Io { .. }) => job.refuse(Error::Internal {
                detail: error.to_string(),
            }),
            Err(error) => {
                if matches!(error, LogError::DiskFull { .. }) && core.reserve.note_full() {
                    core.housekeeping.apply_retention();
                }
                job.refuse(partition.append_error(&error));
            }
        }
    }
    Ok(())
}

/// Whether the request was appended before, so that it takes no space.
fn is_duplicate(log: &Log, job: &AppendJob, now_ms: i64) -> bool {
    job.producer.is_some() && matches!(log.check(&job.batch(now_ms)), Ok(Some(_)))
}

/// Hands what was staged to the operating system, and answers those who wait for no more.
fn write(log: &mut Log, group: &mut [Waiting]) -> Result<(), LogError> {
    if group.is_empty() {
        return Ok(());
    }
    log.write()?;
    for waiting in group {
        if waiting.acks() == Acks::Written && waiting.is_appended() {
            waiting.answer_now();
        }
    }
    Ok(())
}

/// What became of a partition that was to be recovered after a failed write.
enum Reopened {
    /// It goes on, or is offline.
    Over,
    /// It is tried again with the next append.
    Waits(Error),
    /// The whole broker has to end.
    Ends(String),
}

/// Recovers a partition after a failed write, or takes it offline.
fn reopen(core: &Core, partition: &Partition, guard: &mut Option<Log>) -> Reopened {
    let log = guard.as_mut().expect("the caller appends to it");
    let floor = core.floor.newest(partition.id());
    let reopened = floor.and_then(|floor| {
        if partition.is_internal() {
            core.reserve.with_space(|| log.reopen(floor))
        } else {
            log.reopen(floor)
        }
    });
    match reopened {
        Ok(()) => {
            if let Some(damage) = log.damage() {
                partition.tell_damage(damage);
            }
            partition.wake_readers();
            Reopened::Over
        }
        // Nothing is wrong with the partition; it is no reason to give it up.
        Err(error @ (LogError::DiskFull { .. } | LogError::TooManyOpenFiles { .. })) => {
            Reopened::Waits(partition.append_error(&error))
        }
        Err(error @ LogError::SyncFailed { .. }) => Reopened::Ends(error.to_string()),
        Err(error) => {
            tracing::error!(
                id = partition.id().get(), %error,
                "a partition could not be reopened after a failed write and is offline"
            );
            let end = partition.high_watermark();
            partition.refuse(partition.corrupt(Offset::new(end), error.to_string()));
            partition.wake_readers();
            *guard = None;
            Reopened::Over
        }
    }
}
