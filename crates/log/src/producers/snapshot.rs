//! The producers of a partition as they stand in a snapshot, and back.

use std::sync::Arc;

use flowstone_format::{Offset, PartitionId, ProducerEntry, ProducerSnapshot};
use uuid::Uuid;

use super::{Producer, ProducerBudget, ProducerState};

impl ProducerState {
    /// The snapshot for a segment that begins here; `None` when there is nothing to tell.
    pub(crate) fn snapshot(
        &self,
        partition: PartitionId,
        segment: Uuid,
        base_offset: Offset,
    ) -> Option<ProducerSnapshot> {
        if self.producers.is_empty() && self.lost_upto_ms.is_none() {
            return None;
        }
        let mut producers: Vec<_> = self
            .producers
            .iter()
            .map(|(id, producer)| ProducerEntry {
                id: *id,
                epoch: producer.epoch,
                last_append_ms: producer.last_append_ms,
                dropped: producer.dropped,
                sequences: producer.window.iter().copied().collect(),
            })
            .collect();
        producers.sort_unstable_by_key(|producer| producer.id);
        Some(ProducerSnapshot {
            partition,
            segment,
            base_offset,
            lost_upto_ms: self.lost_upto_ms,
            producers,
        })
    }

    /// The state that a snapshot tells. Where the budget has no room for all of it, windows are
    /// shorter.
    pub(crate) fn of_snapshot(snapshot: ProducerSnapshot, budget: &Arc<ProducerBudget>) -> Self {
        let mut state = Self::new(budget);
        state.lost_upto_ms = snapshot.lost_upto_ms;
        state.producers.reserve(snapshot.producers.len());
        for entry in snapshot.producers {
            let mut producer = Producer {
                epoch: entry.epoch,
                last_append_ms: entry.last_append_ms,
                dropped: entry.dropped,
                window: entry.sequences.into(),
            };
            producer.fit(budget);
            state.producers.insert(entry.id, producer);
        }
        state
    }
}
