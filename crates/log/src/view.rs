//! One segment as readers see it: its mapping, its index and how far it may be read.

mod checked;
mod window;

use std::io;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock};

use flowstone_disk::{Disk, File, Map, OpenMode};
use flowstone_format::{
    FrameHeader, IndexEntry, Offset, Position, SEGMENT_HEADER_LEN, SegmentEntry, SegmentHeader,
    SegmentIndex, SegmentState,
};
use uuid::Uuid;

use crate::config::LogConfig;
use crate::dir::PartitionDir;
use crate::error::{Damage, ReadError};
use crate::open_segments::Kept;
use checked::Checked;
pub(crate) use window::Window;

const NO_PANIC: &str = "no one panics holding the index";

/// A segment that readers share with the writer.
#[derive(Debug)]
pub(crate) struct SegmentView {
    pub(crate) id: Uuid,
    pub(crate) base_offset: Offset,
    path: PathBuf,
    index_path: PathBuf,
    salt: u64,
    index_interval_bytes: u64,
    disk: Arc<dyn Disk>,
    /// How far it is mapped. Of a segment that this process has not made it is read once, from the file's header.
    capacity: OnceLock<u64>,
    /// Everything below is written and synced; a reader never touches a byte behind it.
    end_position: AtomicU64,
    /// The visible end of a sealed segment; `u64::MAX` while it is active.
    end_offset: AtomicU64,
    max_timestamp_ms: AtomicI64,
    map: Arc<Kept<dyn Map>>,
    /// Which bytes a read need not check again.
    checked: Checked,
    /// The frame that a read of what is in memory found last: its base offset, and where it lies.
    last_place: Mutex<Option<(Offset, u64)>>,
    /// There while the segment is active.
    growing: RwLock<Option<SegmentIndex>>,
    /// Of a sealed segment, read or rebuilt when it is needed.
    index: Arc<Kept<SegmentIndex>>,
}

impl SegmentView {
    pub(crate) fn new(dir: &PartitionDir, entry: &SegmentEntry, config: &LogConfig) -> Self {
        let sealed = entry.state == SegmentState::Sealed;
        Self {
            id: entry.id,
            base_offset: entry.base_offset,
            path: dir.segment_path(entry.base_offset, entry.id),
            index_path: dir.index_path(entry.base_offset, entry.id),
            salt: entry.salt,
            index_interval_bytes: config.index_interval_bytes,
            disk: Arc::clone(&dir.disk),
            capacity: OnceLock::new(),
            end_position: AtomicU64::new(entry.end_position.get()),
            end_offset: AtomicU64::new(if sealed {
                entry.end_offset.get()
            } else {
                u64::MAX
            }),
            max_timestamp_ms: AtomicI64::new(entry.max_timestamp_ms),
            map: Kept::new(&dir.open.maps),
            checked: Checked::default(),
            last_place: Mutex::default(),
            growing: RwLock::new((!sealed).then(SegmentIndex::new)),
            index: Kept::new(&dir.open.indexes),
        }
    }

    /// The same of a segment whose header the caller knows.
    pub(crate) fn with_capacity(self, capacity: u64) -> Self {
        Self {
            capacity: OnceLock::from(capacity),
            ..self
        }
    }

    pub(crate) fn end_position(&self) -> u64 {
        self.end_position.load(Ordering::Acquire)
    }

    pub(crate) fn end_offset(&self) -> Offset {
        Offset::new(self.end_offset.load(Ordering::Acquire))
    }

    pub(crate) fn max_timestamp_ms(&self) -> i64 {
        self.max_timestamp_ms.load(Ordering::Acquire)
    }

    /// Takes note that this process has written bytes, which are in memory now.
    pub(crate) fn note_written(&self, bytes: Range<Position>) {
        let now = self.checked.now();
        self.checked.add(bytes.start.get()..bytes.end.get(), now);
    }

    /// Lets readers go up to what is synced.
    pub(crate) fn publish(&self, end: Position) {
        self.end_position.store(end.get(), Ordering::Release);
    }

    /// Ends the segment for readers; they go on in the next one.
    pub(crate) fn seal(&self, end_offset: Offset, end: Position) {
        self.publish(end);
        self.end_offset.store(end_offset.get(), Ordering::Release);
        let mut growing = self.growing.write().expect(NO_PANIC);
        if let Some(index) = growing.take() {
            self.index.put(&Arc::new(index));
        }
    }

    /// Notes a frame that was staged behind `max_before_ms`, the greatest timestamp of the frames before it.
    pub(crate) fn note_frame(&self, header: &FrameHeader, at: Position) {
        let before = self
            .max_timestamp_ms
            .fetch_max(header.max_timestamp_ms, Ordering::AcqRel);
        let mut growing = self.growing.write().expect(NO_PANIC);
        let index = growing.as_mut().expect("only an active segment grows");
        push_sparse(index, self.index_interval_bytes, header, at, before);
    }

    /// The index of an active segment as it will stand in its file.
    pub(crate) fn encoded_index(&self) -> Option<Vec<u8>> {
        let growing = self.growing.read().expect(NO_PANIC);
        growing.as_ref().map(|index| index.encode(self.id))
    }

    pub(crate) fn index_path(&self) -> &PathBuf {
        &self.index_path
    }

    /// A window on the segment from `at` on.
    pub(crate) fn window(&self, at: u64) -> Result<Window<'_>, ReadError> {
        Ok(Window::new(self, self.map()?, at))
    }

    /// Whether the segment is mapped and has its index, so that a look-up does not wait for the disk.
    pub(crate) fn is_at_hand(&self) -> bool {
        let growing = self.growing.read().expect(NO_PANIC).is_some();
        (growing || self.index.is_open()) && self.map.is_open()
    }

    /// The error of a read that would have to wait for the disk, and may not.
    pub(crate) fn would_block(&self) -> ReadError {
        ReadError::Io {
            operation: "read without waiting",
            path: self.path.clone(),
            source: io::ErrorKind::WouldBlock.into(),
        }
    }

    fn map(&self) -> Result<Arc<dyn Map>, ReadError> {
        self.map.get(|| self.open_map())
    }

    fn open_map(&self) -> Result<Arc<dyn Map>, ReadError> {
        let io = |operation| {
            let path = self.path.clone();
            move |source| ReadError::Io {
                operation,
                path,
                source,
            }
        };
        let file = self
            .disk
            .open(&self.path, OpenMode::Read)
            .map_err(io("open"))?;
        let capacity = match self.capacity.get() {
            // To read the header again would bring in what lies behind it, and nobody would know.
            Some(capacity) => *capacity,
            None => {
                let capacity = self.read_capacity(&*file)?;
                *self.capacity.get_or_init(|| capacity)
            }
        };
        file.map(capacity).map_err(io("map"))
    }

    fn read_capacity(&self, file: &dyn File) -> Result<u64, ReadError> {
        let mut header = vec![0; usize::try_from(SEGMENT_HEADER_LEN).expect("a small number")];
        file.read_exact_at(&mut header, 0)
            .map_err(|error| self.unreadable(self.base_offset, 0, error))?;
        let (header, _) = SegmentHeader::decode(&header)
            .map_err(|error| self.corrupt(self.base_offset, 0, error.to_string()))?;
        Ok(header.capacity)
    }

    pub(crate) fn corrupt(&self, offset: Offset, position: u64, detail: String) -> Damage {
        Damage {
            offset,
            path: self.path.clone(),
            position: Position::new(position),
            detail,
        }
    }

    /// The error of bytes that could not be read: damage, unless the machine lacks what it takes
    /// to read them now.
    fn unreadable(&self, offset: Offset, position: u64, source: io::Error) -> ReadError {
        if is_passing(&source) {
            return ReadError::Io {
                operation: "read",
                path: self.path.clone(),
                source,
            };
        }
        let detail = format!("it could not be read: {source}");
        self.corrupt(offset, position, detail).into()
    }

    /// Where to begin walking for an offset: the index's word, or the first frame.
    pub(crate) fn seek_offset(&self, offset: Offset) -> Result<IndexEntry, ReadError> {
        self.with_index(|index| index.position_for_offset(offset))
    }

    /// Takes note of a frame that was found, for those who look for it next.
    pub(crate) fn note_place(&self, base_offset: Offset, position: u64) {
        *self.last_place() = Some((base_offset, position));
    }

    /// The frame that was noted, if it begins at or before an offset.
    pub(crate) fn place_at_most(&self, offset: Offset) -> Option<(Offset, u64)> {
        self.last_place().filter(|(base, _)| *base <= offset)
    }

    fn last_place(&self) -> MutexGuard<'_, Option<(Offset, u64)>> {
        // Nothing panics halfway through a change.
        self.last_place
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Where to begin walking for a timestamp, at `from` or later.
    pub(crate) fn seek_time(&self, ms: i64, from: Offset) -> Result<IndexEntry, ReadError> {
        self.with_index(|index| {
            let by_time = index.position_for_time(ms);
            let by_offset = index.position_for_offset(from);
            match (by_time, by_offset) {
                (Some(a), Some(b)) => Some(if a.position >= b.position { a } else { b }),
                (a, b) => a.or(b),
            }
        })
    }

    /// The first frame of the segment, where a walk needs no index.
    pub(crate) fn first(&self) -> IndexEntry {
        IndexEntry {
            offset: self.base_offset,
            position: Position::new(SEGMENT_HEADER_LEN),
            max_timestamp_before_ms: i64::MIN,
        }
    }

    /// Forgets an index that led astray; the next look-up rebuilds it from the frames.
    pub(crate) fn distrust_index(&self) -> Result<(), ReadError> {
        let rebuilt = Arc::new(self.rebuild_index()?);
        let mut growing = self.growing.write().expect(NO_PANIC);
        match growing.as_mut() {
            Some(index) => *index = Arc::unwrap_or_clone(rebuilt),
            None => self.index.put(&rebuilt),
        }
        Ok(())
    }

    fn with_index(
        &self,
        seek: impl Fn(&SegmentIndex) -> Option<IndexEntry>,
    ) -> Result<IndexEntry, ReadError> {
        if let Some(index) = self.growing.read().expect(NO_PANIC).as_ref() {
            return Ok(seek(index).unwrap_or(self.first()));
        }
        let index = self.index.get(|| match self.load_index() {
            Some(index) => Ok(Arc::new(index)),
            None => self.rebuild_index().map(Arc::new),
        })?;
        Ok(seek(&index).unwrap_or(self.first()))
    }

    fn load_index(&self) -> Option<SegmentIndex> {
        let file = self.disk.open(&self.index_path, OpenMode::Read).ok()?;
        let mut bytes = vec![0; usize::try_from(file.len().ok()?).ok()?];
        file.read_exact_at(&mut bytes, 0).ok()?;
        SegmentIndex::decode(&bytes, self.id).ok()
    }

    /// Walks the frame headers of the segment. Stops at the first bad one: what lies behind is
    /// found to be damaged by whoever reads there.
    fn rebuild_index(&self) -> Result<SegmentIndex, ReadError> {
        let mut index = SegmentIndex::new();
        let mut window = self.window(SEGMENT_HEADER_LEN)?;
        let mut max = i64::MIN;
        while !window.at_end() {
            let at = Position::new(window.at());
            let header = match window.header(self.base_offset) {
                Ok(header) => header,
                Err(error @ ReadError::Io { .. }) => return Err(error),
                Err(_) => break,
            };
            push_sparse(&mut index, self.index_interval_bytes, &header, at, max);
            max = max.max(header.max_timestamp_ms);
            window.skip(header.frame_len());
        }
        Ok(index)
    }
}

/// Whether an error of a read says nothing of the medium: the same bytes may be read later.
pub(crate) fn is_passing(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::OutOfMemory
            | io::ErrorKind::Unsupported
            | io::ErrorKind::Interrupted
            | io::ErrorKind::WouldBlock
            | io::ErrorKind::TimedOut
    )
}

fn push_sparse(
    index: &mut SegmentIndex,
    interval_bytes: u64,
    header: &FrameHeader,
    at: Position,
    max_timestamp_before_ms: i64,
) {
    let due = match index.entries().last() {
        Some(last) => at - last.position >= interval_bytes,
        None => true,
    };
    // A frame that takes no offset cannot be sought by one.
    if due && header.offset_span > 0 {
        index.push(IndexEntry {
            offset: header.base_offset,
            position: at,
            max_timestamp_before_ms,
        });
    }
}
