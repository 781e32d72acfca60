//! Bytes in a row: small ones gathered, large ones passed on as they are.

use std::collections::VecDeque;

use bytes::{BufMut, Bytes, BytesMut};

/// From this size on a chunk is passed on as it is. Below, a copy costs less than an HTTP/2 frame and a
/// write of its own, or than keeping what it came in.
pub(crate) const SPLICE_BYTES_MIN: usize = 8 << 10;

/// A queue of bytes that is filled at one end and emptied in pieces at the other.
#[derive(Debug, Default)]
pub struct Splices {
    ready: VecDeque<Bytes>,
    /// Behind all that is ready.
    open: BytesMut,
}

impl Splices {
    /// Where small things are written to.
    pub fn gathered(&mut self) -> &mut BytesMut {
        &mut self.open
    }

    /// Adds a chunk, without a copy if it is large.
    pub fn put(&mut self, chunk: &Bytes) {
        if chunk.len() < SPLICE_BYTES_MIN {
            self.open.put_slice(chunk);
        } else {
            self.close();
            self.ready.push_back(chunk.clone());
        }
    }

    /// Ends what is gathered, so that it can be taken.
    pub fn close(&mut self) {
        if !self.open.is_empty() {
            self.ready.push_back(self.open.split().freeze());
        }
    }

    /// The next piece, if one is ready.
    pub fn take(&mut self) -> Option<Bytes> {
        self.ready.pop_front()
    }

    /// All that is ready.
    pub fn take_all(&mut self) -> Vec<Bytes> {
        std::mem::take(&mut self.ready).into()
    }

    /// All that is ready as one: the only piece as it is, or a copy of several.
    pub fn take_joined(&mut self) -> Bytes {
        match self.ready.len() {
            0 | 1 => self.ready.pop_front().unwrap_or_default(),
            _ => Vec::from(std::mem::take(&mut self.ready)).concat().into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_chunks_are_passed_on_and_small_ones_gathered_in_their_order() {
        let large = Bytes::from(vec![7; SPLICE_BYTES_MIN]);
        let mut splices = Splices::default();
        splices.gathered().put_slice(b"one ");
        splices.put(&Bytes::from_static(b"two"));
        splices.put(&large);
        splices.put(&Bytes::from_static(b"three"));
        assert_eq!(splices.take().as_deref(), Some(&b"one two"[..]));
        let passed_on = splices.take().expect("the large one");
        assert_eq!(passed_on.as_ptr(), large.as_ptr(), "not copied");
        assert_eq!(splices.take(), None, "it is still gathered");
        splices.close();
        assert_eq!(splices.take().as_deref(), Some(&b"three"[..]));
        splices.close();
        assert_eq!(splices.take(), None);
    }

    #[test]
    fn pieces_are_joined_and_one_alone_is_not_copied() {
        let large = Bytes::from(vec![7; SPLICE_BYTES_MIN]);
        let mut splices = Splices::default();
        assert_eq!(splices.take_joined(), Bytes::new());
        splices.put(&large);
        assert_eq!(splices.take_joined().as_ptr(), large.as_ptr());
        splices.put(&Bytes::from_static(b"one "));
        splices.put(&large);
        splices.put(&Bytes::from_static(b" two"));
        splices.close();
        assert_eq!(
            splices.take_joined(),
            [b"one ", &large[..], b" two"].concat()
        );
        assert_eq!(splices.take(), None);
    }
}
