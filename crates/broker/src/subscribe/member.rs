//! A subscription's part in a group: what it is assigned, and where reading of that begins.

use std::collections::BTreeMap;
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use crate::core::Core;
use crate::groups::{Assigned, Assignment, Membership};
use crate::offsets;
use crate::partition::Partition;
use crate::resolve::{check_range, resolve};
use crate::topics::Topic;
use crate::{Error, Start};

/// A member that reads.
#[derive(Debug)]
pub(super) struct Member {
    pub(super) membership: Membership,
    core: Arc<Core>,
    topic: Arc<Topic>,
    start: Start,
    /// The ends of the partitions when the call began: positions are resolved as of then.
    ends: Vec<u64>,
    /// By partition, as it was told last: the number of the holding.
    assigned: BTreeMap<u32, u64>,
    /// Partitions whose start is still to be found out.
    to_start: Vec<Assigned>,
    starting: Option<Starting>,
}

/// Where reading of partitions begins, being found out. It is kept while nobody waits for it.
struct Starting(Pin<Box<dyn Future<Output = Result<Vec<Started>, Error>> + Send>>);

/// Where reading of a partition begins.
pub(super) struct Started {
    pub(super) number: u64,
    pub(super) partition: Arc<Partition>,
    /// The offset, or why it cannot be told.
    pub(super) offset: Result<u64, Error>,
}

impl Member {
    pub(super) fn new(
        membership: Membership,
        core: &Arc<Core>,
        topic: &Arc<Topic>,
        start: Start,
        ends: Vec<u64>,
    ) -> Self {
        Self {
            membership,
            core: Arc::clone(core),
            topic: Arc::clone(topic),
            start,
            ends,
            assigned: BTreeMap::new(),
            to_start: Vec::new(),
            starting: None,
        }
    }

    /// Takes note of a new assignment. What it no longer has must not be read on.
    pub(super) fn assign(&mut self, assignment: &Assignment) {
        let partitions = assignment.partitions.iter();
        let now: BTreeMap<u32, u64> = partitions.map(|it| (it.partition, it.number)).collect();
        self.to_start
            .retain(|it| now.get(&it.partition) == Some(&it.number));
        for assigned in &assignment.partitions {
            if self.assigned.get(&assigned.partition) != Some(&assigned.number) {
                self.to_start.push(*assigned);
            }
        }
        self.assigned = now;
    }

    /// Whether the member has a partition, in a holding of this number.
    pub(super) fn has(&self, partition: u32, number: u64) -> bool {
        self.assigned.get(&partition) == Some(&number)
    }

    /// Partitions whose reading can begin now, once that is found out.
    pub(super) fn poll_started(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Result<Vec<Started>, Error>> {
        if self.starting.is_none() && !self.to_start.is_empty() {
            self.starting = Some(self.start());
        }
        let Some(starting) = &mut self.starting else {
            return Poll::Pending;
        };
        let found = starting.0.as_mut().poll(context);
        if found.is_ready() {
            self.starting = None;
        }
        found
    }

    /// What the session is in cursors of a holding.
    pub(super) fn cursor_session(&self, number: u64) -> String {
        self.membership.cursor_session(number)
    }

    fn start(&mut self) -> Starting {
        let now = self.topic.now();
        let partitions = std::mem::take(&mut self.to_start).into_iter();
        let wanted: Vec<Wanted> = partitions
            .filter_map(|assigned| {
                let partition = now.partitions.get(assigned.partition as usize)?;
                let end = self.ends.get(assigned.partition as usize).copied();
                Some(Wanted {
                    number: assigned.number,
                    partition: Arc::clone(partition),
                    // One that came later is read from its first record on.
                    end: end.filter(|_| !assigned.grown),
                })
            })
            .collect();
        let holding = |it: &Wanted| self.membership.holding(it.number, it.partition.index());
        let holdings: Vec<_> = wanted.iter().map(holding).collect();
        let (core, topic) = (Arc::clone(&self.core), Arc::clone(&self.topic));
        let (group, start) = (self.membership.group().to_owned(), self.start.clone());
        Starting(Box::pin(async move {
            let committed: Vec<Option<u64>> = {
                let state = core.offsets.log()?.state();
                let of = |it: &Wanted| state.committed(&group, topic.id(), it.partition.index());
                wanted.iter().map(of).collect()
            };
            let stays = matches!(start, Start::Earliest | Start::Committed);
            let find = move || -> Vec<(Started, bool)> {
                let found = wanted.into_iter().zip(committed).map(|(it, committed)| {
                    let offset = it.find(&start, committed);
                    // The log start may rise, but no record is missed by it; any other place could be
                    // another one for the next holder.
                    let pin = !stays && committed.is_none() && offset.is_ok();
                    let (number, partition) = (it.number, it.partition);
                    let started = Started {
                        number,
                        partition,
                        offset,
                    };
                    (started, pin)
                });
                found.collect()
            };
            let found = core.pool.run(find).await?;
            let pins = found.iter().zip(holdings).filter(|((_, pin), _)| *pin);
            let pins: Vec<_> = pins
                .filter_map(|((started, _), holding)| {
                    let offset = started.offset.as_ref().ok()?;
                    Some((holding, *offset))
                })
                .collect();
            if !pins.is_empty() {
                offsets::pin(&core, &group, &topic, &pins).await?;
            }
            Ok(found.into_iter().map(|(started, _)| started).collect())
        }))
    }
}

/// A partition whose reading is to begin.
struct Wanted {
    number: u64,
    partition: Arc<Partition>,
    /// Its end when the call began; `None` if there was none, or if the group had members already when
    /// it came.
    end: Option<u64>,
}

impl Wanted {
    /// The offset at which to begin. Blocks.
    fn find(&self, start: &Start, committed: Option<u64>) -> Result<u64, Error> {
        let offset = match (committed, self.end) {
            (Some(committed), _) => committed,
            (None, Some(end)) => start_before(start, &self.partition, end)?,
            (None, None) => self.partition.log_start_offset(),
        };
        match check_range(&self.partition, offset) {
            // Reading goes on at the log start, and says so.
            Ok(()) | Err(Error::OffsetTrimmed { .. }) => Ok(offset),
            Err(error) => Err(error),
        }
    }
}

/// The offset that a position stood for when the partition ended at `end`. Blocks.
fn start_before(start: &Start, partition: &Partition, end: u64) -> Result<u64, Error> {
    let first = partition.log_start_offset();
    let found = match start {
        Start::Latest => end,
        Start::Last(count) => end.saturating_sub(*count),
        start => resolve(start, partition, None)?.min(end),
    };
    Ok(found.max(first.min(end)))
}

impl fmt::Debug for Starting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Starting").finish_non_exhaustive()
    }
}
