//! What a partition remembers of its producers, from snapshots and frames.

use std::path::Path;
use std::sync::Arc;

use flowstone_disk::{OpenMode, is_out_of_open_files};
use flowstone_format::{
    FrameHeader, HeaderError, Offset, PartitionId, ProducerSnapshot, SegmentEntry,
};

use crate::active::FIRST_FRAME;
use crate::dir::PartitionDir;
use crate::error::LogError;
use crate::producers::{ProducerBudget, ProducerState};
use crate::scan::{Scan, ScanError};
use crate::tail::Tail;

/// The state at the base of the listed segment with this number, from the newest snapshot at or
/// before it that is good, and the frames from there on. Where there is none, and frames are gone
/// that would tell, the state says that it may miss something.
pub(crate) fn at_base(
    dir: &PartitionDir,
    partition: PartitionId,
    listed: &[SegmentEntry],
    number: usize,
    budget: &Arc<ProducerBudget>,
) -> Result<ProducerState, LogError> {
    let Some(first) = listed.first() else {
        return Ok(ProducerState::new(budget));
    };
    for start in (0..=number).rev() {
        let entry = &listed[start];
        match read_snapshot(dir, partition, entry)? {
            Ok(snapshot) => {
                let mut state = match snapshot {
                    Some(snapshot) => ProducerState::of_snapshot(snapshot, budget),
                    None => ProducerState::new(budget),
                };
                for walked in start..number {
                    walk(dir, listed, walked, &mut state)?;
                }
                return Ok(state);
            }
            Err(detail) => {
                let path = dir.producers_path(entry.base_offset, entry.id);
                tracing::warn!(
                    file = %path.display(), detail,
                    "a producer snapshot is not as it was written; older files are asked"
                );
            }
        }
    }
    let mut state = ProducerState::new(budget);
    // Before offset 0 there can have been no records.
    if first.base_offset > Offset::ZERO {
        let lost_upto_ms = before_first(dir, first)?;
        state.lose_upto(lost_upto_ms);
        tracing::error!(
            directory = %dir.path.display(), lost_upto_ms,
            "what producers appended is not known any more: requests with a producer are refused until producers of that time have expired"
        );
    }
    for walked in 0..number {
        walk(dir, listed, walked, &mut state)?;
    }
    Ok(state)
}

/// The snapshot of a segment; `None` if nothing was known at its base. What is wrong with it, if it
/// is not the one that is listed.
pub(crate) fn read_snapshot(
    dir: &PartitionDir,
    partition: PartitionId,
    entry: &SegmentEntry,
) -> Result<Result<Option<ProducerSnapshot>, String>, LogError> {
    if entry.producers_crc == 0 {
        return Ok(Ok(None));
    }
    let bytes = match dir.read_file(&dir.producers_path(entry.base_offset, entry.id)) {
        Ok(Some(bytes)) => bytes,
        Ok(None) => return Ok(Err("it is missing".to_owned())),
        Err(LogError::Io { source, .. }) => {
            return Ok(Err(format!("it could not be read: {source}")));
        }
        Err(error) => return Err(error),
    };
    let path = dir.producers_path(entry.base_offset, entry.id);
    let (snapshot, crc) = match decode_snapshot(&path, &bytes)? {
        Ok(decoded) => decoded,
        Err(detail) => return Ok(Err(detail)),
    };
    let listed = is_of(&snapshot, partition, entry) && crc == entry.producers_crc;
    Ok(if listed {
        Ok(Some(snapshot))
    } else {
        Err("it is not the one that the MANIFEST lists".to_owned())
    })
}

/// A snapshot and its CRC, or what is wrong with the bytes.
pub(crate) fn decode_snapshot(
    path: &Path,
    bytes: &[u8],
) -> Result<Result<(ProducerSnapshot, u32), String>, LogError> {
    match ProducerSnapshot::decode(bytes) {
        Err(source @ (HeaderError::NewerVersion { .. } | HeaderError::UnknownFeatures { .. })) => {
            let path = path.to_path_buf();
            Err(LogError::Header { path, source })
        }
        decoded => Ok(decoded.map_err(|error| error.to_string())),
    }
}

/// Whether a snapshot stands for the base of this segment.
pub(crate) fn is_of(
    snapshot: &ProducerSnapshot,
    partition: PartitionId,
    entry: &SegmentEntry,
) -> bool {
    snapshot.partition == partition
        && snapshot.segment == entry.id
        && snapshot.base_offset == entry.base_offset
}

/// Takes note of all frames of a sealed segment. Of one that cannot be walked to its end, the rest
/// may be missing in the state.
pub(crate) fn walk(
    dir: &PartitionDir,
    listed: &[SegmentEntry],
    number: usize,
    state: &mut ProducerState,
) -> Result<(), LogError> {
    let entry = &listed[number];
    let previous = number.checked_sub(1).map(|before| &listed[before]);
    let tail = Tail::before(entry, previous);
    if let Some(detail) = walk_headers(dir, entry, tail, |header| state.apply(header))? {
        state.lose_upto(entry.last_append_ms);
        tracing::error!(
            file = %dir.segment_path(entry.base_offset, entry.id).display(), detail,
            "what producers appended there is not known any more: requests with a producer are refused until producers of that time have expired"
        );
    }
    Ok(())
}

/// When the last frame before the first listed segment was appended, at the latest.
fn before_first(dir: &PartitionDir, first: &SegmentEntry) -> Result<i64, LogError> {
    // Of an active or an empty segment, the entry tells what stood before it.
    let mut found = (first.last_index < first.first_index).then_some(first.last_append_ms);
    if found.is_none() {
        let tail = Tail::before(first, None);
        walk_headers(dir, first, tail, |header| {
            found = found.or(Some(header.append_ms));
        })?;
    }
    Ok(found.unwrap_or(first.last_append_ms))
}

/// Calls `on_header` with the header of every frame of a sealed segment. Tells why it came no
/// further, if it did not come to the end that is listed.
fn walk_headers(
    dir: &PartitionDir,
    entry: &SegmentEntry,
    tail: Tail,
    mut on_header: impl FnMut(&FrameHeader),
) -> Result<Option<String>, LogError> {
    let path = dir.segment_path(entry.base_offset, entry.id);
    let file = match dir.disk.open(&path, OpenMode::Read) {
        Ok(file) => file,
        Err(error) if is_out_of_open_files(&error) => {
            return Err(LogError::io("open", &path)(error));
        }
        Err(error) => return Ok(Some(format!("it could not be opened: {error}"))),
    };
    let end = entry.end_position.get();
    let mut scan = Scan::new(&*file, entry.salt, FIRST_FRAME, end, tail);
    Ok(loop {
        match scan.next_header() {
            Ok(Some(header)) => on_header(&header),
            Ok(None) if scan.tail() == Tail::after(entry) => break None,
            Ok(None) => break Some("it ends otherwise than the MANIFEST says".to_owned()),
            Err(ScanError::Bad(bad)) => break Some(bad.detail),
            Err(ScanError::Io(error)) => break Some(format!("it could not be read: {error}")),
        }
    })
}
