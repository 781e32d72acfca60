//! The traits through which everything above touches storage: what a log needs, and nothing else.

use std::fmt;
use std::io;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;

/// A file system, real or simulated. Used as `Arc<dyn Disk>`.
///
/// Errors carry the operating system's kind and reason; the path and the purpose are added by the
/// caller, who knows both.
pub trait Disk: Send + Sync + fmt::Debug {
    /// Opens a file. Nothing is ever truncated by opening it.
    ///
    /// # Errors
    /// `NotFound` when the file (or, for [`OpenMode::CreateNew`], its directory) is absent,
    /// `AlreadyExists` when [`OpenMode::CreateNew`] finds something under that name.
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn File>>;

    /// Renames a file or a directory, and replaces a file that stands under the new name. Atomic to
    /// every observer; it outlasts a power cut only after [`Disk::sync_dir`] of the directories
    /// concerned.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Removes a file's name. Open handles and maps go on to work.
    fn remove_file(&self, path: &Path) -> io::Result<()>;

    /// Removes a directory and all that it holds. `NotFound` when it is absent.
    fn remove_dir_all(&self, path: &Path) -> io::Result<()>;

    /// Creates a directory and the missing ones above it. Does not sync: each directory that got a
    /// new entry needs a [`Disk::sync_dir`] of its own.
    fn create_dir_all(&self, path: &Path) -> io::Result<()>;

    /// Makes the entries of a directory durable: names created, renamed and removed in it.
    fn sync_dir(&self, path: &Path) -> io::Result<()>;

    /// Makes everything on the file system that holds `path` durable (syncfs): data, sizes and
    /// names.
    fn sync_all(&self, path: &Path) -> io::Result<()>;

    /// The entries of a directory, sorted by name. Names that are not UTF-8 are left out: nothing
    /// here makes such names.
    ///
    /// # Errors
    /// `NotFound` when the directory is absent.
    fn list(&self, path: &Path) -> io::Result<Vec<DirEntry>>;

    /// How many bytes may still be taken on the file system that holds `path`, without what it keeps
    /// back for itself and for the administrator.
    ///
    /// # Errors
    /// `NotFound` when the path is absent.
    fn free_bytes(&self, path: &Path) -> io::Result<u64>;

    /// Takes an exclusive lock on a file, which is created when absent and stays behind. Held until
    /// the guard is dropped or the process ends, in whatever way.
    ///
    /// # Errors
    /// `WouldBlock` when another process, or another guard in this one, holds it. Never waits.
    fn lock(&self, path: &Path) -> io::Result<Box<dyn Lock>>;
}

/// An open file. All access names its position, so one handle serves any number of threads.
pub trait File: Send + Sync + fmt::Debug {
    /// The file's size in bytes, reserved space included.
    fn len(&self) -> io::Result<u64>;

    /// Whether the file has no bytes.
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }

    /// Fills `buf` from position `at`.
    ///
    /// # Errors
    /// `UnexpectedEof` when the file ends before `buf` is full; what `buf` then holds is not told.
    fn read_exact_at(&self, buf: &mut [u8], at: u64) -> io::Result<()>;

    /// Writes all of `buf` at position `at`, and extends the file when it ends before. Short writes
    /// are continued.
    ///
    /// # Errors
    /// After an error any part of `buf` may have been written.
    fn write_all_at(&self, buf: &[u8], at: u64) -> io::Result<()>;

    /// Reserves space for `len` bytes from position `at` and extends the file over it. Bytes that
    /// were not written before read as zero, those that were stay. Later writes into the range do
    /// not fail for want of space.
    ///
    /// # Errors
    /// `StorageFull` when the disk, or the quota, has no room.
    fn reserve(&self, at: u64, len: u64) -> io::Result<()>;

    /// Gives the space of a range back. It reads as zeros from then on; the file keeps its size.
    ///
    /// # Errors
    /// `Unsupported` where the file system cannot: the bytes then stay as they are.
    fn punch(&self, at: u64, len: u64) -> io::Result<()>;

    /// Makes the file's bytes and its size durable (fdatasync).
    ///
    /// # Errors
    /// After an error nothing is known about any byte written since the last success, and another
    /// call proves nothing: the system marks the pages clean all the same. Never retry.
    fn sync_data(&self) -> io::Result<()>;

    /// Makes the file's bytes and all its metadata durable (fsync); its name takes
    /// [`Disk::sync_dir`]. Errors as with [`File::sync_data`].
    fn sync_all(&self) -> io::Result<()>;

    /// Maps the first `capacity` bytes, read-only and shared: later writes through any handle show
    /// in it. It may reach past the file's end, and what the file grows into becomes readable
    /// without mapping again.
    fn map(&self, capacity: u64) -> io::Result<Arc<dyn Map>>;
}

/// A read-only map of a file's beginning.
pub trait Map: Send + Sync + fmt::Debug {
    /// Brings the pages of a range into memory, so that touching them neither waits for the disk
    /// nor fails. Blocks while it reads.
    ///
    /// # Errors
    /// When the medium cannot give the bytes or the file ends before the range's last page, instead
    /// of the SIGBUS that touching them would be. `InvalidInput` when the range reaches past the
    /// map.
    fn populate(&self, range: Range<u64>) -> io::Result<()>;

    /// Whether all pages of a range are in memory, or were a few milliseconds ago, so that touching them does
    /// not wait for the disk. They may go at any time; what is touched soon after is still there.
    ///
    /// # Errors
    /// `InvalidInput` when the range reaches past the map.
    fn resident(&self, range: Range<u64>) -> io::Result<bool>;

    /// A range of the map as bytes that keep the map alive: counted, not copied, on the real disk.
    ///
    /// Only ranges that lie below the durable end of the file and are never written again with
    /// other bytes may be taken; to touch bytes past the file's last page ends the process.
    ///
    /// # Panics
    /// When the range reaches past the map's capacity.
    fn slice(&self, range: Range<u64>) -> Bytes;
}

/// A held lock; dropping it lets go.
pub trait Lock: Send + Sync + fmt::Debug {}

/// How a file is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum OpenMode {
    /// For reading; the file exists.
    Read,
    /// For reading what is on the medium, past the page cache and without a trace in it, where the
    /// file system can do that; the file exists. Only bytes that were synced may be asked for.
    ReadDirect,
    /// For reading and writing; the file exists.
    ReadWrite,
    /// For reading and writing; the file did not exist and is made, which two openers never both
    /// succeed in.
    CreateNew,
}

/// One name in a directory.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct DirEntry {
    /// The name within its directory.
    pub name: String,
    /// Whether it is a directory (or a link to one).
    pub is_dir: bool,
}
