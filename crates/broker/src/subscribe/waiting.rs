//! What a subscription waits for: a read that is under way, partitions of its group, or news.

use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;

use flowstone_log::ReadBatch;

use super::{Place, Started, Subscription};
use crate::Error;
use crate::pool::PoolAnswer;

/// A read that is under way.
#[derive(Debug)]
pub(super) struct PendingRead {
    pub(super) of: Place,
    pub(super) answer: PoolAnswer<Result<ReadBatch, Error>>,
}

/// What has happened while the subscription waited.
pub(super) enum Event {
    /// A read has come to its end.
    Read(Place, Result<ReadBatch, Error>),
    /// Reading of partitions can begin.
    Started(Vec<Started>),
    /// There may be something to look at.
    Changed,
}

impl Subscription {
    /// Waits until something happens.
    pub(super) async fn wait(&mut self) -> Result<Event, Error> {
        let Self {
            listener,
            member,
            pending,
            ..
        } = self;
        let mut told = member.as_ref().map(|it| it.membership.listen());
        // The membership in hand keeps the sender.
        let mut told = pin!(async {
            match &mut told {
                Some(told) => drop(told.changed().await),
                None => std::future::pending().await,
            }
        });
        poll_fn(|context| {
            if let Some(read) = pending
                && let Poll::Ready(outcome) = read.answer.poll(context)
            {
                let read = pending.take().expect("it was just seen");
                return Poll::Ready(outcome.map(|outcome| Event::Read(read.of, outcome)));
            }
            if let Some(member) = member
                && let Poll::Ready(started) = member.poll_started(context)
            {
                return Poll::Ready(started.map(Event::Started));
            }
            // One read at a time: what comes to other partitions can wait for it.
            let heard = listener.poll(context, pending.is_none()).is_ready();
            if heard || told.as_mut().poll(context).is_ready() {
                return Poll::Ready(Ok(Event::Changed));
            }
            Poll::Pending
        })
        .await
    }
}
