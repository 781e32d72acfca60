//! A simulated disk in memory that forgets what was not synced, and fails on demand.
//!
//! It is deterministic: the same seed and the same operations give the same disk after a power cut.
//! Its model:
//! - A 512-byte sector is written whole or not at all.
//! - A power cut keeps what was synced and, by seed, any subset of the sectors that were not, the
//!   old or the new size of each file or one in between, and any subset of the names that were not
//!   synced.
//! - The crash of a process keeps the page cache, and so all that was written, synced or not.
//! - A sync that fails has made any subset of the sectors durable. All of them count as clean: the
//!   others are still seen, are not on the medium, and the next sync writes nothing.
//! - A write, a reservation or the removal of a directory that fails, or that a crash comes upon,
//!   is done in part: any sectors, the first pages, some of the files.
//! - The space of a removed file is free once nobody has it open.

mod fault;
mod handle;
mod image;
mod inode;
mod machine;
mod names;
#[cfg(test)]
mod tests;

use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

pub use fault::{Op, OpKind};

use crate::{DirEntry, Disk, File, Lock, ManualClock, OpenMode, SeededRandom};
use fault::Delays;
use handle::{SimFile, SimLock};
use machine::{Machine, UnderWay};
use names::InodeId;

/// A simulated disk, and the hand on its power switch. Clones are the same disk.
///
/// Used as a [`Disk`] itself it always speaks to the machine as it is now; [`SimDisk::disk`] gives
/// one that dies with the next crash, as every open file, map and lock does.
#[derive(Clone, Debug)]
pub struct SimDisk {
    shared: Shared,
    boot: Option<u64>,
}

/// The machine as all handles share it.
#[derive(Clone, Debug)]
struct Shared(Arc<Mutex<Machine>>);

impl SimDisk {
    /// An empty disk; the seed decides what power cuts keep.
    pub fn new(seed: u64) -> Self {
        SimDisk {
            shared: Shared(Arc::new(Mutex::new(Machine::new(seed)))),
            boot: None,
        }
    }

    /// This disk for a process that starts now and dies with the next crash: every later call of it
    /// then fails.
    pub fn disk(&self) -> Arc<dyn Disk> {
        let boot = self.shared.lock().boot;
        Arc::new(SimDisk {
            shared: self.shared.clone(),
            boot: Some(boot),
        })
    }

    /// The power goes and comes back: what was not synced is lost or kept by seed. Handles from
    /// before answer errors.
    pub fn power_cut(&self) {
        self.shared.lock().power_cut();
    }

    /// All processes die and the machine stays up: what was written stays, locks are free. Handles
    /// from before answer errors.
    pub fn process_crash(&self) {
        self.shared.lock().process_crash();
    }

    /// The system tries to write back what is dirty and cannot: any part of it reaches the medium,
    /// and all of it counts as clean, as after a sync that failed and that nobody has asked for.
    pub fn fail_writeback(&self) {
        self.shared.lock().fail_writeback();
    }

    /// The machine as it is now, once more: nothing that is done to one of the two shows in the
    /// other. The copy has no hook, no failures planned, no delays and nothing counted; the seed
    /// decides what its power cuts keep. A hook may fork the disk: a crash of the copy then comes
    /// upon the operation that the hook was asked about, and leaves any part of it done.
    pub fn fork(&self, seed: u64) -> Self {
        let machine = self.shared.lock().fork(seed);
        SimDisk {
            shared: Shared(Arc::new(Mutex::new(machine))),
            boot: None,
        }
    }

    /// Lets every operation take up to `most` on the clock, by a seed of its own.
    pub fn set_delays(&self, clock: &ManualClock, most: Duration, seed: u64) {
        self.shared.lock().faults.delays = Some(Delays {
            clock: clock.clone(),
            most,
            random: SeededRandom::new(seed),
        });
    }

    /// The medium rots: bits of a byte of a file change there, while the page cache still holds
    /// the byte as it was written. Reads past the cache see it, and all do after a power cut.
    ///
    /// # Errors
    /// `NotFound` when the file is absent.
    pub fn rot(&self, path: &Path, at: u64, bits: u8) -> io::Result<()> {
        let mut machine = self.shared.lock();
        let inode = machine.names.file(path)?.ok_or(io::ErrorKind::NotFound)?;
        machine.inode_mut(inode).rot(at, bits);
        Ok(())
    }

    /// How much fits, in bytes; without limit at first. Space is taken in pages of 4,096 bytes, by
    /// writing and by reserving. What does not fit is done in part.
    pub fn set_capacity(&self, bytes: u64) {
        self.shared.lock().capacity_bytes = bytes;
    }

    /// How much space the files take that have a name or are open, in bytes.
    pub fn used_bytes(&self) -> u64 {
        self.shared.lock().used_bytes()
    }

    /// Makes the `nth` operation of a kind from now on, the next being 1, fail once. Those that can
    /// be done in part are.
    ///
    /// # Panics
    /// When `nth` is 0.
    pub fn fail_nth(&self, kind: OpKind, nth: u64, error: io::ErrorKind) {
        self.shared.lock().faults.plan(kind, nth, error);
    }

    /// Asks `hook` before every operation whether it fails. The hook may call this disk's own
    /// methods, [`SimDisk::power_cut`] and [`SimDisk::fork`] among them, but none that is an
    /// operation itself. A crash in the hook leaves any part of the operation done.
    pub fn set_hook(&self, hook: impl Fn(&Op) -> Option<io::Error> + Send + Sync + 'static) {
        self.shared.lock().faults.hook = Some(Arc::new(hook));
    }

    /// Takes back the hook and all failures planned.
    pub fn clear_faults(&self) {
        self.shared.lock().faults.clear();
    }

    /// How many operations of a kind there were, failed ones among them.
    pub fn count(&self, kind: OpKind) -> u64 {
        self.shared
            .lock()
            .faults
            .counts
            .get(&kind)
            .copied()
            .unwrap_or(0)
    }

    /// How many operations there were in all.
    pub fn count_all(&self) -> u64 {
        self.shared.lock().faults.counts.values().sum()
    }

    /// Begins to write operations down, from nothing.
    pub fn start_trace(&self) {
        self.shared.lock().faults.trace = Some(Vec::new());
    }

    /// Ends the trace and gives what was written down, in order.
    pub fn take_trace(&self) -> Vec<Op> {
        self.shared.lock().faults.trace.take().unwrap_or_default()
    }

    fn begin(&self, kind: OpKind, path: &Path) -> io::Result<MutexGuard<'_, Machine>> {
        self.shared.begin(
            self.boot,
            &Op {
                kind,
                path: path.to_owned(),
                to: None,
                at: 0,
                len: 0,
            },
        )
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Machine> {
        self.0
            .lock()
            .expect("no operation panics while it holds the machine")
    }

    /// Begins an operation of a handle that may be dead: notes it and asks for its fault, which is
    /// the caller's to act out. `under_way` tells what a crash leaves done in part.
    fn enter<U: FnOnce() -> UnderWay>(
        &self,
        boot: Option<u64>,
        op: &Op,
        under_way: Option<U>,
    ) -> io::Result<(MutexGuard<'_, Machine>, Option<io::Error>)> {
        let mut machine = self.lock();
        machine.check_boot(boot)?;
        let (fault, now) = (machine.faults.note(op), machine.boot);
        let Some(hook) = machine.faults.hook.clone() else {
            return Ok((machine, fault));
        };
        machine.under_way = under_way.map(|under_way| under_way());
        // The hook may cut the power, which takes the lock.
        drop(machine);
        let fault = hook(op).or(fault);
        let mut machine = self.lock();
        machine.check_boot(Some(now))?;
        machine.under_way = None;
        Ok((machine, fault))
    }

    /// The same for operations that do nothing at all when they fail.
    fn begin(&self, boot: Option<u64>, op: &Op) -> io::Result<MutexGuard<'_, Machine>> {
        match self.enter(boot, op, None::<fn() -> UnderWay>)? {
            (machine, None) => Ok(machine),
            (_, Some(fault)) => Err(fault),
        }
    }

    /// A handle or a map of a file is gone.
    fn let_go(&self, boot: u64, inode: InodeId) {
        // Closing must not panic, since it may be a panic that closes.
        let mut machine = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if machine.boot == boot {
            machine.let_go(inode);
        }
    }
}

impl Disk for SimDisk {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn File>> {
        let mut machine = self.begin(OpKind::Open, path)?;
        let inode = machine.open(path, mode)?;
        let path = path.to_owned();
        let file = SimFile::new(&self.shared, &mut machine, inode, path, mode);
        Ok(Arc::new(file))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let op = Op {
            kind: OpKind::Rename,
            path: from.to_owned(),
            to: Some(to.to_owned()),
            at: 0,
            len: 0,
        };
        self.shared.begin(self.boot, &op)?.names.rename(from, to)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.begin(OpKind::RemoveFile, path)?
            .names
            .remove_file(path)
    }

    fn remove_dir_all(&self, path: &Path) -> io::Result<()> {
        let op = Op {
            kind: OpKind::RemoveDirAll,
            path: path.to_owned(),
            to: None,
            at: 0,
            len: 0,
        };
        let under_way = || UnderWay::RemoveDirAll {
            path: path.to_owned(),
        };
        let (mut machine, fault) = self.shared.enter(self.boot, &op, Some(under_way))?;
        match fault {
            None => machine.names.remove_dir_all(path),
            Some(fault) => {
                machine.remove_dir_some(path);
                Err(fault)
            }
        }
    }

    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        self.begin(OpKind::CreateDirAll, path)?
            .names
            .create_dir_all(path)
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.begin(OpKind::SyncDir, path)?.names.sync_dir(path)
    }

    fn sync_all(&self, path: &Path) -> io::Result<()> {
        let op = Op {
            kind: OpKind::SyncDisk,
            path: path.to_owned(),
            to: None,
            at: 0,
            len: 0,
        };
        let (mut machine, fault) =
            self.shared
                .enter(self.boot, &op, Some(|| UnderWay::SyncDisk))?;
        machine.names.check_exists(path)?;
        match fault {
            None => machine.sync_disk(),
            Some(_) => machine.fail_sync_disk(),
        }
        fault.map_or(Ok(()), Err)
    }

    fn list(&self, path: &Path) -> io::Result<Vec<DirEntry>> {
        self.begin(OpKind::List, path)?.names.list(path)
    }

    fn free_bytes(&self, path: &Path) -> io::Result<u64> {
        let machine = self.shared.lock();
        machine.check_boot(self.boot)?;
        machine.names.check_exists(path)?;
        Ok(machine.capacity_bytes.saturating_sub(machine.used_bytes()))
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn Lock>> {
        let mut machine = self.begin(OpKind::Lock, path)?;
        let inode = machine.lock(path)?;
        Ok(Box::new(SimLock {
            shared: self.shared.clone(),
            boot: machine.boot,
            inode,
        }))
    }
}
