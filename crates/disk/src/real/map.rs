//! A file of the real disk, mapped: but for one setting of the allocator, the only `unsafe` there is.

use std::fs;
use std::io;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use memmap2::{Advice, Mmap, MmapOptions};
use rustix::io::Errno;

use crate::Map;

/// How often a populate that the kernel asks to repeat is repeated.
const POPULATE_ATTEMPTS_MAX: u32 = 64;

/// So many pages are asked about in one call.
const PAGES_AT_ONCE: usize = 512;

/// For so long a range that was found in memory is taken to be there still. Many readers at the end of a
/// partition ask for the same pages at the same time, and each answer of the kernel costs more than the
/// rest of such a read.
const RESIDENT_FOR: Duration = Duration::from_millis(10);

#[derive(Debug)]
pub(super) struct RealMap {
    mmap: Arc<Mmap>,
    /// The whole map, counted; every slice is one of it, and the last one to go unmaps.
    whole: Bytes,
    /// What was found in memory last, and when.
    found: Mutex<Option<(Range<u64>, Instant)>>,
}

/// What keeps the map alive behind its slices.
struct Mapped(Arc<Mmap>);

impl AsRef<[u8]> for Mapped {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl RealMap {
    pub(super) fn new(file: &fs::File, capacity: u64) -> io::Result<Self> {
        let len = usize::try_from(capacity).map_err(|_| io::ErrorKind::FileTooLarge)?;
        // SAFETY: A map of a file is sound as long as the bytes behind a live reference neither
        // change nor go away. Here:
        // - `Bytes` keeps a pointer and a length; it reads nothing until a slice of it is read.
        //   Callers of `Map::slice` take only ranges below the watermark, that is below the durable
        //   end of a segment, and `populate` proves them readable first.
        // - No byte below the watermark is written again with other bytes (only appends follow it;
        //   recovery writes valid bytes again as they were), and segment files never shrink and are
        //   punched only behind their last frame. So what a slice shows does not change. Bytes
        //   above the watermark do change, and no slice covers them.
        // - The data directory is locked against a second broker. A foreign program that truncates
        //   or rewrites a segment breaks this, as it breaks every reader of a mapped file; the
        //   checksums are there to tell.
        // - The map is read-only, so nothing is written through it, and it is unmapped only when
        //   the last slice is dropped.
        #[allow(unsafe_code)]
        let mmap = unsafe { MmapOptions::new().len(len).map(file)? };
        let mmap = Arc::new(mmap);
        let whole = Bytes::from_owner(Mapped(Arc::clone(&mmap)));
        Ok(RealMap {
            mmap,
            whole,
            found: Mutex::default(),
        })
    }
}

impl RealMap {
    fn check(&self, range: &Range<u64>) -> io::Result<()> {
        if range.start <= range.end && range.end <= self.whole.len() as u64 {
            return Ok(());
        }
        Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!(
                "bytes {} to {} are not all in a map of {} bytes",
                range.start,
                range.end,
                self.whole.len()
            ),
        ))
    }
}

impl Map for RealMap {
    fn populate(&self, range: Range<u64>) -> io::Result<()> {
        self.check(&range)?;
        if range.is_empty() {
            return Ok(());
        }
        // Both fit: they are at most the length of a slice in memory. memmap2 widens the range to
        // whole pages.
        let (at, len) = (range.start as usize, (range.end - range.start) as usize);
        let mut attempt = 1;
        loop {
            let error = match self.mmap.advise_range(Advice::PopulateRead, at, len) {
                Ok(()) => return Ok(()),
                Err(error) => error,
            };
            match Errno::from_io_error(&error) {
                Some(Errno::INTR | Errno::AGAIN) if attempt < POPULATE_ATTEMPTS_MAX => attempt += 1,
                errno => return Err(explain(errno, error, &range)),
            }
        }
    }

    fn resident(&self, range: Range<u64>) -> io::Result<bool> {
        self.check(&range)?;
        let now = Instant::now();
        if self.was_found(&range, now) {
            return Ok(true);
        }
        let resident = self.ask_resident(&range)?;
        if resident {
            *self.found() = Some((range, now));
        }
        Ok(resident)
    }

    fn slice(&self, range: Range<u64>) -> Bytes {
        let bound = |at: u64| usize::try_from(at).expect("a position in a map fits into memory");
        self.whole.slice(bound(range.start)..bound(range.end))
    }
}

impl RealMap {
    fn was_found(&self, range: &Range<u64>, now: Instant) -> bool {
        self.found().as_ref().is_some_and(|(found, at)| {
            let whole = found.start <= range.start && range.end <= found.end;
            whole && now.saturating_duration_since(*at) < RESIDENT_FOR
        })
    }

    fn found(&self) -> MutexGuard<'_, Option<(Range<u64>, Instant)>> {
        self.found.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks the kernel.
    fn ask_resident(&self, range: &Range<u64>) -> io::Result<bool> {
        let page_bytes = rustix::param::page_size();
        let (start, end) = (range.start as usize, range.end as usize);
        let mut at = start - start % page_bytes;
        let mut pages = [0; PAGES_AT_ONCE];
        while at < end {
            let len = (end - at).min(PAGES_AT_ONCE * page_bytes);
            // SAFETY: The bytes are part of the map, which begins at a page as `at` does; `pages` has a
            // byte for each page of them.
            #[allow(unsafe_code)]
            let told = unsafe {
                let begin = self.mmap.as_ptr().add(at).cast_mut();
                libc::mincore(begin.cast(), len, pages.as_mut_ptr())
            };
            if told != 0 {
                return Err(io::Error::last_os_error());
            }
            let count = len.div_ceil(page_bytes);
            if pages[..count].iter().any(|page| page & 1 == 0) {
                return Ok(false);
            }
            at += len;
        }
        Ok(true)
    }
}

/// The kernel's answers to MADV_POPULATE_READ are those of memory, not of files; this says what
/// they mean for the file.
fn explain(errno: Option<Errno>, error: io::Error, range: &Range<u64>) -> io::Error {
    let Range { start, end } = range;
    let (kind, what) = match errno {
        Some(Errno::FAULT) => (
            io::ErrorKind::Other,
            "cannot be read: the medium has an error there, or the file ends before",
        ),
        Some(Errno::IO) => (
            io::ErrorKind::Other,
            "cannot be read: the medium has an error there",
        ),
        Some(Errno::HWPOISON) => (
            io::ErrorKind::Other,
            "cannot be read: the memory that holds them is broken",
        ),
        Some(Errno::NOMEM) => (
            io::ErrorKind::OutOfMemory,
            "cannot be brought into memory: there is not enough of it",
        ),
        Some(Errno::INVAL) => (
            io::ErrorKind::Unsupported,
            "cannot be brought into memory ahead: that takes Linux 5.14",
        ),
        _ => return error,
    };
    io::Error::new(kind, format!("bytes {start} to {end} {what} ({error})"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_found_in_memory_is_asked_for_again_after_a_while() {
        let file = tempfile::tempfile().expect("a file");
        file.set_len(32 << 10).expect("space");
        let map = RealMap::new(&file, 32 << 10).expect("a map");
        map.populate(0..32 << 10).expect("readable");
        let before = Instant::now();
        assert!(!map.was_found(&(0..1), before), "nobody has asked");
        assert!(map.resident(4096..16_384).expect("asked"));
        let after = Instant::now();
        assert!(map.was_found(&(4096..16_384), before));
        assert!(map.was_found(&(5000..6000), before));
        assert!(!map.was_found(&(4095..6000), before), "begins before it");
        assert!(!map.was_found(&(5000..16_385), before), "ends behind it");
        assert!(!map.was_found(&(5000..6000), after + RESIDENT_FOR), "old");
    }
}
