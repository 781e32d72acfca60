//! Building a state from the records of its log.

use std::fmt;
use std::ops::Range;

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
) -> Result<(S, Growth, Option<Loss>), ReplayError> {
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
        // A record for every offset, but for those that a repair has left out.
        let mut expected = next;
        for chunk in &batch.chunks {
            for record in Records::new(chunk, &RecordLimits::NONE) {
                let (_, record) = record.map_err(damaged)?;
                let offset = record.offset.unwrap_or(expected);
                replay.lose(expected..offset);
                replay.take(offset, record.value.unwrap_or_default())?;
                expected = offset + 1;
            }
        }
        if batch.next_offset.get() <= next {
            return Err(damaged(format_args!("reading stops at record {next}")));
        }
        next = batch.next_offset.get();
        replay.lose(expected..next);
    }
    // Damage that a read has come to ends what can be read, and is not the end of the log.
    check_sound(partition)?;
    Ok((replay.state, replay.growth, replay.loss))
}

fn check_sound(partition: &Partition) -> Result<(), ReplayError> {
    match partition.refusal() {
        None => Ok(()),
        Some(refusal) => Err(ReplayError::Damaged {
            detail: refusal.to_string(),
        }),
    }
}

/// What is missing from a log since its last snapshot.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Loss {
    /// Offsets of records that are gone.
    lost: Vec<Range<u64>>,
    /// Offsets of records that do not follow without those.
    left_out: Vec<u64>,
}

impl fmt::Display for Loss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, lost) in self.lost.iter().enumerate() {
            let comma = if number > 0 { ", " } else { "" };
            write!(f, "{comma}{} to {}", lost.start, lost.end)?;
        }
        if !self.left_out.is_empty() {
            write!(f, "; {:?} do not follow without them", self.left_out)?;
        }
        Ok(())
    }
}

/// A replay in progress.
#[derive(Debug)]
pub(crate) struct Replay<S> {
    pub(crate) state: S,
    /// The snapshot whose end has not come yet. A crash may have left it without one.
    collecting: Option<Collecting>,
    pub(super) growth: Growth,
    /// Set from a gap in the log to the end of the next whole snapshot.
    pub(crate) loss: Option<Loss>,
}

#[derive(Debug)]
struct Collecting {
    total_bytes: u64,
    bytes: Vec<u8>,
}

impl<S: StateMachine> Replay<S> {
    pub(crate) fn new(snapshot_interval_bytes: u64) -> Self {
        Self {
            loss: None,
            state: S::default(),
            collecting: None,
            growth: Growth::new(snapshot_interval_bytes),
        }
    }

    /// Goes on behind records that are lost; nothing happens when there are none.
    pub(crate) fn lose(&mut self, offsets: Range<u64>) {
        if !offsets.is_empty() {
            self.collecting = None;
            self.loss.get_or_insert_default().lost.push(offsets);
        }
    }

    /// Takes the value of the next record.
    pub(crate) fn take(&mut self, offset: u64, value: &[u8]) -> Result<(), ReplayError> {
        let at = |detail: String| ReplayError::Damaged {
            detail: format!("record {offset}: {detail}"),
        };
        let entry: Entry = decode(offset, value)?;
        match entry.kind {
            None => return Err(at("it is empty".to_owned())),
            Some(EntryKind::Command(bytes)) => {
                self.collecting = None;
                let command = decode(offset, &bytes)?;
                match &mut self.loss {
                    None => self.state.apply(&command).map_err(at)?,
                    Some(loss) => {
                        if let Err(why) = self.state.apply_after_loss(&command) {
                            tracing::warn!(offset, why, "a command of an internal log is left out");
                            loss.left_out.push(offset);
                        }
                    }
                }
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
            // The rest of a snapshot whose beginning is lost.
            Some(EntryKind::Chunk(_) | EntryKind::End(_))
                if self.collecting.is_none() && self.loss.is_some() => {}
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
                self.loss = None;
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
