//! A disk that writes down what is done to it, and cannot be read where it is spoiled: one file of a
//! FUSE file system, for a loop device to stand on.

use std::ffi::OsStr;
use std::io;
use std::ops::Range;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, UNIX_EPOCH};

use fuser::{
    BackgroundSession, Config, Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags,
    Generation, INodeNo, LockOwner, MountOption, OpenFlags, ReplyAttr, ReplyData, ReplyEmpty,
    ReplyEntry, ReplyOpen, ReplyWrite, Request, WriteFlags,
};

/// The name of the one file.
pub const FILE: &str = "disk";
const FILE_INODE: INodeNo = INodeNo(2);
const FOR_EVER: Duration = Duration::from_secs(1 << 20);
const CHUNK_BYTES: usize = 64 << 10;

/// What was done to the disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op {
    /// Bytes were written, which a power cut may take or leave, sector by sector.
    Write {
        /// The first byte.
        at: u64,
        /// What was written.
        bytes: Vec<u8>,
    },
    /// All that was written before is there for good.
    Flush,
}

/// Everything that was done to a disk, in order, and the disk as it is.
#[derive(Clone, Debug)]
pub struct Recorder(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    ops: Vec<Op>,
    content: Vec<u8>,
    spoiled: Vec<Range<usize>>,
    /// Reads that met a spoiled place.
    failed_reads: u64,
    /// Nothing is kept in memory between this disk and its file system: each read comes here.
    is_direct: bool,
}

impl Recorder {
    /// A disk that holds these bytes, as if they had been written and flushed.
    pub fn new(content: Vec<u8>) -> Self {
        let mut ops: Vec<Op> = content
            .chunks(CHUNK_BYTES)
            .enumerate()
            .filter(|(_, bytes)| bytes.iter().any(|&byte| byte != 0))
            .map(|(number, bytes)| Op::Write {
                at: (number * CHUNK_BYTES) as u64,
                bytes: bytes.to_vec(),
            })
            .collect();
        ops.push(Op::Flush);
        Self(Arc::new(Mutex::new(State {
            ops,
            content,
            spoiled: Vec::new(),
            failed_reads: 0,
            is_direct: false,
        })))
    }

    /// Lets every read of the file system above come to this disk. Before it is mounted.
    pub fn direct(&self) {
        self.lock().is_direct = true;
    }

    /// Where these bytes lie, at a multiple of their length.
    pub fn find(&self, bytes: &[u8]) -> Option<u64> {
        let state = self.lock();
        let mut pieces = state.content.chunks(bytes.len());
        pieces
            .position(|piece| piece == bytes)
            .map(|number| (number * bytes.len()) as u64)
    }

    /// Makes a place unreadable. Writes succeed, and mend nothing.
    pub fn spoil(&self, at: u64, len: usize) {
        let start = usize::try_from(at).expect("the disk is in memory");
        self.lock().spoiled.push(start..start + len);
    }

    /// Makes all places readable again, and tells how many reads have failed.
    pub fn mend(&self) -> u64 {
        let mut state = self.lock();
        state.spoiled.clear();
        std::mem::take(&mut state.failed_reads)
    }

    /// How many reads have failed since all was mended.
    pub fn failed_reads(&self) -> u64 {
        self.lock().failed_reads
    }

    /// How many operations there were. What happened before this call took no more than these.
    pub fn point(&self) -> u64 {
        self.lock().ops.len() as u64
    }

    /// All operations so far. No more are kept.
    pub fn take(&self) -> Vec<Op> {
        std::mem::take(&mut self.lock().ops)
    }

    /// Mounts the file system with the file on a directory, until the answer is dropped.
    pub fn mount(&self, directory: &Path) -> io::Result<BackgroundSession> {
        let mut config = Config::default();
        config.mount_options = vec![MountOption::FSName("power-cut".to_owned())];
        fuser::spawn_mount(self.clone(), directory, &config)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn attributes(&self, inode: INodeNo) -> Option<FileAttr> {
        let (kind, perm, size) = if inode == INodeNo::ROOT {
            (FileType::Directory, 0o700, 0)
        } else if inode == FILE_INODE {
            let size = self.lock().content.len() as u64;
            (FileType::RegularFile, 0o600, size)
        } else {
            return None;
        };
        Some(FileAttr {
            ino: inode,
            size,
            blocks: size / 512,
            atime: UNIX_EPOCH,
            mtime: UNIX_EPOCH,
            ctime: UNIX_EPOCH,
            crtime: UNIX_EPOCH,
            kind,
            perm,
            nlink: 1,
            uid: 0,
            gid: 0,
            rdev: 0,
            blksize: 4096,
            flags: 0,
        })
    }

    fn write_down(&self, at: u64, bytes: Vec<u8>) -> Result<(), Errno> {
        let mut state = self.lock();
        let start = usize::try_from(at).map_err(|_| Errno::EINVAL)?;
        let end = start.checked_add(bytes.len()).ok_or(Errno::EINVAL)?;
        let place = state.content.get_mut(start..end).ok_or(Errno::ENOSPC)?;
        place.copy_from_slice(&bytes);
        state.ops.push(Op::Write { at, bytes });
        Ok(())
    }
}

/// One thread serves all requests, so that their order is the order in which they were answered.
impl Filesystem for Recorder {
    fn lookup(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let found = (parent == INodeNo::ROOT && name == FILE)
            .then(|| self.attributes(FILE_INODE))
            .flatten();
        match found {
            Some(attributes) => reply.entry(&FOR_EVER, &attributes, Generation(0)),
            None => reply.error(Errno::ENOENT),
        }
    }

    fn getattr(&self, _: &Request, inode: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        match self.attributes(inode) {
            Some(attributes) => reply.attr(&FOR_EVER, &attributes),
            None => reply.error(Errno::ENOENT),
        }
    }

    fn open(&self, _: &Request, _: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        let flags = if self.lock().is_direct {
            FopenFlags::FOPEN_DIRECT_IO
        } else {
            FopenFlags::empty()
        };
        reply.opened(FileHandle(0), flags);
    }

    fn read(
        &self,
        _: &Request,
        _: INodeNo,
        _: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let mut state = self.lock();
        let len = state.content.len();
        let start = usize::try_from(offset).map_or(len, |start| start.min(len));
        let end = start.saturating_add(size as usize).min(len);
        let meets = |spoiled: &Range<usize>| spoiled.start < end && start < spoiled.end;
        if state.spoiled.iter().any(meets) {
            state.failed_reads += 1;
            return reply.error(Errno::EIO);
        }
        reply.data(&state.content[start..end]);
    }

    fn write(
        &self,
        _: &Request,
        _: INodeNo,
        _: FileHandle,
        offset: u64,
        data: &[u8],
        _: WriteFlags,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        match self.write_down(offset, data.to_vec()) {
            Ok(()) => reply.written(data.len() as u32),
            Err(error) => reply.error(error),
        }
    }

    /// The close of a descriptor, which makes nothing durable.
    fn flush(&self, _: &Request, _: INodeNo, _: FileHandle, _: LockOwner, reply: ReplyEmpty) {
        reply.ok();
    }

    fn fsync(&self, _: &Request, _: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        self.lock().ops.push(Op::Flush);
        reply.ok();
    }

    /// The loop device turns a discard and a write of zeros into this. Both are taken for the latter.
    fn fallocate(
        &self,
        _: &Request,
        _: INodeNo,
        _: FileHandle,
        offset: u64,
        length: u64,
        _: i32,
        reply: ReplyEmpty,
    ) {
        let zeros = usize::try_from(length).map_or(Vec::new(), |length| vec![0; length]);
        match self.write_down(offset, zeros) {
            Ok(()) => reply.ok(),
            Err(error) => reply.error(error),
        }
    }
}
