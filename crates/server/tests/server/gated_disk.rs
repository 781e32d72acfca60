//! The real disk behind a gate: writes and syncs of segments wait while it is shut, and space can run out.

use std::fmt;
use std::io;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use flowstone_disk::{DirEntry, Disk, Env, File, Lock, Map, OpenMode, RealDisk};

/// Nothing in a test waits longer than this.
const PATIENCE: Duration = Duration::from_secs(30);

#[derive(Debug, Default)]
struct State {
    shut: bool,
    waiting: usize,
    full: bool,
}

/// What a test holds of the disk.
#[derive(Clone, Debug, Default)]
pub(crate) struct Gate(Arc<(Mutex<State>, Condvar)>);

impl Gate {
    /// An environment on the real disk, behind this gate.
    pub(crate) fn env(&self) -> Env {
        Env {
            disk: Arc::new(GatedDisk(self.clone())),
            ..Env::real()
        }
    }

    /// From now on writes and syncs of segments wait.
    pub(crate) fn shut(&self) {
        self.change(|state| state.shut = true);
    }

    /// They go on.
    pub(crate) fn open(&self) {
        self.change(|state| state.shut = false);
    }

    /// From now on there is no space to reserve, or there is again.
    pub(crate) fn set_full(&self, full: bool) {
        self.change(|state| state.full = full);
    }

    /// Returns once somebody waits at the shut gate.
    pub(crate) async fn somebody_waits(&self) {
        let gate = self.clone();
        tokio::task::spawn_blocking(move || {
            let (state, changed) = &*gate.0;
            let state = state.lock().expect("not poisoned");
            let (state, late) = changed
                .wait_timeout_while(state, PATIENCE, |state| state.waiting == 0)
                .expect("not poisoned");
            drop(state);
            assert!(!late.timed_out(), "nobody came to the gate");
        })
        .await
        .expect("somebody waits");
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        let (state, changed) = &*self.0;
        change(&mut state.lock().expect("not poisoned"));
        changed.notify_all();
    }

    fn pass(&self) {
        let (state, changed) = &*self.0;
        let mut state = state.lock().expect("not poisoned");
        state.waiting += 1;
        changed.notify_all();
        let (mut state, late) = changed
            .wait_timeout_while(state, PATIENCE, |state| state.shut)
            .expect("not poisoned");
        state.waiting -= 1;
        assert!(!late.timed_out(), "the gate was never opened");
    }

    fn check_space(&self) -> io::Result<()> {
        match self.0.0.lock().expect("not poisoned").full {
            true => Err(io::ErrorKind::StorageFull.into()),
            false => Ok(()),
        }
    }
}

#[derive(Debug)]
struct GatedDisk(Gate);

impl Disk for GatedDisk {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn File>> {
        let file = RealDisk.open(path, mode)?;
        if path
            .extension()
            .is_none_or(|extension| extension != "segment")
        {
            return Ok(file);
        }
        Ok(Arc::new(GatedFile {
            file,
            gate: self.0.clone(),
        }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        RealDisk.rename(from, to)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        RealDisk.remove_file(path)
    }

    fn remove_dir_all(&self, path: &Path) -> io::Result<()> {
        RealDisk.remove_dir_all(path)
    }

    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        RealDisk.create_dir_all(path)
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        RealDisk.sync_dir(path)
    }

    fn sync_all(&self, path: &Path) -> io::Result<()> {
        RealDisk.sync_all(path)
    }

    fn list(&self, path: &Path) -> io::Result<Vec<DirEntry>> {
        RealDisk.list(path)
    }

    fn free_bytes(&self, path: &Path) -> io::Result<u64> {
        RealDisk.free_bytes(path)
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn Lock>> {
        RealDisk.lock(path)
    }
}

struct GatedFile {
    file: Arc<dyn File>,
    gate: Gate,
}

impl fmt::Debug for GatedFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.file.fmt(f)
    }
}

impl File for GatedFile {
    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn read_exact_at(&self, buf: &mut [u8], at: u64) -> io::Result<()> {
        self.file.read_exact_at(buf, at)
    }

    fn write_all_at(&self, buf: &[u8], at: u64) -> io::Result<()> {
        self.gate.pass();
        self.file.write_all_at(buf, at)
    }

    fn reserve(&self, at: u64, len: u64) -> io::Result<()> {
        self.gate.check_space()?;
        self.file.reserve(at, len)
    }

    fn punch(&self, at: u64, len: u64) -> io::Result<()> {
        self.file.punch(at, len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.gate.pass();
        self.file.sync_data()
    }

    fn sync_all(&self) -> io::Result<()> {
        self.file.sync_all()
    }

    fn map(&self, capacity: u64) -> io::Result<Arc<dyn Map>> {
        self.file.map(capacity)
    }
}
