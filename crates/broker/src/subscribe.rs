//! Reading a topic until a stop position, or for ever, alone or as a member of a group.

mod open;
mod reading;

use std::sync::Arc;

use bytes::Bytes;
use flowstone_log::ReadBatch;
use tokio::sync::{OwnedSemaphorePermit, watch};

use crate::members::Membership;
use crate::pool::PoolAnswer;
use crate::topics::Topic;
use crate::{Broker, Cursor, Error, Start, Stop};

pub(crate) use open::open;
use reading::Reading;

/// What to read. With a group, `partitions`, `stop`, `resume_from` and `stop_before` are refused.
#[derive(Clone, Debug, Default)]
pub struct SubscribeRequest {
    /// The topic.
    pub topic: String,
    /// Empty: all, also those to come.
    pub partitions: Vec<u32>,
    /// Where to start; with a group, in partitions that it has not committed.
    pub start: Start,
    /// Where to stop. `None`: never.
    pub stop: Option<Stop>,
    /// Read as a member of this group.
    pub group: Option<String>,
    /// The member's name, perhaps empty. A second stream of the same name ends the first.
    pub member: String,
    /// Where the caller comes from, for [`MemberInfo::peer`](crate::MemberInfo::peer).
    pub peer: String,
    /// Most bytes of one delivery, 0 for the broker's default. One record comes however large it is.
    pub max_batch_bytes: u32,
    /// Cursors as they were received; `start` holds for partitions not named.
    pub resume_from: Vec<Cursor>,
    /// Offsets of partitions, exclusive; `stop` holds for partitions not named.
    pub stop_before: Vec<Cursor>,
}

/// A running subscription. Dropping it ends it and leaves the group.
#[derive(Debug)]
pub struct Subscription {
    /// Keeps the broker open.
    broker: Broker,
    topic: Arc<Topic>,
    watch: watch::Receiver<u64>,
    readings: Vec<Reading>,
    /// Which of the readings comes next.
    turn: usize,
    /// Whether partitions that are added are read too.
    follows_new: bool,
    max_batch_bytes: usize,
    /// Records that may still be delivered.
    remaining: Option<u64>,
    has_stop: bool,
    membership: Option<Membership>,
    /// Set while the member has to be told what it reads.
    announce: bool,
    pending: Option<PendingRead>,
    /// What a call that ends has to end with, lest a short read looks like a whole one.
    failure: Option<Error>,
    ended: bool,
    _place: OwnedSemaphorePermit,
}

/// A read that is under way.
#[derive(Debug)]
struct PendingRead {
    reading: usize,
    answer: PoolAnswer<Result<ReadBatch, Error>>,
}

/// What a subscription yields.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// Records of one partition, in order.
    Records {
        /// Commit this once the records are processed; its offset is the next one to read.
        cursor: Cursor,
        /// The end of what may be read of this partition, exclusive.
        high_watermark: u64,
        /// Runs of `0A len Record`, the bytes as they lie on disk.
        chunks: Vec<Bytes>,
        /// How many records these are.
        record_count: u32,
    },
    /// All that this member may read, as topic and partition. The first delivery of a group.
    Assignment {
        /// Topic and partition.
        partitions: Vec<(String, u32)>,
    },
    /// Something is wrong with one partition; the others go on.
    PartitionError {
        /// The partition, and the offset that could not be read.
        cursor: Cursor,
        /// What is wrong.
        error: Error,
    },
    /// Nothing new, but the broker is there.
    Heartbeat {},
}

/// What the subscription does next.
enum Step {
    Tell(Delivery),
    /// A read is under way.
    Read,
    /// There is nothing to read yet.
    Wait,
    /// Nothing more will come.
    End,
}

impl Subscription {
    /// The next delivery; `None` when every partition has reached its stop position. After an error
    /// or `None` there is nothing more. It may be dropped and called again at any time: nothing is
    /// lost and nothing comes twice.
    pub async fn next(&mut self) -> Option<Result<Delivery, Error>> {
        if self.ended {
            return None;
        }
        let next = self.advance().await.transpose();
        self.ended = !matches!(next, Some(Ok(_)));
        next
    }

    /// What to send when nothing else was sent for a while.
    pub fn heartbeat(&self) -> Delivery {
        Delivery::Heartbeat {}
    }

    /// All that is waited for is kept in `self`, so that this may be dropped while it waits.
    async fn advance(&mut self) -> Result<Option<Delivery>, Error> {
        loop {
            // Seen before anything is looked at, so that no change is missed.
            self.watch.borrow_and_update();
            self.check_over()?;
            if let Some(pending) = &mut self.pending {
                let outcome = pending.answer.get().await?;
                let reading = pending.reading;
                self.pending = None;
                self.check_over()?;
                if let Some(delivery) = self.take(reading, outcome)? {
                    return Ok(Some(delivery));
                }
                continue;
            }
            match self.step() {
                Step::Tell(delivery) => return Ok(Some(delivery)),
                Step::Read => {}
                Step::Wait => {
                    // The topic in hand keeps the sender.
                    let _ = self.watch.changed().await;
                }
                Step::End => return self.failure.take().map_or(Ok(None), Err),
            }
        }
    }

    /// Fails if the subscription is over, whatever there is to read.
    fn check_over(&self) -> Result<(), Error> {
        let core = self.broker.core();
        core.check_alive()?;
        core.check_accepting()?;
        if self.topic.is_deleted() {
            return Err(self.topic.not_found());
        }
        let replaced = self.membership.as_ref().and_then(Membership::replaced);
        replaced.map_or(Ok(()), Err)
    }

    fn step(&mut self) -> Step {
        self.add_new_partitions();
        if std::mem::take(&mut self.announce) {
            return Step::Tell(self.assignment());
        }
        if self.remaining == Some(0) {
            return Step::End;
        }
        let count = self.readings.len();
        let mut active = false;
        for at in (0..count).map(|step| (self.turn + step) % count) {
            let reading = &self.readings[at];
            if reading.is_over() {
                continue;
            }
            if reading.has_more() {
                self.turn = (at + 1) % count;
                self.start_read(at);
                return Step::Read;
            }
            if let Some(error) = reading.failure() {
                return Step::Tell(self.suspend(at, error));
            }
            active = true;
        }
        if active { Step::Wait } else { Step::End }
    }

    /// Takes up the partitions that the topic has got since, from their first record on.
    fn add_new_partitions(&mut self) {
        if !self.follows_new {
            return;
        }
        let now = self.topic.now();
        for partition in now.partitions.iter().skip(self.readings.len()) {
            self.readings
                .push(Reading::new(Arc::clone(partition), 0, None));
            self.announce = self.membership.is_some();
        }
    }

    fn start_read(&mut self, at: usize) {
        let most = self.remaining.unwrap_or(u64::MAX);
        let read = self.readings[at].read(self.max_batch_bytes, most);
        self.pending = Some(PendingRead {
            reading: at,
            answer: self.broker.core().pool.start(read),
        });
    }

    /// Takes what a read has found.
    fn take(
        &mut self,
        at: usize,
        outcome: Result<ReadBatch, Error>,
    ) -> Result<Option<Delivery>, Error> {
        match outcome {
            Ok(batch) => {
                self.readings[at].advance(batch.next_offset.get())?;
                if batch.record_count == 0 {
                    return Ok(None);
                }
                if let Some(remaining) = &mut self.remaining {
                    *remaining = remaining.saturating_sub(u64::from(batch.record_count));
                }
                self.broker.core().counters.read(&batch);
                Ok(Some(Delivery::Records {
                    cursor: self.cursor(at),
                    high_watermark: batch.high_watermark.get(),
                    chunks: batch.chunks,
                    record_count: batch.record_count,
                }))
            }
            Err(error @ Error::CorruptSegment { .. }) => Ok(Some(self.suspend(at, error))),
            Err(error) => {
                let Error::OffsetTrimmed {
                    log_start_offset, ..
                } = error
                else {
                    return Err(error);
                };
                if self.has_stop {
                    self.failure.get_or_insert(error.clone());
                }
                let cursor = self.cursor(at);
                self.readings[at].advance(log_start_offset)?;
                Ok(Some(Delivery::PartitionError { cursor, error }))
            }
        }
    }

    /// Reads a partition no further, and tells why.
    fn suspend(&mut self, at: usize, error: Error) -> Delivery {
        self.failure.get_or_insert(error.clone());
        self.readings[at].suspend();
        Delivery::PartitionError {
            cursor: self.cursor(at),
            error,
        }
    }

    fn assignment(&self) -> Delivery {
        Delivery::Assignment {
            partitions: self
                .readings
                .iter()
                .map(|reading| (self.topic.name().to_owned(), reading.partition()))
                .collect(),
        }
    }

    /// Where reading has come to.
    fn cursor(&self, at: usize) -> Cursor {
        let (group, session) = match &self.membership {
            Some(membership) => (membership.group.clone(), membership.member.session.clone()),
            None => (String::new(), String::new()),
        };
        Cursor {
            group,
            session,
            topic: self.topic.name().to_owned(),
            partition: self.readings[at].partition(),
            offset: self.readings[at].next(),
            topic_id: Some(self.topic.id()),
        }
    }
}
