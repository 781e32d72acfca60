//! A batch on its way, and the handles of its records.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use flowstone_proto::v1 as proto;
use futures_util::FutureExt;
use futures_util::future::Shared;
use tokio::sync::oneshot;
use tokio::time::Instant;
use tonic::Code;

use super::codec;
use crate::{Error, Result, reason};

/// Where a record was appended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Appended {
    /// The partition that it is in.
    pub partition: i32,
    /// Its offset there.
    pub offset: i64,
}

type Answer = Result<Arc<Placement>>;

/// Resolves to the place of one record once it is acknowledged, or to what went wrong. Dropping
/// it changes nothing for the record.
pub struct Delivery {
    answer: Shared<oneshot::Receiver<Answer>>,
    index: u32,
}

impl fmt::Debug for Delivery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Delivery").finish_non_exhaustive()
    }
}

impl Future for Delivery {
    type Output = Result<Appended>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let index = self.index;
        let answer = ready!(self.answer.poll_unpin(cx));
        Poll::Ready(match answer {
            Ok(Ok(placement)) => Ok(placement.of(index)),
            Ok(Err(error)) => Err(error),
            Err(_) => Err(producer_ended()),
        })
    }
}

/// The runtime went away under the producer, or its task panicked.
pub(super) fn producer_ended() -> Error {
    Error::local(
        Code::Cancelled,
        Some(reason::OUTCOME_UNKNOWN),
        "the producer ended before the broker answered: the record may or may not be appended",
    )
}

/// Where the records of a batch went: for each run the number of its first record in the batch,
/// and that record's place.
#[derive(Debug)]
pub(super) struct Placement {
    runs: Vec<(u32, Appended)>,
}

impl Placement {
    /// Takes the runs of an answer, which must cover `record_count` records.
    pub(super) fn new(runs: &[proto::AppendedRun], record_count: u32) -> Result<Self> {
        let mut placed: u32 = 0;
        let mut starts = Vec::with_capacity(runs.len());
        for run in runs {
            let appended = Appended {
                partition: run.partition,
                offset: run.base_offset,
            };
            starts.push((placed, appended));
            let count = u32::try_from(run.record_count).unwrap_or(0);
            placed = placed.saturating_add(count);
        }
        if placed != record_count {
            return Err(Error::local(
                Code::Internal,
                None,
                format!("the broker answered for {placed} records of {record_count}"),
            ));
        }
        Ok(Self { runs: starts })
    }

    fn of(&self, index: u32) -> Appended {
        let run = self.runs.partition_point(|(first, _)| *first <= index) - 1;
        let (first, appended) = self.runs[run];
        Appended {
            offset: appended.offset + i64::from(index - first),
            ..appended
        }
    }
}

/// A batch that records are still added to.
#[derive(Debug)]
pub(super) struct OpenBatch {
    run: BytesMut,
    record_count: u32,
    has_keys: bool,
    /// Of the room for unanswered bytes.
    permits: usize,
    since: Instant,
    sender: oneshot::Sender<Answer>,
    answer: Shared<oneshot::Receiver<Answer>>,
}

impl OpenBatch {
    pub(super) fn new(capacity: usize) -> Self {
        let (sender, receiver) = oneshot::channel();
        Self {
            run: BytesMut::with_capacity(capacity),
            record_count: 0,
            has_keys: false,
            permits: 0,
            since: Instant::now(),
            sender,
            answer: receiver.shared(),
        }
    }

    /// Encodes the record once, to where it is sent from.
    pub(super) fn push(&mut self, record: &proto::Record, permits: usize) -> Delivery {
        codec::put_entry(&mut self.run, record);
        self.has_keys |= record.key.is_some();
        self.permits += permits;
        let index = self.record_count;
        self.record_count += 1;
        Delivery {
            answer: self.answer.clone(),
            index,
        }
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
            run: self.run.freeze(),
            before,
            record_count: self.record_count,
            // The broker sends records without keys of one request to one partition.
            goes_to_one_partition: self.record_count == 1 || !self.has_keys,
            permits: self.permits,
            since: self.since,
            perhaps_appended: false,
            sender: self.sender,
        }
    }
}

/// A batch that is waiting to be sent or to be answered.
#[derive(Debug)]
pub(super) struct Batch {
    pub(super) run: Bytes,
    /// How many records of this producer came before it.
    pub(super) before: i64,
    pub(super) record_count: u32,
    /// Whether it is so without the producer naming one: then it is appended whole or not at all.
    pub(super) goes_to_one_partition: bool,
    /// What it took of the room for unanswered bytes.
    pub(super) permits: usize,
    /// When its first record was taken.
    pub(super) since: Instant,
    /// Whether an earlier attempt may have appended it.
    pub(super) perhaps_appended: bool,
    sender: oneshot::Sender<Answer>,
}

impl Batch {
    /// The number of its last record: the sequence of its request, which is the same for a repeat.
    pub(super) fn sequence(&self) -> i64 {
        self.before + i64::from(self.record_count)
    }

    /// Answers all handles of the batch.
    pub(super) fn resolve(self, answer: Answer) {
        // Nobody needs to be waiting for it.
        let _ = self.sender.send(answer);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(partition: i32, base_offset: i64, record_count: i32) -> proto::AppendedRun {
        proto::AppendedRun {
            partition,
            base_offset,
            record_count,
        }
    }

    #[test]
    fn each_record_finds_its_run() {
        let runs = [run(2, 10, 1), run(0, 5, 3), run(2, 11, 2)];
        let placement = Placement::new(&runs, 6).unwrap();
        let places: Vec<_> = (0..6)
            .map(|index| placement.of(index))
            .map(|at| (at.partition, at.offset))
            .collect();
        assert_eq!(places, [(2, 10), (0, 5), (0, 6), (0, 7), (2, 11), (2, 12)]);
    }

    #[test]
    fn an_answer_for_other_records_is_an_error() {
        assert!(Placement::new(&[run(0, 0, 2)], 3).is_err());
        assert!(Placement::new(&[run(0, 0, 4)], 3).is_err());
        assert!(Placement::new(&[run(0, 0, -1)], 3).is_err());
        assert!(Placement::new(&[], 1).is_err());
    }
}
