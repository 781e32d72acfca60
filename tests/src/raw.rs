//! Calls whose messages are bytes: what no generated stub would send, and what truly came.

use bytes::{Buf, BufMut, Bytes};
use tonic::client::Grpc;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::Channel;
use tonic::{Request, Status};

/// Makes a unary call with these bytes as the request, and gives the bytes of the response.
///
/// # Errors
/// The status of the call.
///
/// # Panics
/// When the channel cannot be used.
pub async fn raw_call(
    channel: Channel,
    method: &'static str,
    request: Bytes,
) -> Result<Bytes, Status> {
    let mut grpc = Grpc::new(channel);
    grpc.ready().await.expect("the channel is connected");
    let path = PathAndQuery::from_static(method);
    let response = grpc.unary(Request::new(request), path, RawCodec).await?;
    Ok(response.into_inner())
}

/// Leaves bytes as they are.
#[derive(Debug)]
struct RawCodec;

impl Codec for RawCodec {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for RawCodec {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, out: &mut EncodeBuf<'_>) -> Result<(), Status> {
        out.put(item);
        Ok(())
    }
}

impl Decoder for RawCodec {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(from.copy_to_bytes(from.remaining())))
    }
}
