//! The simulated machine: its files, its names, its locks, and how often it went down.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::fault::Faults;
use super::image::PAGE_BYTES;
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
    /// What is being done while the hook is asked: a crash leaves any part of it done.
    pub(super) under_way: Option<UnderWay>,
    /// Shared with forks until they change.
    inodes: BTreeMap<InodeId, Arc<Inode>>,
    /// How many handles and maps each file has.
    opened: BTreeMap<InodeId, u64>,
    next_inode: InodeId,
    locks: BTreeSet<InodeId>,
    random: SeededRandom,
}

/// An operation that can be done in part.
#[derive(Clone, Debug)]
pub(super) enum UnderWay {
    Write {
        inode: InodeId,
        bytes: Arc<[u8]>,
        at: u64,
    },
    Reserve {
        inode: InodeId,
        at: u64,
        len: u64,
    },
    Sync {
        inode: InodeId,
    },
    SyncDisk,
    RemoveDirAll {
        path: PathBuf,
    },
}

impl Machine {
    pub(super) fn new(seed: u64) -> Self {
        Machine {
            boot: 0,
            names: Names::new(),
            faults: Faults::default(),
            capacity_bytes: u64::MAX,
            under_way: None,
            inodes: BTreeMap::new(),
            opened: BTreeMap::new(),
            next_inode: 0,
            locks: BTreeSet::new(),
            random: SeededRandom::new(seed),
        }
    }

    /// The same machine once more, with chances of its own and no faults planned. It goes on as if
    /// nobody had any file open.
    pub(super) fn fork(&self, seed: u64) -> Self {
        Machine {
            boot: self.boot,
            names: self.names.clone(),
            faults: Faults::default(),
            capacity_bytes: self.capacity_bytes,
            under_way: self.under_way.clone(),
            inodes: self.inodes.clone(),
            opened: BTreeMap::new(),
            next_inode: self.next_inode,
            locks: self.locks.clone(),
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
        self.inodes.insert(inode, Arc::default());
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
        let shared = self
            .inodes
            .get_mut(&inode)
            .expect("a file is kept while the machine is up");
        Arc::make_mut(shared)
    }

    /// Counts a handle or a map of a file.
    pub(super) fn hold(&mut self, inode: InodeId) {
        *self.opened.entry(inode).or_default() += 1;
    }

    /// A handle or a map of a file is closed.
    pub(super) fn let_go(&mut self, inode: InodeId) {
        if let Some(handles) = self.opened.get_mut(&inode) {
            *handles -= 1;
            if *handles == 0 {
                self.opened.remove(&inode);
            }
        }
    }

    /// Space of all files that have a name or are open.
    pub(super) fn used_bytes(&self) -> u64 {
        let open = self.opened.keys().copied();
        let files: BTreeSet<InodeId> = self.names.files().chain(open).collect();
        files
            .into_iter()
            .map(|inode| self.inode(inode).allocated_bytes())
            .sum()
    }

    /// Whether a write or reservation of the range fits on the disk; else how many pages still do.
    pub(super) fn check_space(&self, inode: InodeId, at: u64, len: u64) -> Result<(), u64> {
        if self.capacity_bytes == u64::MAX {
            return Ok(());
        }
        let missing = self.inode(inode).missing_bytes(at, len);
        let left = self.capacity_bytes.saturating_sub(self.used_bytes());
        if missing > left {
            Err(left / PAGE_BYTES)
        } else {
            Ok(())
        }
    }

    pub(super) fn write_some(&mut self, inode: InodeId, bytes: &[u8], at: u64, pages: u64) {
        let (file, random) = self.with_random(inode);
        file.write_some(bytes, at, pages, random);
    }

    pub(super) fn reserve_some(&mut self, inode: InodeId, at: u64, len: u64, pages: u64) {
        let (file, random) = self.with_random(inode);
        file.reserve_some(at, len, pages, random);
    }

    pub(super) fn fail_sync(&mut self, inode: InodeId) {
        let (file, random) = self.with_random(inode);
        file.fail_sync(random);
    }

    pub(super) fn remove_dir_some(&mut self, path: &Path) {
        self.names.remove_dir_some(path, &self.random);
    }

    fn with_random(&mut self, inode: InodeId) -> (&mut Inode, &dyn Random) {
        let shared = self
            .inodes
            .get_mut(&inode)
            .expect("a file is kept while the machine is up");
        (Arc::make_mut(shared), &self.random)
    }

    pub(super) fn sync_disk(&mut self) {
        for inode in self.inodes.values_mut().filter(|inode| inode.is_dirty()) {
            Arc::make_mut(inode).sync();
        }
        self.names.sync_all();
    }

    pub(super) fn fail_sync_disk(&mut self) {
        let random = &self.random;
        for inode in self.inodes.values_mut().filter(|inode| inode.is_dirty()) {
            Arc::make_mut(inode).fail_sync(random);
        }
    }

    /// Does any part of the operation that a crash has come upon.
    fn do_some(&mut self) {
        match self.under_way.take() {
            None => {}
            Some(UnderWay::Write { inode, bytes, at }) => {
                self.write_some(inode, &bytes, at, u64::MAX);
            }
            Some(UnderWay::Reserve { inode, at, len }) => {
                self.reserve_some(inode, at, len, u64::MAX);
            }
            Some(UnderWay::Sync { inode }) => {
                let (file, random) = self.with_random(inode);
                file.sync_some(random);
            }
            Some(UnderWay::SyncDisk) => {
                let random = &self.random;
                for inode in self.inodes.values_mut().filter(|inode| inode.is_dirty()) {
                    Arc::make_mut(inode).sync_some(random);
                }
            }
            Some(UnderWay::RemoveDirAll { path }) => self.remove_dir_some(&path),
        }
    }

    /// The system tries to write back what is dirty and cannot.
    pub(super) fn fail_writeback(&mut self) {
        self.do_some();
        self.fail_sync_disk();
    }

    pub(super) fn process_crash(&mut self) {
        self.do_some();
        self.boot += 1;
        self.locks.clear();
        self.opened.clear();
        let named = self.names.files_ever();
        self.inodes.retain(|inode, _| named.contains(inode));
    }

    pub(super) fn power_cut(&mut self) {
        self.do_some();
        self.names.power_cut(&self.random);
        let random = &self.random;
        for inode in self.inodes.values_mut() {
            if inode.is_unlike_medium() {
                Arc::make_mut(inode).power_cut(random);
            }
        }
        self.process_crash();
    }
}
