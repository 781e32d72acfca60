//! The tonic codec of LogService: whole frames in and out, records untouched.

use std::fmt;
use std::marker::PhantomData;

use bytes::Buf;
use tonic::Status;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};

use crate::status;
use crate::wire::{FromWire, ToWire};

/// Encodes responses `E` and decodes requests `D`. A request's bytes are taken out of tonic's buffer as
/// they are; a response is written into it after one reservation.
pub(crate) struct WireCodec<E, D>(PhantomData<fn() -> (E, D)>);

impl<E, D> Default for WireCodec<E, D> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<E, D> fmt::Debug for WireCodec<E, D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("WireCodec")
    }
}

impl<E, D> Codec for WireCodec<E, D>
where
    E: ToWire + Send + 'static,
    D: FromWire + Send + 'static,
{
    type Encode = E;
    type Decode = D;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self::default()
    }

    fn decoder(&mut self) -> Self {
        Self::default()
    }
}

impl<E: ToWire, D> Encoder for WireCodec<E, D> {
    type Item = E;
    type Error = Status;

    fn encode(&mut self, item: E, out: &mut EncodeBuf<'_>) -> Result<(), Status> {
        out.reserve(item.wire_len());
        item.to_wire(out);
        Ok(())
    }
}

impl<E, D: FromWire> Decoder for WireCodec<E, D> {
    type Item = D;
    type Error = Status;

    fn decode(&mut self, frame: &mut DecodeBuf<'_>) -> Result<Option<D>, Status> {
        let message = frame.copy_to_bytes(frame.remaining());
        D::from_wire(message)
            .map(Some)
            .map_err(|error| status::of(&error))
    }
}
