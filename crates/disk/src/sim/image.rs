//! The bytes of a simulated file: sparse pages, absent ones reading as zeros, shared between copies
//! until written.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

/// The unit of a map and of allocation.
pub(super) const PAGE_BYTES: u64 = 4096;
/// The unit that a power cut keeps or loses whole.
pub(super) const SECTOR_BYTES: u64 = 512;

type Page = [u8; PAGE_BYTES as usize];

/// One view of a file: its size, and its bytes up to there.
#[derive(Clone, Debug, Default)]
pub(super) struct Image {
    pub(super) len: u64,
    /// By page number. Bytes at or past `len` are zero.
    pages: BTreeMap<u64, Arc<Page>>,
}

impl Image {
    /// Copies out `out.len()` bytes from `at`; whatever was never written, or lies past the end, is
    /// zero.
    pub(super) fn read(&self, out: &mut [u8], at: u64) {
        out.fill(0);
        for piece in pieces(at, out.len()) {
            if let Some(page) = self.pages.get(&piece.page) {
                out[piece.buf].copy_from_slice(&page[piece.within]);
            }
        }
    }

    /// Puts `bytes` at `at` and grows over them.
    pub(super) fn write(&mut self, bytes: &[u8], at: u64) {
        for piece in pieces(at, bytes.len()) {
            self.page_mut(piece.page)[piece.within].copy_from_slice(&bytes[piece.buf]);
        }
        self.len = self.len.max(at + bytes.len() as u64);
    }

    /// Makes a range zero without changing the size.
    pub(super) fn clear(&mut self, at: u64, len: u64) {
        let end = at.saturating_add(len);
        let within: Vec<u64> = self
            .pages
            .range(at / PAGE_BYTES..=end / PAGE_BYTES)
            .map(|(page, _)| *page)
            .collect();
        for number in within {
            let start = number * PAGE_BYTES;
            let (from, to) = (
                at.max(start) - start,
                end.min(start + PAGE_BYTES).saturating_sub(start),
            );
            if (from, to) == (0, PAGE_BYTES) {
                self.pages.remove(&number);
            } else if from < to {
                self.page_mut(number)[from as usize..to as usize].fill(0);
            }
        }
    }

    /// Changes the size; what lies past a smaller one is gone.
    pub(super) fn set_len(&mut self, len: u64) {
        if len < self.len {
            self.clear(len, self.len - len);
        }
        self.len = len;
    }

    /// Takes over one sector of another image, without its size.
    pub(super) fn copy_sector(&mut self, from: &Image, sector: u64) {
        let at = sector * SECTOR_BYTES;
        let within = (at % PAGE_BYTES) as usize..(at % PAGE_BYTES + SECTOR_BYTES) as usize;
        match from.pages.get(&(at / PAGE_BYTES)) {
            Some(page) => {
                self.page_mut(at / PAGE_BYTES)[within.clone()].copy_from_slice(&page[within])
            }
            None => self.clear(at, SECTOR_BYTES),
        }
    }

    /// Numbers of the sectors in a range that hold written bytes.
    pub(super) fn written_sectors(&self, at: u64, len: u64) -> impl Iterator<Item = u64> {
        let sectors = units(at, len, SECTOR_BYTES);
        let pages = units(at, len, PAGE_BYTES);
        self.pages.range(pages).flat_map(move |(page, _)| {
            let first = page * (PAGE_BYTES / SECTOR_BYTES);
            let last = first + PAGE_BYTES / SECTOR_BYTES;
            first.max(sectors.start)..last.min(sectors.end)
        })
    }

    fn page_mut(&mut self, number: u64) -> &mut Page {
        Arc::make_mut(
            self.pages
                .entry(number)
                .or_insert_with(|| Arc::new([0; PAGE_BYTES as usize])),
        )
    }
}

/// Numbers of the units (pages, sectors) that a range of bytes touches.
pub(super) fn units(at: u64, len: u64, unit: u64) -> Range<u64> {
    if len == 0 {
        at / unit..at / unit
    } else {
        at / unit..at.saturating_add(len).div_ceil(unit)
    }
}

/// A part of a range that lies within one page.
struct Piece {
    page: u64,
    within: Range<usize>,
    buf: Range<usize>,
}

fn pieces(at: u64, len: usize) -> impl Iterator<Item = Piece> {
    let mut done = 0;
    std::iter::from_fn(move || {
        if done == len {
            return None;
        }
        let (page, within) = (
            (at + done as u64) / PAGE_BYTES,
            ((at + done as u64) % PAGE_BYTES) as usize,
        );
        let step = (PAGE_BYTES as usize - within).min(len - done);
        let piece = Piece {
            page,
            within: within..within + step,
            buf: done..done + step,
        };
        done += step;
        Some(piece)
    })
}
