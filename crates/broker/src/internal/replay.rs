//! Building a state from the records of its log.

use flowstone_format::{RecordLimits, Records};
use flowstone_log::ReadLimit;

use crate::Error;
use crate::internal::StateMachine;
use crate::internal::entry::{DecodeError, Entry, EntryKind, decode_strictly};
use crate::internal::snapshot::Growth;
use crate::partition::Partition;

/// Why a state could not be built.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ReplayError {
    /// A newer version wrote the log.
    #[error("record {offset}: {detail}")]
    Newer { offset: u64, detail: String },
    /// The process has as many files open as it may.
    #[error("too many files are open")]
    TooManyOpenFiles,
    /// The log cannot be read, or what it says contradicts itself.
    #[error("{detail}")]
    Damaged { detail: String },
}

const READ_BYTES: usize = 4 << 20;
const MAX_SNAPSHOT_BYTES: u64 = 4 << 30;

pub(super) fn replay<S: StateMachine>(
    partition: &Partition,
    snapshot_interval_bytes: u64,
) -> Result<(S, Growth), ReplayError> {
    check_sound(partition)?;
    let limit = ReadLimit {
        max_bytes: READ_BYTES,
        max_records: u32::MAX,
        before: None,
    };
    let mut replay = Replay::<S>::new(snapshot_interval_bytes);
    let mut next = partition.log_start_offset();
    while next < partition.high_watermark() {
        let batch = partition.read(next, &limit).map_err(|error| match error {
            Error::TooManyOpenFiles => ReplayError::TooManyOpenFiles,
            error => damaged(error),
        })?;
        let mut offset = next;
        for chunk in &batch.chunks {
            for record in Records::new(chunk, &RecordLimits::NONE) {
                let (_, record) = record.map_err(damaged)?;
                offset = record.offset.unwrap_or(offset);
                replay.take(offset, record.value.unwrap_or_default())?;
            }
        }
        if batch.next_offset.get() <= next {
            return Err(damaged(format_args!("reading stops at record {next}")));
        }
        next = batch.next_offset.get();
    }
    // Damage that a read has come to ends what can be read, and is not the end of the log.
    check_sound(partition)?;
    Ok((replay.state, replay.growth))
}

fn check_sound(partition: &Partition) -> Result<(), ReplayError> {
    match partition.refusal() {
        None => Ok(()),
        Some(refusal) => Err(ReplayError::Damaged {
            detail: refusal.to_string(),
        }),
    }
}

/// A replay in progress.
#[derive(Debug)]
pub(super) struct Replay<S> {
    pub(super) state: S,
    /// The snapshot whose end has not come yet. A crash may have left it without one.
    collecting: Option<Collecting>,
    pub(super) growth: Growth,
}

#[derive(Debug)]
struct Collecting {
    total_bytes: u64,
    bytes: Vec<u8>,
}

impl<S: StateMachine> Replay<S> {
    pub(super) fn new(snapshot_interval_bytes: u64) -> Self {
        Self {
            state: S::default(),
            collecting: None,
            growth: Growth::new(snapshot_interval_bytes),
        }
    }

    /// Takes the value of the next record.
    pub(super) fn take(&mut self, offset: u64, value: &[u8]) -> Result<(), ReplayError> {
        let at = |detail: String| ReplayError::Damaged {
            detail: format!("record {offset}: {detail}"),
        };
        let entry: Entry = decode(offset, value)?;
        match entry.kind {
            None => return Err(at("it is empty".to_owned())),
            Some(EntryKind::Command(bytes)) => {
                self.collecting = None;
                self.state.apply(&decode(offset, &bytes)?).map_err(at)?;
                self.growth.grew(value.len() as u64);
            }
            Some(EntryKind::Begin(begin)) => {
                if begin.total_bytes > MAX_SNAPSHOT_BYTES {
                    return Err(at(format!("a snapshot of {} bytes", begin.total_bytes)));
                }
                self.collecting = Some(Collecting {
                    total_bytes: begin.total_bytes,
                    bytes: Vec::new(),
                });
            }
            Some(EntryKind::Chunk(bytes)) => {
                let snapshot = self
                    .collecting
                    .as_mut()
                    .filter(|snapshot| {
                        (snapshot.bytes.len() + bytes.len()) as u64 <= snapshot.total_bytes
                    })
                    .ok_or_else(|| at("a piece that belongs to no snapshot".to_owned()))?;
                snapshot.bytes.extend_from_slice(&bytes);
            }
            Some(EntryKind::End(_)) => {
                let snapshot = self
                    .collecting
                    .take()
                    .filter(|snapshot| snapshot.bytes.len() as u64 == snapshot.total_bytes)
                    .ok_or_else(|| at("the end of a snapshot that is not whole".to_owned()))?;
                self.state = S::restore(decode(offset, &snapshot.bytes)?).map_err(at)?;
                self.growth.snapshot_made(snapshot.total_bytes);
            }
        }
        Ok(())
    }
}

fn decode<M: prost::Message + Default>(offset: u64, bytes: &[u8]) -> Result<M, ReplayError> {
    decode_strictly(bytes).map_err(|error| match error {
        DecodeError::Newer => ReplayError::Newer {
            offset,
            detail: error.to_string(),
        },
        DecodeError::Malformed(_) => ReplayError::Damaged {
            detail: format!("record {offset}: {error}"),
        },
    })
}

fn damaged(error: impl ToString) -> ReplayError {
    ReplayError::Damaged {
        detail: error.to_string(),
    }
}
