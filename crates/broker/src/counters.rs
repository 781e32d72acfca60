//! What the broker counts while it works. Plain numbers: who shows them, and how, is not known here.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use flowstone_log::ReadBatch;

/// Upper bounds of the classes of sync times, in microseconds; longer ones come last.
pub(crate) const SYNC_MICROS: [u64; 14] = [
    100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000,
    1_000_000, 5_000_000,
];
/// Upper bounds of the classes of group sizes, in requests; larger ones come last.
pub(crate) const GROUP_REQUESTS: [u64; 9] = [1, 2, 4, 8, 16, 64, 256, 1_024, 4_096];

/// A number that only grows.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn add(&self, by: u64) {
        self.0.fetch_add(by, Ordering::Relaxed);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// How often a value fell into which class.
#[derive(Debug)]
pub(crate) struct Classes<const N: usize> {
    bounds: &'static [u64; N],
    counts: [Counter; N],
    above: Counter,
    sum: Counter,
}

impl<const N: usize> Classes<N> {
    fn new(bounds: &'static [u64; N]) -> Self {
        Self {
            bounds,
            counts: std::array::from_fn(|_| Counter::default()),
            above: Counter::default(),
            sum: Counter::default(),
        }
    }

    pub(crate) fn add(&self, value: u64) {
        let class = self.bounds.partition_point(|&bound| bound < value);
        self.counts.get(class).unwrap_or(&self.above).add(1);
        self.sum.add(value);
    }

    pub(crate) fn get(&self) -> Distribution {
        let counts = self.counts.iter().map(Counter::get);
        Distribution {
            classes: self.bounds.iter().copied().zip(counts).collect(),
            above: self.above.get(),
            sum: self.sum.get(),
        }
    }
}

/// How often a value fell into which class, for those that look at it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Distribution {
    /// The upper bound of each class, itself included, ascending, and how many values it has.
    pub classes: Vec<(u64, u64)>,
    /// How many values are above all bounds.
    pub above: u64,
    /// The sum of all values.
    pub sum: u64,
}

/// What was counted since the broker was opened.
#[derive(Debug)]
pub(crate) struct Counters {
    /// Records that were appended and synced, those of the broker's own logs not among them.
    pub(crate) appended_records: Counter,
    /// Their bytes as clients sent them.
    pub(crate) appended_bytes: Counter,
    /// Requests that a partition had appended before.
    pub(crate) duplicate_requests: Counter,
    /// Requests of each group that shared a sync, one for each partition that a request goes to.
    pub(crate) group_requests: Classes<9>,
    /// How long each write and sync of a group took, in microseconds, also of the own logs.
    pub(crate) sync_micros: Classes<14>,
    /// Records that were read for clients.
    pub(crate) read_records: Counter,
    /// Their bytes as they are stored.
    pub(crate) read_bytes: Counter,
    /// Segments that retention has removed.
    pub(crate) retention_segments: Counter,
    /// Their bytes.
    pub(crate) retention_bytes: Counter,
    /// Bytes of sealed segments that a scrub has read.
    pub(crate) scrub_bytes: Counter,
    /// Sealed segments that a scrub has read to their end, or to damage.
    pub(crate) scrub_segments: Counter,
    /// Rounds of the scrub that came to their end.
    pub(crate) scrub_rounds: Counter,
    /// When the last of them did, in Unix milliseconds; 0 before the first.
    pub(crate) scrub_round_ended_ms: AtomicI64,
    /// Damaged segments that a scrub has come upon, in each round anew.
    pub(crate) scrub_damages: Counter,
}

impl Counters {
    pub(crate) fn new() -> Self {
        Self {
            appended_records: Counter::default(),
            appended_bytes: Counter::default(),
            duplicate_requests: Counter::default(),
            group_requests: Classes::new(&GROUP_REQUESTS),
            sync_micros: Classes::new(&SYNC_MICROS),
            read_records: Counter::default(),
            read_bytes: Counter::default(),
            retention_segments: Counter::default(),
            retention_bytes: Counter::default(),
            scrub_bytes: Counter::default(),
            scrub_segments: Counter::default(),
            scrub_rounds: Counter::default(),
            scrub_round_ended_ms: AtomicI64::new(0),
            scrub_damages: Counter::default(),
        }
    }

    /// Takes note of what was read for a client.
    pub(crate) fn read(&self, batch: &ReadBatch) {
        self.read_records.add(u64::from(batch.record_count));
        self.read_bytes.add(batch.bytes as u64);
    }

    /// Takes note of a group that was written and synced.
    pub(crate) fn committed(&self, took: Duration) {
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        self.sync_micros.add(micros);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_falls_into_the_first_class_that_holds_it() {
        let classes = Classes::new(&GROUP_REQUESTS);
        for value in [0, 1, 2, 3, 4, 4_096, 4_097, 10_000] {
            classes.add(value);
        }
        let found = classes.get();
        assert_eq!(found.classes[..3], [(1, 2), (2, 1), (4, 2)]);
        assert_eq!(found.classes[8], (4_096, 1));
        assert_eq!((found.above, found.sum), (2, 18_203));
    }
}
