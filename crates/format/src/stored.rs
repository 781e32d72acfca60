//! Records as they are stored: the client's bytes with the broker's fields put in.

use crate::offset::Offset;
use crate::record::{DELIVER_AT_TAG, OFFSET_TAG, PRIORITY_TAG, RECORD_TAG, Record, TIMESTAMP_TAG};
use crate::varint;

/// The greatest length of the fields after the head: three numbers of ten bytes
/// and a priority of one, each with its tag.
const MAX_TAIL_LEN: usize = 3 * (1 + varint::MAX_LEN) + 2;

/// The record's tag and length.
const MAX_PREFIX_LEN: usize = 1 + varint::MAX_LEN;

/// Appends one record as it is stored: `0A len head [timestamp] [deliver_at]
/// [priority] offset`. A record without a timestamp gets `append_ms`. Returns the
/// timestamp stored, in Unix milliseconds.
#[inline]
pub fn put_stored(out: &mut Vec<u8>, record: &Record<'_>, append_ms: i64, offset: Offset) -> i64 {
    let timestamp_ms = match record.timestamp_ms {
        0 => append_ms,
        client_ms => client_ms,
    };
    let mut tail = [0; MAX_TAIL_LEN];
    let mut len = 0;
    if timestamp_ms != 0 {
        len = put_field(&mut tail, len, TIMESTAMP_TAG, timestamp_ms as u64);
    }
    if record.deliver_at_ms != 0 {
        len = put_field(&mut tail, len, DELIVER_AT_TAG, record.deliver_at_ms as u64);
    }
    if record.priority != 0 {
        len = put_field(&mut tail, len, PRIORITY_TAG, u64::from(record.priority));
    }
    len = put_field(&mut tail, len, OFFSET_TAG, offset.get());

    let mut prefix = [0; MAX_PREFIX_LEN];
    let body_len = record.head.len() + len;
    let prefix_len = put_field(&mut prefix, 0, RECORD_TAG, body_len as u64);

    out.reserve(prefix_len + body_len);
    out.extend_from_slice(&prefix[..prefix_len]);
    out.extend_from_slice(record.head);
    out.extend_from_slice(&tail[..len]);
    timestamp_ms
}

#[inline]
fn put_field(out: &mut [u8], at: usize, tag: u8, value: u64) -> usize {
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
