//! The reserve: space that is taken ahead for the broker's own logs, so that a full disk stops
//! records and nothing else.
//!
//! It is a file that holds nothing. When one of the broker's own writes (commands of an internal log,
//! a MANIFEST that lets segments go) meets a full disk, the file is removed and the write is tried
//! again in its space. From then on records are refused, since they would take that space in no time;
//! the file is made again, and records are taken again, once there is room for it and for some slack.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, RwLock, RwLockReadGuard};
use std::time::Duration;

use flowstone_disk::{Clock, Disk, Env, OpenMode};
use flowstone_format::RESERVE_NAME;
use flowstone_log::LogError;

use crate::{BrokerConfig, Error};

/// How often a refused append looks for space again.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// How often a full disk is told in the log while it lasts.
const TELL_EVERY: Duration = Duration::from_secs(60);
/// How often a full disk asks for retention.
const RETAIN_EVERY: Duration = Duration::from_secs(1);

/// The file, and whether records have to wait for it.
#[derive(Debug)]
pub(crate) struct Reserve {
    disk: Arc<dyn Disk>,
    clock: Arc<dyn Clock>,
    data_dir: PathBuf,
    path: PathBuf,
    /// 0 for no reserve at all.
    bytes: u64,
    /// Set while records are refused.
    short: AtomicBool,
    /// Held for reading while records are given space, and for writing while the file is given up:
    /// nobody who was let in before takes what it leaves.
    gate: RwLock<()>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Whether the file is there, as far as is known.
    standing: bool,
    looked_at: Option<Duration>,
    told_at: Option<Duration>,
    nothing_left_told_at: Option<Duration>,
    retained_at: Option<Duration>,
}

impl Reserve {
    /// The reserve of a data directory. Touches nothing yet.
    pub(crate) fn new(config: &BrokerConfig, env: &Env) -> Self {
        Self {
            disk: Arc::clone(&env.disk),
            clock: Arc::clone(&env.clock),
            data_dir: config.data_dir.clone(),
            path: config.data_dir.join(RESERVE_NAME),
            bytes: config.disk_reserve_bytes,
            short: AtomicBool::new(false),
            gate: RwLock::default(),
            state: Mutex::default(),
        }
    }

    /// Takes up the file that is there, or makes it.
    pub(crate) fn stand_up(&self) {
        let mut state = self.state();
        if let Ok(true) = self.take_up() {
            state.standing = true;
            return;
        }
        // Too small, too large, or not to be opened: it holds nothing that is worth keeping.
        if let Err(error) = self.remove() {
            tracing::warn!(path = %self.path.display(), %error, "the reserve cannot be made");
            return;
        }
        self.make(&mut state);
    }

    /// Whether the file is there and as large as it has to be.
    fn take_up(&self) -> std::io::Result<bool> {
        let file = match self.disk.open(&self.path, OpenMode::ReadWrite) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(false),
            opened => opened?,
        };
        if self.bytes > 0 && file.len()? == self.bytes && file.reserve(0, self.bytes).is_ok() {
            return Ok(true);
        }
        Ok(false)
    }

    /// Fails while records have to wait for space, and nobody has looked for some just now.
    pub(crate) fn check(&self) -> Result<(), Error> {
        if self.short.load(Ordering::Acquire) && !self.is_due(&self.state()) {
            return Err(Error::DiskFull);
        }
        Ok(())
    }

    /// Lets records take space for as long as the guard is held, or fails while they have to wait.
    /// Looks for space itself when that is due.
    pub(crate) fn admit_records(&self) -> Result<RwLockReadGuard<'_, ()>, Error> {
        if self.short.load(Ordering::Acquire) {
            self.look();
        }
        let admitted = self.gate.read().expect("nothing panics at the gate");
        if self.short.load(Ordering::Acquire) {
            return Err(Error::DiskFull);
        }
        Ok(admitted)
    }

    /// Makes the file again if it is missing, there is room for it, and nobody has tried just now.
    pub(crate) fn look(&self) {
        let mut state = self.state();
        if !state.standing && self.is_due(&state) {
            self.make(&mut state);
        }
    }

    fn is_due(&self, state: &State) -> bool {
        is_over(state.looked_at, LOOK_EVERY, self.clock.monotonic())
    }

    /// Removes the file, so that one of the broker's own writes finds space.
    pub(crate) fn give_up(&self) {
        if self.bytes == 0 {
            return;
        }
        let _nobody_else = self.gate.write().expect("nothing panics at the gate");
        let mut state = self.state();
        if let Err(error) = self.remove() {
            tracing::error!(path = %self.path.display(), %error, "the reserve cannot be given up");
            return;
        }
        state.standing = false;
        state.looked_at = Some(self.clock.monotonic());
        if !self.short.swap(true, Ordering::AcqRel) {
            tracing::warn!(
                reserve_bytes = self.bytes,
                needed_bytes = self.needed_bytes(),
                "the disk is full: the reserve is given up for offsets, trims and deletions; records are \
                 refused until there is space for it again"
            );
        }
    }

    /// Does `work` again in the space of the reserve if it finds the disk full.
    pub(crate) fn with_space<T>(
        &self,
        mut work: impl FnMut() -> Result<T, LogError>,
    ) -> Result<T, LogError> {
        match work() {
            Err(LogError::DiskFull { .. }) => {
                self.give_up();
                let outcome = work();
                if let Err(LogError::DiskFull { .. }) = outcome {
                    self.note_nothing_left();
                }
                outcome
            }
            outcome => outcome,
        }
    }

    /// Tells that the broker's own writes find no space either, once in a while.
    fn note_nothing_left(&self) {
        let now = self.clock.monotonic();
        if is_turn(&mut self.state().nothing_left_told_at, TELL_EVERY, now) {
            tracing::error!(
                free_bytes = self.disk.free_bytes(&self.data_dir).ok(),
                "the disk is full and no reserve is left: offsets, trims and deletions are refused as well; \
                 free space or enlarge the volume"
            );
        }
    }

    /// Tells that records found no space, once in a while. True if retention should be applied now.
    pub(crate) fn note_full(&self) -> bool {
        let now = self.clock.monotonic();
        let mut state = self.state();
        if is_turn(&mut state.told_at, TELL_EVERY, now) {
            tracing::warn!(
                free_bytes = self.disk.free_bytes(&self.data_dir).ok(),
                "the disk is full: records are refused; trim or delete topics, shorten their retention, or \
                 enlarge the volume"
            );
        }
        is_turn(&mut state.retained_at, RETAIN_EVERY, now)
    }

    /// What has to be free before the file is made: with some slack for records, so that it is not
    /// given up again at once.
    fn needed_bytes(&self) -> u64 {
        self.bytes + self.bytes / 8
    }

    fn make(&self, state: &mut State) {
        if self.bytes == 0 {
            return;
        }
        state.looked_at = Some(self.clock.monotonic());
        // Asked for first: an attempt that fails would take the last pages from the broker's own logs.
        let free = self.disk.free_bytes(&self.data_dir);
        if free.is_ok_and(|free| free < self.needed_bytes()) {
            self.set_short(true);
            return;
        }
        match self.try_make() {
            Ok(()) => {
                state.standing = true;
                self.set_short(false);
            }
            Err(error) => {
                let full = is_full(&error);
                tracing::warn!(path = %self.path.display(), %error, "the reserve cannot be made");
                // For want of anything but space records may come in without it.
                self.set_short(full);
            }
        }
    }

    fn try_make(&self) -> std::io::Result<()> {
        let made = self
            .disk
            .open(&self.path, OpenMode::CreateNew)
            .and_then(|file| file.reserve(0, self.bytes));
        if made.is_err() {
            // What it has got of the space has to be free again.
            let _ = self.remove();
        }
        made
    }

    fn remove(&self) -> std::io::Result<()> {
        match self.disk.remove_file(&self.path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    fn set_short(&self, short: bool) {
        let before = self.short.swap(short, Ordering::AcqRel);
        match (before, short) {
            (false, true) => tracing::warn!(
                reserve_bytes = self.bytes,
                needed_bytes = self.needed_bytes(),
                "the disk is full: records are refused until there is space for the reserve"
            ),
            (true, false) => tracing::info!("there is space again: records are taken"),
            _ => {}
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state
            .lock()
            .expect("nothing panics with the reserve in hand")
    }
}

fn is_full(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::{QuotaExceeded, StorageFull};
    matches!(error.kind(), StorageFull | QuotaExceeded)
}

fn is_over(since: Option<Duration>, pause: Duration, now: Duration) -> bool {
    since.is_none_or(|since| now.saturating_sub(since) >= pause)
}

/// Whether something that is done once in a while is to be done now; takes note of it if so.
fn is_turn(done_at: &mut Option<Duration>, pause: Duration, now: Duration) -> bool {
    let due = is_over(*done_at, pause, now);
    if due {
        *done_at = Some(now);
    }
    due
}
