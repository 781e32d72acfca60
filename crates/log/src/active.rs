//! The active segment: the one file of a partition that is appended to.

use std::path::PathBuf;
use std::sync::Arc;

use flowstone_disk::{Env, File};
use flowstone_format::{
    FrameHeader, Generation, Location, Offset, PartitionId, Position, SEGMENT_HEADER_LEN,
    SegmentEntry, SegmentHeader, SegmentState,
};
use uuid::Uuid;

use crate::config::LogConfig;
use crate::dir::PartitionDir;
use crate::error::LogError;
use crate::open_segments::SegmentFile;
use crate::syncs::{Syncs, UnsyncedPart};
use crate::tail::Tail;
use crate::view::SegmentView;

/// What is reserved first.
const FIRST_RESERVE_BYTES: u64 = 64 << 10;
/// Up to where it is reserved next.
const SECOND_RESERVE_END: u64 = 512 << 10;
const PAGE_BYTES: u64 = 4096;

/// Up to where space is reserved next: in steps that double, but for the second and the third.
///
/// ext4 keeps up to four extents of a file in its inode. While the third of three that lie apart is
/// written, each sync needs a fifth for a moment, for which it takes a block and gives it back; where freed
/// blocks are discarded at once (`-o discard` without a journal), syncing a thousand partitions took seconds
/// for as long as that lasted. So the third is a single page.
fn next_reserve_end(reserved_end: u64, max_step: u64) -> u64 {
    match reserved_end {
        ..FIRST_RESERVE_BYTES => FIRST_RESERVE_BYTES,
        FIRST_RESERVE_BYTES..SECOND_RESERVE_END => SECOND_RESERVE_END.min(reserved_end + max_step),
        SECOND_RESERVE_END => SECOND_RESERVE_END + PAGE_BYTES,
        _ => reserved_end + reserved_end.min(max_step),
    }
}

/// Where the first frame of a segment begins.
pub(crate) const FIRST_FRAME: Position = Position::new(SEGMENT_HEADER_LEN);

/// What a new segment is told besides what stands before it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Begin {
    pub(crate) partition: PartitionId,
    pub(crate) id: Uuid,
    pub(crate) generation: Generation,
    /// Of the producer snapshot that was written beside it; 0 if there is none.
    pub(crate) producers_crc: u32,
}

/// The segment that is being written.
#[derive(Debug)]
pub(crate) struct Active {
    pub(crate) file: Arc<SegmentFile>,
    pub(crate) path: PathBuf,
    /// As it was listed when the segment was begun; brought up to date by [`Active::sealed_entry`].
    pub(crate) entry: SegmentEntry,
    pub(crate) capacity: u64,
    /// When its first frame was appended, in Unix milliseconds.
    pub(crate) first_append_ms: Option<i64>,
    /// Where the next frame goes: behind all that is staged.
    pub(crate) staged_end: Position,
    /// Up to here the frames were handed to the operating system.
    pub(crate) written_end: Position,
    /// Up to here a sync has returned.
    pub(crate) durable_end: Position,
    /// The offset at `durable_end`.
    pub(crate) durable_offset: Offset,
    /// Space up to here is reserved and reads as zero where nothing is written.
    pub(crate) reserved_end: u64,
    /// Whoever syncs the file does it through this.
    pub(crate) syncs: Arc<Syncs>,
    pub(crate) view: Arc<SegmentView>,
}

impl Active {
    /// Makes a new segment file, synced with its name. A failure leaves nothing behind.
    pub(crate) fn create(
        env: &Env,
        dir: &PartitionDir,
        begin: &Begin,
        tail: &Tail,
        config: &LogConfig,
    ) -> Result<Self, LogError> {
        let new = Self::create_ahead(env, dir, begin, tail, config)?;
        let synced = new.file.sync_all().map_err(LogError::io("sync", &new.path));
        let synced = synced.and_then(|()| {
            dir.disk
                .sync_dir(&dir.path)
                .map_err(LogError::io("sync", &dir.path))
        });
        if let Err(error) = synced {
            new.discard(dir);
            return Err(error);
        }
        Ok(new)
    }

    /// Removes the file of a segment that nothing refers to; should that fail, the next open moves it aside.
    pub(crate) fn discard(&self, dir: &PartitionDir) {
        let _ = dir.disk.remove_file(&self.path);
    }

    /// Makes a new segment file, and syncs neither it nor its name. A failure leaves nothing behind.
    pub(crate) fn create_ahead(
        env: &Env,
        dir: &PartitionDir,
        begin: &Begin,
        tail: &Tail,
        config: &LogConfig,
    ) -> Result<Self, LogError> {
        let header = SegmentHeader {
            partition: begin.partition,
            id: begin.id,
            generation: begin.generation,
            base_offset: tail.next_offset,
            salt: env.random.u64(),
            capacity: config.capacity(),
            created_ms: env.clock.now_ms(),
        };
        let path = dir.segment_path(header.base_offset, header.id);
        let file = SegmentFile::create(&dir.disk, &path, &dir.open.files)
            .map_err(LogError::io("create", &path))?;
        let bytes = header.encode();
        let reserved_end = FIRST_RESERVE_BYTES.min(header.capacity);
        let made = file
            .reserve(0, reserved_end)
            .map_err(LogError::io("reserve space in", &path))
            .and_then(|()| {
                file.write_all_at(&bytes, 0)
                    .map_err(LogError::io("write", &path))
            });
        if let Err(error) = made {
            // Nothing refers to the file yet; should the removal fail, the next open moves it aside.
            let _ = dir.disk.remove_file(&path);
            return Err(error);
        }
        let (_, header_crc) = SegmentHeader::decode(&bytes).expect("it was encoded just now");
        let entry = SegmentEntry {
            id: header.id,
            generation: begin.generation,
            base_offset: tail.next_offset,
            start_offset: tail.next_offset,
            end_offset: tail.next_offset,
            end_position: FIRST_FRAME,
            first_epoch: tail.epoch,
            last_epoch: tail.epoch,
            first_index: tail.next_index,
            last_index: tail.next_index - 1,
            salt: header.salt,
            header_crc,
            last_header_crc: header_crc,
            max_timestamp_ms: i64::MIN,
            last_append_ms: tail.last_append_ms,
            location: Location::Local,
            state: SegmentState::Active,
            producers_crc: begin.producers_crc,
        };
        let view = SegmentView::new(dir, &entry, config).with_capacity(header.capacity);
        let file = Arc::new(file);
        Ok(Self {
            syncs: Arc::new(Syncs::new(&file, &path)),
            file,
            path,
            capacity: header.capacity,
            first_append_ms: None,
            staged_end: FIRST_FRAME,
            written_end: FIRST_FRAME,
            durable_end: FIRST_FRAME,
            durable_offset: tail.next_offset,
            reserved_end,
            view: Arc::new(view),
            entry,
        })
    }

    /// Whether a frame of this length still fits into the segment.
    pub(crate) fn fits(&self, frame_len: u64) -> bool {
        self.staged_end.get() + frame_len <= self.capacity
    }

    /// How many bytes of frames no sync has returned for.
    pub(crate) fn unsynced_bytes(&self) -> u64 {
        self.staged_end.get() - self.durable_end.get()
    }

    /// All that was written, up to `end_offset`, for a sync.
    pub(crate) fn written(&self, end_offset: Offset) -> UnsyncedPart {
        UnsyncedPart {
            syncs: Arc::clone(&self.syncs),
            generation: self.entry.generation,
            end: self.written_end,
            end_offset,
            changes: self.file.changes(),
        }
    }

    /// The same; `None` if it is synced.
    pub(crate) fn unsynced(&self, end_offset: Offset) -> Option<UnsyncedPart> {
        (self.durable_end < self.written_end).then(|| self.written(end_offset))
    }

    /// Whether it holds no frame yet.
    pub(crate) fn is_empty(&self) -> bool {
        self.staged_end == FIRST_FRAME
    }

    /// Sees to it that `frame_len` more bytes have space on the disk and can be written: a full disk,
    /// and too many open files, are told here, not in the middle of a frame.
    pub(crate) fn make_ready(
        &mut self,
        frame_len: u64,
        config: &LogConfig,
    ) -> Result<(), LogError> {
        self.reserve(frame_len, config)?;
        self.file
            .prepare()
            .map_err(LogError::io("open", &self.path))
    }

    fn reserve(&mut self, frame_len: u64, config: &LogConfig) -> Result<(), LogError> {
        let need = (self.staged_end.get() + frame_len).next_multiple_of(PAGE_BYTES);
        if need <= self.reserved_end {
            return Ok(());
        }
        let ample = next_reserve_end(self.reserved_end, config.max_reserve_bytes);
        let ample = ample.max(need).min(self.capacity);
        for end in [ample, need.min(self.capacity)] {
            match self
                .file
                .reserve(self.reserved_end, end - self.reserved_end)
            {
                Ok(()) => {
                    self.reserved_end = end;
                    return Ok(());
                }
                // The last pages of a disk still serve a small frame.
                Err(error) if error.kind() == std::io::ErrorKind::StorageFull && end > need => {}
                Err(error) => {
                    return Err(LogError::io("reserve space in", &self.path)(error));
                }
            }
        }
        Err(LogError::DiskFull {
            operation: "reserve space in",
            path: self.path.clone(),
        })
    }

    /// Takes a frame into the books. Its bytes are staged, not yet written.
    pub(crate) fn note_frame(&mut self, header: &FrameHeader) {
        self.first_append_ms.get_or_insert(header.append_ms);
        self.view.note_frame(header, self.staged_end);
        self.staged_end += header.frame_len();
    }

    /// Hands staged bytes to the operating system.
    pub(crate) fn write(&mut self, staged: &[u8]) -> Result<(), LogError> {
        self.file
            .write_all_at(staged, self.written_end.get())
            // Also for want of space, which was reserved: what reached the file is unknown.
            .map_err(|source| LogError::Io {
                operation: "write",
                path: self.path.clone(),
                source,
            })?;
        let begin = self.written_end;
        self.written_end += staged.len() as u64;
        self.view.note_written(begin..self.written_end);
        debug_assert_eq!(self.written_end, self.staged_end);
        Ok(())
    }

    /// Syncs what was written and lets readers go up to there, as far as the watermark allows.
    pub(crate) fn sync(&mut self, end_offset: Offset) -> Result<(), LogError> {
        if self.durable_end < self.written_end {
            self.syncs.sync()?;
            self.synced(self.written_end, end_offset);
        }
        Ok(())
    }

    /// Takes note that a sync of this has returned.
    pub(crate) fn part_synced(&mut self, part: &UnsyncedPart) {
        self.file.synced(part.changes);
        self.synced(part.end, part.end_offset);
    }

    /// Takes note that a sync has returned for all that was written up to a place.
    fn synced(&mut self, end: Position, end_offset: Offset) {
        if self.durable_end < end {
            self.durable_end = end;
            self.durable_offset = end_offset;
            self.view.publish(end);
        }
    }

    /// The entry that the MANIFEST gets when the segment ends at `tail`: as sealed if all of it is on disk.
    pub(crate) fn ended_entry(&self, tail: &Tail) -> SegmentEntry {
        SegmentEntry {
            end_offset: tail.next_offset,
            end_position: self.staged_end,
            last_epoch: tail.epoch,
            last_index: tail.next_index - 1,
            last_header_crc: tail.prev_header_crc,
            max_timestamp_ms: self.view.max_timestamp_ms(),
            last_append_ms: tail.last_append_ms,
            state: match self.unsynced_bytes() {
                0 => SegmentState::Sealed,
                _ => SegmentState::Closing,
            },
            ..self.entry.clone()
        }
    }

    /// After the seal is in the MANIFEST: gives the spare space back and writes the index.
    pub(crate) fn finish(&self, dir: &PartitionDir) {
        let index = self.view.encoded_index();
        self.view.seal(self.durable_offset, self.durable_end);
        let spare = self.durable_end.get().next_multiple_of(PAGE_BYTES);
        if spare < self.reserved_end
            && let Err(error) = self.file.punch(spare, self.reserved_end - spare)
        {
            tracing::warn!(file = %self.path.display(), %error, "spare space was not given back");
        }
        if let Some(index) = index {
            dir.write_index(self.view.index_path(), &index);
        }
    }
}
