//! An append thread: takes a partition, appends all that is queued for it, and syncs once.

use std::sync::Arc;
use std::time::Duration;

use flowstone_format::Offset;
use flowstone_log::{Appended, Durable, Log, LogError};

use crate::append::{AppendJob, Done, Pipelined};
use crate::core::Core;
use crate::partition::Partition;
use crate::{Acks, Error};

/// What one group holds at most, which bounds how long its first request waits for the last.
const MAX_GROUP_BYTES: usize = 8 << 20;
const MAX_GROUP_REQUESTS: usize = 4096;

/// Works until the run queue is stopped and drained.
pub(crate) fn run_worker(core: &Core) {
    while let Some(partition) = core.appends.next() {
        work(core, partition);
    }
}

/// Appends one group if one is queued.
pub(crate) fn work_once(core: &Core) -> bool {
    match core.appends.try_next() {
        Some(partition) => {
            work(core, partition);
            true
        }
        None => false,
    }
}

fn work(core: &Core, partition: Arc<Partition>) {
    let jobs = partition.take_group(MAX_GROUP_BYTES, MAX_GROUP_REQUESTS);
    if core.is_dead() {
        for job in jobs {
            job.refuse(Error::ShuttingDown);
        }
    } else {
        append_group(core, &partition, jobs);
    }
    core.appends.give_back(partition);
}

/// A request that is answered with the group: it is staged, or what it is told of the log has to be
/// durable first.
struct Waiting {
    outcome: Result<Appended, Error>,
    /// Bytes of its records.
    bytes: usize,
    acks: Acks,
    pipeline: Option<Pipelined>,
    /// Gone once it was answered.
    done: Option<Done>,
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

    let mut waiting = Vec::with_capacity(jobs.len());
    let outcome = stage(core, partition, log, jobs, &mut waiting).and_then(|()| {
        let began = core.env.clock.monotonic();
        let committed = commit(log, &mut waiting);
        let took = core.env.clock.monotonic().saturating_sub(began);
        committed.inspect(|durable| {
            if durable.is_some() {
                count(core, partition, &waiting, took);
            }
        })
    });
    let error = match outcome {
        Ok(None) => return,
        Ok(Some(durable)) => {
            log.set_high_watermark(durable.offset);
            let floor = log.floor();
            drop(guard);
            for waiting in waiting {
                waiting.answer();
            }
            partition.wake_readers();
            if let Some(slot) = floor {
                core.floor.put(slot);
            }
            return;
        }
        Err(error) => error,
    };
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
    for waiting in waiting {
        waiting.fail(partition.append_error(&error));
    }
    if let Some(reason) = fatal {
        core.die(&reason);
    }
}

/// Takes note of a group that was committed.
fn count(core: &Core, partition: &Partition, group: &[Waiting], took: Duration) {
    let counters = &core.counters;
    counters.committed(took);
    if partition.is_internal() {
        return;
    }
    counters.group_requests.add(group.len() as u64);
    for waiting in group {
        match &waiting.outcome {
            Ok(appended) if appended.duplicate => counters.duplicate_requests.add(1),
            Ok(appended) => {
                let records = u64::from(appended.record_count);
                counters.appended_records.add(records);
                counters.appended_bytes.add(waiting.bytes as u64);
            }
            Err(_) => {}
        }
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

/// The log of a partition of which nothing is under way, recovered first if it waits for that.
pub(crate) fn settled<'a>(
    core: &Core,
    partition: &Partition,
    guard: &'a mut Option<Log>,
) -> Result<&'a mut Log, Error> {
    if core.is_dead() {
        return Err(Error::ShuttingDown);
    }
    match unusable(core, partition, guard) {
        Some(error) => Err(error),
        None => Ok(guard.as_mut().expect("it is usable")),
    }
}

/// Stages the requests one after the other. An error means that the log takes nothing more.
fn stage(
    core: &Core,
    partition: &Arc<Partition>,
    log: &mut Log,
    jobs: Vec<AppendJob>,
    waiting: &mut Vec<Waiting>,
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
            Ok(appended) => waiting.push(Waiting::new(job, Ok(appended))),
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
                waiting.push(Waiting::refused(job, partition.append_error(&error)));
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

/// Writes and syncs what was staged; `None` if that is nothing.
fn commit(log: &mut Log, waiting: &mut [Waiting]) -> Result<Option<Durable>, LogError> {
    if waiting.is_empty() {
        return Ok(None);
    }
    log.write()?;
    for waiting in waiting {
        if waiting.acks == Acks::Written && waiting.outcome.is_ok() {
            waiting.answer_now();
        }
    }
    log.sync().map(Some)
}

impl Waiting {
    fn new(job: AppendJob, outcome: Result<Appended, Error>) -> Self {
        Self {
            outcome,
            bytes: job.bytes(),
            acks: job.acks,
            pipeline: job.pipeline,
            done: Some(job.done),
        }
    }

    /// Nothing later of its pipeline is appended, though it is answered only with the group.
    fn refused(job: AppendJob, refusal: Error) -> Self {
        if let Some(pipeline) = &job.pipeline {
            pipeline.break_off();
        }
        Self::new(job, Err(refusal))
    }

    fn answer_now(&mut self) {
        if let Some(done) = self.done.take() {
            done(self.outcome.clone());
        }
    }

    fn answer(mut self) {
        self.answer_now();
    }

    fn fail(self, error: Error) {
        if let Some(pipeline) = &self.pipeline {
            pipeline.break_off();
        }
        if let Some(done) = self.done {
            done(Err(error));
        }
    }
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
