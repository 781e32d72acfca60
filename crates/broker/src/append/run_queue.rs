//! The partitions that have something to append, in the order in which they got it.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};

use crate::Error;
use crate::append::AppendJob;
use crate::partition::Partition;

/// Hands each partition to at most one worker at a time.
#[derive(Debug, Default)]
pub(crate) struct RunQueue {
    state: Mutex<State>,
    wake: Condvar,
}

#[derive(Debug, Default)]
struct State {
    ready: VecDeque<Arc<Partition>>,
    stopped: bool,
}

impl RunQueue {
    /// Queues a request for a partition. It is answered as [`Error::ShuttingDown`] after a stop.
    pub(crate) fn submit(&self, partition: &Arc<Partition>, job: AppendJob) {
        {
            let mut state = self.state();
            if !state.stopped {
                if partition.push(job) {
                    state.ready.push_back(Arc::clone(partition));
                    self.wake.notify_one();
                }
                return;
            }
        }
        job.refuse(Error::ShuttingDown);
    }

    /// Puts a partition back that a worker is done with, if more is queued for it.
    pub(crate) fn give_back(&self, partition: Arc<Partition>) {
        let mut state = self.state();
        if partition.has_more() {
            state.ready.push_back(partition);
            self.wake.notify_one();
        }
    }

    /// The next partition, as soon as there is one; `None` after a stop, once all is drained.
    pub(crate) fn next(&self) -> Option<Arc<Partition>> {
        let mut state = self.state();
        loop {
            if let Some(partition) = state.ready.pop_front() {
                return Some(partition);
            }
            if state.stopped {
                return None;
            }
            state = self
                .wake
                .wait(state)
                .expect("nothing panics with the run queue in hand");
        }
    }

    /// The next partition, if there is one now.
    pub(crate) fn try_next(&self) -> Option<Arc<Partition>> {
        self.state().ready.pop_front()
    }

    /// Takes nothing new; workers end once all is drained.
    pub(crate) fn stop(&self) {
        self.state().stopped = true;
        self.wake.notify_all();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state
            .lock()
            .expect("nothing panics with the run queue in hand")
    }
}
