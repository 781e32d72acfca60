//! The last two fields of most records, read at once.

use super::tag;
use super::unread::{SEVEN_BITS, Unread, compact};

/// How a record ends that has a timestamp and an offset, and nothing else behind its value and its headers, as the broker
/// stores most of them. From one record to the next neither number changes its length, as a rule, so that all that
/// has to be looked at is in the last 16 bytes.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Ending {
    /// Of both fields, at most 16; 0: the record before had another ending.
    len: usize,
    /// Which bits of the last 16 bytes are the tags, or tell whether a number goes on.
    mask: u128,
    /// What these are.
    bits: u128,
    timestamp_ms: Digits,
    offset: Digits,
}

/// Where a number lies within 16 bytes, which is a varint of eight bytes at most.
#[derive(Clone, Copy, Debug, Default)]
struct Digits {
    shift: u32,
    mask: u64,
}

impl Digits {
    fn read(self, word: u128) -> i64 {
        compact((word >> self.shift) as u64 & self.mask) as i64
    }
}

impl Ending {
    /// The ending of a record, from the timestamp on.
    pub(super) fn of(fields: &[u8]) -> Option<Self> {
        const WHOLE: u128 = 0xff;
        const GOES_ON: u128 = 0x80;
        let before = 16_usize.checked_sub(fields.len())?;
        let (mut mask, mut bits) = (0, 0);
        let mut note = |at: usize, what: u128| {
            let shift = 8 * (before + at);
            mask |= what << shift;
            bits |= (u128::from(fields[at]) & what) << shift;
        };
        let mut number = |tag: u8, from: usize| {
            (*fields.get(from)? == tag).then(|| note(from, WHOLE))?;
            let digits = fields[from + 1..].iter().position(|byte| *byte < 0x80)? + 1;
            for at in from + 1..=from + digits {
                note(at, GOES_ON);
            }
            let shift = u32::try_from(8 * (before + from + 1)).ok()?;
            let unused = u32::try_from(8_usize.checked_sub(digits)? * 8).ok()?;
            let mask = u64::MAX >> unused & SEVEN_BITS;
            Some((Digits { shift, mask }, from + 1 + digits))
        };
        let (timestamp_ms, from) = number(tag::TIMESTAMP_MS, 0)?;
        let (offset, end) = number(tag::OFFSET, from)?;
        (end == fields.len()).then_some(Self {
            len: fields.len(),
            mask,
            bits,
            timestamp_ms,
            offset,
        })
    }

    /// Timestamp and offset of a record that ends in the same way.
    #[inline(always)]
    pub(super) fn read(&self, unread: Unread<'_>, end: usize) -> Option<(i64, i64)> {
        if self.len == 0 || unread.at + self.len != end {
            return None;
        }
        let word = u128::from_le_bytes(*unread.bytes.get(..end)?.last_chunk()?);
        let same = word & self.mask == self.bits;
        same.then(|| (self.timestamp_ms.read(word), self.offset.read(word)))
    }
}
