//! How much each connection may send that is not read yet, so that all together stay within a bound.

use std::sync::{Arc, Mutex, MutexGuard};

/// What HTTP/2 begins with, and less than which no connection gets.
const WINDOW_BYTES_MIN: u32 = 64 << 10;

/// A new connection gets this part of what is left.
const PARTS: u32 = 16;

/// What the connections of a server share.
#[derive(Debug)]
pub(crate) struct Windows {
    /// Below zero where only the least is given.
    left: Mutex<i64>,
}

/// The share of one connection, which goes back when that is closed.
#[derive(Debug)]
pub(crate) struct Window {
    bytes: u32,
    from: Arc<Windows>,
}

impl Windows {
    pub(crate) fn new(total_bytes: u32) -> Self {
        Self {
            left: Mutex::new(total_bytes.into()),
        }
    }

    /// The share of a connection that is made now.
    pub(crate) fn share(self: &Arc<Self>) -> Window {
        let mut left = self.left();
        let part = u32::try_from((*left).max(0) / i64::from(PARTS)).unwrap_or(u32::MAX);
        let bytes = part.max(WINDOW_BYTES_MIN);
        *left -= i64::from(bytes);
        drop(left);
        Window {
            bytes,
            from: Arc::clone(self),
        }
    }

    fn left(&self) -> MutexGuard<'_, i64> {
        self.left.lock().expect("nothing panics with it")
    }
}

impl Window {
    pub(crate) fn bytes(&self) -> u32 {
        self.bytes
    }

    /// What one call may send: a part, so that others can while it is held up.
    pub(crate) fn stream_bytes(&self) -> u32 {
        (self.bytes / 2).max(WINDOW_BYTES_MIN)
    }
}

impl Drop for Window {
    fn drop(&mut self) {
        *self.from.left() += i64::from(self.bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_gets_a_sixteenth_and_the_sum_stays_within_the_total() {
        let windows = Arc::new(Windows::new(64 << 20));
        let shares: Vec<_> = (0..64).map(|_| windows.share()).collect();
        assert_eq!(shares[0].bytes(), 4 << 20);
        assert!(shares.is_sorted_by(|a, b| a.bytes() >= b.bytes()));
        let sum: u32 = shares.iter().map(Window::bytes).sum();
        assert!(sum <= 64 << 20, "{sum}");
    }

    #[test]
    fn very_many_get_the_least_and_all_goes_back() {
        let windows = Arc::new(Windows::new(64 << 20));
        let mut shares: Vec<_> = (0..5_000).map(|_| windows.share()).collect();
        assert_eq!(shares[4_999].bytes(), WINDOW_BYTES_MIN);
        assert!(*windows.left() < 0);
        shares.clear();
        assert_eq!(*windows.left(), 64 << 20);
        assert_eq!(windows.share().bytes(), 4 << 20);
    }
}
