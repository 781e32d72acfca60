//! The files of a partition's directory: which are listed, which are not, and what the others mean.

use std::io;
use std::path::Path;

use flowstone_disk::{File, OpenMode};
use flowstone_format::{
    FloorSlot, HeaderError, MANIFEST_NAME, Manifest, Offset, PartitionId, Position,
    SEGMENT_HEADER_LEN, SegmentEntry, SegmentHeader, SegmentState, index_name, parse_segment_name,
    producers_name, segment_name,
};

use super::torn;
use crate::dir::PartitionDir;
use crate::error::{Damage, LogError};

/// What shows that the MANIFEST is not the newest one: a FLOOR slot of a later generation, or an
/// unlisted segment with records that was begun later. An unlisted segment of this generation or
/// an earlier one was listed once and taken off the list, so that it proves nothing.
pub(crate) fn proof_of_newer_manifest(
    dir: &PartitionDir,
    manifest: &Manifest,
    floor: Option<&FloorSlot>,
    names: &[String],
) -> Result<Option<String>, LogError> {
    if let Some(slot) = floor
        && slot.generation > manifest.generation
    {
        return Ok(Some(format!(
            "the MANIFEST is of generation {}, but FLOOR knows of generation {}",
            manifest.generation, slot.generation
        )));
    }
    let last_base = manifest.segments.last().map(|entry| entry.base_offset);
    for (name, base) in unlisted_segments(manifest, names) {
        let later = match read_header(dir, name)? {
            Ok((header, _)) => header.generation > manifest.generation,
            Err(_) => last_base.is_none_or(|last| base >= last),
        };
        if later && holds_records(dir, name)? {
            return Ok(Some(format!(
                "the MANIFEST does not list {name}, which was begun after it and holds records"
            )));
        }
    }
    Ok(None)
}

/// Holds a listed segment's file against its entry; tells what is wrong with it.
pub(crate) fn check_segment(
    dir: &PartitionDir,
    partition: PartitionId,
    entry: &SegmentEntry,
) -> Result<Option<Damage>, LogError> {
    let name = segment_name(entry.base_offset, entry.id);
    let path = dir.path.join(&name);
    let detail = match dir.disk.open(&path, OpenMode::Read) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Some("it is missing".to_string()),
        Err(error) => return Err(LogError::io("open", &path)(error)),
        Ok(file) => {
            let len = file.len().map_err(LogError::io("measure", &path))?;
            match header_of(&*file, &path)? {
                Err(
                    source @ (HeaderError::NewerVersion { .. }
                    | HeaderError::UnknownFeatures { .. }),
                ) => return Err(LogError::Header { path, source }),
                Err(error) => Some(error.to_string()),
                Ok((header, crc)) => mismatch(partition, entry, &header, crc).or_else(|| {
                    let synced = entry.state == SegmentState::Sealed;
                    (synced && len < entry.end_position.get()).then(|| {
                        format!("it has {len} bytes, and {} were synced", entry.end_position)
                    })
                }),
            }
        }
    };
    Ok(detail.map(|detail| Damage {
        offset: entry.start_offset,
        path,
        position: Position::ZERO,
        detail,
    }))
}

/// What a listed segment's header says otherwise than its entry.
pub(crate) fn mismatch(
    partition: PartitionId,
    entry: &SegmentEntry,
    header: &SegmentHeader,
    header_crc: u32,
) -> Option<String> {
    let same = header.partition == partition
        && header.id == entry.id
        && header.generation == entry.generation
        && header.base_offset == entry.base_offset
        && header.salt == entry.salt
        && header_crc == entry.header_crc;
    (!same).then(|| "its header is not the one that the MANIFEST lists".to_string())
}

/// The first segment file with a byte behind its header that is not zero.
pub(crate) fn first_with_records<'a>(
    dir: &PartitionDir,
    names: &'a [String],
) -> Result<Option<&'a str>, LogError> {
    for (name, _) in segments(names) {
        if holds_records(dir, name)? {
            return Ok(Some(name));
        }
    }
    Ok(None)
}

/// Removes segment files without records, where there is no MANIFEST.
pub(super) fn remove_bare(dir: &PartitionDir, names: &[String]) -> Result<(), LogError> {
    for (name, _) in segments(names) {
        dir.remove_if_there(&dir.path.join(name))?;
    }
    Ok(())
}

/// Moves unlisted files aside; an index without its segment is derived from what is gone, and is removed.
pub(super) fn clear_unlisted(
    dir: &PartitionDir,
    manifest: &Manifest,
    names: &[String],
) -> Result<(), LogError> {
    let is_index = |name: &&String| name.ends_with(".index");
    let listed = |name: &&String| {
        manifest.segments.iter().any(|entry| {
            **name == segment_name(entry.base_offset, entry.id)
                || **name == index_name(entry.base_offset, entry.id)
                || (entry.producers_crc != 0
                    && **name == producers_name(entry.base_offset, entry.id))
        })
    };
    let unlisted: Vec<&String> = names
        .iter()
        .filter(|name| !name.starts_with(MANIFEST_NAME) && !listed(name))
        .collect();
    for name in unlisted.iter().copied().filter(is_index) {
        dir.remove_if_there(&dir.path.join(name))?;
    }
    let others = unlisted.iter().copied().filter(|name| !is_index(name));
    dir.set_aside(others.map(String::as_str))
}

fn segments(names: &[String]) -> impl Iterator<Item = (&str, Offset)> {
    names
        .iter()
        .filter_map(|name| parse_segment_name(name).map(|(base, _)| (name.as_str(), base)))
}

fn unlisted_segments<'a>(
    manifest: &Manifest,
    names: &'a [String],
) -> impl Iterator<Item = (&'a str, Offset)> {
    segments(names).filter(|(name, _)| {
        !manifest
            .segments
            .iter()
            .any(|entry| *name == segment_name(entry.base_offset, entry.id))
    })
}

fn read_header(
    dir: &PartitionDir,
    name: &str,
) -> Result<Result<(SegmentHeader, u32), HeaderError>, LogError> {
    let path = dir.path.join(name);
    let file = dir
        .disk
        .open(&path, OpenMode::Read)
        .map_err(LogError::io("open", &path))?;
    header_of(&*file, &path)
}

fn header_of(
    file: &dyn File,
    path: &Path,
) -> Result<Result<(SegmentHeader, u32), HeaderError>, LogError> {
    let len = file.len().map_err(LogError::io("measure", path))?;
    let mut bytes = vec![0; usize::try_from(len.min(SEGMENT_HEADER_LEN)).expect("a small number")];
    file.read_exact_at(&mut bytes, 0)
        .map_err(LogError::io("read", path))?;
    Ok(SegmentHeader::decode(&bytes))
}

fn holds_records(dir: &PartitionDir, name: &str) -> Result<bool, LogError> {
    let path = dir.path.join(name);
    let file = dir
        .disk
        .open(&path, OpenMode::Read)
        .map_err(LogError::io("open", &path))?;
    torn::last_nonzero(&*file, SEGMENT_HEADER_LEN)
        .map(|found| found.is_some())
        .map_err(LogError::io("read", &path))
}
