//! The records of a batch: the bytes that the broker sent, read where they lie.
//!
//! What was received is checked once and kept as it is, a run of `0A len Record`. Walking it borrows
//! from these bytes and allocates nothing, so that a reader costs what it looks at.

use std::fmt;

use bytes::{BufMut, Bytes, BytesMut};
use flowstone_proto::v1 as proto;
use prost::Message;
use prost::encoding::{DecodeContext, decode_key, decode_varint, encode_varint, skip_field};

#[cfg(test)]
mod tests;

/// Begins a record in a run: field 1, length-delimited.
pub(crate) const ENTRY: u8 = 0x0a;

/// The fields of a record, each with its number and its wire type.
mod key {
    pub(super) const KEY: u64 = 1 << 3 | 2;
    pub(super) const VALUE: u64 = 2 << 3 | 2;
    pub(super) const HEADER: u64 = 3 << 3 | 2;
    pub(super) const TIMESTAMP_MS: u64 = 4 << 3;
    pub(super) const DELIVER_AT_MS: u64 = 5 << 3;
    pub(super) const PRIORITY: u64 = 6 << 3;
    pub(super) const OFFSET: u64 = 15 << 3;
    /// The numbers of all of these.
    pub(super) const NUMBERS: [u32; 7] = [1, 2, 3, 4, 5, 6, 15];

    pub(super) const HEADER_KEY: u64 = 1 << 3 | 2;
    pub(super) const HEADER_VALUE: u64 = 2 << 3 | 2;
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
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Records {
    /// `0A len Record`, again and again; nothing that [`RecordRef::check`] refuses.
    run: Bytes,
    len: usize,
}

impl Records {
    /// Takes the records that a message begins with, and answers with how many bytes they are. None:
    /// one of them is malformed.
    pub(crate) fn at_the_front(message: &Bytes) -> Option<(Self, usize)> {
        let mut unread = &message[..];
        let mut len = 0;
        while let [ENTRY, behind @ ..] = unread {
            unread = behind;
            RecordRef::check(take_bytes(&mut unread)?)?;
            len += 1;
        }
        let bytes = message.len() - unread.len();
        let run = message.slice(..bytes);
        Some((Self { run, len }, bytes))
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
            unread: &self.run,
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
            run: run.freeze(),
            len,
        }
    }
}

impl fmt::Debug for Records {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self).finish()
    }
}

/// Walks [`Records`].
#[derive(Clone, Debug)]
pub struct RecordsIter<'a> {
    unread: &'a [u8],
    left: usize,
}

impl<'a> Iterator for RecordsIter<'a> {
    type Item = RecordRef<'a>;

    #[inline]
    fn next(&mut self) -> Option<RecordRef<'a>> {
        let [ENTRY, behind @ ..] = self.unread else {
            assert!(self.left == 0, "{CHECKED}");
            return None;
        };
        self.unread = behind;
        self.left -= 1;
        let body = take_bytes(&mut self.unread).expect(CHECKED);
        Some(RecordRef::parse(body).expect(CHECKED))
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

    /// Reads all fields, headers as bytes still. As protobuf has it, the last of several holds, and what
    /// is not known is left out. None: it is malformed.
    #[inline]
    fn parse(body: &'a [u8]) -> Option<Self> {
        let mut record = Self::default();
        let mut unread = body;
        let mut headers: Option<(usize, usize)> = None;
        while !unread.is_empty() {
            let field = unread;
            match decode_varint(&mut unread).ok()? {
                key::KEY => record.key = Some(take_bytes(&mut unread)?),
                key::VALUE => record.value = Some(take_bytes(&mut unread)?),
                key::HEADER => {
                    take_bytes(&mut unread)?;
                    let (start, end) = (body.len() - field.len(), body.len() - unread.len());
                    headers = Some((headers.map_or(start, |(first, _)| first), end));
                }
                key::TIMESTAMP_MS => record.timestamp_ms = take_number(&mut unread)?,
                key::DELIVER_AT_MS => record.deliver_at_ms = take_number(&mut unread)?,
                // As protobuf narrows a number that is too large.
                key::PRIORITY => record.priority = take_number(&mut unread)? as i32,
                key::OFFSET => record.offset = take_number(&mut unread)?,
                _ => {
                    unread = field;
                    skip_unknown(&mut unread, &key::NUMBERS)?;
                }
            }
        }
        if let Some((start, end)) = headers {
            record.headers.fields = &body[start..end];
        }
        Some(record)
    }

    /// None: it is malformed, and must not be parsed later.
    #[inline]
    fn check(body: &[u8]) -> Option<()> {
        let mut headers = RecordRef::parse(body)?.headers.into_iter();
        while !headers.fields.is_empty() {
            headers.take_next()?;
        }
        Some(())
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
            fields: self.fields,
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
    fields: &'a [u8],
}

impl<'a> HeadersIter<'a> {
    /// The next header, if there is one; the outer None: it is malformed.
    fn take_next(&mut self) -> Option<Option<HeaderRef<'a>>> {
        while !self.fields.is_empty() {
            let field = self.fields;
            if decode_varint(&mut self.fields).ok()? == key::HEADER {
                return HeaderRef::parse(take_bytes(&mut self.fields)?).map(Some);
            }
            self.fields = field;
            skip_unknown(&mut self.fields, &[])?;
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
    fn parse(mut unread: &'a [u8]) -> Option<Self> {
        let mut header = Self::default();
        while !unread.is_empty() {
            let field = unread;
            match decode_varint(&mut unread).ok()? {
                key::HEADER_KEY => {
                    header.key = std::str::from_utf8(take_bytes(&mut unread)?).ok()?;
                }
                key::HEADER_VALUE => header.value = take_bytes(&mut unread)?,
                _ => {
                    unread = field;
                    skip_unknown(&mut unread, &key::HEADER_NUMBERS)?;
                }
            }
        }
        Some(header)
    }
}

#[inline]
fn take_bytes<'a>(unread: &mut &'a [u8]) -> Option<&'a [u8]> {
    let len = usize::try_from(decode_varint(unread).ok()?).ok()?;
    let (bytes, behind) = unread.split_at_checked(len)?;
    *unread = behind;
    Some(bytes)
}

#[inline]
fn take_number(unread: &mut &[u8]) -> Option<i64> {
    decode_varint(unread).ok().map(|number| number as i64)
}

/// A later broker may send fields that this client does not know, but none of these with another wire
/// type.
#[cold]
fn skip_unknown(unread: &mut &[u8], known: &[u32]) -> Option<()> {
    let (number, wire_type) = decode_key(unread).ok()?;
    if known.contains(&number) {
        return None;
    }
    skip_field(wire_type, number, unread, DecodeContext::default()).ok()
}
