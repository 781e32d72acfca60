//! Open files, maps and locks of the simulated disk.

use std::io::{self, ErrorKind};
use std::ops::Range;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

use super::image::PAGE_BYTES;
use super::machine::{Machine, UnderWay};
use super::names::InodeId;
use super::{Op, OpKind, Shared};
use crate::{File, Lock, Map, OpenMode};

#[derive(Debug)]
pub(super) struct SimFile {
    pub(super) shared: Shared,
    pub(super) boot: u64,
    pub(super) inode: InodeId,
    pub(super) path: PathBuf,
    pub(super) mode: OpenMode,
}

impl SimFile {
    /// A handle that counts as open until it is dropped.
    pub(super) fn new(
        shared: &Shared,
        machine: &mut Machine,
        inode: InodeId,
        path: PathBuf,
        mode: OpenMode,
    ) -> Self {
        machine.hold(inode);
        Self {
            shared: shared.clone(),
            boot: machine.boot,
            inode,
            path,
            mode,
        }
    }

    fn op(&self, kind: OpKind, at: u64, len: u64) -> Op {
        Op {
            kind,
            path: self.path.clone(),
            to: None,
            at,
            len,
        }
    }

    fn check_range(&self, at: u64, len: u64) -> io::Result<()> {
        if matches!(self.mode, OpenMode::Read | OpenMode::ReadDirect) {
            return Err(io::Error::new(
                ErrorKind::PermissionDenied,
                "the file is open for reading only",
            ));
        }
        // The greatest file of Linux: sizes are signed.
        match at.checked_add(len) {
            Some(end) if i64::try_from(end).is_ok() => Ok(()),
            _ => Err(ErrorKind::FileTooLarge.into()),
        }
    }

    fn sync(&self, kind: OpKind) -> io::Result<()> {
        let inode = self.inode;
        let (mut machine, fault) = self.shared.enter(
            Some(self.boot),
            &self.op(kind, 0, 0),
            Some(|| UnderWay::Sync { inode }),
        )?;
        match fault {
            None => machine.inode_mut(inode).sync(),
            Some(_) => machine.fail_sync(inode),
        }
        fault.map_or(Ok(()), Err)
    }
}

impl Drop for SimFile {
    fn drop(&mut self) {
        self.shared.let_go(self.boot, self.inode);
    }
}

fn full() -> io::Error {
    io::Error::new(ErrorKind::StorageFull, "the simulated disk is full")
}

impl File for SimFile {
    fn len(&self) -> io::Result<u64> {
        let machine = self.shared.lock();
        machine.check_boot(Some(self.boot))?;
        Ok(machine.inode(self.inode).visible.len)
    }

    fn read_exact_at(&self, buf: &mut [u8], at: u64) -> io::Result<()> {
        let machine = self.shared.begin(
            Some(self.boot),
            &self.op(OpKind::Read, at, buf.len() as u64),
        )?;
        let inode = machine.inode(self.inode);
        let image = match self.mode {
            OpenMode::ReadDirect => &inode.medium(),
            _ => &inode.visible,
        };
        if !buf.is_empty() && at.saturating_add(buf.len() as u64) > image.len {
            return Err(io::Error::new(
                ErrorKind::UnexpectedEof,
                "the file ends before",
            ));
        }
        image.read(buf, at);
        Ok(())
    }

    fn write_all_at(&self, buf: &[u8], at: u64) -> io::Result<()> {
        let (inode, len) = (self.inode, buf.len() as u64);
        let under_way = || UnderWay::Write {
            inode,
            bytes: buf.into(),
            at,
        };
        let op = self.op(OpKind::Write, at, len);
        let (mut machine, fault) = self.shared.enter(Some(self.boot), &op, Some(under_way))?;
        self.check_range(at, len)?;
        if let Some(fault) = fault {
            machine.write_some(inode, buf, at, u64::MAX);
            return Err(fault);
        }
        if len == 0 {
            return Ok(());
        }
        if let Err(pages) = machine.check_space(inode, at, len) {
            machine.write_some(inode, buf, at, pages);
            return Err(full());
        }
        machine.inode_mut(inode).write(buf, at);
        Ok(())
    }

    fn reserve(&self, at: u64, len: u64) -> io::Result<()> {
        let inode = self.inode;
        let under_way = || UnderWay::Reserve { inode, at, len };
        let op = self.op(OpKind::Reserve, at, len);
        let (mut machine, fault) = self.shared.enter(Some(self.boot), &op, Some(under_way))?;
        self.check_range(at, len)?;
        if let Some(fault) = fault {
            machine.reserve_some(inode, at, len, u64::MAX);
            return Err(fault);
        }
        if len == 0 {
            return Ok(());
        }
        if let Err(pages) = machine.check_space(inode, at, len) {
            machine.reserve_some(inode, at, len, pages);
            return Err(full());
        }
        machine.inode_mut(inode).reserve(at, len);
        Ok(())
    }

    fn punch(&self, at: u64, len: u64) -> io::Result<()> {
        let mut machine = self
            .shared
            .begin(Some(self.boot), &self.op(OpKind::Punch, at, len))?;
        self.check_range(at, len)?;
        machine.inode_mut(self.inode).punch(at, len);
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        self.sync(OpKind::SyncData)
    }

    fn sync_all(&self) -> io::Result<()> {
        self.sync(OpKind::SyncAll)
    }

    fn map(&self, capacity: u64) -> io::Result<Arc<dyn Map>> {
        let mut machine = self
            .shared
            .begin(Some(self.boot), &self.op(OpKind::Map, 0, capacity))?;
        machine.hold(self.inode);
        drop(machine);
        Ok(Arc::new(SimMap {
            shared: self.shared.clone(),
            boot: self.boot,
            inode: self.inode,
            path: self.path.clone(),
            capacity,
            populated: Mutex::new(0..0),
        }))
    }
}

/// A map of a simulated file. Its slices are copies, taken when `slice` is called: a write into a
/// range that was sliced before shows in the real disk's slices and not in these, so nothing may
/// rely on either.
#[derive(Debug)]
struct SimMap {
    shared: Shared,
    boot: u64,
    inode: InodeId,
    path: PathBuf,
    capacity: u64,
    /// What was populated last: nothing else counts as being in memory.
    populated: Mutex<Range<u64>>,
}

impl SimMap {
    fn populated(&self) -> MutexGuard<'_, Range<u64>> {
        self.populated
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for SimMap {
    fn drop(&mut self) {
        self.shared.let_go(self.boot, self.inode);
    }
}

impl Map for SimMap {
    fn populate(&self, range: Range<u64>) -> io::Result<()> {
        let len = range.end.saturating_sub(range.start);
        let op = Op {
            kind: OpKind::Populate,
            path: self.path.clone(),
            to: None,
            at: range.start,
            len,
        };
        let machine = self.shared.begin(Some(self.boot), &op)?;
        if range.start > range.end || range.end > self.capacity {
            return Err(io::Error::new(
                ErrorKind::InvalidInput,
                "the range is not all in the map",
            ));
        }
        if !range.is_empty()
            && range.end
                > machine
                    .inode(self.inode)
                    .visible
                    .len
                    .next_multiple_of(PAGE_BYTES)
        {
            return Err(io::Error::other(
                "the bytes cannot be read: the file ends before",
            ));
        }
        drop(machine);
        *self.populated() = range;
        Ok(())
    }

    fn resident(&self, range: Range<u64>) -> io::Result<bool> {
        let populated = self.populated();
        Ok(populated.start <= range.start && range.end <= populated.end)
    }

    /// # Panics
    /// Also where touching the real disk's slice would be SIGBUS: past the file's last page. A map
    /// from before a crash gives zeros, since nobody is there to see them.
    fn slice(&self, range: Range<u64>) -> Bytes {
        assert!(
            range.start <= range.end && range.end <= self.capacity,
            "slice {range:?} of a map of {} bytes",
            self.capacity
        );
        let mut bytes = vec![0; (range.end - range.start) as usize];
        let machine = self.shared.lock();
        if machine.check_boot(Some(self.boot)).is_err() {
            return bytes.into();
        }
        let image = &machine.inode(self.inode).visible;
        let len = image.len;
        image.read(&mut bytes, range.start);
        drop(machine);
        assert!(
            range.is_empty() || range.end <= len.next_multiple_of(PAGE_BYTES),
            "SIGBUS: slice {range:?} of {}, which ends at {len}",
            self.path.display()
        );
        bytes.into()
    }
}

#[derive(Debug)]
pub(super) struct SimLock {
    pub(super) shared: Shared,
    pub(super) boot: u64,
    pub(super) inode: InodeId,
}

impl Lock for SimLock {}

impl Drop for SimLock {
    fn drop(&mut self) {
        let mut machine = self.shared.lock();
        if machine.boot == self.boot {
            machine.unlock(self.inode);
        }
    }
}
