//! How fast a replay goes: as fast as it can, so many records a second, or as the records came.

use std::str::FromStr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// At a rate, records go in so many lots a second.
const LOTS_PER_SECOND: f64 = 10.0;
/// Records that are due this close to each other share a request.
const TOGETHER: Duration = Duration::from_millis(20);
/// Nothing is waited for longer; times are what clients made of them.
const FAR: Duration = Duration::from_secs(100 * 365 * 86_400);

/// Records a second.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Rate(f64);

impl FromStr for Rate {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (number, seconds) = match text.split_once('/') {
            None => (text, 1.0),
            Some((number, "s")) => (number, 1.0),
            Some((number, "m")) => (number, 60.0),
            Some((number, "h")) => (number, 3600.0),
            Some((_, unit)) => return Err(format!("{unit:?} is none of s, m and h")),
        };
        match number.parse::<u64>() {
            Ok(records @ 1..) => Ok(Self(records as f64 / seconds)),
            _ => Err("write a number of records, as in 500/s, 1000/m or 500".to_owned()),
        }
    }
}

/// How many times as fast.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Factor(f64);

impl FromStr for Factor {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number = text.strip_suffix(['x', 'X']).unwrap_or(text);
        match number.parse::<f64>() {
            Ok(factor) if factor.is_normal() && factor > 0.0 => Ok(Self(factor)),
            _ => Err("write how many times as fast, as in 2x or 0.5x".to_owned()),
        }
    }
}

/// When records may go. Shared by all partitions.
#[derive(Debug)]
pub(super) enum Pace {
    None,
    Rate {
        per_second: f64,
        /// When the next record may go.
        next: Mutex<Instant>,
    },
    Speed {
        factor: f64,
        begun: Instant,
        /// The time of the first record, in Unix milliseconds.
        first_ms: i64,
    },
}

impl Pace {
    pub(super) fn none() -> Self {
        Self::None
    }

    pub(super) fn rate(rate: Rate, now: Instant) -> Self {
        Self::Rate {
            per_second: rate.0,
            next: Mutex::new(now),
        }
    }

    pub(super) fn speed(factor: Factor, first_ms: i64, now: Instant) -> Self {
        Self::Speed {
            factor: factor.0,
            begun: now,
            first_ms,
        }
    }

    /// How many records a request may hold.
    pub(super) fn records_max(&self) -> usize {
        match self {
            Self::Rate { per_second, .. } => ((per_second / LOTS_PER_SECOND) as usize).max(1),
            Self::None | Self::Speed { .. } => usize::MAX,
        }
    }

    /// Whether a record of this time may go along with an earlier one, both in Unix milliseconds.
    pub(super) fn goes_with(&self, first_ms: i64, ms: i64, now: Instant) -> bool {
        match (self.time_of(first_ms), self.time_of(ms)) {
            (Some(first), Some(this)) => this <= first.max(now) + TOGETHER,
            _ => true,
        }
    }

    /// When `count` records may go, the first of which is of this time; they count as gone then.
    pub(super) fn due(&self, count: usize, first_ms: i64, now: Instant) -> Option<Instant> {
        match self {
            Self::None => None,
            Self::Rate { per_second, next } => {
                let mut next = next.lock().unwrap_or_else(PoisonError::into_inner);
                let due = now.max(*next);
                *next = due + Duration::from_secs_f64(count as f64 / per_second);
                Some(due)
            }
            Self::Speed { .. } => self.time_of(first_ms),
        }
    }

    /// When a record of this time is due.
    fn time_of(&self, ms: i64) -> Option<Instant> {
        let Self::Speed {
            factor,
            begun,
            first_ms,
        } = self
        else {
            return None;
        };
        let after_ms = ms.saturating_sub(*first_ms).max(0) as f64;
        let after = Duration::try_from_secs_f64(after_ms / 1000.0 / factor);
        Some(*begun + after.unwrap_or(FAR).min(FAR))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_and_factors_are_read_as_they_are_written() {
        assert_eq!("500/s".parse(), Ok(Rate(500.0)));
        assert_eq!("500".parse(), Ok(Rate(500.0)));
        assert_eq!("30/m".parse(), Ok(Rate(0.5)));
        for wrong in ["", "0/s", "-1", "5/d", "x", "1.5/s"] {
            assert!(wrong.parse::<Rate>().is_err(), "{wrong}");
        }
        assert_eq!("2x".parse(), Ok(Factor(2.0)));
        assert_eq!("0.5".parse(), Ok(Factor(0.5)));
        for wrong in ["", "0x", "-1x", "NaN", "inf", "x"] {
            assert!(wrong.parse::<Factor>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_rate_holds_for_all_that_go_and_does_not_catch_up() {
        let begun = Instant::now();
        let later = begun + Duration::from_secs(60);
        let pace = Pace::rate(Rate(100.0), begun);
        assert_eq!(pace.records_max(), 10);
        let due = |count, now| pace.due(count, 0, now).unwrap();
        assert_eq!(due(10, begun), begun);
        assert_eq!(due(50, begun), begun + Duration::from_millis(100));
        assert_eq!(due(10, later), later);
        assert_eq!(due(10, later), later + Duration::from_millis(100));
    }

    #[test]
    fn records_keep_their_distance_in_time() {
        let begun = Instant::now();
        let pace = Pace::speed(Factor(2.0), 1_000_000, begun);
        let due = |ms| pace.due(1, ms, begun).unwrap();
        assert_eq!(due(1_000_000), begun);
        assert_eq!(due(1_003_000), begun + Duration::from_millis(1500));
        assert_eq!(due(5), begun, "an older one goes at once");
        assert!(due(i64::MAX) > begun);
        assert!(pace.goes_with(1_000_000, 1_000_010, begun));
        assert!(!pace.goes_with(1_000_000, 1_003_000, begun));
        let late = begun + Duration::from_secs(5);
        assert!(pace.goes_with(1_000_000, 1_003_000, late), "both are late");
    }
}
