//! What a topic is from outside: how it is set up, and how it stands.

use std::collections::BTreeMap;

use uuid::Uuid;

use crate::Acks;

/// How a topic is set up.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TopicSpec {
    /// 1 to 249 of `A-Z a-z 0-9 . _ -`, but not `.` or `..`.
    pub name: String,
    /// How many partitions; 0 stands for 1.
    pub partition_count: u32,
    /// Records are removed, by whole segments, this long after they were appended. `None`: never.
    pub retention_ms: Option<i64>,
    /// How many bytes a partition keeps; see `overflow`. `None`: no limit.
    pub retention_bytes: Option<u64>,
    /// Capacity of a segment. `None`: the broker's default, or an eighth of `retention_bytes` if that is less (but
    /// room for one request).
    pub segment_bytes: Option<u64>,
    /// Size of one record. `None`: the broker's default.
    pub max_record_bytes: Option<u32>,
    /// When a produce call that does not say is answered. `None`: [`Acks::Durable`].
    pub default_acks: Option<Acks>,
    /// What happens at `retention_bytes`.
    pub overflow: Overflow,
    /// For the user's own use.
    pub labels: BTreeMap<String, String>,
}

impl TopicSpec {
    /// A topic with the broker's defaults.
    pub fn new(name: impl Into<String>, partition_count: u32) -> Self {
        Self {
            name: name.into(),
            partition_count,
            ..Self::default()
        }
    }

    /// From how many bytes of a partition on records are refused; `None`: never.
    pub(crate) fn full_bytes(&self) -> Option<u64> {
        self.retention_bytes
            .filter(|_| self.overflow == Overflow::Reject)
    }
}

/// What happens in a partition that holds `retention_bytes`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Overflow {
    /// The oldest segments go while the rest holds as much.
    #[default]
    Trim,
    /// Records are refused until there is room: by segments that every group with offsets in the
    /// topic has committed past, by a trim, or by age.
    Reject,
}

/// A topic that exists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicInfo {
    /// How it is set up. `partition_count` is the real one.
    pub spec: TopicSpec,
    /// Another one after delete and create.
    pub id: Uuid,
    /// When it was made, in Unix milliseconds.
    pub created_ms: i64,
}

/// What to change of a topic: fields that are `None` stay as they are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TopicChange {
    /// More partitions; never fewer.
    pub partition_count: Option<u32>,
    /// See [`TopicSpec::retention_ms`].
    pub retention_ms: Option<Option<i64>>,
    /// See [`TopicSpec::retention_bytes`].
    pub retention_bytes: Option<Option<u64>>,
    /// See [`TopicSpec::segment_bytes`]. Takes effect with the next segment.
    pub segment_bytes: Option<Option<u64>>,
    /// See [`TopicSpec::max_record_bytes`].
    pub max_record_bytes: Option<Option<u32>>,
    /// See [`TopicSpec::default_acks`].
    pub default_acks: Option<Option<Acks>>,
    /// See [`TopicSpec::overflow`].
    pub overflow: Option<Overflow>,
    /// All labels, in place of those there are.
    pub labels: Option<BTreeMap<String, String>>,
}

/// How a partition stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionInfo {
    /// Its number in the topic.
    pub partition: u32,
    /// The first offset there is.
    pub log_start_offset: u64,
    /// The end of what may be read, exclusive.
    pub high_watermark: u64,
    /// Bytes of all its segments that are in use.
    pub size_bytes: u64,
    /// How many segments.
    pub segment_count: u32,
    /// Why it refuses appends, and reads from some offset on: damage, or a failed write that it
    /// could not be recovered from. `None` while it is online.
    pub offline_reason: Option<String>,
}
