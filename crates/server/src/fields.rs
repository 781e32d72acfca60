//! Request fields of the wire as the broker's types, and back. What the broker could not make sense of is
//! refused here, by the name of the field.

use std::time::Duration;

use flowstone_broker::{Acks, Cursor, Error, Start, Stop, Uuid};
use flowstone_proto::v1;
use v1::start_position::{Anchor, Position as StartAt};
use v1::stop_position::Position as StopAt;

#[cfg(test)]
mod tests;

/// A refusal of one field.
pub(crate) fn invalid(field: impl Into<String>, detail: impl Into<String>) -> Error {
    Error::InvalidField {
        field: field.into(),
        detail: detail.into(),
    }
}

/// A number that counts something: not negative.
pub(crate) fn count<From, To>(field: &str, value: From) -> Result<To, Error>
where
    From: Copy + std::fmt::Display,
    To: TryFrom<From>,
{
    To::try_from(value).map_err(|_| invalid(field, format!("{value} is negative")))
}

/// A number that must be there to be greater than 0; leaving it out means something of its own.
pub(crate) fn positive<From, To>(field: &str, value: From, absent: &str) -> Result<To, Error>
where
    From: Copy + std::fmt::Display + Default + PartialOrd,
    To: TryFrom<From>,
{
    To::try_from(value)
        .ok()
        .filter(|_| value > From::default())
        .ok_or_else(|| {
            invalid(
                field,
                format!("{value} is not positive; leave it out {absent}"),
            )
        })
}

/// Milliseconds, rounded up.
pub(crate) fn duration_ms(field: &str, value: &prost_types::Duration) -> Result<u64, Error> {
    let duration = Duration::try_from(*value).map_err(|_| {
        invalid(
            field,
            "the duration is negative or its nanos are out of range",
        )
    })?;
    u64::try_from(duration.as_nanos().div_ceil(1_000_000))
        .map_err(|_| invalid(field, "the duration is too long"))
}

/// Unix milliseconds, rounded up: the first millisecond that is not before the time.
pub(crate) fn timestamp_ms(field: &str, value: &prost_types::Timestamp) -> Result<i64, Error> {
    if !(0..1_000_000_000).contains(&value.nanos) {
        return Err(invalid(
            field,
            "the nanos of a timestamp are from 0 to 999,999,999",
        ));
    }
    let nanos = i128::from(value.seconds) * 1_000_000_000 + i128::from(value.nanos);
    let ms = nanos.div_euclid(1_000_000) + i128::from(nanos.rem_euclid(1_000_000) != 0);
    i64::try_from(ms).map_err(|_| invalid(field, "the time is too far away"))
}

/// Unix milliseconds as a timestamp.
pub(crate) fn timestamp(ms: i64) -> prost_types::Timestamp {
    prost_types::Timestamp {
        seconds: ms.div_euclid(1_000),
        nanos: i32::try_from(ms.rem_euclid(1_000) * 1_000_000).expect("less than a second"),
    }
}

/// Milliseconds as a duration.
pub(crate) fn duration(ms: u64) -> prost_types::Duration {
    Duration::from_millis(ms)
        .try_into()
        .expect("64 bits of milliseconds are less than 64 bits of seconds")
}

/// An offset or another number of the broker, which are far below the end of the wire's range.
pub(crate) fn number<To: TryFrom<u64>>(value: impl Into<u64>) -> To {
    To::try_from(value.into())
        .ok()
        .expect("the broker's numbers fit those of the wire")
}

/// An id as the broker told it; empty: none.
pub(crate) fn topic_id(field: &str, text: &str) -> Result<Option<Uuid>, Error> {
    if text.is_empty() {
        return Ok(None);
    }
    let id = Uuid::parse_str(text).map_err(|_| {
        invalid(
            field,
            "not a topic id; send it as the broker told it, or leave it out",
        )
    })?;
    Ok(Some(id))
}

/// When to answer; `None`: unspecified.
pub(crate) fn acks(field: &str, value: i32) -> Result<Option<Acks>, Error> {
    match v1::Acks::try_from(value) {
        Ok(v1::Acks::Unspecified) => Ok(None),
        Ok(v1::Acks::Durable) => Ok(Some(Acks::Durable)),
        Ok(v1::Acks::Written) => Ok(Some(Acks::Written)),
        Err(_) => Err(invalid(
            field,
            format!("{value} is none of ACKS_DURABLE and ACKS_WRITTEN"),
        )),
    }
}

/// The wire's name of `acks`.
pub(crate) fn acks_number(value: Option<Acks>) -> i32 {
    match value {
        None => v1::Acks::Unspecified,
        Some(Acks::Durable) => v1::Acks::Durable,
        Some(Acks::Written) => v1::Acks::Written,
    }
    .into()
}

/// Where to start; absent: the first offset there is.
pub(crate) fn start(field: &str, value: Option<&v1::StartPosition>) -> Result<Start, Error> {
    Ok(match value.and_then(|value| value.position.as_ref()) {
        None => Start::Earliest,
        Some(StartAt::Anchor(anchor)) => match Anchor::try_from(*anchor) {
            Ok(Anchor::Unspecified | Anchor::Earliest) => Start::Earliest,
            Ok(Anchor::Latest) => Start::Latest,
            Ok(Anchor::Committed) => Start::Committed,
            Err(_) => {
                return Err(invalid(
                    format!("{field}.anchor"),
                    format!(
                        "{anchor} is none of ANCHOR_EARLIEST, ANCHOR_LATEST and ANCHOR_COMMITTED"
                    ),
                ));
            }
        },
        Some(StartAt::Offset(offset)) => Start::Offset(count(&format!("{field}.offset"), *offset)?),
        Some(StartAt::Time(time)) => Start::TimeMs(timestamp_ms(&format!("{field}.time"), time)?),
        Some(StartAt::Last(last)) => Start::Last(count(&format!("{field}.last"), *last)?),
    })
}

/// Where to stop; absent: never.
pub(crate) fn stop(field: &str, value: Option<&v1::StopPosition>) -> Result<Option<Stop>, Error> {
    let Some(value) = value else {
        return Ok(None);
    };
    Ok(Some(match &value.position {
        None => {
            return Err(invalid(
                field,
                "it names no position; leave it out to follow for ever",
            ));
        }
        Some(StopAt::CurrentEnd(true)) => Stop::CurrentEnd,
        Some(StopAt::CurrentEnd(false)) => {
            return Err(invalid(
                format!("{field}.current_end"),
                "it can only be true; leave the stop position out to follow for ever",
            ));
        }
        Some(StopAt::Offset(offset)) => Stop::Offset(count(&format!("{field}.offset"), *offset)?),
        Some(StopAt::Time(time)) => Stop::TimeMs(timestamp_ms(&format!("{field}.time"), time)?),
        Some(StopAt::Count(records)) => Stop::Count(count(&format!("{field}.count"), *records)?),
    }))
}

/// Partitions by number.
pub(crate) fn partitions(field: &str, values: &[i32]) -> Result<Vec<u32>, Error> {
    values.iter().map(|value| count(field, *value)).collect()
}

/// Cursors as they were handed out.
pub(crate) fn cursors(field: &str, values: Vec<v1::Cursor>) -> Result<Vec<Cursor>, Error> {
    let read = |(index, value): (usize, v1::Cursor)| {
        let of = |name| format!("{field}[{index}].{name}");
        Ok(Cursor {
            partition: count(&of("partition"), value.partition)?,
            offset: count(&of("offset"), value.offset)?,
            topic_id: topic_id(&of("topic_id"), &value.topic_id)?,
            group: value.group,
            session: value.session,
            topic: value.topic,
        })
    };
    values.into_iter().enumerate().map(read).collect()
}

/// A cursor to hand out.
pub(crate) fn cursor(value: Cursor) -> v1::Cursor {
    v1::Cursor {
        group: value.group,
        session: value.session,
        topic: value.topic,
        partition: number(value.partition),
        offset: number(value.offset),
        topic_id: value.topic_id.map(|id| id.to_string()).unwrap_or_default(),
    }
}

/// Partitions of topics to tell.
pub(crate) fn topic_partitions(values: Vec<(String, u32)>) -> Vec<v1::TopicPartition> {
    values
        .into_iter()
        .map(|(topic, partition)| v1::TopicPartition {
            topic,
            partition: number(partition),
        })
        .collect()
}
