//! When each record is due, for a load that does not wait for the broker.

use std::thread;
use std::time::{Duration, Instant};

/// The schedule of one producer: its records are due at even distances from the beginning on.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    begun: Instant,
    /// Until the first record.
    first: Duration,
    /// Records a second.
    rate: f64,
}

impl Pace {
    /// The share of producer `number` out of `producers` in a rate that all have together. They take
    /// turns, so that together they are even, too.
    pub(super) fn new(begun: Instant, rate: f64, number: u32, producers: u32) -> Self {
        Self {
            begun,
            first: Duration::from_secs_f64(f64::from(number) / rate),
            rate: rate / f64::from(producers),
        }
    }

    /// When a record is due.
    pub(super) fn due(&self, record: u64) -> Instant {
        self.begun + self.first + Duration::from_secs_f64(record as f64 / self.rate)
    }
}

/// Sleeps until a record is due, and not at all when that time is past. Blocks: the timers of an async
/// runtime are as coarse as the latencies that are measured.
pub(super) fn sleep_until(due: Instant) {
    thread::sleep(due.saturating_duration_since(Instant::now()));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn producers_take_turns_at_the_rate_of_all() {
        let begun = Instant::now();
        let mut due: Vec<_> = (0..4)
            .flat_map(|number| {
                let pace = Pace::new(begun, 1000.0, number, 4);
                (0..25).map(move |record| pace.due(record) - begun)
            })
            .collect();
        due.sort();
        for (number, due) in due.iter().enumerate() {
            let expected = Duration::from_millis(number as u64);
            assert!(
                due.abs_diff(expected) < Duration::from_micros(1),
                "{number}: {due:?}"
            );
        }
    }
}
