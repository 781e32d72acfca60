//! One producer at work: records go out one after the other, and each ack is set against when its records
//! were due.
//!
//! At millions of records a second a future and a look at the clock for each of them would be most of
//! what is measured. So records that travel in one request are waited for as one, and in a closed loop
//! some that are sent in a row share the time of the first: their latency is told too long, never too
//! short, and by microseconds.

use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Instant;

use anyhow::Result;
use flowstone_client::{Delivery, Producer};
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::sync::mpsc;

use super::latency::Latencies;
use super::pace::{Pace, sleep_until};
use super::produce::{Stamps, Work};
use crate::progress::Progress;

/// Requests whose ack was not looked at yet, for each producer.
const UNSEEN_ACKS: usize = 1 << 12;
/// Records with keys go to several requests that grow at the same time, but to no more than so many.
const GROWING_MAX: usize = 64;
/// So many records, or bytes of them, are sent between two looks at the clock.
const ROW_RECORDS: u64 = 32;
const ROW_BYTES: u64 = 4 << 10;

/// Records of one request, and how many of them were due when.
#[derive(Debug)]
pub(super) struct Unanswered {
    delivery: Delivery,
    due: Vec<(Instant, u64)>,
}

impl Unanswered {
    fn new(delivery: Delivery, due: Instant) -> Self {
        let due = vec![(due, 1)];
        Self { delivery, due }
    }

    /// When the records were due, once they are acknowledged.
    async fn answered(self) -> flowstone_client::Result<Vec<(Instant, u64)>> {
        self.delivery.await.map(|_| self.due)
    }

    fn add(&mut self, due: Instant) {
        match self.due.last_mut() {
            Some((last, records)) if *last == due => *records += 1,
            _ => self.due.push((due, 1)),
        }
    }
}

/// What was sent so far.
pub(super) struct Sending {
    work: Work,
    number: u32,
    begun: Instant,
    stamps: Stamps,
    /// How many records there are to send at most.
    records_max: u64,
    unseen: mpsc::Sender<Unanswered>,
    /// The requests that may still grow, the oldest first.
    growing: VecDeque<Unanswered>,
    /// Set when an ack failed, which whoever collects them tells.
    failed: bool,
    pub(super) records: u64,
    /// Of keys and values.
    pub(super) bytes: u64,
}

impl Sending {
    /// The records of producer `number`, and the acks to collect.
    pub(super) fn new(
        work: &Work,
        number: u32,
        begun: Instant,
        stamps: Stamps,
    ) -> (Self, mpsc::Receiver<Unanswered>) {
        let (unseen, acks) = mpsc::channel(UNSEEN_ACKS);
        let sending = Self {
            work: work.clone(),
            number,
            begun,
            stamps,
            records_max: work.records_max(number).unwrap_or(u64::MAX),
            unseen,
            growing: VecDeque::new(),
            failed: false,
            records: 0,
            bytes: 0,
        };
        (sending, acks)
    }

    pub(super) async fn send_at_once(&mut self, producer: &Producer) -> Result<()> {
        let mut now = Instant::now();
        while self.goes_on(now) {
            let row_records = self.records_max.min(self.records + ROW_RECORDS);
            let row_bytes = self.bytes + ROW_BYTES;
            while self.records < row_records && self.bytes < row_bytes {
                if self.send(producer, now).await? == Waited::Yes {
                    break;
                }
            }
            now = Instant::now();
        }
        self.hand_over_all().await;
        Ok(())
    }

    /// Sleeps in between, and so needs a thread of its own.
    pub(super) async fn send_when_due(&mut self, producer: &Producer, pace: Pace) -> Result<()> {
        let mut now = Instant::now();
        while self.goes_on(now) {
            let due = pace.due(self.records);
            if due > now {
                // Its ack may come while this sleeps.
                self.hand_over_all().await;
                sleep_until(due);
            }
            self.send(producer, due).await?;
            now = Instant::now();
        }
        self.hand_over_all().await;
        Ok(())
    }

    fn goes_on(&self, now: Instant) -> bool {
        let time = self.work.bounds.time();
        self.records < self.records_max
            && !self.failed
            && !self.work.stop.is_asked()
            && time.is_none_or(|time| now.saturating_duration_since(self.begun) < time)
    }

    /// How many records were due and are not sent, since the time was over.
    pub(super) fn not_sent(&self) -> u64 {
        match self.work.shape.rate {
            Some(_) if !self.failed && !self.work.stop.is_asked() => {
                self.records_max.saturating_sub(self.records)
            }
            _ => 0,
        }
    }

    async fn send(&mut self, producer: &Producer, due: Instant) -> Result<Waited> {
        let producers = u64::from(self.work.shape.producers);
        let number = self.records * producers + u64::from(self.number);
        let record = match self.stamps {
            Stamps::None => self.work.load.record(number),
            Stamps::DueSince(start) => {
                let nanos = due.saturating_duration_since(start).as_nanos();
                let nanos = u64::try_from(nanos).unwrap_or(u64::MAX);
                self.work.load.stamped(number, nanos)
            }
        };
        let len = |bytes: &Option<bytes::Bytes>| bytes.as_ref().map_or(0, bytes::Bytes::len);
        let bytes = len(&record.key) + len(&record.value);

        let mut sent = pin!(producer.send(&record));
        let (delivery, waited) = match poll_fn(|cx| Poll::Ready(sent.as_mut().poll(cx))).await {
            Poll::Ready(delivery) => (delivery?, Waited::No),
            Poll::Pending => {
                // What is in flight may be answered while this waits.
                self.hand_over_all().await;
                (sent.await?, Waited::Yes)
            }
        };
        self.records += 1;
        self.bytes += bytes as u64;
        let same = |growing: &&mut Unanswered| growing.delivery.is_answered_with(&delivery);
        match self.growing.iter_mut().rev().find(same) {
            Some(growing) => growing.add(due),
            None => {
                if self.growing.len() == GROWING_MAX {
                    self.hand_over(1).await;
                }
                self.growing.push_back(Unanswered::new(delivery, due));
            }
        }
        Ok(waited)
    }

    /// Lets the acks of the oldest of what was sent be waited for.
    async fn hand_over(&mut self, count: usize) {
        for _ in 0..count {
            if let Some(unanswered) = self.growing.pop_front() {
                self.failed |= self.unseen.send(unanswered).await.is_err();
            }
        }
    }

    async fn hand_over_all(&mut self) {
        self.hand_over(self.growing.len()).await;
    }
}

/// Whether a record had to wait for room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Waited {
    Yes,
    No,
}

/// Waits for all acks.
pub(super) async fn collect(
    mut acks: mpsc::Receiver<Unanswered>,
    progress: Arc<Progress>,
) -> Result<Latencies> {
    let mut latencies = Latencies::new();
    let mut waited_for = FuturesUnordered::new();
    loop {
        tokio::select! {
            Some(unanswered) = acks.recv() => waited_for.push(unanswered.answered()),
            Some(due) = waited_for.next() => {
                let now = Instant::now();
                let mut records = 0;
                for (due, of_these) in due? {
                    latencies.record(now.saturating_duration_since(due), of_these);
                    records += of_these;
                }
                progress.advance(records);
            }
            else => return Ok(latencies),
        }
    }
}
