//! Appending a request of a producer once, and what may be asked of producers.

use std::sync::Arc;

use flowstone_format::{ProducerId, ProducerSequence, client_crc};

use crate::error::LogError;
use crate::log::{Appended, Batch, Log};
use crate::producers::ProducerBudget;

/// What becomes of a batch.
pub(crate) enum Verdict {
    /// It was appended before, there.
    Duplicate(Appended),
    /// It is to be appended. What its frame gets as client_crc.
    New(u32),
}

impl Log {
    /// Whether `batch` would be appended now, as far as its producer and its expected offset decide
    /// that. If it was appended before: where.
    ///
    /// # Errors
    /// As [`Log::append`], for what can be told before anything is staged.
    pub fn check(&self, batch: &Batch<'_>) -> Result<Option<Appended>, LogError> {
        self.sound()?;
        self.judge(batch).map(|verdict| match verdict {
            Verdict::Duplicate(appended) => Some(appended),
            Verdict::New(_) => None,
        })
    }

    /// First the producer, then the expected offset: a repeat of what succeeded is a duplicate.
    pub(crate) fn judge(&self, batch: &Batch<'_>) -> Result<Verdict, LogError> {
        let mut crc = 0;
        if let Some(producer) = &batch.producer {
            debug_assert!(producer.sequence >= 1, "sequences count from 1");
            crc = client_crc(batch.request, batch.runs);
            if let Some(known) = self.producers.check(producer, batch.record_count, crc)? {
                return Ok(Verdict::Duplicate(Appended {
                    base_offset: known.base_offset,
                    record_count: known.record_count,
                    append_ms: self.producers.last_append_ms(producer.id),
                    duplicate: true,
                }));
            }
        }
        let end = self.tail.next_offset;
        match batch.expected_offset {
            Some(expected) if expected != end => Err(LogError::OffsetMismatch { expected, end }),
            _ => Ok(Verdict::New(crc)),
        }
    }

    /// The highest sequence of a producer in this partition, among what is staged too.
    ///
    /// # Errors
    /// [`LogError::ProducersUnknown`], and as [`Log::append`] when the log takes nothing.
    pub fn last_sequence(&self, id: ProducerId) -> Result<Option<i64>, LogError> {
        self.sound()?;
        self.producers.known()?;
        Ok(self.producers.last_sequence(id))
    }

    /// What is remembered of one request of a producer, staged or not. Without an error, `None` says
    /// that it is not in this partition, or too old to be remembered.
    ///
    /// # Errors
    /// As [`Log::last_sequence`].
    pub fn producer_entry(
        &self,
        id: ProducerId,
        sequence: i64,
    ) -> Result<Option<ProducerSequence>, LogError> {
        self.sound()?;
        let found = self.producers.entry(id, sequence);
        if found.is_none() {
            self.producers.known()?;
        }
        Ok(found)
    }

    /// Every request that is remembered and was routed when the topic had another number of
    /// partitions than `count`: producer, sequence, and that number. In no order.
    pub fn routed_otherwise(
        &self,
        count: u32,
    ) -> impl Iterator<Item = (ProducerId, i64, u32)> + use<'_> {
        self.producers
            .sequences()
            .filter(move |(_, known)| known.routing_count != count)
            .map(|(id, known)| (id, known.sequence, known.routing_count))
    }

    /// Forgets the producers that have appended nothing for `retention_ms`. `now_ms` is the Unix
    /// time up to which ages are counted, as for [`Log::retain`]. Returns how many were forgotten.
    pub fn expire_producers(&mut self, now_ms: i64, retention_ms: i64) -> usize {
        self.producers.expire(now_ms, retention_ms)
    }

    /// What this log's producers count in.
    #[must_use]
    pub fn producer_budget(&self) -> &Arc<ProducerBudget> {
        self.producers.budget()
    }
}
