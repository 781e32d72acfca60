//! What a producer and the task that drives its stream share.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use flowstone_proto::v1 as proto;
use tokio::sync::{Notify, Semaphore, watch};
use tokio::time::Instant;
use tonic::Code;

use super::batch::{Batch, Delivery, OpenBatch, Placement, producer_ended};
use crate::{Error, Result, reason};

/// How large things may grow.
#[derive(Debug)]
pub(super) struct Bounds {
    /// Of one encoded record.
    pub(super) record_bytes_max: usize,
    /// Of all records of one request, with their lengths.
    pub(super) run_bytes_max: usize,
    /// At which a batch is sent.
    pub(super) batch_bytes: usize,
    /// At which a batch is sent, too.
    pub(super) batch_records: u32,
    pub(super) linger: Duration,
}

/// How many records and bytes of encoded records ended how.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ProducerTotals {
    /// Records that the broker acknowledged.
    pub acknowledged_records: u64,
    /// Their size, encoded.
    pub acknowledged_bytes: u64,
    /// Records that were refused or given up, and surely are not in the log.
    pub failed_records: u64,
    /// Records that may or may not be in the log.
    pub unknown_records: u64,
}

#[derive(Debug, Default)]
struct State {
    open: Option<OpenBatch>,
    /// Full batches, oldest first.
    ready: VecDeque<Batch>,
    /// How many batches were ever begun.
    begun: u64,
    closed: bool,
    ended: bool,
    /// How many records are in batches that were sealed, and came before this producer began.
    before: i64,
    /// Batches tend to be as large as the one before; so is their first allocation.
    capacity: usize,
    first_error: Option<Error>,
}

/// Batches that wait to be sent, in order, and the accounts of those that were answered.
#[derive(Debug)]
pub(super) struct Queue {
    bounds: Bounds,
    state: Mutex<State>,
    /// Tells the driver that there is something to look at.
    wake: Notify,
    /// A permit for each byte that may still be taken.
    room: Semaphore,
    room_bytes: usize,
    /// How many batches were answered. They are answered in the order in which they were begun.
    answered: watch::Sender<u64>,
    has_failed: AtomicBool,
    acknowledged_records: AtomicU64,
    acknowledged_bytes: AtomicU64,
    failed_records: AtomicU64,
    unknown_records: AtomicU64,
}

impl Queue {
    /// The first record is counted as the one behind `before` others.
    pub(super) fn new(bounds: Bounds, in_flight_bytes: usize, before: i64) -> Self {
        let room_bytes = in_flight_bytes.clamp(1, u32::MAX as usize);
        Self {
            bounds,
            state: Mutex::new(State {
                before,
                ..State::default()
            }),
            wake: Notify::new(),
            room: Semaphore::new(room_bytes),
            room_bytes,
            answered: watch::Sender::new(0),
            has_failed: AtomicBool::new(false),
            acknowledged_records: AtomicU64::new(0),
            acknowledged_bytes: AtomicU64::new(0),
            failed_records: AtomicU64::new(0),
            unknown_records: AtomicU64::new(0),
        }
    }

    pub(super) fn bounds(&self) -> &Bounds {
        &self.bounds
    }

    /// Waits for room for that many bytes and answers with the permits that it took: all there
    /// are for a record that is larger. Cancelling it takes nothing.
    pub(super) async fn reserve(&self, bytes: usize) -> Result<usize> {
        let permits = bytes.min(self.room_bytes);
        let wanted = u32::try_from(permits).expect("there are no more permits than that");
        if let Ok(permit) = self.room.try_acquire_many(wanted) {
            permit.forget();
            return Ok(permits);
        }
        // What is collected so far must go out, or the room that it takes is never given back.
        self.seal();
        let permit = self
            .room
            .acquire_many(wanted)
            .await
            .map_err(|_| not_sent())?;
        permit.forget();
        Ok(permits)
    }

    /// Adds a record for which there is room.
    pub(super) fn push(
        &self,
        record: &proto::Record,
        entry_bytes: usize,
        permits: usize,
    ) -> Result<Delivery> {
        let mut state = self.lock();
        if state.ended {
            return Err(not_sent());
        }
        let full = |open: &OpenBatch, more: usize| {
            open.len() + more > self.bounds.batch_bytes
                || open.record_count() >= self.bounds.batch_records
        };
        let mut wake = false;
        if state
            .open
            .as_ref()
            .is_some_and(|open| full(open, entry_bytes))
        {
            state.seal();
            wake = true;
        }
        let open = match &mut state.open {
            Some(open) => open,
            None => {
                wake = true;
                state.begun += 1;
                let capacity = state.capacity.max(entry_bytes);
                state.open.insert(OpenBatch::new(capacity))
            }
        };
        let delivery = open.push(record, permits);
        if full(open, 1) {
            state.seal();
            wake = true;
        }
        drop(state);
        if wake {
            self.wake.notify_one();
        }
        Ok(delivery)
    }

    /// Makes what is collected ready to be sent.
    fn seal(&self) {
        self.lock().seal();
        self.wake.notify_one();
    }

    pub(super) async fn flush(&self) -> Result<()> {
        let target = {
            let mut state = self.lock();
            state.seal();
            state.begun
        };
        self.wake.notify_one();
        let mut answered = self.answered.subscribe();
        // The sender lives in `self`, so waiting cannot fail.
        let _ = answered.wait_for(|&answered| answered >= target).await;
        let mut state = self.lock();
        self.has_failed.store(false, Ordering::Relaxed);
        state.first_error.take().map_or(Ok(()), Err)
    }

    /// No more records come; the driver ends when all are answered.
    pub(super) fn close(&self) {
        let mut state = self.lock();
        state.seal();
        state.closed = true;
        drop(state);
        self.wake.notify_one();
    }

    /// The next batch to send: a full one, or one that has lingered, or when `idle` whatever
    /// there is.
    pub(super) fn take(&self, idle: bool) -> Option<Batch> {
        let mut state = self.lock();
        if let Some(batch) = state.ready.pop_front() {
            return Some(batch);
        }
        let due = |open: &OpenBatch| idle || open.since() + self.bounds.linger <= Instant::now();
        if state.open.as_ref().is_some_and(due) {
            state.seal();
        }
        state.ready.pop_front()
    }

    /// When the batch that is collected now will have lingered.
    pub(super) fn linger_until(&self) -> Option<Instant> {
        let state = self.lock();
        let open = state.open.as_ref()?;
        Some(open.since() + self.bounds.linger)
    }

    /// Whether there is nothing to send, now or ever.
    pub(super) fn is_finished(&self) -> bool {
        let state = self.lock();
        state.closed && state.open.is_none() && state.ready.is_empty()
    }

    /// Returns after `push`, `flush` or `close` had something for the driver.
    pub(super) async fn woken(&self) {
        self.wake.notified().await;
    }

    /// Answers a batch and keeps the accounts.
    pub(super) fn answer(&self, batch: Batch, answer: Result<Placement>) {
        let records = u64::from(batch.record_count);
        let bytes = batch.run.len();
        let permits = batch.permits;
        match &answer {
            Ok(_) => {
                self.acknowledged_records
                    .fetch_add(records, Ordering::Relaxed);
                self.acknowledged_bytes
                    .fetch_add(bytes as u64, Ordering::Relaxed);
            }
            Err(error) => {
                let account = if error.is(reason::OUTCOME_UNKNOWN) {
                    &self.unknown_records
                } else {
                    &self.failed_records
                };
                account.fetch_add(records, Ordering::Relaxed);
                self.lock().first_error.get_or_insert_with(|| error.clone());
                self.has_failed.store(true, Ordering::Relaxed);
            }
        }
        batch.resolve(answer.map(Arc::new));
        self.room.add_permits(permits);
        self.answered.send_modify(|answered| *answered += 1);
    }

    /// The driver has ended: nothing that is still here will ever be answered.
    pub(super) fn end(&self, unanswered: impl Iterator<Item = Batch>) {
        let left = {
            let mut state = self.lock();
            state.ended = true;
            state.seal();
            std::mem::take(&mut state.ready)
        };
        for batch in unanswered.chain(left) {
            let error = if batch.perhaps_appended {
                producer_ended()
            } else {
                not_sent()
            };
            self.answer(batch, Err(error));
        }
        self.room.close();
    }

    pub(super) fn failure(&self) -> Option<Error> {
        if !self.has_failed.load(Ordering::Relaxed) {
            return None;
        }
        self.lock().first_error.clone()
    }

    pub(super) fn totals(&self) -> ProducerTotals {
        ProducerTotals {
            acknowledged_records: self.acknowledged_records.load(Ordering::Relaxed),
            acknowledged_bytes: self.acknowledged_bytes.load(Ordering::Relaxed),
            failed_records: self.failed_records.load(Ordering::Relaxed),
            unknown_records: self.unknown_records.load(Ordering::Relaxed),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // No code that can panic halfway through a change runs under the lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn not_sent() -> Error {
    Error::local(
        Code::Cancelled,
        None,
        "the producer ended before the record was sent",
    )
}

impl State {
    fn seal(&mut self) {
        if let Some(open) = self.open.take() {
            self.capacity = open.len();
            let batch = open.seal(self.before);
            self.before = batch.sequence();
            self.ready.push_back(batch);
        }
    }
}
