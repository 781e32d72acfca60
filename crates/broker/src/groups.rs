//! Who is in which group, and who holds which partition: the state machines of all groups, and those who
//! wait for what they decide.

mod commits;
mod coordinator;
mod freeze;
mod membership;
mod timers;

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};
use std::time::Duration;

use flowstone_disk::Clock;
use tokio::sync::{OwnedSemaphorePermit, watch};
use uuid::Uuid;

pub(crate) use commits::{InFlight, Session};
pub(crate) use coordinator::{Assigned, Assignment, HandOut, Holding};
pub(crate) use membership::{Join, Membership};

use crate::topics::Topic;
use crate::{BrokerConfig, MemberInfo};
use coordinator::{Coordinator, Decision, Ended, Time, Times};
use timers::Timers;

/// All groups that have members, and those whose commits are on their way.
#[derive(Clone, Debug)]
pub(crate) struct Groups(Arc<Hub>);

#[derive(Debug)]
struct Hub {
    clock: Arc<dyn Clock>,
    times: Times,
    /// Taken before a group's own lock, and let go as soon as that is held.
    groups: Mutex<BTreeMap<String, Arc<Group>>>,
    timers: Timers,
    /// How often partitions have moved.
    rebalances: AtomicU64,
    /// Behind all numbers of coordinators that are forgotten: of two holdings of a partition the later
    /// one has the greater number.
    numbers: AtomicU64,
}

/// One group.
#[derive(Debug)]
struct Group {
    name: String,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    topics: BTreeMap<Uuid, InTopic>,
    /// How many want nobody to be assigned anything.
    frozen: u32,
    /// When the group is looked at.
    due: Option<Time>,
}

/// The group's members in one topic.
#[derive(Debug)]
struct InTopic {
    topic: Arc<Topic>,
    coordinator: Coordinator,
    /// Of each session that has a stream.
    streams: HashMap<Uuid, Arc<Ear>>,
    /// The places among all subscriptions of sessions whose stream has ended but who may come back.
    away: HashMap<Uuid, OwnedSemaphorePermit>,
}

/// What a stream hears on.
#[derive(Debug)]
struct Ear {
    told: watch::Sender<u64>,
    ended: OnceLock<Ended>,
}

/// How the members of a group stand.
#[derive(Clone, Debug, Default)]
pub(crate) struct GroupNow {
    /// By the name of the topic that they read, then in the order of joining.
    pub(crate) members: Vec<MemberInfo>,
    /// Whether partitions are on their way from one member to another.
    pub(crate) rebalancing: bool,
    /// The topics that members read, by name.
    pub(crate) topics: Vec<Arc<Topic>>,
}

/// How all groups stand together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct GroupCounts {
    pub(crate) groups: u64,
    pub(crate) members: u64,
    pub(crate) revoking: u64,
    /// Since the broker was opened.
    pub(crate) rebalances: u64,
}

impl Groups {
    pub(crate) fn new(config: &BrokerConfig, clock: Arc<dyn Clock>) -> Self {
        Self(Arc::new(Hub {
            clock,
            times: Times {
                revoke: Duration::from_millis(config.groups.revoke_timeout_ms),
                reconnect: Duration::from_millis(config.groups.member_reconnect_timeout_ms),
            },
            groups: Mutex::default(),
            timers: Timers::default(),
            rebalances: AtomicU64::new(0),
            numbers: AtomicU64::new(1),
        }))
    }

    /// How the members of a group stand.
    pub(crate) fn now_of(&self, name: &str) -> GroupNow {
        let Some(group) = self.0.groups().get(name).cloned() else {
            return GroupNow::default();
        };
        let state = group.state();
        let mut topics: Vec<_> = state.topics.values().collect();
        topics.sort_by_key(|in_topic| in_topic.topic.name());
        topics.retain(|in_topic| in_topic.coordinator.has_members());
        GroupNow {
            members: topics.iter().flat_map(|it| it.members()).collect(),
            rebalancing: topics.iter().any(|it| it.coordinator.is_rebalancing()),
            topics: topics.iter().map(|it| Arc::clone(&it.topic)).collect(),
        }
    }

    /// Names of groups that have members, from the first after `after` on: at most `limit`.
    pub(crate) fn names_after(&self, after: Option<&str>, limit: usize) -> Vec<String> {
        use std::ops::Bound::{Excluded, Unbounded};
        let from = after.map_or(Unbounded, Excluded);
        self.0
            .groups()
            .range::<str, _>((from, Unbounded))
            .filter(|(_, group)| group.state().has_members())
            .take(limit)
            .map(|(name, _)| name.clone())
            .collect()
    }

    /// How all groups stand together.
    pub(crate) fn counts(&self) -> GroupCounts {
        let groups: Vec<_> = self.0.groups().values().cloned().collect();
        let mut counts = GroupCounts {
            rebalances: self.0.rebalances.load(Ordering::Relaxed),
            ..GroupCounts::default()
        };
        for group in groups {
            let state = group.state();
            counts.groups += u64::from(state.has_members());
            for in_topic in state.topics.values() {
                counts.members += in_topic.coordinator.members().count() as u64;
                counts.revoking += in_topic.coordinator.revoking_count() as u64;
            }
        }
        counts
    }

    /// Does what is due in all groups. True if anything was.
    pub(crate) fn run_due(&self) -> bool {
        self.0.run_due()
    }

    /// Does what is due whenever it is, until it is stopped.
    pub(crate) fn run_timers(&self) {
        self.0.run_timers();
    }

    /// Ends [`run_timers`](Self::run_timers).
    pub(crate) fn stop(&self) {
        self.0.timers.stop();
    }
}

impl Hub {
    fn groups(&self) -> MutexGuard<'_, BTreeMap<String, Arc<Group>>> {
        self.groups.lock().expect(NO_PANIC)
    }

    fn now(&self) -> Time {
        self.clock.monotonic()
    }

    /// Does something with a group, which is made if it is not there.
    fn enter<R>(&self, name: &str, work: impl FnOnce(&Arc<Group>, &mut State) -> R) -> R {
        let mut groups = self.groups();
        let group = match groups.get(name) {
            Some(group) => Arc::clone(group),
            None => {
                let group = Arc::new(Group {
                    name: name.to_owned(),
                    state: Mutex::default(),
                });
                groups.insert(name.to_owned(), Arc::clone(&group));
                group
            }
        };
        // Only then may another take the group out.
        let mut state = group.state();
        drop(groups);
        work(&group, &mut state)
    }

    /// Does something with a group that cannot go away meanwhile, and sees to what it decides.
    fn change<R>(&self, group: &Arc<Group>, work: impl FnOnce(&mut State, Time) -> R) -> R {
        let mut state = group.state();
        let result = work(&mut state, self.now());
        let idle = self.settle(group, &mut state);
        drop(state);
        if idle {
            self.forget(group);
        }
        result
    }

    /// Tells what was decided, and sees to it that the group is looked at in time. True if nobody is in
    /// the group any more.
    fn settle(&self, group: &Arc<Group>, state: &mut State) -> bool {
        state.topics.retain(|_, in_topic| {
            in_topic.tell();
            let moves = in_topic.coordinator.take_rebalances();
            self.rebalances.fetch_add(moves, Ordering::Relaxed);
            let idle = in_topic.coordinator.is_idle();
            if idle {
                let next = in_topic.coordinator.next_number();
                self.numbers.fetch_max(next, Ordering::Relaxed);
            }
            !idle
        });
        let deadlines = state.topics.values();
        let due = deadlines
            .filter_map(|it| it.coordinator.next_deadline())
            .min();
        if due != state.due {
            self.timers.plan(group, state.due, due);
            state.due = due;
        }
        state.is_idle()
    }

    /// Lets go of a group that nobody is in.
    fn forget(&self, group: &Arc<Group>) {
        let mut groups = self.groups();
        let there = groups.get(&group.name);
        if there.is_some_and(|there| Arc::ptr_eq(there, group)) && group.state().is_idle() {
            groups.remove(&group.name);
        }
    }
}

impl Group {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect(NO_PANIC)
    }
}

impl State {
    fn has_members(&self) -> bool {
        let mut topics = self.topics.values();
        topics.any(|in_topic| in_topic.coordinator.has_members())
    }

    fn is_idle(&self) -> bool {
        self.topics.is_empty() && self.frozen == 0
    }

    /// The members in a topic, which are none at first.
    fn in_topic(&mut self, hub: &Hub, topic: &Arc<Topic>) -> &mut InTopic {
        self.topics.entry(topic.id()).or_insert_with(|| InTopic {
            topic: Arc::clone(topic),
            coordinator: Coordinator::new(
                hub.times,
                topic.partition_count(),
                self.frozen > 0,
                hub.numbers.load(Ordering::Relaxed),
            ),
            streams: HashMap::new(),
            away: HashMap::new(),
        })
    }
}

impl InTopic {
    /// Tells the streams what was decided.
    fn tell(&mut self) {
        for decision in self.coordinator.take_decisions() {
            match decision {
                Decision::Wake(session) => {
                    if let Some(ear) = self.streams.get(&session) {
                        ear.wake();
                    }
                }
                Decision::End(session, why) => {
                    self.away.remove(&session);
                    if let Some(ear) = self.streams.remove(&session) {
                        let _ = ear.ended.set(why);
                        ear.wake();
                    }
                }
            }
        }
    }

    fn members(&self) -> impl Iterator<Item = MemberInfo> {
        let topic = self.topic.name();
        self.coordinator
            .members()
            .map(move |(name, session, peer, partitions)| MemberInfo {
                member: name.to_owned(),
                session: session.to_string(),
                peer: peer.to_owned(),
                partitions: partitions
                    .into_iter()
                    .map(|partition| (topic.to_owned(), partition))
                    .collect(),
            })
    }
}

impl Ear {
    fn wake(&self) {
        self.told.send_modify(|count| *count += 1);
    }
}

const NO_PANIC: &str = "nothing panics with groups in hand";
