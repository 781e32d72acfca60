//! One simulated file: what readers see, and what the medium holds.

use std::collections::BTreeSet;

use super::image::{Image, PAGE_BYTES, SECTOR_BYTES, units};
use crate::Random;

#[derive(Debug, Default)]
pub(super) struct Inode {
    /// The page cache: what every reader sees while the machine is up.
    pub(super) visible: Image,
    /// What is on the medium.
    durable: Image,
    /// Sectors that the next sync writes. A sector may differ between the two images and yet not be
    /// here: a failed sync left it clean and lost.
    dirty: BTreeSet<u64>,
    /// Pages that hold space, written or reserved.
    allocated: BTreeSet<u64>,
}

impl Inode {
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
    }

    pub(super) fn reserve(&mut self, at: u64, len: u64) {
        self.allocated.extend(units(at, len, PAGE_BYTES));
        self.visible.set_len(self.visible.len.max(at + len));
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
    }

    /// A sync that failed: nothing reaches the medium, and the pages count as clean all the same.
    /// The size stays to be written, as a journal does with metadata.
    pub(super) fn fail_sync(&mut self) {
        self.dirty.clear();
    }

    /// What is left when the power goes: the durable image, any subset of the dirty sectors, and
    /// the old or the new size.
    pub(super) fn power_cut(&mut self, random: &dyn Random) {
        for sector in std::mem::take(&mut self.dirty) {
            if coin(random) {
                self.durable.copy_sector(&self.visible, sector);
            }
        }
        let len = if coin(random) {
            self.visible.len
        } else {
            self.durable.len
        };
        // Sectors beyond the old size are in the image already; the size decides whether they are
        // in the file.
        let end = self.visible.len.max(self.durable.len);
        self.durable.clear(len, end - len);
        self.durable.len = len;
        self.allocated.retain(|page| page * PAGE_BYTES < len);
        self.visible = self.durable.clone();
    }
}

pub(super) fn coin(random: &dyn Random) -> bool {
    random.u64() & 1 == 1
}
