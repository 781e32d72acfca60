//! A body of messages.

use std::convert::Infallible;

use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use http_body_util::StreamBody;
use hyper::body::Frame;
use tonic::body::Body;

/// A body of messages, each with its [prefix](crate::prefix) before it. A message is asked for when there is room for it in
/// the connection, and is sent from where it is.
pub fn body(messages: impl Stream<Item = Bytes> + Send + 'static) -> Body {
    let frames = messages.map(|message| Ok::<_, Infallible>(Frame::data(message)));
    Body::new(StreamBody::new(frames))
}
