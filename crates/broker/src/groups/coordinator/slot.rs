//! A partition as the coordinator knows it: who holds it, and how far that is.

use super::window::Window;
use super::{MemberId, Time};

#[derive(Debug)]
pub(super) struct Slot {
    pub(super) holder: Option<Holder>,
    /// Commits on their way to disk, of any holder.
    pub(super) in_flight: u32,
    /// Whether it was added while the group had members.
    pub(super) grown: bool,
}

#[derive(Debug)]
pub(super) struct Holder {
    pub(super) member: MemberId,
    /// Of this holding.
    pub(super) number: u64,
    pub(super) phase: Phase,
    /// Whether the member was told of it.
    pub(super) told: bool,
    /// `None` until reading has begun.
    pub(super) position: Option<Position>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Commits of an earlier holder are on their way to disk. The member hears of it after these.
    Waiting,
    Owned,
    /// Nothing is handed out any more. Lost at this time at the latest.
    Revoking(Time),
}

/// How far a holder is.
#[derive(Debug)]
pub(super) struct Position {
    /// The end of what was handed out, exclusive.
    pub(super) delivered: u64,
    /// The end of what is committed durably, exclusive.
    pub(super) committed: u64,
    /// The records between.
    pub(super) window: Window,
}

impl Slot {
    pub(super) fn new(grown: bool) -> Self {
        Self {
            holder: None,
            in_flight: 0,
            grown,
        }
    }
}

impl Holder {
    pub(super) fn new(member: MemberId, number: u64, waits: bool) -> Self {
        Self {
            member,
            number,
            phase: if waits { Phase::Waiting } else { Phase::Owned },
            told: false,
            position: None,
        }
    }

    /// Whether anything was handed out that is not committed.
    pub(super) fn is_outstanding(&self) -> bool {
        let position = self.position.as_ref();
        position.is_some_and(|position| position.committed < position.delivered)
    }
}
