//! How much all partitions together may remember of producers.

use std::sync::atomic::{AtomicUsize, Ordering};

/// A number of sequences that the logs which share it may remember at a time. Who has no room for a
/// new producer refuses it; those that are known go on, with shorter windows if it has to be.
#[derive(Debug)]
pub struct ProducerBudget {
    limit: AtomicUsize,
    used: AtomicUsize,
}

impl ProducerBudget {
    /// A budget of `limit` sequences. One takes at most 64 bytes of memory.
    #[must_use]
    pub fn new(limit: usize) -> Self {
        Self {
            limit: AtomicUsize::new(limit),
            used: AtomicUsize::new(0),
        }
    }

    /// A budget that never ends.
    #[must_use]
    pub fn unlimited() -> Self {
        Self::new(usize::MAX)
    }

    /// How many sequences may be remembered.
    #[must_use]
    pub fn limit(&self) -> usize {
        self.limit.load(Ordering::Relaxed)
    }

    /// How many sequences room is taken for. A log that is opened takes what its files tell, so that
    /// this may exceed the limit when the limit has been lowered.
    #[must_use]
    pub fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }

    /// Changes the limit for what comes.
    pub fn set_limit(&self, limit: usize) {
        self.limit.store(limit, Ordering::Relaxed);
    }

    pub(crate) fn has_room(&self, count: usize) -> bool {
        self.used().saturating_add(count) <= self.limit()
    }

    /// Takes room whether there is any or not.
    pub(crate) fn take(&self, count: usize) {
        self.used.fetch_add(count, Ordering::Relaxed);
    }

    pub(crate) fn try_take(&self, count: usize) -> bool {
        let limit = self.limit();
        let add = |used: usize| used.checked_add(count).filter(|sum| *sum <= limit);
        self.used
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, add)
            .is_ok()
    }

    pub(crate) fn give_back(&self, count: usize) {
        self.used.fetch_sub(count, Ordering::Relaxed);
    }
}

impl Default for ProducerBudget {
    fn default() -> Self {
        Self::unlimited()
    }
}
