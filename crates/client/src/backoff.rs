//! How long to wait before the next attempt.

use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

use crate::{Error, reason};

const FIRST: Duration = Duration::from_millis(50);
const MAX: Duration = Duration::from_secs(5);
/// For a full disk or topic: a refusal costs the broker next to nothing, and records should not lie
/// about for long once there is space.
const MAX_FULL: Duration = Duration::from_millis(750);

/// Doubling delays with jitter, so that many clients of a restarted broker do not return as one.
#[derive(Debug, Default)]
pub(crate) struct Backoff {
    attempts: u32,
}

impl Backoff {
    /// The delay before the next attempt after `error`; never shorter than the broker asked for.
    pub(crate) fn after(&mut self, error: &Error) -> Duration {
        let max = if error.is(reason::DISK_FULL) || error.is(reason::TOPIC_FULL) {
            MAX_FULL
        } else {
            MAX
        };
        let ceiling = FIRST.saturating_mul(1u32 << self.attempts.min(16)).min(max);
        self.attempts = self.attempts.saturating_add(1);
        let half = ceiling / 2;
        let delay = half + half.mul_f64(unit_random());
        delay.max(error.retry_after().unwrap_or_default())
    }

    /// Begins anew after an attempt that got somewhere.
    pub(crate) fn reset(&mut self) {
        self.attempts = 0;
    }
}

/// A number in `0.0..1.0`: a fresh `RandomState` is seeded by the standard library.
fn unit_random() -> f64 {
    let bits = RandomState::new().hash_one(0u8) >> 11;
    bits as f64 / (1u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use tonic::Code;

    use super::*;

    #[test]
    fn delays_double_up_to_the_maximum_and_begin_anew_after_a_reset() {
        let error = Error::local(Code::Unavailable, None, "away");
        let mut backoff = Backoff::default();
        for attempt in 0..40u32 {
            let ceiling = FIRST.saturating_mul(1 << attempt.min(16)).min(MAX);
            let delay = backoff.after(&error);
            assert!(
                delay >= ceiling / 2 && delay <= ceiling,
                "{attempt}: {delay:?}"
            );
        }
        backoff.reset();
        assert!(backoff.after(&error) <= FIRST);
    }

    #[test]
    fn a_full_disk_is_asked_again_within_a_second() {
        let error = Error::local(Code::ResourceExhausted, Some(reason::DISK_FULL), "full")
            .with_retry_after(Duration::from_millis(500));
        let mut backoff = Backoff::default();
        for _ in 0..40 {
            let delay = backoff.after(&error);
            assert!(delay >= Duration::from_millis(500) && delay <= MAX_FULL);
        }
    }

    #[test]
    fn the_broker_may_ask_for_more() {
        let error = Error::local(
            Code::ResourceExhausted,
            Some(crate::reason::THROTTLED),
            "slow down",
        )
        .with_retry_after(Duration::from_secs(60));
        assert_eq!(Backoff::default().after(&error), Duration::from_secs(60));
    }
}
