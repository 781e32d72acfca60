//! The messages of a Subscribe stream, whose records stay the bytes that they are.

use bytes::Bytes;
use flowstone_grpc::prefix;
use flowstone_proto::v1 as proto;
use prost::Message;

use crate::Records;

/// A `SubscribeResponse`.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct SubscribeResponse {
    pub(super) records: Records,
    /// All other fields; its `records` are empty.
    pub(super) fields: proto::SubscribeResponse,
}

impl SubscribeResponse {
    /// Decodes a message that came in these pieces.
    pub(super) fn decode(mut pieces: Vec<Bytes>) -> Result<Self, prost::DecodeError> {
        loop {
            if let Some((records, rest)) = Records::at_the_front(&pieces) {
                let fields = proto::SubscribeResponse::decode(&rest[..])?;
                if fields.records.is_empty() {
                    return Ok(Self { records, fields });
                }
            }
            if pieces.len() <= 1 {
                break;
            }
            // A record may begin in one piece and end in another.
            pieces = vec![pieces.concat().into()];
        }
        // Records that are scattered among the other fields, which protobuf allows and no broker does, or
        // that are malformed, which is told best by prost.
        let mut fields = proto::SubscribeResponse::decode(pieces.pop().unwrap_or_default())?;
        Ok(Self {
            records: std::mem::take(&mut fields.records).into_iter().collect(),
            fields,
        })
    }
}

/// A request with its prefix.
pub(super) fn framed(request: &proto::SubscribeRequest) -> Bytes {
    let mut message = prefix(request.encoded_len()).to_vec();
    request.encode(&mut message).expect("a Vec grows as needed");
    message.into()
}

#[cfg(test)]
mod tests;
