//! The one mapping from the broker's errors to codes, reasons, facts and advice.

use flowstone_broker::Error;
use tonic::Code;

use super::{Failure, RETRY_FULL, RETRY_LATER};

impl From<&Error> for Failure {
    fn from(error: &Error) -> Self {
        use Code::{
            Aborted, AlreadyExists, DataLoss, FailedPrecondition, Internal, InvalidArgument,
            NotFound, OutOfRange, ResourceExhausted, Unavailable, Unimplemented,
        };
        let told = |code, reason, advice: &str| match advice {
            "" => Failure::new(code, reason, error.to_string()),
            _ => Failure::new(code, reason, format!("{error}; {advice}")),
        };
        match error {
            Error::TopicNotFound { topic } => told(
                NotFound,
                "TOPIC_NOT_FOUND",
                "create it first, or look for its name with ListTopics",
            )
            .with("topic", topic),
            Error::PartitionNotFound {
                topic,
                partition,
                partition_count,
            } => told(NotFound, "PARTITION_NOT_FOUND", "")
                .with("topic", topic)
                .with("partition", partition)
                .with("partition-count", partition_count),
            Error::GroupNotFound { group } => {
                told(NotFound, "GROUP_NOT_FOUND", "").with("group", group)
            }
            Error::TopicExists { topic } => {
                told(AlreadyExists, "TOPIC_EXISTS", "").with("topic", topic)
            }
            Error::InvalidField { field, .. } => {
                told(InvalidArgument, "INVALID_FIELD", "").with("field", field)
            }
            Error::MalformedRecord {
                index,
                field: number,
                ..
            } => {
                let failure = told(
                    InvalidArgument,
                    "MALFORMED_RECORD",
                    "nothing of the request was appended",
                )
                .with("record", index);
                match number {
                    Some(number) => failure.with("field", number),
                    None => failure,
                }
            }
            Error::RecordTooLarge {
                index,
                bytes,
                limit,
            } => told(
                InvalidArgument,
                "RECORD_TOO_LARGE",
                "nothing of the request was appended",
            )
            .with("record", index)
            .with("bytes", bytes)
            .with("limit", limit),
            Error::OffsetTrimmed {
                requested,
                log_start_offset,
                high_watermark,
            } => told(
                OutOfRange,
                "OFFSET_TRIMMED",
                "go on at the log start offset if the records between may be missed",
            )
            .with("offset", requested)
            .with("log-start-offset", log_start_offset)
            .with("high-watermark", high_watermark),
            Error::OffsetBeyondEnd {
                requested,
                log_start_offset,
                high_watermark,
            } => told(
                OutOfRange,
                "OFFSET_BEYOND_END",
                "check that this is the topic that was read before",
            )
            .with("offset", requested)
            .with("log-start-offset", log_start_offset)
            .with("high-watermark", high_watermark),
            Error::StaleSession { group } => told(
                Aborted,
                "STALE_SESSION",
                "subscribe again and go on from what is committed",
            )
            .with("group", group),
            Error::MemberReplaced { group, member } => told(
                Aborted,
                "MEMBER_REPLACED",
                "give each stream a name of its own, or none",
            )
            .with("group", group)
            .with("member", member),
            Error::MemberTimedOut {
                group,
                member,
                timeout_ms,
            } => told(
                Aborted,
                "MEMBER_TIMED_OUT",
                "subscribe again, and commit more often or ask for a longer processing_timeout: repeating the \
                 last commit is enough to stay in",
            )
            .with("group", group)
            .with("member", member)
            .with("processing-timeout-ms", timeout_ms),
            Error::GroupActive { group } => told(
                FailedPrecondition,
                "GROUP_ACTIVE",
                "end their streams first; members commit with the cursors of their own streams",
            )
            .with("group", group),
            Error::TopicRecreated { topic } => told(
                FailedPrecondition,
                "TOPIC_RECREATED",
                "start anew, without the old topic id and offsets",
            )
            .with("topic", topic),
            Error::TopicFull {
                topic, partition, ..
            } => told(
                ResourceExhausted,
                "TOPIC_FULL",
                "repeat the call later: there is room once every group of the topic has committed past the \
                 oldest segments, after a trim, or with a larger retention_bytes",
            )
            .with("topic", topic)
            .with("partition", partition)
            .retry_after(RETRY_FULL),
            Error::StaleProducer { epoch, current } => {
                let advice = match epoch > current {
                    true => "call OpenProducer again: it was forgotten, or never opened in this topic",
                    false => "another process has opened this producer since, and this one is over",
                };
                told(Aborted, "STALE_PRODUCER", advice)
                    .with("epoch", epoch)
                    .with("current-epoch", current)
            }
            Error::SequenceReused {
                sequence,
                partition,
            } => told(
                InvalidArgument,
                "SEQUENCE_REUSED",
                "each request has a sequence of its own, and a repeat is the same in every record",
            )
            .with("sequence", sequence)
            .with("partition", partition),
            Error::SequenceTooOld {
                sequence,
                partition,
                lowest_known,
            } => told(
                FailedPrecondition,
                "SEQUENCE_TOO_OLD",
                "read the log to find out",
            )
            .with("sequence", sequence)
            .with("partition", partition)
            .with("lowest-known-sequence", lowest_known),
            Error::OffsetMismatch {
                partition,
                end_offset,
                ..
            } => told(
                Aborted,
                "OFFSET_MISMATCH",
                "nothing was appended: read what came between, and expect the end offset",
            )
            .with("partition", partition)
            .with("end-offset", end_offset),
            Error::ProducersUnknown {
                topic, partition, ..
            } => told(
                FailedPrecondition,
                "PRODUCERS_UNKNOWN",
                "wait until then, or produce without a `producer`, where a repeat may append twice",
            )
            .with("topic", topic)
            .with("partition", partition),
            Error::LimitExceeded { limit, value } => told(
                ResourceExhausted,
                "LIMIT_EXCEEDED",
                "free some, or raise it in the broker's configuration",
            )
            .with("limit", limit)
            .with("value", value)
            .retry_after(RETRY_LATER),
            Error::TooManyOpenFiles => told(
                ResourceExhausted,
                "LIMIT_EXCEEDED",
                "raise its limit (`ulimit -n`, or LimitNOFILE= of the service): each partition with records \
                 takes one, and each connection",
            )
            .with("limit", "open_files")
            .retry_after(RETRY_LATER),
            Error::DiskFull => told(
                ResourceExhausted,
                "DISK_FULL",
                "reads, commits, trims and deletions go on, and records are taken as soon as there is space: \
                 trim or delete topics, shorten their retention, or enlarge the volume",
            )
            .retry_after(RETRY_FULL),
            Error::ShuttingDown => {
                told(Unavailable, "SHUTTING_DOWN", "connect again").retry_after(RETRY_LATER)
            }
            Error::OutcomeUnknown { .. } => told(
                Unavailable,
                "OUTCOME_UNKNOWN",
                "repeat the call; without a `producer` records may then be appended twice",
            )
            .retry_after(RETRY_LATER),
            Error::CorruptSegment {
                topic,
                partition,
                offset,
                ..
            } => told(
                DataLoss,
                "CORRUPT_SEGMENT",
                "see the broker's log and run `flowstone log verify` on its data directory",
            )
            .with("topic", topic)
            .with("partition", partition)
            .with("offset", offset),
            Error::Unimplemented { what } => told(
                Unimplemented,
                "UNIMPLEMENTED",
                "leave it out, or use a version that has it",
            )
            .with("what", what),
            Error::Open(_) | Error::Internal { .. } => {
                told(Internal, "INTERNAL", "see the broker's log")
            }
        }
    }
}
