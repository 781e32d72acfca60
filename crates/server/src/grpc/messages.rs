//! The messages of a request.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes, BytesMut};
use http::HeaderMap;
use hyper::body::Body as _;
use tonic::body::Body;
use tonic::metadata::MetadataValue;
use tonic::{Code, Status};

use super::PREFIX_BYTES;

/// From this size on a message that has come in one piece is a slice of what was received. A smaller one is
/// copied, so that it does not keep a whole network buffer while it waits.
const SLICE_BYTES_MIN: usize = 16 << 10;

/// Takes messages out of a request's body.
#[derive(Debug)]
pub(crate) struct Messages {
    body: Body,
    max_bytes: usize,
    /// Received and not taken yet.
    received: Bytes,
    prefix: Prefix,
    /// The beginning of a message that comes in several pieces.
    gathered: BytesMut,
    ended: bool,
}

/// How far the prefix of the next message is read.
#[derive(Clone, Copy, Debug)]
enum Prefix {
    /// So many of its bytes are here.
    Partial([u8; PREFIX_BYTES], usize),
    /// The message has this length.
    Read(usize),
}

impl Prefix {
    const NONE: Self = Self::Partial([0; PREFIX_BYTES], 0);
}

impl Messages {
    /// The messages of a request with these headers, each of at most `max_bytes`.
    ///
    /// # Errors
    /// Compressed requests are refused.
    pub(crate) fn new(headers: &HeaderMap, body: Body, max_bytes: usize) -> Result<Self, Status> {
        if let Some(encoding) = headers.get("grpc-encoding")
            && encoding != "identity"
        {
            let encoding = String::from_utf8_lossy(encoding.as_bytes());
            let mut status = Status::unimplemented(format!(
                "the request is compressed with `{encoding}`, which is not supported; send it as it is"
            ));
            let taken = MetadataValue::from_static("identity");
            status.metadata_mut().insert("grpc-accept-encoding", taken);
            return Err(status);
        }
        Ok(Self {
            body,
            max_bytes,
            received: Bytes::new(),
            prefix: Prefix::NONE,
            gathered: BytesMut::new(),
            ended: false,
        })
    }

    /// The next message; `None` at the end of the request, or when the client has given the call up.
    /// Nothing is lost when this is dropped while it waits.
    pub(crate) async fn next(&mut self) -> Result<Option<Bytes>, Status> {
        poll_fn(|context| self.poll_next(context)).await
    }

    /// The only message of a request, read to its end.
    pub(crate) async fn only(mut self) -> Result<Bytes, Status> {
        let message = self.next().await?;
        let message = message.ok_or_else(|| Status::internal("the request has no message"))?;
        while self.next().await?.is_some() {}
        Ok(message)
    }

    fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Result<Option<Bytes>, Status>> {
        loop {
            if let Some(message) = self.take()? {
                return Poll::Ready(Ok(Some(message)));
            }
            if self.ended {
                return Poll::Ready(Ok(None));
            }
            let frame = ready!(Pin::new(&mut self.body).poll_frame(context));
            match frame {
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        self.received = data;
                    }
                }
                Some(Err(status)) => {
                    self.ended = true;
                    if status.code() != Code::Cancelled {
                        return Poll::Ready(Err(status));
                    }
                }
                None => {
                    self.ended = true;
                    if !matches!(self.prefix, Prefix::Partial(_, 0)) {
                        let cut = Status::internal("the request ends in the middle of a message");
                        return Poll::Ready(Err(cut));
                    }
                }
            }
        }
    }

    /// The next message, if all of it is here.
    fn take(&mut self) -> Result<Option<Bytes>, Status> {
        if let Prefix::Partial(mut bytes, mut count) = self.prefix {
            let more = self.received.len().min(PREFIX_BYTES - count);
            self.received.copy_to_slice(&mut bytes[count..count + more]);
            count += more;
            self.prefix = Prefix::Partial(bytes, count);
            if count < PREFIX_BYTES {
                return Ok(None);
            }
            self.prefix = Prefix::Read(self.message_len(bytes)?);
        }
        let Prefix::Read(len) = self.prefix else {
            return Ok(None);
        };
        let message = if self.gathered.is_empty() && self.received.len() >= len {
            let message = self.received.split_to(len);
            if len < SLICE_BYTES_MIN {
                Bytes::copy_from_slice(&message)
            } else {
                message
            }
        } else {
            let missing = len - self.gathered.len();
            self.gathered.reserve(missing);
            let more = self.received.len().min(missing);
            self.gathered
                .extend_from_slice(&self.received.split_to(more));
            if more < missing {
                return Ok(None);
            }
            self.gathered.split().freeze()
        };
        self.prefix = Prefix::NONE;
        Ok(Some(message))
    }

    fn message_len(&self, prefix: [u8; PREFIX_BYTES]) -> Result<usize, Status> {
        let [flag, len @ ..] = prefix;
        if flag != 0 {
            return Err(Status::internal(
                "the message says that it is compressed, and the request does not say how",
            ));
        }
        let len = u32::from_be_bytes(len) as usize;
        if len > self.max_bytes {
            let limit = self.max_bytes;
            return Err(Status::out_of_range(format!(
                "the message has {len} bytes, more than the {limit} allowed"
            )));
        }
        Ok(len)
    }
}

#[cfg(test)]
mod tests;
