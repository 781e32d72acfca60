//! One thread for what nobody waits for: snapshots of internal logs, the files of deleted topics,
//! room in partitions that are full, and every now and then the retention of topics, and of groups
//! that nobody uses.

use std::collections::VecDeque;
use std::fmt;
use std::pin::Pin;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::task::{Context, Waker};
use std::time::Duration;

use crate::core::Core;
use crate::partition::Partition;
use crate::{offsets, retention};

type Chore = Pin<Box<dyn Future<Output = ()> + Send>>;

/// What is to be done, and by when retention is due.
pub(crate) struct Housekeeping {
    interval: Duration,
    state: Mutex<State>,
    wake: Condvar,
}

#[derive(Default)]
struct State {
    chores: VecDeque<Chore>,
    /// Partitions that have refused records since somebody last looked for room in them.
    full: VecDeque<Arc<Partition>>,
    retention_now: bool,
    stopped: bool,
}

enum Next {
    Chore(Chore),
    Retention,
    Room(Arc<Partition>),
    End,
}

impl Housekeeping {
    pub(crate) fn new(interval: Duration) -> Self {
        Self {
            interval,
            state: Mutex::default(),
            wake: Condvar::new(),
        }
    }

    /// Adds a chore. What is left at the end is left undone, and found again at the next start.
    pub(crate) fn add(&self, chore: impl Future<Output = ()> + Send + 'static) {
        let mut state = self.state();
        if !state.stopped {
            state.chores.push_back(Box::pin(chore));
            self.wake.notify_one();
        }
    }

    /// Applies retention soon, since what a topic keeps has changed.
    pub(crate) fn apply_retention(&self) {
        self.state().retention_now = true;
        self.wake.notify_one();
    }

    /// Looks soon whether there is room in a partition that refuses records, once for however many
    /// were refused.
    pub(crate) fn look_for_room(&self, partition: &Arc<Partition>) {
        if partition.want_room() {
            self.state().full.push_back(Arc::clone(partition));
            self.wake.notify_one();
        }
    }

    /// Works until it is stopped.
    pub(crate) fn run(&self, core: &Arc<Core>) {
        let mut due = core.env.clock.monotonic() + self.interval;
        loop {
            match self.next(core, due) {
                Next::Chore(chore) => pollster::block_on(chore),
                Next::Retention => {
                    retention::apply(core);
                    offsets::expire(core);
                    due = core.env.clock.monotonic() + self.interval;
                }
                Next::Room(partition) => retention::look_for_room(core, &partition),
                Next::End => return,
            }
        }
    }

    fn next(&self, core: &Core, due: Duration) -> Next {
        let mut state = self.state();
        loop {
            if state.stopped {
                return Next::End;
            }
            if let Some(chore) = state.chores.pop_front() {
                return Next::Chore(chore);
            }
            let left = due.saturating_sub(core.env.clock.monotonic());
            if std::mem::take(&mut state.retention_now) || left.is_zero() {
                return Next::Retention;
            }
            if let Some(partition) = state.full.pop_front() {
                return Next::Room(partition);
            }
            let (waited, timeout) = self
                .wake
                .wait_timeout(state, left)
                .expect("nothing panics with the list of chores in hand");
            state = waited;
            if timeout.timed_out() {
                return Next::Retention;
            }
        }
    }

    /// Takes every chore one step further on this thread and looks for room. True if any of them
    /// ended.
    pub(crate) fn run_once(&self, core: &Core) -> bool {
        let full = std::mem::take(&mut self.state().full);
        for partition in &full {
            retention::look_for_room(core, partition);
        }
        let chores = std::mem::take(&mut self.state().chores);
        let mut context = Context::from_waker(Waker::noop());
        let (before, mut left) = (chores.len(), VecDeque::new());
        for mut chore in chores {
            if chore.as_mut().poll(&mut context).is_pending() {
                left.push_back(chore);
            }
        }
        let ended = left.len() < before || !full.is_empty();
        let mut state = self.state();
        left.append(&mut state.chores);
        state.chores = left;
        ended
    }

    /// Ends [`run`](Self::run) after the chore in hand; what is queued is dropped.
    pub(crate) fn stop(&self) {
        let chores = {
            let mut state = self.state();
            state.stopped = true;
            std::mem::take(&mut state.chores)
        };
        drop(chores);
        self.wake.notify_one();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state
            .lock()
            .expect("nothing panics with the list of chores in hand")
    }
}

impl fmt::Debug for Housekeeping {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Housekeeping")
            .field("interval", &self.interval)
            .finish_non_exhaustive()
    }
}
