//! Writes the segments that a repair puts in the place of damage.

use std::ops::Range;
use std::path::Path;

use flowstone_disk::{Env, File, OpenMode};
use flowstone_format::{
    FRAME_HEADER_LEN, FrameHeader, Generation, MAX_HEADER_LEN, Offset, PartitionId, Position,
    SEGMENT_HEADER_LEN, SegmentEntry, SegmentHeader, SegmentState, segment_temp_name,
};
use uuid::Uuid;

use crate::active::FIRST_FRAME;
use crate::dir::PartitionDir;
use crate::error::{Damage, LogError};
use crate::repair::salvage::{LossyBytes, Run};
use crate::repair::sources::entry_of;
use crate::tail::Tail;

const PAGE_BYTES: u64 = 4096;
const WRITE_BYTES: usize = 4 << 20;
/// The most offsets that one frame covers.
const MAX_SPAN: u64 = u32::MAX as u64;

/// A segment that is to be written.
#[derive(Clone, Debug)]
pub(super) struct NewSegment {
    /// That of the segment it stands for.
    pub(super) generation: Generation,
    /// It is made later than this, by the clock.
    pub(super) after_ms: i64,
    /// What lies below is not visible.
    pub(super) start_offset: Offset,
    pub(super) parts: Vec<Part>,
}

/// What a new segment is made of.
#[derive(Clone, Debug)]
pub(super) enum Part {
    /// Offsets whose records are lost.
    Gap {
        offsets: Range<Offset>,
        /// The entry index of the last frame that is lost, if it is known.
        last_index: Option<u64>,
        /// Time and epoch of what comes next, where nothing comes before.
        next: Option<(i64, u64)>,
    },
    /// Frames of the damaged segment, copied.
    Frames(Box<Run>),
}

impl Part {
    fn start(&self) -> Offset {
        match self {
            Self::Gap { offsets, .. } => offsets.start,
            Self::Frames(run) => run.start(),
        }
    }

    fn end(&self) -> Offset {
        match self {
            Self::Gap { offsets, .. } => offsets.end,
            Self::Frames(run) => run.end(),
        }
    }

    /// Bytes that it takes.
    fn bytes(&self) -> u64 {
        match self {
            Self::Gap { offsets, .. } => {
                (offsets.end - offsets.start).div_ceil(MAX_SPAN) * FRAME_HEADER_LEN as u64
            }
            Self::Frames(run) => run.bytes.end - run.bytes.start,
        }
    }
}

impl NewSegment {
    pub(super) fn base_offset(&self) -> Offset {
        self.parts.first().expect("it has parts").start()
    }

    pub(super) fn end_offset(&self) -> Offset {
        self.parts.last().expect("it has parts").end()
    }

    /// Bytes of the file, in whole pages.
    pub(super) fn file_bytes(&self) -> u64 {
        let parts: u64 = self.parts.iter().map(Part::bytes).sum();
        (SEGMENT_HEADER_LEN + parts).next_multiple_of(PAGE_BYTES)
    }

    /// Writes it whole, synced, under a name that no one takes for a segment's, and then gives it
    /// its own; the caller syncs the directory. `source` is where its frames are, `tail` what comes
    /// before it.
    pub(super) fn write(
        &self,
        env: &Env,
        dir: &PartitionDir,
        partition: PartitionId,
        source: Option<(&dyn File, &SegmentEntry)>,
        tail: &Tail,
    ) -> Result<SegmentEntry, LogError> {
        let header = SegmentHeader {
            partition,
            id: Uuid::from_bytes(env.random.uuid_bytes()),
            generation: self.generation,
            base_offset: self.base_offset(),
            salt: env.random.u64(),
            capacity: self.file_bytes().max(2 * PAGE_BYTES),
            created_ms: env.clock.now_ms().max(self.after_ms.saturating_add(1)),
        };
        let temp = dir
            .path
            .join(segment_temp_name(header.base_offset, header.id));
        let path = dir.segment_path(header.base_offset, header.id);
        let file = dir
            .disk
            .open(&temp, OpenMode::CreateNew)
            .map_err(LogError::io("create", &temp))?;
        let written = file
            .reserve(0, self.file_bytes())
            .map_err(LogError::io("reserve space in", &temp))
            .and_then(|()| {
                let mut writer = Writer::new(&*file, &temp, &header, tail);
                for part in &self.parts {
                    match part {
                        Part::Gap {
                            offsets,
                            last_index,
                            next,
                        } => writer.gap(offsets, *last_index, *next)?,
                        Part::Frames(run) => {
                            let (file, entry) = source.expect("frames come from a file");
                            let from = dir.segment_path(entry.base_offset, entry.id);
                            writer.copy(file, &from, entry.salt, run)?;
                        }
                    }
                }
                writer.finish()
            })
            .and_then(|entry| {
                file.sync_all().map_err(LogError::io("sync", &temp))?;
                dir.disk
                    .rename(&temp, &path)
                    .map_err(LogError::io("rename to", &path))?;
                Ok(entry)
            });
        if written.is_err() {
            // Nothing refers to the file; should the removal fail, the next repair or open clears it.
            let _ = dir.disk.remove_file(&temp);
        }
        Ok(SegmentEntry {
            start_offset: self.start_offset.max(header.base_offset),
            ..written?
        })
    }
}

/// Puts frames one after the other into a new file.
struct Writer<'a> {
    file: &'a dyn File,
    path: &'a Path,
    entry: SegmentEntry,
    /// What was not yet handed to the operating system.
    staged: Vec<u8>,
    staged_at: u64,
    tail: Tail,
    is_empty: bool,
}

impl<'a> Writer<'a> {
    fn new(file: &'a dyn File, path: &'a Path, header: &SegmentHeader, tail: &Tail) -> Self {
        let staged = header.encode();
        let (_, header_crc) = SegmentHeader::decode(&staged).expect("it was encoded just now");
        Self {
            file,
            path,
            entry: SegmentEntry {
                state: SegmentState::Sealed,
                ..entry_of(header, header_crc)
            },
            staged,
            staged_at: 0,
            tail: Tail {
                next_offset: header.base_offset,
                prev_header_crc: header_crc,
                ..*tail
            },
            is_empty: true,
        }
    }

    fn at(&self) -> Position {
        Position::new(self.staged_at + self.staged.len() as u64)
    }

    fn gap(
        &mut self,
        offsets: &Range<Offset>,
        last_index: Option<u64>,
        next: Option<(i64, u64)>,
    ) -> Result<(), LogError> {
        let mut from = offsets.start;
        while from < offsets.end {
            let to = (from + (offsets.end - from).min(MAX_SPAN)).min(offsets.end);
            let index = match last_index {
                Some(last) if to == offsets.end => last.max(self.tail.next_index),
                _ => self.tail.next_index,
            };
            let (append_ms, epoch) = match next {
                Some(next) if self.tail.last_append_ms == i64::MIN => next,
                _ => (self.tail.last_append_ms, self.tail.epoch),
            };
            let header = FrameHeader::gap(from..to, epoch.max(self.tail.epoch), index, append_ms);
            let mut frame = [0; FRAME_HEADER_LEN];
            header.encode(self.entry.salt, self.at(), &mut frame);
            self.push(&frame)?;
            from = to;
        }
        Ok(())
    }

    fn copy(&mut self, file: &dyn File, path: &Path, salt: u64, run: &Run) -> Result<(), LogError> {
        let mut bytes = LossyBytes::new(file, run.bytes.end);
        let mut at = run.bytes.start;
        let mut offset = run.start();
        while at < run.bytes.end {
            let changed = || Damage {
                offset,
                path: path.to_path_buf(),
                position: Position::new(at),
                detail: "it has changed while it was repaired".to_owned(),
            };
            let window = bytes.get(at, u64::from(MAX_HEADER_LEN));
            let (header, _) =
                FrameHeader::decode(window, salt, Position::new(at)).map_err(|_| changed())?;
            let frame = bytes.get(at, header.frame_len());
            let payload = frame.get(usize::from(header.header_len)..);
            payload
                .filter(|payload| header.check_payload(payload).is_ok())
                .ok_or_else(changed)?;
            self.push(frame)?;
            at += header.frame_len();
            offset = header.next_offset();
        }
        Ok(())
    }

    /// Adds a frame, stamped for its new place.
    fn push(&mut self, frame: &[u8]) -> Result<(), LogError> {
        if self.staged.len() + frame.len() > WRITE_BYTES {
            self.flush()?;
        }
        let at = self.at();
        let from = self.staged.len();
        self.staged.extend_from_slice(frame);
        let frame = &mut self.staged[from..];
        let prev = self.tail.prev_header_crc;
        FrameHeader::restamp(frame, self.entry.salt, at, FIRST_FRAME, prev);
        let (header, header_crc) = FrameHeader::decode(frame, self.entry.salt, at)
            .expect("a valid frame is valid in its new place");
        if let Err(misfit) = self.tail.admits(&header)
            && !(self.is_empty && header.entry_index > self.tail.next_index)
        {
            return Err(LogError::Corrupt(Damage {
                offset: header.base_offset,
                path: self.path.to_path_buf(),
                position: at,
                detail: format!("the frames that are left cannot be put together: {misfit}"),
            }));
        }
        if self.is_empty {
            self.entry.first_epoch = header.leader_epoch;
            self.entry.first_index = header.entry_index;
            self.is_empty = false;
        }
        self.entry.max_timestamp_ms = self.entry.max_timestamp_ms.max(header.max_timestamp_ms);
        self.tail.advance(&header, header_crc);
        Ok(())
    }

    fn flush(&mut self) -> Result<(), LogError> {
        self.file
            .write_all_at(&self.staged, self.staged_at)
            .map_err(LogError::io("write", self.path))?;
        self.staged_at += self.staged.len() as u64;
        self.staged.clear();
        Ok(())
    }

    fn finish(mut self) -> Result<SegmentEntry, LogError> {
        let end_position = self.at();
        self.flush()?;
        Ok(SegmentEntry {
            end_offset: self.tail.next_offset,
            end_position,
            last_epoch: self.tail.epoch,
            last_index: self.tail.next_index - 1,
            last_header_crc: self.tail.prev_header_crc,
            last_append_ms: self.tail.last_append_ms,
            ..self.entry
        })
    }
}
