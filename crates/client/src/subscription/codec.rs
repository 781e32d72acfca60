//! The messages of a Subscribe stream, whose records stay the bytes that they are.

use bytes::{Buf, Bytes};
use flowstone_proto::v1 as proto;
use prost::Message;
use tonic::Status;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};

use crate::Records;

/// A `SubscribeResponse`.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct SubscribeResponse {
    pub(super) records: Records,
    /// All other fields; its `records` are empty.
    pub(super) fields: proto::SubscribeResponse,
}

impl SubscribeResponse {
    fn decode(message: Bytes) -> Result<Self, prost::DecodeError> {
        if let Some((records, bytes)) = Records::at_the_front(&message) {
            let fields = proto::SubscribeResponse::decode(message.slice(bytes..))?;
            if fields.records.is_empty() {
                return Ok(Self { records, fields });
            }
        }
        // Records that are scattered among the other fields, which protobuf allows and no broker does, or
        // that are malformed, which is told best by prost.
        let mut fields = proto::SubscribeResponse::decode(message)?;
        Ok(Self {
            records: std::mem::take(&mut fields.records).into_iter().collect(),
            fields,
        })
    }
}

/// Requests out, responses with undecoded records in.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct SubscribeCodec;

impl Codec for SubscribeCodec {
    type Encode = proto::SubscribeRequest;
    type Decode = SubscribeResponse;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for SubscribeCodec {
    type Item = proto::SubscribeRequest;
    type Error = Status;

    fn encode(&mut self, request: Self::Item, out: &mut EncodeBuf<'_>) -> Result<(), Status> {
        request.encode(out).expect("an EncodeBuf grows as needed");
        Ok(())
    }
}

impl Decoder for SubscribeCodec {
    type Item = SubscribeResponse;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<Self::Item>, Status> {
        // Takes the message out of the buffer that it was received in.
        let message = from.copy_to_bytes(from.remaining());
        SubscribeResponse::decode(message)
            .map(Some)
            .map_err(|error| {
                Status::internal(format!("the broker's message is malformed: {error}"))
            })
    }
}

#[cfg(test)]
mod tests;
