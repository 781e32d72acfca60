//! Reading below the high watermark: whole records, verbatim from the segment files.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, RwLock};

use bytes::Bytes;
use flowstone_format::{
    FrameHeader, FrameKind, Offset, RecordLimits, Records, SEGMENT_HEADER_LEN, skip_records,
};

use crate::error::{Damage, ReadError};
use crate::view::{SegmentView, Window};

/// How much one read may bring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReadLimit {
    /// Bytes of stored records. One record comes even if it is larger.
    pub max_bytes: usize,
    /// Records; `u32::MAX` for no limit.
    pub max_records: u32,
    /// The first offset that is not wanted any more.
    pub before: Option<Offset>,
}

impl Default for ReadLimit {
    fn default() -> Self {
        Self {
            max_bytes: 1 << 20,
            max_records: u32::MAX,
            before: None,
        }
    }
}

/// What one read brought.
#[derive(Clone, Debug)]
pub struct ReadBatch {
    /// Runs of `0A len Record` as they lie in the file, in order.
    pub chunks: Vec<Bytes>,
    /// How many records they hold.
    pub record_count: u32,
    /// How many bytes they hold.
    pub bytes: usize,
    /// Where the next read goes on.
    pub next_offset: Offset,
    /// The end of what could be read when this read began.
    pub high_watermark: Offset,
    /// The first offset that was there when this read began.
    pub log_start_offset: Offset,
}

/// What the writer shows to all readers.
#[derive(Debug, Default)]
pub(crate) struct Shared {
    high_watermark: AtomicU64,
    log_start_offset: AtomicU64,
    /// The segments in order of their offsets; replaced whole when one comes or goes.
    segments: RwLock<Arc<Vec<Arc<SegmentView>>>>,
    damage: RwLock<Option<Damage>>,
}

impl Shared {
    /// Shows what recovery found. The watermark comes last, so that no reader runs ahead of the segments.
    pub(crate) fn reset(
        &self,
        segments: Vec<Arc<SegmentView>>,
        log_start_offset: Offset,
        high_watermark: Offset,
        damage: Option<Damage>,
    ) {
        *self.damage.write().expect("no one panics holding it") = damage;
        self.set_segments(segments);
        self.set_log_start(log_start_offset);
        self.set_high_watermark(high_watermark);
    }

    pub(crate) fn set_segments(&self, segments: Vec<Arc<SegmentView>>) {
        *self.segments.write().expect("no one panics holding it") = Arc::new(segments);
    }

    pub(crate) fn segments(&self) -> Arc<Vec<Arc<SegmentView>>> {
        Arc::clone(&self.segments.read().expect("no one panics holding it"))
    }

    pub(crate) fn push(&self, view: Arc<SegmentView>) {
        let mut segments = self.segments().to_vec();
        segments.push(view);
        self.set_segments(segments);
    }

    pub(crate) fn set_high_watermark(&self, offset: Offset) {
        self.high_watermark.store(offset.get(), Ordering::Release);
    }

    pub(crate) fn high_watermark(&self) -> Offset {
        Offset::new(self.high_watermark.load(Ordering::Acquire))
    }

    pub(crate) fn set_log_start(&self, offset: Offset) {
        self.log_start_offset.store(offset.get(), Ordering::Release);
    }

    pub(crate) fn log_start(&self) -> Offset {
        Offset::new(self.log_start_offset.load(Ordering::Acquire))
    }

    fn damage(&self) -> Option<Damage> {
        self.damage
            .read()
            .expect("no one panics holding it")
            .clone()
    }
}

/// Reads a partition's log while it is written. Cheap to clone; never sees anything at or above
/// the high watermark.
#[derive(Clone, Debug)]
pub struct LogReader {
    shared: Arc<Shared>,
}

impl LogReader {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    /// The first offset that can be read.
    #[must_use]
    pub fn log_start_offset(&self) -> Offset {
        self.shared.log_start()
    }

    /// The end of what can be read, exclusive.
    #[must_use]
    pub fn high_watermark(&self) -> Offset {
        self.shared.high_watermark()
    }

    /// Whether the partition is damaged from its high watermark on.
    #[must_use]
    pub fn is_offline(&self) -> bool {
        self.shared.damage().is_some()
    }

    /// How many segment files the log has.
    #[must_use]
    pub fn segment_count(&self) -> usize {
        self.shared.segments().len()
    }

    /// Bytes that the readable frames and headers take on disk, without space reserved ahead.
    #[must_use]
    pub fn size_bytes(&self) -> u64 {
        let segments = self.shared.segments();
        segments.iter().map(|view| view.end_position()).sum()
    }

    /// Reads records from an offset on, up to the limit, checking every frame that it touches.
    /// Empty at the high watermark, or where `limit.before` leaves nothing. Blocks while pages
    /// are read from disk.
    ///
    /// # Errors
    /// [`ReadError::OutOfRange`] below the log start and above the high watermark,
    /// [`ReadError::Corrupt`] where the bytes are not those that were written.
    pub fn read(&self, from: Offset, limit: &ReadLimit) -> Result<ReadBatch, ReadError> {
        let high_watermark = self.high_watermark();
        let segments = self.shared.segments();
        let log_start_offset = self.log_start_offset();
        let mut run = Run {
            at: from,
            before: limit
                .before
                .map_or(high_watermark, |before| before.min(high_watermark)),
            limit,
            batch: ReadBatch {
                chunks: Vec::new(),
                record_count: 0,
                bytes: 0,
                next_offset: from,
                high_watermark,
                log_start_offset,
            },
        };
        self.check_range(from, log_start_offset, high_watermark)?;
        while run.at < run.before && !run.is_full() {
            let view = segment_of(&segments, run.at);
            let walked = match view {
                Some(view) => run.walk(view),
                None => Err(self.out_of_range(run.at)),
            };
            match walked {
                Ok(true) => {}
                Ok(false) => break,
                // What was read before the damage is right, and is served; the next read tells of it.
                Err(_) if run.batch.record_count > 0 => break,
                // The segment was trimmed away while this read was on its way to it.
                Err(ReadError::Io { .. }) if run.at < self.log_start_offset() => {
                    return Err(self.out_of_range(run.at));
                }
                Err(error) => return Err(error),
            }
        }
        run.batch.next_offset = run.at;
        Ok(run.batch)
    }

    /// The lowest offset whose record's timestamp is `timestamp_ms` (Unix milliseconds) or later;
    /// `None` when there is no such record below the high watermark.
    ///
    /// # Errors
    /// As [`LogReader::read`].
    pub fn offset_for_time(&self, timestamp_ms: i64) -> Result<Option<Offset>, ReadError> {
        let high_watermark = self.high_watermark();
        let segments = self.shared.segments();
        let start = self.log_start_offset();
        for view in segments.iter() {
            if view.end_offset() <= start || view.max_timestamp_ms() < timestamp_ms {
                continue;
            }
            let mut seek = Seek {
                timestamp_ms,
                from: start.max(view.base_offset),
                before: high_watermark.min(view.end_offset()),
            };
            if let Some(found) = seek.walk(view)? {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    fn check_range(
        &self,
        requested: Offset,
        log_start_offset: Offset,
        high_watermark: Offset,
    ) -> Result<(), ReadError> {
        if let Some(damage) = self.shared.damage()
            && requested >= damage.offset
        {
            return Err(damage.into());
        }
        if requested < log_start_offset || requested > high_watermark {
            return Err(ReadError::OutOfRange {
                requested,
                log_start_offset,
                high_watermark,
            });
        }
        Ok(())
    }

    fn out_of_range(&self, requested: Offset) -> ReadError {
        ReadError::OutOfRange {
            requested,
            log_start_offset: self.log_start_offset(),
            high_watermark: self.high_watermark(),
        }
    }
}

/// The segment that holds an offset: the last one that begins at or below it.
fn segment_of(segments: &[Arc<SegmentView>], offset: Offset) -> Option<&SegmentView> {
    let behind = segments.partition_point(|view| view.base_offset <= offset);
    behind.checked_sub(1).map(|last| &*segments[last])
}

/// The state of one read.
struct Run<'a> {
    at: Offset,
    before: Offset,
    limit: &'a ReadLimit,
    batch: ReadBatch,
}

impl Run<'_> {
    fn is_full(&self) -> bool {
        self.batch.record_count > 0
            && (self.batch.bytes >= self.limit.max_bytes
                || self.batch.record_count >= self.limit.max_records)
    }

    /// Takes what is wanted of one segment; false when the next record does not fit any more.
    fn walk(&mut self, view: &SegmentView) -> Result<bool, ReadError> {
        let (mut window, mut expected) = seek_frame(view, self.at)?;
        while self.at < self.before && !self.is_full() && expected < view.end_offset() {
            if window.at_end() {
                let detail = "the segment ends before the records that it should hold";
                return Err(view.corrupt(self.at, window.at(), detail.into()).into());
            }
            let header = next_header(view, &mut window, expected, self.at)?;
            expected = header.next_offset();
            if expected > self.at {
                if header.kind == FrameKind::Data {
                    let payload = window.payload(&header)?;
                    if !self.take(view, window.at(), &header, &payload)? {
                        return Ok(false);
                    }
                } else {
                    self.at = expected.min(self.before);
                }
            }
            window.skip(header.frame_len());
        }
        Ok(true)
    }

    /// Takes what is wanted of one frame; false when the read is full before the frame's end.
    fn take(
        &mut self,
        view: &SegmentView,
        position: u64,
        header: &FrameHeader,
        payload: &Bytes,
    ) -> Result<bool, ReadError> {
        let no_record = || {
            let detail = "its payload is not a run of records";
            view.corrupt(self.at, position, detail.into())
        };
        let skipped = self.at - header.base_offset;
        let mut from = 0;
        if skipped > 0 {
            let skipped = u32::try_from(skipped).map_err(|_| no_record())?;
            from = skip_records(payload, skipped).ok_or_else(no_record)?;
        }
        let room = self.limit.max_bytes.saturating_sub(self.batch.bytes);
        let wanted = header.next_offset().min(self.before) - self.at;
        let wanted = u32::try_from(wanted)
            .unwrap_or(u32::MAX)
            .min(self.limit.max_records - self.batch.record_count);
        let whole = u64::from(wanted) == header.next_offset() - self.at;
        let (count, to) = if whole && payload.len() - from <= room {
            (wanted, payload.len())
        } else {
            self.cut(payload, from, wanted, room)
                .ok_or_else(no_record)?
        };
        if count > 0 {
            self.batch.chunks.push(payload.slice(from..to));
            self.batch.record_count += count;
            self.batch.bytes += to - from;
            self.at += u64::from(count);
        }
        Ok(self.at == header.next_offset())
    }

    /// How many of at most `wanted` records from byte `from` on fit into `room`, and where they
    /// end. The first record of a read fits always.
    fn cut(&self, payload: &[u8], from: usize, wanted: u32, room: usize) -> Option<(u32, usize)> {
        let (mut count, mut to) = (0, from);
        while count < wanted {
            let end = to + skip_records(&payload[to..], 1)?;
            let first = self.batch.record_count == 0 && count == 0;
            if end - from > room && !first {
                break;
            }
            (count, to) = (count + 1, end);
        }
        Some((count, to))
    }
}

/// A search for a timestamp in one segment.
struct Seek {
    timestamp_ms: i64,
    from: Offset,
    before: Offset,
}

impl Seek {
    fn walk(&mut self, view: &SegmentView) -> Result<Option<Offset>, ReadError> {
        let start = view.seek_time(self.timestamp_ms, self.from)?;
        let mut window = view.window(start.position.get())?;
        let mut expected = start.offset;
        while expected < self.before && !window.at_end() {
            let header = next_header(view, &mut window, expected, expected)?;
            expected = header.next_offset();
            let may_hold = header.kind == FrameKind::Data
                && expected > self.from
                && header.max_timestamp_ms >= self.timestamp_ms;
            if may_hold && let Some(found) = self.find(&header, &window.payload(&header)?) {
                return Ok(Some(found));
            }
            window.skip(header.frame_len());
        }
        Ok(None)
    }

    fn find(&self, header: &FrameHeader, payload: &[u8]) -> Option<Offset> {
        Records::new(payload, &RecordLimits::NONE)
            .map_while(Result::ok)
            .enumerate()
            .map(|(n, (_, record))| (header.base_offset + n as u64, record.timestamp_ms))
            .find(|&(offset, ms)| {
                ms >= self.timestamp_ms && offset >= self.from && offset < self.before
            })
            .map(|(offset, _)| offset)
    }
}

/// A window on the frame that holds an offset, or on one before it. An index that leads to
/// something else than the frame it names is thrown away: it is never evidence.
fn seek_frame(view: &SegmentView, at: Offset) -> Result<(Window<'_>, Offset), ReadError> {
    let entry = view.seek_offset(at)?;
    let mut window = view.window(entry.position.get())?;
    if entry.position.get() == SEGMENT_HEADER_LEN {
        return Ok((window, entry.offset));
    }
    match window.header(at) {
        Ok(header) if header.base_offset == entry.offset => Ok((window, entry.offset)),
        _ => {
            view.distrust_index()?;
            let entry = view.seek_offset(at)?;
            Ok((view.window(entry.position.get())?, entry.offset))
        }
    }
}

/// The header at the window's place, which has to begin at `expected`. `lost` is the first offset
/// that cannot be served if it does not.
fn next_header(
    view: &SegmentView,
    window: &mut Window<'_>,
    expected: Offset,
    lost: Offset,
) -> Result<FrameHeader, Damage> {
    let header = window.header(lost)?;
    if header.base_offset == expected {
        return Ok(header);
    }
    let detail = format!(
        "the frame begins at offset {}, not {expected}",
        header.base_offset
    );
    Err(view.corrupt(lost, window.at(), detail))
}
