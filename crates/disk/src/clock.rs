//! Time behind a trait: the system's clock, and one that stands still until it is told to move.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Where time comes from.
pub trait Clock: Send + Sync + fmt::Debug {
    /// Wall clock, Unix UTC in milliseconds. It may step in either direction; only
    /// [`Clock::monotonic`] measures durations.
    fn now_ms(&self) -> i64;

    /// Time since some fixed moment before; never goes back.
    fn monotonic(&self) -> Duration;
}

/// The operating system's clocks.
#[derive(Clone, Debug)]
pub struct SystemClock {
    start: Instant,
}

impl SystemClock {
    /// A clock whose monotonic time begins now.
    pub fn new() -> Self {
        SystemClock {
            start: Instant::now(),
        }
    }
}

impl Default for SystemClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for SystemClock {
    fn now_ms(&self) -> i64 {
        match SystemTime::now().duration_since(UNIX_EPOCH) {
            Ok(since) => i64::try_from(since.as_millis()).unwrap_or(i64::MAX),
            Err(before) => i64::try_from(before.duration().as_millis()).map_or(i64::MIN, |ms| -ms),
        }
    }

    fn monotonic(&self) -> Duration {
        self.start.elapsed()
    }
}

/// A clock that moves only when it is told to. Clones are the same clock.
#[derive(Clone, Debug)]
pub struct ManualClock {
    time: Arc<Mutex<ManualTime>>,
}

#[derive(Debug)]
struct ManualTime {
    now_ms: i64,
    monotonic: Duration,
}

impl ManualClock {
    /// A clock whose wall shows `now_ms` and whose monotonic time is zero.
    pub fn new(now_ms: i64) -> Self {
        ManualClock {
            time: Arc::new(Mutex::new(ManualTime {
                now_ms,
                monotonic: Duration::ZERO,
            })),
        }
    }

    /// Steps the wall clock, in either direction, as an administrator or NTP would. Monotonic time
    /// stays.
    pub fn set(&self, now_ms: i64) {
        self.time().now_ms = now_ms;
    }

    /// Lets time pass, on the wall and monotonically.
    pub fn advance(&self, by: Duration) {
        let mut time = self.time();
        let by_ms =
            i64::try_from(by.as_millis()).expect("time advances by less than 292 million years");
        time.now_ms += by_ms;
        time.monotonic += by;
    }

    fn time(&self) -> MutexGuard<'_, ManualTime> {
        self.time
            .lock()
            .expect("no holder of the clock's lock panics")
    }
}

impl Clock for ManualClock {
    fn now_ms(&self) -> i64 {
        self.time().now_ms
    }

    fn monotonic(&self) -> Duration {
        self.time().monotonic
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_system_clock_shows_this_century_and_runs_forward() {
        let clock = SystemClock::new();
        let first = clock.monotonic();
        assert!(clock.now_ms() > 1_600_000_000_000);
        assert!(clock.monotonic() >= first);
    }

    #[test]
    fn a_manual_clock_moves_only_when_told() {
        let clock = ManualClock::new(1_000);
        let same = clock.clone();
        assert_eq!((clock.now_ms(), clock.monotonic()), (1_000, Duration::ZERO));
        clock.advance(Duration::from_millis(250));
        assert_eq!(
            (same.now_ms(), same.monotonic()),
            (1_250, Duration::from_millis(250))
        );
        same.set(400);
        assert_eq!(
            (clock.now_ms(), clock.monotonic()),
            (400, Duration::from_millis(250))
        );
    }
}
