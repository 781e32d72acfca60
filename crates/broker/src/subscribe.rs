//! Reading a topic until a stop position, or for ever, alone or as a member of a group.

mod delivery;
mod member;
mod open;
mod reading;
mod request;
mod waiting;

use std::sync::Arc;

use flowstone_log::ReadBatch;
use tokio::sync::OwnedSemaphorePermit;

use crate::groups::{Assignment, HandOut};
use crate::listeners::{Listener, Listening};
use crate::topics::Topic;
use crate::{Broker, Cursor, Error};

pub use delivery::Delivery;
use member::{Member, Started};
pub(crate) use open::open;
use reading::Reading;
pub use request::SubscribeRequest;
use waiting::{Event, PendingRead};

/// A running subscription. Dropping it ends it and leaves the group.
#[derive(Debug)]
pub struct Subscription {
    /// Keeps the broker open.
    broker: Broker,
    topic: Arc<Topic>,
    /// Hears of the topic, and of the partitions that are read: these take turns in the order in which they
    /// are told.
    listener: Arc<Listener>,
    _listening: Listening,
    /// By partition, ascending.
    readings: Vec<Reading>,
    /// Partitions with more to read, of which as much as may be is uncommitted.
    without_room: Vec<u32>,
    /// Whether partitions that are added are read too.
    follows_new: bool,
    max_batch_bytes: usize,
    /// Records that may still be delivered.
    remaining: Option<u64>,
    has_stop: bool,
    member: Option<Member>,
    pending: Option<PendingRead>,
    /// What a call that ends has to end with, lest a short read looks like a whole one.
    failure: Option<Error>,
    ended: bool,
    /// Its place among all subscriptions; a member's is with its membership.
    _place: Option<OwnedSemaphorePermit>,
}

/// What is read.
#[derive(Clone, Copy, Debug)]
struct Place {
    partition: u32,
    /// Of the holding, if it is a member's.
    number: u64,
}

/// What the subscription does next.
enum Step {
    Tell(Delivery),
    /// This was in memory.
    Found(Place, ReadBatch),
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
            if self.listener.take_topic() {
                self.add_new_partitions();
            }
            if let Some(member) = &mut self.member
                && member.membership.take_told()
            {
                self.look_for_room();
            }
            self.check_over()?;
            let member = self.member.as_ref();
            if let Some(assignment) = member.and_then(|it| it.membership.take_assignment()) {
                return Ok(Some(self.assign(&assignment)));
            }
            if self.pending.is_none() {
                match self.step() {
                    Step::Tell(delivery) => return Ok(Some(delivery)),
                    Step::Found(of, batch) => match self.take(of, Ok(batch))? {
                        Some(delivery) => return Ok(Some(delivery)),
                        None => continue,
                    },
                    Step::Read | Step::Wait => {}
                    Step::End => return self.failure.take().map_or(Ok(None), Err),
                }
            }
            match self.wait().await? {
                Event::Read(of, outcome) => {
                    self.check_over()?;
                    if let Some(delivery) = self.take(of, outcome)? {
                        return Ok(Some(delivery));
                    }
                }
                Event::Started(started) => self.begin(started)?,
                Event::Changed => {}
            }
        }
    }

    /// Fails if the subscription is over, whatever there is to read.
    fn check_over(&mut self) -> Result<(), Error> {
        let core = self.broker.core();
        core.check_alive()?;
        if let Err(stopping) = core.check_accepting() {
            if let Some(member) = &mut self.member {
                member.membership.stay();
            }
            return Err(stopping);
        }
        if self.topic.is_deleted() {
            return Err(self.topic.not_found());
        }
        let ended = self.member.as_ref().and_then(|it| it.membership.ended());
        ended.map_or(Ok(()), Err)
    }

    fn step(&mut self) -> Step {
        if self.remaining == Some(0) {
            return Step::End;
        }
        while let Some(partition) = self.listener.take_partition() {
            // It may have been lost since it was told.
            let Some(at) = self.place_of(partition) else {
                continue;
            };
            self.readings[at].begin_look();
            if self.member.is_some() {
                self.readings[at].resume_if_mended();
            }
            let reading = &self.readings[at];
            if reading.is_over() {
                continue;
            }
            if reading.has_more() {
                let room = self.room(reading);
                if room > 0 {
                    return self.read(at, room);
                }
                if !self.without_room.contains(&partition) {
                    self.without_room.push(partition);
                }
            } else if let Some(error) = reading.failure() {
                return Step::Tell(self.suspend(at, error));
            }
        }
        if self.member.is_some() || self.readings.iter().any(|reading| !reading.is_over()) {
            Step::Wait
        } else {
            Step::End
        }
    }

    /// Looks again at what waits for commits.
    fn look_for_room(&mut self) {
        for partition in std::mem::take(&mut self.without_room) {
            if let Some(at) = self.place_of(partition) {
                self.readings[at].look_again();
            }
        }
    }

    /// Where the reading of a partition is, if it is read.
    fn place_of(&self, partition: u32) -> Option<usize> {
        self.readings
            .binary_search_by_key(&partition, Reading::partition)
            .ok()
    }

    /// How many more records of a partition may be delivered now.
    fn room(&self, reading: &Reading) -> u64 {
        let most = self.remaining.unwrap_or(u64::MAX);
        match &self.member {
            None => most,
            Some(member) => member
                .membership
                .room(reading.number(), reading.partition())
                .unwrap_or(0),
        }
    }

    /// Takes up the partitions that the topic has got since, from their first record on.
    fn add_new_partitions(&mut self) {
        if !self.follows_new {
            return;
        }
        let now = self.topic.now();
        for partition in now.partitions.iter().skip(self.readings.len()) {
            let reading = Reading::new(Arc::clone(partition), 0, None, &self.listener);
            self.readings.push(reading);
        }
    }

    /// Reads no further what this member has no longer, and tells it what it has.
    fn assign(&mut self, assignment: &Assignment) -> Delivery {
        if let Some(member) = &mut self.member {
            member.assign(assignment);
            self.readings
                .retain(|reading| member.has(reading.partition(), reading.number()));
        }
        let name = |partition: u32| (self.topic.name().to_owned(), partition);
        let partitions = assignment.partitions.iter().map(|it| it.partition);
        Delivery::Assignment {
            partitions: partitions.map(name).collect(),
            revoking: assignment.revoking.iter().copied().map(name).collect(),
            lost: assignment.lost.iter().copied().map(name).collect(),
            revoke_timeout_ms: self.broker.core().config.groups.revoke_timeout_ms,
        }
    }

    /// Begins to read partitions, unless they were lost meanwhile.
    fn begin(&mut self, started: Vec<Started>) -> Result<(), Error> {
        let Some(member) = &self.member else {
            return Ok(());
        };
        for Started {
            number,
            partition,
            offset,
        } in started
        {
            let index = partition.index();
            let reading = match offset {
                Ok(offset) => {
                    if !member.membership.started(number, index, offset) {
                        continue;
                    }
                    Reading::new(partition, offset, None, &self.listener)
                }
                Err(error @ (Error::CorruptSegment { .. } | Error::OffsetBeyondEnd { .. })) => {
                    if !member.has(index, number) {
                        continue;
                    }
                    Reading::broken(partition, error, &self.listener)
                }
                Err(error) => return Err(error),
            };
            let place = self.readings.partition_point(|it| it.partition() < index);
            self.readings.insert(place, reading.of_holding(number));
        }
        Ok(())
    }

    /// Reads what is in memory at once, and has everything else read where it may block.
    fn read(&mut self, at: usize, most: u64) -> Step {
        let reading = &self.readings[at];
        let of = Place {
            partition: reading.partition(),
            number: reading.number(),
        };
        if let Some(batch) = reading.read_resident(self.max_batch_bytes, most) {
            return Step::Found(of, batch);
        }
        let read = reading.read(self.max_batch_bytes, most);
        self.pending = Some(PendingRead {
            of,
            answer: self.broker.core().pool.start(read),
        });
        Step::Read
    }

    /// Takes what a read has found, unless the partition was lost meanwhile.
    fn take(
        &mut self,
        of: Place,
        outcome: Result<ReadBatch, Error>,
    ) -> Result<Option<Delivery>, Error> {
        let place = self.place_of(of.partition);
        let Some(at) = place.filter(|&at| self.readings[at].number() == of.number) else {
            return Ok(None);
        };
        // There may be more of it, for which it takes its turn again.
        self.readings[at].look_again();
        match outcome {
            Ok(batch) => {
                if !self.may_deliver(at, &batch) {
                    return Ok(None);
                }
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

    /// Whether what was read may be delivered: a member may have lost the partition while it was.
    fn may_deliver(&self, at: usize, batch: &ReadBatch) -> bool {
        let Some(member) = self.member.as_ref().filter(|_| batch.record_count > 0) else {
            return true;
        };
        let reading = &self.readings[at];
        let what = HandOut {
            from: reading.next(),
            end: batch.next_offset.get(),
            records: u64::from(batch.record_count),
        };
        let membership = &member.membership;
        membership.deliver(reading.number(), reading.partition(), what)
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

    /// Where reading has come to.
    fn cursor(&self, at: usize) -> Cursor {
        let (group, session) = match &self.member {
            Some(member) => (
                member.membership.group().to_owned(),
                member.cursor_session(self.readings[at].number()),
            ),
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
