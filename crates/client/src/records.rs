//! The records of a batch: the bytes that the broker sent, read where they lie.
//!
//! What was received is checked once and kept as it is, a run of `0A len Record`. Walking it borrows
//! from these bytes and allocates nothing, so that a reader costs what it looks at.

use std::fmt;

use bytes::{BufMut, Bytes, BytesMut};
use flowstone_proto::v1 as proto;
use prost::Message;
use prost::encoding::encode_varint;

mod ending;
#[cfg(test)]
mod tests;
mod unread;

use ending::Ending;
use unread::Unread;

/// Begins a record in a run: field 1, length-delimited.
pub(crate) const ENTRY: u8 = 0x0a;

/// What a field of a record begins with: its number and its wire type, in one byte.
pub(crate) mod tag {
    pub(crate) const KEY: u8 = 1 << 3 | 2;
    pub(crate) const VALUE: u8 = 2 << 3 | 2;
    pub(crate) const HEADER: u8 = 3 << 3 | 2;
    pub(crate) const TIMESTAMP_MS: u8 = 4 << 3;
    pub(crate) const DELIVER_AT_MS: u8 = 5 << 3;
    pub(crate) const PRIORITY: u8 = 6 << 3;
    pub(crate) const OFFSET: u8 = 15 << 3;
    /// The numbers of all of these.
    pub(super) const NUMBERS: [u32; 7] = [1, 2, 3, 4, 5, 6, 15];

    pub(super) const HEADER_KEY: u8 = 1 << 3 | 2;
    pub(super) const HEADER_VALUE: u8 = 2 << 3 | 2;
    pub(super) const HEADER_NUMBERS: [u32; 2] = [1, 2];
}

const CHECKED: &str = "the run was checked when it was received";

/// Records, in the order of their offsets. Clones share the bytes.
///
/// ```
/// use flowstone_client::{Record, Records};
///
/// let records: Records = [Record { value: Some("two lemonades".into()), ..Record::default() }]
///     .into_iter()
///     .collect();
/// for record in &records {
///     assert_eq!(record.value, Some(&b"two lemonades"[..]));
/// }
/// ```
#[derive(Clone, Default)]
pub struct Records {
    /// Each is `0A len Record`, again and again; nothing that [`Records::at_the_front`] refuses.
    runs: Vec<Bytes>,
    len: usize,
}

impl Records {
    /// Takes the records that a message begins with, which came in these pieces, and answers with what is behind
    /// them. None: one of them is malformed, as only prost reads it, or not whole within a piece.
    pub(crate) fn at_the_front(pieces: &[Bytes]) -> Option<(Self, Bytes)> {
        let mut records = Self::default();
        let mut ending = Ending::default();
        for (index, piece) in pieces.iter().enumerate() {
            let mut unread = Unread::new(piece);
            while unread.begins_with(ENTRY) {
                let record = RecordRef::take(&mut unread, &mut ending)?;
                if !record.headers.is_empty() {
                    let mut headers = record.headers.into_iter();
                    while headers.take_next()?.is_some() {}
                }
                records.len += 1;
            }
            let at = unread.at;
            if at > 0 {
                records.runs.push(piece.slice(..at));
            }
            if at < piece.len() {
                let behind = &pieces[index + 1..];
                let rest = if behind.is_empty() {
                    piece.slice(at..)
                } else {
                    [&piece[at..], &behind.concat()].concat().into()
                };
                return Some((records, rest));
            }
        }
        Some((records, Bytes::new()))
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Walks the records from the first to the last.
    pub fn iter(&self) -> RecordsIter<'_> {
        RecordsIter {
            unread: Unread::new(&[]),
            ending: Ending::default(),
            runs: self.runs.iter(),
            left: self.len,
        }
    }
}

impl<'a> IntoIterator for &'a Records {
    type Item = RecordRef<'a>;
    type IntoIter = RecordsIter<'a>;

    fn into_iter(self) -> RecordsIter<'a> {
        self.iter()
    }
}

impl FromIterator<proto::Record> for Records {
    fn from_iter<I: IntoIterator<Item = proto::Record>>(records: I) -> Self {
        let mut run = BytesMut::new();
        let mut len = 0;
        for record in records {
            run.put_u8(ENTRY);
            encode_varint(record.encoded_len() as u64, &mut run);
            record.encode(&mut run).expect("a BytesMut grows as needed");
            len += 1;
        }
        Self {
            runs: vec![run.freeze()],
            len,
        }
    }
}

/// The same bytes, in whatever pieces they came.
impl PartialEq for Records {
    fn eq(&self, other: &Self) -> bool {
        self.len == other.len && self.runs.iter().flatten().eq(other.runs.iter().flatten())
    }
}

impl Eq for Records {}

impl fmt::Debug for Records {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self).finish()
    }
}

/// Walks [`Records`].
#[derive(Clone, Debug)]
pub struct RecordsIter<'a> {
    unread: Unread<'a>,
    /// Of the record before.
    ending: Ending,
    /// Behind it.
    runs: std::slice::Iter<'a, Bytes>,
    left: usize,
}

impl<'a> Iterator for RecordsIter<'a> {
    type Item = RecordRef<'a>;

    #[inline(always)]
    fn next(&mut self) -> Option<RecordRef<'a>> {
        self.left = self.left.checked_sub(1)?;
        while self.unread.at == self.unread.bytes.len() {
            self.unread = Unread::new(self.runs.next()?);
        }
        let record = RecordRef::take(&mut self.unread, &mut self.ending);
        Some(record.expect(CHECKED))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl ExactSizeIterator for RecordsIter<'_> {}

/// A record that borrows from the batch it came in: a [`Record`](proto::Record) without its own bytes.
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct RecordRef<'a> {
    /// None: it has no key.
    pub key: Option<&'a [u8]>,
    /// None: it is a tombstone.
    pub value: Option<&'a [u8]>,
    /// In the order in which they were sent, also when several have the same key.
    pub headers: Headers<'a>,
    /// Unix time in milliseconds: the producer's, or else that of the append.
    pub timestamp_ms: i64,
    /// For queues: not before this time (Unix time in milliseconds). 0: at once.
    pub deliver_at_ms: i64,
    /// For queues: higher ones first.
    pub priority: i32,
    /// Its place in the partition.
    pub offset: i64,
}

impl<'a> RecordRef<'a> {
    /// A copy with bytes of its own, which may outlive the batch and be produced again as it is.
    pub fn to_record(&self) -> proto::Record {
        let copy = |bytes: &[u8]| Bytes::copy_from_slice(bytes);
        let header = |header: HeaderRef<'_>| proto::Header {
            key: header.key.to_owned(),
            value: copy(header.value),
        };
        proto::Record {
            key: self.key.map(copy),
            value: self.value.map(copy),
            headers: self.headers.into_iter().map(header).collect(),
            timestamp_ms: self.timestamp_ms,
            deliver_at_ms: self.deliver_at_ms,
            priority: self.priority,
            offset: self.offset,
        }
    }

    /// Takes `0A len Record` and reads all fields, headers as bytes still. None: it is malformed, or as only prost reads
    /// it.
    #[inline(always)]
    fn take(unread: &mut Unread<'a>, ending: &mut Ending) -> Option<Self> {
        unread.at += 1;
        let len = usize::try_from(unread.varint()?).ok()?;
        let end = unread.at.checked_add(len)?;
        let body = *unread;
        unread.at = end;
        let mut record = Self::default();
        if record.read_in_order(body, end, ending) == Some(end) {
            return Some(record);
        }
        // Copied one by one, so that what nobody looks at need not be put together above.
        let any = Self::read_in_any_order(body, end)?;
        record.key = any.key;
        record.value = any.value;
        record.headers = any.headers;
        record.timestamp_ms = any.timestamp_ms;
        record.deliver_at_ms = any.deliver_at_ms;
        record.priority = any.priority;
        record.offset = any.offset;
        Some(record)
    }

    /// Reads fields as they are usually written, one time each, and answers with where they end: that may be behind
    /// the record's end. `ending` is that of the record before, and then of this one.
    #[inline(always)]
    fn read_in_order(
        &mut self,
        mut unread: Unread<'a>,
        end: usize,
        ending: &mut Ending,
    ) -> Option<usize> {
        if unread.begins_with(tag::KEY) {
            unread.at += 1;
            self.key = Some(unread.delimited()?);
        }
        if unread.begins_with(tag::VALUE) {
            unread.at += 1;
            self.value = Some(unread.delimited()?);
        }
        if unread.begins_with(tag::HEADER) {
            let first = unread.at;
            while unread.begins_with(tag::HEADER) {
                unread.at += 1;
                unread.delimited()?;
            }
            self.headers.fields = &unread.bytes[first..unread.at];
        }
        if let Some((timestamp_ms, offset)) = ending.read(unread, end) {
            self.timestamp_ms = timestamp_ms;
            self.offset = offset;
            return Some(end);
        }
        self.read_ending(unread, end, ending)
    }

    /// The fields behind the headers.
    #[inline(never)]
    fn read_ending(
        &mut self,
        mut unread: Unread<'a>,
        end: usize,
        ending: &mut Ending,
    ) -> Option<usize> {
        *ending = Ending::of(unread.bytes.get(unread.at..end)?).unwrap_or_default();
        if unread.begins_with(tag::TIMESTAMP_MS) {
            unread.at += 1;
            self.timestamp_ms = unread.varint()? as i64;
        }
        if unread.begins_with(tag::DELIVER_AT_MS) {
            unread.at += 1;
            self.deliver_at_ms = unread.varint()? as i64;
        }
        if unread.begins_with(tag::PRIORITY) {
            unread.at += 1;
            self.priority = unread.varint()? as i32;
        }
        if unread.begins_with(tag::OFFSET) {
            unread.at += 1;
            self.offset = unread.varint()? as i64;
        }
        Some(unread.at)
    }

    /// Reads fields as protobuf has them: the last of several holds, and what is not known is left out.
    #[cold]
    fn read_in_any_order(mut unread: Unread<'a>, end: usize) -> Option<Self> {
        let mut record = Self::default();
        let mut headers: Option<(usize, usize)> = None;
        // Fields are read without regard to where the record ends; the last of them has to end there.
        while unread.at < end {
            let field = unread.at;
            let tag = *unread.bytes.get(field)?;
            unread.at += 1;
            match tag {
                tag::KEY => record.key = Some(unread.delimited()?),
                tag::VALUE => record.value = Some(unread.delimited()?),
                tag::HEADER => {
                    unread.delimited()?;
                    headers = Some((headers.map_or(field, |(first, _)| first), unread.at));
                }
                tag::TIMESTAMP_MS => record.timestamp_ms = unread.varint()? as i64,
                tag::DELIVER_AT_MS => record.deliver_at_ms = unread.varint()? as i64,
                // As protobuf narrows a number that is too large.
                tag::PRIORITY => record.priority = unread.varint()? as i32,
                tag::OFFSET => record.offset = unread.varint()? as i64,
                _ => unread.skip_unknown(field, &tag::NUMBERS)?,
            }
        }
        if let Some((first, last)) = headers {
            record.headers.fields = &unread.bytes[first..last];
        }
        (unread.at == end).then_some(record)
    }
}

/// The headers of a record; iterate over it.
#[derive(Clone, Copy, Default)]
pub struct Headers<'a> {
    /// From the first header to the last. Other fields may lie in between.
    fields: &'a [u8],
}

impl Headers<'_> {
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.fields.is_empty()
    }
}

impl<'a> IntoIterator for Headers<'a> {
    type Item = HeaderRef<'a>;
    type IntoIter = HeadersIter<'a>;

    fn into_iter(self) -> HeadersIter<'a> {
        HeadersIter {
            unread: Unread::new(self.fields),
        }
    }
}

impl fmt::Debug for Headers<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(*self).finish()
    }
}

/// Walks [`Headers`].
#[derive(Clone, Debug)]
pub struct HeadersIter<'a> {
    unread: Unread<'a>,
}

impl<'a> HeadersIter<'a> {
    /// The next header, if there is one; the outer None: it is malformed.
    fn take_next(&mut self) -> Option<Option<HeaderRef<'a>>> {
        while self.unread.at < self.unread.bytes.len() {
            let field = self.unread.at;
            if self.unread.begins_with(tag::HEADER) {
                self.unread.at += 1;
                return HeaderRef::parse(self.unread.delimited()?).map(Some);
            }
            self.unread.skip_unknown(field, &[])?;
        }
        Some(None)
    }
}

impl<'a> Iterator for HeadersIter<'a> {
    type Item = HeaderRef<'a>;

    fn next(&mut self) -> Option<HeaderRef<'a>> {
        self.take_next().expect(CHECKED)
    }
}

/// A header that borrows from the batch it came in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct HeaderRef<'a> {
    /// Its name.
    pub key: &'a str,
    /// Any bytes.
    pub value: &'a [u8],
}

impl<'a> HeaderRef<'a> {
    fn parse(bytes: &'a [u8]) -> Option<Self> {
        let mut unread = Unread::new(bytes);
        let mut header = Self::default();
        while let Some(&tag) = bytes.get(unread.at) {
            let field = unread.at;
            unread.at += 1;
            match tag {
                tag::HEADER_KEY => {
                    header.key = std::str::from_utf8(unread.delimited()?).ok()?;
                }
                tag::HEADER_VALUE => header.value = unread.delimited()?,
                _ => unread.skip_unknown(field, &tag::HEADER_NUMBERS)?,
            }
        }
        Some(header)
    }
}
