//! One segment as readers see it: its mapping, its index and how far it may be read.

use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, RwLock};

use flowstone_disk::{Disk, Map, OpenMode};
use flowstone_format::{
    FRAME_HEADER_LEN, FrameHeader, IndexEntry, MAX_HEADER_LEN, Offset, Position,
    SEGMENT_HEADER_LEN, SegmentEntry, SegmentIndex, SegmentState,
};
use uuid::Uuid;

use crate::config::LogConfig;
use crate::dir::PartitionDir;
use crate::error::{Damage, ReadError};
use crate::open_segments::Kept;

/// How much is faulted in at once beyond what was asked for.
const READ_AHEAD_BYTES: u64 = 64 << 10;

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
    /// Everything below is written and synced; a reader never touches a byte behind it.
    end_position: AtomicU64,
    /// The visible end of a sealed segment; `u64::MAX` while it is active.
    end_offset: AtomicU64,
    max_timestamp_ms: AtomicI64,
    map: Arc<Kept<dyn Map>>,
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
            end_position: AtomicU64::new(entry.end_position.get()),
            end_offset: AtomicU64::new(if sealed {
                entry.end_offset.get()
            } else {
                u64::MAX
            }),
            max_timestamp_ms: AtomicI64::new(entry.max_timestamp_ms),
            map: Kept::new(&dir.open.maps),
            growing: RwLock::new((!sealed).then(SegmentIndex::new)),
            index: Kept::new(&dir.open.indexes),
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
        Ok(Window {
            view: self,
            map: self.map()?,
            at,
            bytes: bytes::Bytes::new(),
            resident_only: false,
        })
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
        let mut header = vec![0; usize::try_from(SEGMENT_HEADER_LEN).expect("a small number")];
        file.read_exact_at(&mut header, 0)
            .map_err(|error| self.unreadable(self.base_offset, 0, error))?;
        let (header, _) = flowstone_format::SegmentHeader::decode(&header)
            .map_err(|error| self.corrupt(self.base_offset, 0, error.to_string()))?;
        file.map(header.capacity).map_err(io("map"))
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

/// A place in a segment and the bytes from there on that were faulted in. Every access to the
/// mapping goes through here, so that no page is touched that was not brought in first.
#[derive(Debug)]
pub(crate) struct Window<'a> {
    view: &'a SegmentView,
    map: Arc<dyn Map>,
    at: u64,
    /// What was brought in from `at` on.
    bytes: bytes::Bytes,
    /// Brings nothing in that is not in memory.
    resident_only: bool,
}

impl Window<'_> {
    /// From now on a window on what is in memory, which never waits for the disk.
    pub(crate) fn resident_only(self) -> Self {
        Self {
            resident_only: true,
            ..self
        }
    }

    pub(crate) fn at(&self) -> u64 {
        self.at
    }

    /// Whether nothing readable follows.
    pub(crate) fn at_end(&self) -> bool {
        self.at >= self.view.end_position()
    }

    pub(crate) fn skip(&mut self, len: u64) {
        self.at += len;
        let len = usize::try_from(len).unwrap_or(usize::MAX);
        self.bytes = if len <= self.bytes.len() {
            self.bytes.split_off(len)
        } else {
            bytes::Bytes::new()
        };
    }

    /// Brings in at least `len` bytes, fewer at the segment's end. `offset` is the first that is
    /// lost if they cannot be read.
    fn bring_in(&mut self, len: u64, offset: Offset) -> Result<(), ReadError> {
        let left = self.view.end_position().saturating_sub(self.at);
        if (self.bytes.len() as u64) < len.min(left) {
            let end = self.at + left.min(len.max(READ_AHEAD_BYTES));
            if self.resident_only {
                if !matches!(self.map.resident(self.at..end), Ok(true)) {
                    return Err(self.view.would_block());
                }
            } else {
                self.map
                    .populate(self.at..end)
                    .map_err(|error| self.view.unreadable(offset, self.at, error))?;
            }
            self.bytes = self.map.slice(self.at..end);
        }
        Ok(())
    }

    /// The header of the frame at this place. `offset` is the first that is lost if it is bad.
    pub(crate) fn header(&mut self, offset: Offset) -> Result<FrameHeader, ReadError> {
        self.bring_in(FRAME_HEADER_LEN as u64, offset)?;
        let at = Position::new(self.at);
        match FrameHeader::decode(&self.bytes, self.view.salt, at) {
            Err(flowstone_format::FrameError::Truncated { .. }) => {
                self.bring_in(u64::from(MAX_HEADER_LEN), offset)?;
                FrameHeader::decode(&self.bytes, self.view.salt, at)
            }
            decoded => decoded,
        }
        .map(|(header, _)| header)
        .map_err(|error| self.view.corrupt(offset, self.at, error.to_string()).into())
    }

    /// The payload of the frame at this place, checked against its CRC.
    pub(crate) fn payload(&mut self, header: &FrameHeader) -> Result<bytes::Bytes, ReadError> {
        let offset = header.base_offset;
        self.bring_in(header.frame_len(), offset)?;
        let from = usize::from(header.header_len);
        let to = usize::try_from(header.frame_len()).expect("frame lengths are bounded");
        if to > self.bytes.len() {
            let detail = "the frame reaches past the segment's end".into();
            return Err(self.view.corrupt(offset, self.at, detail).into());
        }
        let payload = self.bytes.slice(from..to);
        header
            .check_payload(&payload)
            .map_err(|error| self.view.corrupt(offset, self.at, error.to_string()))?;
        Ok(payload)
    }
}
