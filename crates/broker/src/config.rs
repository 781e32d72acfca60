//! What a broker is opened with: where its data lies, its threads, and its limits.

mod open;

use std::fmt;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::sync::Arc;

use flowstone_format::MAX_PAYLOAD_LEN;
use uuid::Uuid;

pub use self::open::OpenLimits;
use crate::OpenError;
use crate::metadata::{MAX_SEGMENT_BYTES, max_payload_bytes, min_segment_bytes};
use crate::produce::REQUEST_OVERHEAD_BYTES;

/// What is called, once, after a sync has failed and its waiters have heard that the outcome is
/// unknown. The argument is the reason.
pub type OnFatal = Arc<dyn Fn(&str) + Send + Sync>;

/// How a [`Broker`](crate::Broker) is opened.
#[derive(Clone)]
pub struct BrokerConfig {
    /// The data directory, made if it is missing.
    pub data_dir: PathBuf,
    /// What clients may ask for.
    pub limits: Limits,
    /// Threads that append and sync. With 0 the broker has no thread at all, and only
    /// [`run_pending`](crate::Broker::run_pending) does its work.
    pub append_threads: usize,
    /// Threads that read. With 0, or without append threads, reads run on the caller's thread.
    pub read_threads: usize,
    /// Capacity of a segment where the topic names none.
    pub default_segment_bytes: u64,
    /// Refuse a data directory of another cluster.
    pub expected_cluster_id: Option<Uuid>,
    /// The durable floors are synced once nothing was committed for this long.
    pub floor_idle_ms: u64,
    /// How often the retention of topics is applied.
    pub retention_interval_ms: u64,
    /// How fast sealed segments are read to look for rot. With 0 nothing looks.
    pub scrub_bytes_per_second: u64,
    /// How often all of them are read at most.
    pub scrub_interval_ms: u64,
    /// A producer that has appended nothing for this long is forgotten, partition by partition.
    pub producer_retention_ms: u64,
    /// One of the broker's own logs gets a snapshot, and loses what that stands for, once it has
    /// grown by this much, with its frames, and by twice its last snapshot.
    pub snapshot_interval_bytes: u64,
    /// Space that is kept for the broker's own logs, so that on a full disk offsets can be committed
    /// and topics trimmed and deleted; 0 for none.
    pub disk_reserve_bytes: u64,
    /// How long members of groups may take.
    pub groups: GroupConfig,
    /// What stays open of segments.
    pub open: OpenLimits,
    /// What to do after a failed sync. The default writes the reason to stderr and aborts the
    /// process; nothing may be read from or written to the data directory in this process after it.
    pub on_fatal: OnFatal,
}

/// How long members of groups may take, and groups without any are kept, in milliseconds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupConfig {
    /// For how long a member that does not say may hold uncommitted records without a call to commit.
    pub processing_timeout_ms: u64,
    /// How long a member has to commit or release a partition that is revoked.
    pub revoke_timeout_ms: u64,
    /// For how long a member with a name keeps its partitions after its stream has ended.
    pub member_reconnect_timeout_ms: u64,
    /// A group that nobody was in and that committed nothing for this long is forgotten; with 0 none
    /// is. Counted anew from each start.
    pub offsets_retention_ms: u64,
}

/// What one client, or all of them together, may ask for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Size of one record, where the topic names no other.
    pub max_record_bytes: u32,
    /// Size of the records of one request.
    pub max_request_bytes: u32,
    /// Records of one request.
    pub max_records_per_request: u32,
    /// Size of a response where the request names none.
    pub default_response_bytes: u32,
    /// Largest response that a request may ask for. One record always fits.
    pub max_response_bytes: u32,
    /// Records of all produce requests that are not yet appended, with 1 KiB added for each request.
    pub max_produce_bytes_in_flight: u32,
    /// Topics of the broker.
    pub max_topics: u32,
    /// Partitions of one topic.
    pub max_partitions_per_topic: u32,
    /// Partitions of all topics.
    pub max_partitions: u32,
    /// Smallest segment that a topic may ask for. A segment holds the largest request in any case.
    pub min_segment_bytes: u64,
    /// Labels of one topic.
    pub max_labels_per_topic: u32,
    /// Committed offsets of all groups, one for each group and partition.
    pub max_committed_offsets: u32,
    /// Cursors of one commit.
    pub max_cursors_per_commit: u32,
    /// Subscriptions at a time.
    pub max_subscriptions: u32,
    /// Sequences of producers that all partitions together remember. New producers are refused
    /// when it is reached; those there are go on with a smaller window.
    pub max_producer_sequences: u32,
    /// Producers of all topics that were opened and are not forgotten yet.
    pub max_opened_producers: u32,
}

impl BrokerConfig {
    /// The defaults, for this data directory.
    pub fn new(data_dir: impl Into<PathBuf>) -> Self {
        Self {
            data_dir: data_dir.into(),
            limits: Limits::default(),
            append_threads: 4,
            read_threads: 4,
            default_segment_bytes: 1 << 30,
            expected_cluster_id: None,
            floor_idle_ms: 100,
            retention_interval_ms: 30_000,
            scrub_bytes_per_second: 16 << 20,
            scrub_interval_ms: 24 * 3_600_000,
            producer_retention_ms: 24 * 3_600_000,
            snapshot_interval_bytes: 4 << 20,
            disk_reserve_bytes: 16 << 20,
            groups: GroupConfig::default(),
            open: OpenLimits::of_this_process(),
            on_fatal: Arc::new(|reason| {
                eprintln!("flowstone: {reason}");
                std::process::abort();
            }),
        }
    }

    /// Tells the first setting that is out of its range.
    pub fn validate(&self) -> Result<(), OpenError> {
        self.limits.validate()?;
        let least = min_segment_bytes(&self.limits);
        check(
            "default_segment_bytes",
            self.default_segment_bytes,
            least..=MAX_SEGMENT_BYTES,
        )?;
        check("floor_idle_ms", self.floor_idle_ms, 1..=60_000)?;
        check(
            "retention_interval_ms",
            self.retention_interval_ms,
            1..=86_400_000,
        )?;
        check(
            "scrub_bytes_per_second",
            self.scrub_bytes_per_second,
            0..=64 << 30,
        )?;
        check(
            "scrub_interval_ms",
            self.scrub_interval_ms,
            1..=365 * 86_400_000,
        )?;
        check(
            "producer_retention_ms",
            self.producer_retention_ms,
            1_000..=365 * 86_400_000,
        )?;
        check(
            "snapshot_interval_bytes",
            self.snapshot_interval_bytes,
            4096..=1 << 30,
        )?;
        check("disk_reserve_bytes", self.disk_reserve_bytes, 0..=16 << 30)?;
        self.groups.validate()?;
        check("append_threads", self.append_threads as u64, 0..=1024)?;
        check("read_threads", self.read_threads as u64, 0..=1024)
    }
}

fn check(
    field: &'static str,
    value: impl Into<u64>,
    range: RangeInclusive<u64>,
) -> Result<(), OpenError> {
    let value = value.into();
    if range.contains(&value) {
        return Ok(());
    }
    Err(OpenError::InvalidConfig {
        field,
        detail: format!(
            "{value} is not between {} and {}",
            range.start(),
            range.end()
        ),
    })
}

impl fmt::Debug for BrokerConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BrokerConfig")
            .field("data_dir", &self.data_dir)
            .field("limits", &self.limits)
            .field("append_threads", &self.append_threads)
            .field("read_threads", &self.read_threads)
            .field("default_segment_bytes", &self.default_segment_bytes)
            .field("expected_cluster_id", &self.expected_cluster_id)
            .field("floor_idle_ms", &self.floor_idle_ms)
            .field("retention_interval_ms", &self.retention_interval_ms)
            .field("scrub_bytes_per_second", &self.scrub_bytes_per_second)
            .field("scrub_interval_ms", &self.scrub_interval_ms)
            .field("producer_retention_ms", &self.producer_retention_ms)
            .field("snapshot_interval_bytes", &self.snapshot_interval_bytes)
            .field("disk_reserve_bytes", &self.disk_reserve_bytes)
            .field("groups", &self.groups)
            .field("open", &self.open)
            .finish_non_exhaustive()
    }
}

impl Default for GroupConfig {
    fn default() -> Self {
        Self {
            processing_timeout_ms: 5 * 60_000,
            revoke_timeout_ms: 30_000,
            member_reconnect_timeout_ms: 10_000,
            offsets_retention_ms: 0,
        }
    }
}

impl GroupConfig {
    /// What a member may ask for as its processing timeout, in milliseconds.
    pub const PROCESSING_TIMEOUT_MS: RangeInclusive<u64> = 100..=24 * 3_600_000;

    /// Tells the first setting that is out of its range.
    pub fn validate(&self) -> Result<(), OpenError> {
        check(
            "processing_timeout_ms",
            self.processing_timeout_ms,
            Self::PROCESSING_TIMEOUT_MS,
        )?;
        let range = 0..=3_600_000;
        check("revoke_timeout_ms", self.revoke_timeout_ms, range.clone())?;
        check(
            "member_reconnect_timeout_ms",
            self.member_reconnect_timeout_ms,
            range,
        )?;
        check(
            "offsets_retention_ms",
            self.offsets_retention_ms,
            0..=100 * 365 * 86_400_000,
        )
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_record_bytes: 1 << 20,
            max_request_bytes: 3 << 20,
            max_records_per_request: 65_536,
            default_response_bytes: 1 << 20,
            max_response_bytes: (4 << 20) - (64 << 10),
            max_produce_bytes_in_flight: 64 << 20,
            max_topics: 10_000,
            max_partitions_per_topic: 10_000,
            max_partitions: 100_000,
            min_segment_bytes: 1 << 20,
            max_labels_per_topic: 64,
            max_committed_offsets: 1_000_000,
            max_cursors_per_commit: 10_000,
            max_subscriptions: 10_000,
            max_producer_sequences: 4 << 20,
            max_opened_producers: 100_000,
        }
    }
}

impl Limits {
    /// Tells the first limit that is out of its range.
    pub fn validate(&self) -> Result<(), OpenError> {
        let request = u64::from(self.max_request_bytes);
        check(
            "max_request_bytes",
            self.max_request_bytes,
            1..=u64::from(MAX_PAYLOAD_LEN),
        )?;
        check("max_record_bytes", self.max_record_bytes, 1..=request)?;
        check(
            "max_records_per_request",
            self.max_records_per_request,
            1..=65_536,
        )?;
        if max_payload_bytes(self) > u64::from(MAX_PAYLOAD_LEN) {
            return Err(OpenError::InvalidConfig {
                field: "max_request_bytes",
                detail: format!(
                    "a request of {request} bytes and {} records could take more than the \
                     {MAX_PAYLOAD_LEN} bytes that a batch may have on disk",
                    self.max_records_per_request
                ),
            });
        }
        check("max_response_bytes", self.max_response_bytes, 1..=1 << 30)?;
        let response = u64::from(self.max_response_bytes);
        check(
            "default_response_bytes",
            self.default_response_bytes,
            1..=response,
        )?;
        let in_flight = self.max_produce_bytes_in_flight;
        let most = u64::from(u32::MAX);
        let least = request + REQUEST_OVERHEAD_BYTES as u64;
        check("max_produce_bytes_in_flight", in_flight, least..=most)?;
        check("max_topics", self.max_topics, 1..=most)?;
        check("max_partitions", self.max_partitions, 1..=most)?;
        let partitions = u64::from(self.max_partitions);
        check(
            "max_partitions_per_topic",
            self.max_partitions_per_topic,
            1..=partitions,
        )?;
        check(
            "max_cursors_per_commit",
            self.max_cursors_per_commit,
            1..=100_000,
        )?;
        check("max_subscriptions", self.max_subscriptions, 1..=most)?;
        check(
            "max_producer_sequences",
            self.max_producer_sequences,
            1_024..=most,
        )?;
        check("max_opened_producers", self.max_opened_producers, 1..=most)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_valid() {
        assert_eq!(BrokerConfig::new("data").validate(), Ok(()));
    }

    #[test]
    fn a_request_that_no_batch_could_hold_is_refused_by_name() {
        let mut config = BrokerConfig::new("data");
        config.limits.max_request_bytes = 8 << 20;
        let Err(OpenError::InvalidConfig { field, .. }) = config.validate() else {
            panic!("8 MiB and what the broker adds are more than 8 MiB");
        };
        assert_eq!(field, "max_request_bytes");
    }
}
