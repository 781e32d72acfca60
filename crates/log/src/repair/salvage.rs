//! Finds the valid frames of a segment file, also behind damage. A frame is known by its header's
//! checksum, which covers the segment's salt and the frame's place: nothing else passes, wherever
//! the search begins.

use std::io;
use std::ops::Range;

use flowstone_disk::File;
use flowstone_format::{FRAME_MAGIC, FrameHeader, MAX_HEADER_LEN, Offset, Position, SegmentEntry};

use crate::active::FIRST_FRAME;
use crate::scan::check_records;
use crate::tail::Tail;

const READ_AHEAD_BYTES: u64 = 1 << 20;
/// What one bad spot of a medium takes with it.
const SECTOR_BYTES: u64 = 512;

/// Valid frames that follow each other in a file without a break.
#[derive(Clone, Debug)]
pub(super) struct Run {
    pub(super) bytes: Range<u64>,
    pub(super) first: FrameHeader,
    pub(super) last: FrameHeader,
    pub(super) last_header_crc: u32,
    pub(super) frames: u64,
    pub(super) records: u64,
    pub(super) max_timestamp_ms: i64,
}

impl Run {
    pub(super) fn start(&self) -> Offset {
        self.first.base_offset
    }

    pub(super) fn end(&self) -> Offset {
        self.last.next_offset()
    }

    /// Whether it is what a reader finds who begins at the segment's first frame.
    pub(super) fn begins(&self, entry: &SegmentEntry) -> bool {
        self.bytes.start == FIRST_FRAME.get()
            && self.start() == entry.base_offset
            && self.first.prev_header_crc == entry.header_crc
    }

    fn new(found: Found, at: u64) -> Self {
        Self {
            bytes: at..at + found.header.frame_len(),
            frames: 1,
            records: u64::from(found.header.record_count),
            max_timestamp_ms: found.header.max_timestamp_ms,
            last_header_crc: found.header_crc,
            last: found.header.clone(),
            first: found.header,
        }
    }

    /// Takes the next frame if nothing is missing before it.
    fn takes(&mut self, found: &Found, at: u64) -> bool {
        let tail = Tail {
            next_offset: self.end(),
            next_index: self.last.entry_index + 1,
            epoch: self.last.leader_epoch,
            last_append_ms: self.last.append_ms,
            prev_header_crc: self.last_header_crc,
        };
        let follows = at == self.bytes.end && tail.admits(&found.header).is_ok();
        if follows {
            self.bytes.end += found.header.frame_len();
            self.frames += 1;
            self.records += u64::from(found.header.record_count);
            self.max_timestamp_ms = self.max_timestamp_ms.max(found.header.max_timestamp_ms);
            self.last_header_crc = found.header_crc;
            self.last = found.header.clone();
        }
        follows
    }
}

/// What is left of a segment file.
#[derive(Debug, Default)]
pub(super) struct Salvaged {
    /// The valid frames, in order; between two runs something is lost.
    pub(super) runs: Vec<Run>,
    /// The end of the offsets, and the entry index, that the last valid header speaks of whose
    /// payload is damaged.
    pub(super) known_lost: Option<(Offset, u64)>,
}

/// A valid frame.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) header: FrameHeader,
    pub(super) header_crc: u32,
}

/// What lies at a place of a file.
enum Look {
    Frame(Found),
    /// The header is valid, what it speaks of is not there.
    Damaged(FrameHeader),
    Nothing,
}

/// A newer version wrote a frame, which must not be taken for damage.
#[derive(Debug)]
pub(super) struct Newer {
    pub(super) position: Position,
    pub(super) detail: String,
}

/// Finds all frames of the segment with `salt` below `limit` that hold offsets of this range.
pub(super) fn salvage(
    file: &dyn File,
    salt: u64,
    limit: u64,
    offsets: &Range<Offset>,
) -> Result<Salvaged, Newer> {
    let mut bytes = LossyBytes::new(file, limit);
    let mut salvaged = Salvaged::default();
    let mut at = FIRST_FRAME.get();
    while at < limit {
        let last = salvaged.runs.last();
        let fits = |header: &FrameHeader| {
            let follows = last.is_none_or(|run| {
                header.base_offset >= run.end()
                    && header.entry_index > run.last.entry_index
                    && header.leader_epoch >= run.last.leader_epoch
                    && header.append_ms >= run.last.append_ms
            });
            follows && header.base_offset >= offsets.start && header.next_offset() <= offsets.end
        };
        match look(&mut bytes, salt, at)? {
            Look::Frame(found) if fits(&found.header) => {
                let len = found.header.frame_len();
                let taken = salvaged
                    .runs
                    .last_mut()
                    .is_some_and(|run| run.takes(&found, at));
                if !taken {
                    salvaged.runs.push(Run::new(found, at));
                }
                at += len;
            }
            Look::Damaged(header) if fits(&header) => {
                salvaged.known_lost = Some((header.next_offset(), header.entry_index));
                at += header.frame_len();
            }
            // What does not fit was cut off, or is of what comes later.
            Look::Frame(Found { header, .. }) | Look::Damaged(header) => at += header.frame_len(),
            Look::Nothing => at = bytes.find_magic(at + 1),
        }
    }
    Ok(salvaged)
}

fn look(bytes: &mut LossyBytes<'_>, salt: u64, at: u64) -> Result<Look, Newer> {
    let position = Position::new(at);
    let decoded = FrameHeader::decode(bytes.get(at, u64::from(MAX_HEADER_LEN)), salt, position);
    let (header, header_crc) = match decoded {
        Ok(decoded) => decoded,
        Err(error) if error.is_newer() => {
            let detail = error.to_string();
            return Err(Newer { position, detail });
        }
        Err(_) => return Ok(Look::Nothing),
    };
    let frame = bytes.get(at, header.frame_len());
    let sound = frame
        .get(usize::from(header.header_len)..)
        .is_some_and(|payload| {
            header.check_payload(payload).is_ok() && check_records(&header, payload).is_ok()
        });
    Ok(if sound {
        Look::Frame(Found { header, header_crc })
    } else {
        Look::Damaged(header)
    })
}

/// The entry index of a segment's first frame, if its header is there.
pub(super) fn first_index(file: &dyn File, salt: u64) -> Option<u64> {
    let limit = limit_of(file, None).ok()?;
    let mut bytes = LossyBytes::new(file, limit);
    let window = bytes.get(FIRST_FRAME.get(), u64::from(MAX_HEADER_LEN));
    let (header, _) = FrameHeader::decode(window, salt, FIRST_FRAME).ok()?;
    Some(header.entry_index)
}

/// A file's bytes below a limit, read ahead. Sectors that cannot be read are zeros, which nothing
/// that counts passes for.
#[derive(Debug)]
pub(super) struct LossyBytes<'a> {
    file: &'a dyn File,
    limit: u64,
    buffer: Vec<u8>,
    buffer_at: u64,
}

impl<'a> LossyBytes<'a> {
    pub(super) fn new(file: &'a dyn File, limit: u64) -> Self {
        Self {
            file,
            limit,
            buffer: Vec::new(),
            buffer_at: 0,
        }
    }

    /// `len` bytes from `at` on, fewer at the limit.
    pub(super) fn get(&mut self, at: u64, len: u64) -> &[u8] {
        let len = len.min(self.limit.saturating_sub(at));
        let end = self.buffer_at + self.buffer.len() as u64;
        if at < self.buffer_at || at + len > end {
            let ahead = len.max(READ_AHEAD_BYTES).min(self.limit - at);
            self.buffer.resize(index(ahead), 0);
            self.buffer_at = at;
            if self.file.read_exact_at(&mut self.buffer, at).is_err() {
                self.read_sectors();
            }
        }
        let from = index(at - self.buffer_at);
        &self.buffer[from..from + index(len)]
    }

    /// Sector by sector of the file, so that a bad one takes nothing of its neighbours with it.
    fn read_sectors(&mut self) {
        let mut at = self.buffer_at;
        let mut left = &mut self.buffer[..];
        while !left.is_empty() {
            let sector_end = (at / SECTOR_BYTES + 1) * SECTOR_BYTES;
            let len = left.len().min(index(sector_end - at));
            let (sector, behind) = left.split_at_mut(len);
            if self.file.read_exact_at(sector, at).is_err() {
                sector.fill(0);
            }
            (at, left) = (sector_end, behind);
        }
    }

    /// The next place at or behind `at` where a frame may begin, or the limit.
    fn find_magic(&mut self, mut at: u64) -> u64 {
        while at + FRAME_MAGIC.len() as u64 <= self.limit {
            let window = self.get(at, READ_AHEAD_BYTES);
            let found = window
                .windows(FRAME_MAGIC.len())
                .position(|bytes| bytes == FRAME_MAGIC);
            match found {
                Some(found) => return at + found as u64,
                None => at += (window.len() - FRAME_MAGIC.len() + 1) as u64,
            }
        }
        self.limit
    }
}

/// The length of a file, as far as a segment may reach into it.
pub(super) fn limit_of(file: &dyn File, most: Option<Position>) -> io::Result<u64> {
    let len = file.len()?;
    Ok(most.map_or(len, |most| len.min(most.get())))
}

fn index(bytes: u64) -> usize {
    usize::try_from(bytes).expect("frames and chunks are bounded")
}

#[cfg(test)]
mod tests {
    use std::io::ErrorKind;
    use std::path::Path;
    use std::sync::Arc;

    use flowstone_disk::{Disk, OpKind, OpenMode, SimDisk};

    use super::*;

    /// Numbers that repeat after a prime number of bytes, so that no two places near each other look alike.
    fn noise(len: usize) -> Vec<u8> {
        (0..len).map(|at| (at * 7 % 251) as u8).collect()
    }

    fn file(bytes: &[u8]) -> (SimDisk, Arc<dyn File>) {
        let disk = SimDisk::new(1);
        let file = disk.open(Path::new("/f"), OpenMode::CreateNew).unwrap();
        file.write_all_at(bytes, 0).unwrap();
        (disk, file)
    }

    #[test]
    fn bytes_are_those_of_the_file_wherever_they_are_asked_for() {
        let ahead = index(READ_AHEAD_BYTES);
        let all = noise(2 * ahead + 700);
        let (_, file) = file(&all);
        let limit = all.len() - 100;
        let mut bytes = LossyBytes::new(&*file, limit as u64);
        let places = [
            0,
            5,
            ahead - 1,
            ahead,
            ahead + 300,
            2 * ahead,
            limit - 3,
            9,
            limit,
        ];
        for from in places.into_iter().chain(places.into_iter().rev()) {
            for len in [0, 1, 128, 4_096, ahead + 1] {
                let end = limit.min(from + len);
                assert_eq!(bytes.get(from as u64, len as u64), &all[from..end]);
            }
        }
    }

    #[test]
    fn the_next_magic_is_found_over_the_borders_of_what_is_read_ahead() {
        let ahead = index(READ_AHEAD_BYTES);
        let len = ahead + 700;
        let magic = FRAME_MAGIC.len();
        for place in [0, 1, ahead - 4, ahead - 3, ahead - 1, ahead, len - magic] {
            let mut all = vec![0; len];
            all[place..place + magic].copy_from_slice(&FRAME_MAGIC);
            let (_, file) = file(&all);
            let mut bytes = LossyBytes::new(&*file, len as u64);
            assert_eq!(bytes.find_magic(0), place as u64);
            assert_eq!(bytes.find_magic(place as u64), place as u64);
            assert_eq!(bytes.find_magic(place as u64 + 1), len as u64, "no other");
            let mut before = LossyBytes::new(&*file, (place + magic) as u64 - 1);
            assert_eq!(before.find_magic(0), (place + magic) as u64 - 1);
        }
    }

    #[test]
    fn a_bad_sector_takes_only_itself_with_it() {
        let all = noise(3_000);
        let (disk, file) = file(&all);
        disk.set_hook(|op| {
            let bad = op.kind == OpKind::Read && op.at < 1_536 && op.at + op.len > 1_024;
            bad.then(|| ErrorKind::Other.into())
        });
        let mut bytes = LossyBytes::new(&*file, 3_000);
        let mut expected = all;
        expected[1_024..1_536].fill(0);
        assert_eq!(bytes.get(100, 2_900), &expected[100..]);
    }
}
