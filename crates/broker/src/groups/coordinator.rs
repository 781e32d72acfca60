//! Who holds which partition of one topic in one group: a state machine that knows no I/O, no clock and
//! no lock. Events come in with the time at which they happen, a steady one; who has to look is told out.
//!
//! A partition has at most one holder, and every holding has a number: a cursor of an earlier one is
//! stale. A partition that has to move is revoked: nothing more of it is handed out, and it is lost as
//! soon as all that was handed out is committed or it is released, at the latest when the time is over.
//! Its next holder hears of it only when no commit of an earlier one is on its way to disk any more.

mod balance;
mod delivery;
mod member;
mod slot;
mod window;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use uuid::Uuid;

pub(crate) use delivery::{HandOut, Holding};
use member::Member;
use slot::{Holder, Phase, Slot};

/// Steady time since some moment before.
pub(crate) type Time = Duration;

/// A member, in the order of joining. Someone who takes its place keeps it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct MemberId(u64);

/// How long things may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Times {
    /// Until a revoked partition is lost.
    pub(crate) revoke: Duration,
    /// For which a member with a name keeps its partitions without a stream.
    pub(crate) reconnect: Duration,
}

/// What a member brings along.
#[derive(Clone, Debug)]
pub(crate) struct Joining {
    /// Its name, perhaps empty.
    pub(crate) name: String,
    /// Where it comes from.
    pub(crate) peer: String,
    /// Another one for each stream.
    pub(crate) session: Uuid,
    /// For how long it may hold uncommitted records without a call to commit.
    pub(crate) processing_timeout: Duration,
    /// Most records of each partition beyond the commit; 0 for no limit.
    pub(crate) max_uncommitted_records: u64,
}

/// What somebody has to hear.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Decision {
    /// The session has to look: at its assignment, or for more records.
    Wake(Uuid),
    /// The session is over.
    End(Uuid, Ended),
}

/// Why a session is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    /// Another stream of the same name has taken its place.
    Replaced,
    /// It held uncommitted records and did not call to commit for too long, in milliseconds.
    TimedOut(u64),
    /// Someone has ended all sessions of the group.
    Put,
    /// Its stream had ended, and no other has come in time.
    Away,
}

/// A partition that is assigned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Assigned {
    pub(crate) partition: u32,
    /// The number of this holding.
    pub(crate) number: u64,
    /// Whether the partition was added while the group had members, who read it from its first record on.
    pub(crate) grown: bool,
}

/// What a member is told of its partitions, each list ascending.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Assignment {
    /// All that it may read.
    pub(crate) partitions: Vec<Assigned>,
    /// All that it has to give up.
    pub(crate) revoking: Vec<u32>,
    /// What it has lost since it was told last. One that stands among `partitions` too has come back.
    pub(crate) lost: Vec<u32>,
}

/// The state machine of one group and topic.
#[derive(Debug)]
pub(crate) struct Coordinator {
    times: Times,
    members: BTreeMap<MemberId, Member>,
    /// Of members that have one.
    by_name: BTreeMap<String, MemberId>,
    by_session: BTreeMap<Uuid, MemberId>,
    slots: Vec<Slot>,
    /// Partitions without a holder.
    free: BTreeSet<u32>,
    /// How many partitions are being revoked.
    revoking: usize,
    /// How many commits are on their way to disk.
    in_flight: usize,
    frozen: bool,
    timers: BTreeSet<(Time, Timer)>,
    /// The next member or holding.
    next: u64,
    /// How often partitions have moved because somebody came or went, or the topic grew.
    rebalances: u64,
    decisions: Vec<Decision>,
}

/// What to look at when its time has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Timer {
    /// A partition that is being revoked.
    Revoking(u32),
    Member(MemberId),
}

impl Coordinator {
    /// One for a topic with so many partitions, whose members and holdings are numbered from `first` on.
    pub(crate) fn new(times: Times, partition_count: u32, frozen: bool, first: u64) -> Self {
        Self {
            times,
            members: BTreeMap::new(),
            by_name: BTreeMap::new(),
            by_session: BTreeMap::new(),
            slots: (0..partition_count).map(|_| Slot::new(false)).collect(),
            free: (0..partition_count).collect(),
            revoking: 0,
            in_flight: 0,
            frozen,
            timers: BTreeSet::new(),
            next: first,
            rebalances: 0,
            decisions: Vec::new(),
        }
    }

    /// Somebody joins. Of the same name as one that is there, it takes the place of that one and gets
    /// the same partitions.
    pub(crate) fn join(&mut self, now: Time, joining: Joining) {
        let session = joining.session;
        let there = self.by_name.get(&joining.name).copied();
        let id = match there {
            Some(id) => {
                self.take_place(id, joining);
                id
            }
            None => {
                let id = MemberId(self.number());
                if !joining.name.is_empty() {
                    self.by_name.insert(joining.name.clone(), id);
                }
                self.members.insert(id, Member::new(joining));
                id
            }
        };
        self.by_session.insert(session, id);
        self.touch(id);
        self.balance_all(now);
    }

    /// The stream of a session has ended. One with a name is waited for, if `may_return`.
    pub(crate) fn stream_ended(&mut self, now: Time, session: Uuid, may_return: bool) {
        let Some((id, member)) = self.member_mut(session) else {
            return;
        };
        if member.name.is_empty() || !may_return {
            self.remove(id);
            self.balance_all(now);
            return;
        }
        member.gone_since = Some(now);
        self.arm(id);
    }

    /// The topic has this many partitions now.
    pub(crate) fn grow(&mut self, now: Time, partition_count: u32) {
        let before = self.slots.len() as u32;
        if partition_count <= before {
            return;
        }
        let grown = !self.members.is_empty();
        self.slots
            .resize_with(partition_count as usize, || Slot::new(grown));
        self.free.extend(before..partition_count);
        self.balance_all(now);
    }

    /// Looks at all whose time has come.
    pub(crate) fn tick(&mut self, now: Time) {
        while let Some(&(due, timer)) = self.timers.first() {
            if due > now {
                return;
            }
            self.timers.pop_first();
            match timer {
                Timer::Revoking(partition) => {
                    self.vacate(partition);
                    self.balance(now);
                }
                Timer::Member(id) => self.look_at(now, id),
            }
        }
    }

    fn look_at(&mut self, now: Time, id: MemberId) {
        let reconnect = self.times.reconnect;
        let Some(member) = self.members.get_mut(&id) else {
            return;
        };
        member.timer = None;
        let (session, timeout) = (member.session, member.processing_timeout);
        if member.processing_due().is_some_and(|due| due <= now) {
            let timeout_ms = u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX);
            self.remove(id);
            self.decisions
                .push(Decision::End(session, Ended::TimedOut(timeout_ms)));
            self.balance_all(now);
        } else if member
            .reconnect_due(reconnect)
            .is_some_and(|due| due <= now)
        {
            self.remove(id);
            self.decisions.push(Decision::End(session, Ended::Away));
            self.balance_all(now);
        } else {
            self.arm(id);
        }
    }

    /// Puts all members out. From now on until [`thaw`](Self::thaw) nobody is assigned anything.
    pub(crate) fn freeze(&mut self) {
        self.frozen = true;
        let ids: Vec<_> = self.members.keys().copied().collect();
        for id in ids {
            let session = self.members[&id].session;
            self.remove(id);
            self.decisions.push(Decision::End(session, Ended::Put));
        }
    }

    /// Those who have joined meanwhile get their partitions.
    pub(crate) fn thaw(&mut self, now: Time) {
        self.frozen = false;
        let ids: Vec<_> = self.members.keys().copied().collect();
        for id in ids {
            self.touch(id);
        }
        self.balance_all(now);
    }

    /// What a session has to be told, if that has changed.
    pub(crate) fn take_assignment(&mut self, session: Uuid) -> Option<Assignment> {
        if self.frozen {
            return None;
        }
        let id = *self.by_session.get(&session)?;
        let member = self.members.get_mut(&id)?;
        if !std::mem::take(&mut member.has_news) {
            return None;
        }
        let mut assignment = Assignment {
            lost: std::mem::take(&mut member.lost).into_iter().collect(),
            ..Assignment::default()
        };
        for &partition in &member.held {
            let slot = &mut self.slots[partition as usize];
            let grown = slot.grown;
            let holder = slot.holder.as_mut().expect("what is held has a holder");
            match holder.phase {
                Phase::Waiting => continue,
                Phase::Owned => assignment.partitions.push(Assigned {
                    partition,
                    number: holder.number,
                    grown,
                }),
                Phase::Revoking(_) => assignment.revoking.push(partition),
            }
            holder.told = true;
        }
        Some(assignment)
    }

    /// What was decided since this was last called.
    pub(crate) fn take_decisions(&mut self) -> Vec<Decision> {
        std::mem::take(&mut self.decisions)
    }

    /// When [`tick`](Self::tick) is due.
    pub(crate) fn next_deadline(&self) -> Option<Time> {
        self.timers.first().map(|(due, _)| *due)
    }

    /// Whether nobody is in and nothing is on its way, so that it may be forgotten.
    pub(crate) fn is_idle(&self) -> bool {
        self.members.is_empty() && self.in_flight == 0 && !self.frozen
    }

    /// Whether a session is one of a member, with or without a stream.
    pub(crate) fn knows(&self, session: Uuid) -> bool {
        self.by_session.contains_key(&session)
    }

    /// The number behind all that were given out.
    pub(crate) fn next_number(&self) -> u64 {
        self.next
    }

    pub(crate) fn has_members(&self) -> bool {
        !self.members.is_empty()
    }

    /// Whether partitions are on their way from one member to another.
    pub(crate) fn is_rebalancing(&self) -> bool {
        let waits = |slot: &Slot| {
            let holder = slot.holder.as_ref();
            holder.is_some_and(|holder| holder.phase == Phase::Waiting)
        };
        self.revoking > 0 || (self.in_flight > 0 && self.slots.iter().any(waits))
    }

    pub(crate) fn revoking_count(&self) -> usize {
        self.revoking
    }

    /// How often partitions have moved since this was last called.
    pub(crate) fn take_rebalances(&mut self) -> u64 {
        std::mem::take(&mut self.rebalances)
    }

    /// Name, session, peer and partitions of all members, in the order of joining.
    pub(crate) fn members(&self) -> impl Iterator<Item = (&str, Uuid, &str, Vec<u32>)> {
        self.members.values().map(|member| {
            let held = member.held.iter().copied();
            let told = held.filter(|&partition| {
                let holder = self.slots[partition as usize].holder.as_ref();
                holder.is_some_and(|holder| holder.phase != Phase::Waiting)
            });
            (
                member.name.as_str(),
                member.session,
                member.peer.as_str(),
                told.collect(),
            )
        })
    }

    /// The partitions that a session has to give up.
    pub(crate) fn revoking_of(&self, session: Uuid) -> Vec<u32> {
        let Some(id) = self.by_session.get(&session).filter(|_| self.revoking > 0) else {
            return Vec::new();
        };
        let held = self.members[id].held.iter().copied();
        held.filter(|&partition| {
            let holder = self.slots[partition as usize].holder.as_ref();
            holder.is_some_and(|holder| matches!(holder.phase, Phase::Revoking(_)))
        })
        .collect()
    }

    /// Somebody of the same name comes for a member: its session is over, and the partitions go to the
    /// new one with new numbers, once no commit of the old is on its way.
    fn take_place(&mut self, id: MemberId, joining: Joining) {
        let held: Vec<u32> = self.members[&id].held.iter().copied().collect();
        for &partition in &held {
            let slot = &self.slots[partition as usize];
            let holder = slot.holder.as_ref().expect("what is held has a holder");
            let revoking = matches!(holder.phase, Phase::Revoking(_));
            self.vacate(partition);
            if !revoking {
                self.give(partition, id);
            }
        }
        let member = self.members.get_mut(&id).expect("it is there");
        let old = member.replace(joining);
        self.by_session.remove(&old);
        self.decisions.push(Decision::End(old, Ended::Replaced));
        self.arm(id);
    }

    /// A member is not in any more. Its partitions are free.
    fn remove(&mut self, id: MemberId) {
        let member = self.members.get_mut(&id).expect("it is there");
        // There is nothing more to look at.
        member.gone_since.get_or_insert(Time::ZERO);
        let held: Vec<u32> = member.held.iter().copied().collect();
        for partition in held {
            self.vacate(partition);
        }
        let member = self.members.remove(&id).expect("it is there");
        self.by_session.remove(&member.session);
        if !member.name.is_empty() {
            self.by_name.remove(&member.name);
        }
        if let Some(due) = member.timer {
            self.timers.remove(&(due, Timer::Member(id)));
        }
    }

    /// Gives a free partition to a member, who hears of it at once unless commits are on their way.
    fn give(&mut self, partition: u32, id: MemberId) {
        let number = self.number();
        let slot = &mut self.slots[partition as usize];
        debug_assert!(slot.holder.is_none(), "a partition has one holder");
        let waits = slot.in_flight > 0;
        slot.holder = Some(Holder::new(id, number, waits));
        self.free.remove(&partition);
        let member = self.members.get_mut(&id).expect("it is there");
        member.held.insert(partition);
        member.kept += 1;
        if !waits {
            self.touch(id);
        }
    }

    /// A partition's holder has it no longer.
    fn vacate(&mut self, partition: u32) {
        let slot = &mut self.slots[partition as usize];
        let Some(holder) = slot.holder.take() else {
            return;
        };
        self.free.insert(partition);
        let id = holder.member;
        let member = self.members.get_mut(&id).expect("a holder is a member");
        member.held.remove(&partition);
        if let Phase::Revoking(due) = holder.phase {
            self.timers.remove(&(due, Timer::Revoking(partition)));
            self.revoking -= 1;
        } else {
            member.kept -= 1;
        }
        if holder.is_outstanding() {
            member.outstanding -= 1;
        }
        if holder.told {
            member.lost.insert(partition);
            self.touch(id);
        }
    }

    /// A member has something to look at.
    fn touch(&mut self, id: MemberId) {
        let member = self.members.get_mut(&id).expect("it is there");
        member.has_news = true;
        if member.gone_since.is_none() {
            let wake = Decision::Wake(member.session);
            if self.decisions.last() != Some(&wake) {
                self.decisions.push(wake);
            }
        }
    }

    /// Sees to it that a member is looked at when its time has come, perhaps earlier.
    fn arm(&mut self, id: MemberId) {
        let member = self.members.get_mut(&id).expect("it is there");
        let due = [
            member.processing_due(),
            member.reconnect_due(self.times.reconnect),
        ];
        let Some(due) = due.into_iter().flatten().min() else {
            return;
        };
        if let Some(armed) = member.timer {
            if armed <= due {
                return;
            }
            self.timers.remove(&(armed, Timer::Member(id)));
        }
        member.timer = Some(due);
        self.timers.insert((due, Timer::Member(id)));
    }

    fn member_mut(&mut self, session: Uuid) -> Option<(MemberId, &mut Member)> {
        let id = *self.by_session.get(&session)?;
        self.members.get_mut(&id).map(|member| (id, member))
    }

    fn number(&mut self) -> u64 {
        self.next += 1;
        self.next - 1
    }
}

#[cfg(test)]
mod tests;
