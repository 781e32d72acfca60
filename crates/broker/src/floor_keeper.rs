//! Writes the durable floor of each partition soon after its waiters were answered, and syncs the file
//! once nothing was committed for a while.

use std::collections::BTreeMap;
use std::sync::{Condvar, Mutex, MutexGuard};
use std::time::Duration;

use flowstone_format::{FloorSlot, PartitionId};
use flowstone_log::{Floor, LogError};

use crate::core::Core;

/// Between two writes: what is committed meanwhile is written once. A thread that is woken with each commit takes a fifth
/// of the processor's time at a thousand commits a second.
const PAUSE: Duration = Duration::from_millis(10);

const NO_PANIC: &str = "nothing panics with the floor's state in hand";

/// The FLOOR file, and what is to be written to it.
#[derive(Debug)]
pub(crate) struct FloorKeeper {
    file: Floor,
    idle: Duration,
    state: Mutex<State>,
    wake: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// The newest slot of each partition that has not been written.
    slots: BTreeMap<PartitionId, FloorSlot>,
    /// Set while slots were written but not synced: the clock's time of the last one.
    written_at: Option<Duration>,
    /// Whether the thread is to be woken for a slot.
    waits_for_slots: bool,
    stopped: bool,
}

impl FloorKeeper {
    pub(crate) fn new(file: Floor, idle: Duration) -> Self {
        Self {
            file,
            idle,
            state: Mutex::default(),
            wake: Condvar::new(),
        }
    }

    /// Takes the newest slot of a partition, to be written soon.
    pub(crate) fn put(&self, slot: FloorSlot) {
        let mut state = self.state();
        state.slots.insert(slot.partition, slot);
        if state.waits_for_slots {
            drop(state);
            self.wake.notify_one();
        }
    }

    /// The newest slot of a partition, written or not.
    pub(crate) fn newest(&self, partition: PartitionId) -> Result<Option<FloorSlot>, LogError> {
        let waiting = self.state().slots.get(&partition).cloned();
        match waiting {
            Some(slot) => Ok(Some(slot)),
            None => self.file.get(partition),
        }
    }

    /// The greatest id of a partition that has a slot.
    pub(crate) fn highest(&self) -> Result<Option<PartitionId>, LogError> {
        self.file.highest()
    }

    /// Works until it is stopped; then writes and syncs what is left.
    pub(crate) fn run(&self, core: &Core) {
        let pause = PAUSE.min(self.idle);
        while self.wait_for_slots(self.idle - pause) {
            if !self.write(core) {
                self.sync(core);
                continue;
            }
            let state = self.state();
            let pausing = self
                .wake
                .wait_timeout_while(state, pause, |state| !state.stopped);
            drop(pausing.expect(NO_PANIC));
        }
        self.finish(core);
    }

    /// Waits for slots, or, while some were written and not synced, until none came for so long. False once it is
    /// stopped.
    fn wait_for_slots(&self, idle: Duration) -> bool {
        let mut state = self.state();
        state.waits_for_slots = true;
        let none = |state: &mut State| state.slots.is_empty() && !state.stopped;
        let mut state = match state.written_at {
            Some(_) => {
                let waited = self.wake.wait_timeout_while(state, idle, none);
                waited.expect(NO_PANIC).0
            }
            None => self.wake.wait_while(state, none).expect(NO_PANIC),
        };
        state.waits_for_slots = false;
        !state.stopped
    }

    /// What [`run`](Self::run) would do now: true if anything was written or synced.
    pub(crate) fn run_once(&self, core: &Core) -> bool {
        if self.write(core) {
            return true;
        }
        let written_at = self.state().written_at;
        let now = core.env.clock.monotonic();
        let due = written_at.is_some_and(|at| now.saturating_sub(at) >= self.idle);
        due && self.sync(core)
    }

    /// Writes and syncs all there is, on this thread.
    pub(crate) fn finish(&self, core: &Core) {
        self.write(core);
        self.sync(core);
    }

    /// Ends [`run`](Self::run) after all there is has been written and synced.
    pub(crate) fn stop(&self) {
        self.state().stopped = true;
        self.wake.notify_one();
    }

    fn write(&self, core: &Core) -> bool {
        let slots = std::mem::take(&mut self.state().slots);
        if slots.is_empty() || core.is_dead() {
            return false;
        }
        for slot in slots.into_values() {
            let put = core.reserve.with_space(|| self.file.put(slot));
            if let Err(error) = put {
                // The acknowledged records are there; what suffers is the proof that tells a torn
                // tail from rot, until the partition's next commit.
                tracing::error!(%error, "a durable floor could not be written");
            }
        }
        self.state().written_at = Some(core.env.clock.monotonic());
        true
    }

    fn sync(&self, core: &Core) -> bool {
        if self.state().written_at.take().is_none() || core.is_dead() {
            return false;
        }
        if let Err(error) = self.file.sync() {
            core.die(&error.to_string());
        }
        true
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect(NO_PANIC)
    }
}
