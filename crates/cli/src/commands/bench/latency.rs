//! How long things took, as an HDR histogram.

use std::time::Duration;

use hdrhistogram::Histogram;
use serde::Serialize;

const LONGEST: Duration = Duration::from_secs(3600);
/// Three digits of what was measured are kept.
const DIGITS: u8 = 3;

/// Durations from a nanosecond to an hour.
#[derive(Debug)]
pub(super) struct Latencies(Histogram<u64>);

impl Latencies {
    pub(super) fn new() -> Self {
        let longest = LONGEST.as_nanos() as u64;
        Self(Histogram::new_with_bounds(1, longest, DIGITS).expect("these bounds are allowed"))
    }

    /// So many records took as long.
    pub(super) fn record(&mut self, latency: Duration, records: u64) {
        let nanos = u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX);
        self.0.saturating_record_n(nanos, records);
    }

    pub(super) fn add(&mut self, other: &Self) {
        self.0.add(&other.0).expect("both have the same bounds");
    }

    pub(super) fn quantiles(&self) -> Quantiles {
        let ms = |quantile| self.0.value_at_quantile(quantile) as f64 / 1e6;
        Quantiles {
            p50: ms(0.5),
            p90: ms(0.9),
            p99: ms(0.99),
            p999: ms(0.999),
            max: self.0.max() as f64 / 1e6,
        }
    }
}

/// What part of all took no longer, in milliseconds.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct Quantiles {
    pub(super) p50: f64,
    pub(super) p90: f64,
    pub(super) p99: f64,
    #[serde(rename = "p99.9")]
    pub(super) p999: f64,
    pub(super) max: f64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_those_of_all_that_was_recorded() {
        let (mut one, mut other) = (Latencies::new(), Latencies::new());
        for ms in 1..=500 {
            one.record(Duration::from_millis(ms), 1);
            other.record(Duration::from_millis(ms + 500), 1);
        }
        one.add(&other);
        let quantiles = one.quantiles();
        let near = |found: f64, ms: f64| (found - ms).abs() <= ms / 500.0;
        assert!(near(quantiles.p50, 500.0), "{quantiles:?}");
        assert!(near(quantiles.p90, 900.0), "{quantiles:?}");
        assert!(near(quantiles.p99, 990.0), "{quantiles:?}");
        assert!(near(quantiles.p999, 999.0), "{quantiles:?}");
        assert!(near(quantiles.max, 1000.0), "{quantiles:?}");
    }
}
