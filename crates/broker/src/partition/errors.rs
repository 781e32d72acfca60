//! What a partition's failures are answered with.

use flowstone_disk::is_out_of_open_files;
use flowstone_format::Offset;
use flowstone_log::{LogError, ReadError};

use super::{Label, Partition};
use crate::Error;

impl Partition {
    /// The error of an offset outside what can be read.
    pub(crate) fn out_of_range(&self, requested: u64) -> Error {
        out_of_range(requested, self.log_start_offset(), self.high_watermark())
    }

    /// What a failed read is answered with.
    pub(super) fn read_error(&self, error: ReadError) -> Error {
        match error {
            ReadError::OutOfRange {
                requested,
                log_start_offset,
                high_watermark,
            } => out_of_range(
                requested.get(),
                log_start_offset.get(),
                high_watermark.get(),
            ),
            ReadError::Corrupt(damage) => corrupt(&self.label, damage.offset, damage.to_string()),
            ReadError::Io { source, .. } if is_out_of_open_files(&source) => {
                Error::TooManyOpenFiles
            }
            error @ ReadError::Io { .. } => Error::Internal {
                detail: error.to_string(),
            },
        }
    }

    /// What a failed append is answered with.
    pub(crate) fn append_error(&self, error: &LogError) -> Error {
        match error {
            LogError::DiskFull { .. } => Error::DiskFull,
            LogError::TooManyOpenFiles { .. } => Error::TooManyOpenFiles,
            LogError::Corrupt(damage) => corrupt(&self.label, damage.offset, damage.to_string()),
            LogError::Record(error) => (*error).into(),
            LogError::BatchTooLarge { .. } => Error::InvalidField {
                field: "records".to_owned(),
                detail: format!("{error}; send them in several requests"),
            },
            LogError::TooManyProducers { limit } => Error::LimitExceeded {
                limit: "max_producer_sequences",
                value: *limit as u64,
            },
            LogError::ProducersUnknown { .. } => Error::ProducersUnknown {
                topic: self.label.topic.to_string(),
                partition: self.index(),
                detail: error.to_string(),
            },
            LogError::SequenceReused { sequence } => Error::SequenceReused {
                sequence: *sequence,
                partition: self.index(),
            },
            LogError::SequenceTooOld {
                sequence,
                lowest_known,
            } => Error::SequenceTooOld {
                sequence: *sequence,
                partition: self.index(),
                lowest_known: *lowest_known,
            },
            LogError::OffsetMismatch { expected, end } => Error::OffsetMismatch {
                partition: self.index(),
                expected: expected.get(),
                end_offset: end.get(),
            },
            LogError::Io { .. } | LogError::SyncFailed { .. } | LogError::Poisoned { .. } => {
                Error::OutcomeUnknown {
                    detail: error.to_string(),
                }
            }
            LogError::Header { .. }
            | LogError::OutOfRange { .. }
            | LogError::NotABoundary { .. } => Error::Internal {
                detail: error.to_string(),
            },
        }
    }

    /// What a failed trim or roll is answered with.
    pub(crate) fn change_error(&self, error: &LogError) -> Error {
        match error {
            LogError::DiskFull { .. }
            | LogError::TooManyOpenFiles { .. }
            | LogError::Corrupt(_)
            | LogError::SyncFailed { .. } => self.append_error(error),
            error => Error::Internal {
                detail: error.to_string(),
            },
        }
    }

    /// The error of a partition that cannot be believed from an offset on.
    pub(crate) fn corrupt(&self, offset: Offset, detail: String) -> Error {
        corrupt(&self.label, offset, detail)
    }
}

fn out_of_range(requested: u64, log_start_offset: u64, high_watermark: u64) -> Error {
    if requested < log_start_offset {
        Error::OffsetTrimmed {
            requested,
            log_start_offset,
            high_watermark,
        }
    } else {
        Error::OffsetBeyondEnd {
            requested,
            log_start_offset,
            high_watermark,
        }
    }
}

/// The error of a partition that cannot be believed from an offset on.
pub(super) fn corrupt(label: &Label, offset: Offset, detail: String) -> Error {
    Error::CorruptSegment {
        topic: label.topic.to_string(),
        partition: label.partition,
        offset: offset.get(),
        detail,
    }
}
