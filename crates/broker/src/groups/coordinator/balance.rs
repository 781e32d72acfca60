//! Who should have how many partitions, and which of them move.

use std::cmp::Reverse;
use std::collections::BTreeSet;

use super::slot::Phase;
use super::{Coordinator, MemberId, Time, Timer};

/// How many partitions a member should have.
struct Share {
    id: MemberId,
    /// How many it has, those that are being revoked aside.
    kept: usize,
    share: usize,
}

impl Coordinator {
    /// As [`balance`](Self::balance), since somebody came or went.
    pub(super) fn balance_all(&mut self, now: Time) {
        self.rebalances += u64::from(self.balance(now));
    }

    /// Revokes what members have beyond their share, and gives what is free to those that have less.
    /// No more partitions move than have to. True if any does.
    pub(super) fn balance(&mut self, now: Time) -> bool {
        if self.frozen || self.members.is_empty() {
            return false;
        }
        let before = self.next;
        let mut moved = false;
        for Share { id, kept, share } in self.shares() {
            if kept > share {
                self.revoke_some(now, id, kept - share);
                moved = true;
            }
        }
        self.hand_out();
        moved || self.next > before
    }

    /// All get the same, or one more: those that have most already, then those that came first.
    fn shares(&self) -> Vec<Share> {
        let count = self.members.len();
        let (each, more) = (self.slots.len() / count, self.slots.len() % count);
        let mut shares: Vec<Share> = self
            .members
            .iter()
            .map(|(&id, member)| Share {
                id,
                kept: member.kept,
                share: each,
            })
            .collect();
        shares.sort_by_key(|share| (Reverse(share.kept), share.id));
        for share in &mut shares[..more] {
            share.share += 1;
        }
        shares
    }

    /// Revokes partitions of a member: first those of which nothing is outstanding, from the last on.
    fn revoke_some(&mut self, now: Time, id: MemberId, count: usize) {
        let mut candidates: Vec<(bool, Reverse<u32>)> = Vec::new();
        for &partition in &self.members[&id].held {
            let slot = &self.slots[partition as usize];
            let holder = slot.holder.as_ref().expect("what is held has a holder");
            if !matches!(holder.phase, Phase::Revoking(_)) {
                candidates.push((holder.is_outstanding(), Reverse(partition)));
            }
        }
        candidates.sort_unstable();
        for &(outstanding, Reverse(partition)) in candidates.iter().take(count) {
            if outstanding {
                self.revoke(now, partition, id);
            } else {
                self.vacate(partition);
            }
        }
    }

    fn revoke(&mut self, now: Time, partition: u32, id: MemberId) {
        let due = now.saturating_add(self.times.revoke);
        let slot = &mut self.slots[partition as usize];
        let holder = slot.holder.as_mut().expect("what is held has a holder");
        holder.phase = Phase::Revoking(due);
        self.timers.insert((due, Timer::Revoking(partition)));
        self.revoking += 1;
        self.members.get_mut(&id).expect("it is there").kept -= 1;
        self.touch(id);
    }

    /// Gives free partitions to those that have least of their share, in the order of joining.
    fn hand_out(&mut self) {
        if self.free.is_empty() {
            return;
        }
        let shares = self.shares();
        let mut in_need: BTreeSet<(usize, MemberId, usize)> = shares
            .iter()
            .filter(|share| share.kept < share.share)
            .map(|share| (share.kept, share.id, share.share))
            .collect();
        let free = std::mem::take(&mut self.free);
        for partition in free {
            let Some((kept, id, share)) = in_need.pop_first() else {
                self.free.insert(partition);
                continue;
            };
            self.give(partition, id);
            if kept + 1 < share {
                in_need.insert((kept + 1, id, share));
            }
        }
    }
}
