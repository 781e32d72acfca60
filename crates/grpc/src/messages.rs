//! The messages of a request or of a response.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use http::HeaderMap;
use hyper::body::Body as _;
use tonic::body::Body;
use tonic::metadata::MetadataValue;
use tonic::{Code, Status};

use super::{PREFIX_BYTES, Splices};

/// Takes messages out of a body.
#[derive(Debug)]
pub struct Messages {
    body: Body,
    max_bytes: usize,
    /// Received and not taken yet.
    received: Bytes,
    prefix: Prefix,
    /// What has come of the message, and how many bytes that is.
    pieces: Splices,
    gathered: usize,
    /// What stood behind all messages.
    trailers: Option<HeaderMap>,
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
    /// The messages of a body with these headers, each of at most `max_bytes`.
    ///
    /// # Errors
    /// Compressed messages are refused.
    pub fn new(headers: &HeaderMap, body: Body, max_bytes: usize) -> Result<Self, Status> {
        if let Some(encoding) = headers.get("grpc-encoding")
            && encoding != "identity"
        {
            let encoding = String::from_utf8_lossy(encoding.as_bytes());
            let mut status = Status::unimplemented(format!(
                "the messages are compressed with `{encoding}`, which is not supported; send them as they are"
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
            pieces: Splices::default(),
            gathered: 0,
            trailers: None,
            ended: false,
        })
    }

    /// The next message; `None` at the end, or when whoever sends has given the call up. A small one is a copy, so that
    /// it does not keep what it came in; a large one that came in one piece is a slice of what was received.
    /// Nothing is lost when this is dropped while it waits.
    ///
    /// # Errors
    /// When the body ends too early, or what is in it is no message, or too large a one.
    pub async fn next(&mut self) -> Result<Option<Bytes>, Status> {
        let message = self.next_in_pieces().await?;
        Ok(message.map(|mut pieces| pieces.take_joined()))
    }

    /// As [`Self::next`], in the pieces that it came in, small ones gathered.
    ///
    /// # Errors
    /// As those of [`Self::next`].
    pub async fn next_in_pieces(&mut self) -> Result<Option<Splices>, Status> {
        poll_fn(|context| self.poll_next(context)).await
    }

    /// The only message, read to the end of the body.
    ///
    /// # Errors
    /// As those of [`Self::next`], and when there is none.
    pub async fn only(mut self) -> Result<Bytes, Status> {
        let message = self.next().await?;
        let message = message.ok_or_else(|| Status::internal("the call has no message"))?;
        while self.next().await?.is_some() {}
        Ok(message)
    }

    /// What stood behind the messages; known once there are no more of them.
    pub fn trailers(&self) -> Option<&HeaderMap> {
        self.trailers.as_ref()
    }

    fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Result<Option<Splices>, Status>> {
        loop {
            if let Some(message) = self.take()? {
                return Poll::Ready(Ok(Some(message)));
            }
            if self.ended {
                return Poll::Ready(Ok(None));
            }
            let frame = ready!(Pin::new(&mut self.body).poll_frame(context));
            match frame {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => self.received = data,
                    Err(frame) => self.trailers = frame.into_trailers().ok(),
                },
                Some(Err(status)) => {
                    self.ended = true;
                    if status.code() != Code::Cancelled {
                        return Poll::Ready(Err(status));
                    }
                }
                None => {
                    self.ended = true;
                    if !matches!(self.prefix, Prefix::Partial(_, 0)) {
                        let cut = Status::internal("the call ends in the middle of a message");
                        return Poll::Ready(Err(cut));
                    }
                }
            }
        }
    }

    /// The next message, if all of it is here.
    fn take(&mut self) -> Result<Option<Splices>, Status> {
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
        let more = self.received.len().min(len - self.gathered);
        self.pieces.put(&self.received.split_to(more));
        self.gathered += more;
        if self.gathered < len {
            return Ok(None);
        }
        self.pieces.close();
        self.gathered = 0;
        self.prefix = Prefix::NONE;
        Ok(Some(std::mem::take(&mut self.pieces)))
    }

    fn message_len(&self, prefix: [u8; PREFIX_BYTES]) -> Result<usize, Status> {
        let [flag, len @ ..] = prefix;
        if flag != 0 {
            return Err(Status::internal(
                "the message says that it is compressed, and the call does not say how",
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
