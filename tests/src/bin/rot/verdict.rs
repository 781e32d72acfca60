//! Opens a damaged partition, reads all of it, and judges what it says.

use std::fmt;
use std::path::Path;

use flowstone_disk::{Env, ManualClock, OpKind, SimDisk};
use flowstone_format::Offset;
use flowstone_log::{Floor, Log, LogError, LogReader, ReadError, ReadLimit};

use crate::damage::Damage;
use crate::exception;
use crate::subject::{DATA_DIR, PARTITION, Subject, dir};

/// How a damaged partition answered. All of these are right.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Verdict {
    /// Everything was read; the damage took nothing that counts.
    Whole,
    /// It was told, and the rest was read.
    Told,
    /// Nothing was opened, and the error says why.
    Refused,
    /// The last group is gone without a word, as zeros above the floor may take it.
    Excepted,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Whole => "read whole",
            Self::Told => "told",
            Self::Refused => "refused",
            Self::Excepted => "taken for a torn tail",
        })
    }
}

/// Opens the partition on a disk of this subject that was damaged, and reads it. An error tells what
/// must not be.
pub(crate) fn judge(subject: &Subject, disk: &SimDisk, damage: &Damage) -> Result<Verdict, String> {
    let before = changes(disk);
    let log = match open(subject, disk) {
        Ok(log) => log,
        Err(LogError::Header { .. }) => return Ok(Verdict::Refused),
        Err(error) => return Err(format!("the open fails: {error}")),
    };
    // The header of FLOOR is written again at each start, as it is.
    if log.damage().is_some() && subject.has_floor && changes(disk) > before + 1 {
        return Err("files of a damaged partition were changed".to_owned());
    }
    let told = read_all(subject, &log.reader())?;
    let end = log.reader().high_watermark().get();
    if end > subject.end() {
        return Err(format!("the log ends at {end}, beyond what was written"));
    }
    if log.reader().log_start_offset() != Offset::ZERO {
        return Err("the log start has moved".to_owned());
    }
    if end < subject.end() {
        if log.damage().is_none() && !told {
            let lost = format!("all from offset {end} on is gone without a word");
            exception::check(subject, damage, end).map_err(|why| format!("{lost}: {why}"))?;
            return Ok(Verdict::Excepted);
        }
        for offset in [end, subject.end() - 1] {
            let read = log
                .reader()
                .read(Offset::new(offset), &ReadLimit::default());
            if !matches!(read, Err(ReadError::Corrupt(_))) {
                return Err(format!(
                    "offset {offset} is lost, and the read says {read:?}"
                ));
            }
        }
    }
    time_lookup(subject, &log.reader(), told || log.damage().is_some())?;
    Ok(if told || log.damage().is_some() {
        Verdict::Told
    } else {
        Verdict::Whole
    })
}

fn open(subject: &Subject, disk: &SimDisk) -> Result<Log, LogError> {
    let clock = ManualClock::new(1_800_000_000_000);
    let env = Env::simulated(disk, &clock, 5);
    let (floor, _) = Floor::open(&env.disk, Path::new(DATA_DIR))?;
    let slot = floor.get(PARTITION)?;
    Log::open(&env, &dir(), PARTITION, slot, subject.config)
}

/// Reads everything below the watermark; behind damage, from the next frame on. True if any of it
/// was answered with an error.
fn read_all(subject: &Subject, reader: &LogReader) -> Result<bool, String> {
    let (mut at, end) = (0, reader.high_watermark().get());
    let mut told = false;
    let limit = ReadLimit {
        max_records: if subject.reads_every_offset() {
            1
        } else {
            u32::MAX
        },
        ..ReadLimit::default()
    };
    while at < end {
        match reader.read(Offset::new(at), &limit) {
            Ok(batch) => {
                let next = batch.next_offset.get();
                if next <= at || next > subject.end() {
                    return Err(format!("a read from {at} goes on at {next}"));
                }
                let mut rest = subject.stored(at..next);
                for chunk in &batch.chunks {
                    rest = rest.strip_prefix(&chunk[..]).ok_or_else(|| {
                        format!("what is served between {at} and {next} is not what was written")
                    })?;
                }
                if !rest.is_empty() {
                    return Err(format!("records between {at} and {next} are left out"));
                }
                at = next;
            }
            Err(ReadError::Corrupt(_) | ReadError::Io { .. }) => {
                told = true;
                let next = subject
                    .frames
                    .partition_point(|frame| frame.offsets.start <= at);
                at = subject
                    .frames
                    .get(next)
                    .map_or(end, |frame| frame.offsets.start);
            }
            Err(error) => return Err(format!("a read from {at} fails: {error}")),
        }
    }
    Ok(told)
}

/// The look-up of a time says what is right for what can be read, or that it cannot.
fn time_lookup(subject: &Subject, reader: &LogReader, told: bool) -> Result<(), String> {
    let end = reader.high_watermark().get();
    let times = &subject.timestamps;
    let step = if subject.reads_every_offset() {
        1
    } else {
        times.len() / 2
    };
    for &ms in times.iter().step_by(step.max(1)) {
        let first = (0_u64..).zip(times).find(|(_, found)| **found >= ms);
        let right = first
            .map(|(offset, _)| offset)
            .filter(|offset| *offset < end);
        match reader.offset_for_time(ms) {
            Ok(found) if found.map(Offset::get) == right => {}
            Ok(found) => return Err(format!("time {ms} is found at {found:?}, not {right:?}")),
            Err(_) if told => {}
            Err(error) => return Err(format!("time {ms} is not found: {error}")),
        }
    }
    Ok(())
}

/// How often anything on the disk was changed.
fn changes(disk: &SimDisk) -> u64 {
    [
        OpKind::Write,
        OpKind::Rename,
        OpKind::RemoveFile,
        OpKind::Reserve,
        OpKind::Punch,
    ]
    .into_iter()
    .map(|kind| disk.count(kind))
    .sum()
}
