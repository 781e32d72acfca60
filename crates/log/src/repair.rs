//! Brings a damaged partition back: what is lost becomes gaps, every valid frame is kept, also
//! behind the damage. `docs/durability.md`, "Repair", has the rules.

mod decide;
mod execute;
mod producers;
mod salvage;
mod sources;
mod write;

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use flowstone_disk::Disk;
use flowstone_format::{
    Generation, Offset, PARTITIONS_DIR, PartitionId, Position, SegmentEntry, parse_segment_name,
    partition_dir_name, segment_name,
};

use crate::dir::PartitionDir;
use crate::error::{Damage, LogError};
use crate::floor::Floor;
use crate::inspect::{self, PartitionReport, SegmentReport, SnapshotFault};
use sources::Source;
use write::NewSegment;

/// What a repair would do, or has done, to one partition.
#[derive(Debug)]
pub struct Repair {
    /// The partition.
    pub partition: PartitionId,
    /// Its directory.
    pub path: PathBuf,
    /// All that is wrong with its records. Nothing is done to a sound partition, which has none, and
    /// no fault in `snapshots`.
    pub damages: Vec<Damage>,
    /// Producer snapshots that are written anew.
    pub snapshots: Vec<SnapshotFault>,
    /// Why its MANIFEST is made anew from the headers of the segments, if it is. Records that were
    /// trimmed may show again then.
    pub manifest_rebuilt: Option<String>,
    /// The first offset that can be read afterwards.
    pub log_start_offset: Offset,
    /// The next offset to be assigned afterwards.
    pub end_offset: Offset,
    /// The segments that change.
    pub segments: Vec<SegmentRepair>,
    /// How many records are kept, in all segments.
    pub kept_records: u64,
    /// Bytes of the frames that are kept.
    pub kept_bytes: u64,
    /// Files that are moved aside, since nothing of them is read any more.
    pub aside: Vec<PathBuf>,
    generation: Generation,
    planned: Vec<Planned>,
    sources: Vec<Source>,
}

/// What happens to one damaged segment.
#[derive(Clone, Debug)]
pub struct SegmentRepair {
    /// Its file; `None` where offsets are missing between the files that are left.
    pub path: Option<PathBuf>,
    /// Up to which offset and byte it stays in use, as it is; `None` if it does not.
    pub sealed_at: Option<(Offset, Position)>,
    /// How many records are copied from it into a new segment.
    pub copied_records: u64,
    /// Bytes of the frames that are copied.
    pub copied_bytes: u64,
    /// Offsets whose records are lost.
    pub lost: Vec<Range<Offset>>,
}

/// An entry of the MANIFEST to come.
#[derive(Clone, Debug)]
enum Planned {
    /// It stays, or is sealed where the damage begins.
    Keep(SegmentEntry),
    /// It is written, with frames of this source.
    Write(NewSegment, Option<usize>),
}

/// Finds out what a repair would do; changes nothing. `least_end` is the greatest offset that anyone
/// has committed in the partition: no offset below it is given out again. No process may have the
/// directory open.
///
/// # Errors
/// When the disk fails in a way that repair cannot work around, or a newer version wrote the files.
pub fn plan(
    disk: &Arc<dyn Disk>,
    data_dir: &Path,
    partition: PartitionId,
    least_end: Offset,
) -> Result<Repair, LogError> {
    let path = data_dir
        .join(PARTITIONS_DIR)
        .join(partition_dir_name(partition));
    let dir = PartitionDir::new(Arc::clone(disk), &path);
    let floor = match Floor::open_read_only(disk, data_dir)? {
        Some(floor) => floor.get(partition)?,
        None => None,
    };
    let report = look(disk, data_dir, partition, &path)?;
    let mut repair = Repair {
        partition,
        path,
        log_start_offset: report.log_start_offset,
        end_offset: report.end_offset(),
        kept_records: report.segments.iter().map(|one| one.record_count).sum(),
        kept_bytes: report.segments.iter().map(SegmentReport::frame_bytes).sum(),
        damages: report.damages.clone(),
        snapshots: report.snapshots.clone(),
        manifest_rebuilt: None,
        segments: Vec::new(),
        aside: Vec::new(),
        generation: Generation::ZERO,
        planned: Vec::new(),
        sources: Vec::new(),
    };
    if repair.is_sound() {
        return Ok(repair);
    }
    let names = dir.file_names()?;
    let sources = sources::collect(&dir, partition, floor.as_ref(), &names)?;
    (repair.kept_records, repair.kept_bytes) = (0, 0);
    repair.manifest_rebuilt = sources.rebuilt.clone();
    repair.log_start_offset = sources.log_start_offset;
    repair.generation = sources.generation;
    let told_end = floor.map_or(Offset::ZERO, |slot| slot.offset);
    let least_end = told_end
        .max(least_end)
        .max(sources.unknown_base.unwrap_or(Offset::ZERO))
        .max(sources.log_start_offset);
    for number in 0..sources.segments.len() {
        repair.add_segment(&dir, &sources, number, least_end, &report)?;
    }
    if sources.segments.is_empty() && least_end > repair.log_start_offset {
        repair.generation = repair.generation.max(Generation::ZERO.next());
        let gap = repair.log_start_offset..least_end;
        repair.add_gap(repair.generation, gap, None);
    }
    repair.end_offset = repair.planned_end(&report);
    repair.aside = repair.files_aside(&names);
    repair.sources = sources.segments;
    Ok(repair)
}

/// Looks at the partition as `log verify` does. A file that cannot be read is damage here.
fn look(
    disk: &Arc<dyn Disk>,
    data_dir: &Path,
    partition: PartitionId,
    path: &Path,
) -> Result<PartitionReport, LogError> {
    match inspect::inspect(disk, data_dir, partition, |_, _| {}) {
        Err(LogError::Io {
            operation: "read",
            path: file,
            source,
        }) => Ok(PartitionReport {
            partition,
            path: path.to_path_buf(),
            floor: None,
            log_start_offset: Offset::ZERO,
            generation: 0,
            segments: Vec::new(),
            snapshots: Vec::new(),
            damages: vec![Damage {
                offset: Offset::ZERO,
                path: file,
                position: Position::ZERO,
                detail: format!("it could not be read: {source}"),
            }],
        }),
        looked => looked,
    }
}

impl Repair {
    /// Whether there is nothing to repair.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        self.damages.is_empty() && self.snapshots.is_empty()
    }

    /// How many offsets are lost.
    #[must_use]
    pub fn lost_offsets(&self) -> u64 {
        let lost = self.segments.iter().flat_map(|segment| &segment.lost);
        lost.map(|offsets| offsets.end - offsets.start).sum()
    }

    /// Segment files that the MANIFEST to come does not list.
    fn files_aside(&self, names: &[String]) -> Vec<PathBuf> {
        let kept: Vec<_> = self
            .planned
            .iter()
            .filter_map(|planned| match planned {
                Planned::Keep(entry) => Some(segment_name(entry.base_offset, entry.id)),
                Planned::Write(..) => None,
            })
            .collect();
        names
            .iter()
            .filter(|name| parse_segment_name(name).is_some() && !kept.contains(name))
            .map(|name| self.path.join(name))
            .collect()
    }
}
