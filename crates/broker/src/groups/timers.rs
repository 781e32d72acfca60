//! When which group has to be looked at, and the thread that does it.

use std::collections::BTreeMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::Duration;

use super::coordinator::Time;
use super::{Group, Hub};

/// The groups that wait for a time to come.
#[derive(Debug, Default)]
pub(super) struct Timers {
    state: Mutex<State>,
    wake: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// By the time, then by where the group lies in memory.
    due: BTreeMap<(Time, usize), Arc<Group>>,
    stopped: bool,
}

impl Timers {
    /// A group is to be looked at at a time, if at any, and no longer at the one that was planned.
    pub(super) fn plan(&self, group: &Arc<Group>, planned: Option<Time>, due: Option<Time>) {
        let place = Arc::as_ptr(group) as usize;
        let mut state = self.state();
        if let Some(planned) = planned {
            state.due.remove(&(planned, place));
        }
        let Some(due) = due else { return };
        let first = state.due.first_key_value().map(|((first, _), _)| *first);
        state.due.insert((due, place), Arc::clone(group));
        if first.is_none_or(|first| due < first) {
            self.wake.notify_one();
        }
    }

    pub(super) fn stop(&self) {
        self.state().stopped = true;
        self.wake.notify_all();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state
            .lock()
            .expect("nothing panics with timers in hand")
    }

    /// The next group whose time has come, or how long there is still to wait.
    fn next(state: &mut State, now: Time) -> Next {
        match state.due.first_entry() {
            None => Next::Nothing,
            Some(first) if first.key().0 > now => Next::In(first.key().0 - now),
            Some(first) => Next::Group(first.remove()),
        }
    }
}

enum Next {
    Group(Arc<Group>),
    In(Duration),
    Nothing,
}

impl Hub {
    pub(super) fn run_due(&self) -> bool {
        let mut any = false;
        loop {
            let next = Timers::next(&mut self.timers.state(), self.now());
            let Next::Group(group) = next else {
                return any;
            };
            any = true;
            self.look_at(&group);
        }
    }

    pub(super) fn run_timers(&self) {
        let mut state = self.timers.state();
        while !state.stopped {
            match Timers::next(&mut state, self.now()) {
                Next::Group(group) => {
                    drop(state);
                    self.look_at(&group);
                    state = self.timers.state();
                }
                Next::In(left) => {
                    let waited = self.timers.wake.wait_timeout(state, left);
                    state = waited.expect("nothing panics with timers in hand").0;
                }
                Next::Nothing => {
                    let waited = self.timers.wake.wait(state);
                    state = waited.expect("nothing panics with timers in hand");
                }
            }
        }
    }

    fn look_at(&self, group: &Arc<Group>) {
        self.change(group, |state, now| {
            state.due = None;
            for in_topic in state.topics.values_mut() {
                in_topic.coordinator.tick(now);
            }
        });
    }
}
