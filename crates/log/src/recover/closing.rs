//! Recovery of a segment that had ended, and was not known to be on disk whole.
//!
//! Nothing behind it was acknowledged as durable, or shown to anybody. So if a power cut has taken its end, what lies
//! behind it goes with it.

use std::ops::ControlFlow;
use std::sync::Arc;

use flowstone_disk::OpenMode;
use flowstone_format::{FloorSlot, Manifest, Position, SegmentEntry, SegmentState};

use super::active::{Ending, open, settle};
use super::{Recovered, files, sealed, torn};
use crate::active::FIRST_FRAME;
use crate::config::LogConfig;
use crate::dir::PartitionDir;
use crate::error::{Damage, LogError};
use crate::producers::ProducerState;
use crate::tail::Tail;
use crate::view::SegmentView;

/// Seals the segment that is closing, if there is one: at its end, or where a power cut has cut it short. Answers with
/// the MANIFEST that says so, or with what became of the partition.
pub(super) fn recover(
    dir: &PartitionDir,
    mut manifest: Manifest,
    floor: Option<&FloorSlot>,
    config: &LogConfig,
) -> Result<ControlFlow<Recovered, Manifest>, LogError> {
    let Some(number) = number(&manifest) else {
        return Ok(ControlFlow::Continue(manifest));
    };
    let entry = manifest.segments[number].clone();
    let mut views: Vec<_> = sealed(&manifest)
        .take_while(|before| before.id != entry.id)
        .map(|before| Arc::new(SegmentView::new(dir, before, config)))
        .collect();
    if let Some(damage) = files::check_segment(dir, manifest.partition, &entry)? {
        return Ok(ControlFlow::Break(Recovered::damaged(
            manifest, views, damage,
        )));
    }
    let previous = number.checked_sub(1).map(|n| &manifest.segments[n]);
    let tail = Tail::before(&entry, previous);
    let mut segment = open(dir, &entry.as_begun(previous), config)?;
    let (tail, ending) = settle(&mut segment, tail, floor, |_| ())?;
    views.push(Arc::clone(&segment.view));
    let whole = match judge(dir, &manifest, number, tail, ending, floor)? {
        Ok(whole) => whole,
        Err(detail) => {
            let damage = Damage {
                offset: tail.next_offset,
                path: segment.path,
                position: segment.staged_end,
                detail,
            };
            return Ok(ControlFlow::Break(Recovered::damaged(
                manifest, views, damage,
            )));
        }
    };
    let mut decided = manifest.clone();
    decided.segments[number] = segment.ended_entry(&tail);
    if !whole {
        tracing::info!(
            file = %segment.path.display(), position = %segment.staged_end,
            offset = %tail.next_offset,
            "a segment was cut short before it was synced; what was written behind it is sealed off"
        );
        decided.segments.truncate(number + 1);
    }
    match dir.write_manifest(&decided) {
        Ok(()) => manifest = decided,
        Err(full @ LogError::DiskFull { .. }) => {
            segment.view.seal(tail.next_offset, segment.durable_end);
            return Ok(ControlFlow::Break(Recovered {
                manifest,
                active: None,
                tail,
                damage: None,
                views,
                producers: ProducerState::default(),
                unsealed: Some(full),
            }));
        }
        Err(error) => return Err(error),
    }
    if whole {
        segment.finish(dir);
    }
    Ok(ControlFlow::Continue(manifest))
}

/// Which of the listed segments is closing.
fn number(manifest: &Manifest) -> Option<usize> {
    let is_closing = |entry: &SegmentEntry| entry.state == SegmentState::Closing;
    manifest.segments.iter().position(is_closing)
}

/// Whether a closing segment of which the frames up to `tail` are there is whole; what is wrong if it cannot be that
/// the rest of it was never on disk.
pub(crate) fn judge(
    dir: &PartitionDir,
    manifest: &Manifest,
    number: usize,
    tail: Tail,
    ending: Ending,
    floor: Option<&FloorSlot>,
) -> Result<Result<bool, String>, LogError> {
    let entry = &manifest.segments[number];
    if let Ending::Rot(detail) = ending {
        return Ok(Err(detail));
    }
    if tail == Tail::after(entry) && matches!(ending, Ending::Clean) {
        return Ok(Ok(true));
    }
    if tail.next_offset >= entry.end_offset {
        return Ok(Err("it ends otherwise than the MANIFEST says".to_owned()));
    }
    let proof = if floor.is_some_and(|slot| slot.generation > entry.generation) {
        Some("FLOOR")
    } else if is_any_durable(dir, &manifest.segments[number + 1..])? {
        Some("the segment behind it")
    } else {
        None
    };
    Ok(match proof {
        Some(who) => Err(format!(
            "records up to offset {} were acknowledged, as {who} tells, and they end at {}",
            entry.end_offset, tail.next_offset
        )),
        None => Ok(false),
    })
}

/// Whether a frame of these segments tells that a sync of one before it had returned: nothing behind a segment that is
/// closing is synced before the MANIFEST says that it is sealed.
fn is_any_durable(dir: &PartitionDir, behind: &[SegmentEntry]) -> Result<bool, LogError> {
    for entry in behind {
        let path = dir.segment_path(entry.base_offset, entry.id);
        let upto = dir
            .disk
            .open(&path, OpenMode::Read)
            .and_then(|file| torn::durable_upto_behind(&*file, FIRST_FRAME.get(), entry.salt));
        let upto = upto.map_err(LogError::io("read", &path))?;
        if upto.is_some_and(|upto: Position| upto > FIRST_FRAME) {
            return Ok(true);
        }
    }
    Ok(false)
}
