//! The handles of records that are on their way, and what they resolve to.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::{Context, Poll, Waker};

use flowstone_proto::v1 as proto;
use tonic::Code;

use crate::{Error, Result, reason};

/// Where a record was appended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Appended {
    /// The partition that it is in.
    pub partition: i32,
    /// Its offset there.
    pub offset: i64,
}

/// Resolves to the place of one record once it is acknowledged, or to what went wrong. Dropping
/// it changes nothing for the record.
pub struct Delivery {
    outcome: Arc<Outcome>,
    /// Of the record in its batch.
    index: u32,
    /// Which of the outcome's wakers is this one's; [`NO_WAKER`]: none yet.
    waker: u32,
}

const NO_WAKER: u32 = u32::MAX;

impl Delivery {
    /// Whether both records travel in one request, and so are answered at the same moment.
    pub fn is_answered_with(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.outcome, &other.outcome)
    }
}

impl fmt::Debug for Delivery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Delivery").finish_non_exhaustive()
    }
}

impl Future for Delivery {
    type Output = Result<Appended>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        match this.outcome.look(&mut this.waker, cx.waker()) {
            None => Poll::Pending,
            Some(Ok(placement)) => Poll::Ready(Ok(placement.of(this.index))),
            Some(Err(error)) => Poll::Ready(Err(error.clone())),
        }
    }
}

/// What becomes of a batch: one for all its records, so that a handle costs a count.
#[derive(Debug, Default)]
struct Outcome {
    answer: OnceLock<Result<Placement>>,
    /// Of the handles that somebody waits for.
    wakers: Mutex<Vec<Waker>>,
}

impl Outcome {
    /// The answer; if there is none yet, the waker is told of it later.
    fn look(&self, place: &mut u32, waker: &Waker) -> Option<&Result<Placement>> {
        if let Some(answer) = self.answer.get() {
            return Some(answer);
        }
        let mut wakers = self.wakers();
        // The answer comes before the wakers are taken: who does not see it here is among them.
        if let Some(answer) = self.answer.get() {
            return Some(answer);
        }
        if *place == NO_WAKER {
            // A batch has fewer records than that.
            *place = u32::try_from(wakers.len()).expect("one for each record of a batch at most");
            wakers.push(waker.clone());
        } else {
            wakers[*place as usize].clone_from(waker);
        }
        None
    }

    /// The first answer holds.
    fn resolve(&self, answer: Result<Placement>) {
        if self.answer.set(answer).is_ok() {
            let wakers = std::mem::take(&mut *self.wakers());
            wakers.into_iter().for_each(Waker::wake);
        }
    }

    fn wakers(&self) -> MutexGuard<'_, Vec<Waker>> {
        self.wakers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The duty to answer the handles of a batch. Dropping it answers that nobody will.
#[derive(Debug, Default)]
pub(super) struct Promise(Arc<Outcome>);

impl Promise {
    pub(super) fn delivery(&self, index: u32) -> Delivery {
        Delivery {
            outcome: Arc::clone(&self.0),
            index,
            waker: NO_WAKER,
        }
    }

    pub(super) fn keep(self, answer: Result<Placement>) {
        self.0.resolve(answer);
    }
}

impl Drop for Promise {
    fn drop(&mut self) {
        if self.0.answer.get().is_none() {
            self.0.resolve(Err(producer_ended()));
        }
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

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;
    use futures_util::future::join_all;

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

    #[tokio::test]
    async fn all_handles_that_are_waited_for_are_told_and_so_are_later_ones() {
        let promise = Promise::default();
        let waiting: Vec<_> = (0..3)
            .map(|index| tokio::spawn(promise.delivery(index)))
            .collect();
        let mut polled_before = promise.delivery(1);
        for _ in 0..2 {
            assert!((&mut polled_before).now_or_never().is_none());
        }
        tokio::task::yield_now().await;
        let later = promise.delivery(2);
        assert!(later.is_answered_with(&polled_before));
        assert!(!later.is_answered_with(&Promise::default().delivery(2)));
        promise.keep(Placement::new(&[run(0, 10, 3)], 3));
        for (offset, delivery) in (10..).zip(join_all(waiting).await) {
            assert_eq!(delivery.unwrap().unwrap().offset, offset);
        }
        assert_eq!(polled_before.await.unwrap().offset, 11);
        assert_eq!(later.await.unwrap().offset, 12);
    }

    #[tokio::test]
    async fn a_promise_that_is_dropped_leaves_nobody_waiting() {
        let promise = Promise::default();
        let waiting = tokio::spawn(promise.delivery(0));
        tokio::task::yield_now().await;
        drop(promise);
        let error = waiting.await.unwrap().unwrap_err();
        assert!(error.is(reason::OUTCOME_UNKNOWN), "{error}");
    }
}
