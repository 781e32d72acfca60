//! Records stay bytes: a produce request is split into its records and the rest, and a response is
//! spliced from chunks of records and the rest. Neither ever decodes or encodes a record.
//!
//! `ProduceRequest`, `FetchResponse` and `SubscribeResponse` all carry their records as field 1, so in
//! protobuf's wire encoding (<https://protobuf.dev/programming-guides/encoding/>) they are runs of
//! `0A len Record`. Fields may come in any order and field 1 may be scattered among the others; prost does
//! what is not field 1. Public so that what this promises can be measured from outside.

use std::ops::Range;

use bytes::{Bytes, BytesMut};
use flowstone_broker::{Error, leading_records};
use flowstone_proto::v1;
use prost::encoding::{DecodeContext, WireType, decode_key, decode_varint, skip_field};
use prost::{DecodeError, Message};

pub use flowstone_grpc::Splices;

#[cfg(test)]
mod tests;

/// The number of the field that holds the records, in requests and responses alike.
const RECORDS: u32 = 1;

/// A message that is decoded from one gRPC frame.
pub trait FromWire: Sized {
    /// Reads the whole message.
    ///
    /// # Errors
    /// [`Error::InvalidField`] for what is no such message.
    fn from_wire(message: Bytes) -> Result<Self, Error>;
}

/// A message that is encoded into one gRPC frame.
pub trait ToWire {
    /// Exactly how many bytes [`to_wire`](Self::to_wire) writes.
    fn wire_len(&self) -> usize;
    /// Appends the message.
    fn to_wire(&self, out: &mut Splices);
}

/// A `ProduceRequest` whose records are as the client sent them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ProduceRequest {
    /// The run of `0A len Record`, unchecked.
    pub records: Bytes,
    /// How many these are by their lengths, where finding their end has told.
    pub record_count: Option<u32>,
    /// All other fields; its `records` are empty.
    pub fields: v1::ProduceRequest,
}

/// A `ProduceStreamRequest`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ProduceStreamRequest {
    /// Absent when the client left it out.
    pub produce: Option<ProduceRequest>,
}

/// A response whose records are runs of `0A len Record`, put in front of the other fields as they are.
#[derive(Clone, Debug, PartialEq)]
pub struct Spliced<M> {
    /// The records.
    pub records: Vec<Bytes>,
    /// All other fields; its `records` must be empty.
    pub fields: M,
}

/// A `FetchResponse`.
pub type FetchResponse = Spliced<v1::FetchResponse>;
/// A `SubscribeResponse`.
pub type SubscribeResponse = Spliced<v1::SubscribeResponse>;

impl<M: Message> ToWire for Spliced<M> {
    fn wire_len(&self) -> usize {
        self.records.iter().map(Bytes::len).sum::<usize>() + self.fields.encoded_len()
    }

    fn to_wire(&self, out: &mut Splices) {
        for chunk in &self.records {
            out.put(chunk);
        }
        self.fields.to_wire(out);
    }
}

impl<M: Message> ToWire for M {
    fn wire_len(&self) -> usize {
        self.encoded_len()
    }

    fn to_wire(&self, out: &mut Splices) {
        self.encode(out.gathered()).expect("the buffer grows");
    }
}

impl<M: Message + Default> FromWire for M {
    fn from_wire(message: Bytes) -> Result<Self, Error> {
        M::decode(message).map_err(|error| undecodable(&error))
    }
}

impl FromWire for ProduceRequest {
    fn from_wire(message: Bytes) -> Result<Self, Error> {
        let (run, count) = leading_records(&message);
        let (records, rest) = split(&message, run).map_err(|error| undecodable(&error))?;
        Ok(Self {
            record_count: (records.len() == run).then_some(count),
            records,
            fields: v1::ProduceRequest::from_wire(rest)?,
        })
    }
}

impl FromWire for ProduceStreamRequest {
    fn from_wire(message: Bytes) -> Result<Self, Error> {
        let produce = body_of_field_1(&message).map_err(|error| undecodable(&error))?;
        Ok(Self {
            produce: produce.map(ProduceRequest::from_wire).transpose()?,
        })
    }
}

/// Separates field 1 from all others, each in the order it had; so many bytes at the front are known to be of field 1.
/// Slices of the message where that is one piece, which is what every encoder makes; copied together otherwise.
fn split(message: &Bytes, run: usize) -> Result<(Bytes, Bytes), DecodeError> {
    // A record of the wrong wire type is left to prost, which refuses it by name.
    let is_record =
        |field: &Field| field.is(RECORDS) && field.wire_type == WireType::LengthDelimited;
    let (mut records, mut rest) = (Extent::default(), Extent::default());
    records.add(0..run);
    for field in (Fields { message, at: run }) {
        let field = field?;
        let extent = if is_record(&field) {
            &mut records
        } else {
            &mut rest
        };
        extent.add(field.whole);
    }
    let ranges = |records: bool| {
        let fields = Fields { message, at: 0 }.flatten();
        let wanted = fields.filter(move |field| is_record(field) == records);
        wanted.map(|field| field.whole)
    };
    let records = records.of(message, || ranges(true));
    Ok((records, rest.of(message, || ranges(false))))
}

/// What the embedded message in field 1 holds. Several of them are merged, as protobuf has it, which for
/// messages is to read their bytes one after the other.
fn body_of_field_1(message: &Bytes) -> Result<Option<Bytes>, DecodeError> {
    let mut body: Option<Extent> = None;
    for field in (Fields { message, at: 0 }) {
        let field = field?;
        if field.is(RECORDS) {
            prost::encoding::check_wire_type(WireType::LengthDelimited, field.wire_type)?;
            body.get_or_insert_default().add(field.body(message)?);
        }
    }
    let bodies = || {
        let fields = Fields { message, at: 0 }.flatten();
        let bodies = fields.filter(|field| field.is(RECORDS));
        bodies.flat_map(|field| field.body(message))
    };
    Ok(body.map(|body| body.of(message, bodies)))
}

/// A field of a message, with its key.
struct Field {
    number: u32,
    wire_type: WireType,
    whole: Range<usize>,
}

impl Field {
    fn is(&self, number: u32) -> bool {
        self.number == number
    }

    /// Where the contents of a length-delimited field lie.
    fn body(&self, message: &[u8]) -> Result<Range<usize>, DecodeError> {
        let mut unread = &message[self.whole.clone()];
        decode_key(&mut unread)?;
        let len = decode_varint(&mut unread)?;
        let end = self.whole.end;
        Ok(end - usize::try_from(len).expect("it was skipped, so it fits")..end)
    }
}

/// The fields of a message from a place on; after an error there are no more.
struct Fields<'a> {
    message: &'a [u8],
    at: usize,
}

impl Iterator for Fields<'_> {
    type Item = Result<Field, DecodeError>;

    fn next(&mut self) -> Option<Self::Item> {
        let mut unread = self
            .message
            .get(self.at..)
            .filter(|left| !left.is_empty())?;
        let start = std::mem::replace(&mut self.at, self.message.len());
        let skipped = decode_key(&mut unread).and_then(|(number, wire_type)| {
            skip_field(wire_type, number, &mut unread, DecodeContext::default())?;
            self.at -= unread.len();
            Ok(Field {
                number,
                wire_type,
                whole: start..self.at,
            })
        });
        Some(skipped)
    }
}

/// How much some ranges of a message hold, and whether they touch.
#[derive(Default)]
struct Extent {
    /// From the first on, as far as they touch.
    whole: Range<usize>,
    len: usize,
}

impl Extent {
    fn add(&mut self, range: Range<usize>) {
        self.len += range.len();
        if self.whole.is_empty() {
            self.whole = range;
        } else if self.whole.end == range.start {
            self.whole.end = range.end;
        }
    }

    /// The ranges put together: a slice if they touch, a copy of just their size if not.
    fn of<R: Iterator<Item = Range<usize>>>(
        self,
        message: &Bytes,
        ranges: impl FnOnce() -> R,
    ) -> Bytes {
        if self.len == self.whole.len() {
            return message.slice(self.whole);
        }
        let mut copied = BytesMut::with_capacity(self.len);
        for range in ranges() {
            copied.extend_from_slice(&message[range]);
        }
        copied.freeze()
    }
}

fn undecodable(error: &DecodeError) -> Error {
    undecodable_message(&error.to_string())
}

/// Why prost could not decode a message, as a refusal that names the field where prost does. Its text is
/// `failed to decode Protobuf message: Inner.field: Message.field: what`.
pub(crate) fn undecodable_message(text: &str) -> Error {
    let text = text
        .strip_prefix("failed to decode Protobuf message: ")
        .unwrap_or(text);
    let mut fields = Vec::new();
    let mut detail = text;
    while let Some((place, rest)) = detail.split_once(": ") {
        let Some((_, field)) = place.split_once('.').filter(|_| !place.contains(' ')) else {
            break;
        };
        fields.push(field);
        detail = rest;
    }
    fields.reverse();
    let field = match fields.is_empty() {
        true => "request".to_owned(),
        false => fields.join("."),
    };
    Error::InvalidField {
        field,
        detail: format!("the message cannot be decoded: {detail}"),
    }
}
