//! The time that appends are stamped with, and what time it is at least when their age is asked for.
//!
//! Appends carry the wall clock, which may jump. Retention must not remove a record early because
//! of that, so that it asks for the least time that the age of a record can be counted to: steady
//! time, laid on the lowest that the wall clock stood while such records were appended.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard};

use flowstone_disk::Clock;

/// Steps of the wall clock that are smaller than this are not kept apart; ages come out too young
/// by as much.
const STEP_MS: i64 = 1_000;

/// The clock of appends and of their ages.
#[derive(Debug)]
pub(crate) struct AppendClock {
    clock: Arc<dyn Clock>,
    lows: Mutex<Lows>,
}

/// How the wall clock stood against the steady one.
#[derive(Debug)]
struct Lows {
    /// Steady time at the start, and how far the wall clock was ahead of it. Records from before
    /// count as appended with it.
    first: (i64, i64),
    /// Until when (steady time) an append saw the wall clock stand how far ahead of steady time.
    /// Both ascend: an append later than all that are kept, and with a wall clock as low, makes an
    /// earlier one meaningless.
    until: VecDeque<(i64, i64)>,
}

impl AppendClock {
    /// What is on disk already was stamped by a wall clock that stood as it does now: a jump that
    /// no process of this directory lived through cannot be known.
    pub(crate) fn new(clock: Arc<dyn Clock>) -> Self {
        let first = ahead_ms(&*clock);
        Self {
            clock,
            lows: Mutex::new(Lows {
                first,
                until: VecDeque::new(),
            }),
        }
    }

    /// The wall clock in Unix milliseconds, for records that are appended now.
    pub(crate) fn stamp_ms(&self) -> i64 {
        let (steady_ms, ahead_ms) = ahead_ms(&*self.clock);
        self.lows().note(steady_ms, ahead_ms);
        steady_ms.saturating_add(ahead_ms)
    }

    /// The time, in Unix milliseconds, to count the age of appends to: a record whose stamp lies
    /// `max_age_ms` or more before it has been there for that long, whatever the wall clock did.
    /// It falls behind the wall clock after a jump, and is with it again `max_age_ms` later.
    pub(crate) fn least_ms(&self, max_age_ms: i64) -> i64 {
        let (steady_ms, ahead_ms) = ahead_ms(&*self.clock);
        let mut lows = self.lows();
        lows.note(steady_ms, ahead_ms);
        steady_ms.saturating_add(lows.lowest_since(steady_ms.saturating_sub(max_age_ms)))
    }

    fn lows(&self) -> MutexGuard<'_, Lows> {
        self.lows
            .lock()
            .expect("nothing panics with the lows of the clock in hand")
    }
}

impl Lows {
    fn note(&mut self, steady_ms: i64, ahead_ms: i64) {
        // Several threads take the time, and may come here in another order.
        let steady_ms = self
            .until
            .back()
            .map_or(steady_ms, |&(last, _)| last.max(steady_ms));
        while self.until.back().is_some_and(|&(_, low)| low >= ahead_ms) {
            self.until.pop_back();
        }
        match self.until.back_mut() {
            Some((until, low)) if ahead_ms - *low < STEP_MS => *until = steady_ms,
            _ => self.until.push_back((steady_ms, ahead_ms)),
        }
    }

    /// The lowest that the wall clock stood for an append at or after `since_ms` of steady time.
    /// What was appended before that is old enough by the steady clock alone.
    fn lowest_since(&self, since_ms: i64) -> i64 {
        let noted = self
            .until
            .iter()
            .find(|(until, _)| *until >= since_ms)
            .map(|&(_, low)| low)
            .expect("the present is noted");
        let (start_ms, first) = self.first;
        if since_ms <= start_ms {
            noted.min(first)
        } else {
            noted
        }
    }
}

/// Steady time since the clock was made, and how far the wall clock is ahead of it, both in
/// milliseconds.
fn ahead_ms(clock: &dyn Clock) -> (i64, i64) {
    let steady_ms = i64::try_from(clock.monotonic().as_millis()).unwrap_or(i64::MAX);
    (steady_ms, clock.now_ms().saturating_sub(steady_ms))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use flowstone_disk::ManualClock;

    use super::*;

    const START_MS: i64 = 1_700_000_000_000;
    const HOUR_MS: i64 = 3_600_000;

    fn clocks() -> (ManualClock, AppendClock) {
        let clock = ManualClock::new(START_MS);
        let appends = AppendClock::new(Arc::new(clock.clone()));
        (clock, appends)
    }

    fn jump(clock: &ManualClock, by_ms: i64) {
        clock.set(clock.now_ms() + by_ms);
    }

    #[test]
    fn without_a_jump_it_is_the_wall_clock() {
        let (clock, appends) = clocks();
        assert_eq!(appends.least_ms(HOUR_MS), START_MS);
        clock.advance(Duration::from_secs(86_400));
        assert_eq!(appends.least_ms(HOUR_MS), clock.now_ms());
        assert_eq!(appends.stamp_ms(), clock.now_ms());
    }

    #[test]
    fn a_jump_forward_counts_once_what_was_stamped_before_it_is_old_enough_anyway() {
        let (clock, appends) = clocks();
        jump(&clock, HOUR_MS);
        assert_eq!(appends.least_ms(600_000), START_MS);
        clock.advance(Duration::from_millis(599_999));
        assert_eq!(appends.least_ms(600_000), START_MS + 599_999);
        clock.advance(Duration::from_millis(2));
        assert_eq!(appends.least_ms(600_000), clock.now_ms());
        let a_year = 365 * 24 * HOUR_MS;
        assert_eq!(appends.least_ms(a_year), START_MS + 600_001);
    }

    #[test]
    fn what_was_stamped_while_the_clock_was_back_does_not_age_when_it_is_set_right() {
        let (clock, appends) = clocks();
        clock.advance(Duration::from_millis(10 * HOUR_MS as u64));
        jump(&clock, -HOUR_MS);
        let stamp_ms = appends.stamp_ms();
        jump(&clock, HOUR_MS);
        clock.advance(Duration::from_secs(60));
        assert_eq!(appends.least_ms(HOUR_MS) - stamp_ms, 60_000);
        assert_eq!(
            appends.least_ms(30_000),
            clock.now_ms(),
            "what was stamped then is more than half a minute old by any clock"
        );
    }

    #[test]
    fn trembling_clocks_take_no_room() {
        let (clock, appends) = clocks();
        for tick in 0..10_000 {
            clock.advance(Duration::from_millis(10));
            jump(&clock, (tick * 7) % 13 - 6);
            appends.stamp_ms();
        }
        assert!(appends.lows().until.len() < 3);
    }
}
