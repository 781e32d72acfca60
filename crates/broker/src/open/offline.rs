//! What the internal logs of a data directory tell that no broker has open, for tools: which partition is
//! whose, and how far groups have read. Changes nothing, and makes the best of damage.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use flowstone_disk::Disk;
use flowstone_format::{FrameKind, Offset, PartitionId, RecordLimits, Records};
use flowstone_log::inspect;

use crate::internal::{Replay, StateMachine};
use crate::metadata::MetadataState;
use crate::offsets::OffsetsState;
use crate::open::{METADATA, OFFSETS};

/// What is known of a data directory's partitions.
#[derive(Debug, Default)]
pub struct Offline {
    /// The partitions of all topics, and the internal ones, by id.
    pub partitions: BTreeMap<PartitionId, OfflinePartition>,
    /// What is wrong with the internal logs, in words: what is told of topics and offsets may then be
    /// less than there was.
    pub doubts: Vec<String>,
    committed: BTreeMap<PartitionId, Offset>,
}

/// Whose a partition is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OfflinePartition {
    /// Name of the topic; of an internal log, what it holds.
    pub topic: String,
    /// The partition's number in its topic.
    pub number: u32,
    /// Whether it is one of the broker's own logs.
    pub internal: bool,
}

impl Offline {
    /// Reads the internal logs below `data_dir`. No process may have it open.
    #[must_use]
    pub fn read(disk: &Arc<dyn Disk>, data_dir: &Path) -> Self {
        let mut offline = Self::default();
        let metadata: MetadataState = offline.replay(disk, data_dir, METADATA, "metadata");
        let offsets: OffsetsState = offline.replay(disk, data_dir, OFFSETS, "offsets");
        let mut ids = BTreeMap::new();
        for topic in metadata.topics() {
            let info = topic.info();
            for (number, id) in (0..).zip(topic.partition_ids()) {
                ids.insert((info.id, number), id);
                let partition = OfflinePartition {
                    topic: info.spec.name.clone(),
                    number,
                    internal: false,
                };
                offline.partitions.insert(id, partition);
            }
        }
        for (topic, number, offset) in offsets.all() {
            if let Some(id) = ids.get(&(topic, number)) {
                let greatest = offline.committed.entry(*id).or_insert(Offset::ZERO);
                *greatest = Offset::new(offset).max(*greatest);
            }
        }
        offline
    }

    /// The greatest offset that any group has committed in a partition.
    #[must_use]
    pub fn committed(&self, partition: PartitionId) -> Offset {
        self.committed
            .get(&partition)
            .copied()
            .unwrap_or(Offset::ZERO)
    }

    /// The id of a topic's partition.
    #[must_use]
    pub fn find(&self, topic: &str, number: u32) -> Option<PartitionId> {
        self.partitions
            .iter()
            .find(|(_, one)| !one.internal && one.topic == topic && one.number == number)
            .map(|(id, _)| *id)
    }

    fn replay<S: StateMachine>(
        &mut self,
        disk: &Arc<dyn Disk>,
        data_dir: &Path,
        id: PartitionId,
        name: &str,
    ) -> S {
        let own = OfflinePartition {
            topic: name.to_owned(),
            number: 0,
            internal: true,
        };
        self.partitions.insert(id, own);
        let mut replay = Replay::<S>::new(u64::MAX);
        let mut expected = None;
        let mut refused = None;
        let report = inspect::inspect_payloads(disk, data_dir, id, |_, frame, payload| {
            if frame.header.kind != FrameKind::Data || refused.is_some() {
                return;
            }
            for record in Records::new(payload, &RecordLimits::NONE) {
                let Ok((_, record)) = record else { return };
                let offset = record.offset.unwrap_or_default();
                // What was trimmed before the first one is stood for by a snapshot.
                replay.lose(expected.unwrap_or(offset)..offset);
                expected = Some(offset + 1);
                if let Err(error) = replay.take(offset, record.value.unwrap_or_default()) {
                    refused = Some(error.to_string());
                    return;
                }
            }
        });
        let damage = match report {
            Ok(report) => report.damages.first().map(ToString::to_string),
            Err(error) => Some(error.to_string()),
        };
        let lost = replay
            .loss
            .as_ref()
            .map(|loss| format!("records {loss} are lost"));
        if let Some(doubt) = damage.or(refused).or(lost) {
            self.doubts.push(format!("the log of {name}: {doubt}"));
        }
        replay.state
    }
}
