//! Protobuf's base-128 varints, in their shortest form only.

/// The longest varint, that of a negative int64.
pub(crate) const MAX_LEN: usize = 10;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum VarintError {
    Truncated,
    NotMinimal,
    TooLong,
}

/// Reads the varint at `at` and tells where the next byte is.
#[inline]
pub(crate) fn read(bytes: &[u8], at: usize) -> Result<(u64, usize), VarintError> {
    match bytes.get(at) {
        Some(&byte) if byte < 0x80 => Ok((u64::from(byte), at + 1)),
        Some(&low) => match bytes.get(at + 1) {
            Some(&high @ 1..0x80) => Ok((u64::from(low & 0x7f) | u64::from(high) << 7, at + 2)),
            _ => read_long(bytes, at),
        },
        None => Err(VarintError::Truncated),
    }
}

fn read_long(bytes: &[u8], at: usize) -> Result<(u64, usize), VarintError> {
    let mut value = 0;
    for (i, &byte) in bytes[at..].iter().take(MAX_LEN).enumerate() {
        value |= u64::from(byte & 0x7f) << (7 * i);
        if byte < 0x80 {
            return match byte {
                0 => Err(VarintError::NotMinimal),
                2.. if i + 1 == MAX_LEN => Err(VarintError::TooLong),
                _ => Ok((value, at + i + 1)),
            };
        }
    }
    if bytes.len() - at < MAX_LEN {
        return Err(VarintError::Truncated);
    }
    Err(VarintError::TooLong)
}

/// Writes `value` at `at` and tells where the next byte goes.
#[inline]
pub(crate) fn put(out: &mut [u8], at: usize, mut value: u64) -> usize {
    let mut at = at;
    while value >= 0x80 {
        out[at] = value as u8 | 0x80;
        value >>= 7;
        at += 1;
    }
    out[at] = value as u8;
    at + 1
}

/// The varint of a value below 2^56, in its bytes from the lowest on, and how many bytes it has: put together without
/// a branch and without memory in between.
#[inline]
pub(crate) fn short(value: u64) -> (u64, u32) {
    debug_assert!(value < SHORT_END);
    // Two halves of 28 bits, then quarters of 14, then groups of seven, each to where its byte begins.
    let halves = value & 0x0fff_ffff | (value & 0x00ff_ffff_f000_0000) << 4;
    let quarters = halves & 0x0000_3fff_0000_3fff | (halves & 0x0fff_c000_0fff_c000) << 2;
    let groups = quarters & 0x007f_007f_007f_007f | (quarters & 0x3f80_3f80_3f80_3f80) << 1;
    let len = (u64::BITS - (groups | 1).leading_zeros()).div_ceil(8);
    let more = 0x8080_8080_8080_8080 & ((1 << (8 * (len - 1))) - 1);
    (groups | more, len)
}

/// Values from here on are not [`short`].
pub(crate) const SHORT_END: u64 = 1 << 56;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_one_is_the_same_in_a_word() {
        for bits in 0..56 {
            for value in [1u64 << bits, (1 << bits) - 1, (1 << bits) | 0x55] {
                let mut buf = [0; MAX_LEN];
                let end = put(&mut buf, 0, value);
                let (word, len) = short(value);
                assert_eq!(len as usize, end, "{value}");
                assert_eq!(word.to_le_bytes()[..end], buf[..end], "{value}");
            }
        }
    }

    #[test]
    fn every_length_comes_back() {
        for bits in 0..64 {
            for value in [1u64 << bits, (1 << bits) - 1, !0 << bits] {
                let mut buf = [0; MAX_LEN];
                let end = put(&mut buf, 0, value);
                let bits = u64::BITS - value.leading_zeros();
                assert_eq!(end, bits.max(1).div_ceil(7) as usize);
                assert_eq!(read(&buf[..end], 0), Ok((value, end)));
                assert_eq!(read(&buf[..end - 1], 0), Err(VarintError::Truncated));
            }
        }
    }

    #[test]
    fn longer_forms_are_refused() {
        assert_eq!(read(&[0x80, 0x00], 0), Err(VarintError::NotMinimal));
        assert_eq!(read(&[0xff, 0x80, 0x00], 0), Err(VarintError::NotMinimal));
        let mut ten = [0xff; 10];
        ten[9] = 0x01;
        assert_eq!(read(&ten, 0), Ok((u64::MAX, 10)));
        ten[9] = 0x02;
        assert_eq!(read(&ten, 0), Err(VarintError::TooLong));
        assert_eq!(read(&[0xff; 11], 0), Err(VarintError::TooLong));
        assert_eq!(read(&[0xff; 10], 0), Err(VarintError::TooLong));
        assert_eq!(read(&[0xff; 9], 0), Err(VarintError::Truncated));
        assert_eq!(read(&[0xff; 18], 9), Err(VarintError::Truncated));
        assert_eq!(read(&[0xff; 19], 9), Err(VarintError::TooLong));
    }
}
