//! How much each connection may send that is not read yet, so that all together stay within a bound.

use std::sync::{Arc, Mutex, MutexGuard};

use crate::config::Http2Config;

/// What HTTP/2 begins with, and less than which no connection gets.
const WINDOW_BYTES_MIN: u32 = 64 << 10;

/// A new connection gets this part of what is left.
const PARTS: u32 = 16;

/// What the connections of a server share.
#[derive(Debug)]
pub(super) struct Windows {
    most: u32,
    /// Below zero where only the least is given.
    left: Mutex<i64>,
}

/// The share of one connection, which goes back when that is closed.
#[derive(Debug)]
pub(super) struct Window {
    bytes: u32,
    from: Arc<Windows>,
}

impl Windows {
    pub(super) fn new(http2: &Http2Config) -> Self {
        Self {
            most: http2.connection_window_bytes,
            left: Mutex::new(http2.total_window_bytes.into()),
        }
    }

    /// The share of a connection that is made now.
    pub(super) fn share(self: &Arc<Self>) -> Window {
        let mut left = self.left();
        let part = u32::try_from((*left).max(0) / i64::from(PARTS)).unwrap_or(u32::MAX);
        let bytes = part.min(self.most).max(WINDOW_BYTES_MIN);
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
    pub(super) fn bytes(&self) -> u32 {
        self.bytes
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

    fn windows(most: u32, total: u32) -> Arc<Windows> {
        Arc::new(Windows::new(&Http2Config {
            connection_window_bytes: most,
            total_window_bytes: total,
            ..Http2Config::default()
        }))
    }

    #[test]
    fn the_first_get_all_that_one_may_have_and_the_sum_stays_within_the_total() {
        let windows = windows(1 << 20, 64 << 20);
        let shares: Vec<_> = (0..100).map(|_| windows.share()).collect();
        assert_eq!(shares[0].bytes(), 1 << 20);
        assert!(shares.is_sorted_by(|a, b| a.bytes() >= b.bytes()));
        let sum: u32 = shares.iter().map(Window::bytes).sum();
        assert!(sum <= 64 << 20, "{sum}");
    }

    #[test]
    fn very_many_get_the_least_and_all_goes_back() {
        let windows = windows(8 << 20, 64 << 20);
        let mut shares: Vec<_> = (0..5_000).map(|_| windows.share()).collect();
        assert_eq!(shares[4_999].bytes(), WINDOW_BYTES_MIN);
        assert!(*windows.left() < 0);
        shares.clear();
        assert_eq!(*windows.left(), 64 << 20);
        assert_eq!(windows.share().bytes(), 4 << 20);
    }
}
