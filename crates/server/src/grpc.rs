//! Responses of the service that carries records; the framing is that of flowstone-grpc.

mod answers;

use http::{HeaderMap, HeaderValue, Response, header};
use tonic::Status;
use tonic::body::Body;

pub(crate) use answers::{Stream, streaming, unary};

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
