//! One request's part for one partition, on its way to the log.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use flowstone_format::{Offset, RecordLimits};
use flowstone_log::{Appended, Batch, ProducerBatch};

use crate::producers::Epochs;
use crate::{Acks, Error};

/// Called once with the outcome.
pub(crate) type Done = Box<dyn FnOnce(Result<Appended, Error>) + Send>;

/// What a worker appends.
pub(crate) struct AppendJob {
    /// The whole request, as the client sent it.
    pub(crate) request: Bytes,
    /// Which bytes of it go to this partition: whole records, in order.
    pub(crate) runs: Vec<Range<usize>>,
    /// How many records those are.
    pub(crate) record_count: u32,
    /// How many partitions the topic had when the request was routed.
    pub(crate) routing_count: u32,
    /// What the records were held against.
    pub(crate) limits: RecordLimits,
    /// When to answer.
    pub(crate) acks: Acks,
    /// Whose request it is, if it may be repeated.
    pub(crate) producer: Option<Fenced>,
    /// What the next offset has to be.
    pub(crate) expected_offset: Option<Offset>,
    /// Set if nothing may be appended after an earlier request that failed.
    pub(crate) pipeline: Option<Pipelined>,
    /// Whom to answer.
    pub(crate) done: Done,
}

/// A producer's request, and the epochs that it has to pass with the log in hand.
#[derive(Clone, Debug)]
pub(crate) struct Fenced {
    pub(crate) batch: ProducerBatch,
    pub(crate) epochs: Arc<Epochs>,
}

impl Fenced {
    /// Fails if the producer was opened since.
    pub(crate) fn check(&self) -> Result<(), Error> {
        self.epochs.check(&self.batch)
    }
}

impl AppendJob {
    /// How many bytes of records it has.
    pub(crate) fn bytes(&self) -> usize {
        self.runs.iter().map(ExactSizeIterator::len).sum()
    }

    /// What the log is given.
    pub(crate) fn batch(&self, now_ms: i64) -> Batch<'_> {
        Batch {
            request: &self.request,
            runs: &self.runs,
            record_count: self.record_count,
            append_ms: now_ms,
            routing_count: self.routing_count,
            limits: &self.limits,
            producer: self.producer.as_ref().map(|producer| producer.batch),
            expected_offset: self.expected_offset,
        }
    }

    /// Answers without having appended anything.
    pub(crate) fn refuse(self, error: Error) {
        if let Some(pipeline) = &self.pipeline {
            pipeline.break_off();
        }
        (self.done)(Err(error));
    }
}

impl fmt::Debug for AppendJob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AppendJob")
            .field("record_count", &self.record_count)
            .field("acks", &self.acks)
            .finish_non_exhaustive()
    }
}

/// A request's place among those of its pipeline, and the first of them that failed.
#[derive(Clone, Debug)]
pub(crate) struct Pipelined {
    place: u64,
    first_failed: Arc<AtomicU64>,
}

impl Pipelined {
    /// `first_failed` is shared by all requests of a pipeline and begins as `u64::MAX`.
    pub(crate) fn new(place: u64, first_failed: Arc<AtomicU64>) -> Self {
        Self {
            place,
            first_failed,
        }
    }

    /// Notes that this request has failed.
    pub(crate) fn break_off(&self) {
        self.first_failed.fetch_min(self.place, Ordering::AcqRel);
    }

    /// The error of a request that comes after one that failed.
    pub(crate) fn broken(&self) -> Option<Error> {
        let broken = self.first_failed.load(Ordering::Acquire) < self.place;
        broken.then(|| Error::OutcomeUnknown {
            detail: "an earlier request of the same stream failed; this one was not appended"
                .to_owned(),
        })
    }
}
