//! How long a client waits for an answer, from its `grpc-timeout` header.

use std::time::Duration;

use http::HeaderMap;
use tokio::time::Instant;

/// When to give up on a call. A little before the client does, so that it hears why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Deadline(Option<Instant>);

/// The deadline passed first.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Passed;

impl Deadline {
    /// Never.
    pub(crate) const NONE: Self = Self(None);

    /// The deadline of a call that comes in now. A header that is no timeout is ignored, as gRPC servers do.
    pub(crate) fn of(headers: &HeaderMap) -> Self {
        let timeout = headers
            .get("grpc-timeout")
            .and_then(|value| parse(value.to_str().ok()?));
        Self(timeout.and_then(|timeout| {
            let margin = (timeout / 10).min(Duration::from_millis(100));
            Instant::now().checked_add(timeout - margin)
        }))
    }

    /// The earlier of this deadline and some time from now.
    pub(crate) fn or_after(self, wait: Duration) -> Self {
        let after = Instant::now().checked_add(wait);
        Self(match (self.0, after) {
            (Some(deadline), Some(after)) => Some(deadline.min(after)),
            (deadline, after) => deadline.or(after),
        })
    }

    /// What the future resolves to, unless the deadline passes first.
    pub(crate) async fn within<T>(self, future: impl Future<Output = T>) -> Result<T, Passed> {
        match self.0 {
            None => Ok(future.await),
            Some(at) => tokio::time::timeout_at(at, future)
                .await
                .map_err(|_| Passed),
        }
    }
}

/// `TimeoutValue TimeoutUnit` of
/// <https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md>: at most 8 digits and one letter.
fn parse(text: &str) -> Option<Duration> {
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if digits.is_empty() || digits.len() > 8 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let value: u64 = digits.parse().ok()?;
    Some(match unit {
        "H" => Duration::from_secs(value * 3_600),
        "M" => Duration::from_secs(value * 60),
        "S" => Duration::from_secs(value),
        "m" => Duration::from_millis(value),
        "u" => Duration::from_micros(value),
        "n" => Duration::from_nanos(value),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeouts_are_read_in_every_unit_and_nonsense_is_none() {
        for (text, expected) in [
            ("2H", Some(Duration::from_secs(7_200))),
            ("3M", Some(Duration::from_secs(180))),
            ("4S", Some(Duration::from_secs(4))),
            ("500m", Some(Duration::from_millis(500))),
            ("7u", Some(Duration::from_micros(7))),
            ("99999999n", Some(Duration::from_nanos(99_999_999))),
            ("99999999H", Some(Duration::from_secs(99_999_999 * 3_600))),
            ("", None),
            ("m", None),
            ("5", None),
            ("-5m", None),
            ("+5m", None),
            ("123456789m", None),
            ("5é", None),
            ("5x", None),
        ] {
            assert_eq!(parse(text), expected, "{text:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_is_given_up_shortly_before_its_client_does() {
        let mut headers = HeaderMap::new();
        headers.insert("grpc-timeout", "1S".parse().expect("a header"));
        let started = Instant::now();
        let deadline = Deadline::of(&headers);
        assert_eq!(
            deadline.within(std::future::pending::<()>()).await,
            Err(Passed)
        );
        assert_eq!(started.elapsed(), Duration::from_millis(900));
        assert_eq!(
            deadline.within(async { 7 }).await,
            Ok(7),
            "what is ready is taken"
        );

        let soon = Deadline::NONE.or_after(Duration::from_millis(5));
        assert_eq!(soon.within(std::future::pending::<()>()).await, Err(Passed));
        assert_eq!(Deadline::of(&HeaderMap::new()), Deadline::NONE);
    }
}
