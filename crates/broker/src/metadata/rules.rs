//! What a topic may be set up as.

use flowstone_format::{FRAME_HEADER_LEN, MAX_BROKER_BYTES, SEGMENT_HEADER_LEN};

use crate::metadata::MetadataState;
use crate::metadata::command::TopicSettings;
use crate::names::{check_labels, check_topic, invalid};
use crate::{Error, Limits, Overflow, TopicChange, TopicInfo, TopicSpec};

/// The headers of a partition's active segment are read at each start, and all of it where FLOOR is lost or frames are
/// small: no larger one than a disk reads in a second or two.
pub(crate) const MAX_SEGMENT_BYTES: u64 = 1 << 30;
/// A record's tag and length, which may grow with what the broker adds to it.
const RECORD_PREFIX_GROWTH_BYTES: u64 = 2;

/// The smallest segment that holds the frame of the largest request.
pub(crate) fn min_segment_bytes(limits: &Limits) -> u64 {
    let frame = FRAME_HEADER_LEN as u64 + max_payload_bytes(limits);
    (SEGMENT_HEADER_LEN + frame).max(limits.min_segment_bytes)
}

/// The largest request as it is stored.
pub(crate) fn max_payload_bytes(limits: &Limits) -> u64 {
    let added = u64::from(MAX_BROKER_BYTES) + RECORD_PREFIX_GROWTH_BYTES;
    u64::from(limits.max_request_bytes) + u64::from(limits.max_records_per_request) * added
}

/// Checks a topic that is to be made. Returns how many partitions it gets, and the rest.
pub(crate) fn check_new(
    spec: &TopicSpec,
    state: &MetadataState,
    limits: &Limits,
) -> Result<(u32, TopicSettings), Error> {
    check_topic(&spec.name)?;
    let partition_count = spec.partition_count.max(1);
    let settings = settings(spec);
    check_settings(&settings, limits)?;
    check_overflow(spec)?;
    check_partition_count(partition_count, limits)?;
    if state.is_named(&spec.name) {
        return Err(Error::TopicExists {
            topic: spec.name.clone(),
        });
    }
    if state.topic_count() >= limits.max_topics as usize {
        return Err(exceeded("max_topics", limits.max_topics));
    }
    check_room(partition_count, state, limits)?;
    Ok((partition_count, settings))
}

/// A change that was checked.
#[derive(Debug)]
pub(crate) struct Change {
    /// What the topic is then.
    pub(crate) spec: TopicSpec,
    pub(crate) settings: TopicSettings,
}

/// Checks a change of a topic; `None` if it changes nothing.
pub(crate) fn check_change(
    now: &TopicInfo,
    change: TopicChange,
    state: &MetadataState,
    limits: &Limits,
) -> Result<Option<Change>, Error> {
    let before = &now.spec;
    let after = TopicSpec {
        name: before.name.clone(),
        partition_count: change.partition_count.unwrap_or(before.partition_count),
        retention_ms: change.retention_ms.unwrap_or(before.retention_ms),
        retention_bytes: change.retention_bytes.unwrap_or(before.retention_bytes),
        segment_bytes: change.segment_bytes.unwrap_or(before.segment_bytes),
        max_record_bytes: change.max_record_bytes.unwrap_or(before.max_record_bytes),
        default_acks: change.default_acks.unwrap_or(before.default_acks),
        overflow: change.overflow.unwrap_or(before.overflow),
        labels: change.labels.unwrap_or_else(|| before.labels.clone()),
    };
    if after == *before {
        return Ok(None);
    }
    let Some(added) = after.partition_count.checked_sub(before.partition_count) else {
        return Err(invalid(
            "partition_count",
            format!(
                "topic {:?} has {} partitions, and their number can only grow",
                before.name, before.partition_count
            ),
        ));
    };
    let settings = settings(&after);
    check_settings(&settings, limits)?;
    check_overflow(&after)?;
    if added > 0 {
        check_partition_count(after.partition_count, limits)?;
        check_room(added, state, limits)?;
    }
    Ok(Some(Change {
        spec: after,
        settings,
    }))
}

fn settings(spec: &TopicSpec) -> TopicSettings {
    let mut settings = TopicSettings {
        retention_ms: spec.retention_ms,
        retention_bytes: spec.retention_bytes,
        segment_bytes: spec.segment_bytes,
        max_record_bytes: spec.max_record_bytes,
        labels: spec.labels.clone(),
        ..TopicSettings::default()
    };
    settings.set_default_acks(spec.default_acks);
    settings.set_overflow(spec.overflow);
    settings
}

fn check_settings(settings: &TopicSettings, limits: &Limits) -> Result<(), Error> {
    if settings.retention_ms.is_some_and(|ms| ms <= 0) {
        return Err(invalid(
            "retention",
            "it must be longer than nothing; leave it out to keep records for ever",
        ));
    }
    if settings.retention_bytes == Some(0) {
        return Err(invalid(
            "retention_bytes",
            "it must be at least 1; leave it out for no limit",
        ));
    }
    let (least, most) = (min_segment_bytes(limits), MAX_SEGMENT_BYTES);
    if settings
        .segment_bytes
        .is_some_and(|bytes| !(least..=most).contains(&bytes))
    {
        return Err(invalid(
            "segment_bytes",
            format!("it must be {least} to {most}: a segment holds the largest request at least"),
        ));
    }
    let most = limits.max_request_bytes;
    if settings
        .max_record_bytes
        .is_some_and(|bytes| !(1..=most).contains(&bytes))
    {
        return Err(invalid(
            "max_record_bytes",
            format!("it must be 1 to {most}, which is the largest request"),
        ));
    }
    check_labels(&settings.labels, limits.max_labels_per_topic)
}

fn check_overflow(spec: &TopicSpec) -> Result<(), Error> {
    match (spec.overflow, spec.retention_bytes) {
        (Overflow::Trim, _) => Ok(()),
        (Overflow::Reject, None) => Err(invalid(
            "overflow",
            "OVERFLOW_REJECT refuses records at retention_bytes, which is not set",
        )),
        // An empty partition may hold the header of a segment.
        (Overflow::Reject, Some(bytes)) if bytes <= SEGMENT_HEADER_LEN => Err(invalid(
            "retention_bytes",
            format!(
                "with OVERFLOW_REJECT it must be more than {SEGMENT_HEADER_LEN}, which an empty \
                 partition takes"
            ),
        )),
        (Overflow::Reject, Some(_)) => Ok(()),
    }
}

fn check_partition_count(count: u32, limits: &Limits) -> Result<(), Error> {
    if count > limits.max_partitions_per_topic {
        let limit = limits.max_partitions_per_topic;
        return Err(exceeded("max_partitions_per_topic", limit));
    }
    Ok(())
}

fn check_room(added: u32, state: &MetadataState, limits: &Limits) -> Result<(), Error> {
    if state.partition_count() + u64::from(added) > u64::from(limits.max_partitions) {
        return Err(exceeded("max_partitions", limits.max_partitions));
    }
    Ok(())
}

fn exceeded(limit: &'static str, value: u32) -> Error {
    Error::LimitExceeded {
        limit,
        value: u64::from(value),
    }
}
