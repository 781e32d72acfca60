//! What every call passes on its way in and out: its deadline, and a reason of ours for what the
//! transport refused.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use http::{Request, Response};
use tonic::body::Body;
use tonic::codegen::Service;
use tonic::service::Routes;
use tonic::{Code, Status};

use crate::deadline::Deadline;
use crate::status::{Failure, REASON_TRAILER};
use crate::wire::undecodable_message;

/// All services, behind what they have in common.
#[derive(Clone, Debug)]
pub(crate) struct Front {
    routes: Routes,
    max_request_bytes: u32,
}

impl Front {
    pub(crate) fn new(routes: Routes, max_request_bytes: u32) -> Self {
        Self {
            routes: routes.prepare(),
            max_request_bytes,
        }
    }
}

impl Service<Request<Body>> for Front {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Service::<Request<Body>>::poll_ready(&mut self.routes, context)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        let deadline = Deadline::of(request.headers());
        request.extensions_mut().insert(deadline);
        let uri = request.uri().clone();
        let max_request_bytes = self.max_request_bytes;
        let answer = self.routes.call(request);
        Box::pin(async move {
            let Ok(answer) = deadline.within(answer).await else {
                return Ok(Status::from(Failure::deadline_passed()).into_http());
            };
            let answer = answer?;
            // A failure before the first message has its status in the headers.
            let refused = Some(answer.headers())
                .filter(|headers| !headers.contains_key(REASON_TRAILER))
                .and_then(Status::from_header_map)
                .and_then(|status| transport_refusal(&status, uri.path(), max_request_bytes));
            let Some(failure) = refused else {
                return Ok(answer);
            };
            let mut told: Response<Body> = Status::from(failure).into_http();
            // Such as the encodings that would have been taken.
            for (name, value) in answer.headers() {
                told.headers_mut()
                    .entry(name)
                    .or_insert_with(|| value.clone());
            }
            Ok(told)
        })
    }
}

/// What tonic refuses before any code of ours runs, told with a reason: a message that is too large, one
/// that cannot be decoded, a method that there is not. `None` for what is no such refusal.
pub(crate) fn transport_refusal(
    status: &Status,
    path: &str,
    max_request_bytes: u32,
) -> Option<Failure> {
    match status.code() {
        Code::OutOfRange => Some(Failure::request_too_large(None, max_request_bytes)),
        Code::Internal => Some(undecodable_message(status.message()).into()),
        Code::Unimplemented if status.message().is_empty() => Some(Failure::no_such_method(path)),
        Code::Unimplemented => Some(Failure::unimplemented(status.message())),
        _ => None,
    }
}
