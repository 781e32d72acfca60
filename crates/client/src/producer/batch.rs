//! A batch on its way.

use bytes::Bytes;
use tokio::time::Instant;

use super::codec::{Entry, Run};
use super::delivery::{Delivery, Placement, Promise};
use crate::Result;

/// A batch that records are still added to.
#[derive(Debug)]
pub(super) struct OpenBatch {
    run: Run,
    record_count: u32,
    has_keys: bool,
    /// What it takes of the room for unanswered bytes.
    room: usize,
    since: Instant,
    promise: Promise,
}

impl OpenBatch {
    pub(super) fn new(capacity: usize) -> Self {
        Self {
            run: Run::with_capacity(capacity),
            record_count: 0,
            has_keys: false,
            room: 0,
            since: Instant::now(),
            promise: Promise::default(),
        }
    }

    /// Encodes the record once, to where it is sent from.
    #[inline]
    pub(super) fn push(&mut self, entry: &Entry<'_>, room: usize) {
        self.run.push(entry);
        self.has_keys |= entry.record.key.is_some();
        self.room += room;
        self.record_count += 1;
    }

    /// The handle of the record that was pushed last.
    pub(super) fn delivery(&self) -> Delivery {
        self.promise.delivery(self.record_count - 1)
    }

    pub(super) fn len(&self) -> usize {
        self.run.len()
    }

    pub(super) fn record_count(&self) -> u32 {
        self.record_count
    }

    pub(super) fn since(&self) -> Instant {
        self.since
    }

    /// `before` counts the records of this producer that came before it.
    pub(super) fn seal(self, before: i64) -> Batch {
        Batch {
            run_bytes: self.run.len(),
            request: Request::Records(self.run),
            before,
            record_count: self.record_count,
            // The broker sends records without keys of one request to one partition.
            goes_to_one_partition: self.record_count == 1 || !self.has_keys,
            room: self.room,
            since: self.since,
            perhaps_appended: false,
            promise: self.promise,
        }
    }
}

/// A batch that is waiting to be sent or to be answered.
#[derive(Debug)]
pub(super) struct Batch {
    request: Request,
    /// Of all its records, encoded.
    pub(super) run_bytes: usize,
    /// How many records of this producer came before it.
    pub(super) before: i64,
    pub(super) record_count: u32,
    /// Whether it is so without the producer naming one: then it is appended whole or not at all.
    pub(super) goes_to_one_partition: bool,
    /// What it took of the room for unanswered bytes.
    pub(super) room: usize,
    /// When its first record was taken.
    pub(super) since: Instant,
    /// Whether an earlier attempt may have appended it.
    pub(super) perhaps_appended: bool,
    promise: Promise,
}

/// A request, which is the same whenever it is sent.
#[derive(Debug)]
enum Request {
    /// Not sent yet.
    Records(Run),
    Message(Bytes),
}

impl Batch {
    /// The request's message: the records and then the fields that are given when it is asked for first.
    pub(super) fn message(&mut self, fields: [&[u8]; 2]) -> Bytes {
        let message = match std::mem::replace(&mut self.request, Request::Message(Bytes::new())) {
            Request::Records(run) => run.into_message(fields),
            Request::Message(message) => message,
        };
        self.request = Request::Message(message.clone());
        message
    }

    /// The number of its last record: the sequence of its request, which is the same for a repeat.
    pub(super) fn sequence(&self) -> i64 {
        self.before + i64::from(self.record_count)
    }

    /// Answers all handles of the batch.
    pub(super) fn resolve(self, answer: Result<Placement>) {
        self.promise.keep(answer);
    }
}
