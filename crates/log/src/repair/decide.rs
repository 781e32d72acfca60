//! What becomes of each segment: it stays, is sealed before its damage, is followed by a new one, or goes.

use std::ops::Range;

use flowstone_format::{Generation, Offset, Position, SegmentEntry, SegmentState};

use crate::dir::PartitionDir;
use crate::error::{Damage, LogError};
use crate::inspect::{PartitionReport, SegmentReport};
use crate::repair::salvage::{Run, Salvaged, limit_of, salvage};
use crate::repair::sources::{Source, Sources};
use crate::repair::write::{NewSegment, Part};
use crate::repair::{Planned, Repair, SegmentRepair};

impl Repair {
    /// Decides about one segment.
    pub(super) fn add_segment(
        &mut self,
        dir: &PartitionDir,
        sources: &Sources,
        number: usize,
        least_end: Offset,
        report: &PartitionReport,
    ) -> Result<(), LogError> {
        let source = &sources.segments[number];
        let offsets = sources.offsets(number);
        let is_last = number + 1 == sources.segments.len();
        if !is_last && offsets.end <= self.log_start_offset && !is_sound(source, report) {
            // Nobody reads there; its file is moved aside.
            return Ok(());
        }
        if let Some(sound) = sound(source, report)
            && (source.entry.has_ended() || (is_last && sound.end_offset >= least_end))
        {
            let mut entry = source.entry.clone();
            entry.start_offset = entry.start_offset.max(self.planned_start());
            self.kept_records += sound.record_count;
            self.kept_bytes += sound.frame_bytes();
            self.planned.push(Planned::Keep(entry));
            let end = if is_last { least_end } else { offsets.end };
            if source.entry.has_ended() && source.entry.end_offset < end {
                let gap = source.entry.end_offset..end;
                self.add_gap(source.entry.generation, gap, next_index(sources, number));
            }
            return Ok(());
        }
        self.add_damaged(dir, sources, number, least_end)
    }

    /// Keeps of a damaged segment what is left.
    fn add_damaged(
        &mut self,
        dir: &PartitionDir,
        sources: &Sources,
        number: usize,
        least_end: Offset,
    ) -> Result<(), LogError> {
        let source = &sources.segments[number];
        let (entry, offsets) = (&source.entry, sources.offsets(number));
        let is_last = number + 1 == sources.segments.len();
        let path = dir.segment_path(entry.base_offset, entry.id);
        let is_sealed = entry.has_ended();
        let mut left = Salvaged::default();
        if let Some(file) = &source.file {
            let most = is_sealed.then_some(entry.end_position);
            let limit = limit_of(&**file, most).map_err(LogError::io("measure", &path))?;
            left = salvage(&**file, entry.salt, limit, &offsets).map_err(|newer| Damage {
                offset: entry.base_offset,
                path: path.clone(),
                position: newer.position,
                detail: format!(
                    "a newer version wrote this, nothing was changed: {}",
                    newer.detail
                ),
            })?;
        }
        let (known_end, known_index) = left.known_lost.unwrap_or((Offset::ZERO, 0));
        let start = entry.start_offset.max(self.planned_start());
        let mut runs = left
            .runs
            .into_iter()
            .filter(|run| run.end() > start)
            .peekable();
        let mut change = SegmentRepair {
            path: source.file.is_some().then_some(path),
            sealed_at: None,
            copied_records: 0,
            copied_bytes: 0,
            lost: Vec::new(),
        };
        let mut at = runs.peek().map_or(start, |run| run.start().min(start));
        if source.header_ok
            && let Some(run) = runs.next_if(|run| run.begins(entry))
        {
            at = run.end();
            change.sealed_at = Some((at, Position::new(run.bytes.end)));
            self.keep(&run);
            self.planned
                .push(Planned::Keep(sealed(source, &run, start)));
        }
        let mut parts = Vec::new();
        for run in runs {
            if at < run.start() {
                parts.push(Part::Gap {
                    offsets: at..run.start(),
                    last_index: Some(run.first.entry_index - 1),
                    next: Some((run.first.append_ms, run.first.leader_epoch)),
                });
            }
            at = run.end();
            change.copied_records += run.records;
            change.copied_bytes += run.bytes.end - run.bytes.start;
            self.keep(&run);
            parts.push(Part::Frames(Box::new(run)));
        }
        let sealed_end = if is_sealed {
            entry.end_offset
        } else {
            Offset::ZERO
        };
        let end = if is_last {
            at.max(known_end).max(sealed_end).max(least_end)
        } else {
            offsets.end
        };
        if at < end {
            let last_index = if is_sealed && end == entry.end_offset {
                Some(entry.last_index)
            } else {
                next_index(sources, number).or_else(|| (known_end == end).then_some(known_index))
            };
            parts.push(Part::Gap {
                offsets: at..end,
                last_index,
                next: None,
            });
        }
        change.lost = parts
            .iter()
            .filter_map(|part| match part {
                Part::Gap { offsets, .. } => Some(offsets.clone()),
                Part::Frames(_) => None,
            })
            .collect();
        if !parts.is_empty() {
            let new = NewSegment {
                generation: entry.generation,
                after_ms: source.created_ms,
                start_offset: start,
                parts,
            };
            self.planned.push(Planned::Write(new, Some(number)));
        }
        self.segments.push(change);
        Ok(())
    }

    /// Offsets that no file is left of.
    pub(super) fn add_gap(
        &mut self,
        generation: Generation,
        offsets: Range<Offset>,
        last_index: Option<u64>,
    ) {
        self.segments.push(SegmentRepair {
            path: None,
            sealed_at: None,
            copied_records: 0,
            copied_bytes: 0,
            lost: vec![offsets.clone()],
        });
        let new = NewSegment {
            generation,
            after_ms: i64::MIN,
            start_offset: offsets.start,
            parts: vec![Part::Gap {
                offsets,
                last_index,
                next: None,
            }],
        };
        self.planned.push(Planned::Write(new, None));
    }

    fn keep(&mut self, run: &Run) {
        self.kept_records += run.records;
        self.kept_bytes += run.bytes.end - run.bytes.start;
    }

    /// The first offset that the next segment may show.
    fn planned_start(&self) -> Offset {
        if self.planned.is_empty() {
            self.log_start_offset
        } else {
            Offset::ZERO
        }
    }

    pub(super) fn planned_end(&self, report: &PartitionReport) -> Offset {
        match self.planned.last() {
            Some(Planned::Keep(entry)) if entry.has_ended() => entry.end_offset,
            Some(Planned::Keep(_)) => report.end_offset(),
            Some(Planned::Write(new, _)) => new.end_offset(),
            None => self.log_start_offset,
        }
    }
}

/// The report of a segment that needs no repair.
fn sound<'a>(source: &Source, report: &'a PartitionReport) -> Option<&'a SegmentReport> {
    let found = report
        .segments
        .iter()
        .find(|segment| segment.entry.id == source.entry.id)?;
    let damaged = report
        .damages
        .iter()
        .any(|damage| damage.path == found.path);
    // Of one that is closing something may never have come to disk.
    let is_short = source.entry.has_ended() && found.end_offset < source.entry.end_offset;
    (source.listed && source.header_ok && !damaged && !is_short).then_some(found)
}

fn is_sound(source: &Source, report: &PartitionReport) -> bool {
    sound(source, report).is_some()
}

/// The entry of a segment that ends with the run that it begins with.
fn sealed(source: &Source, run: &Run, start_offset: Offset) -> SegmentEntry {
    let entry = &source.entry;
    let (first_epoch, first_index) = if source.listed {
        (entry.first_epoch, entry.first_index)
    } else {
        (run.first.leader_epoch, run.first.entry_index)
    };
    SegmentEntry {
        start_offset,
        end_offset: run.end(),
        end_position: Position::new(run.bytes.end),
        first_epoch,
        first_index,
        last_epoch: run.last.leader_epoch,
        last_index: run.last.entry_index,
        last_header_crc: run.last_header_crc,
        max_timestamp_ms: run.max_timestamp_ms,
        last_append_ms: run.last.append_ms,
        state: SegmentState::Sealed,
        ..entry.clone()
    }
}

/// The entry index before the segment that follows, if it is known.
fn next_index(sources: &Sources, number: usize) -> Option<u64> {
    let next = sources.segments.get(number + 1)?;
    next.first_index.map(|index| index - 1)
}
