//! The one table of all metrics: what a scrape shows and its reference page are made from it.

use flowstone_broker::{Distribution, Metrics, TopicMetrics};

use super::Look;

/// One metric.
pub(super) struct Family {
    /// Its name, with its unit last; counters get `_total` behind it.
    pub(super) name: &'static str,
    /// What it tells.
    pub(super) help: &'static str,
    pub(super) kind: Kind,
}

/// What a metric is, and where its value comes from.
pub(super) enum Kind {
    /// The version, as a label of the constant 1.
    Version,
    /// Grows only, from the start of the broker.
    Counter(fn(&Metrics) -> u64),
    /// One counter for each outcome, by the label `reason`.
    ProduceRequests,
    /// How it stands now; absent where there is nothing to tell yet.
    Gauge(fn(&Look) -> Option<f64>),
    /// One gauge for each topic, by the label `topic`.
    TopicGauge(fn(&TopicMetrics) -> u64),
    /// How values are distributed, in units of which one unit of the metric has so many.
    Histogram(fn(&Metrics) -> &Distribution, f64),
}

macro_rules! family {
    ($name:literal, $kind:expr, $help:literal) => {
        Family {
            name: $name,
            help: $help,
            kind: $kind,
        }
    };
}

fn sum(look: &Look, of: fn(&TopicMetrics) -> u64) -> Option<f64> {
    Some(look.broker.topics.iter().map(of).sum::<u64>() as f64)
}

pub(super) const FAMILIES: &[Family] = &[
    family!(
        "flowstone_build_info",
        Kind::Version,
        "1, with the broker's version as label version"
    ),
    family!(
        "flowstone_uptime_seconds",
        Kind::Gauge(|look| Some(look.uptime_seconds)),
        "Time since the broker was started"
    ),
    family!(
        "flowstone_topics",
        Kind::Gauge(|look| Some(look.broker.topics.len() as f64)),
        "Topics"
    ),
    family!(
        "flowstone_partitions",
        Kind::Gauge(|look| sum(look, |topic| topic.partitions)),
        "Partitions of all topics"
    ),
    family!(
        "flowstone_offline_partitions",
        Kind::Gauge(|look| sum(look, |topic| topic.offline_partitions)),
        "Partitions that are damaged, or could not be recovered; anything but 0 wants a look"
    ),
    family!(
        "flowstone_topic_partitions",
        Kind::TopicGauge(|topic| topic.partitions),
        "Partitions of a topic"
    ),
    family!(
        "flowstone_topic_offline_partitions",
        Kind::TopicGauge(|topic| topic.offline_partitions),
        "Partitions of a topic that are damaged, or could not be recovered"
    ),
    family!(
        "flowstone_topic_segments",
        Kind::TopicGauge(|topic| topic.segments),
        "Segments of a topic"
    ),
    family!(
        "flowstone_topic_size_bytes",
        Kind::TopicGauge(|topic| topic.size_bytes),
        "Bytes of a topic's segments that are in use"
    ),
    family!(
        "flowstone_produce_requests",
        Kind::ProduceRequests,
        "Produce requests, of calls and in streams, by how they ended: reason OK, or that of the failure"
    ),
    family!(
        "flowstone_produce_in_flight_bytes",
        Kind::Gauge(|look| Some(look.broker.in_flight_bytes as f64)),
        "What requests that are not yet appended take of limits.max_produce_bytes_in_flight"
    ),
    family!(
        "flowstone_appended_records",
        Kind::Counter(|metrics| metrics.appended_records),
        "Records that were appended and synced"
    ),
    family!(
        "flowstone_appended_bytes",
        Kind::Counter(|metrics| metrics.appended_bytes),
        "Bytes of these records as clients sent them"
    ),
    family!(
        "flowstone_duplicate_requests",
        Kind::Counter(|metrics| metrics.duplicate_requests),
        "Requests of producers that had been appended before, one for each partition"
    ),
    family!(
        "flowstone_producer_sequences",
        Kind::Gauge(|look| Some(look.broker.producer_sequences as f64)),
        "What producers take of limits.max_producer_sequences"
    ),
    family!(
        "flowstone_opened_producers",
        Kind::Gauge(|look| Some(look.broker.opened_producers as f64)),
        "Producers that were opened and are not forgotten"
    ),
    family!(
        "flowstone_group_requests",
        Kind::Histogram(|metrics| &metrics.group_requests, 1.0),
        "How many requests shared a sync, for each sync of a partition"
    ),
    family!(
        "flowstone_sync_seconds",
        Kind::Histogram(|metrics| &metrics.sync_micros, 1e6),
        "How long the write and sync of a group took, also of the broker's own logs"
    ),
    family!(
        "flowstone_read_records",
        Kind::Counter(|metrics| metrics.read_records),
        "Records that were read for clients"
    ),
    family!(
        "flowstone_read_bytes",
        Kind::Counter(|metrics| metrics.read_bytes),
        "Bytes of these records as they are stored"
    ),
    family!(
        "flowstone_subscriptions",
        Kind::Gauge(|look| Some(look.broker.subscriptions as f64)),
        "Subscribe streams that are open, and members of groups who may still come back"
    ),
    family!(
        "flowstone_groups",
        Kind::Gauge(|look| Some(look.broker.groups as f64)),
        "Consumer groups that have members"
    ),
    family!(
        "flowstone_group_members",
        Kind::Gauge(|look| Some(look.broker.group_members as f64)),
        "Members of consumer groups, also those who may still come back"
    ),
    family!(
        "flowstone_revoking_partitions",
        Kind::Gauge(|look| Some(look.broker.revoking_partitions as f64)),
        "Partitions that members of groups are to give up and still hold"
    ),
    family!(
        "flowstone_rebalances",
        Kind::Counter(|metrics| metrics.rebalances),
        "How often partitions have moved because a member of a group came or went, or a topic grew"
    ),
    family!(
        "flowstone_retention_segments",
        Kind::Counter(|metrics| metrics.retention_segments),
        "Segments that retention has removed"
    ),
    family!(
        "flowstone_retention_bytes",
        Kind::Counter(|metrics| metrics.retention_bytes),
        "Bytes of these segments"
    ),
    family!(
        "flowstone_scrub_bytes",
        Kind::Counter(|metrics| metrics.scrub_bytes),
        "Bytes that the scrub has read"
    ),
    family!(
        "flowstone_scrub_segments",
        Kind::Counter(|metrics| metrics.scrub_segments),
        "Segments that the scrub has read, to the end or to damage"
    ),
    family!(
        "flowstone_scrub_rounds",
        Kind::Counter(|metrics| metrics.scrub_rounds),
        "Rounds over all segments that the scrub has ended"
    ),
    family!(
        "flowstone_scrub_corrupt_segments",
        Kind::Counter(|metrics| metrics.scrub_damages),
        "Damaged segments that the scrub has come upon, in each round anew"
    ),
    family!(
        "flowstone_scrub_last_round_timestamp_seconds",
        Kind::Gauge(|look| {
            let ended_ms = look.broker.scrub_round_ended_ms?;
            Some(ended_ms as f64 / 1e3)
        }),
        "When the scrub's last round ended, in Unix time; absent before the first"
    ),
];
