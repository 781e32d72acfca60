//! What is known of one partition.

use std::collections::{BTreeMap, HashMap};

use flowstone_proto::v1::Record;

use super::{Call, Digest};

/// A partition that may be trimmed.
#[derive(Clone, Debug, Default)]
pub(super) struct Partition {
    /// From the start on.
    pub(super) acknowledged: BTreeMap<i64, Call>,
    /// Those that a power cut may take.
    pub(super) written: BTreeMap<i64, Call>,
    /// From the start on.
    pub(super) seen: BTreeMap<i64, Seen>,
    /// The greatest end that was ever told.
    pub(super) end: i64,
    /// The greatest start that was ever told.
    pub(super) start: i64,
    /// The greatest offset that a trim has named.
    pub(super) trim_asked: i64,
    /// How far those have come that read on, and each producer's last record there.
    pub(super) read_up_to: i64,
    pub(super) latest: HashMap<u32, Call>,
}

/// A record as it was read somewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Seen {
    digest: Digest,
    timestamp_ms: i64,
    pub(super) call: Option<Call>,
}

impl Seen {
    pub(super) fn of(record: &Record, call: Option<Call>) -> Self {
        Self {
            digest: Digest::of(record),
            timestamp_ms: record.timestamp_ms,
            call,
        }
    }
}

impl Partition {
    /// Keeps nothing of what is trimmed.
    pub(super) fn forget_before(&mut self, start: i64) {
        self.start = self.start.max(start);
        self.acknowledged = self.acknowledged.split_off(&self.start);
        self.seen = self.seen.split_off(&self.start);
    }
}
