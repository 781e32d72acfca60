//! What every call passes on its way in and out: its deadline, and a reason of ours for what the
//! transport refused.

use std::future::poll_fn;

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

    /// Answers one call: with an error of ours where it failed before its first message.
    pub(crate) async fn answer(mut self, mut request: Request<Body>) -> Response<Body> {
        let deadline = Deadline::of(request.headers());
        request.extensions_mut().insert(deadline);
        let uri = request.uri().clone();
        let Ok(answer) = deadline.within(self.routed(request)).await else {
            return Status::from(Failure::deadline_passed()).into_http();
        };
        // A failure before the first message has its status in the headers.
        let refused = Some(answer.headers())
            .filter(|headers| !headers.contains_key(REASON_TRAILER))
            .and_then(Status::from_header_map)
            .and_then(|status| transport_refusal(&status, uri.path(), self.max_request_bytes));
        let Some(failure) = refused else {
            return answer;
        };
        let mut told: Response<Body> = Status::from(failure).into_http();
        // Such as the encodings that would have been taken.
        for (name, value) in answer.headers() {
            told.headers_mut()
                .entry(name)
                .or_insert_with(|| value.clone());
        }
        told
    }

    async fn routed(&mut self, request: Request<Body>) -> Response<Body> {
        let ready =
            poll_fn(|context| Service::<Request<Body>>::poll_ready(&mut self.routes, context))
                .await;
        let answer = match ready {
            Ok(()) => self.routes.call(request).await,
            Err(never) => Err(never),
        };
        answer.unwrap_or_else(|never| match never {})
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
