//! Whether a partition holds as much as its topic allows.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// The size at which records are refused, and whether somebody is about to look for room.
#[derive(Debug)]
pub(super) struct Fullness {
    /// `u64::MAX` where nothing is refused.
    full_bytes: AtomicU64,
    wants_room: AtomicBool,
}

impl Default for Fullness {
    fn default() -> Self {
        Self {
            full_bytes: AtomicU64::new(u64::MAX),
            wants_room: AtomicBool::new(false),
        }
    }
}

impl Fullness {
    pub(super) fn set_limit(&self, bytes: Option<u64>) {
        let bytes = bytes.unwrap_or(u64::MAX);
        self.full_bytes.store(bytes, Ordering::Relaxed);
    }

    pub(super) fn limit(&self) -> Option<u64> {
        let limit = self.full_bytes.load(Ordering::Relaxed);
        (limit < u64::MAX).then_some(limit)
    }

    /// False if it was noted before.
    pub(super) fn want_room(&self) -> bool {
        !self.wants_room.swap(true, Ordering::AcqRel)
    }

    pub(super) fn look_for_room(&self) {
        self.wants_room.store(false, Ordering::Release);
    }
}
