//! Walks the frames of one segment file by reading it, and checks each against the one before.

use std::io;

use flowstone_disk::File;
use flowstone_format::{
    FrameError, FrameHeader, FrameKind, MAX_HEADER_LEN, Position, RecordLimits, Records,
};

use crate::tail::Tail;

const READ_AHEAD_BYTES: usize = 1 << 20;
/// For a walk from header to header, which skips what lies between where that takes less time than to read it.
const HEADERS_AHEAD_BYTES: usize = 64 << 10;
/// The same where a frame is longer than that.
const HEADER_AHEAD_BYTES: usize = 4 << 10;

/// One frame as it was found.
#[derive(Debug)]
pub(crate) struct FrameAt {
    pub(crate) header: FrameHeader,
    pub(crate) position: Position,
}

/// Bytes that are not the next frame.
#[derive(Debug)]
pub(crate) struct Bad {
    /// The frame's length, when its header was valid by itself.
    pub(crate) frame_len: Option<u64>,
    /// The header is whole, and of a version, kind or codec that this one does not know.
    pub(crate) newer: bool,
    pub(crate) detail: String,
}

/// Why a scan stopped before its limit.
#[derive(Debug)]
pub(crate) enum ScanError {
    /// What lies at the scan's position is not the next frame.
    Bad(Bad),
    /// The file could not be read there. Never taken for a torn tail.
    Io(io::Error),
}

/// A walk over the frames from a position up to a limit.
#[derive(Debug)]
pub(crate) struct Scan<'a> {
    file: &'a dyn File,
    salt: u64,
    limit: u64,
    position: u64,
    tail: Tail,
    /// Of the frame before.
    last_len: usize,
    buffer: Vec<u8>,
    buffer_at: u64,
}

impl<'a> Scan<'a> {
    /// `limit` is where the walk ends: the end of the file, or that of a sealed segment.
    pub(crate) fn new(
        file: &'a dyn File,
        salt: u64,
        position: Position,
        limit: u64,
        tail: Tail,
    ) -> Self {
        Self {
            file,
            salt,
            limit,
            position: position.get(),
            tail,
            last_len: 0,
            buffer: Vec::new(),
            buffer_at: 0,
        }
    }

    /// Where the next frame begins, or the bad one.
    pub(crate) fn position(&self) -> Position {
        Position::new(self.position)
    }

    /// The chain up to the scan's position.
    pub(crate) fn tail(&self) -> Tail {
        self.tail
    }

    /// The next frame, its header and payload checked; `None` at the limit.
    pub(crate) fn next_frame(&mut self) -> Result<Option<FrameAt>, ScanError> {
        let Some((header, header_crc)) = self.header(READ_AHEAD_BYTES)? else {
            return Ok(None);
        };
        let payload = &self.bytes(header.frame_len(), READ_AHEAD_BYTES)?;
        let payload = &payload[usize::from(header.header_len)..];
        if let Err(error) = header.check_payload(payload) {
            return Err(bad(Some(header.frame_len()), &error));
        }
        let position = self.position();
        self.step(&header, header_crc);
        Ok(Some(FrameAt { header, position }))
    }

    /// The header of the next frame, whose payload is not looked at; `None` at the limit.
    pub(crate) fn next_header(&mut self) -> Result<Option<FrameHeader>, ScanError> {
        let ahead = match self.last_len {
            ..=HEADERS_AHEAD_BYTES => HEADERS_AHEAD_BYTES,
            _ => HEADER_AHEAD_BYTES,
        };
        let Some((header, header_crc)) = self.header(ahead)? else {
            return Ok(None);
        };
        self.step(&header, header_crc);
        Ok(Some(header))
    }

    /// The header at the scan's position and its checksum, held against what stands before it.
    fn header(&mut self, ahead: usize) -> Result<Option<(FrameHeader, u32)>, ScanError> {
        let left = self.limit.saturating_sub(self.position);
        if left == 0 {
            return Ok(None);
        }
        let (salt, at) = (self.salt, self.position());
        let window = self.bytes(left.min(u64::from(MAX_HEADER_LEN)), ahead)?;
        let (header, header_crc) =
            FrameHeader::decode(window, salt, at).map_err(|error| bad(None, &error))?;
        let misfit = self.tail.admits(&header).and_then(|()| {
            let len = header.frame_len();
            let fits = len <= left;
            fits.then_some(())
                .ok_or_else(|| format!("the frame has {len} bytes, and {left} follow"))
        });
        match misfit {
            Ok(()) => Ok(Some((header, header_crc))),
            Err(detail) => Err(ScanError::Bad(Bad {
                frame_len: Some(header.frame_len()),
                newer: false,
                detail,
            })),
        }
    }

    fn step(&mut self, header: &FrameHeader, header_crc: u32) {
        self.tail.advance(header, header_crc);
        self.position += header.frame_len();
        self.last_len = usize::try_from(header.frame_len()).expect("frame lengths are bounded");
    }

    /// The payload of the frame that `next_frame` returned last.
    pub(crate) fn payload(&self, frame: &FrameAt) -> &[u8] {
        let end = usize::try_from(self.position - self.buffer_at).expect("within the buffer");
        &self.buffer[end - frame.header.payload_len as usize..end]
    }

    /// `len` bytes from the scan's position, which lie below the limit. Where they have to be read,
    /// at least `ahead` are.
    fn bytes(&mut self, len: u64, ahead: usize) -> Result<&[u8], ScanError> {
        let len = usize::try_from(len).expect("frame lengths are bounded");
        let end = self.buffer_at + self.buffer.len() as u64;
        if self.position < self.buffer_at || self.position + len as u64 > end {
            let left = usize::try_from(self.limit - self.position).unwrap_or(usize::MAX);
            self.buffer.resize(left.min(len.max(ahead)), 0);
            self.buffer_at = self.position;
            self.file
                .read_exact_at(&mut self.buffer, self.position)
                .map_err(ScanError::Io)?;
        }
        let from = usize::try_from(self.position - self.buffer_at).expect("within the buffer");
        Ok(&self.buffer[from..from + len])
    }
}

fn bad(frame_len: Option<u64>, error: &FrameError) -> ScanError {
    ScanError::Bad(Bad {
        frame_len,
        newer: error.is_newer(),
        detail: error.to_string(),
    })
}

/// Holds a data frame's records against its header.
pub(crate) fn check_records(header: &FrameHeader, payload: &[u8]) -> Result<(), String> {
    if header.kind != FrameKind::Data {
        return Ok(());
    }
    let (mut count, mut max_ms) = (0, i64::MIN);
    for record in Records::new(payload, &RecordLimits::NONE) {
        let (_, record) = record.map_err(|error| error.to_string())?;
        let expected = header.base_offset + count;
        if record.offset != Some(expected.get()) {
            return Err(format!(
                "record {count} says offset {:?}, and has {expected}",
                record.offset
            ));
        }
        count += 1;
        max_ms = max_ms.max(record.timestamp_ms);
    }
    if count != u64::from(header.record_count) {
        return Err(format!(
            "it holds {count} records, and its header says {}",
            header.record_count
        ));
    }
    if max_ms != header.max_timestamp_ms {
        return Err("its greatest timestamp is not that of its header".into());
    }
    Ok(())
}
