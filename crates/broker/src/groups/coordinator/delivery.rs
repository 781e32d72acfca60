//! What a holder is handed out, commits and gives up.

use uuid::Uuid;

use super::slot::{Phase, Position};
use super::window::Window;
use super::{Coordinator, Decision, Time};

/// A holding, as a cursor names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Holding {
    pub(crate) session: Uuid,
    pub(crate) number: u64,
    pub(crate) partition: u32,
}

/// Records that are handed out.
#[derive(Clone, Copy, Debug)]
pub(crate) struct HandOut {
    /// Where they were looked for.
    pub(crate) from: u64,
    /// The offset behind them.
    pub(crate) end: u64,
    pub(crate) records: u64,
}

impl Coordinator {
    /// A holder begins to read at an offset, up to which the group has committed. False if it does not
    /// hold the partition any more.
    pub(crate) fn started(&mut self, holding: Holding, offset: u64) -> bool {
        if !self.is_owned(holding) {
            return false;
        }
        let holder = &mut self.slots[holding.partition as usize].holder;
        let holder = holder.as_mut().expect("it was just seen");
        holder.position = Some(Position {
            delivered: offset,
            committed: offset,
            window: Window::default(),
        });
        true
    }

    /// How many records a holder may be handed out now; `None` if it may not read the partition.
    pub(crate) fn room(&self, holding: Holding) -> Option<u64> {
        if !self.is_owned(holding) {
            return None;
        }
        let holder = self.slots[holding.partition as usize].holder.as_ref()?;
        let window = &holder.position.as_ref()?.window;
        Some(match self.members[&holder.member].max_uncommitted {
            0 => u64::MAX,
            most => most.saturating_sub(window.records()),
        })
    }

    /// Asks to hand out records. False if the holder may not read the partition any more; then they must
    /// not be.
    pub(crate) fn deliver(&mut self, now: Time, holding: Holding, what: HandOut) -> bool {
        if !self.is_owned(holding) {
            return false;
        }
        let holder = &mut self.slots[holding.partition as usize].holder;
        let holder = holder.as_mut().expect("it was just seen");
        let (id, before) = (holder.member, holder.is_outstanding());
        let member = self.members.get_mut(&id).expect("a holder is a member");
        let Some(position) = &mut holder.position else {
            return false;
        };
        position.delivered = position.delivered.max(what.end);
        if member.max_uncommitted > 0 {
            position.window.add(what.from, what.end, what.records);
            // What was committed ahead is not held.
            position.window.commit(position.committed);
        }
        if !before && holder.is_outstanding() {
            if member.outstanding == 0 {
                member.busy_since = member.busy_since.max(now);
            }
            member.outstanding += 1;
            self.arm(id);
        }
        true
    }

    /// Somebody calls to commit or to release: its session is alive.
    pub(crate) fn called(&mut self, now: Time, session: Uuid) {
        if let Some((_, member)) = self.member_mut(session) {
            member.busy_since = member.busy_since.max(now);
        }
    }

    /// Asks to commit. Where this is true [`commit_end`](Self::commit_end) must follow; where it is
    /// false the cursor is stale.
    pub(crate) fn commit_begin(&mut self, holding: Holding) -> bool {
        let current = self.is_held(holding);
        if current {
            self.slots[holding.partition as usize].in_flight += 1;
            self.in_flight += 1;
        }
        current
    }

    /// A commit has come to its end: it is stored up to this offset, or it failed.
    pub(crate) fn commit_end(&mut self, now: Time, holding: Holding, stored: Option<u64>) {
        let partition = holding.partition;
        let slot = &mut self.slots[partition as usize];
        slot.in_flight -= 1;
        self.in_flight -= 1;
        let last = slot.in_flight == 0;
        let Some(holder) = &mut slot.holder else {
            return;
        };
        let id = holder.member;
        if holder.phase == Phase::Waiting {
            if last {
                holder.phase = Phase::Owned;
                self.touch(id);
            }
            return;
        }
        if holder.number != holding.number {
            return;
        }
        let (Some(offset), true) = (stored, holder.position.is_some()) else {
            return;
        };
        let before = holder.is_outstanding();
        let position = holder.position.as_mut().expect("it was just seen");
        position.committed = position.committed.max(offset);
        let member = self.members.get_mut(&id).expect("a holder is a member");
        let was_full =
            member.max_uncommitted > 0 && position.window.records() >= member.max_uncommitted;
        position.window.commit(offset);
        let done = !holder.is_outstanding();
        if before && done {
            member.outstanding -= 1;
        }
        if was_full {
            self.decisions.push(Decision::Wake(member.session));
        }
        if done && matches!(holder.phase, Phase::Revoking(_)) {
            self.vacate(partition);
            self.balance(now);
        }
    }

    /// A holder gives a partition up. False if it does not hold it.
    pub(crate) fn release(&mut self, now: Time, holding: Holding) -> bool {
        let current = self.is_held(holding);
        if current {
            self.vacate(holding.partition);
            self.balance(now);
        }
        current
    }

    /// Whether a holding may be committed for.
    fn is_held(&self, holding: Holding) -> bool {
        let slot = self.slots.get(holding.partition as usize);
        slot.and_then(|slot| slot.holder.as_ref())
            .is_some_and(|holder| {
                holder.number == holding.number
                    && holder.phase != Phase::Waiting
                    && self.members[&holder.member].session == holding.session
            })
    }

    /// Whether records of a holding may be handed out.
    fn is_owned(&self, holding: Holding) -> bool {
        self.is_held(holding)
            && self.slots[holding.partition as usize]
                .holder
                .as_ref()
                .is_some_and(|holder| holder.phase == Phase::Owned)
    }
}
