//! The records that are produced.

use bytes::{BufMut, Bytes, BytesMut};
use flowstone_client::Record;

use super::args::Shape;

/// Makes records of one size and so many keys.
#[derive(Clone, Debug)]
pub(super) struct Load {
    value: Bytes,
    keys: Vec<Bytes>,
}

/// A record that is stamped takes this many bytes at least.
pub(super) const STAMP_BYTES: usize = 8;

impl Load {
    pub(super) fn new(shape: &Shape) -> Self {
        let size = usize::try_from(shape.size).unwrap_or(0);
        Self {
            value: forever(noise(size)),
            keys: (0..shape.keys)
                .map(|key| forever(format!("key-{key}").into_bytes()))
                .collect(),
        }
    }

    /// The record with this number. All values are the same bytes.
    pub(super) fn record(&self, number: u64) -> Record {
        Record {
            key: self.key(number),
            value: Some(self.value.clone()),
            ..Record::default()
        }
    }

    /// The same, with a number at the beginning of its value.
    pub(super) fn stamped(&self, number: u64, stamp: u64) -> Record {
        let mut value = BytesMut::with_capacity(self.value.len().max(STAMP_BYTES));
        value.put_u64(stamp);
        value.put_slice(self.value.get(STAMP_BYTES..).unwrap_or_default());
        Record {
            key: self.key(number),
            value: Some(value.freeze()),
            ..Record::default()
        }
    }

    fn key(&self, number: u64) -> Option<Bytes> {
        let count = self.keys.len() as u64;
        let key = number.checked_rem(count)?;
        Some(self.keys[key as usize].clone())
    }
}

/// The number that a record with this value was stamped with.
pub(super) fn stamp(value: Option<&[u8]>) -> Option<u64> {
    Some(u64::from_be_bytes(*value?.first_chunk::<STAMP_BYTES>()?))
}

/// Bytes that are never given back: nothing is counted when records share them.
fn forever(bytes: Vec<u8>) -> Bytes {
    Bytes::from_static(bytes.leak())
}

/// Bytes without a pattern, the same every time (xorshift, G. Marsaglia, 2003).
fn noise(len: usize) -> Vec<u8> {
    let mut state: u64 = 0x9e37_79b9_7f4a_7c15;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    (0..len).map(|_| next()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape(size: i64, keys: u32) -> Shape {
        Shape {
            size,
            keys,
            batch: None,
            in_flight: None,
            producers: 1,
            partitions: 1,
            acks: None,
            rate: None,
        }
    }

    #[test]
    fn records_have_the_size_and_the_keys_that_were_asked_for() {
        let load = Load::new(&shape(100, 3));
        let keys: Vec<_> = (0..4).map(|number| load.record(number).key).collect();
        assert_eq!(keys[0], keys[3]);
        assert_ne!(keys[0], keys[1]);
        assert_eq!(load.record(0).value.map(|value| value.len()), Some(100));
        assert_eq!(Load::new(&shape(0, 0)).record(5).key, None);
    }

    #[test]
    fn a_stamp_is_read_back_and_keeps_the_size() {
        let load = Load::new(&shape(100, 0));
        let record = load.stamped(1, 77);
        assert_eq!(stamp(record.value.as_deref()), Some(77));
        assert_eq!(record.value.map(|value| value.len()), Some(100));
        assert_eq!(stamp(None), None);
    }
}
