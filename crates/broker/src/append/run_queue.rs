//! The partitions that have something to write or to sync, in the order in which they got it.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};

use crate::append::AppendJob;
use crate::append::sync::sync_all_min;
use crate::append::unanswered::Waiting;
use crate::partition::Partition;
use crate::{Acks, Error};

/// So many first segments are begun together at most: each keeps a file open until it is synced.
const FIRST_SEGMENTS_MAX: usize = 128;

/// After a request that is answered before the sync, a worker is kept for writing until so many in a row wait for it.
const KEPT_FOR_REQUESTS: u32 = 1_000;

/// Hands each partition to at most one worker that writes and to one that syncs at a time.
#[derive(Debug)]
pub(crate) struct RunQueue {
    /// How many workers there are; 0: one thread does all the work.
    workers: usize,
    state: Mutex<State>,
    wake: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// Have requests that wait to be written.
    to_write: VecDeque<Arc<Partition>>,
    /// Were written to.
    to_sync: VecDeque<Arc<Partition>>,
    /// How many workers sync.
    syncing: usize,
    /// Requests to come for which the last worker does not sync, lest those that are answered before the sync wait for
    /// one.
    kept_for: u32,
    /// With one thread: what decides whether it writes or syncs, as the threads' race would.
    coin: Option<u64>,
    stopped: bool,
}

/// What a worker does next.
pub(crate) enum Work {
    /// Writes what is queued for a partition.
    Write(Arc<Partition>),
    /// The same for many that have no segment yet, whose first are begun together.
    WriteFirst(Vec<Arc<Partition>>),
    /// Syncs what was written to partitions.
    Sync(Vec<Arc<Partition>>),
}

impl State {
    fn has_work(&self, workers: usize) -> bool {
        !self.to_write.is_empty() || self.may_sync(workers)
    }

    /// Whether one more worker may sync what waits for that.
    fn may_sync(&self, workers: usize) -> bool {
        let is_free = self.syncing == 0 || self.kept_for == 0 || self.syncing + 1 < workers;
        is_free && !self.to_sync.is_empty()
    }

    /// A sync first if there is none under way, so that nobody waits for one for long; else whatever can
    /// be written, so that the next sync is for as much as possible.
    fn pick(&mut self, workers: usize) -> Option<Work> {
        let inline = workers == 0;
        let sync_first = self.syncing == 0 && self.flip();
        if !self.may_sync(workers) || !(sync_first || self.to_write.is_empty()) {
            return self.pick_write(inline);
        }
        self.syncing += 1;
        let count = match self.to_sync.len() {
            many if many >= sync_all_min(inline) => many,
            _ => 1,
        };
        Some(Work::Sync(self.to_sync.drain(..count).collect()))
    }

    fn pick_write(&mut self, inline: bool) -> Option<Work> {
        let next = self.to_write.front()?;
        let is_new = |partition: &Arc<Partition>| partition.has_no_segment();
        if !is_new(next)
            || self.to_write.iter().filter(|it| is_new(it)).count() < sync_all_min(inline)
        {
            return self.to_write.pop_front().map(Work::Write);
        }
        let mut first = Vec::new();
        self.to_write.retain(|partition| {
            let taken = first.len() < FIRST_SEGMENTS_MAX && is_new(partition);
            if taken {
                first.push(Arc::clone(partition));
            }
            !taken
        });
        Some(Work::WriteFirst(first))
    }

    /// The next toss of the coin (xorshift, G. Marsaglia, 2003); true where there is none.
    fn flip(&mut self) -> bool {
        self.coin.as_mut().is_none_or(|coin| {
            *coin ^= *coin << 13;
            *coin ^= *coin >> 7;
            *coin ^= *coin << 17;
            *coin & (1 << 40) != 0
        })
    }
}

impl RunQueue {
    /// A queue for so many threads; for none, which is one that does all the work, in an order that follows from the
    /// seed.
    pub(crate) fn new(workers: usize, inline_seed: u64) -> Self {
        let coin = (workers == 0).then_some(inline_seed | 1);
        Self {
            workers,
            state: Mutex::new(State {
                coin,
                ..State::default()
            }),
            wake: Condvar::new(),
        }
    }

    pub(crate) fn is_inline(&self) -> bool {
        self.workers == 0
    }

    /// Queues a request for a partition. It is answered as [`Error::ShuttingDown`] after a stop.
    pub(crate) fn submit(&self, partition: &Arc<Partition>, job: AppendJob) {
        {
            let mut state = self.state();
            if !state.stopped {
                state.kept_for = match job.acks {
                    Acks::Written => KEPT_FOR_REQUESTS,
                    Acks::Durable => state.kept_for.saturating_sub(1),
                };
                if partition.queue().push(job) {
                    state.to_write.push_back(Arc::clone(partition));
                    drop(state);
                    self.wake.notify_one();
                }
                return;
            }
        }
        job.refuse(Error::ShuttingDown);
    }

    /// Takes a group that was written, for a sync to come. The worker that has written it comes for work
    /// again, so that nobody has to be woken.
    pub(crate) fn written(&self, partition: &Arc<Partition>, group: Vec<Waiting>) {
        if partition.unanswered().add(group) {
            self.state().to_sync.push_back(Arc::clone(partition));
        }
    }

    /// Puts a partition back that a worker has written to, if more is queued for it.
    pub(crate) fn give_back(&self, partition: Arc<Partition>) {
        let mut state = self.state();
        if partition.queue().has_more() {
            state.to_write.push_back(partition);
        }
    }

    /// Puts a partition back that was synced, if more was written to it meanwhile.
    pub(crate) fn synced(&self, partition: Arc<Partition>) {
        if partition.unanswered().has_more() {
            self.state().to_sync.push_back(partition);
        }
    }

    /// A worker has synced all that it was given.
    pub(crate) fn sync_ended(&self) {
        self.state().syncing -= 1;
    }

    /// What to do next, as soon as there is something; `None` after a stop, once all is drained.
    pub(crate) fn next(&self) -> Option<Work> {
        let mut state = self.state();
        loop {
            if let Some(work) = state.pick(self.workers) {
                if state.has_work(self.workers) {
                    self.wake.notify_one();
                }
                return Some(work);
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

    /// What to do next, if there is something now.
    pub(crate) fn try_next(&self) -> Option<Work> {
        self.state().pick(self.workers)
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
