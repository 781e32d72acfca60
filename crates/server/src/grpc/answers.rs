//! The messages of a response, and the status behind them.

use std::future::ready;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{BufMut, Bytes};
use futures_util::stream::once;
use http::Response;
use hyper::body::Frame;
use tonic::Status;
use tonic::body::Body;

use super::{response, trailers};
use crate::connections::OpenStreams;
use crate::wire::ToWire;
use flowstone_grpc::{Splices, prefix};

/// The messages of a streaming response. After an error nothing more comes.
pub(crate) type Stream<M> = Pin<Box<dyn futures_util::Stream<Item = Result<M, Status>> + Send>>;

/// So much is gathered of messages that are ready at the same time before it is sent.
const GATHERED_BYTES_MAX: usize = 32 << 10;

/// A response of one message, or the status instead of it.
pub(crate) fn unary<M: ToWire + Send + 'static>(answer: Result<M, Status>) -> Response<Body> {
    let messages = answer.map(|message| -> Stream<M> { Box::pin(once(ready(Ok(message)))) });
    streaming(messages, None)
}

/// A response of many messages, or the status instead of them. It keeps its place until the last one is sent.
pub(crate) fn streaming<M: ToWire + Send + 'static>(
    answer: Result<Stream<M>, Status>,
    place: Option<OpenStreams>,
) -> Response<Body> {
    match answer {
        Ok(messages) => response(Body::new(Answers {
            messages,
            splices: Splices::default(),
            status: None,
            ended: false,
            _place: place,
        })),
        Err(status) => status.into_http(),
    }
}

/// A response body that asks for a message when all before it is taken.
struct Answers<M> {
    messages: Stream<M>,
    splices: Splices,
    /// Told once all that is in `splices` is.
    status: Option<Status>,
    ended: bool,
    _place: Option<OpenStreams>,
}

impl<M: ToWire> Answers<M> {
    fn put(&mut self, message: M) {
        let len = message.wire_len();
        let gathered = self.splices.gathered();
        gathered.put_slice(&prefix(len));
        message.to_wire(&mut self.splices);
        if self.splices.gathered().len() >= GATHERED_BYTES_MAX {
            self.splices.close();
        }
    }
}

impl<M: ToWire> hyper::body::Body for Answers<M> {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        loop {
            if let Some(piece) = self.splices.take() {
                return Poll::Ready(Some(Ok(Frame::data(piece))));
            }
            if let Some(status) = self.status.take() {
                return Poll::Ready(Some(Ok(Frame::trailers(trailers(&status)))));
            }
            if self.ended {
                return Poll::Ready(None);
            }
            match self.messages.as_mut().poll_next(context) {
                Poll::Ready(Some(Ok(message))) => self.put(message),
                Poll::Ready(end) => {
                    self.splices.close();
                    self.ended = true;
                    let status = end.and_then(Result::err);
                    self.status = Some(status.unwrap_or_else(|| Status::ok("")));
                }
                Poll::Pending if self.splices.gathered().is_empty() => return Poll::Pending,
                Poll::Pending => self.splices.close(),
            }
        }
    }
}

// The stream is boxed, and nothing else is ever pinned.
impl<M> Unpin for Answers<M> {}
