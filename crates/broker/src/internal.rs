//! The broker's own logs: ordinary partitions whose records are the commands of a deterministic
//! state machine, with a snapshot now and then so that none grows for ever.

mod entry;
mod replay;
mod snapshot;

use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard};

use flowstone_format::RecordLimits;
use flowstone_log::Appended;
use prost::Message;
use tokio::sync::{OwnedRwLockReadGuard, OwnedRwLockWriteGuard, RwLock, oneshot};

use crate::append::{AppendJob, Done};
use crate::core::Core;
use crate::partition::Partition;
use crate::{Acks, Error};

use entry::{Entry, EntryKind};
pub(crate) use replay::{Loss, Replay, ReplayError};
use snapshot::Growth;

/// What is built from a log of commands, the same from the same commands.
pub(crate) trait StateMachine: Default + fmt::Debug + Send + 'static {
    /// What changes the state.
    type Command: Message + Default + 'static;
    /// The whole state, as it is stored.
    type Snapshot: Message + Default;

    /// Makes a change. An error means that the command cannot follow from the ones before, and that
    /// nothing was changed.
    fn apply(&mut self, command: &Self::Command) -> Result<(), String>;

    /// The same where commands before it may be lost: makes of it what still follows. An error means
    /// that it is left out, and that nothing was changed.
    fn apply_after_loss(&mut self, command: &Self::Command) -> Result<(), String> {
        self.apply(command)
    }

    /// The whole state.
    fn snapshot(&self) -> Self::Snapshot;

    /// The state that a snapshot was taken of.
    fn restore(snapshot: Self::Snapshot) -> Result<Self, String>;
}

/// A state machine and the log that it is built from.
#[derive(Debug)]
pub(crate) struct InternalLog<S> {
    partition: Arc<Partition>,
    /// The log's directory, for messages.
    path: PathBuf,
    state: Mutex<S>,
    /// Held for reading by commands from before they are checked against the state until they are
    /// applied, and for writing by those that must be alone, and by snapshots.
    gate: Arc<RwLock<()>>,
    growth: Mutex<Growth>,
    /// What a repair has left out of the log, if what came before its last snapshot does not stand
    /// for it.
    loss: Option<Loss>,
}

/// Commands that may run beside each other hold this.
pub(crate) type Shared = OwnedRwLockReadGuard<()>;
/// A command that must be alone holds this.
pub(crate) type Alone = OwnedRwLockWriteGuard<()>;

impl<S: StateMachine> InternalLog<S> {
    /// Builds the state from what the partition holds.
    pub(crate) fn replay(
        partition: Arc<Partition>,
        path: PathBuf,
        snapshot_interval_bytes: u64,
    ) -> Result<Self, ReplayError> {
        let (state, growth, loss) = replay::replay(&partition, snapshot_interval_bytes)?;
        if let Some(loss) = &loss {
            tracing::warn!(
                path = %path.display(), records = %loss,
                "records of an internal log were lost, and a repair has left them out: the broker goes \
                 on with what still follows from the others"
            );
        }
        Ok(Self {
            partition,
            path,
            state: Mutex::new(state),
            gate: Arc::default(),
            growth: Mutex::new(growth),
            loss,
        })
    }

    /// What a repair has left out of the log.
    pub(crate) fn loss(&self) -> Option<&Loss> {
        self.loss.as_ref()
    }

    /// Looks at the state, which holds exactly the commands that are durable.
    pub(crate) fn state(&self) -> MutexGuard<'_, S> {
        self.state
            .lock()
            .expect("nothing panics with a state in hand")
    }

    /// The right to add commands beside others.
    pub(crate) async fn shared(&self) -> Shared {
        Arc::clone(&self.gate).read_owned().await
    }

    /// The right to add a command while nobody else does.
    pub(crate) async fn alone(&self) -> Alone {
        Arc::clone(&self.gate).write_owned().await
    }

    /// Appends a command that was checked under `right`. Once it is durable it is applied, and `then`
    /// is called. All of it happens whether or not anyone waits for it.
    pub(crate) fn append(
        self: &Arc<Self>,
        core: &Arc<Core>,
        right: impl Send + 'static,
        command: S::Command,
        then: impl FnOnce(Result<(), Error>) + Send + 'static,
    ) {
        let entry = EntryKind::Command(command.encode_to_vec());
        let (log, owner) = (Arc::clone(self), Arc::clone(core));
        self.submit(core, entry, move |outcome, bytes| {
            let outcome = outcome.map(|_| {
                log.state()
                    .apply(&command)
                    .expect("the command was checked against the state that it changes");
            });
            let applied = outcome.is_ok();
            then(outcome);
            drop(right);
            if applied && log.growth().grew(bytes) {
                owner.housekeeping.add(log.snapshot(Arc::clone(&owner)));
            }
        });
    }

    /// The log itself.
    pub(crate) fn partition(&self) -> &Arc<Partition> {
        &self.partition
    }

    /// Writes the log anew from the state if it is this one, and removes what was there before.
    pub(crate) fn renew(self: &Arc<Self>, core: &Arc<Core>, partition: &Partition) {
        if self.partition.id() == partition.id() {
            core.housekeeping.add(self.snapshot(Arc::clone(core)));
        }
    }

    fn submit(
        &self,
        core: &Core,
        kind: EntryKind,
        done: impl FnOnce(Result<Appended, Error>, u64) + Send + 'static,
    ) {
        let run = Entry::record_run(kind);
        let bytes = run.len();
        let done: Done = Box::new(move |outcome| done(outcome, bytes as u64));
        let job = AppendJob {
            request: run.into(),
            runs: std::iter::once(0..bytes).collect(),
            record_count: 1,
            routing_count: 1,
            limits: RecordLimits::NONE,
            acks: Acks::Durable,
            producer: None,
            expected_offset: None,
            pipeline: None,
            done,
        };
        core.appends.submit(&self.partition, job);
    }

    /// Queues an entry; see [`finish_entry`].
    fn start_entry(&self, core: &Core, kind: EntryKind) -> EntryAnswer {
        let (sender, receiver) = oneshot::channel();
        self.submit(core, kind, move |outcome, _| {
            let _ = sender.send(outcome);
        });
        receiver
    }

    fn growth(&self) -> MutexGuard<'_, Growth> {
        self.growth
            .lock()
            .expect("nothing panics with a number in hand")
    }
}

type EntryAnswer = oneshot::Receiver<Result<Appended, Error>>;

/// Waits until an entry is durable.
async fn finish_entry(entry: EntryAnswer) -> Result<Appended, Error> {
    entry.await.unwrap_or(Err(Error::ShuttingDown))
}

#[cfg(test)]
mod tests;
