//! What can go wrong with a log, with the facts that a caller needs to act.

use std::io;
use std::path::{Path, PathBuf};

use flowstone_disk::is_out_of_open_files;
use flowstone_format::{HeaderError, Offset, Position, RecordError};
use thiserror::Error;

/// A place in a partition from which on its bytes are not believed.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("damaged from offset {offset} on: {} at byte {position}: {detail}", path.display())]
pub struct Damage {
    /// The first offset that cannot be served.
    pub offset: Offset,
    /// The file that is damaged, or missing.
    pub path: PathBuf,
    /// Where in that file.
    pub position: Position,
    /// What is wrong there.
    pub detail: String,
}

/// Why an operation of [`crate::Log`] failed.
#[derive(Debug, Error)]
pub enum LogError {
    /// An operation of the disk failed. Nothing is acknowledged on its account.
    #[error("could not {operation} {}: {source}", path.display())]
    Io {
        /// What was tried, as a verb.
        operation: &'static str,
        /// On which file or directory.
        path: PathBuf,
        /// What the disk answered.
        source: io::Error,
    },
    /// There is no space for the operation; the log is as it was before.
    #[error("no space left on the disk to {operation} {}", path.display())]
    DiskFull {
        /// What was tried, as a verb.
        operation: &'static str,
        /// On which file.
        path: PathBuf,
    },
    /// The process has as many files open as it may; the log is as it was before.
    #[error("could not {operation} {}: too many files are open", path.display())]
    TooManyOpenFiles {
        /// What was tried, as a verb.
        operation: &'static str,
        /// On which file or directory.
        path: PathBuf,
    },
    /// A sync of a file that counts failed: what is on disk is unknown, and the process has to end.
    #[error("could not sync {}: {source}; what reached the disk is unknown", path.display())]
    SyncFailed {
        /// The file or directory.
        path: PathBuf,
        /// What the disk answered.
        source: io::Error,
    },
    /// An earlier write failed; the log takes nothing until it is reopened.
    #[error("the log in {} takes nothing after a failed write until it is reopened", path.display())]
    Poisoned {
        /// The partition's directory.
        path: PathBuf,
    },
    /// The partition is damaged: what lies below is served, nothing is appended.
    #[error(transparent)]
    Corrupt(#[from] Damage),
    /// A file was written by a newer Flowstone, or is not one of its files.
    #[error("{}: {source}", path.display())]
    Header {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: HeaderError,
    },
    /// The batch does not fit into an empty segment.
    #[error("a batch of {bytes} bytes does not fit into a segment of {limit} bytes")]
    BatchTooLarge {
        /// Length of the frame.
        bytes: u64,
        /// What an empty segment holds.
        limit: u64,
    },
    /// The records of a batch are not what the scanner lets pass.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// A trim or a truncation names an offset that it may not.
    #[error("offset {requested} is not between {start} and {end}")]
    OutOfRange {
        /// The offset asked for.
        requested: Offset,
        /// The least offset allowed.
        start: Offset,
        /// The greatest offset allowed.
        end: Offset,
    },
    /// The producer has sent this sequence before, with other records. The log is as it was.
    #[error("sequence {sequence} was used before, for other records")]
    SequenceReused {
        /// The sequence.
        sequence: i64,
    },
    /// Whether the sequence was appended is no longer known. The log is as it was.
    #[error(
        "sequence {sequence} is too old to tell whether it was appended; the lowest that is known is {lowest_known}"
    )]
    SequenceTooOld {
        /// The sequence.
        sequence: i64,
        /// The lowest sequence of the producer that is remembered.
        lowest_known: i64,
    },
    /// The batch was to be appended at another offset than the next one. The log is as it was.
    #[error("the next offset is {end}, not {expected}")]
    OffsetMismatch {
        /// The offset that the batch asked for.
        expected: Offset,
        /// The next offset to be assigned, among what is staged too.
        end: Offset,
    },
    /// What producers have appended cannot be told, since files that tell it are gone or damaged.
    /// Batches without a producer are taken. The log is as it was.
    #[error(
        "what producers appended up to {lost_upto_ms} ms is not known any more, so that a repeat cannot be told from a new request until producers of that time have expired"
    )]
    ProducersUnknown {
        /// Frames up to this append time may be missing, Unix milliseconds. Once producers whose last
        /// append was then have expired, the log takes batches with producers again.
        lost_upto_ms: i64,
    },
    /// There is no room to remember a new producer. The log is as it was.
    #[error(
        "no room to remember a new producer: all partitions together remember at most {limit} sequences"
    )]
    TooManyProducers {
        /// The limit, in sequences of all partitions that share it.
        limit: usize,
    },
    /// A truncation has to fall between two batches.
    #[error("offset {offset} is inside a batch")]
    NotABoundary {
        /// The offset asked for.
        offset: Offset,
    },
}

impl LogError {
    /// Makes an error of a failed operation; want of space and of descriptors is told apart.
    pub(crate) fn io(
        operation: &'static str,
        path: &Path,
    ) -> impl FnOnce(io::Error) -> Self + use<> {
        let path = path.to_path_buf();
        move |source| match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                Self::DiskFull { operation, path }
            }
            _ if is_out_of_open_files(&source) => Self::TooManyOpenFiles { operation, path },
            _ => Self::Io {
                operation,
                path,
                source,
            },
        }
    }

    /// Makes the error that ends the process.
    pub(crate) fn sync(path: &Path) -> impl FnOnce(io::Error) -> Self + use<> {
        let path = path.to_path_buf();
        move |source| Self::SyncFailed { path, source }
    }
}

/// Why a read failed.
#[derive(Debug, Error)]
pub enum ReadError {
    /// The offset was trimmed, or lies past the end.
    #[error(
        "offset {requested} is not between the log start {log_start_offset} and the high watermark {high_watermark}"
    )]
    OutOfRange {
        /// The offset asked for.
        requested: Offset,
        /// The first offset that is still there.
        log_start_offset: Offset,
        /// The end of what may be read.
        high_watermark: Offset,
    },
    /// The bytes at the offset are not those that were written.
    #[error(transparent)]
    Corrupt(#[from] Damage),
    /// A segment could not be opened or mapped.
    #[error("could not {operation} {}: {source}", path.display())]
    Io {
        /// What was tried, as a verb.
        operation: &'static str,
        /// On which file.
        path: PathBuf,
        /// What the disk answered.
        source: io::Error,
    },
}
