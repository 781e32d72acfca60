//! Sizes, durations and times as people write and read them.

use std::time::Duration;

use jiff::Timestamp;

/// Suffixes of sizes, longest first where one ends with another.
const SIZE_UNITS: [(&str, u64); 13] = [
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("TiB", 1 << 40),
    ("KB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("TB", 1_000_000_000_000),
    ("K", 1 << 10),
    ("M", 1 << 20),
    ("G", 1 << 30),
    ("T", 1 << 40),
    ("B", 1),
];

/// Bytes from `1048576`, `64MiB`, `1GB`, `16K`. Capitals do not matter.
pub(crate) fn parse_size(text: &str) -> Result<i64, String> {
    let lower = text.trim().to_ascii_lowercase();
    let (number, unit) = SIZE_UNITS
        .iter()
        .find_map(|(name, unit)| {
            let number = lower.strip_suffix(&name.to_ascii_lowercase())?;
            Some((number.trim_end(), *unit))
        })
        .unwrap_or((&lower, 1));
    if number.is_empty() || !number.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err("write a whole number of bytes, or with a unit as in 64MiB or 1GB".to_owned());
    }
    number
        .parse::<u64>()
        .ok()
        .and_then(|number| number.checked_mul(unit))
        .and_then(|bytes| i64::try_from(bytes).ok())
        .ok_or_else(|| format!("{text} is more than a size can be"))
}

/// A duration from `7d`, `12h`, `1h 30m`.
pub(crate) fn parse_duration(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text).map_err(|error| format!("{error}; write 7d, 12h or 90s"))
}

/// A setting that can also be taken away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Setting<T> {
    /// `none`: back to the default.
    Unset,
    Value(T),
}

impl<T> Setting<T> {
    pub(crate) fn value(self) -> Option<T> {
        match self {
            Self::Unset => None,
            Self::Value(value) => Some(value),
        }
    }
}

/// A size or `none`.
pub(crate) fn parse_size_setting(text: &str) -> Result<Setting<i64>, String> {
    parse_setting(text, parse_size)
}

/// A duration or `none`.
pub(crate) fn parse_duration_setting(text: &str) -> Result<Setting<Duration>, String> {
    parse_setting(text, parse_duration)
}

fn parse_setting<T>(
    text: &str,
    parse: impl Fn(&str) -> Result<T, String>,
) -> Result<Setting<T>, String> {
    if text == "none" {
        return Ok(Setting::Unset);
    }
    parse(text)
        .map(Setting::Value)
        .map_err(|error| format!("{error}, or none"))
}

/// `name=value`; the value may hold further equals signs.
pub(crate) fn parse_pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("write name=value".to_owned()),
    }
}

/// Bytes with one decimal and the unit that suits them, in powers of 1024.
pub(crate) fn show_size(bytes: u64) -> String {
    let units = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let mut size = bytes as f64;
    let mut unit = "B";
    for next in units {
        // What would be shown as 1024.0 is shown in the next unit.
        if size < 1023.95 {
            break;
        }
        size /= 1024.0;
        unit = next;
    }
    format!("{size:.1} {unit}")
}

/// A number with commas between its thousands.
pub(crate) fn show_count(count: u64) -> String {
    let digits = count.to_string();
    let mut shown = String::with_capacity(digits.len() + digits.len() / 3);
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            shown.push(',');
        }
        shown.push(digit);
    }
    shown
}

/// `1 record`, `2 records`, `2 batches`.
pub(crate) fn show_many(count: u64, what: &str) -> String {
    let plural = match count {
        1 => "",
        _ if what.ends_with("ch") => "es",
        _ => "s",
    };
    format!("{} {what}{plural}", show_count(count))
}

/// Unix time in milliseconds as RFC 3339 in UTC.
pub(crate) fn show_time(ms: i64) -> String {
    Timestamp::from_millisecond(ms).map_or_else(|_| format!("{ms} ms"), |time| format!("{time:.3}"))
}

/// A duration as it could be written, such as `7d`, `12h 30m` or `250ms`.
pub(crate) fn show_duration(duration: Duration) -> String {
    let mut rest_ms = duration.as_millis();
    let mut parts = Vec::new();
    for (unit, ms) in [
        ("d", 86_400_000),
        ("h", 3_600_000),
        ("m", 60_000),
        ("s", 1_000),
        ("ms", 1),
    ] {
        if rest_ms >= ms {
            parts.push(format!("{}{unit}", rest_ms / ms));
            rest_ms %= ms;
        }
    }
    if parts.is_empty() {
        return "0s".to_owned();
    }
    parts.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_with_and_without_units() {
        for (text, bytes) in [
            ("0", 0),
            ("1048576", 1 << 20),
            ("64MiB", 64 << 20),
            ("64mib", 64 << 20),
            ("64 MiB", 64 << 20),
            ("1GiB", 1 << 30),
            ("1GB", 1_000_000_000),
            ("16K", 16 << 10),
            ("2T", 2 << 40),
            ("7B", 7),
        ] {
            assert_eq!(parse_size(text), Ok(bytes), "{text}");
        }
        for bad in ["", "MiB", "-1", "1.5GiB", "1 2", "5XB", "99999999TiB", "+5"] {
            assert!(parse_size(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn settings_can_be_taken_away() {
        assert_eq!(parse_size_setting("none"), Ok(Setting::Unset));
        assert_eq!(parse_size_setting("1K"), Ok(Setting::Value(1024)));
        let week = Duration::from_secs(7 * 24 * 3600);
        assert_eq!(parse_duration_setting("7d"), Ok(Setting::Value(week)));
        assert!(parse_duration_setting("soon").unwrap_err().contains("none"));
    }

    #[test]
    fn durations_are_shown_as_they_are_written() {
        for text in ["0s", "7d", "12h 30m", "1d 1ms", "90d", "59s"] {
            let duration = parse_duration(text).unwrap();
            assert_eq!(show_duration(duration), text);
        }
    }

    #[test]
    fn pairs_split_at_the_first_equals_sign() {
        assert_eq!(parse_pair("a=b=c"), Ok(("a".into(), "b=c".into())));
        assert_eq!(parse_pair("a="), Ok(("a".into(), String::new())));
        assert!(parse_pair("=b").is_err());
        assert!(parse_pair("a").is_err());
    }

    #[test]
    fn numbers_are_shown_as_people_read_them() {
        assert_eq!(show_count(0), "0");
        assert_eq!(show_count(999), "999");
        assert_eq!(show_count(1000), "1,000");
        assert_eq!(show_count(1_234_567), "1,234,567");
        assert_eq!(show_many(1, "record"), "1 record");
        assert_eq!(show_many(2000, "record"), "2,000 records");
        assert_eq!(show_many(0, "batch"), "0 batches");
        assert_eq!(show_size(1023), "1023 B");
        assert_eq!(show_size(1024), "1.0 KiB");
        assert_eq!(show_size(1_048_575), "1.0 MiB");
        assert_eq!(show_size(5 << 30), "5.0 GiB");
        assert_eq!(show_time(1_431_857_103_000), "2015-05-17T10:05:03.000Z");
    }
}
