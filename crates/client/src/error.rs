//! The one error of this crate: what a status said, and whether to try again.

use std::collections::BTreeMap;
use std::error::Error as _;
use std::time::Duration;

use flowstone_proto::v1::ErrorStatus;
use tonic::metadata::{KeyAndValueRef, MetadataMap};
use tonic::{Code, Status};
use tonic_types::StatusExt;

/// The reasons that this crate itself looks at or gives. The broker has more; all are strings.
pub mod reason {
    /// The topic has fewer partitions.
    pub const PARTITION_NOT_FOUND: &str = "PARTITION_NOT_FOUND";
    /// The request may or may not have been appended.
    pub const OUTCOME_UNKNOWN: &str = "OUTCOME_UNKNOWN";
    /// The record is larger than the topic or the broker allows.
    pub const RECORD_TOO_LARGE: &str = "RECORD_TOO_LARGE";
    /// The broker asks this client to slow down.
    pub const THROTTLED: &str = "THROTTLED";
    /// A limit of the broker, named in the metadata under `limit`.
    pub const LIMIT_EXCEEDED: &str = "LIMIT_EXCEEDED";
    /// The topic keeps no more; readers or a trim must make room.
    pub const TOPIC_FULL: &str = "TOPIC_FULL";
    /// A queue of the topic takes no more.
    pub const QUEUE_FULL: &str = "QUEUE_FULL";
    /// The broker's disk is full.
    pub const DISK_FULL: &str = "DISK_FULL";
    /// The broker is stopping.
    pub const SHUTTING_DOWN: &str = "SHUTTING_DOWN";
    /// The offset was removed by retention or a trim.
    pub const OFFSET_TRIMMED: &str = "OFFSET_TRIMMED";
    /// What is on disk is not what was written.
    pub const CORRUPT_SEGMENT: &str = "CORRUPT_SEGMENT";
    /// Another process has opened this producer since, or it was forgotten.
    pub const STALE_PRODUCER: &str = "STALE_PRODUCER";
    /// The broker does not remember any more whether the request was appended.
    pub const SEQUENCE_TOO_OLD: &str = "SEQUENCE_TOO_OLD";
    /// The partition's next offset is not the one that was expected.
    pub const OFFSET_MISMATCH: &str = "OFFSET_MISMATCH";
    /// The group has members.
    pub const GROUP_ACTIVE: &str = "GROUP_ACTIVE";
    /// The session has ended: its partitions belong to others.
    pub const STALE_SESSION: &str = "STALE_SESSION";
    /// The member held uncommitted records and did not commit for too long.
    pub const MEMBER_TIMED_OUT: &str = "MEMBER_TIMED_OUT";
    /// A second stream of the same member name has taken over.
    pub const MEMBER_REPLACED: &str = "MEMBER_REPLACED";
}

const DOMAIN: &str = "flowstone";
const REASON_TRAILER: &str = "flowstone-reason";
const RETRY_TRAILER: &str = "flowstone-retry-ms";
const TRAILER_PREFIX: &str = "flowstone-";

/// A failed call, or a failure that this client found by itself.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{}", .0.message)]
pub struct Error(Box<Told>);

/// Apart, so that an answer that is no error has few bytes to move.
#[derive(Clone, Debug)]
struct Told {
    code: Code,
    reason: Option<String>,
    message: String,
    metadata: BTreeMap<String, String>,
    retry_after: Option<Duration>,
}

impl Error {
    pub(crate) fn local(code: Code, reason: Option<&str>, message: impl Into<String>) -> Self {
        Self(Box::new(Told {
            code,
            reason: reason.map(str::to_owned),
            message: message.into(),
            metadata: BTreeMap::new(),
            retry_after: None,
        }))
    }

    #[cfg(test)]
    pub(crate) fn with_retry_after(mut self, retry_after: Duration) -> Self {
        self.0.retry_after = Some(retry_after);
        self
    }

    #[must_use]
    pub(crate) fn with_metadata(mut self, key: &str, value: impl ToString) -> Self {
        self.0.metadata.insert(key.to_owned(), value.to_string());
        self
    }

    /// Takes a status apart. The details are preferred; the trailers say the same where a proxy
    /// has dropped the details.
    pub(crate) fn from_status(status: &Status) -> Self {
        let mut error = Self::local(status.code(), None, describe(status));
        let details = status.get_error_details();
        if let Some(info) = details.error_info().filter(|info| info.domain == DOMAIN) {
            error.0.reason = Some(info.reason.clone());
            error.0.metadata.extend(info.metadata.clone());
        }
        error.0.retry_after = details.retry_info().and_then(|info| info.retry_delay);
        error.fill_from_trailers(status.metadata());
        error
    }

    fn fill_from_trailers(&mut self, trailers: &MetadataMap) {
        if self.0.reason.is_none() {
            self.0.reason = text(trailers, REASON_TRAILER).map(str::to_owned);
        }
        if self.0.retry_after.is_none() {
            self.0.retry_after = text(trailers, RETRY_TRAILER)
                .and_then(|ms| ms.parse().ok())
                .map(Duration::from_millis);
        }
        for entry in trailers.iter() {
            let KeyAndValueRef::Ascii(name, value) = entry else {
                continue;
            };
            if [REASON_TRAILER, RETRY_TRAILER].contains(&name.as_str()) {
                continue;
            }
            let Some(key) = name.as_str().strip_prefix(TRAILER_PREFIX) else {
                continue;
            };
            // Trailer names use dashes where the metadata of the details may use underscores.
            let told = [key.to_owned(), key.replace('-', "_")]
                .iter()
                .any(|key| self.0.metadata.contains_key(key));
            if let (false, Ok(value)) = (told, value.to_str()) {
                self.0.metadata.insert(key.to_owned(), value.to_owned());
            }
        }
    }

    /// What a stream told about one of its requests or partitions.
    pub(crate) fn from_error_status(status: ErrorStatus) -> Self {
        Self(Box::new(Told {
            code: Code::from_i32(status.code),
            reason: Some(status.reason).filter(|reason| !reason.is_empty()),
            message: status.message,
            metadata: status.metadata.into_iter().collect(),
            retry_after: status
                .retry_delay
                .and_then(|delay| Duration::try_from(delay).ok()),
        }))
    }

    /// The gRPC status code.
    pub fn code(&self) -> Code {
        self.0.code
    }

    /// One of Flowstone's documented reasons, such as `TOPIC_NOT_FOUND`; none when the failure
    /// did not come from a broker.
    pub fn reason(&self) -> Option<&str> {
        self.0.reason.as_deref()
    }

    /// Whether the reason is this one.
    pub fn is(&self, reason: &str) -> bool {
        self.reason() == Some(reason)
    }

    /// What went wrong, for people.
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// The facts of the failure, such as `high-watermark`, `field` or `limit`.
    pub fn metadata(&self) -> &BTreeMap<String, String> {
        &self.0.metadata
    }

    /// How long the broker asks to wait before the same request comes again.
    pub fn retry_after(&self) -> Option<Duration> {
        self.0.retry_after
    }

    /// Whether the same request may be sent again, unchanged and after a pause. For a produce
    /// call this says nothing about whether its records have been appended already.
    pub fn is_retryable(&self) -> bool {
        match self.0.code {
            Code::Unavailable | Code::DeadlineExceeded | Code::ResourceExhausted => true,
            Code::Unknown | Code::Internal | Code::Cancelled => self.0.reason.is_none(),
            _ => false,
        }
    }
}

impl From<Status> for Error {
    fn from(status: Status) -> Self {
        Self::from_status(&status)
    }
}

fn text<'a>(trailers: &'a MetadataMap, name: &str) -> Option<&'a str> {
    trailers.get(name)?.to_str().ok()
}

/// The status message, and below "transport error" also what it was.
fn describe(status: &Status) -> String {
    let mut parts = Vec::new();
    let mut cause: Option<&dyn std::error::Error> = status.source();
    while let Some(error) = cause {
        parts.push(error.to_string());
        cause = error.source();
    }
    // Each layer of the transport repeats the text of the one below; the innermost is the fact.
    match parts.pop() {
        Some(innermost) if !status.message().contains(&innermost) => {
            format!("{}: {innermost}", status.message())
        }
        _ if status.message().is_empty() => status.code().description().to_owned(),
        _ => status.message().to_owned(),
    }
}

#[cfg(test)]
mod tests;
