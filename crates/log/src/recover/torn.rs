//! Tells a torn write from rot by what lies in a file behind its last valid frame.

use std::io;

use flowstone_disk::File;
use flowstone_format::{FRAME_MAGIC, FrameHeader, MAX_HEADER_LEN, Position};

const CHUNK_BYTES: u64 = 1 << 20;
const SECTOR_BYTES: u64 = 512;
const BLOCK_BYTES: usize = 256;

/// The position of the last byte at or behind `from` that is not zero.
pub(super) fn last_nonzero(file: &dyn File, from: u64) -> io::Result<Option<u64>> {
    let mut end = file.len()?;
    while end > from {
        let start = end.saturating_sub(CHUNK_BYTES).max(from);
        let chunk = read(file, start, end)?;
        if let Some(at) = last_nonzero_in(&chunk) {
            return Ok(Some(start + at as u64));
        }
        end = start;
    }
    Ok(None)
}

/// Looks at whole blocks first, which the compiler turns into a few wide instructions each.
fn last_nonzero_in(bytes: &[u8]) -> Option<usize> {
    let mut end = bytes.len();
    for block in bytes.rchunks(BLOCK_BYTES) {
        if block.iter().fold(0, |all, &byte| all | byte) != 0 {
            let within = block.iter().rposition(|&byte| byte != 0);
            return within.map(|at| end - block.len() + at);
        }
        end -= block.len();
    }
    None
}

/// The greatest durable end that a valid frame header behind `from` speaks of. Such a header
/// proves that a sync had returned; its own place proves nothing.
pub(super) fn durable_upto_behind(
    file: &dyn File,
    from: u64,
    salt: u64,
) -> io::Result<Option<Position>> {
    let len = file.len()?;
    let mut greatest = None;
    let mut start = from;
    while start < len {
        // Chunks overlap by a header, so that none is missed at their edges.
        let end = len.min(start + CHUNK_BYTES + u64::from(MAX_HEADER_LEN));
        let chunk = read(file, start, end)?;
        let own = usize::try_from((len - start).min(CHUNK_BYTES)).expect("a chunk fits");
        for at in 0..own {
            if !chunk[at..].starts_with(&FRAME_MAGIC) {
                continue;
            }
            let place = Position::new(start + at as u64);
            if let Ok((header, _)) = FrameHeader::decode(&chunk[at..], salt, place) {
                greatest = greatest.max(Some(header.durable_upto.min(place)));
            }
        }
        start += CHUNK_BYTES;
    }
    Ok(greatest)
}

/// Whether the bad frame at `at` looks like a write that the power cut short: space reads as zero
/// until it is written, and the disk writes whole sectors, so one of its sectors is still zero, or
/// all is zero from within it to the end of the file. `own_len` is the frame's length if its
/// header is valid, else that of a header. `last_nonzero` is the last byte in the file that is not zero.
pub(super) fn is_torn(
    file: &dyn File,
    at: u64,
    own_len: u64,
    last_nonzero: u64,
) -> io::Result<bool> {
    let end = at + own_len;
    if last_nonzero + 1 < end {
        return Ok(true);
    }
    let own = read(file, at, end.min(file.len()?))?;
    let mut sector_start = at;
    while sector_start < end {
        let sector_end = ((sector_start / SECTOR_BYTES + 1) * SECTOR_BYTES).min(end);
        let range = index(sector_start - at).min(own.len())..index(sector_end - at).min(own.len());
        if own[range].iter().all(|&byte| byte == 0) {
            return Ok(true);
        }
        sector_start = sector_end;
    }
    Ok(false)
}

fn read(file: &dyn File, from: u64, to: u64) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; index(to.saturating_sub(from))];
    file.read_exact_at(&mut bytes, from)?;
    Ok(bytes)
}

fn index(bytes: u64) -> usize {
    usize::try_from(bytes).expect("frames and chunks are bounded")
}

#[cfg(test)]
mod tests;
