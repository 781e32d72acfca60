//! The simulated machine: its files, its names, its locks, and how often it went down.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, ErrorKind};
use std::path::Path;

use super::fault::Faults;
use super::inode::Inode;
use super::names::{InodeId, Names};
use crate::{OpenMode, Random, SeededRandom};

#[derive(Debug)]
pub(super) struct Machine {
    /// Raised by every crash; a handle of an earlier one is dead.
    pub(super) boot: u64,
    pub(super) names: Names,
    pub(super) faults: Faults,
    pub(super) capacity_bytes: u64,
    inodes: BTreeMap<InodeId, Inode>,
    next_inode: InodeId,
    locks: BTreeSet<InodeId>,
    random: SeededRandom,
}

impl Machine {
    pub(super) fn new(seed: u64) -> Self {
        Machine {
            boot: 0,
            names: Names::new(),
            faults: Faults::default(),
            capacity_bytes: u64::MAX,
            inodes: BTreeMap::new(),
            next_inode: 0,
            locks: BTreeSet::new(),
            random: SeededRandom::new(seed),
        }
    }

    /// Fails for a handle that was opened before the last crash.
    pub(super) fn check_boot(&self, boot: Option<u64>) -> io::Result<()> {
        match boot {
            Some(boot) if boot != self.boot => Err(io::Error::other(
                "the simulated machine went down after this was opened",
            )),
            _ => Ok(()),
        }
    }

    pub(super) fn open(&mut self, path: &Path, mode: OpenMode) -> io::Result<InodeId> {
        match (self.names.file(path), mode) {
            (Err(error), OpenMode::CreateNew) if error.kind() == ErrorKind::IsADirectory => {
                Err(ErrorKind::AlreadyExists.into())
            }
            (Err(error), _) => Err(error),
            (Ok(Some(_)), OpenMode::CreateNew) => Err(ErrorKind::AlreadyExists.into()),
            (Ok(Some(inode)), _) => Ok(inode),
            (Ok(None), OpenMode::CreateNew) => self.create(path),
            (Ok(None), _) => Err(ErrorKind::NotFound.into()),
        }
    }

    fn create(&mut self, path: &Path) -> io::Result<InodeId> {
        let inode = self.next_inode;
        self.names.create_file(path, inode)?;
        self.next_inode += 1;
        self.inodes.insert(inode, Inode::default());
        Ok(inode)
    }

    pub(super) fn lock(&mut self, path: &Path) -> io::Result<InodeId> {
        let inode = match self.names.file(path)? {
            Some(inode) => inode,
            None => self.create(path)?,
        };
        if self.locks.insert(inode) {
            Ok(inode)
        } else {
            Err(ErrorKind::WouldBlock.into())
        }
    }

    pub(super) fn unlock(&mut self, inode: InodeId) {
        self.locks.remove(&inode);
    }

    pub(super) fn inode(&self, inode: InodeId) -> &Inode {
        self.inodes
            .get(&inode)
            .expect("a file is kept while the machine is up")
    }

    pub(super) fn inode_mut(&mut self, inode: InodeId) -> &mut Inode {
        self.inodes
            .get_mut(&inode)
            .expect("a file is kept while the machine is up")
    }

    /// Space of all files that have a name.
    pub(super) fn used_bytes(&self) -> u64 {
        self.names
            .files()
            .map(|inode| self.inode(inode).allocated_bytes())
            .sum()
    }

    /// Fails when a write or reservation of the range would not fit on the disk.
    pub(super) fn check_space(&self, inode: InodeId, at: u64, len: u64) -> io::Result<()> {
        let missing = self.inode(inode).missing_bytes(at, len);
        if missing > 0 && self.used_bytes().saturating_add(missing) > self.capacity_bytes {
            return Err(io::Error::new(
                ErrorKind::StorageFull,
                "the simulated disk is full",
            ));
        }
        Ok(())
    }

    pub(super) fn sync_disk(&mut self) {
        self.inodes.values_mut().for_each(Inode::sync);
        self.names.sync_all();
    }

    pub(super) fn fail_sync_disk(&mut self) {
        self.inodes.values_mut().for_each(Inode::fail_sync);
    }

    pub(super) fn process_crash(&mut self) {
        self.boot += 1;
        self.locks.clear();
        let named = self.names.files_ever();
        self.inodes.retain(|inode, _| named.contains(inode));
    }

    pub(super) fn power_cut(&mut self) {
        self.names.power_cut(&self.random);
        for inode in self.inodes.values_mut() {
            inode.power_cut(&self.random as &dyn Random);
        }
        self.process_crash();
    }
}
