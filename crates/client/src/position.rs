//! Where reading begins and where it ends.

use flowstone_proto::v1::{StartPosition, StopPosition, start_position, stop_position};
use prost_types::Timestamp;

/// Where reading begins, in each partition. Resolved once, when the call starts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Start {
    /// The oldest record that is kept.
    #[default]
    Earliest,
    /// The end: only records that come later.
    Latest,
    /// Where the group has read to; the oldest record where it has not committed.
    Committed,
    /// This offset.
    Offset(i64),
    /// The lowest offset whose record is of this time or later (Unix time in milliseconds), else
    /// the end.
    TimeMs(i64),
    /// This many records before the end.
    Last(i64),
}

/// Where reading ends. Exclusive; resolved once, when the call starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// What is the end at the start of the call.
    CurrentEnd,
    /// Before this offset, in each partition.
    Offset(i64),
    /// Before the lowest offset whose record is of this time or later (Unix time in
    /// milliseconds); the current end where no record is that young.
    TimeMs(i64),
    /// After this many records of the whole subscription.
    Count(i64),
}

impl From<Start> for StartPosition {
    fn from(start: Start) -> Self {
        use start_position::{Anchor, Position};
        let position = match start {
            Start::Earliest => Position::Anchor(Anchor::Earliest.into()),
            Start::Latest => Position::Anchor(Anchor::Latest.into()),
            Start::Committed => Position::Anchor(Anchor::Committed.into()),
            Start::Offset(offset) => Position::Offset(offset),
            Start::TimeMs(ms) => Position::Time(timestamp_from_ms(ms)),
            Start::Last(count) => Position::Last(count),
        };
        Self {
            position: Some(position),
        }
    }
}

impl From<Stop> for StopPosition {
    fn from(stop: Stop) -> Self {
        use stop_position::Position;
        let position = match stop {
            Stop::CurrentEnd => Position::CurrentEnd(true),
            Stop::Offset(offset) => Position::Offset(offset),
            Stop::TimeMs(ms) => Position::Time(timestamp_from_ms(ms)),
            Stop::Count(count) => Position::Count(count),
        };
        Self {
            position: Some(position),
        }
    }
}

/// Unix time in milliseconds as the API's timestamp.
pub fn timestamp_from_ms(ms: i64) -> Timestamp {
    Timestamp {
        seconds: ms.div_euclid(1000),
        nanos: ms.rem_euclid(1000) as i32 * 1_000_000,
    }
}

/// The API's timestamp as Unix time in milliseconds, rounded down.
pub fn timestamp_to_ms(time: &Timestamp) -> i64 {
    time.seconds
        .saturating_mul(1000)
        .saturating_add(i64::from(time.nanos).div_euclid(1_000_000))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_before_and_after_the_epoch_survive_the_way_to_the_wire_and_back() {
        for ms in [0, 1, 999, 1000, 1_431_857_103_123, -1, -1000, -1001] {
            let time = timestamp_from_ms(ms);
            assert!((0..1_000_000_000).contains(&time.nanos), "{time:?}");
            assert_eq!(timestamp_to_ms(&time), ms);
        }
    }
}
