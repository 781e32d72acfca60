//! What the broker counts while it works. Plain numbers: who shows them, and how, is not known here.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

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

/// What was counted since the broker was opened.
#[derive(Debug, Default)]
pub(crate) struct Counters {
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
