//! Where reading begins and ends, as it is written on the command line.
//!
//! A position is `start`, `end`, `N` (an offset), `-N` (the last N) or `@TIME`; a span is one
//! position, where reading begins, or two with a colon between them, either of which may be left
//! out. Times hold colons, too. So what reads as one position is one, and any other text is split
//! at the colon that has a position, or nothing, on both sides. Where a time with neither seconds
//! nor a zone would be followed by an offset that reads like seconds, the text is refused.

use std::str::FromStr;

use flowstone_client::Start;
use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;

/// One position in a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Position {
    Start,
    End,
    Offset(i64),
    /// So many records before the end.
    Last(i64),
    /// Unix time in milliseconds.
    TimeMs(i64),
}

/// Where reading begins, and where it ends. Neither is needed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Span {
    pub(crate) from: Option<Position>,
    pub(crate) to: Option<Position>,
}

/// What a position may be, for error messages.
const POSITIONS: &str = "start, end, N, -N or @TIME";

impl FromStr for Span {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::parse(text, Timestamp::now())
    }
}

impl Span {
    fn parse(text: &str, now: Timestamp) -> Result<Self, String> {
        if text.is_empty() {
            return Err(format!(
                "it is empty; write {POSITIONS}, or a range A:B of these"
            ));
        }
        // Parsed whole it is a single position, and the reason why it is none is the best to tell.
        let reason = match Position::parse(text, now) {
            Ok(from) => {
                return Ok(Self {
                    from: Some(from),
                    to: None,
                });
            }
            Err(reason) => reason,
        };
        for (colon, _) in text.match_indices(':') {
            let (left, right) = (&text[..colon], &text[colon + 1..]);
            let (Ok(from), Ok(to)) = (side(left, now), side(right, now)) else {
                continue;
            };
            if reads_as_unfinished_time(left, right) {
                return Err(format!(
                    "is {right:?} an offset, or does it belong to the time? Write times that are \
                     followed by an offset with their zone, as in \"{left}Z:{right}\""
                ));
            }
            if let (Some(from), Some(to)) = (from, to)
                && from.is_surely_behind(to)
            {
                return Err(format!(
                    "it ends before it begins; did you mean {right}:{left}?"
                ));
            }
            return Ok(Self { from, to });
        }
        if text.contains(':') && !text.starts_with('@') {
            return Err(format!(
                "it is no range A:B of positions; each of them is {POSITIONS}"
            ));
        }
        Err(reason)
    }
}

fn side(text: &str, now: Timestamp) -> Result<Option<Position>, String> {
    if text.is_empty() {
        return Ok(None);
    }
    Position::parse(text, now).map(Some)
}

/// `@2015-05-17T10:05` followed by `:3` is more likely a mistake in a time than a range.
fn reads_as_unfinished_time(left: &str, right: &str) -> bool {
    let is_civil = left
        .strip_prefix('@')
        .is_some_and(|time| civil(time).is_some_and(|_| time.contains(['T', 't', ' '])));
    is_civil && right.len() <= 2 && is_number(right)
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

impl Position {
    fn parse(text: &str, now: Timestamp) -> Result<Self, String> {
        match text {
            "start" => return Ok(Self::Start),
            "end" => return Ok(Self::End),
            _ => {}
        }
        if let Some(time) = text.strip_prefix('@') {
            return time_ms(time, now).map(Self::TimeMs);
        }
        let (number, position): (&str, fn(i64) -> Self) = match text.strip_prefix('-') {
            Some(number) => (number, Self::Last),
            None => (text, Self::Offset),
        };
        if !is_number(number) {
            return Err(format!("{text:?} is no position; write {POSITIONS}"));
        }
        number
            .parse()
            .map(position)
            .map_err(|_| format!("{number} is more than any offset"))
    }

    /// Whether it lies behind another one in any partition.
    fn is_surely_behind(self, other: Self) -> bool {
        match (self, other) {
            (Self::Offset(this), Self::Offset(other))
            | (Self::TimeMs(this), Self::TimeMs(other)) => this > other,
            (Self::Last(this), Self::Last(other)) => this < other,
            (Self::End, Self::Start) => true,
            _ => false,
        }
    }

    /// As the place that the broker looks up.
    pub(crate) fn as_start(self) -> Start {
        match self {
            Self::Start => Start::Earliest,
            Self::End => Start::Latest,
            Self::Offset(offset) => Start::Offset(offset),
            Self::Last(count) => Start::Last(count),
            Self::TimeMs(ms) => Start::TimeMs(ms),
        }
    }
}

/// A time, with or without the `@` before it, in milliseconds.
pub(crate) fn parse_time(text: &str) -> Result<i64, String> {
    time_ms(text.strip_prefix('@').unwrap_or(text), Timestamp::now())
}

/// A time behind the `@`: milliseconds, `now`, `-1h`, or RFC 3339, also without a zone (UTC) or
/// without the time of day.
fn time_ms(text: &str, now: Timestamp) -> Result<i64, String> {
    if text == "now" {
        return Ok(now.as_millisecond());
    }
    if is_number(text) {
        return text
            .parse()
            .map_err(|_| format!("{text} ms are beyond all times"));
    }
    if let Some(ago) = text.strip_prefix('-') {
        let ago = humantime::parse_duration(ago)
            .map_err(|error| format!("\"@-{ago}\" is no time ago such as @-1h: {error}"))?;
        let ago_ms = i64::try_from(ago.as_millis()).map_err(|_| format!("{ago:?} is too long"))?;
        return Ok(now.as_millisecond().saturating_sub(ago_ms));
    }
    if let Ok(timestamp) = text.parse::<Timestamp>() {
        return Ok(timestamp.as_millisecond());
    }
    let utc = civil(text).and_then(|time| time.to_zoned(TimeZone::UTC).ok());
    utc.map(|time| time.timestamp().as_millisecond())
        .ok_or_else(|| {
            format!(
                "\"@{text}\" is no time; write @2015-05-17T10:05:03Z, @2015-05-17, @-1h, @now, or \
                 @ and milliseconds since 1970"
            )
        })
}

/// A date, or a date and a time with at least hours and minutes, without a zone.
fn civil(text: &str) -> Option<DateTime> {
    let hour_only = text.contains(['T', 't', ' ']) && !text.contains(':');
    let zoned = text.ends_with(['Z', 'z']);
    if hour_only || zoned {
        return None;
    }
    text.parse().ok()
}

#[cfg(test)]
mod tests;
