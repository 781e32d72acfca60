//! Whatever happens to a group, its rules hold.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use proptest::prelude::*;
use uuid::Uuid;

use super::super::slot::Phase;
use super::super::{Coordinator, Decision, HandOut, Holding, Joining, MemberId, Time, Times};

const TIMES: Times = Times {
    revoke: Duration::from_secs(30),
    reconnect: Duration::from_secs(10),
};
const NAMES: [&str; 3] = ["", "till", "desk"];

/// A group and what is known of it from outside.
struct World {
    machine: Coordinator,
    now: Time,
    sessions: Vec<Uuid>,
    /// All holdings that were ever told.
    holdings: Vec<Holding>,
    /// Those that a session was told last that it may read.
    reads: BTreeMap<Uuid, BTreeMap<u32, Holding>>,
    /// Where each partition is delivered to and stored up to.
    delivered: BTreeMap<u32, u64>,
    in_flight: Vec<(Holding, u64)>,
    /// Sessions that were woken and have not looked yet.
    woken: BTreeSet<Uuid>,
}

impl World {
    fn new(partitions: u32) -> Self {
        Self {
            machine: Coordinator::new(TIMES, partitions, false, 1),
            now: Time::ZERO,
            sessions: Vec::new(),
            holdings: Vec::new(),
            reads: BTreeMap::new(),
            delivered: BTreeMap::new(),
            in_flight: Vec::new(),
            woken: BTreeSet::new(),
        }
    }

    fn event(&mut self, (kind, a, b): (u8, u8, u8)) {
        let before = self.kept();
        let count_before = self.machine.members.len();
        let some = |from: usize| (from > 0).then(|| a as usize % from.max(1));
        match kind % 16 {
            0 | 1 => self.join(NAMES[a as usize % 3], b),
            2 => {
                if let Some(at) = some(self.sessions.len()) {
                    let session = self.sessions[at];
                    self.machine.stream_ended(self.now, session, b % 4 != 0);
                }
            }
            3 => {
                self.now += Duration::from_secs(u64::from(b) % 40);
                self.machine.tick(self.now);
            }
            4 => {
                let count = self.machine.slots.len() as u32 + u32::from(a % 3);
                self.machine.grow(self.now, count.min(24));
            }
            5 => {
                if b.is_multiple_of(8) {
                    self.machine.freeze();
                } else {
                    self.machine.thaw(self.now);
                }
            }
            6..10 => self.look(a),
            10..12 => self.deliver(a, b),
            12 | 13 => self.commit(a, b),
            14 => {
                if let Some(at) = some(self.in_flight.len()) {
                    let (holding, offset) = self.in_flight.remove(at);
                    let stored = (b % 4 != 0).then_some(offset);
                    self.machine.commit_end(self.now, holding, stored);
                }
            }
            _ => {
                if let Some(at) = some(self.holdings.len()) {
                    self.machine.release(self.now, self.holdings[at]);
                }
            }
        }
        for decision in self.machine.take_decisions() {
            match decision {
                Decision::Wake(session) => drop(self.woken.insert(session)),
                Decision::End(session, _) => drop(self.reads.remove(&session)),
            }
        }
        if kind % 16 < 3 && !self.machine.frozen {
            self.check_moves(&before, count_before);
        }
        self.check();
    }

    fn join(&mut self, name: &str, b: u8) {
        let session = Uuid::from_u128(self.sessions.len() as u128);
        self.sessions.push(session);
        let joining = Joining {
            name: name.to_owned(),
            peer: String::new(),
            session,
            processing_timeout: Duration::from_secs(u64::from(b % 50) + 1),
            max_uncommitted_records: u64::from(b % 4) * 3,
        };
        self.machine.join(self.now, joining);
    }

    /// A session takes its assignment, and begins to read.
    fn look(&mut self, a: u8) {
        let count = self.sessions.len();
        let Some(&session) = self.sessions.get(a as usize % count.max(1)) else {
            return;
        };
        let Some(assignment) = self.machine.take_assignment(session) else {
            return;
        };
        self.woken.remove(&session);
        let mut reads = BTreeMap::new();
        for assigned in assignment.partitions {
            let holding = Holding {
                session,
                number: assigned.number,
                partition: assigned.partition,
            };
            let flying = self.in_flight.iter().find(|(other, _)| {
                other.partition == holding.partition && other.number != holding.number
            });
            assert_eq!(
                flying, None,
                "nobody is told before earlier commits are stored"
            );
            if !self.holdings.contains(&holding) {
                self.holdings.push(holding);
                assert!(self.machine.started(holding, 0), "it was just told");
                self.delivered.insert(holding.partition, 0);
            }
            reads.insert(assigned.partition, holding);
        }
        for partition in assignment.revoking.iter().chain(&assignment.lost) {
            let back = reads.contains_key(partition);
            assert!(!back || assignment.lost.contains(partition));
        }
        self.reads.insert(session, reads);
    }

    fn deliver(&mut self, a: u8, b: u8) {
        let count = self.holdings.len();
        let Some(&holding) = self.holdings.get(a as usize % count.max(1)) else {
            return;
        };
        let from = self.delivered[&holding.partition];
        let room = self.machine.room(holding);
        let records = u64::from(b % 5 + 1).min(room.unwrap_or(1));
        if records == 0 {
            return;
        }
        let what = HandOut {
            from,
            end: from + records,
            records,
        };
        let may = self.machine.deliver(self.now, holding, what);
        assert_eq!(may, room.is_some(), "who has room may read");
        if may {
            self.delivered.insert(holding.partition, from + records);
        }
    }

    fn commit(&mut self, a: u8, b: u8) {
        let count = self.holdings.len();
        let Some(&holding) = self.holdings.get(a as usize % count.max(1)) else {
            return;
        };
        self.machine.called(self.now, holding.session);
        if self.machine.commit_begin(holding) {
            let delivered = self.delivered[&holding.partition];
            let offset = delivered - u64::from(b % 3).min(delivered);
            self.in_flight.push((holding, offset));
        }
    }

    fn kept(&self) -> BTreeMap<MemberId, BTreeSet<u32>> {
        let kept = |id: MemberId| {
            let held = self.machine.members[&id].held.iter().copied();
            held.filter(|&partition| {
                let holder = self.machine.slots[partition as usize].holder.as_ref();
                holder.is_some_and(|it| !matches!(it.phase, Phase::Revoking(_)))
            })
            .collect()
        };
        let ids = self.machine.members.keys();
        ids.map(|&id| (id, kept(id))).collect()
    }

    /// No more partitions have left members that are still in than had to.
    fn check_moves(&self, before: &BTreeMap<MemberId, BTreeSet<u32>>, count_before: usize) {
        let now = self.kept();
        let count = now.len();
        // One event at most has changed who is in.
        if count == 0 || count.abs_diff(count_before) != 1 || self.machine.slots.is_empty() {
            return;
        }
        let mut had: Vec<usize> = Vec::new();
        let mut moved = 0;
        for (id, kept) in &now {
            let Some(before) = before.get(id) else {
                continue;
            };
            had.push(before.len());
            moved += before.difference(kept).count();
        }
        had.resize(count, 0);
        had.sort_unstable_by(|a, b| b.cmp(a));
        let (each, more) = (
            self.machine.slots.len() / count,
            self.machine.slots.len() % count,
        );
        let has_to: usize = had
            .iter()
            .enumerate()
            .map(|(at, had)| had.saturating_sub(each + usize::from(at < more)))
            .sum();
        assert_eq!(moved, has_to, "partitions move only where they have to");
    }

    fn check(&mut self) {
        self.check_counts();
        let machine = &self.machine;
        if !machine.members.is_empty() && !machine.frozen {
            assert!(
                machine.free.is_empty(),
                "everything has a holder: {machine:?}"
            );
            let most = machine.slots.len().div_ceil(machine.members.len());
            let least = machine.slots.len() / machine.members.len();
            for member in machine.members.values() {
                assert!(member.kept <= most, "nobody has more than its share");
                assert!(
                    machine.revoking > 0 || member.kept >= least,
                    "nobody has less"
                );
            }
        }
        for member in machine.members.values() {
            let connected = member.gone_since.is_none();
            if connected && member.has_news && !machine.frozen {
                assert!(
                    self.woken.contains(&member.session),
                    "who has news is woken"
                );
            }
            let due = [
                member.processing_due(),
                member.reconnect_due(TIMES.reconnect),
            ];
            if let Some(due) = due.into_iter().flatten().min() {
                assert!(machine.next_deadline() <= Some(due), "nobody is forgotten");
                assert!(machine.next_deadline().is_some());
            }
        }
        self.check_commits();
    }

    /// Of all holdings that there ever were, at most one of each partition may commit, and only as long
    /// as its session is one of a member.
    fn check_commits(&mut self) {
        let mut owners = BTreeSet::new();
        for holding in self.holdings.clone() {
            if self.machine.commit_begin(holding) {
                let known = self.machine.knows(holding.session);
                assert!(known, "a session that is over commits nothing");
                assert!(owners.insert(holding.partition), "two may commit for one");
                self.machine.commit_end(self.now, holding, None);
            }
        }
        assert!(
            self.machine.take_decisions().is_empty(),
            "nothing has changed"
        );
    }

    /// What is counted is what there is.
    fn check_counts(&self) {
        let machine = &self.machine;
        let (mut revoking, mut in_flight) = (0, 0);
        let mut kept: BTreeMap<MemberId, usize> = BTreeMap::new();
        let mut outstanding: BTreeMap<MemberId, usize> = BTreeMap::new();
        for (partition, slot) in machine.slots.iter().enumerate() {
            let partition = partition as u32;
            in_flight += slot.in_flight as usize;
            let Some(holder) = &slot.holder else {
                assert!(machine.free.contains(&partition));
                continue;
            };
            assert!(!machine.free.contains(&partition));
            assert!(machine.members[&holder.member].held.contains(&partition));
            *outstanding.entry(holder.member).or_default() += usize::from(holder.is_outstanding());
            match holder.phase {
                Phase::Revoking(due) => {
                    revoking += 1;
                    assert!(holder.is_outstanding(), "else it moves at once");
                    assert!(machine.next_deadline() <= Some(due));
                }
                Phase::Waiting => {
                    assert!(slot.in_flight > 0, "there is something to wait for");
                    *kept.entry(holder.member).or_default() += 1;
                }
                Phase::Owned => *kept.entry(holder.member).or_default() += 1,
            }
        }
        assert_eq!(machine.revoking, revoking);
        assert_eq!(machine.in_flight, in_flight);
        assert_eq!(machine.in_flight, self.in_flight.len());
        for (id, member) in &machine.members {
            assert_eq!(member.kept, kept.get(id).copied().unwrap_or(0));
            let outstanding = outstanding.get(id).copied().unwrap_or(0);
            assert_eq!(member.outstanding, outstanding);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens_the_rules_hold(
        partitions in 0_u32..12,
        events in prop::collection::vec(any::<(u8, u8, u8)>(), 1..200),
    ) {
        let mut world = World::new(partitions);
        for event in events {
            world.event(event);
        }
    }
}

#[test]
fn a_hundred_members_share_a_thousand_partitions_and_none_moves_needlessly() {
    let mut world = World::new(1_000);
    for members in 1..=100 {
        let before = world.kept();
        world.join("", 49);
        world.machine.take_decisions();
        let now = world.kept();
        let moved: usize = before
            .iter()
            .map(|(id, kept)| kept.difference(&now[id]).count())
            .sum();
        let share = if members == 1 { 0 } else { 1_000 / members };
        assert_eq!(moved, share, "{members} members");
    }
    assert!(world.kept().values().all(|kept| kept.len() == 10));
}
