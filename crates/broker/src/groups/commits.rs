//! Commits on their way to disk, during which no partition of theirs is handed on.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use uuid::Uuid;

use super::{Group, Groups, Holding, Hub};
use crate::Error;
use crate::topics::Topic;

/// What stands in a cursor's `session`: the member's session and the number of the holding. A member that
/// has lost a partition and got it again has another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Session {
    pub(crate) id: Uuid,
    pub(crate) number: u64,
}

impl fmt::Display for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.id, self.number)
    }
}

impl FromStr for Session {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (id, number) = text.rsplit_once('.').ok_or(())?;
        Ok(Self {
            id: Uuid::try_parse(id).map_err(|_| ())?,
            number: number.parse().map_err(|_| ())?,
        })
    }
}

/// Commits of one group in one topic that are on their way. Dropped before they are
/// [`stored`](Self::stored), they have failed.
#[derive(Debug)]
pub(crate) struct InFlight {
    hub: Arc<Hub>,
    group: Arc<Group>,
    topic: Uuid,
    /// With the offset of each.
    commits: Vec<(Holding, u64)>,
    stored: bool,
}

impl Groups {
    /// Begins commits of members. Tells of each whether it may go on, or is stale.
    pub(crate) fn begin(
        &self,
        group: &str,
        topic: &Arc<Topic>,
        commits: &[(Holding, u64)],
    ) -> (Vec<bool>, Option<InFlight>) {
        let Some(group) = self.0.groups().get(group).cloned() else {
            return (vec![false; commits.len()], None);
        };
        let current: Vec<bool> = self.0.change(&group, |state, now| {
            let Some(in_topic) = state.topics.get_mut(&topic.id()) else {
                return vec![false; commits.len()];
            };
            let coordinator = &mut in_topic.coordinator;
            let begin = |&(holding, _): &(Holding, u64)| {
                coordinator.called(now, holding.session);
                coordinator.commit_begin(holding)
            };
            commits.iter().map(begin).collect()
        });
        let begun = commits
            .iter()
            .zip(&current)
            .filter(|(_, current)| **current);
        let begun: Vec<_> = begun.map(|(commit, _)| *commit).collect();
        let in_flight = (!begun.is_empty()).then(|| InFlight {
            hub: Arc::clone(&self.0),
            group,
            topic: topic.id(),
            commits: begun,
            stored: false,
        });
        (current, in_flight)
    }

    /// Gives a partition up. False if the holding is stale.
    pub(crate) fn release(&self, group: &str, topic: &Arc<Topic>, holding: Holding) -> bool {
        let Some(group) = self.0.groups().get(group).cloned() else {
            return false;
        };
        self.0.change(&group, |state, now| {
            let Some(in_topic) = state.topics.get_mut(&topic.id()) else {
                return false;
            };
            in_topic.coordinator.called(now, holding.session);
            in_topic.coordinator.release(now, holding)
        })
    }

    /// Fails if the group has members, of any topic.
    pub(crate) fn check_empty(&self, group: &str) -> Result<(), Error> {
        let there = self.0.groups().get(group).cloned();
        match there.is_some_and(|there| there.state().has_members()) {
            true => Err(Error::GroupActive {
                group: group.to_owned(),
            }),
            false => Ok(()),
        }
    }

    /// The partitions of a topic that a session has to give up.
    pub(crate) fn revoking_of(&self, group: &str, topic: Uuid, session: Uuid) -> Vec<u32> {
        let Some(group) = self.0.groups().get(group).cloned() else {
            return Vec::new();
        };
        let state = group.state();
        let in_topic = state.topics.get(&topic);
        in_topic.map_or_else(Vec::new, |it| it.coordinator.revoking_of(session))
    }
}

impl InFlight {
    /// They are durable.
    pub(crate) fn stored(mut self) {
        self.stored = true;
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        let Self {
            hub,
            group,
            topic,
            commits,
            stored,
        } = self;
        hub.change(group, |state, now| {
            let Some(in_topic) = state.topics.get_mut(topic) else {
                return;
            };
            for &(holding, offset) in commits.iter() {
                let offset = stored.then_some(offset);
                in_topic.coordinator.commit_end(now, holding, offset);
            }
        });
    }
}
