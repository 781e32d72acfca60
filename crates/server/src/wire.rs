//! Records stay bytes: a produce request is split into its records and the rest, and a response is
//! spliced from chunks of records and the rest. Neither ever decodes or encodes a record.
//!
//! `ProduceRequest`, `FetchResponse` and `SubscribeResponse` all carry their records as field 1, so in
//! protobuf's wire encoding (<https://protobuf.dev/programming-guides/encoding/>) they are runs of
//! `0A len Record`. Fields may come in any order and field 1 may be scattered among the others; prost does
//! what is not field 1. Public so that what this promises can be measured from outside.

use std::ops::Range;

use bytes::{Bytes, BytesMut};
use flowstone_broker::Error;
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
        let (records, rest) = split(&message).map_err(|error| undecodable(&error))?;
        Ok(Self {
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

/// Separates field 1 from all others, each in the order it had. Slices of the message where that is one
/// piece, which is what every encoder makes; copied together otherwise.
fn split(message: &Bytes) -> Result<(Bytes, Bytes), DecodeError> {
    let mut records = Pieces::new(message);
    let mut rest = Pieces::new(message);
    let run = leading_run(message);
    records.push(0..run);
    let mut unread = &message[run..];
    while !unread.is_empty() {
        let start = message.len() - unread.len();
        let (field, wire_type) = decode_key(&mut unread)?;
        // A record of the wrong wire type is left to prost, which refuses it by name.
        let is_record = field == RECORDS && wire_type == WireType::LengthDelimited;
        skip_field(wire_type, field, &mut unread, DecodeContext::default())?;
        let range = start..message.len() - unread.len();
        if is_record {
            records.push(range);
        } else {
            rest.push(range);
        }
    }
    Ok((records.finish(), rest.finish()))
}

/// Where the run of records at the beginning of a message ends. What is odd there is left to prost.
fn leading_run(message: &[u8]) -> usize {
    const RECORD_TAG: u8 = 0x0A;
    let mut at = 0;
    while message.get(at) == Some(&RECORD_TAG) {
        let mut len = 0;
        let mut next = at + 1;
        for shift in [0, 7, 14, 21] {
            let Some(byte) = message.get(next) else {
                return at;
            };
            next += 1;
            len |= usize::from(byte & 0x7F) << shift;
            if byte & 0x80 == 0 {
                break;
            }
            if shift == 21 {
                return at;
            }
        }
        if len > message.len() - next {
            return at;
        }
        at = next + len;
    }
    at
}

/// What the embedded message in field 1 holds. Several of them are merged, as protobuf has it, which for
/// messages is to read their bytes one after the other.
fn body_of_field_1(message: &Bytes) -> Result<Option<Bytes>, DecodeError> {
    let mut bodies: Option<Pieces<'_>> = None;
    let mut unread: &[u8] = message;
    while !unread.is_empty() {
        let (field, wire_type) = decode_key(&mut unread)?;
        if field == RECORDS {
            prost::encoding::check_wire_type(WireType::LengthDelimited, wire_type)?;
            let mut body = unread;
            let len = decode_varint(&mut body)?;
            skip_field(wire_type, field, &mut unread, DecodeContext::default())?;
            let end = message.len() - unread.len();
            let start = end - usize::try_from(len).expect("it was skipped, so it fits");
            bodies
                .get_or_insert_with(|| Pieces::new(message))
                .push(start..end);
        } else {
            skip_field(wire_type, field, &mut unread, DecodeContext::default())?;
        }
    }
    Ok(bodies.map(Pieces::finish))
}

/// Ranges of a message put together: a slice while they touch, a copy from the first gap on.
struct Pieces<'a> {
    message: &'a Bytes,
    whole: Range<usize>,
    copied: Option<BytesMut>,
}

impl<'a> Pieces<'a> {
    fn new(message: &'a Bytes) -> Self {
        Self {
            message,
            whole: 0..0,
            copied: None,
        }
    }

    fn push(&mut self, range: Range<usize>) {
        if let Some(copied) = &mut self.copied {
            copied.extend_from_slice(&self.message[range]);
        } else if self.whole.is_empty() {
            self.whole = range;
        } else if self.whole.end == range.start {
            self.whole.end = range.end;
        } else {
            let mut copied = BytesMut::with_capacity(self.whole.len() + range.len());
            copied.extend_from_slice(&self.message[self.whole.clone()]);
            copied.extend_from_slice(&self.message[range]);
            self.copied = Some(copied);
        }
    }

    fn finish(self) -> Bytes {
        match self.copied {
            Some(copied) => copied.freeze(),
            None => self.message.slice(self.whole),
        }
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
