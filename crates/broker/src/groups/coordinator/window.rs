//! How many records were handed out and are not committed, exact also where offsets have gaps.

use std::collections::VecDeque;

/// So many runs are kept apart; further ones are counted together.
const MAX_RUNS: usize = 16;

/// Runs of offsets, ascending and apart, each with how many records it holds.
#[derive(Debug, Default)]
pub(super) struct Window {
    runs: VecDeque<Run>,
    records: u64,
}

#[derive(Clone, Copy, Debug)]
struct Run {
    from: u64,
    /// Exclusive.
    end: u64,
    records: u64,
}

impl Run {
    fn is_dense(&self) -> bool {
        self.records == self.end - self.from
    }
}

impl Window {
    pub(super) fn records(&self) -> u64 {
        self.records
    }

    /// Takes note of records that are handed out, behind all before.
    pub(super) fn add(&mut self, from: u64, end: u64, records: u64) {
        self.records += records;
        let run = Run { from, end, records };
        let full = self.runs.len() >= MAX_RUNS;
        match self.runs.back_mut() {
            Some(last) if full || (last.end == from && last.is_dense() && run.is_dense()) => {
                last.end = end;
                last.records += records;
            }
            _ => self.runs.push_back(run),
        }
    }

    /// Forgets what lies before an offset. Within a run that has gaps no more is forgotten than surely
    /// lies there.
    pub(super) fn commit(&mut self, offset: u64) {
        while let Some(first) = self.runs.front_mut() {
            if first.end <= offset {
                self.records -= first.records;
                self.runs.pop_front();
                continue;
            }
            if first.from < offset {
                let left = first.records.min(first.end - offset);
                self.records -= first.records - left;
                first.from = offset;
                first.records = left;
            }
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_without_gaps_are_counted_by_the_record() {
        let mut window = Window::default();
        window.add(5, 8, 3);
        window.add(8, 20, 12);
        assert_eq!((window.records(), window.runs.len()), (15, 1));
        window.commit(5);
        assert_eq!(window.records(), 15);
        window.commit(11);
        assert_eq!(window.records(), 9);
        window.commit(20);
        assert_eq!((window.records(), window.runs.len()), (0, 0));
    }

    #[test]
    fn gaps_are_not_counted() {
        let mut window = Window::default();
        window.add(0, 100, 10);
        assert_eq!(window.records(), 10);
        window.commit(50);
        assert_eq!(window.records(), 10, "they may all lie behind");
        window.commit(97);
        assert_eq!(window.records(), 3, "no more can lie behind");
        window.commit(100);
        assert_eq!(window.records(), 0);
    }

    #[test]
    fn it_stays_small_however_many_gaps_there_are() {
        let mut window = Window::default();
        for at in 0..1_000 {
            window.add(at * 10, at * 10 + 10, 1);
        }
        assert_eq!((window.records(), window.runs.len()), (1_000, MAX_RUNS));
        window.commit(10_000);
        assert_eq!(window.records(), 0);
    }
}
