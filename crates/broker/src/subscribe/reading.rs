//! How far a subscription has read one partition.

use std::sync::Arc;

use flowstone_format::Offset;
use flowstone_log::{ReadBatch, ReadLimit};

use crate::Error;
use crate::listeners::{Listener, Listening};
use crate::partition::Partition;

#[derive(Debug)]
pub(super) struct Reading {
    partition: Arc<Partition>,
    /// Of the holding, if it is a member's; else 0.
    number: u64,
    /// The next offset to read.
    next: u64,
    /// Where to stop, exclusive.
    stop: Option<u64>,
    /// Why it could not be started.
    broken: Option<Error>,
    /// Set once it is read no further because it is damaged.
    suspended: bool,
    listening: Listening,
}

impl Reading {
    /// It is to be looked at first of all, and whenever its partition tells.
    pub(super) fn new(
        partition: Arc<Partition>,
        next: u64,
        stop: Option<u64>,
        listener: &Arc<Listener>,
    ) -> Self {
        let listening = partition.listen(listener);
        listening.tell_itself();
        Self {
            partition,
            number: 0,
            next,
            stop,
            broken: None,
            suspended: false,
            listening,
        }
    }

    /// A partition whose place could not be found, because it is damaged.
    pub(super) fn broken(
        partition: Arc<Partition>,
        error: Error,
        listener: &Arc<Listener>,
    ) -> Self {
        Self {
            broken: Some(error),
            ..Self::new(partition, 0, None, listener)
        }
    }

    /// The same, of a member's holding.
    pub(super) fn of_holding(self, number: u64) -> Self {
        Self { number, ..self }
    }

    pub(super) fn number(&self) -> u64 {
        self.number
    }

    pub(super) fn partition(&self) -> u32 {
        self.partition.index()
    }

    pub(super) fn next(&self) -> u64 {
        self.next
    }

    /// Asks for a look at it, as if its partition had told.
    pub(super) fn look_again(&self) {
        self.listening.tell_itself();
    }

    /// What its partition tells from now on is told again.
    pub(super) fn begin_look(&self) {
        self.listening.begin_look();
    }

    /// Whether nothing more will come of it.
    pub(super) fn is_over(&self) -> bool {
        self.suspended || self.stop.is_some_and(|stop| self.next >= stop)
    }

    /// Whether there is something to read now.
    pub(super) fn has_more(&self) -> bool {
        self.broken.is_none() && self.next < self.partition.high_watermark()
    }

    /// The damage that reading has come to, behind which nothing will ever come.
    pub(super) fn failure(&self) -> Option<Error> {
        let broken = self.broken.clone();
        broken.or_else(|| self.partition.damage_at(self.next))
    }

    pub(super) fn suspend(&mut self) {
        self.suspended = true;
    }

    /// Goes on if the damage that it was suspended for is there no more.
    pub(super) fn resume_if_mended(&mut self) {
        if self.suspended && self.failure().is_none() {
            self.suspended = false;
        }
    }

    /// The next read, to be done where it may block.
    pub(super) fn read(
        &self,
        max_bytes: usize,
        max_records: u64,
    ) -> impl FnOnce() -> Result<ReadBatch, Error> + Send + use<> {
        let (partition, from) = (Arc::clone(&self.partition), self.next);
        let limit = self.limit(max_bytes, max_records);
        move || partition.read(from, &limit)
    }

    /// The next read, if it need not block.
    pub(super) fn read_resident(&self, max_bytes: usize, max_records: u64) -> Option<ReadBatch> {
        let limit = self.limit(max_bytes, max_records);
        self.partition.read_resident(self.next, &limit)
    }

    fn limit(&self, max_bytes: usize, max_records: u64) -> ReadLimit {
        ReadLimit {
            max_bytes,
            max_records: u32::try_from(max_records).unwrap_or(u32::MAX),
            before: self.stop.map(Offset::new),
        }
    }

    /// Goes on behind what was read or was trimmed.
    pub(super) fn advance(&mut self, next: u64) -> Result<(), Error> {
        if next <= self.next {
            return Err(Error::Internal {
                detail: format!(
                    "reading partition {} does not get past offset {}",
                    self.partition(),
                    self.next
                ),
            });
        }
        self.next = next;
        Ok(())
    }
}
