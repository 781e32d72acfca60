//! Calls that carry records: opened without generated code, so that no message is copied on its way in or out.

use std::future::poll_fn;

use bytes::Bytes;
use flowstone_grpc::{Messages, Splices};
use http::{HeaderValue, Method, Request, StatusCode, Uri, Version, header};
use tonic::body::Body;
use tonic::codegen::Service;
use tonic::transport::Channel;
use tonic::{Code, Status};

/// The messages that a broker answers with.
#[derive(Debug)]
pub(crate) struct Responses {
    messages: Messages,
    http_status: StatusCode,
}

impl Responses {
    /// Sends a request, and waits for the head of its response.
    ///
    /// # Errors
    /// When nobody answers, or with a status at once.
    pub(crate) async fn open(
        mut channel: Channel,
        path: &'static str,
        body: Body,
        max_bytes: usize,
    ) -> Result<Self, Status> {
        let failed = |error: tonic::transport::Error| Status::from_error(error.into());
        poll_fn(|context| channel.poll_ready(context))
            .await
            .map_err(failed)?;
        let mut request = Request::new(body);
        *request.method_mut() = Method::POST;
        *request.uri_mut() = Uri::from_static(path);
        *request.version_mut() = Version::HTTP_2;
        let headers = request.headers_mut();
        headers.insert(header::TE, HeaderValue::from_static("trailers"));
        let grpc = HeaderValue::from_static("application/grpc");
        headers.insert(header::CONTENT_TYPE, grpc);
        let (head, body) = channel.call(request).await.map_err(failed)?.into_parts();
        if let Some(status) = Status::from_header_map(&head.headers)
            && status.code() != Code::Ok
        {
            return Err(status);
        }
        Ok(Self {
            messages: Messages::new(&head.headers, body, max_bytes)?,
            http_status: head.status,
        })
    }

    /// The next message, in the pieces that it came in; `None` where the broker has ended the call without an error.
    /// Nothing is lost when this is dropped while it waits.
    ///
    /// # Errors
    /// The status that the call has ended with, or what was wrong with it.
    pub(crate) async fn next_in_pieces(&mut self) -> Result<Option<Splices>, Status> {
        match self.messages.next_in_pieces().await? {
            Some(message) => Ok(Some(message)),
            None => self.end().map(|()| None),
        }
    }

    /// As [`Self::next_in_pieces`], as one.
    ///
    /// # Errors
    /// As there.
    pub(crate) async fn next(&mut self) -> Result<Option<Bytes>, Status> {
        let message = self.next_in_pieces().await?;
        Ok(message.map(|mut pieces| pieces.take_joined()))
    }

    fn end(&self) -> Result<(), Status> {
        let told = self.messages.trailers().and_then(Status::from_header_map);
        match told {
            Some(status) if status.code() == Code::Ok => Ok(()),
            Some(status) => Err(status),
            None => Err(untold(self.http_status)),
        }
    }
}

/// A call that ends without a status was ended by somebody in between. The codes are those of
/// <https://github.com/grpc/grpc/blob/master/doc/http-grpc-status-mapping.md>.
fn untold(status: StatusCode) -> Status {
    let code = match status {
        StatusCode::BAD_REQUEST => Code::Internal,
        StatusCode::UNAUTHORIZED => Code::Unauthenticated,
        StatusCode::FORBIDDEN => Code::PermissionDenied,
        StatusCode::NOT_FOUND => Code::Unimplemented,
        StatusCode::OK
        | StatusCode::TOO_MANY_REQUESTS
        | StatusCode::BAD_GATEWAY
        | StatusCode::SERVICE_UNAVAILABLE
        | StatusCode::GATEWAY_TIMEOUT => Code::Unavailable,
        _ => Code::Unknown,
    };
    let what = "the call was ended without a status of gRPC";
    Status::new(code, format!("{what}; that of HTTP is {status}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_that_somebody_in_between_ends_may_be_repeated() {
        assert_eq!(untold(StatusCode::OK).code(), Code::Unavailable);
        assert_eq!(untold(StatusCode::BAD_GATEWAY).code(), Code::Unavailable);
        assert_eq!(untold(StatusCode::NOT_FOUND).code(), Code::Unimplemented);
        assert_eq!(untold(StatusCode::IM_A_TEAPOT).code(), Code::Unknown);
    }
}
