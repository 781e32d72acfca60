//! What can be off.

use super::Place;

/// A promise that the broker did not keep.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    /// An acknowledged record is not there.
    #[error("acknowledged in {place}, and not there: the partition ends at {end}")]
    Lost {
        /// Where it was said to be.
        place: Place,
        /// The end of the partition.
        end: i64,
    },
    /// A record was acknowledged in one place and lies in another.
    #[error("acknowledged in {told}, and read in {seen}")]
    Misplaced {
        /// Where it was said to be.
        told: Place,
        /// Where it is.
        seen: Place,
    },
    /// Two records were acknowledged in one place.
    #[error("two records were acknowledged in {place}")]
    ToldTwice {
        /// The place.
        place: Place,
    },
    /// Another record lies where one was acknowledged.
    #[error("another record was acknowledged in {place} than the one that is there")]
    OtherRecord {
        /// The place.
        place: Place,
    },
    /// A record that was sent once is there twice.
    #[error("the same record is in {first} and in {second}")]
    Twice {
        /// Where it was read first.
        first: Place,
        /// Where else.
        second: Place,
    },
    /// A record that was surely not appended is there.
    #[error("the record in {place} had been refused")]
    Refused {
        /// Where.
        place: Place,
    },
    /// Bytes that nobody produced.
    #[error("nobody produced the record in {place}")]
    Foreign {
        /// Where.
        place: Place,
    },
    /// A place is not read as it was read before.
    #[error("the record in {place} is not the one that was read there before")]
    Changed {
        /// The place.
        place: Place,
    },
    /// The producer's own timestamp was not kept.
    #[error("the record in {place} has another timestamp than it was produced with")]
    OtherTime {
        /// The place.
        place: Place,
    },
    /// Offsets do not follow each other.
    #[error("partition {partition}: offset {expected} should come next, and {found} does")]
    Gap {
        /// The partition.
        partition: i32,
        /// The offset that should come.
        expected: i64,
        /// The one that comes, or the end of the partition.
        found: i64,
    },
    /// What could be read can be read no more.
    #[error("partition {partition}: the end went back from {before} to {end}")]
    EndWentBack {
        /// The partition.
        partition: i32,
        /// The end that was known.
        before: i64,
        /// The end as it is told.
        end: i64,
    },
    /// What was trimmed is there again.
    #[error("partition {partition}: the start went back from {before} to {start}")]
    StartWentBack {
        /// The partition.
        partition: i32,
        /// The start that was known.
        before: i64,
        /// The start as it is told.
        start: i64,
    },
    /// More is gone than anybody has asked for.
    #[error("partition {partition} starts at {start}, and was trimmed to {asked} at most")]
    TrimmedTooFar {
        /// The partition.
        partition: i32,
        /// The greatest offset that a trim has named.
        asked: i64,
        /// The start as it is told.
        start: i64,
    },
    /// A producer's records do not lie in the order in which it sent them.
    #[error("the record in {place} lies behind one that its producer sent later")]
    OutOfOrder {
        /// The place.
        place: Place,
    },
    /// A committed offset went back.
    #[error("group {group}, partition {partition}: the commit went back from {before} to {offset}")]
    CommitWentBack {
        /// The group.
        group: String,
        /// The partition.
        partition: i32,
        /// What was committed.
        before: i64,
        /// What is told now.
        offset: i64,
    },
    /// An offset is committed that nobody has committed.
    #[error("group {group}, partition {partition}: nobody has committed {offset}")]
    CommitUnasked {
        /// The group.
        group: String,
        /// The partition.
        partition: i32,
        /// What is told.
        offset: i64,
    },
}
