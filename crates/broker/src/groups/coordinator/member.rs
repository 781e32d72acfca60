//! A member as the coordinator knows it.

use std::collections::BTreeSet;
use std::time::Duration;

use uuid::Uuid;

use super::{Joining, Time};

#[derive(Debug)]
pub(super) struct Member {
    /// Perhaps empty.
    pub(super) name: String,
    pub(super) peer: String,
    pub(super) session: Uuid,
    pub(super) processing_timeout: Duration,
    /// 0 for no limit.
    pub(super) max_uncommitted: u64,
    /// Since when it has no stream.
    pub(super) gone_since: Option<Time>,
    /// All partitions that it holds, also those that are being revoked and those it waits for.
    pub(super) held: BTreeSet<u32>,
    /// How many of them are not being revoked.
    pub(super) kept: usize,
    /// How many of them have records that were handed out and are not committed.
    pub(super) outstanding: usize,
    /// When it called to commit last, or began to hold such records, whichever was later.
    pub(super) busy_since: Time,
    /// What it has lost and was not told of yet.
    pub(super) lost: BTreeSet<u32>,
    /// Whether its assignment has changed since it was told.
    pub(super) has_news: bool,
    /// When it is looked at.
    pub(super) timer: Option<Time>,
}

impl Member {
    pub(super) fn new(joining: Joining) -> Self {
        Self {
            name: joining.name,
            peer: joining.peer,
            session: joining.session,
            processing_timeout: joining.processing_timeout,
            max_uncommitted: joining.max_uncommitted_records,
            gone_since: None,
            held: BTreeSet::new(),
            kept: 0,
            outstanding: 0,
            busy_since: Time::ZERO,
            lost: BTreeSet::new(),
            has_news: true,
            timer: None,
        }
    }

    /// A new stream takes the place. Returns the session that is over.
    pub(super) fn replace(&mut self, joining: Joining) -> Uuid {
        self.peer = joining.peer;
        self.processing_timeout = joining.processing_timeout;
        self.max_uncommitted = joining.max_uncommitted_records;
        self.gone_since = None;
        self.has_news = true;
        // The old session was told, the new one has had nothing to lose.
        self.lost.clear();
        std::mem::replace(&mut self.session, joining.session)
    }

    /// When it is put out unless it calls to commit.
    pub(super) fn processing_due(&self) -> Option<Time> {
        (self.outstanding > 0).then(|| self.busy_since.saturating_add(self.processing_timeout))
    }

    /// When it is not waited for any longer.
    pub(super) fn reconnect_due(&self, reconnect: Duration) -> Option<Time> {
        self.gone_since.map(|since| since.saturating_add(reconnect))
    }
}
