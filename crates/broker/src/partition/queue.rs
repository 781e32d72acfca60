//! The requests that wait to be appended to a partition.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard};

use crate::append::AppendJob;

/// The requests of one partition, in their order.
#[derive(Debug, Default)]
pub(crate) struct Queue(Mutex<Waiting>);

#[derive(Debug, Default)]
struct Waiting {
    jobs: VecDeque<AppendJob>,
    /// Whether the partition is on the run queue, or with a worker.
    scheduled: bool,
}

impl Queue {
    /// Queues a request. True if the partition has to be put on the run queue.
    pub(crate) fn push(&self, job: AppendJob) -> bool {
        let mut waiting = self.waiting();
        waiting.jobs.push_back(job);
        !std::mem::replace(&mut waiting.scheduled, true)
    }

    /// Takes what one group may hold.
    pub(crate) fn take_group(&self, max_bytes: usize, max_jobs: usize) -> Vec<AppendJob> {
        let mut waiting = self.waiting();
        let mut bytes = 0;
        let count = waiting
            .jobs
            .iter()
            .take(max_jobs)
            .take_while(|job| {
                let fits = bytes < max_bytes;
                bytes += job.bytes();
                fits
            })
            .count();
        waiting.jobs.drain(..count).collect()
    }

    /// After a group: true if more is queued, so that the partition has to go on the run queue again.
    pub(crate) fn has_more(&self) -> bool {
        let mut waiting = self.waiting();
        waiting.scheduled = !waiting.jobs.is_empty();
        waiting.scheduled
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.0.lock().expect("nothing panics with a queue in hand")
    }
}
