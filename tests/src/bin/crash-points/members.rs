//! Members of a group that join, read, commit and leave while all else goes on.

use std::collections::BTreeMap;
use std::pin::pin;
use std::task::Poll;

use flowstone_broker::{Cursor, Delivery, SubscribeRequest, Subscription};

use crate::driven::poll;
use crate::work::{Commit, Session};

/// Their group. Nobody else commits for it.
const CREW: &str = "crew";
const MEMBERS_MAX: usize = 4;
/// As many deliveries are taken at a time.
const DELIVERIES_MAX: u64 = 4;

/// A member, and what it holds.
pub(crate) struct Member {
    topic: String,
    /// Of the topic, which tells it from others of its name.
    number: u64,
    subscription: Subscription,
    /// By partition: what to commit, and which holding it is of.
    held: BTreeMap<u32, Cursor>,
}

impl Session<'_> {
    /// Somebody joins, reads, commits or leaves.
    pub(crate) fn crew(&self) -> Result<(), String> {
        let count = self.members.borrow().len();
        let any = |count: usize| self.dice.pick(0..count as u64) as usize;
        match self.dice.pick(0..10) {
            _ if count == 0 => self.join(),
            0 if count < MEMBERS_MAX => self.join(),
            1 => drop(self.members.borrow_mut().remove(any(count))),
            2..6 => return self.take(any(count)),
            _ => self.commit_of(any(count)),
        }
        Ok(())
    }

    fn join(&self) {
        let Some((topic, number)) = self.any_topic() else {
            return;
        };
        let member = match self.dice.pick(0..4) {
            0 => "till",
            1 => "desk",
            _ => "",
        };
        let request = SubscribeRequest {
            topic: topic.clone(),
            group: Some(CREW.to_owned()),
            member: member.to_owned(),
            max_batch_bytes: self.dice.pick(1..2_000) as u32,
            max_uncommitted_records: self.dice.pick(0..3) as u32 * 4,
            ..SubscribeRequest::default()
        };
        if let Ok(subscription) = self.driven.wait(self.driven.broker.subscribe(request)) {
            self.members.borrow_mut().push(Member {
                topic,
                number,
                subscription,
                held: BTreeMap::new(),
            });
        }
    }

    /// A member takes what there is for it.
    fn take(&self, at: usize) -> Result<(), String> {
        self.driven.drain();
        for _ in 0..self.dice.pick(1..DELIVERIES_MAX) {
            let next = poll(pin!(self.members.borrow_mut()[at].subscription.next()));
            match next {
                Poll::Pending => return Ok(()),
                Poll::Ready(Some(Ok(delivery))) => self.taken(at, delivery)?,
                // Its topic is gone, its name is taken, or it has slept too long.
                Poll::Ready(Some(Err(_)) | None) => {
                    self.members.borrow_mut().remove(at);
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    fn taken(&self, at: usize, delivery: Delivery) -> Result<(), String> {
        let member = &mut self.members.borrow_mut()[at];
        match delivery {
            Delivery::Assignment { lost, .. } => {
                for (_, partition) in lost {
                    member.held.remove(&partition);
                }
            }
            Delivery::PartitionError { cursor, .. } => {
                member.held.remove(&cursor.partition);
            }
            Delivery::Records {
                cursor,
                record_count,
                ..
            } => {
                let from = cursor.offset - u64::from(record_count);
                let before = member.held.get(&cursor.partition);
                let before = before.filter(|before| before.session == cursor.session);
                let place = format!("{}, partition {}", member.topic, cursor.partition);
                match before {
                    Some(before) if before.offset != from => {
                        let next = before.offset;
                        return Err(format!("{place}: {from} came where {next} was next"));
                    }
                    Some(_) => {}
                    None => self.check_begin(member, &cursor, from)?,
                }
                member.held.insert(cursor.partition, cursor);
            }
            Delivery::Heartbeat {} => {}
        }
        Ok(())
    }

    /// Nothing was left out that nobody has committed.
    fn check_begin(&self, member: &Member, cursor: &Cursor, from: u64) -> Result<(), String> {
        let described = self.driven.broker.describe_topic(&member.topic);
        let start = described.ok().and_then(|(_, partitions)| {
            let info = partitions.get(cursor.partition as usize)?;
            Some(info.log_start_offset)
        });
        let mut world = self.world.lock();
        let Some(history) = world.ledger.history(&member.topic, member.number) else {
            return Ok(());
        };
        let asked = history.greatest_committing(CREW, cursor.partition as i32) as u64;
        if start.is_some_and(|start| from > start) && from > asked {
            return Err(format!(
                "{}, partition {}: a member begins at {from}, but no more than {asked} was committed",
                member.topic, cursor.partition
            ));
        }
        Ok(())
    }

    /// A member commits something of what it holds.
    fn commit_of(&self, at: usize) {
        let (topic, number, cursor) = {
            let members = self.members.borrow();
            let member = &members[at];
            let cursors: Vec<&Cursor> = member.held.values().collect();
            if cursors.is_empty() {
                return;
            }
            let cursor = cursors[self.dice.pick(0..cursors.len() as u64) as usize].clone();
            (member.topic.clone(), member.number, cursor)
        };
        let (partition, offset) = (cursor.partition, cursor.offset);
        if let Some(history) = self.world.lock().ledger.history(&topic, number) {
            history.committing(CREW, partition as i32, offset as i64);
        }
        let broker = self.driven.broker.clone();
        let mut commit = Commit {
            topic,
            number,
            group: CREW,
            partition,
            offset,
            answer: Box::pin(async move { broker.commit_offsets(vec![cursor], Vec::new()).await }),
        };
        let mut world = self.world.lock();
        if commit.look(&mut world.ledger).is_pending() {
            world.commits.push(commit);
        }
    }
}
