//! One simulated file: what readers see, and what the medium holds.

use std::collections::BTreeSet;

use super::image::{Image, PAGE_BYTES, SECTOR_BYTES, units};
use crate::Random;

#[derive(Clone, Debug, Default)]
pub(super) struct Inode {
    /// The page cache: what every reader sees while the machine is up.
    pub(super) visible: Image,
    /// What is on the medium.
    durable: Image,
    /// Sectors that the next sync writes. A sector may differ between the two images and yet not be
    /// here: a failed sync left it clean and lost.
    dirty: BTreeSet<u64>,
    /// The sizes it had since the last sync, the present one last. Empty if that has not changed.
    sizes: Vec<u64>,
    /// Whether a failed sync has left sectors clean and lost, or the medium has rotten.
    lost: bool,
    /// Pages that hold space, written or reserved.
    allocated: BTreeSet<u64>,
}

impl Inode {
    /// Whether a sync would change anything.
    pub(super) fn is_dirty(&self) -> bool {
        !self.dirty.is_empty() || !self.sizes.is_empty()
    }

    /// Whether the medium may hold other bytes than readers see.
    pub(super) fn is_unlike_medium(&self) -> bool {
        self.lost || self.is_dirty()
    }

    /// What a read past the page cache finds: dirty sectors are written before it.
    pub(super) fn medium(&self) -> Image {
        let mut medium = self.durable.clone();
        medium.len = self.visible.len;
        for sector in &self.dirty {
            medium.copy_sector(&self.visible, *sector);
        }
        medium
    }

    /// Changes bits of a byte on the medium; readers go on to see what the cache holds.
    pub(super) fn rot(&mut self, at: u64, bits: u8) {
        let (mut byte, len) = ([0], self.durable.len);
        self.durable.read(&mut byte, at);
        self.durable.write(&[byte[0] ^ bits], at);
        self.durable.len = len;
        self.lost = true;
    }

    pub(super) fn allocated_bytes(&self) -> u64 {
        self.allocated.len() as u64 * PAGE_BYTES
    }

    /// Bytes of space that a write or reservation of the range would take in addition.
    pub(super) fn missing_bytes(&self, at: u64, len: u64) -> u64 {
        let pages = units(at, len, PAGE_BYTES);
        let there = self.allocated.range(pages.clone()).count() as u64;
        (pages.end - pages.start - there) * PAGE_BYTES
    }

    pub(super) fn write(&mut self, bytes: &[u8], at: u64) {
        let len = bytes.len() as u64;
        self.visible.write(bytes, at);
        self.allocated.extend(units(at, len, PAGE_BYTES));
        self.dirty.extend(units(at, len, SECTOR_BYTES));
        self.note_size();
    }

    /// A write that was cut short: any of its sectors are written, in `pages` at most.
    pub(super) fn write_some(&mut self, bytes: &[u8], at: u64, pages: u64, random: &dyn Random) {
        let end = (at / PAGE_BYTES)
            .saturating_add(pages)
            .saturating_mul(PAGE_BYTES);
        for sector in units(at, bytes.len() as u64, SECTOR_BYTES) {
            let from = (sector * SECTOR_BYTES).max(at);
            let to = ((sector + 1) * SECTOR_BYTES).min(at + bytes.len() as u64);
            if to <= end && coin(random) {
                self.write(&bytes[(from - at) as usize..(to - at) as usize], from);
            }
        }
    }

    pub(super) fn reserve(&mut self, at: u64, len: u64) {
        self.allocated.extend(units(at, len, PAGE_BYTES));
        self.visible.set_len(self.visible.len.max(at + len));
        self.note_size();
    }

    /// A reservation that was cut short: its first pages, `pages` at most, are there.
    pub(super) fn reserve_some(&mut self, at: u64, len: u64, pages: u64, random: &dyn Random) {
        let all = units(at, len, PAGE_BYTES);
        let done = random.u64() % ((all.end - all.start).min(pages) + 1);
        let end = ((all.start + done) * PAGE_BYTES).min(at + len);
        if end > at {
            self.reserve(at, end - at);
        }
    }

    fn note_size(&mut self) {
        let known = self.sizes.last().copied().unwrap_or(self.durable.len);
        if self.visible.len != known {
            self.sizes.push(self.visible.len);
        }
    }

    pub(super) fn punch(&mut self, at: u64, len: u64) {
        let len = len.min(self.visible.len.saturating_sub(at));
        // The medium may hold bytes that readers no longer see: a failed sync of an earlier punch
        // leaves them behind.
        let seen = self.visible.written_sectors(at, len);
        let stored = self.durable.written_sectors(at, len);
        self.dirty.extend(seen.chain(stored));
        self.visible.clear(at, len);
        // Only whole pages give their space back.
        let pages = at.div_ceil(PAGE_BYTES)..(at + len) / PAGE_BYTES;
        self.allocated.retain(|page| !pages.contains(page));
    }

    /// The medium takes over what is dirty, and the size.
    pub(super) fn sync(&mut self) {
        for sector in std::mem::take(&mut self.dirty) {
            self.durable.copy_sector(&self.visible, sector);
        }
        self.durable.set_len(self.visible.len);
        self.sizes.clear();
    }

    /// The medium takes over any of what is dirty, as it may at any time; the rest stays dirty.
    pub(super) fn sync_some(&mut self, random: &dyn Random) {
        let (durable, visible) = (&mut self.durable, &self.visible);
        self.dirty.retain(|&sector| {
            let kept = coin(random);
            if kept {
                durable.copy_sector(visible, sector);
            }
            !kept
        });
    }

    /// A sync that failed: any of the dirty sectors reach the medium, and all count as clean. The
    /// size stays to be written, as a journal does with metadata.
    pub(super) fn fail_sync(&mut self, random: &dyn Random) {
        self.sync_some(random);
        self.lost |= !self.dirty.is_empty();
        self.dirty.clear();
    }

    /// What is left when the power goes: the durable image, any subset of the dirty sectors, and
    /// the old size, the new one or any in between.
    pub(super) fn power_cut(&mut self, random: &dyn Random) {
        self.sync_some(random);
        self.dirty.clear();
        let len = self.size_after_power_cut(random);
        self.sizes.clear();
        self.lost = false;
        // Sectors beyond the old size are in the image already; the size decides whether they are
        // in the file.
        let end = self.visible.len.max(self.durable.len);
        self.durable.clear(len, end - len);
        self.durable.len = len;
        self.allocated.retain(|page| page * PAGE_BYTES < len);
        self.visible = self.durable.clone();
    }

    fn size_after_power_cut(&self, random: &dyn Random) -> u64 {
        let (old, new) = (self.durable.len, self.visible.len);
        match random.u64() % 8 {
            _ if self.sizes.is_empty() => new,
            0..3 => old,
            3..6 => new,
            6 => self.sizes[(random.u64() % self.sizes.len() as u64) as usize],
            // What is written back takes the size along, page by page.
            _ => {
                let pages = old.min(new) / PAGE_BYTES..=old.max(new) / PAGE_BYTES;
                let page = pages.start() + random.u64() % (pages.end() - pages.start() + 1);
                (page * PAGE_BYTES).clamp(old.min(new), old.max(new))
            }
        }
    }
}

pub(super) fn coin(random: &dyn Random) -> bool {
    random.u64() & 1 == 1
}
