//! Every error of the broker is told with the code and reason of the table, and in the same words by
//! every way it travels.

use std::path::PathBuf;

use flowstone_broker::OpenError;
use prost::Message;

use super::*;

/// One of each variant, with what the table says of it. The match makes a new variant fail to compile
/// until it stands here.
fn table() -> Vec<(Error, Code, &'static str, &'static [&'static str])> {
    let text = || "t".to_owned();
    let all = vec![
        Error::TopicNotFound { topic: text() },
        Error::PartitionNotFound {
            topic: text(),
            partition: 9,
            partition_count: 3,
        },
        Error::GroupNotFound { group: text() },
        Error::TopicExists { topic: text() },
        Error::InvalidField {
            field: "start.offset".to_owned(),
            detail: "negative".to_owned(),
        },
        Error::MalformedRecord {
            index: 4,
            detail: "unknown field".to_owned(),
            field: Some(11),
        },
        Error::RecordTooLarge {
            index: 4,
            bytes: 9,
            limit: 8,
        },
        Error::OffsetTrimmed {
            requested: 1,
            log_start_offset: 5,
            high_watermark: 8,
        },
        Error::OffsetBeyondEnd {
            requested: 9,
            log_start_offset: 5,
            high_watermark: 8,
        },
        Error::StaleSession { group: text() },
        Error::MemberTimedOut {
            group: text(),
            member: text(),
            timeout_ms: 5,
        },
        Error::MemberReplaced {
            group: text(),
            member: text(),
        },
        Error::GroupActive { group: text() },
        Error::TopicRecreated { topic: text() },
        Error::TopicFull {
            topic: text(),
            partition: 2,
            limit: 7,
        },
        Error::StaleProducer {
            epoch: 1,
            current: 2,
        },
        Error::SequenceReused {
            sequence: 4,
            partition: 1,
        },
        Error::SequenceTooOld {
            sequence: 4,
            partition: 1,
            lowest_known: 9,
        },
        Error::OffsetMismatch {
            partition: 1,
            expected: 5,
            end_offset: 6,
        },
        Error::ProducersUnknown {
            topic: text(),
            partition: 1,
            detail: "a snapshot is damaged".to_owned(),
        },
        Error::LimitExceeded {
            limit: "max_topics",
            value: 7,
        },
        Error::TooManyOpenFiles,
        Error::DiskFull,
        Error::ShuttingDown,
        Error::OutcomeUnknown {
            detail: "the sync failed".to_owned(),
        },
        Error::CorruptSegment {
            topic: text(),
            partition: 2,
            offset: 77,
            detail: "crc".to_owned(),
        },
        Error::Unimplemented { what: "producer" },
        Error::Open(OpenError::DirectoryInUse {
            path: PathBuf::from("d"),
        }),
        Error::Internal {
            detail: "a thread died".to_owned(),
        },
    ];
    all.into_iter()
        .map(|error| {
            let (code, reason, keys): (_, _, &'static [&'static str]) = match &error {
                Error::TopicNotFound { .. } => (Code::NotFound, "TOPIC_NOT_FOUND", &["topic"]),
                Error::PartitionNotFound { .. } => (
                    Code::NotFound,
                    "PARTITION_NOT_FOUND",
                    &["topic", "partition", "partition-count"],
                ),
                Error::GroupNotFound { .. } => (Code::NotFound, "GROUP_NOT_FOUND", &["group"]),
                Error::TopicExists { .. } => (Code::AlreadyExists, "TOPIC_EXISTS", &["topic"]),
                Error::InvalidField { .. } => (Code::InvalidArgument, "INVALID_FIELD", &["field"]),
                Error::MalformedRecord { .. } => (
                    Code::InvalidArgument,
                    "MALFORMED_RECORD",
                    &["record", "field"],
                ),
                Error::RecordTooLarge { .. } => (
                    Code::InvalidArgument,
                    "RECORD_TOO_LARGE",
                    &["record", "bytes", "limit"],
                ),
                Error::OffsetTrimmed { .. } => (
                    Code::OutOfRange,
                    "OFFSET_TRIMMED",
                    &["offset", "log-start-offset", "high-watermark"],
                ),
                Error::OffsetBeyondEnd { .. } => (
                    Code::OutOfRange,
                    "OFFSET_BEYOND_END",
                    &["offset", "log-start-offset", "high-watermark"],
                ),
                Error::StaleSession { .. } => (Code::Aborted, "STALE_SESSION", &["group"]),
                Error::MemberReplaced { .. } => {
                    (Code::Aborted, "MEMBER_REPLACED", &["group", "member"])
                }
                Error::MemberTimedOut { .. } => (
                    Code::Aborted,
                    "MEMBER_TIMED_OUT",
                    &["group", "member", "processing-timeout-ms"],
                ),
                Error::GroupActive { .. } => (Code::FailedPrecondition, "GROUP_ACTIVE", &["group"]),
                Error::TopicRecreated { .. } => {
                    (Code::FailedPrecondition, "TOPIC_RECREATED", &["topic"])
                }
                Error::TopicFull { .. } => (
                    Code::ResourceExhausted,
                    "TOPIC_FULL",
                    &["topic", "partition"],
                ),
                Error::StaleProducer { .. } => {
                    (Code::Aborted, "STALE_PRODUCER", &["epoch", "current-epoch"])
                }
                Error::SequenceReused { .. } => (
                    Code::InvalidArgument,
                    "SEQUENCE_REUSED",
                    &["sequence", "partition"],
                ),
                Error::SequenceTooOld { .. } => (
                    Code::FailedPrecondition,
                    "SEQUENCE_TOO_OLD",
                    &["sequence", "partition", "lowest-known-sequence"],
                ),
                Error::OffsetMismatch { .. } => (
                    Code::Aborted,
                    "OFFSET_MISMATCH",
                    &["partition", "end-offset"],
                ),
                Error::ProducersUnknown { .. } => (
                    Code::FailedPrecondition,
                    "PRODUCERS_UNKNOWN",
                    &["topic", "partition"],
                ),
                Error::LimitExceeded { .. } => (
                    Code::ResourceExhausted,
                    "LIMIT_EXCEEDED",
                    &["limit", "value"],
                ),
                Error::TooManyOpenFiles => (Code::ResourceExhausted, "LIMIT_EXCEEDED", &["limit"]),
                Error::DiskFull => (Code::ResourceExhausted, "DISK_FULL", &[]),
                Error::ShuttingDown => (Code::Unavailable, "SHUTTING_DOWN", &[]),
                Error::OutcomeUnknown { .. } => (Code::Unavailable, "OUTCOME_UNKNOWN", &[]),
                Error::CorruptSegment { .. } => (
                    Code::DataLoss,
                    "CORRUPT_SEGMENT",
                    &["topic", "partition", "offset"],
                ),
                Error::Unimplemented { .. } => (Code::Unimplemented, "UNIMPLEMENTED", &["what"]),
                Error::Open(_) | Error::Internal { .. } => (Code::Internal, "INTERNAL", &[]),
            };
            (error, code, reason, keys)
        })
        .collect()
}

fn failures() -> Vec<Failure> {
    let mut all: Vec<Failure> = table().iter().map(|(error, ..)| error.into()).collect();
    all.extend([
        Failure::request_too_large(Some(9), 8),
        Failure::request_too_large(None, 8),
        Failure::throttled(),
        Failure::deadline_passed(),
        Failure::no_such_method("/flowstone.v1.QueueService/Lease"),
        Failure::no_such_method("/a.B/C"),
    ]);
    all
}

fn trailer<'a>(status: &'a Status, key: &str) -> Option<&'a str> {
    status
        .metadata()
        .get(format!("flowstone-{key}"))
        .map(|value| value.to_str().expect("ASCII"))
}

#[test]
fn every_error_has_the_code_reason_and_facts_of_the_table() {
    for (error, code, reason, keys) in table() {
        let failure = Failure::from(&error);
        assert_eq!((failure.code, failure.reason), (code, reason), "{error:?}");
        let found: Vec<&str> = failure.metadata.iter().map(|(key, _)| *key).collect();
        assert_eq!(found, keys, "{error:?}");
        assert!(failure.message.starts_with(&error.to_string()), "{error:?}");
    }
}

#[test]
fn exactly_what_may_be_repeated_unchanged_says_when() {
    for failure in failures() {
        let repeatable = matches!(
            failure.code,
            Code::Unavailable | Code::DeadlineExceeded | Code::ResourceExhausted
        );
        assert_eq!(failure.retry.is_some(), repeatable, "{failure:?}");
    }
}

#[test]
fn details_trailers_and_stream_errors_say_the_same() {
    for failure in failures() {
        let status = Status::from(&failure);
        assert_eq!(status.code(), failure.code);
        assert_eq!(status.message(), failure.message);

        let details = status.get_error_details();
        let info = details.error_info().expect("always there");
        assert_eq!(
            (info.reason.as_str(), info.domain.as_str()),
            (failure.reason, "flowstone")
        );
        assert_eq!(trailer(&status, "reason"), Some(failure.reason));
        assert_eq!(info.metadata.len(), failure.metadata.len());
        for (key, value) in &failure.metadata {
            assert_eq!(info.metadata.get(*key), Some(value));
            assert_eq!(trailer(&status, key), Some(value.as_str()));
        }
        let retry = details.retry_info().and_then(|info| info.retry_delay);
        assert_eq!(retry, failure.retry);
        assert_eq!(
            trailer(&status, "retry-ms").map(str::to_owned),
            failure.retry.map(|delay| delay.as_millis().to_string())
        );

        let inside = failure.error_status();
        assert_eq!(inside.code, i32::from(failure.code));
        assert_eq!(inside.reason, failure.reason);
        assert_eq!(inside.message, failure.message);
        assert_eq!(inside.metadata, info.metadata);
        assert_eq!(inside.retry_delay.is_some(), failure.retry.is_some());
    }
}

#[test]
fn text_of_any_size_and_script_fits_into_trailers() {
    let topic = "täglich\n%".repeat(10_000);
    let status = of(&Error::TopicNotFound { topic });
    let told = trailer(&status, "topic").expect("there");
    assert!(told.starts_with("t%C3%A4glich%0A%25t%C3%A4"), "{told}");
    assert!(told.ends_with("%E2%80%A6"), "{told}");
    let info = status.get_error_details();
    let topic = &info.error_info().expect("there").metadata["topic"];
    assert!(topic.starts_with("täglich\n%t") && topic.len() <= METADATA_BYTES_MAX);
    assert!(status.message().len() <= MESSAGE_BYTES_MAX);
    assert!(status.details().len() < 4_096);
}

#[test]
fn messages_say_what_to_do() {
    let status = of(&Error::TopicNotFound {
        topic: "visits".to_owned(),
    });
    assert_eq!(
        status.message(),
        "topic \"visits\" does not exist; create it first, or look for its name with ListTopics"
    );
    let inside = Failure::from(Error::DiskFull).error_status();
    assert!(inside.encoded_len() < 1_024);
    assert!(inside.message.contains("retention"), "{}", inside.message);
}
