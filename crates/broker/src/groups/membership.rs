//! Being in a group: a stream's side of it.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, watch};
use uuid::Uuid;

use super::coordinator::{Coordinator, Ended, Joining, Time};
use super::{Assignment, Ear, Group, Groups, HandOut, Holding, Hub, commits};
use crate::Error;
use crate::topics::Topic;

/// Who joins, and how.
#[derive(Clone, Debug)]
pub(crate) struct Join<'a> {
    pub(crate) group: &'a str,
    pub(crate) topic: &'a Arc<Topic>,
    /// Perhaps empty.
    pub(crate) member: &'a str,
    pub(crate) peer: &'a str,
    pub(crate) session: Uuid,
    pub(crate) processing_timeout_ms: u64,
    /// 0 for no limit.
    pub(crate) max_uncommitted_records: u64,
}

/// A stream's place in a group. Dropping it ends the stream.
#[derive(Debug)]
pub(crate) struct Membership {
    hub: Arc<Hub>,
    group: Arc<Group>,
    topic: Arc<Topic>,
    member: String,
    session: Uuid,
    ear: Arc<Ear>,
    told: watch::Receiver<u64>,
    /// Its place among all subscriptions.
    place: Option<OwnedSemaphorePermit>,
    /// Set where its end is the broker's, whose clients still commit what they have.
    stays: bool,
}

impl Groups {
    /// Joins a group. What it is assigned comes with [`Membership::take_assignment`].
    pub(crate) fn join(&self, join: &Join<'_>, place: OwnedSemaphorePermit) -> Membership {
        let hub = &self.0;
        let ear = Arc::new(Ear {
            told: watch::Sender::new(0),
            ended: OnceLock::new(),
        });
        let joining = Joining {
            name: join.member.to_owned(),
            peer: join.peer.to_owned(),
            session: join.session,
            processing_timeout: Duration::from_millis(join.processing_timeout_ms),
            max_uncommitted_records: join.max_uncommitted_records,
        };
        let told = ear.told.subscribe();
        let group = hub.enter(join.group, |group, state| {
            let now = hub.now();
            let in_topic = state.in_topic(hub, join.topic);
            let count = join.topic.partition_count();
            in_topic.streams.insert(join.session, Arc::clone(&ear));
            in_topic.coordinator.grow(now, count);
            in_topic.coordinator.join(now, joining);
            hub.settle(group, state);
            Arc::clone(group)
        });
        Membership {
            hub: Arc::clone(hub),
            group,
            topic: Arc::clone(join.topic),
            member: join.member.to_owned(),
            session: join.session,
            ear,
            told,
            place: Some(place),
            stays: false,
        }
    }
}

impl Membership {
    pub(crate) fn group(&self) -> &str {
        &self.group.name
    }

    /// Whether something has changed since this was asked last; asked before anything is looked at, no change is
    /// missed.
    pub(crate) fn take_told(&mut self) -> bool {
        let changed = self.told.has_changed().unwrap_or(true);
        self.told.borrow_and_update();
        changed
    }

    /// What to wait on, while the membership is in use otherwise.
    pub(crate) fn listen(&self) -> watch::Receiver<u64> {
        self.told.clone()
    }

    /// The session in cursors of a holding.
    pub(crate) fn cursor_session(&self, number: u64) -> String {
        commits::Session {
            id: self.session,
            number,
        }
        .to_string()
    }

    /// Why the session is over, if it is.
    pub(crate) fn ended(&self) -> Option<Error> {
        let group = || self.group.name.clone();
        let member = || self.member.clone();
        self.ear.ended.get().map(|why| match *why {
            Ended::Replaced => Error::MemberReplaced {
                group: group(),
                member: member(),
            },
            Ended::TimedOut(timeout_ms) => Error::MemberTimedOut {
                group: group(),
                member: member(),
                timeout_ms,
            },
            Ended::Put | Ended::Away => Error::StaleSession { group: group() },
        })
    }

    /// What this member is to be told of its partitions, if that has changed.
    pub(crate) fn take_assignment(&self) -> Option<Assignment> {
        let count = self.topic.partition_count();
        self.with(|coordinator, now| {
            coordinator.grow(now, count);
            coordinator.take_assignment(self.session)
        })
        .flatten()
    }

    /// Reading of a partition begins at what the group has committed. False if it was lost.
    pub(crate) fn started(&self, number: u64, partition: u32, offset: u64) -> bool {
        let holding = self.holding(number, partition);
        self.with(|coordinator, _| coordinator.started(holding, offset))
            .unwrap_or(false)
    }

    /// How many records of a partition may be handed out now; `None` if it may not be read.
    pub(crate) fn room(&self, number: u64, partition: u32) -> Option<u64> {
        let state = self.group.state();
        let in_topic = state.topics.get(&self.topic.id())?;
        in_topic.coordinator.room(self.holding(number, partition))
    }

    /// Asks to hand out records; where this is false they must not be.
    pub(crate) fn deliver(&self, number: u64, partition: u32, what: HandOut) -> bool {
        let holding = self.holding(number, partition);
        self.with(|coordinator, now| coordinator.deliver(now, holding, what))
            .unwrap_or(false)
    }

    /// A holding of this session.
    pub(crate) fn holding(&self, number: u64, partition: u32) -> Holding {
        Holding {
            session: self.session,
            number,
            partition,
        }
    }

    /// Leaves nothing behind but the stream when it is dropped: what was handed out can still be
    /// committed until the broker ends.
    pub(crate) fn stay(&mut self) {
        self.stays = true;
    }

    fn with<R>(&self, work: impl FnOnce(&mut Coordinator, Time) -> R) -> Option<R> {
        self.hub.change(&self.group, |state, now| {
            let in_topic = state.topics.get_mut(&self.topic.id())?;
            Some(work(&mut in_topic.coordinator, now))
        })
    }
}

impl Drop for Membership {
    fn drop(&mut self) {
        if self.stays {
            return;
        }
        // Nobody comes back for a topic that is no more.
        let may_return = !self.topic.is_deleted();
        let place = self.place.take();
        self.hub.change(&self.group, |state, now| {
            if let Some(in_topic) = state.topics.get_mut(&self.topic.id()) {
                in_topic.streams.remove(&self.session);
                let coordinator = &mut in_topic.coordinator;
                coordinator.stream_ended(now, self.session, may_return);
                if let Some(place) = place.filter(|_| coordinator.knows(self.session)) {
                    in_topic.away.insert(self.session, place);
                }
            }
        });
    }
}
