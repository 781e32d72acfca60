//! The strict scanner for runs of records: it borrows, checks, and allocates nothing.
//!
//! One grammar holds for what clients send and for what is stored: the protobuf
//! encoding of `repeated Record records = 1`, with known fields only, ascending,
//! each at most once (headers repeat), all varints in their shortest form, no groups.

use std::ops::Range;

use crate::error::{Malformation, Place, RecordError, RecordErrorKind};
use crate::varint::{self, VarintError};

/// The tag of a record in its run: field 1, length-delimited.
pub(crate) const RECORD_TAG: u8 = 0x0A;
pub(crate) const TIMESTAMP_TAG: u8 = 0x20;
pub(crate) const DELIVER_AT_TAG: u8 = 0x28;
pub(crate) const PRIORITY_TAG: u8 = 0x30;
pub(crate) const OFFSET_TAG: u8 = 0x78;
const KEY_TAG: u8 = 0x0A;
const VALUE_TAG: u8 = 0x12;
const HEADER_TAG: u8 = 0x1A;
const HEADER_KEY_TAG: u8 = 0x0A;
const HEADER_VALUE_TAG: u8 = 0x12;

const MAX_PRIORITY: u64 = 9;

/// The most that timestamp and offset, the fields that the broker sets, add to a
/// record: two tags and two varints of ten bytes.
pub const MAX_BROKER_BYTES: u32 = 22;

/// How much a run may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordLimits {
    /// The greatest size of one record in bytes: its body without timestamp and
    /// offset. These two are not counted, so that a record that was read can be
    /// produced again whatever the broker had added to it.
    pub max_record_bytes: u32,
    /// The greatest number of records in one run or batch.
    pub max_records: u32,
    /// The greatest timestamp, in Unix milliseconds.
    pub max_timestamp_ms: i64,
}

impl RecordLimits {
    /// No limits, for stored records: they were held against the limits of their time.
    pub const NONE: Self = Self {
        max_record_bytes: u32::MAX,
        max_records: u32::MAX,
        max_timestamp_ms: i64::MAX,
    };
}

impl Default for RecordLimits {
    /// 1 MiB a record, 65,536 records, of any time.
    fn default() -> Self {
        Self {
            max_record_bytes: 1 << 20,
            max_records: 65_536,
            max_timestamp_ms: i64::MAX,
        }
    }
}

/// One record, borrowed from its run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Record<'a> {
    /// The record without its tag and length.
    pub body: &'a [u8],
    /// Fields 1 to 3 (key, value, headers) exactly as they stand.
    pub head: &'a [u8],
    /// The key, if there is one; it may be empty.
    pub key: Option<&'a [u8]>,
    /// The value, if there is one; it may be empty. Without one the record is a tombstone.
    pub value: Option<&'a [u8]>,
    /// Unix time in milliseconds; 0 when absent.
    pub timestamp_ms: i64,
    /// When queues hand it out, Unix time in milliseconds; 0 when absent.
    pub deliver_at_ms: i64,
    /// 0 to 9; 0 when absent.
    pub priority: u8,
    /// The offset field, any int64 in two's complement. Trust that of stored records only.
    pub offset: Option<u64>,
}

impl<'a> Record<'a> {
    /// The headers in their order: key and value, empty when absent.
    pub fn headers(&self) -> impl Iterator<Item = (&'a str, &'a [u8])> + use<'a> {
        let head = self.head;
        let mut at = 0;
        for tag in [KEY_TAG, VALUE_TAG] {
            if head.get(at) == Some(&tag) {
                (_, at) = checked(delimited(head, at + 1, Place::Tag));
            }
        }
        std::iter::from_fn(move || {
            if at == head.len() {
                return None;
            }
            let (header, next) = checked(delimited(head, at + 1, Place::Tag));
            at = next;
            Some(checked(scan_header(header)))
        })
    }
}

/// Unwraps what the scanner has accepted before.
fn checked<T>(result: Result<T, RecordErrorKind>) -> T {
    result.expect("the record was checked by the scanner")
}

/// Iterates over the records of a run: the byte range of each whole `0A len body`
/// in the run, and the record. Ends after the first error.
#[derive(Clone, Debug)]
pub struct Records<'a> {
    run: &'a [u8],
    at: usize,
    index: u32,
    limits: RecordLimits,
}

impl<'a> Records<'a> {
    /// Begins at the first record of `run`.
    pub fn new(run: &'a [u8], limits: &RecordLimits) -> Self {
        Self::continued(run, limits, 0)
    }

    /// Begins at the first record of `run`, the `index`th of its batch.
    pub(crate) fn continued(run: &'a [u8], limits: &RecordLimits, index: u32) -> Self {
        let limits = *limits;
        Self {
            run,
            at: 0,
            index,
            limits,
        }
    }

    #[inline]
    fn scan_one(&self) -> Result<(Range<usize>, Record<'a>), RecordErrorKind> {
        let (run, limits) = (self.run, &self.limits);
        if self.index >= limits.max_records {
            let limit = limits.max_records;
            return Err(RecordErrorKind::TooMany { limit });
        }
        let byte = run[self.at];
        if byte != RECORD_TAG {
            return Err(malformed(Place::Frame, Malformation::NotARecord { byte }));
        }
        let (len, begin) =
            varint::read(run, self.at + 1).map_err(|error| bad_varint(Place::Frame, error))?;
        let limit = u64::from(limits.max_record_bytes);
        if len > limit + u64::from(MAX_BROKER_BYTES) {
            return Err(too_large(len, limits));
        }
        let end = match usize::try_from(len) {
            Ok(len) if len <= run.len() - begin => begin + len,
            _ => return Err(malformed(Place::Frame, Malformation::Truncated)),
        };
        let (record, broker_bytes) = scan_record(&run[begin..end])?;
        let bytes = len - broker_bytes as u64;
        if bytes > limit {
            return Err(too_large(bytes, limits));
        }
        if record.timestamp_ms > limits.max_timestamp_ms {
            return Err(RecordErrorKind::TooLate);
        }
        Ok((self.at..end, record))
    }
}

impl<'a> Iterator for Records<'a> {
    type Item = Result<(Range<usize>, Record<'a>), RecordError>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        if self.at == self.run.len() {
            return None;
        }
        match self.scan_one() {
            Ok((range, record)) => {
                self.at = range.end;
                self.index += 1;
                Some(Ok((range, record)))
            }
            Err(kind) => {
                self.at = self.run.len();
                let index = self.index;
                Some(Err(RecordError { index, kind }))
            }
        }
    }
}

impl std::iter::FusedIterator for Records<'_> {}

/// The record in `body`, and how many bytes its timestamp and offset take.
#[inline]
fn scan_record(body: &[u8]) -> Result<(Record<'_>, usize), RecordErrorKind> {
    let (mut at, mut last) = (0, 0);
    let (mut key, mut value) = (None, None);
    if body.get(at) == Some(&KEY_TAG) {
        let (bytes, next) = delimited(body, at + 1, Place::Field(1))?;
        (key, at, last) = (Some(bytes), next, 1);
    }
    if body.get(at) == Some(&VALUE_TAG) {
        let (bytes, next) = delimited(body, at + 1, Place::Field(2))?;
        (value, at, last) = (Some(bytes), next, 2);
    }
    while body.get(at) == Some(&HEADER_TAG) {
        let (header, next) = delimited(body, at + 1, Place::Field(3))?;
        scan_header(header)?;
        (at, last) = (next, 3);
    }
    let head = &body[..at];
    let (mut timestamp_ms, mut deliver_at_ms, mut priority, mut offset) = (0, 0, 0, None);
    let mut broker_bytes = 0;
    if body.get(at) == Some(&TIMESTAMP_TAG) {
        let (number, next) = number(body, at + 1, 4)?;
        broker_bytes += next - at;
        (timestamp_ms, at, last) = (number as i64, next, 4);
    }
    if body.get(at) == Some(&DELIVER_AT_TAG) {
        let (number, next) = number(body, at + 1, 5)?;
        (deliver_at_ms, at, last) = (number as i64, next, 5);
    }
    if body.get(at) == Some(&PRIORITY_TAG) {
        let (number, next) = number(body, at + 1, 6)?;
        if number > MAX_PRIORITY {
            let value = number as i64;
            return Err(malformed(Place::Field(6), Malformation::Priority { value }));
        }
        (priority, at, last) = (number as u8, next, 6);
    }
    if body.get(at) == Some(&OFFSET_TAG) {
        let (number, next) = number(body, at + 1, 15)?;
        broker_bytes += next - at;
        (offset, at, last) = (Some(number), next, 15);
    }
    if at != body.len() {
        return Err(bad_field(body, at, last));
    }
    let record = Record {
        body,
        head,
        key,
        value,
        timestamp_ms,
        deliver_at_ms,
        priority,
        offset,
    };
    Ok((record, broker_bytes))
}

fn scan_header(header: &[u8]) -> Result<(&str, &[u8]), RecordErrorKind> {
    let (mut at, mut last) = (0, 0);
    let (mut key, mut value) = ("", &[][..]);
    if header.get(at) == Some(&HEADER_KEY_TAG) {
        let (bytes, next) = delimited(header, at + 1, Place::HeaderField(1))?;
        key = std::str::from_utf8(bytes)
            .map_err(|_| malformed(Place::HeaderField(1), Malformation::KeyNotUtf8))?;
        (at, last) = (next, 1);
    }
    if header.get(at) == Some(&HEADER_VALUE_TAG) {
        (value, at) = delimited(header, at + 1, Place::HeaderField(2))?;
        last = 2;
    }
    if at != header.len() {
        return Err(bad_header_field(header, at, last));
    }
    Ok((key, value))
}

/// The bytes after the length at `at`, and where the next field begins.
#[inline]
fn delimited(bytes: &[u8], at: usize, place: Place) -> Result<(&[u8], usize), RecordErrorKind> {
    let (len, begin) = varint::read(bytes, at).map_err(|error| bad_varint(place, error))?;
    match usize::try_from(len) {
        Ok(len) if len <= bytes.len() - begin => Ok((&bytes[begin..begin + len], begin + len)),
        _ => Err(malformed(place, Malformation::Truncated)),
    }
}

#[inline]
fn number(body: &[u8], at: usize, field: u32) -> Result<(u64, usize), RecordErrorKind> {
    varint::read(body, at).map_err(|error| bad_varint(Place::Field(field), error))
}

/// Tells what is wrong with the record's field at `at`, which is none that may
/// stand after field `last`.
#[cold]
fn bad_field(body: &[u8], at: usize, last: u32) -> RecordErrorKind {
    let (field, wire_type) = match tag(body, at, Place::Tag) {
        Ok(tag) => tag,
        Err(kind) => return kind,
    };
    let expected = match field {
        1..=3 => 2,
        4..=6 | 15 => 0,
        _ => return RecordErrorKind::UnknownField { field },
    };
    malformed(
        Place::Field(field),
        misplaced(field, wire_type, expected, last),
    )
}

#[cold]
fn bad_header_field(header: &[u8], at: usize, last: u32) -> RecordErrorKind {
    let (field, wire_type) = match tag(header, at, Place::HeaderTag) {
        Ok(tag) => tag,
        Err(kind) => return kind,
    };
    if !(1..=2).contains(&field) {
        return RecordErrorKind::UnknownHeaderField { field };
    }
    malformed(
        Place::HeaderField(field),
        misplaced(field, wire_type, 2, last),
    )
}

fn misplaced(field: u32, found: u8, expected: u8, last: u32) -> Malformation {
    if found != expected {
        Malformation::WireType { found, expected }
    } else if field == last {
        Malformation::Repeated
    } else {
        Malformation::OutOfOrder { after: last }
    }
}

/// Field number and wire type of the tag at `at`.
fn tag(bytes: &[u8], at: usize, place: Place) -> Result<(u32, u8), RecordErrorKind> {
    let (tag, _) = varint::read(bytes, at).map_err(|error| bad_varint(place, error))?;
    let field = match u32::try_from(tag) {
        Ok(tag) if tag >= 8 => tag >> 3,
        _ => return Err(malformed(place, Malformation::BadTag { tag })),
    };
    match (tag & 7) as u8 {
        3 | 4 => Err(malformed(place, Malformation::Group)),
        6 | 7 => Err(malformed(place, Malformation::BadTag { tag })),
        wire_type => Ok((field, wire_type)),
    }
}

#[cold]
fn bad_varint(place: Place, error: VarintError) -> RecordErrorKind {
    let what = match error {
        VarintError::Truncated => Malformation::Truncated,
        VarintError::NotMinimal => Malformation::NotMinimal,
        VarintError::TooLong => Malformation::VarintTooLong,
    };
    malformed(place, what)
}

#[cold]
fn malformed(place: Place, what: Malformation) -> RecordErrorKind {
    RecordErrorKind::Malformed { place, what }
}

#[cold]
fn too_large(bytes: u64, limits: &RecordLimits) -> RecordErrorKind {
    let limit = limits.max_record_bytes;
    RecordErrorKind::TooLarge { bytes, limit }
}

#[cfg(test)]
mod tests;
