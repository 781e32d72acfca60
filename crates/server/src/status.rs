//! What a client hears when a call fails. The one mapping from the broker's errors is `status/table.rs`.
//!
//! Each error has a code and a reason, the facts as metadata, and a message that says what happened and
//! what to do. They travel as `google.rpc.ErrorInfo` and, for plain stubs, as trailers `flowstone-reason`
//! and `flowstone-<key>`; where the same call may be repeated unchanged, `google.rpc.RetryInfo` and
//! `flowstone-retry-ms` say after how long. Codes follow
//! <https://grpc.io/docs/guides/status-codes/>.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt::Write as _;
use std::time::Duration;

use flowstone_broker::Error;
use flowstone_proto::v1;
use tonic::metadata::{AsciiMetadataKey, AsciiMetadataValue, MetadataMap};
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

mod table;
#[cfg(test)]
mod tests;

/// The domain of every `ErrorInfo`.
pub(crate) const DOMAIN: &str = "flowstone";

/// What every trailer's name begins with.
const TRAILER_PREFIX: &str = "flowstone-";

/// The trailer that every failure of ours carries.
pub(crate) const REASON_TRAILER: &str = "flowstone-reason";

/// Clients bound the size of all trailers together, often at 8 KiB, and each text travels twice.
const METADATA_BYTES_MAX: usize = 256;
const MESSAGE_BYTES_MAX: usize = 1_024;

/// How soon to repeat what failed only for now.
const RETRY_SOON: Duration = Duration::from_millis(100);
/// How soon to look again for space on a full disk, where every wait adds to the one for the space.
const RETRY_FULL: Duration = Duration::from_millis(500);
/// How soon to repeat what somebody must first do something about.
const RETRY_LATER: Duration = Duration::from_secs(1);

/// A failed call, ready to be told as a status or inside a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    code: Code,
    reason: &'static str,
    metadata: Vec<(&'static str, String)>,
    /// Set if, and only if, the call may be repeated unchanged.
    retry: Option<Duration>,
    message: String,
}

impl Failure {
    /// What went wrong, in one word.
    pub(crate) fn reason(&self) -> &'static str {
        self.reason
    }

    fn new(code: Code, reason: &'static str, message: impl Into<String>) -> Self {
        let mut message = message.into();
        truncate(&mut message, MESSAGE_BYTES_MAX);
        Self {
            code,
            reason,
            metadata: Vec::new(),
            retry: None,
            message,
        }
    }

    fn with(mut self, key: &'static str, value: impl ToString) -> Self {
        let mut value = value.to_string();
        truncate(&mut value, METADATA_BYTES_MAX);
        self.metadata.push((key, value));
        self
    }

    fn retry_after(mut self, delay: Duration) -> Self {
        self.retry = Some(delay);
        self
    }

    /// The records of a request are more bytes than a request may have.
    pub(crate) fn request_too_large(bytes: Option<usize>, limit: u32) -> Self {
        let found = match bytes {
            Some(bytes) => format!("the records of the request have {bytes} bytes"),
            None => "the request is far too large".to_owned(),
        };
        Self::new(
            Code::InvalidArgument,
            "INVALID_FIELD",
            format!(
                "records: {found}, more than the {limit} allowed; send them in several requests"
            ),
        )
        .with("field", "records")
        .with("limit", limit)
    }

    /// The deadline passed while the records waited for room, so that nothing was appended.
    pub(crate) fn throttled() -> Self {
        Self::new(
            Code::ResourceExhausted,
            "THROTTLED",
            "the broker had no room for the records before the deadline; nothing was appended. Repeat the \
             call, and if this goes on send less at a time or give it a longer deadline",
        )
        .retry_after(RETRY_SOON)
    }

    /// The deadline passed before the answer was known.
    pub(crate) fn deadline_passed() -> Self {
        Self::new(
            Code::DeadlineExceeded,
            "OUTCOME_UNKNOWN",
            "the deadline passed before this was done; it may still happen. Repeat the call with a longer \
             deadline; without a `producer` records may then be appended twice",
        )
        .retry_after(RETRY_SOON)
    }

    /// There is no such service or method.
    pub(crate) fn no_such_method(path: &str) -> Self {
        let message = match path.strip_prefix("/flowstone.v1.QueueService/") {
            Some(_) => "work queues are not in this version of the broker".to_owned(),
            None => format!(
                "there is no method {path}; reflection and GetCluster tell what this version has"
            ),
        };
        Self::unimplemented(message)
    }

    /// Something that this version does not have.
    pub(crate) fn unimplemented(message: impl Into<String>) -> Self {
        Self::new(Code::Unimplemented, "UNIMPLEMENTED", message)
    }

    /// As the last answer of a stream tells it.
    pub(crate) fn error_status(&self) -> v1::ErrorStatus {
        v1::ErrorStatus {
            code: self.code.into(),
            reason: self.reason.to_owned(),
            message: self.message.clone(),
            retry_delay: self
                .retry
                .map(|delay| delay.try_into().expect("a short delay fits")),
            metadata: self
                .metadata
                .iter()
                .map(|(key, value)| ((*key).to_owned(), value.clone()))
                .collect(),
        }
    }
}

impl From<&Failure> for Status {
    fn from(failure: &Failure) -> Self {
        let metadata: HashMap<String, String> = failure
            .metadata
            .iter()
            .map(|(key, value)| ((*key).to_owned(), value.clone()))
            .collect();
        let mut details = ErrorDetails::with_error_info(failure.reason, DOMAIN, metadata);
        let mut trailers = MetadataMap::new();
        put_trailer(&mut trailers, "reason", failure.reason);
        for (key, value) in &failure.metadata {
            put_trailer(&mut trailers, key, value);
        }
        if let Some(delay) = failure.retry {
            details.set_retry_info(Some(delay));
            put_trailer(&mut trailers, "retry-ms", &delay.as_millis().to_string());
        }
        Status::with_error_details_and_metadata(
            failure.code,
            failure.message.as_str(),
            details,
            trailers,
        )
    }
}

impl From<Failure> for Status {
    fn from(failure: Failure) -> Self {
        Self::from(&failure)
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::from(&error)
    }
}

/// The status of an error, and a line in the broker's log where somebody has to look after it.
pub(crate) fn of(error: &Error) -> Status {
    failure_of(error).into()
}

/// As [`of`], for what is told inside a stream.
pub(crate) fn failure_of(error: &Error) -> Failure {
    let failure = Failure::from(error);
    match failure.code {
        // Damage was told by the broker when it was found.
        Code::Internal => tracing::error!(reason = failure.reason, "{error}"),
        _ => tracing::debug!(reason = failure.reason, "{error}"),
    }
    failure
}

fn put_trailer(trailers: &mut MetadataMap, key: &str, value: &str) {
    let key = AsciiMetadataKey::from_bytes(format!("{TRAILER_PREFIX}{key}").as_bytes())
        .expect("keys are lower-case words");
    let value = AsciiMetadataValue::try_from(&*header_text(value))
        .expect("what is not visible ASCII was encoded");
    trailers.insert(key, value);
}

/// Text that may stand in a header: as grpc-message is encoded, by percent signs
/// (<https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md>).
fn header_text(text: &str) -> Cow<'_, str> {
    let plain = |byte: u8| (0x20..=0x7E).contains(&byte) && byte != b'%';
    if text.bytes().all(plain) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() * 3);
    for byte in text.bytes() {
        if plain(byte) {
            out.push(char::from(byte));
        } else {
            write!(out, "%{byte:02X}").expect("a String takes any text");
        }
    }
    Cow::Owned(out)
}

/// Cuts at a character and says so by an ellipsis.
fn truncate(text: &mut String, bytes_max: usize) {
    if text.len() > bytes_max {
        text.truncate(text.floor_char_boundary(bytes_max - '…'.len_utf8()));
        text.push('…');
    }
}
