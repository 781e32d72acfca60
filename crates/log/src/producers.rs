//! What a partition remembers of its producers, so that a request that is repeated is appended once.
//! A state machine: frames go in, verdicts come out; it knows no file and no clock.

mod budget;
mod snapshot;
#[cfg(test)]
mod tests;

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;

use flowstone_format::{FrameHeader, PRODUCER_WINDOW, ProducerId, ProducerSequence};

pub use budget::ProducerBudget;

use crate::error::LogError;

/// Every producer has room for this many sequences, however full the budget is.
const MIN_WINDOW: usize = 16;
/// So many forgotten producers are told apart; after more, every new one counts as forgotten.
const MAX_FORGOTTEN: usize = 1024;

/// The producer of a batch, and its number there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProducerBatch {
    /// Who.
    pub id: ProducerId,
    /// The epoch that the request carries. The caller has fenced older ones.
    pub epoch: i32,
    /// The number of the request, at least 1.
    pub sequence: i64,
}

/// One producer in one partition.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Producer {
    /// The highest epoch in any of its frames.
    epoch: i32,
    /// When the last of its frames was appended, Unix milliseconds.
    last_append_ms: i64,
    /// The highest sequence that was dropped from the window; 0 if none was. What is not in the
    /// window and not above may have been appended, and is never appended again.
    dropped: i64,
    /// The highest sequences, ascending, at least one.
    window: VecDeque<ProducerSequence>,
}

impl Producer {
    fn find(&self, sequence: i64) -> Result<usize, usize> {
        // Almost always it is a new one behind the last.
        match self.window.back() {
            Some(last) if last.sequence < sequence => Err(self.window.len()),
            _ => self
                .window
                .binary_search_by_key(&sequence, |known| known.sequence),
        }
    }

    /// Takes a sequence into the window, whose size stays within `len`.
    fn insert(&mut self, at: usize, sequence: ProducerSequence, len: usize) {
        let mut at = at;
        if self.window.len() >= len {
            if at == 0 {
                self.dropped = self.dropped.max(sequence.sequence);
                return;
            }
            if let Some(lowest) = self.window.pop_front() {
                self.dropped = self.dropped.max(lowest.sequence);
            }
            at -= 1;
        }
        self.window.insert(at, sequence);
    }

    /// Takes room for a whole window, or drops of it what there is no room for.
    fn fit(&mut self, budget: &ProducerBudget) {
        budget.take(MIN_WINDOW);
        let more = self.window.len().saturating_sub(MIN_WINDOW);
        if more > 0 && !budget.try_take(more) {
            for lowest in self.window.drain(..more) {
                self.dropped = self.dropped.max(lowest.sequence);
            }
            self.window.shrink_to_fit();
        }
    }

    /// What it counts for in the budget.
    fn cost(&self) -> usize {
        self.window.len().max(MIN_WINDOW)
    }
}

/// All producers of a partition, as its frames tell.
#[derive(Debug, Default)]
pub(crate) struct ProducerState {
    producers: HashMap<ProducerId, Producer>,
    /// Frames up to this append time may be missing in the state, Unix milliseconds.
    lost_upto_ms: Option<i64>,
    /// Producers that have expired since the active segment began, and that its frames or its
    /// snapshot still tell of.
    forgotten: HashSet<ProducerId>,
    /// There were more of them.
    many_forgotten: bool,
    budget: Arc<ProducerBudget>,
}

impl ProducerState {
    /// Of a partition without frames.
    pub(crate) fn new(budget: &Arc<ProducerBudget>) -> Self {
        Self {
            producers: HashMap::new(),
            lost_upto_ms: None,
            forgotten: HashSet::new(),
            many_forgotten: false,
            budget: Arc::clone(budget),
        }
    }

    pub(crate) fn budget(&self) -> &Arc<ProducerBudget> {
        &self.budget
    }

    /// Whether `batch` may be appended. If it has been already, where.
    pub(crate) fn check(
        &self,
        batch: &ProducerBatch,
        record_count: u32,
        client_crc: u32,
    ) -> Result<Option<ProducerSequence>, LogError> {
        let sequence = batch.sequence;
        let producer = self.producers.get(&batch.id);
        if let Some(producer) = producer {
            match producer.find(sequence) {
                Ok(at) => {
                    let known = producer.window[at];
                    let same = known.record_count == record_count && known.client_crc == client_crc;
                    return if same {
                        Ok(Some(known))
                    } else {
                        Err(LogError::SequenceReused { sequence })
                    };
                }
                Err(_) if sequence <= producer.dropped => {
                    return Err(LogError::SequenceTooOld {
                        sequence,
                        lowest_known: producer.window.front().map_or(0, |known| known.sequence),
                    });
                }
                Err(_) => {}
            }
        }
        self.known()?;
        if producer.is_none() && !self.budget.has_room(MIN_WINDOW) {
            return Err(LogError::TooManyProducers {
                limit: self.budget.limit(),
            });
        }
        Ok(None)
    }

    /// Takes note of a frame that is part of the log now.
    pub(crate) fn apply(&mut self, header: &FrameHeader) {
        let Some((id, sequence)) = header.producer() else {
            return;
        };
        let producer = match self.producers.entry(id) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(new) => {
                self.budget.take(MIN_WINDOW);
                new.insert(Producer {
                    epoch: header.producer_epoch,
                    last_append_ms: header.append_ms,
                    ..Producer::default()
                })
            }
        };
        producer.epoch = producer.epoch.max(header.producer_epoch);
        producer.last_append_ms = producer.last_append_ms.max(header.append_ms);
        match producer.find(sequence.sequence) {
            // It had been forgotten when it was appended anew.
            Ok(at) => producer.window[at] = sequence,
            Err(at) => {
                let len = producer.window.len();
                let grows = len < MIN_WINDOW || (len < PRODUCER_WINDOW && self.budget.try_take(1));
                producer.insert(at, sequence, if grows { len + 1 } else { len });
            }
        }
    }

    /// Forgets producers whose last append is older than `retention_ms` before `now_ms`, and what
    /// was lost no longer counts once it would have been forgotten too. Returns how many went.
    pub(crate) fn expire(&mut self, now_ms: i64, retention_ms: i64) -> usize {
        let oldest_ms = now_ms.saturating_sub(retention_ms);
        let before = self.producers.len();
        let (budget, forgotten) = (&self.budget, &mut self.forgotten);
        self.producers.retain(|id, producer| {
            let stays = producer.last_append_ms >= oldest_ms;
            if !stays {
                budget.give_back(producer.cost());
                if forgotten.len() < MAX_FORGOTTEN && budget.try_take(1) {
                    forgotten.insert(*id);
                } else {
                    self.many_forgotten = true;
                }
            }
            stays
        });
        self.lost_upto_ms = self.lost_upto_ms.filter(|lost| *lost >= oldest_ms);
        if self.producers.capacity() / 4 > self.producers.len() {
            self.producers.shrink_to_fit();
        }
        before - self.producers.len()
    }

    /// Whether a producer that was forgotten appends again. What is read back of the active segment
    /// would bring back what was forgotten: a new segment has to begin first.
    pub(crate) fn returns(&self, id: ProducerId) -> bool {
        (self.many_forgotten || self.forgotten.contains(&id)) && !self.producers.contains_key(&id)
    }

    /// A new segment has begun, and its snapshot tells this state.
    pub(crate) fn segment_began(&mut self) {
        self.budget.give_back(self.forgotten.len());
        self.forgotten = HashSet::new();
        self.many_forgotten = false;
    }

    /// Frames that were appended up to this time may be missing in the state.
    pub(crate) fn lose_upto(&mut self, append_ms: i64) {
        self.lost_upto_ms = self.lost_upto_ms.max(Some(append_ms));
    }

    /// Fails if not all frames could be read that the state should tell of.
    pub(crate) fn known(&self) -> Result<(), LogError> {
        match self.lost_upto_ms {
            Some(lost_upto_ms) => Err(LogError::ProducersUnknown { lost_upto_ms }),
            None => Ok(()),
        }
    }

    /// The highest sequence of a producer.
    pub(crate) fn last_sequence(&self, id: ProducerId) -> Option<i64> {
        let producer = self.producers.get(&id)?;
        producer.window.back().map(|last| last.sequence)
    }

    /// When the last frame of a producer was appended; the least time of one that is not known.
    pub(crate) fn last_append_ms(&self, id: ProducerId) -> i64 {
        self.producers
            .get(&id)
            .map_or(i64::MIN, |producer| producer.last_append_ms)
    }

    /// What is known of one request.
    pub(crate) fn entry(&self, id: ProducerId, sequence: i64) -> Option<ProducerSequence> {
        let producer = self.producers.get(&id)?;
        let at = producer.find(sequence).ok()?;
        Some(producer.window[at])
    }

    /// Every request that is remembered, in no order.
    pub(crate) fn sequences(&self) -> impl Iterator<Item = (ProducerId, &ProducerSequence)> {
        self.producers
            .iter()
            .flat_map(|(id, producer)| producer.window.iter().map(|known| (*id, known)))
    }
}

impl Drop for ProducerState {
    fn drop(&mut self) {
        let cost: usize = self.producers.values().map(Producer::cost).sum();
        self.budget.give_back(cost + self.forgotten.len());
    }
}
