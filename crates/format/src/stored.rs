//! Records as they are stored: the client's bytes with the broker's fields put in.

use crate::offset::Offset;
use crate::record::{DELIVER_AT_TAG, OFFSET_TAG, PRIORITY_TAG, RECORD_TAG, Record, TIMESTAMP_TAG};
use crate::varint;

/// Room for the fields after the head, three numbers of ten bytes and a priority of one, each with its
/// tag; and for the record's tag and length.
const ROOM: usize = 40;

/// What the broker puts into the records of a batch that have no timestamp of their own.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stamp {
    append_ms: i64,
    /// The field as it is stored.
    field: [u8; STAMP_ROOM],
    len: usize,
    /// The same in a word, from its lowest byte on, if there is room for it.
    word: Option<u64>,
}

const STAMP_ROOM: usize = 1 + varint::MAX_LEN;

impl Stamp {
    /// The append time in Unix milliseconds. 0 stays absent.
    pub(crate) fn new(append_ms: i64) -> Self {
        let mut field = [0; STAMP_ROOM];
        let len = match append_ms {
            0 => 0,
            ms => put_field(&mut field, 0, TIMESTAMP_TAG, ms as u64),
        };
        let (first, rest) = field.split_first_chunk().expect("it is longer than a word");
        Self {
            append_ms,
            field,
            len,
            word: (rest == [0; STAMP_ROOM - 8]).then(|| u64::from_le_bytes(*first)),
        }
    }
}

/// The offsets of a batch, one after the other.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Counter {
    offset: Offset,
    /// Its varint in a word, and how many bytes it has; `None` where that has no room.
    word: Option<(u64, u32)>,
}

impl Counter {
    pub(crate) fn new(offset: Offset) -> Self {
        let is_short = offset.get() < varint::SHORT_END;
        Self {
            offset,
            word: is_short.then(|| varint::short(offset.get())),
        }
    }

    /// Goes on to the next offset.
    #[inline]
    pub(crate) fn step(&mut self) {
        match &mut self.word {
            // The lowest byte has the lowest seven bits, and there is room in it.
            Some((word, _)) if *word & 0x7f != 0x7f => {
                *word += 1;
                self.offset += 1;
            }
            _ => *self = Self::new(self.offset + 1),
        }
    }
}

/// Appends a record that has none of the fields behind its head, as it is stored: `0A len head [timestamp] offset`.
/// Returns false, and appends nothing, where the numbers are too large for that.
///
/// All that is put around the head is put together in words, which takes fewer steps than byte by byte.
#[inline]
fn put_plain(out: &mut Vec<u8>, head: &[u8], stamp: &Stamp, offset: &Counter) -> bool {
    let (Some(stamp_word), Some((number, number_len))) = (stamp.word, offset.word) else {
        return false;
    };
    let offset_len = 1 + number_len as usize;
    let len = head.len() + stamp.len + offset_len;
    let (prefix, prefix_len) = match len as u64 {
        len @ ..0x80 => (len, 1),
        len @ 0x80..0x4000 => (len & 0x7f | 0x80 | (len & 0x3f80) << 1, 2),
        len => varint::short(len),
    };

    out.reserve(8 + head.len() + 3 * 8);
    let begin = out.len();
    out.extend_from_slice(&(u64::from(RECORD_TAG) | prefix << 8).to_le_bytes());
    out.truncate(begin + 1 + prefix_len as usize);
    out.extend_from_slice(head);
    let end = out.len() + stamp.len;
    out.extend_from_slice(&stamp_word.to_le_bytes());
    out.truncate(end);
    out.push(OFFSET_TAG);
    out.extend_from_slice(&number.to_le_bytes());
    out.truncate(end + offset_len);
    true
}

/// Appends one record as it is stored: `0A len head [timestamp] [deliver_at]
/// [priority] offset`. A record without a timestamp gets the stamp's. Returns the
/// timestamp stored, in Unix milliseconds.
#[inline]
pub(crate) fn put_stored(
    out: &mut Vec<u8>,
    record: &Record<'_>,
    stamp: &Stamp,
    offset: &Counter,
) -> i64 {
    let is_plain = (record.timestamp_ms, record.deliver_at_ms, record.priority) == (0, 0, 0);
    if is_plain && put_plain(out, record.head, stamp, offset) {
        return stamp.append_ms;
    }
    let mut tail = [0; ROOM];
    let (timestamp_ms, mut len) = match record.timestamp_ms {
        0 => {
            tail[..STAMP_ROOM].copy_from_slice(&stamp.field);
            (stamp.append_ms, stamp.len)
        }
        client_ms => {
            let len = put_field(&mut tail, 0, TIMESTAMP_TAG, client_ms as u64);
            (client_ms, len)
        }
    };
    if record.deliver_at_ms != 0 {
        len = put_field(&mut tail, len, DELIVER_AT_TAG, record.deliver_at_ms as u64);
    }
    if record.priority != 0 {
        len = put_field(&mut tail, len, PRIORITY_TAG, u64::from(record.priority));
    }
    len = put_field(&mut tail, len, OFFSET_TAG, offset.offset.get());

    let mut prefix = [0; PREFIX_ROOM];
    let prefix_len = put_field(&mut prefix, 0, RECORD_TAG, (record.head.len() + len) as u64);

    // Whole arrays are copied and cut: their sizes are known when this is compiled, so that no function is
    // called for a few bytes.
    out.reserve(PREFIX_ROOM + record.head.len() + ROOM);
    let begin = out.len();
    out.extend_from_slice(&prefix);
    out.truncate(begin + prefix_len);
    out.extend_from_slice(record.head);
    let end = out.len() + len;
    out.extend_from_slice(&tail);
    out.truncate(end);
    timestamp_ms
}

const PREFIX_ROOM: usize = 16;

#[inline]
fn put_field<const N: usize>(out: &mut [u8; N], at: usize, tag: u8, value: u64) -> usize {
    out[at] = tag;
    varint::put(out, at + 1, value)
}

/// Skips over whole records by their lengths alone, to cut a stored payload at a
/// record: the byte where record `n` begins, which is the payload's end when it
/// has exactly `n`. None when there are fewer, or when these are no records.
pub fn skip_records(payload: &[u8], n: u32) -> Option<usize> {
    let mut at = 0;
    for _ in 0..n {
        if *payload.get(at)? != RECORD_TAG {
            return None;
        }
        let (len, begin) = varint::read(payload, at + 1).ok()?;
        let end = begin.checked_add(usize::try_from(len).ok()?)?;
        if end > payload.len() {
            return None;
        }
        at = end;
    }
    Some(at)
}

/// The records at the front of some bytes, by their lengths alone: where the last one ends, and how many they are.
/// Whatever else follows, or is odd about the next one, ends them.
pub fn leading_records(bytes: &[u8]) -> (usize, u32) {
    let (mut at, mut count) = (0, 0);
    while let Some(len) = skip_records(&bytes[at..], 1) {
        at += len;
        count += 1;
    }
    (at, count)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{RecordLimits, Records};

    /// The stored form of the only record of `run`, at offset 300 and time 5.
    fn stored(run: &[u8]) -> (Vec<u8>, i64) {
        let mut records = Records::new(run, &RecordLimits::default());
        let (_, record) = records.next().unwrap().unwrap();
        let mut out = Vec::new();
        let offset = Counter::new(Offset::new(300));
        let timestamp_ms = put_stored(&mut out, &record, &Stamp::new(5), &offset);
        (out, timestamp_ms)
    }

    #[test]
    fn the_brokers_fields_are_put_in() {
        let (out, timestamp_ms) = stored(&[0x0A, 0x00]);
        assert_eq!(out, [0x0A, 0x05, 0x20, 0x05, 0x78, 0xAC, 0x02]);
        assert_eq!(timestamp_ms, 5);
    }

    #[test]
    fn what_the_client_set_stays_and_its_offset_goes() {
        let run = [
            0x0A, 0x0A, 0x0A, 0x00, 0x20, 0x09, 0x28, 0x07, 0x30, 0x01, 0x78, 0x63,
        ];
        let (out, timestamp_ms) = stored(&run);
        let expected = [
            0x0A, 0x0B, 0x0A, 0x00, 0x20, 0x09, 0x28, 0x07, 0x30, 0x01, 0x78, 0xAC, 0x02,
        ];
        assert_eq!(out, expected);
        assert_eq!(timestamp_ms, 9);
    }

    /// Around every place where the varint grows, what is put together in words is what the plain way writes.
    #[test]
    fn offsets_count_up_over_every_length() {
        for bits in 0..63 {
            let first = (1_u64 << bits).saturating_sub(300);
            let mut counter = Counter::new(Offset::new(first));
            for offset in first..first + 600 {
                assert_eq!(counter.offset.get(), offset);
                for head in [0, 100, 117, 200, 16_370, 20_000] {
                    let head = vec![0x12; head];
                    let record = Record {
                        head: &head,
                        ..Record::default()
                    };
                    let (mut words, mut expected) = (vec![7], vec![7]);
                    put_stored(
                        &mut words,
                        &record,
                        &Stamp::new(1_700_000_000_000),
                        &counter,
                    );
                    let mut body = head;
                    body.extend([0x20, 0x80, 0xD0, 0x95, 0xFF, 0xBC, 0x31, 0x78]);
                    let put = |out: &mut Vec<u8>, value: u64| {
                        let mut bytes = [0; varint::MAX_LEN];
                        let end = varint::put(&mut bytes, 0, value);
                        out.extend(&bytes[..end]);
                    };
                    put(&mut body, offset);
                    expected.push(0x0A);
                    put(&mut expected, body.len() as u64);
                    expected.extend(body);
                    assert_eq!(words, expected, "{offset}");
                }
                counter.step();
            }
        }
    }

    #[test]
    fn zeros_are_dropped_and_an_empty_value_is_kept() {
        let run = [
            0x0A, 0x0A, 0x12, 0x00, 0x20, 0x00, 0x28, 0x00, 0x30, 0x00, 0x78, 0x00,
        ];
        let (out, timestamp_ms) = stored(&run);
        assert_eq!(out, [0x0A, 0x07, 0x12, 0x00, 0x20, 0x05, 0x78, 0xAC, 0x02]);
        assert_eq!(timestamp_ms, 5);
    }

    #[test]
    fn offset_0_is_written_and_negative_times_take_ten_bytes() {
        let run = [
            0x0A, 0x0B, 0x20, 0xFE, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0x01,
        ];
        let (_, record) = Records::new(&run, &RecordLimits::default())
            .next()
            .unwrap()
            .unwrap();
        let mut out = Vec::new();
        let offset = Counter::new(Offset::ZERO);
        let stored_ms = put_stored(&mut out, &record, &Stamp::new(5), &offset);
        assert_eq!(stored_ms, -2);
        assert_eq!(out[..2], [0x0A, 0x0D]);
        assert_eq!(out[2..13], run[2..]);
        assert_eq!(out[13..], [0x78, 0x00]);
    }

    #[test]
    fn records_are_skipped_by_their_lengths() {
        let payload = [0x0A, 0x00, 0x0A, 0x02, 0x12, 0x00];
        let places = [0, 1, 2, 3].map(|n| skip_records(&payload, n));
        assert_eq!(places, [Some(0), Some(2), Some(6), None]);
        assert_eq!(skip_records(&payload[..5], 2), None);
        assert_eq!(skip_records(&[0x12, 0x00], 1), None);
        assert_eq!(skip_records(&[0x0A], 1), None);
        assert_eq!(leading_records(&payload), (6, 2));
        assert_eq!(leading_records(&[]), (0, 0));
        assert_eq!(leading_records(&payload[..5]), (2, 1));
        let odd = [&payload[..], &[0x0A, 0x80, 0x00]].concat();
        assert_eq!(leading_records(&odd), (6, 2));
    }
}
