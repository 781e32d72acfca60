//! Which bytes of a segment have stayed in memory since this process wrote them or checked them.

use std::ops::Range;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// So many ranges are remembered; of more the shortest is forgotten. Reads in order make one range, so do
/// writes.
const RANGES_MAX: usize = 8;

/// Ranges of bytes that need no check before they are read again.
///
/// It holds as long as the pages are in memory. Whoever finds one that is not has to [`forget`](Self::forget)
/// all: to bring it in makes the kernel read its neighbours, too, and from then on nobody can tell which of them
/// had been gone.
#[derive(Debug, Default)]
pub(super) struct Checked(Mutex<Known>);

#[derive(Debug, Default)]
struct Known {
    ranges: Vec<Range<u64>>,
    /// How often all was forgotten.
    forgotten: u64,
}

/// A moment between two forgettings.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Moment(u64);

impl Checked {
    /// Whether all of a range was added.
    pub(super) fn has(&self, range: &Range<u64>) -> bool {
        let whole = |known: &Range<u64>| known.start <= range.start && range.end <= known.end;
        self.known().ranges.iter().any(whole)
    }

    /// To be asked before one looks whether the pages of a range are in memory.
    pub(super) fn now(&self) -> Moment {
        Moment(self.known().forgotten)
    }

    /// Adds a range whose pages were in memory at a moment, unless all was forgotten since. It becomes one with
    /// those that it touches.
    pub(super) fn add(&self, mut range: Range<u64>, moment: Moment) {
        let mut known = self.known();
        if moment != Moment(known.forgotten) {
            return;
        }
        let ranges = &mut known.ranges;
        ranges.retain(|known| {
            let apart = known.end < range.start || range.end < known.start;
            if !apart {
                range = known.start.min(range.start)..known.end.max(range.end);
            }
            apart
        });
        let len = |range: &Range<u64>| range.end - range.start;
        if ranges.len() == RANGES_MAX {
            let shortest = (0..ranges.len()).min_by_key(|&at| len(&ranges[at]));
            shortest.map(|at| ranges.swap_remove(at));
        }
        ranges.push(range);
    }

    /// Forgets all. Answers with the moment after.
    pub(super) fn forget(&self) -> Moment {
        let mut known = self.known();
        known.ranges.clear();
        known.forgotten += 1;
        Moment(known.forgotten)
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        // Nothing panics halfway through a change.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_that_touch_are_one() {
        let checked = Checked::default();
        checked.add(10..20, checked.now());
        checked.add(30..40, checked.now());
        assert!(!checked.has(&(10..40)));
        checked.add(20..30, checked.now());
        assert!(checked.has(&(10..40)));
        assert!(!checked.has(&(9..11)) && !checked.has(&(39..41)));
        assert_eq!(checked.known().ranges.len(), 1);
    }

    #[test]
    fn the_shortest_range_is_forgotten_first() {
        let checked = Checked::default();
        let max = RANGES_MAX as u64;
        for n in 0..max {
            checked.add(n * 100..n * 100 + 10 + n, checked.now());
        }
        checked.add(5000..5001, checked.now());
        assert!(!checked.has(&(0..10)), "the shortest made room");
        assert!(checked.has(&(5000..5001)), "for the newest");
        assert!((1..max).all(|n| checked.has(&(n * 100..n * 100 + 10 + n))));
    }

    #[test]
    fn nothing_is_known_after_a_page_was_found_gone() {
        let checked = Checked::default();
        checked.add(0..4096, checked.now());
        checked.forget();
        assert!(!checked.has(&(0..1)));
    }

    #[test]
    fn what_was_in_memory_before_a_page_was_found_gone_is_not_added() {
        let checked = Checked::default();
        let before = checked.now();
        let after = checked.forget();
        checked.add(0..4096, before);
        assert!(!checked.has(&(0..1)));
        checked.add(0..4096, after);
        assert!(checked.has(&(0..4096)));
    }
}
