//! gRPC for the service that carries records: messages go in and out of HTTP/2 bodies without a copy.
//!
//! The framing is that of <https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md>: a byte that says
//! whether the message is compressed, its length in four bytes, the message. tonic copies each message once
//! on its way in and once on its way out; for a megabyte of records that is most of what serving them costs.

mod answers;

use http::{HeaderMap, HeaderValue, Response, header};
use tonic::Status;
use tonic::body::Body;

pub(crate) use answers::{Stream, streaming, unary};
pub(crate) use flowstone_grpc::Messages;
pub use flowstone_grpc::Splices;

/// A response whose messages are in `body`.
fn response(body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    let grpc = HeaderValue::from_static("application/grpc");
    response.headers_mut().insert(header::CONTENT_TYPE, grpc);
    response
}

/// How a call ended, as it stands behind its messages.
fn trailers(status: &Status) -> HeaderMap {
    let mut trailers = HeaderMap::new();
    // What cannot be a header is left out of a status before it comes here.
    if status.add_header(&mut trailers).is_err() {
        let internal = Status::internal("the status cannot be told");
        let _ = internal.add_header(&mut trailers);
    }
    trailers
}
