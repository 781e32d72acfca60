//! Times from an append to its ack.

use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use serde::Serialize;

/// Close to the moment the clock is watched instead of slept on, since a sleep ends some 50 µs late.
const WATCHED: Duration = Duration::from_micros(70);

/// A longer time counts as this one.
const NANOS_MAX: u64 = 600_000_000_000;

/// The times of many appends.
#[derive(Clone, Debug)]
pub(crate) struct Latencies {
    nanos: Histogram<u64>,
}

/// What is told of them.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct Percentiles {
    /// Half of the appends took no longer, in microseconds.
    pub p50_us: f64,
    /// 99 of 100 took no longer, in microseconds.
    pub p99_us: f64,
    /// How many there were.
    pub(crate) count: u64,
}

impl Default for Latencies {
    fn default() -> Self {
        Self {
            nanos: Histogram::new_with_max(NANOS_MAX, 3)
                .expect("three digits are within what a histogram takes"),
        }
    }
}

impl Latencies {
    /// Adds one.
    pub(crate) fn record(&mut self, time: Duration) {
        let nanos = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        self.nanos.saturating_record(nanos);
    }

    /// What is told of them.
    pub(crate) fn percentiles(&self) -> Percentiles {
        let micros = |quantile| self.nanos.value_at_quantile(quantile) as f64 / 1e3;
        Percentiles {
            p50_us: micros(0.5),
            p99_us: micros(0.99),
            count: self.nanos.len(),
        }
    }
}

/// Moments at a fixed rate.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace {
    begun: Instant,
    every: Duration,
}

impl Pace {
    /// So many a second, the first one now.
    pub(crate) fn new(per_second: u32) -> Self {
        Self {
            begun: Instant::now(),
            every: Duration::from_secs(1) / per_second.max(1),
        }
    }

    /// Blocks until the moment with this number, and tells when that was, also if it is past.
    pub(crate) fn wait_for(&self, number: u32) -> Instant {
        let due = self.begun + self.every * number;
        let left = due.saturating_duration_since(Instant::now());
        if let Some(sleep) = left.checked_sub(WATCHED) {
            std::thread::sleep(sleep);
        }
        while Instant::now() < due {
            std::hint::spin_loop();
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_those_of_what_was_recorded() {
        let mut latencies = Latencies::default();
        for micros in 1..=1_000 {
            latencies.record(Duration::from_micros(micros));
        }
        let told = latencies.percentiles();
        assert_eq!(told.count, 1_000);
        assert!((told.p50_us - 500.0).abs() < 2.0, "{told:?}");
        assert!((told.p99_us - 990.0).abs() < 2.0, "{told:?}");
    }

    #[test]
    fn a_moment_is_not_early() {
        let pace = Pace::new(1_000);
        let due = pace.wait_for(3);
        assert!(Instant::now() >= due);
        assert_eq!(due - pace.wait_for(0), Duration::from_millis(3));
    }
}
