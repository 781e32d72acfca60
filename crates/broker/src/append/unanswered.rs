//! Requests that were written and wait for a sync.

use std::fmt;
use std::sync::{Mutex, MutexGuard};

use flowstone_format::Offset;
use flowstone_log::Appended;

use crate::append::{AppendJob, Done, Pipelined};
use crate::{Acks, Error};

/// A request that is answered with its group: it is written, or what it is told of the log has to be
/// durable first.
pub(crate) struct Waiting {
    outcome: Result<Appended, Error>,
    /// Bytes of its records.
    bytes: usize,
    acks: Acks,
    pipeline: Option<Pipelined>,
    /// Gone once it was answered.
    done: Option<Done>,
}

impl Waiting {
    pub(crate) fn new(job: AppendJob, outcome: Result<Appended, Error>) -> Self {
        Self {
            outcome,
            bytes: job.bytes(),
            acks: job.acks,
            pipeline: job.pipeline,
            done: Some(job.done),
        }
    }

    /// Nothing later of its pipeline is appended, though it is answered only with the group.
    pub(crate) fn refused(job: AppendJob, refusal: Error) -> Self {
        if let Some(pipeline) = &job.pipeline {
            pipeline.break_off();
        }
        Self::new(job, Err(refusal))
    }

    pub(crate) fn acks(&self) -> Acks {
        self.acks
    }

    pub(crate) fn is_appended(&self) -> bool {
        self.outcome.is_ok()
    }

    /// What was appended, unless it is refused, and how many bytes these are.
    pub(crate) fn appended(&self) -> Option<(&Appended, usize)> {
        let appended = self.outcome.as_ref().ok();
        appended.map(|appended| (appended, self.bytes))
    }

    pub(crate) fn answer_now(&mut self) {
        if let Some(done) = self.done.take() {
            done(self.outcome.clone());
        }
    }

    /// Whether everything below this offset holds its records.
    pub(crate) fn is_below(&self, end: Offset) -> bool {
        self.outcome.as_ref().map_or(true, |appended| {
            appended.base_offset + u64::from(appended.record_count) <= end
        })
    }

    pub(crate) fn fail(self, error: Error) {
        if let Some(pipeline) = &self.pipeline {
            pipeline.break_off();
        }
        if let Some(done) = self.done {
            done(Err(error));
        }
    }
}

/// All of one partition that wait for its next sync, in the order of the log.
#[derive(Default)]
pub(crate) struct Unanswered(Mutex<State>);

#[derive(Default)]
struct State {
    waiting: Vec<Waiting>,
    /// Whether the partition is to be synced, or is just being synced.
    scheduled: bool,
}

impl Unanswered {
    /// Adds a group that was written. True if the partition has to be put on the queue for syncs.
    pub(crate) fn add(&self, mut group: Vec<Waiting>) -> bool {
        let mut state = self.state();
        if state.waiting.is_empty() {
            state.waiting = group;
        } else {
            state.waiting.append(&mut group);
        }
        !state.waiting.is_empty() && !std::mem::replace(&mut state.scheduled, true)
    }

    /// All that wait. Taken with the log in hand, so that it is known what they wait for.
    pub(crate) fn take(&self) -> Vec<Waiting> {
        std::mem::take(&mut self.state().waiting)
    }

    /// After a sync: true if more has been written, so that the partition has to go on the queue again.
    pub(crate) fn has_more(&self) -> bool {
        let mut state = self.state();
        state.scheduled = !state.waiting.is_empty();
        state.scheduled
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().expect("nothing panics with a queue in hand")
    }
}

impl fmt::Debug for Unanswered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Unanswered")
    }
}
