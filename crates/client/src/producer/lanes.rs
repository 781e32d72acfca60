//! The batches that records are added to: one, or, while more records come than the broker takes, one for each
//! group of partitions.
//!
//! A request with keys brings records for many partitions, and each partition of it is a frame of its own in the log. With a
//! thousand partitions a request of 256 KiB holds a record for each of some 230. Frames of one record cost the broker
//! several times as much as the same records in frames of many. So when senders wait anyway, records are
//! sorted by their partitions: what is in one lane goes to few of them.

use std::time::Duration;

use tokio::time::Instant;

use super::batch::OpenBatch;
use super::partitioner::partition_of;

/// With fewer partitions a request brings enough for each, and there is one lane.
const PARTITIONS_MIN: u32 = 32;
/// So many partitions at least share a lane.
const LANE_PARTITIONS_MIN: u32 = 4;
/// More lanes would hold too much of the room for unanswered records, and of the processor's cache.
const LANES_MAX: u32 = 64;
/// How large a request of a lane grows unless told: it is for more than one partition, and each part of it is a frame.
pub(super) const SPREAD_BATCH_BYTES: usize = 1 << 20;
/// Lanes are used for so long after a record had to wait for room.
const CROWDED_FOR: Duration = Duration::from_millis(50);
/// So long a record waits in a lane that does not fill meanwhile.
const LANE_LINGER: Duration = Duration::from_millis(200);

/// The batches that are open.
#[derive(Debug)]
pub(super) struct Lanes {
    partition_count: u32,
    lane_count: u32,
    /// By lane. Records of a partition are always in the same one as long as anything is open.
    open: Vec<Option<OpenBatch>>,
    /// Whether all lanes are in use, or only the first.
    spread: bool,
    crowded_until: Option<Instant>,
}

impl Lanes {
    /// For a topic with so many partitions to choose from by key.
    pub(super) fn new(partition_count: u32) -> Self {
        let lane_count = match partition_count {
            ..PARTITIONS_MIN => 1,
            count => (count / LANE_PARTITIONS_MIN).min(LANES_MAX),
        };
        Self {
            partition_count,
            lane_count,
            open: (0..lane_count).map(|_| None).collect(),
            spread: false,
            crowded_until: None,
        }
    }

    /// The lane of a record with such a key.
    #[inline]
    pub(super) fn lane(&mut self, key: Option<&[u8]>) -> usize {
        match self.lane_count {
            1 => 0,
            _ => self.lane_of_many(key),
        }
    }

    fn lane_of_many(&mut self, key: Option<&[u8]>) -> usize {
        if self.is_empty() {
            self.spread = self.is_crowded(Instant::now());
        }
        match key {
            Some(key) if self.spread => {
                let partition = u64::from(partition_of(key, self.partition_count));
                (partition * u64::from(self.lane_count) / u64::from(self.partition_count)) as usize
            }
            _ => 0,
        }
    }

    /// Whether records are being sorted.
    pub(super) fn is_spread(&self) -> bool {
        self.spread
    }

    /// How many lanes there are.
    pub(super) fn count(&self) -> usize {
        self.open.len()
    }

    /// The open batch of a lane.
    pub(super) fn batch(&mut self, lane: usize) -> &mut Option<OpenBatch> {
        &mut self.open[lane]
    }

    /// The open batch of the only lane there is.
    #[inline]
    pub(super) fn only_batch(&mut self) -> Option<&mut OpenBatch> {
        match &mut self.open[..] {
            [only] => only.as_mut(),
            _ => None,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.open.iter().all(Option::is_none)
    }

    /// Bytes of all that is open.
    pub(super) fn len(&self) -> usize {
        self.open.iter().flatten().map(OpenBatch::len).sum()
    }

    /// Takes note that a record waits for room.
    pub(super) fn crowd(&mut self) {
        self.crowded_until = Some(Instant::now() + CROWDED_FOR);
    }

    /// The lane that is sent to make room, unless `enough` is on its way.
    pub(super) fn to_make_room(&self, enough: bool) -> Option<usize> {
        match self.spread {
            true if enough => None,
            _ => self.fullest(),
        }
    }

    /// The lanes that are to be sent now, full or not.
    pub(super) fn due(&self, idle: bool, linger: Duration) -> Vec<usize> {
        let now = Instant::now();
        let crowded = self.spread && self.is_crowded(now);
        if crowded && idle {
            return self.fullest().into_iter().collect();
        }
        let linger = if crowded {
            linger.max(LANE_LINGER)
        } else {
            linger
        };
        let is_due = |open: &OpenBatch| open.since() + linger <= now;
        let due = |lane: &usize| self.open[*lane].as_ref().is_some_and(is_due);
        let lanes = 0..self.open.len();
        if crowded {
            return lanes.filter(due).collect();
        }
        // All of them, so that from now on one is enough.
        let any = idle || lanes.clone().any(|lane| due(&lane));
        lanes.filter(|_| any).collect()
    }

    /// When something will be due that is not yet.
    pub(super) fn due_at(&self, linger: Duration) -> Option<Instant> {
        let oldest = self.open.iter().flatten().map(OpenBatch::since).min()?;
        let alone = oldest + linger;
        match self.crowded_until {
            Some(until) if self.spread => {
                Some((oldest + linger.max(LANE_LINGER)).min(until.max(alone)))
            }
            _ => Some(alone),
        }
    }

    fn fullest(&self) -> Option<usize> {
        let len = |lane: &usize| self.open[*lane].as_ref().map(OpenBatch::len);
        let open = (0..self.open.len()).filter(|lane| self.open[*lane].is_some());
        open.max_by_key(len)
    }

    fn is_crowded(&self, now: Instant) -> bool {
        self.crowded_until.is_some_and(|until| now < until)
    }
}

#[cfg(test)]
mod tests {
    use flowstone_proto::v1 as proto;

    use super::super::codec::Entry;
    use super::*;

    const NO_LINGER: Duration = Duration::ZERO;

    /// Puts a record with this key where it belongs.
    fn push(lanes: &mut Lanes, key: &str) -> usize {
        let record = proto::Record {
            key: Some(key.to_owned().into()),
            ..proto::Record::default()
        };
        let lane = lanes.lane(record.key.as_deref());
        let batch = lanes.batch(lane);
        let batch = batch.get_or_insert_with(|| OpenBatch::new(100));
        batch.push(&Entry::new(&record), 10);
        lane
    }

    /// Ten keys, each ten times.
    fn fill(lanes: &mut Lanes) -> Vec<usize> {
        let keys = (0..100).map(|n| format!("key {}", n % 10));
        keys.map(|key| push(lanes, &key)).collect()
    }

    #[test]
    fn a_crowd_is_spread_once_nothing_is_open() {
        let mut lanes = Lanes::new(1000);
        assert!(fill(&mut lanes).iter().all(|&lane| lane == 0));
        lanes.crowd();
        let open = fill(&mut lanes);
        assert!(
            open.iter().all(|&lane| lane == 0),
            "what is open comes first"
        );
        *lanes.batch(0) = None;
        let spread = fill(&mut lanes);
        assert!(spread.iter().any(|&lane| lane != spread[0]));
        for key in 0..10 {
            let of_key = || spread.iter().skip(key).step_by(10);
            assert!(of_key().all(|lane| Some(lane) == of_key().next()));
        }
    }

    #[test]
    fn there_are_as_many_lanes_as_have_use_and_room() {
        let count = |partitions| Lanes::new(partitions).count();
        assert_eq!((count(31), count(32)), (1, 8));
        assert_eq!((count(255), count(100_000)), (63, 64));
    }

    #[test]
    fn few_partitions_and_records_without_keys_need_no_lanes() {
        let mut lanes = Lanes::new(31);
        lanes.crowd();
        assert!(fill(&mut lanes).iter().all(|&lane| lane == 0));
        let mut lanes = Lanes::new(1000);
        lanes.crowd();
        assert!((0..10).all(|_| lanes.lane(None) == 0));
    }

    #[test]
    fn in_a_crowd_lanes_wait_until_they_are_full_or_nothing_is_on_its_way() {
        let mut lanes = Lanes::new(1000);
        lanes.crowd();
        fill(&mut lanes);
        let fullest = push(&mut lanes, "key 1");
        assert!(lanes.due(false, NO_LINGER).is_empty());
        assert_eq!(lanes.due(true, NO_LINGER), [fullest]);
        assert_eq!(lanes.to_make_room(true), None);
        assert_eq!(lanes.to_make_room(false), Some(fullest));

        lanes.crowded_until = Some(Instant::now());
        let due = lanes.due(false, NO_LINGER);
        assert_eq!(due.len(), lanes.count(), "all once the crowd is gone");
    }
}
