//! Reading as a member of a group: print, flush, commit, in this order.
//!
//! A member cannot tell the broker where to stop, since its partitions are assigned. So it looks
//! up the ends before it joins and watches them by itself.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use anyhow::Result;
use flowstone_client::{
    Assignment, Batch, Client, Code, Cursor, Error, Event, PartitionError, Start, SubscribeBuilder,
    Subscription,
};

use super::ends::Ends;
use super::printer::Printer;
use super::{ConsumeArgs, before, next, warn};
use crate::progress::Progress;
use crate::signals::Stop;

/// A commit is a sync on the broker's side; a busy reader makes no more of them than this.
const COMMIT_INTERVAL: Duration = Duration::from_millis(500);

pub(super) struct GroupReader {
    client: Client,
    subscription: Subscription,
    /// The partitions that this member has; none before it is told.
    assigned: Option<BTreeSet<i32>>,
    /// Where it stops, if it does.
    ends: Option<BTreeMap<i32, i64>>,
    /// The next offset to read, by partition.
    position: BTreeMap<i32, i64>,
    /// Printed and not committed, by partition.
    uncommitted: BTreeMap<i32, Cursor>,
    committed_at: Instant,
    commit_now: bool,
    /// Partitions that cannot be read to their ends.
    broken: BTreeMap<i32, Error>,
    /// Why reading to the ends is not reading all.
    damage: Option<Error>,
    topic: String,
    progress: Progress,
}

impl GroupReader {
    pub(super) async fn join(
        client: &Client,
        subscribe: SubscribeBuilder,
        group: &str,
        args: &ConsumeArgs,
        start: Start,
        ends: Ends,
    ) -> Result<Self> {
        let damage = ends.damage();
        let ends = ends.offsets();
        let mut subscribe = subscribe.group(group);
        if let Some(member) = &args.member {
            subscribe = subscribe.member(member);
        }
        // Where a partition is read from while it is not committed is looked up before joining,
        // as it may be a place that moves. The commits are looked up after it: from then on only
        // this member moves them.
        let mut position = match &ends {
            Some(_) => beginnings(client, &args.topic, start).await?,
            None => BTreeMap::new(),
        };
        let subscription = subscribe.open().await?;
        if ends.is_some() {
            position.extend(commits(client, &args.topic, group).await?);
        }
        Ok(Self {
            client: client.clone(),
            subscription,
            assigned: None,
            ends,
            position,
            uncommitted: BTreeMap::new(),
            committed_at: Instant::now(),
            commit_now: false,
            broken: BTreeMap::new(),
            damage,
            topic: args.topic.clone(),
            progress: Progress::records(args.count),
        })
    }

    pub(super) async fn read(&mut self, printer: &mut Printer, stop: &mut Stop) -> Result<()> {
        let outcome = self.read_on(printer, stop).await;
        // What was printed is committed also when reading failed.
        printer.flush()?;
        let committed = self.commit().await;
        outcome?;
        committed?;
        let broken = std::mem::take(&mut self.broken).into_values().next();
        let damage = self.damage.take().filter(|_| self.is_at_the_end());
        match broken.or(damage) {
            Some(error) => Err(error.into()),
            None => Ok(()),
        }
    }

    async fn read_on(&mut self, printer: &mut Printer, stop: &mut Stop) -> Result<()> {
        while !printer.is_done() && !self.is_at_the_end() {
            let event = match self.subscription.try_next() {
                Some(event) => Some(event?),
                None => {
                    // Nothing to read is the moment to commit.
                    printer.flush()?;
                    self.commit().await?;
                    next(&mut self.subscription, printer, stop).await?
                }
            };
            match event {
                Some(Event::Records(batch)) => self.print(&batch, printer)?,
                Some(Event::Assignment(assignment)) => self.assign(&assignment),
                Some(Event::Partition(problem)) => self.note(problem),
                None => return Ok(()),
            }
            if stop.is_asked() {
                return Ok(());
            }
            if self.commit_now || self.committed_at.elapsed() >= COMMIT_INTERVAL {
                printer.flush()?;
                self.commit().await?;
            }
        }
        Ok(())
    }

    /// Prints what lies before the end, and remembers to commit what was printed.
    fn print(&mut self, batch: &Batch, printer: &mut Printer) -> Result<()> {
        let partition = batch.partition();
        let end = match &self.ends {
            Some(ends) => ends.get(&partition).copied().unwrap_or(i64::MIN),
            None => i64::MAX,
        };
        let records = &batch.records[..before(batch, end)];
        let printed = printer.print_some(partition, records)?;
        self.progress.advance(printed as u64);

        let whole = printed == batch.records.len();
        let next_offset = if whole {
            Some(batch.cursor.offset)
        } else {
            records[..printed].last().map(|last| last.offset + 1)
        };
        if let Some(offset) = next_offset {
            let cursor = Cursor {
                offset,
                ..batch.cursor.clone()
            };
            self.uncommitted.insert(partition, cursor);
        }
        // A batch that was cut at the end is read to the end, whatever offsets lie between.
        let reached = if whole { batch.cursor.offset } else { end };
        self.position.insert(partition, reached);
        Ok(())
    }

    /// Commits what was printed, which must have been flushed before.
    async fn commit(&mut self) -> Result<()> {
        self.committed_at = Instant::now();
        self.commit_now = false;
        if self.uncommitted.is_empty() {
            return Ok(());
        }
        let cursors = std::mem::take(&mut self.uncommitted)
            .into_values()
            .collect();
        match self.client.commit(cursors).await {
            Ok(response) => {
                for stale in response.stale {
                    self.tell_stale(stale.partition);
                }
                Ok(())
            }
            // The session is another one after a lost connection; the records come again.
            Err(error) if error.is("STALE_SESSION") => {
                self.progress.say(
                    "warning: records were printed but not committed, as the session ended; they \
                     come again",
                );
                Ok(())
            }
            Err(error) => Err(error.into()),
        }
    }

    fn tell_stale(&self, partition: i32) {
        self.progress.say(&format!(
            "warning: partition {partition} belongs to another member now, which reads again what \
             was not committed"
        ));
    }

    fn assign(&mut self, assignment: &Assignment) {
        let ours = assignment
            .partitions
            .iter()
            .filter(|assigned| assigned.topic == self.topic)
            .map(|assigned| assigned.partition);
        self.assigned = Some(ours.collect());
        for lost in &assignment.lost {
            self.uncommitted.remove(&lost.partition);
        }
        if !assignment.revoking.is_empty() {
            // So that the partition can be handed over.
            self.commit_now = true;
        }
    }

    fn note(&mut self, problem: PartitionError) {
        warn(&self.progress, &problem);
        // Reading goes on by itself after a trim.
        let stuck = !problem.error.is_retryable() && problem.error.code() != Code::OutOfRange;
        if stuck && self.ends.is_some() {
            self.broken.insert(problem.cursor.partition, problem.error);
        }
    }

    /// Whether all assigned partitions are read to their ends, or cannot be.
    fn is_at_the_end(&self) -> bool {
        let (Some(ends), Some(assigned)) = (&self.ends, &self.assigned) else {
            return false;
        };
        assigned.iter().all(|partition| {
            let end = ends.get(partition).copied().unwrap_or(i64::MIN);
            let position = self.position.get(partition).copied().unwrap_or(0);
            position >= end || self.broken.contains_key(partition)
        })
    }
}

/// Where each partition begins for a reader that has committed nothing.
async fn beginnings(client: &Client, topic: &str, start: Start) -> Result<BTreeMap<i32, i64>> {
    let offsets = client.list_offsets(topic, start, &[], None).await?;
    Ok(offsets
        .partitions
        .iter()
        .map(|at| (at.partition, at.offset.max(at.log_start_offset)))
        .collect())
}

/// What the group has committed of the topic.
async fn commits(client: &Client, topic: &str, group: &str) -> Result<BTreeMap<i32, i64>> {
    let group = match client.get_group(group).await {
        Ok(group) => group,
        Err(error) if error.code() == Code::NotFound => return Ok(BTreeMap::new()),
        Err(error) => return Err(error.into()),
    };
    Ok(group
        .offsets
        .iter()
        .filter(|offset| offset.topic == topic)
        .filter_map(|offset| Some((offset.partition, offset.committed_offset?)))
        .collect())
}
