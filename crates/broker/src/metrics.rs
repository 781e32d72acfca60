//! How the broker stands, in numbers, for those who watch it.

use std::sync::atomic::Ordering;

use crate::core::Core;
use crate::counters::Distribution;

/// What was counted since the broker was opened, and how it stands now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Metrics {
    /// Records that were appended and synced.
    pub appended_records: u64,
    /// Their bytes as clients sent them.
    pub appended_bytes: u64,
    /// Requests of producers that had been appended before, one for each partition.
    pub duplicate_requests: u64,
    /// Sequences of producers that are remembered, or for which room is taken.
    pub producer_sequences: u64,
    /// Producers that were opened and are not forgotten yet.
    pub opened_producers: u64,
    /// How many requests shared a sync.
    pub group_requests: Distribution,
    /// How long the write and sync of a group took, in microseconds.
    pub sync_micros: Distribution,
    /// Records that were read for clients.
    pub read_records: u64,
    /// Their bytes as they are stored.
    pub read_bytes: u64,
    /// Segments that retention has removed.
    pub retention_segments: u64,
    /// Their bytes.
    pub retention_bytes: u64,
    /// Bytes of sealed segments that a scrub has read.
    pub scrub_bytes: u64,
    /// Sealed segments that a scrub has read to their end, or to damage.
    pub scrub_segments: u64,
    /// Rounds of the scrub that came to their end.
    pub scrub_rounds: u64,
    /// When the last of them did, in Unix milliseconds; `None` before the first.
    pub scrub_round_ended_ms: Option<i64>,
    /// Damaged segments that a scrub has come upon, in each round anew.
    pub scrub_damages: u64,
    /// Subscriptions that are open, and members of groups who may still come back.
    pub subscriptions: u64,
    /// Groups that have members.
    pub groups: u64,
    /// Their members, also those who may still come back.
    pub group_members: u64,
    /// Partitions that members are to give up.
    pub revoking_partitions: u64,
    /// How often partitions have moved because a member came or went, or a topic grew.
    pub rebalances: u64,
    /// Bytes of produce requests on their way, with what each costs besides.
    pub in_flight_bytes: u64,
    /// Each topic, by name.
    pub topics: Vec<TopicMetrics>,
}

/// How a topic stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicMetrics {
    /// Its name.
    pub topic: String,
    /// How many partitions it has.
    pub partitions: u64,
    /// How many of them are offline.
    pub offline_partitions: u64,
    /// Their segments.
    pub segments: u64,
    /// Bytes of these that are in use.
    pub size_bytes: u64,
}

/// Looks at everything once. Takes no lock that is held while anything is written or read.
pub(crate) fn look(core: &Core) -> Metrics {
    let counters = &core.counters;
    let limits = &core.config.limits;
    let taken = |most: u32, left: usize| u64::from(most).saturating_sub(left as u64);
    let ended_ms = counters.scrub_round_ended_ms.load(Ordering::Relaxed);
    let groups = core.groups.counts();
    Metrics {
        appended_records: counters.appended_records.get(),
        appended_bytes: counters.appended_bytes.get(),
        duplicate_requests: counters.duplicate_requests.get(),
        producer_sequences: core.producer_budget.used() as u64,
        opened_producers: core.metadata.state().producer_count() as u64,
        group_requests: counters.group_requests.get(),
        sync_micros: counters.sync_micros.get(),
        read_records: counters.read_records.get(),
        read_bytes: counters.read_bytes.get(),
        retention_segments: counters.retention_segments.get(),
        retention_bytes: counters.retention_bytes.get(),
        scrub_bytes: counters.scrub_bytes.get(),
        scrub_segments: counters.scrub_segments.get(),
        scrub_rounds: counters.scrub_rounds.get(),
        scrub_round_ended_ms: (ended_ms != 0).then_some(ended_ms),
        scrub_damages: counters.scrub_damages.get(),
        subscriptions: taken(
            limits.max_subscriptions,
            core.subscriptions.available_permits(),
        ),
        groups: groups.groups,
        group_members: groups.members,
        revoking_partitions: groups.revoking,
        rebalances: groups.rebalances,
        in_flight_bytes: taken(
            limits.max_produce_bytes_in_flight,
            core.room.available_permits(),
        ),
        topics: topics(core),
    }
}

fn topics(core: &Core) -> Vec<TopicMetrics> {
    let topics = core.topics.all().into_iter().map(|topic| {
        let mut metrics = TopicMetrics {
            topic: topic.name().to_owned(),
            partitions: 0,
            offline_partitions: 0,
            segments: 0,
            size_bytes: 0,
        };
        for partition in &topic.now().partitions {
            let info = partition.info();
            metrics.partitions += 1;
            metrics.offline_partitions += u64::from(info.offline_reason.is_some());
            metrics.segments += u64::from(info.segment_count);
            metrics.size_bytes += info.size_bytes;
        }
        metrics
    });
    topics.collect()
}
