//! Who reads in which group: one member for each group and topic, until groups are balanced.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use flowstone_disk::Random;
use uuid::Uuid;

use crate::topics::Topic;
use crate::{Error, MemberInfo};

/// All members of all groups.
#[derive(Debug, Default)]
pub(crate) struct Members(Arc<Mutex<Groups>>);

/// By group, then by topic.
type Groups = BTreeMap<String, BTreeMap<Uuid, Arc<Member>>>;

/// A member.
#[derive(Debug)]
pub(crate) struct Member {
    pub(crate) name: String,
    pub(crate) session: String,
    pub(crate) peer: String,
    pub(crate) topic: Arc<Topic>,
    replaced: AtomicBool,
}

/// Being in a group. Dropping it leaves.
#[derive(Debug)]
pub(crate) struct Membership {
    pub(crate) group: String,
    pub(crate) member: Arc<Member>,
    groups: Arc<Mutex<Groups>>,
}

impl Members {
    /// Joins a group. A member of the same name is replaced; any other is in the way.
    pub(crate) fn join(
        &self,
        random: &dyn Random,
        group: &str,
        topic: &Arc<Topic>,
        name: &str,
        peer: &str,
    ) -> Result<Membership, Error> {
        let mut groups = self.groups();
        let there = groups.get(group).and_then(|topics| topics.get(&topic.id()));
        if let Some(there) = there {
            if name.is_empty() || there.name != name {
                return Err(Error::GroupActive {
                    group: group.to_owned(),
                });
            }
            there.replaced.store(true, Ordering::Release);
        }
        let member = Arc::new(Member {
            name: name.to_owned(),
            session: Uuid::from_bytes(random.uuid_bytes()).to_string(),
            peer: peer.to_owned(),
            topic: Arc::clone(topic),
            replaced: AtomicBool::new(false),
        });
        groups
            .entry(group.to_owned())
            .or_default()
            .insert(topic.id(), Arc::clone(&member));
        drop(groups);
        // The one that was replaced has to notice.
        topic.wake();
        Ok(Membership {
            group: group.to_owned(),
            member,
            groups: Arc::clone(&self.0),
        })
    }

    /// The session that may commit for a group in a topic, if there is a member.
    pub(crate) fn session(&self, group: &str, topic: Uuid) -> Option<String> {
        let groups = self.groups();
        let member = groups.get(group)?.get(&topic)?;
        Some(member.session.clone())
    }

    /// The members of a group, by the name of the topic that they read.
    pub(crate) fn of(&self, group: &str) -> Vec<MemberInfo> {
        let mut members: Vec<_> = self
            .groups()
            .get(group)
            .map(|topics| topics.values().cloned().collect())
            .unwrap_or_default();
        members.sort_by(|a: &Arc<Member>, b| a.topic.name().cmp(b.topic.name()));
        members.iter().map(|member| member.info()).collect()
    }

    /// Names of groups that have members, from the first after `after` on: at most `limit`.
    pub(crate) fn names_after(&self, after: Option<&str>, limit: usize) -> Vec<String> {
        use std::ops::Bound::{Excluded, Unbounded};
        let from = after.map_or(Unbounded, Excluded);
        self.groups()
            .range::<str, _>((from, Unbounded))
            .take(limit)
            .map(|(name, _)| name.clone())
            .collect()
    }

    fn groups(&self) -> MutexGuard<'_, Groups> {
        lock(&self.0)
    }
}

impl Member {
    fn info(&self) -> MemberInfo {
        let count = self.topic.now().info.spec.partition_count;
        MemberInfo {
            member: self.name.clone(),
            session: self.session.clone(),
            peer: self.peer.clone(),
            partitions: (0..count)
                .map(|partition| (self.topic.name().to_owned(), partition))
                .collect(),
        }
    }
}

impl Membership {
    /// The error of a member whose place was taken.
    pub(crate) fn replaced(&self) -> Option<Error> {
        self.member
            .replaced
            .load(Ordering::Acquire)
            .then(|| Error::MemberReplaced {
                group: self.group.clone(),
                member: self.member.name.clone(),
            })
    }
}

impl Drop for Membership {
    fn drop(&mut self) {
        let mut groups = lock(&self.groups);
        let Some(topics) = groups.get_mut(&self.group) else {
            return;
        };
        let topic = self.member.topic.id();
        if topics
            .get(&topic)
            .is_some_and(|there| Arc::ptr_eq(there, &self.member))
        {
            topics.remove(&topic);
        }
        if topics.is_empty() {
            groups.remove(&self.group);
        }
    }
}

fn lock(groups: &Mutex<Groups>) -> MutexGuard<'_, Groups> {
    groups.lock().expect("nothing panics with groups in hand")
}

#[cfg(test)]
mod tests {
    use flowstone_disk::SeededRandom;

    use super::*;
    use crate::{TopicInfo, TopicSpec};

    fn topic(id: u128) -> Arc<Topic> {
        Arc::new(Topic::new(TopicInfo {
            spec: TopicSpec::new("visits", 1),
            id: Uuid::from_u128(id),
            created_ms: 0,
        }))
    }

    fn active() -> Error {
        Error::GroupActive {
            group: "billing".to_owned(),
        }
    }

    #[test]
    fn a_second_member_is_refused_until_the_first_has_left() {
        let (members, random, topic) = (Members::default(), SeededRandom::new(1), topic(1));
        let join = |name| members.join(&random, "billing", &topic, name, "");
        let first = join("").expect("nobody is in");
        assert_eq!(
            join("").map(drop),
            Err(active()),
            "no name is nobody's name"
        );
        assert_eq!(join("other").map(drop), Err(active()));
        drop(first);
        assert_eq!(members.names_after(None, 9), Vec::<String>::new());
        join("other").expect("the first has left");
    }

    #[test]
    fn the_same_name_takes_the_place_and_the_old_session_ends() {
        let (members, random, topic) = (Members::default(), SeededRandom::new(1), topic(1));
        let join = || {
            members
                .join(&random, "billing", &topic, "till", "")
                .expect("it may")
        };
        let first = join();
        let second = join();
        assert!(first.replaced().is_some());
        assert!(second.replaced().is_none());
        drop(first);
        let session = members.session("billing", topic.id());
        assert_eq!(session.as_ref(), Some(&second.member.session));
    }

    #[test]
    fn topics_of_a_group_have_members_of_their_own() {
        let (members, random) = (Members::default(), SeededRandom::new(1));
        let join = |topic| members.join(&random, "billing", topic, "", "");
        let (one, other) = (topic(1), topic(2));
        let _first = join(&one).expect("nobody is in");
        let _second = join(&other).expect("it is another topic");
        assert_eq!(members.of("billing").len(), 2);
    }
}
