//! What a partition was made of, as far as MANIFEST and the headers of the segments still tell.

use std::io;
use std::ops::Range;
use std::sync::Arc;

use flowstone_disk::{File, OpenMode};
use flowstone_format::{
    FloorSlot, Generation, HeaderError, Location, Manifest, Offset, PartitionId, SegmentEntry,
    SegmentHeader, SegmentState, parse_segment_name, segment_name,
};

use crate::active::FIRST_FRAME;
use crate::dir::PartitionDir;
use crate::error::LogError;
use crate::recover::files;
use crate::repair::salvage;

/// A segment that the log consists of, sound or not.
#[derive(Debug)]
pub(super) struct Source {
    /// From the MANIFEST; of a segment that it does not list, what its header tells.
    pub(super) entry: SegmentEntry,
    /// Whether the MANIFEST lists it.
    pub(super) listed: bool,
    /// The entry index of its first frame, if that is known.
    pub(super) first_index: Option<u64>,
    /// When it was made.
    pub(super) created_ms: i64,
    /// `None` when the file is missing.
    pub(super) file: Option<Arc<dyn File>>,
    /// Whether the header is the one it should have. Without it readers cannot use the file.
    pub(super) header_ok: bool,
}

/// Everything that a repair begins with.
#[derive(Debug)]
pub(super) struct Sources {
    /// In the order of the log. None begins at or behind the base of a later one.
    pub(super) segments: Vec<Source>,
    /// Why the MANIFEST is made anew from the headers, if it is.
    pub(super) rebuilt: Option<String>,
    pub(super) log_start_offset: Offset,
    pub(super) generation: Generation,
    /// The greatest base of a file whose header cannot be read and whose salt nobody knows.
    pub(super) unknown_base: Option<Offset>,
}

/// Collects what is known of a partition.
pub(super) fn collect(
    dir: &PartitionDir,
    partition: PartitionId,
    floor: Option<&FloorSlot>,
    names: &[String],
) -> Result<Sources, LogError> {
    let (manifest, mut rebuilt) = read_manifest(dir, partition)?;
    if let Some(manifest) = &manifest {
        rebuilt = files::proof_of_newer_manifest(dir, manifest, floor, names)?;
    }
    let mut generation = floor.map_or(Generation::ZERO, |slot| slot.generation);
    let mut segments = Vec::new();
    for entry in manifest.iter().flat_map(|manifest| &manifest.segments) {
        segments.push(listed(dir, partition, entry)?);
    }
    let mut unknown_base = None;
    let newest = manifest.as_ref().map_or(Generation::ZERO, |m| m.generation);
    generation = generation.max(newest);
    if rebuilt.is_some() {
        for name in names {
            let Some((base, _)) = parse_segment_name(name) else {
                continue;
            };
            let of_source =
                |one: &Source| *name == segment_name(one.entry.base_offset, one.entry.id);
            if segments.iter().any(of_source) {
                continue;
            }
            match unlisted(dir, partition, name)? {
                Some(source) if source.entry.generation > newest => segments.push(source),
                Some(_) => {}
                None => unknown_base = unknown_base.max(Some(base)),
            }
        }
    }
    let order = |one: &Source| (one.entry.generation, one.entry.base_offset, one.created_ms);
    segments.sort_by_key(order);
    // A later generation ends every earlier one where it begins: what lies behind was cut off.
    let mut end = None;
    for number in (0..segments.len()).rev() {
        let base = segments[number].entry.base_offset;
        if end.is_some_and(|end| base >= end) {
            segments.remove(number);
        } else {
            end = Some(base);
        }
    }
    generation = segments
        .iter()
        .map(|one| one.entry.generation)
        .fold(generation, Generation::max);
    let lowest = segments
        .first()
        .map_or(Offset::ZERO, |one| one.entry.base_offset);
    Ok(Sources {
        log_start_offset: manifest.map_or(lowest, |manifest| manifest.log_start_offset),
        segments,
        rebuilt,
        generation,
        unknown_base,
    })
}

impl Sources {
    /// The offsets that a segment may hold: up to where the next one begins.
    pub(super) fn offsets(&self, number: usize) -> Range<Offset> {
        let end = self
            .segments
            .get(number + 1)
            .map(|next| next.entry.base_offset);
        self.segments[number].entry.base_offset..end.unwrap_or(Offset::MAX)
    }
}

/// The MANIFEST, or why it cannot be used.
fn read_manifest(
    dir: &PartitionDir,
    partition: PartitionId,
) -> Result<(Option<Manifest>, Option<String>), LogError> {
    let path = dir.manifest_path();
    let bytes = match dir.read_file(&path) {
        Ok(Some(bytes)) => bytes,
        Ok(None) => return Ok((None, Some("it is missing".to_owned()))),
        Err(LogError::Io {
            operation: "read",
            source,
            ..
        }) => return Ok((None, Some(format!("it could not be read: {source}")))),
        Err(error) => return Err(error),
    };
    match Manifest::decode(&bytes) {
        Ok(manifest) if manifest.partition == partition => Ok((Some(manifest), None)),
        Ok(other) => Ok((
            None,
            Some(format!("it is of partition {}", other.partition)),
        )),
        Err(source @ (HeaderError::NewerVersion { .. } | HeaderError::UnknownFeatures { .. })) => {
            Err(LogError::Header { path, source })
        }
        Err(error) => Ok((None, Some(error.to_string()))),
    }
}

fn listed(
    dir: &PartitionDir,
    partition: PartitionId,
    entry: &SegmentEntry,
) -> Result<Source, LogError> {
    let file = open(dir, &segment_name(entry.base_offset, entry.id))?;
    let header = match &file {
        Some(file) => read_header(&**file),
        None => None,
    };
    let header_ok = match &header {
        Some(Ok((header, crc))) => files::mismatch(partition, entry, header, *crc).is_none(),
        Some(Err(source)) if is_newer(source) => {
            return Err(LogError::Header {
                path: dir.segment_path(entry.base_offset, entry.id),
                source: source.clone(),
            });
        }
        _ => false,
    };
    Ok(Source {
        entry: entry.clone(),
        listed: true,
        first_index: Some(entry.first_index),
        created_ms: match header {
            Some(Ok((header, _))) => header.created_ms,
            _ => i64::MIN,
        },
        file,
        header_ok,
    })
}

/// A segment that only its own header speaks of; `None` when that cannot be read.
fn unlisted(
    dir: &PartitionDir,
    partition: PartitionId,
    name: &str,
) -> Result<Option<Source>, LogError> {
    let Some(file) = open(dir, name)? else {
        return Ok(None);
    };
    let (header, header_crc) = match read_header(&*file) {
        Some(Ok(decoded)) => decoded,
        Some(Err(source)) if is_newer(&source) => {
            let path = dir.path.join(name);
            return Err(LogError::Header { path, source });
        }
        _ => return Ok(None),
    };
    if header.partition != partition || segment_name(header.base_offset, header.id) != name {
        return Ok(None);
    }
    Ok(Some(Source {
        entry: entry_of(&header, header_crc),
        listed: false,
        first_index: salvage::first_index(&*file, header.salt),
        created_ms: header.created_ms,
        file: Some(file),
        header_ok: true,
    }))
}

/// A segment without frames, as its header tells.
pub(super) fn entry_of(header: &SegmentHeader, header_crc: u32) -> SegmentEntry {
    SegmentEntry {
        id: header.id,
        generation: header.generation,
        base_offset: header.base_offset,
        start_offset: header.base_offset,
        end_offset: header.base_offset,
        end_position: FIRST_FRAME,
        first_epoch: 1,
        last_epoch: 1,
        first_index: 1,
        last_index: 0,
        salt: header.salt,
        header_crc,
        last_header_crc: header_crc,
        max_timestamp_ms: i64::MIN,
        last_append_ms: i64::MIN,
        location: Location::Local,
        state: SegmentState::Active,
        producers_crc: 0,
    }
}

fn open(dir: &PartitionDir, name: &str) -> Result<Option<Arc<dyn File>>, LogError> {
    let path = dir.path.join(name);
    match dir.disk.open(&path, OpenMode::Read) {
        Ok(file) => Ok(Some(file)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(LogError::io("open", &path)(error)),
    }
}

/// `None` when there are not enough bytes, or they cannot be read.
fn read_header(file: &dyn File) -> Option<Result<(SegmentHeader, u32), HeaderError>> {
    let mut bytes = vec![0; usize::try_from(FIRST_FRAME.get()).expect("a small number")];
    file.read_exact_at(&mut bytes, 0).ok()?;
    Some(SegmentHeader::decode(&bytes))
}

fn is_newer(error: &HeaderError) -> bool {
    matches!(
        error,
        HeaderError::NewerVersion { .. } | HeaderError::UnknownFeatures { .. }
    )
}
