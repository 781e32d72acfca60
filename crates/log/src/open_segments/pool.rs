//! Values that can be had again: the coldest go when all together cost too much.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, Weak};

/// A bound on what its members hold open together.
pub(crate) struct Pool<T: ?Sized> {
    limit: usize,
    cost: fn(&T) -> usize,
    line: Mutex<Line<T>>,
}

/// Who holds something open, the coldest first. Never locked by who waits for a slot.
struct Line<T: ?Sized> {
    members: BTreeMap<u64, Member<T>>,
    next_place: u64,
    /// Of all members.
    cost: usize,
}

struct Member<T: ?Sized> {
    place: u64,
    kept: Weak<Kept<T>>,
    cost: usize,
}

/// One value, open or not.
pub(crate) struct Kept<T: ?Sized> {
    pool: Arc<Pool<T>>,
    slot: Mutex<Slot<T>>,
}

struct Slot<T: ?Sized> {
    /// Other owners than this one are those who use it now.
    value: Option<Arc<T>>,
    /// Whether it was used since it got its place.
    used: bool,
    /// In the line, while it is open.
    place: u64,
}

impl<T: ?Sized> Pool<T> {
    /// A pool whose members may cost so much together.
    pub(crate) fn new(limit: usize, cost: fn(&T) -> usize) -> Self {
        Self {
            limit,
            cost,
            line: Mutex::new(Line {
                members: BTreeMap::new(),
                next_place: 0,
                cost: 0,
            }),
        }
    }

    /// What the members that are open cost together.
    #[cfg(test)]
    pub(crate) fn cost(&self) -> usize {
        self.line().cost
    }

    fn line(&self) -> MutexGuard<'_, Line<T>> {
        self.line.lock().expect("nothing panics in the line")
    }

    /// Puts a member at the warm end.
    fn enter(&self, kept: Weak<Kept<T>>, cost: usize) -> u64 {
        let mut line = self.line();
        let place = line.next_place;
        line.next_place += 1;
        line.cost += cost;
        line.members.insert(place, Member { place, kept, cost });
        place
    }

    fn leave(&self, place: u64) {
        let mut line = self.line();
        if let Some(member) = line.members.remove(&place) {
            line.cost -= member.cost;
        }
    }

    /// The coldest member, if they cost too much and there is patience left.
    fn coldest(&self, patience: &mut Option<usize>) -> Option<Member<T>> {
        let mut line = self.line();
        // Twice round: the first time everyone who was used is spared.
        let left = patience.get_or_insert(2 * line.members.len());
        if line.cost <= self.limit || *left == 0 {
            return None;
        }
        *left -= 1;
        let (_, member) = line.members.pop_first()?;
        line.cost -= member.cost;
        Some(member)
    }

    fn make_room(&self) {
        let mut patience = None;
        while let Some(coldest) = self.coldest(&mut patience) {
            if let Some(kept) = coldest.kept.upgrade() {
                // What is closed is dropped here, with no lock in hand.
                drop(kept.close_if_cold(coldest.place));
            }
        }
    }
}

impl<T: ?Sized> Kept<T> {
    /// Nothing is open yet.
    pub(crate) fn new(pool: &Arc<Pool<T>>) -> Arc<Self> {
        Arc::new(Self {
            pool: Arc::clone(pool),
            slot: Mutex::new(Slot {
                value: None,
                used: false,
                place: 0,
            }),
        })
    }

    /// The value, which is opened if it is not; it stays open for as long as somebody has it.
    pub(crate) fn get<E>(
        self: &Arc<Self>,
        open: impl FnOnce() -> Result<Arc<T>, E>,
    ) -> Result<Arc<T>, E> {
        let mut slot = self.slot();
        if let Some(value) = &slot.value {
            let value = Arc::clone(value);
            slot.used = true;
            return Ok(value);
        }
        // Whoever else wants it waits here, and does not open it too.
        let value = open()?;
        self.fill(slot, &value);
        Ok(value)
    }

    /// Whether it is open, as far as that can be told without waiting.
    pub(crate) fn is_open(&self) -> bool {
        self.slot.try_lock().is_ok_and(|slot| slot.value.is_some())
    }

    /// Takes a value that was had by other means in place of what there is.
    pub(crate) fn put(self: &Arc<Self>, value: &Arc<T>) {
        let mut slot = self.slot();
        if slot.value.take().is_some() {
            self.pool.leave(slot.place);
        }
        self.fill(slot, value);
    }

    fn fill(self: &Arc<Self>, mut slot: MutexGuard<'_, Slot<T>>, value: &Arc<T>) {
        slot.value = Some(Arc::clone(value));
        slot.used = false;
        slot.place = self
            .pool
            .enter(Arc::downgrade(self), (self.pool.cost)(value));
        drop(slot);
        self.pool.make_room();
    }

    /// Lets go of the value that had a place unless it was used lately or is used now; then it goes
    /// back into line.
    fn close_if_cold(self: &Arc<Self>, place: u64) -> Option<Arc<T>> {
        let mut slot = self.slot();
        if slot.place != place {
            return None;
        }
        let value = slot.value.take()?;
        let was_used = std::mem::take(&mut slot.used);
        // Only who has the slot can make another owner.
        if !was_used && Arc::strong_count(&value) == 1 {
            return Some(value);
        }
        slot.place = self
            .pool
            .enter(Arc::downgrade(self), (self.pool.cost)(&value));
        slot.value = Some(value);
        None
    }

    fn slot(&self) -> MutexGuard<'_, Slot<T>> {
        self.slot.lock().expect("nothing panics while it opens")
    }
}

impl<T: ?Sized> Drop for Kept<T> {
    fn drop(&mut self) {
        if let Ok(slot) = self.slot.get_mut()
            && slot.value.is_some()
        {
            self.pool.leave(slot.place);
        }
    }
}

impl<T: ?Sized> fmt::Debug for Pool<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool")
            .field("limit", &self.limit)
            .finish_non_exhaustive()
    }
}

impl<T: ?Sized> fmt::Debug for Kept<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Kept").finish_non_exhaustive()
    }
}
