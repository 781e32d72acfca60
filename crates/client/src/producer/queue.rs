//! What a producer and the task that drives its stream share.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use flowstone_proto::v1 as proto;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;
use tonic::Code;

use super::batch::{Batch, OpenBatch};
use super::codec::Entry;
use super::delivery::{Delivery, Placement, producer_ended};
use super::lanes::Lanes;
use crate::{Error, Result, reason};

#[cfg(test)]
mod tests;

/// How large things may grow.
#[derive(Debug)]
pub(super) struct Bounds {
    /// Whose bounds these are.
    pub(super) topic: String,
    /// Of one encoded record.
    pub(super) record_bytes_max: usize,
    /// Of all records of one request, with their lengths.
    pub(super) run_bytes_max: usize,
    /// At which a batch is sent.
    pub(super) batch_bytes: usize,
    /// The same while records are sorted by partition.
    pub(super) spread_batch_bytes: usize,
    /// At which a batch is sent, too.
    pub(super) batch_records: u32,
    pub(super) linger: Duration,
}

impl Bounds {
    /// Whether a record is one that the broker takes.
    pub(super) fn check(&self, entry: &Entry<'_>) -> Result<()> {
        if entry.body_bytes <= self.record_bytes_max && entry.len() <= self.run_bytes_max {
            return Ok(());
        }
        Err(self.too_large(entry.body_bytes))
    }

    #[cold]
    fn too_large(&self, bytes: usize) -> Error {
        let (topic, limit) = (&self.topic, self.record_bytes_max.min(self.run_bytes_max));
        Error::local(
            Code::InvalidArgument,
            Some(reason::RECORD_TOO_LARGE),
            format!("the record has {bytes} bytes; topic {topic} takes records of at most {limit}"),
        )
        .with_metadata("limit", limit)
    }
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

#[derive(Debug)]
struct State {
    lanes: Lanes,
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
    /// How much of the room is taken: by what is collected, ready, or unanswered.
    taken_bytes: usize,
    /// How many wait for room.
    waiting: usize,
    /// Set from when a batch is full until its sender has made way for the driver.
    has_filled_batch: bool,
}

/// So many records are added at most before others may have the queue.
const RECORDS_AT_A_TIME: usize = 64;

/// What became of a record that was to be added at once.
#[derive(Debug)]
pub(super) enum Pushed<T> {
    Yes(T),
    /// It is the driver's turn.
    NotYet,
    /// Too much is unanswered, or others wait already.
    NoRoom,
}

/// Batches that wait to be sent, in order, and the accounts of those that were answered.
#[derive(Debug)]
pub(super) struct Queue {
    bounds: Bounds,
    state: Mutex<State>,
    /// Tells the driver that there is something to look at.
    wake: Notify,
    /// How many bytes may be unanswered.
    room_bytes: usize,
    /// Of those who wait for room, one looks for it at a time.
    turn: tokio::sync::Mutex<()>,
    /// Tells that one of room, or of the end.
    freed: Notify,
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
    pub(super) fn new(bounds: Bounds, in_flight_bytes: usize, before: i64, lanes: Lanes) -> Self {
        Self {
            bounds,
            state: Mutex::new(State {
                lanes,
                ready: VecDeque::new(),
                begun: 0,
                closed: false,
                ended: false,
                before,
                capacity: 0,
                first_error: None,
                taken_bytes: 0,
                waiting: 0,
                has_filled_batch: false,
            }),
            wake: Notify::new(),
            room_bytes: in_flight_bytes.max(1),
            turn: tokio::sync::Mutex::new(()),
            freed: Notify::new(),
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

    /// Adds a record that was not taken at once, when it is its turn and there is room for it. Records that wait are
    /// taken in the order in which they came, so that a large one is not left behind. Cancelling it takes
    /// nothing.
    pub(super) async fn push(
        &self,
        entry: Entry<'_>,
        mut pushed: Pushed<Delivery>,
    ) -> Result<Delivery> {
        loop {
            match pushed {
                Pushed::Yes(delivery) => return Ok(delivery),
                Pushed::NotYet => tokio::task::yield_now().await,
                Pushed::NoRoom => break,
            }
            pushed = self.push_now(&entry, false)?;
        }
        let _waiting = Waiting::begin(self);
        let _turn = self.turn.lock().await;
        loop {
            if let Pushed::Yes(delivery) = self.push_now(&entry, true)? {
                return Ok(delivery);
            }
            self.freed.notified().await;
        }
    }

    /// Adds a record if there is room for it, and nobody waits whose turn is before.
    pub(super) fn push_now(&self, entry: &Entry<'_>, has_turn: bool) -> Result<Pushed<Delivery>> {
        let mut state = self.lock();
        let (pushed, wake) = self.push_to(&mut state, entry, has_turn, OpenBatch::delivery)?;
        drop(state);
        if wake {
            self.wake.notify_one();
        }
        Ok(pushed)
    }

    /// Adds records from the front, as many as can be added at once, and one that is refused ends it. Answers with how
    /// many were added, and what became of the one behind them, if it was looked at.
    pub(super) fn push_front(&self, records: &[proto::Record]) -> (usize, Result<Pushed<()>>) {
        let (mut added, mut wakes) = (0, false);
        let mut outcome = Ok(Pushed::Yes(()));
        let mut state = self.lock();
        for record in records.iter().take(RECORDS_AT_A_TIME) {
            let entry = Entry::new(record);
            if state.push_behind(&entry, &self.bounds, self.room_bytes) {
                added += 1;
                continue;
            }
            let pushed = self
                .bounds
                .check(&entry)
                .and_then(|()| self.push_to(&mut state, &entry, false, |_| ()));
            outcome = pushed.map(|(pushed, wake)| {
                wakes |= wake;
                pushed
            });
            if !matches!(outcome, Ok(Pushed::Yes(()))) {
                break;
            }
            added += 1;
        }
        drop(state);
        if wakes {
            self.wake.notify_one();
        }
        (added, outcome)
    }

    /// Adds a record, and answers with what `told` makes of its batch, and whether the driver has something to do.
    fn push_to<T>(
        &self,
        state: &mut State,
        entry: &Entry<'_>,
        has_turn: bool,
        told: impl FnOnce(&OpenBatch) -> T,
    ) -> Result<(Pushed<T>, bool)> {
        if state.ended {
            return Err(not_sent());
        }
        // Whoever sends without end would keep the driver from the thread that they share until all of
        // the room is taken, and the broker would wait for that long.
        if std::mem::take(&mut state.has_filled_batch) && !has_turn {
            return Ok((Pushed::NotYet, false));
        }
        let entry_bytes = entry.len();
        // A record that is larger takes all there is.
        let room = entry_bytes.min(self.room_bytes);
        if state.waiting > 0 && !has_turn || state.taken_bytes + room > self.room_bytes {
            // Something has to be on its way, or the room that is taken is never given back.
            state.lanes.crowd();
            let sealed_bytes = state.taken_bytes.saturating_sub(state.lanes.len());
            if let Some(lane) = state
                .lanes
                .to_make_room(sealed_bytes >= self.room_bytes / 2)
            {
                state.seal(lane);
            }
            return Ok((Pushed::NoRoom, true));
        }
        let lane = state.lanes.lane(entry.record.key.as_deref());
        let batch_bytes = match state.lanes.is_spread() {
            true => self.bounds.spread_batch_bytes,
            false => self.bounds.batch_bytes,
        };
        let full = |open: &OpenBatch, more: usize| {
            open.len() + more > batch_bytes || open.record_count() >= self.bounds.batch_records
        };
        let (mut wake, mut filled) = (false, false);
        let open = state.lanes.batch(lane).as_ref();
        if open.is_some_and(|open| full(open, entry_bytes)) {
            state.seal(lane);
            filled = true;
        }
        state.taken_bytes += room;
        if state.lanes.batch(lane).is_none() {
            wake = true;
            state.begun += 1;
            // The last record may be larger than that of the batch before.
            let capacity = (state.capacity + state.capacity / 8).min(batch_bytes);
            let batch = OpenBatch::new(capacity.max(entry_bytes));
            *state.lanes.batch(lane) = Some(batch);
        }
        let open = state.lanes.batch(lane).as_mut().expect("it was opened");
        open.push(entry, room);
        let told = told(open);
        if full(open, 1) {
            state.seal(lane);
            filled = true;
        }
        state.has_filled_batch |= filled;
        Ok((Pushed::Yes(told), wake || filled))
    }

    pub(super) async fn flush(&self) -> Result<()> {
        let target = {
            let mut state = self.lock();
            state.seal_all();
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
        state.seal_all();
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
        if state.waiting > 0 {
            state.lanes.crowd();
        }
        for lane in state.lanes.due(idle, self.bounds.linger) {
            state.seal(lane);
        }
        state.ready.pop_front()
    }

    /// When what is collected now will have lingered.
    pub(super) fn linger_until(&self) -> Option<Instant> {
        self.lock().lanes.due_at(self.bounds.linger)
    }

    /// Whether there is nothing to send, now or ever.
    pub(super) fn is_finished(&self) -> bool {
        let state = self.lock();
        state.closed && state.lanes.is_empty() && state.ready.is_empty()
    }

    /// Returns after `push`, `flush` or `close` had something for the driver.
    pub(super) async fn woken(&self) {
        self.wake.notified().await;
    }

    /// Answers a batch and keeps the accounts.
    pub(super) fn answer(&self, batch: Batch, answer: Result<Placement>) {
        let records = u64::from(batch.record_count);
        let bytes = batch.run_bytes;
        let room = batch.room;
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
        batch.resolve(answer);
        self.give_back(room);
        self.answered.send_modify(|answered| *answered += 1);
    }

    fn give_back(&self, room: usize) {
        let mut state = self.lock();
        state.taken_bytes -= room;
        let wanted = state.waiting > 0;
        drop(state);
        if wanted {
            self.freed.notify_one();
        }
    }

    /// The driver has ended: nothing that is still here will ever be answered.
    pub(super) fn end(&self, unanswered: impl Iterator<Item = Batch>) {
        let left = {
            let mut state = self.lock();
            state.ended = true;
            state.seal_all();
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
        self.freed.notify_one();
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

/// Somebody who waits for room.
struct Waiting<'a>(&'a Queue);

impl<'a> Waiting<'a> {
    fn begin(queue: &'a Queue) -> Self {
        queue.lock().waiting += 1;
        Self(queue)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.lock().waiting -= 1;
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
    /// Adds a record behind the one before, if that is all there is to do: nothing is begun, filled or waited for.
    #[inline]
    fn push_behind(&mut self, entry: &Entry<'_>, bounds: &Bounds, room_bytes: usize) -> bool {
        let is_undisturbed = !self.has_filled_batch && self.waiting == 0;
        // After the end none is open.
        let Some(open) = self.lanes.only_batch().filter(|_| is_undisturbed) else {
            return false;
        };
        let entry_bytes = entry.len();
        let taken_bytes = self.taken_bytes + entry_bytes;
        let fits = entry.body_bytes <= bounds.record_bytes_max
            && open.len() + entry_bytes < bounds.batch_bytes
            && open.record_count() + 1 < bounds.batch_records
            && taken_bytes <= room_bytes;
        if fits {
            open.push(entry, entry_bytes);
            self.taken_bytes = taken_bytes;
        }
        fits
    }

    fn seal(&mut self, lane: usize) {
        if let Some(open) = self.lanes.batch(lane).take() {
            self.capacity = open.len();
            let batch = open.seal(self.before);
            self.before = batch.sequence();
            self.ready.push_back(batch);
        }
    }

    fn seal_all(&mut self) {
        for lane in 0..self.lanes.count() {
            self.seal(lane);
        }
    }
}
