//! Recovery of the active segment: scan, judge the end, make it durable, seal off what is torn.

use std::io;
use std::sync::Arc;

use flowstone_disk::File;
use flowstone_format::{
    FRAME_HEADER_LEN, FloorSlot, FrameHeader, Manifest, PartitionId, Position, SegmentEntry,
    SegmentHeader,
};

use super::{Recovered, files, torn};
use crate::active::{Active, FIRST_FRAME};
use crate::config::LogConfig;
use crate::dir::PartitionDir;
use crate::error::{Damage, LogError};
use crate::open_segments::SegmentFile;
use crate::producers::ProducerState;
use crate::scan::{Bad, FrameAt, Scan, ScanError};
use crate::syncs::Syncs;
use crate::tail::Tail;
use crate::view::SegmentView;

const COPY_BYTES: u64 = 1 << 20;
/// Of what FLOOR knows to be on disk the last so many bytes are checked whole at a start.
const CHECKED_BELOW_FLOOR_BYTES: u64 = 64 << 20;

/// What lies behind the last valid frame of an active segment.
pub(crate) enum Ending {
    /// Nothing but zeros: the segment goes on.
    Clean,
    /// A write that was cut short: the segment is sealed before it.
    Torn,
    /// Bytes that were written and are not what they were.
    Rot(String),
}

/// Recovers the partition's active segment, the last that `manifest` lists. `producers` are as of
/// its base.
pub(super) fn recover(
    dir: &PartitionDir,
    partition: PartitionId,
    manifest: Manifest,
    floor: Option<&FloorSlot>,
    config: &LogConfig,
    mut views: Vec<Arc<SegmentView>>,
    mut producers: ProducerState,
) -> Result<Recovered, LogError> {
    let entry = manifest.segments.last().expect("the caller looked").clone();
    if let Some(damage) = files::check_segment(dir, partition, &entry)? {
        return Ok(Recovered::damaged(manifest, views, damage));
    }
    let previous = manifest.segments.iter().rev().nth(1);
    let tail = Tail::before(&entry, previous);
    let mut active = open(dir, &entry, config)?;
    let (tail, ending) = settle(&mut active, tail, floor, |header| producers.apply(header))?;
    views.push(Arc::clone(&active.view));
    match ending {
        Ending::Clean => Ok(Recovered {
            manifest,
            active: Some(active),
            tail,
            damage: None,
            views,
            producers,
            unsealed: None,
        }),
        Ending::Rot(detail) => {
            let damage = Damage {
                offset: tail.next_offset,
                path: active.path,
                position: active.staged_end,
                detail,
            };
            Ok(Recovered::damaged(manifest, views, damage))
        }
        Ending::Torn => {
            tracing::info!(
                file = %active.path.display(), position = %active.staged_end,
                offset = %tail.next_offset, "a torn tail is sealed off"
            );
            seal(dir, manifest, &active, tail, views, producers)
        }
    }
}

/// Walks through a segment that was opened, and makes all of it durable that counts. Answers with where it ends, and what
/// lies behind.
pub(super) fn settle(
    active: &mut Active,
    tail: Tail,
    floor: Option<&FloorSlot>,
    mut on_header: impl FnMut(&FrameHeader),
) -> Result<(Tail, Ending), LogError> {
    let slot = floor.filter(|slot| slot.generation == active.entry.generation);
    let (file, salt) = (Arc::clone(&active.file), active.entry.salt);
    let mut note = |header: &FrameHeader| {
        active.note_frame(header);
        on_header(header);
    };
    let found = walk_acknowledged(&*file, salt, tail, slot, &mut note)
        .and_then(|from| examine(&*file, salt, from, slot, |frame, _| note(&frame.header)));
    let found = found.map_err(LogError::io("read", &active.path))?;
    active.written_end = active.staged_end;
    make_durable(active, found.floor)?;
    active.durable_end = active.staged_end;
    active.durable_offset = found.tail.next_offset;
    active.view.publish(active.durable_end);
    Ok((found.tail, found.ending))
}

/// Seals the segment before its torn tail. The file stays as it is: the torn bytes behind the
/// seal are the copy that is kept.
fn seal(
    dir: &PartitionDir,
    mut manifest: Manifest,
    active: &Active,
    tail: Tail,
    views: Vec<Arc<SegmentView>>,
    producers: ProducerState,
) -> Result<Recovered, LogError> {
    let last = manifest
        .segments
        .last_mut()
        .expect("the active segment is listed");
    *last = active.ended_entry(&tail);
    let unsealed = match dir.write_manifest(&manifest) {
        Ok(()) => None,
        Err(full @ LogError::DiskFull { .. }) => Some(full),
        Err(error) => return Err(error),
    };
    let index = active.view.encoded_index();
    active.view.seal(tail.next_offset, active.durable_end);
    if let Some(index) = index {
        dir.write_index(active.view.index_path(), &index);
    }
    Ok(Recovered {
        manifest,
        active: None,
        tail,
        damage: None,
        views,
        producers,
        unsealed,
    })
}

/// Opens a segment that may still have to be written to.
pub(super) fn open(
    dir: &PartitionDir,
    entry: &SegmentEntry,
    config: &LogConfig,
) -> Result<Active, LogError> {
    let path = dir.segment_path(entry.base_offset, entry.id);
    let file = SegmentFile::existing(&dir.disk, &path, &dir.open.files);
    let mut header = vec![0; usize::try_from(FIRST_FRAME.get()).expect("a small number")];
    file.read_exact_at(&mut header, 0)
        .map_err(LogError::io("read", &path))?;
    let (header, _) = SegmentHeader::decode(&header).map_err(|source| LogError::Header {
        path: path.clone(),
        source,
    })?;
    let reserved_end = file.len().map_err(LogError::io("measure", &path))?;
    let file = Arc::new(file);
    Ok(Active {
        syncs: Arc::new(Syncs::new(&file, &path)),
        file,
        path,
        capacity: header.capacity,
        first_append_ms: None,
        staged_end: FIRST_FRAME,
        written_end: FIRST_FRAME,
        durable_end: FIRST_FRAME,
        durable_offset: entry.base_offset,
        reserved_end,
        view: Arc::new(SegmentView::new(dir, entry, config).with_capacity(header.capacity)),
        entry: entry.clone(),
    })
}

/// A frame boundary in a segment, and the chain of frames up to there.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    pub(crate) position: Position,
    pub(crate) tail: Tail,
}

impl Place {
    /// Before the first frame.
    pub(crate) fn first(tail: Tail) -> Self {
        Self {
            position: FIRST_FRAME,
            tail,
        }
    }
}

/// Walks from header to header through what FLOOR's slot knows to be on disk, but for the end of it, and answers with
/// where that walk has come to. Payloads there are checked when they are read, as those of sealed segments are:
/// otherwise a start would read up to a segment of each partition.
fn walk_acknowledged(
    file: &dyn File,
    salt: u64,
    tail: Tail,
    slot: Option<&FloorSlot>,
    mut on_header: impl FnMut(&FrameHeader),
) -> io::Result<Place> {
    let floor = slot.map_or(0, |slot| slot.position.get());
    let limit = floor.saturating_sub(CHECKED_BELOW_FLOOR_BYTES);
    let mut walk = Scan::new(file, salt, FIRST_FRAME, limit.min(file.len()?), tail);
    // What is wrong is told by who examines the rest.
    while let Ok(Some(header)) = walk.next_header() {
        on_header(&header);
    }
    Ok(Place {
        position: walk.position(),
        tail: walk.tail(),
    })
}

/// What a walk through an active segment found.
pub(crate) struct Found {
    pub(crate) tail: Tail,
    pub(crate) ending: Ending,
    /// Everything below was durable before.
    pub(crate) floor: Position,
}

/// Walks through an active segment from a place on and judges its end. `slot` is FLOOR's of the segment's
/// generation. `on_frame` gets every valid frame and its payload.
pub(crate) fn examine(
    file: &dyn File,
    salt: u64,
    from: Place,
    slot: Option<&FloorSlot>,
    mut on_frame: impl FnMut(&FrameAt, &[u8]),
) -> io::Result<Found> {
    let mut floor = slot.map_or(FIRST_FRAME, |slot| slot.position.max(FIRST_FRAME));
    let mut walk = Scan::new(file, salt, from.position, file.len()?, from.tail);
    let bad = loop {
        match walk.next_frame() {
            Ok(Some(frame)) => {
                floor = floor.max(frame.header.durable_upto.min(frame.position));
                on_frame(&frame, walk.payload(&frame));
            }
            Ok(None) => break None,
            Err(ScanError::Bad(bad)) => break Some(bad),
            Err(ScanError::Io(error)) => return Err(error),
        }
    };
    let (end, tail) = (walk.position(), walk.tail());
    let judged = judge(file, salt, end, bad, &mut floor)?;
    let ending = if end < floor {
        Ending::Rot(match judged {
            Ending::Rot(detail) => detail,
            _ => format!("records up to byte {floor} were acknowledged and are not there"),
        })
    } else {
        match slot {
            Some(slot) if tail.next_offset < slot.offset => Ending::Rot(format!(
                "FLOOR knows of records up to offset {}, and they end at {}",
                slot.offset, tail.next_offset
            )),
            _ => judged,
        }
    };
    Ok(Found {
        tail,
        ending,
        floor: floor.min(end),
    })
}

/// Judges what lies from `end` on, and raises the floor by what valid headers there tell.
fn judge(
    file: &dyn File,
    salt: u64,
    end: Position,
    bad: Option<Bad>,
    floor: &mut Position,
) -> io::Result<Ending> {
    let Some(bad) = bad else {
        return Ok(Ending::Clean);
    };
    let Some(last_nonzero) = torn::last_nonzero(file, end.get())? else {
        return Ok(Ending::Clean);
    };
    if let Some(behind) = torn::durable_upto_behind(file, end.get(), salt)? {
        *floor = (*floor).max(behind);
    }
    // A frame that a newer version wrote is whole; cutting it off would lose it.
    let own_len = bad.frame_len.unwrap_or(FRAME_HEADER_LEN as u64);
    if end >= *floor && !bad.newer && torn::is_torn(file, end.get(), own_len, last_nonzero)? {
        return Ok(Ending::Torn);
    }
    Ok(Ending::Rot(bad.detail))
}

/// Writes the valid bytes above the floor again, unchanged, so that they are dirty whatever a
/// failed sync before this open left behind, and syncs them: the page cache alone is not believed.
fn make_durable(active: &Active, floor: Position) -> Result<(), LogError> {
    let end = active.staged_end.get();
    let mut at = floor.get();
    if at >= end {
        return Ok(());
    }
    let mut bytes = Vec::new();
    while at < end {
        let len = (end - at).min(COPY_BYTES);
        bytes.resize(usize::try_from(len).expect("a chunk fits"), 0);
        active
            .file
            .read_exact_at(&mut bytes, at)
            .map_err(LogError::io("read", &active.path))?;
        active
            .file
            .write_all_at(&bytes, at)
            .map_err(LogError::io("write", &active.path))?;
        at += len;
    }
    active
        .file
        .sync_data()
        .map_err(LogError::io("sync", &active.path))
}
