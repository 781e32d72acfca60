//! Looks at a partition's files without changing them: for `log inspect` and `log verify`.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use flowstone_disk::{Disk, OpenMode};
use flowstone_format::{
    FloorSlot, FrameHeader, Manifest, Offset, PARTITIONS_DIR, PartitionId, Position, SegmentEntry,
    SegmentState, parse_partition_dir_name, partition_dir_name,
};

/// The file in a data directory that a running broker holds locked.
pub use flowstone_format::LOCK_NAME;

use crate::active::FIRST_FRAME;
use crate::dir::PartitionDir;
use crate::error::{Damage, LogError};
use crate::floor::Floor;
use crate::recover::active::{Ending, Place, examine};
use crate::recover::{closing, files, producers};
use crate::scan::check_records;
use crate::scrub;
use crate::tail::Tail;

/// One frame as it lies in a file.
#[derive(Clone, Debug)]
pub struct FrameReport {
    /// Where it begins.
    pub position: Position,
    /// Its header, which has passed its checks.
    pub header: FrameHeader,
}

/// One segment of a partition.
#[derive(Clone, Debug)]
pub struct SegmentReport {
    /// The segment file.
    pub path: PathBuf,
    /// What the MANIFEST says of it.
    pub entry: SegmentEntry,
    /// How many valid frames it holds.
    pub frame_count: u64,
    /// How many records these hold.
    pub record_count: u64,
    /// The offset behind the last valid frame.
    pub end_offset: Offset,
    /// Where the last valid frame ends.
    pub end_position: Position,
    /// A write that a crash cut short lies behind it: it was not acknowledged as durable, and the
    /// next start seals it off.
    pub torn_tail: bool,
}

impl SegmentReport {
    /// Bytes of the valid frames.
    #[must_use]
    pub fn frame_bytes(&self) -> u64 {
        self.end_position.get().saturating_sub(FIRST_FRAME.get())
    }
}

/// A producer snapshot that is not as it was written. Records are as they were, but where older files
/// do not tell the same, requests with a producer are refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotFault {
    /// The snapshot's file.
    pub path: PathBuf,
    /// What is wrong with it.
    pub detail: String,
}

/// What lies in a partition's directory.
#[derive(Clone, Debug)]
pub struct PartitionReport {
    /// The partition.
    pub partition: PartitionId,
    /// Its directory.
    pub path: PathBuf,
    /// What FLOOR says of it.
    pub floor: Option<FloorSlot>,
    /// The first offset that has not been trimmed.
    pub log_start_offset: Offset,
    /// The greatest generation of its segments.
    pub generation: u64,
    /// Its segments, in order.
    pub segments: Vec<SegmentReport>,
    /// All that is wrong with its records; empty for a sound partition.
    pub damages: Vec<Damage>,
    /// The producer snapshots that are wrong; empty for a sound partition.
    pub snapshots: Vec<SnapshotFault>,
}

impl PartitionReport {
    /// The offset behind the last valid record.
    #[must_use]
    pub fn end_offset(&self) -> Offset {
        self.segments
            .last()
            .map_or(self.log_start_offset, |segment| segment.end_offset)
    }
}

/// The partitions that have a directory below `data_dir`, in order of their ids.
///
/// # Errors
/// When the directory cannot be listed.
pub fn partitions(disk: &Arc<dyn Disk>, data_dir: &Path) -> Result<Vec<PartitionId>, LogError> {
    let path = data_dir.join(PARTITIONS_DIR);
    let entries = disk.list(&path).map_err(LogError::io("list", &path))?;
    let mut ids: Vec<_> = entries
        .iter()
        .filter(|entry| entry.is_dir)
        .filter_map(|entry| parse_partition_dir_name(&entry.name))
        .collect();
    ids.sort();
    Ok(ids)
}

/// Walks through all frames of a partition and checks them: headers, checksums, order, records.
/// `on_frame` gets each valid one. Nothing is changed; no process may have the directory open.
///
/// # Errors
/// When the disk fails. Damage is not an error here: it stands in the report.
pub fn inspect(
    disk: &Arc<dyn Disk>,
    data_dir: &Path,
    partition: PartitionId,
    mut on_frame: impl FnMut(&SegmentEntry, &FrameReport),
) -> Result<PartitionReport, LogError> {
    inspect_payloads(disk, data_dir, partition, |segment, frame, _| {
        on_frame(segment, frame);
    })
}

/// The same, and `on_frame` gets the stored payload of each frame as well.
///
/// # Errors
/// As [`inspect`].
pub fn inspect_payloads(
    disk: &Arc<dyn Disk>,
    data_dir: &Path,
    partition: PartitionId,
    mut on_frame: impl FnMut(&SegmentEntry, &FrameReport, &[u8]),
) -> Result<PartitionReport, LogError> {
    let path = data_dir
        .join(PARTITIONS_DIR)
        .join(partition_dir_name(partition));
    let dir = PartitionDir::new(Arc::clone(disk), &path);
    let floor = match Floor::open_read_only(disk, data_dir)? {
        Some(floor) => floor.get(partition)?,
        None => None,
    };
    let mut report = PartitionReport {
        partition,
        path,
        floor,
        log_start_offset: Offset::ZERO,
        generation: 0,
        segments: Vec::new(),
        damages: Vec::new(),
        snapshots: Vec::new(),
    };
    let Some(manifest) = read_manifest(&dir, &mut report)? else {
        return Ok(report);
    };
    report.log_start_offset = manifest.log_start_offset;
    report.generation = manifest.generation.get();
    let names = dir.file_names()?;
    let newer = files::proof_of_newer_manifest(&dir, &manifest, floor.as_ref(), &names)?;
    if let Some(detail) = newer {
        let offset = manifest
            .segments
            .last()
            .map_or(Offset::ZERO, |last| last.base_offset);
        report.damages.push(manifest_damage(&dir, offset, detail));
    }
    for (number, entry) in manifest.segments.iter().enumerate() {
        match files::check_segment(&dir, partition, entry)? {
            Some(damage) => report.damages.push(damage),
            None => walk(&dir, &manifest, number, &mut report, &mut on_frame)?,
        }
        if let Err(detail) = producers::read_snapshot(&dir, partition, entry)? {
            report.snapshots.push(SnapshotFault {
                path: dir.producers_path(entry.base_offset, entry.id),
                detail,
            });
        }
        // What lies behind goes with it at the next start.
        let is_cut = report.segments.last().is_some_and(|last| last.torn_tail);
        if is_cut && entry.state == SegmentState::Closing {
            break;
        }
    }
    Ok(report)
}

fn read_manifest(
    dir: &PartitionDir,
    report: &mut PartitionReport,
) -> Result<Option<Manifest>, LogError> {
    let detail = match dir.read_file(&dir.manifest_path())? {
        Some(bytes) => match Manifest::decode(&bytes) {
            Ok(manifest) if manifest.partition == report.partition => return Ok(Some(manifest)),
            Ok(other) => format!("the MANIFEST is of partition {}", other.partition),
            Err(error) => error.to_string(),
        },
        None => {
            let names = dir.file_names()?;
            match (files::first_with_records(dir, &names)?, &report.floor) {
                (Some(name), _) => format!("the MANIFEST is missing, but {name} holds records"),
                (None, Some(slot)) => format!(
                    "the MANIFEST is missing, but FLOOR knows of records up to offset {}",
                    slot.offset
                ),
                (None, None) => return Ok(None),
            }
        }
    };
    report
        .damages
        .push(manifest_damage(dir, Offset::ZERO, detail));
    Ok(None)
}

fn manifest_damage(dir: &PartitionDir, offset: Offset, detail: String) -> Damage {
    Damage {
        offset,
        path: dir.manifest_path(),
        position: Position::ZERO,
        detail,
    }
}

/// Walks through one segment and adds what it finds to the report.
fn walk(
    dir: &PartitionDir,
    manifest: &Manifest,
    number: usize,
    report: &mut PartitionReport,
    on_frame: &mut impl FnMut(&SegmentEntry, &FrameReport, &[u8]),
) -> Result<(), LogError> {
    let entry = &manifest.segments[number];
    let previous = number.checked_sub(1).map(|n| &manifest.segments[n]);
    let path = dir.segment_path(entry.base_offset, entry.id);
    let file = dir
        .disk
        .open(&path, OpenMode::Read)
        .map_err(LogError::io("open", &path))?;
    let tail = Tail::before(entry, previous);
    let mut segment = SegmentReport {
        path: path.clone(),
        entry: entry.clone(),
        frame_count: 0,
        record_count: 0,
        end_offset: entry.base_offset,
        end_position: FIRST_FRAME,
        torn_tail: false,
    };
    let damages = &mut report.damages;
    let mut note = |position: Position, header: &FrameHeader, payload: &[u8]| {
        segment.frame_count += 1;
        segment.record_count += u64::from(header.record_count);
        segment.end_offset = header.next_offset();
        segment.end_position = position + header.frame_len();
        if let Err(detail) = check_records(header, payload) {
            damages.push(Damage {
                offset: header.base_offset,
                path: path.clone(),
                position,
                detail,
            });
        }
        let frame = FrameReport {
            position,
            header: header.clone(),
        };
        on_frame(entry, &frame, payload);
    };
    let wrong = match entry.state {
        SegmentState::Active | SegmentState::Closing => {
            let slot = report
                .floor
                .as_ref()
                .filter(|slot| slot.generation == entry.generation);
            let found = examine(
                &*file,
                entry.salt,
                Place::first(tail),
                slot,
                |frame, payload| {
                    note(frame.position, &frame.header, payload);
                },
            );
            let found = found.map_err(LogError::io("read", &path))?;
            let is_torn = match (entry.state, found.ending) {
                (SegmentState::Closing, ending) => {
                    let floor = report.floor.as_ref();
                    closing::judge(dir, manifest, number, found.tail, ending, floor)?
                        .map(|whole| !whole)
                }
                (_, Ending::Clean) => Ok(false),
                (_, Ending::Torn) => Ok(true),
                (_, Ending::Rot(detail)) => Err(detail),
            };
            match is_torn {
                Ok(torn) => {
                    segment.torn_tail = torn;
                    None
                }
                Err(detail) => Some(detail),
            }
        }
        SegmentState::Sealed => {
            let walked = scrub::walk(&*file, entry, previous, |frame, payload| {
                note(frame.position, &frame.header, payload);
                ControlFlow::Continue(())
            });
            walked.err().map(|broken| broken.detail)
        }
    };
    if let Some(detail) = wrong {
        report.damages.push(Damage {
            offset: segment.end_offset,
            path,
            position: segment.end_position,
            detail,
        });
    }
    report.segments.push(segment);
    Ok(())
}
