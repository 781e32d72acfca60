//! Protobuf as the broker writes it, read where it lies.

use prost::encoding::{DecodeContext, decode_key, decode_varint, skip_field};

/// Bytes, and how far they are read. What reads a record is inlined into whoever walks, wanted or not: then
/// fields that nobody looks at need not be put together, which is a third of the time.
#[derive(Clone, Copy, Debug)]
pub(super) struct Unread<'a> {
    pub(super) bytes: &'a [u8],
    pub(super) at: usize,
}

impl<'a> Unread<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    pub(super) fn begins_with(&self, tag: u8) -> bool {
        self.bytes.get(self.at) == Some(&tag)
    }

    #[inline(always)]
    pub(super) fn delimited(&mut self) -> Option<&'a [u8]> {
        let len = usize::try_from(self.varint()?).ok()?;
        let end = self.at.checked_add(len)?;
        let bytes = self.bytes.get(self.at..end)?;
        self.at = end;
        Some(bytes)
    }

    #[inline(always)]
    pub(super) fn varint(&mut self) -> Option<u64> {
        let first = *self.bytes.get(self.at)?;
        if first < 0x80 {
            self.at += 1;
            return Some(first.into());
        }
        // Most lengths that are longer.
        let second = *self.bytes.get(self.at + 1)?;
        if second < 0x80 {
            self.at += 2;
            return Some(u64::from(first & 0x7f) | u64::from(second) << 7);
        }
        self.long_varint()
    }

    /// Times and offsets: eight bytes at once.
    #[inline(always)]
    fn long_varint(&mut self) -> Option<u64> {
        let Some(&word) = self.bytes[self.at..].first_chunk() else {
            return self.any_varint();
        };
        let word = u64::from_le_bytes(word);
        let ends = !word & 0x8080_8080_8080_8080;
        if ends == 0 {
            return self.any_varint();
        }
        // The place of the highest bit of the last byte.
        let last = ends.trailing_zeros();
        self.at += last as usize / 8 + 1;
        Some(compact(word & (u64::MAX >> (63 - last)) & SEVEN_BITS))
    }

    #[inline(always)]
    fn any_varint(&mut self) -> Option<u64> {
        let (number, bytes) = any_varint(&self.bytes[self.at..])?;
        self.at += bytes;
        Some(number)
    }

    /// A later broker may send fields that this client does not know, but none of these with another wire
    /// type. A known one with a tag that is longer than it need be is left to prost, too.
    #[cold]
    pub(super) fn skip_unknown(&mut self, field: usize, known: &[u32]) -> Option<()> {
        let mut unread = &self.bytes[field..];
        let (number, wire_type) = decode_key(&mut unread).ok()?;
        if known.contains(&number) {
            return None;
        }
        skip_field(wire_type, number, &mut unread, DecodeContext::default()).ok()?;
        self.at = self.bytes.len() - unread.len();
        Some(())
    }
}

/// Of each byte of a varint, which are the number.
pub(super) const SEVEN_BITS: u64 = 0x7f7f_7f7f_7f7f_7f7f;

/// Pushes the groups of seven bits together.
#[inline(always)]
pub(super) fn compact(word: u64) -> u64 {
    let word = word & 0x007f_007f_007f_007f | (word & 0x7f00_7f00_7f00_7f00) >> 1;
    let word = word & 0x0000_3fff_0000_3fff | (word & 0x3fff_0000_3fff_0000) >> 2;
    word & 0x0fff_ffff | (word & 0x0fff_ffff_0000_0000) >> 4
}

/// A varint of any length, and of how many bytes it is.
#[cold]
fn any_varint(bytes: &[u8]) -> Option<(u64, usize)> {
    let mut unread = bytes;
    let number = decode_varint(&mut unread).ok()?;
    Some((number, bytes.len() - unread.len()))
}
