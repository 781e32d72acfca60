//! Reading as a member of a group: print, flush, commit, in this order.
//!
//! A member cannot tell the broker where to stop, since its partitions are assigned. So it looks
//! up the ends before it joins and watches them by itself; what it is assigned begins where the
//! group has committed then.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use anyhow::Result;
use flowstone_client::{
    Assignment, Batch, Client, Code, Cursor, Error, Event, PartitionError, Start, SubscribeBuilder,
    Subscription,
};
use tokio::time::timeout;

use super::ends::Ends;
use super::printer::Printer;
use super::{ConsumeArgs, next, warn};
use crate::progress::Progress;
use crate::signals::Stop;

/// A commit is a sync on the broker's side; a busy reader makes no more of them than this.
const COMMIT_INTERVAL: Duration = Duration::from_millis(500);
/// After so long without anything to read what was printed is committed. What many partitions have comes one
/// partition after the other, with hardly a moment between.
const QUIET_INTERVAL: Duration = Duration::from_millis(10);
/// How often a member that has no partition asks whether the others have come to the end.
const IDLE_INTERVAL: Duration = Duration::from_secs(1);

pub(super) struct GroupReader {
    client: Client,
    subscription: Subscription,
    /// The partitions that this member has; none before it is told.
    assigned: Option<BTreeSet<i32>>,
    /// Where it stops, if it does.
    ends: Option<BTreeMap<i32, i64>>,
    /// Where each partition begins for a reader that has committed nothing.
    beginnings: BTreeMap<i32, i64>,
    /// The next offset to read, of the partitions that this member has.
    position: BTreeMap<i32, i64>,
    /// Those of them that are not read to their ends, and can be.
    unread: BTreeSet<i32>,
    /// How long there has to be nothing to read before a commit.
    quiet: Duration,
    committed_at: Instant,
    commit_now: bool,
    /// Partitions that cannot be read to their ends.
    broken: BTreeMap<i32, Error>,
    /// Why reading to the ends is not reading all.
    damage: Option<Error>,
    topic: String,
    group: String,
    progress: Progress,
}

/// What a wait came to.
enum Heard {
    Event(Event),
    /// Nothing more comes.
    End,
    /// It is time to ask how far the others are.
    Nothing,
}

impl From<Option<Event>> for Heard {
    fn from(event: Option<Event>) -> Self {
        event.map_or(Self::End, Self::Event)
    }
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
        if let Some(timeout) = args.processing_timeout {
            subscribe = subscribe.processing_timeout(timeout);
        }
        if let Some(records) = args.max_uncommitted_records {
            subscribe = subscribe.max_uncommitted_records(records);
        }
        // Looked up before joining, as it may be a place that moves.
        let beginnings = match &ends {
            Some(_) => beginnings(client, &args.topic, start).await?,
            None => BTreeMap::new(),
        };
        Ok(Self {
            client: client.clone(),
            subscription: subscribe.open().await?,
            assigned: None,
            ends,
            beginnings,
            position: BTreeMap::new(),
            unread: BTreeSet::new(),
            quiet: match args.max_uncommitted_records {
                // It may be the commit that the broker waits for.
                Some(_) => Duration::ZERO,
                None => QUIET_INTERVAL,
            },
            committed_at: Instant::now(),
            commit_now: false,
            broken: BTreeMap::new(),
            damage,
            topic: args.topic.clone(),
            group: group.to_owned(),
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
        let damage = match self.damage.take() {
            Some(damage) if self.is_at_the_end().await? => Some(damage),
            _ => None,
        };
        match broken.or(damage) {
            Some(error) => Err(error.into()),
            None => Ok(()),
        }
    }

    async fn read_on(&mut self, printer: &mut Printer, stop: &mut Stop) -> Result<()> {
        while !printer.is_done() && !self.is_at_the_end().await? {
            let heard = match self.subscription.try_next() {
                Some(event) => Heard::Event(event?),
                None => {
                    printer.flush()?;
                    self.wait(printer, stop).await?
                }
            };
            match heard {
                Heard::Event(Event::Records(batch)) => self.print(&batch, printer)?,
                Heard::Event(Event::Assignment(assignment)) => self.assign(&assignment).await?,
                Heard::Event(Event::Partition(problem)) => self.note(problem),
                Heard::End => return Ok(()),
                Heard::Nothing => continue,
            }
            if stop.is_asked() {
                return Ok(());
            }
            if self.commit_now || self.committed_at.elapsed() >= COMMIT_INTERVAL {
                printer.flush()?;
                self.commit_if_possible().await?;
            }
        }
        Ok(())
    }

    /// Waits for the next event, and commits when none has come for a moment.
    async fn wait(&mut self, printer: &mut Printer, stop: &mut Stop) -> Result<Heard> {
        // A timer takes a millisecond at least.
        if !self.quiet.is_zero() {
            let waited = next(&mut self.subscription, printer, stop);
            if let Ok(event) = timeout(self.quiet, waited).await {
                return event.map(Heard::from);
            }
        }
        self.commit_if_possible().await?;
        let asks = self.ends.is_some() && self.has_nothing();
        let waited = next(&mut self.subscription, printer, stop);
        if !asks {
            return waited.await.map(Heard::from);
        }
        match timeout(IDLE_INTERVAL, waited).await {
            Ok(event) => event.map(Heard::from),
            Err(_) => Ok(Heard::Nothing),
        }
    }

    /// Prints what lies before the end, and remembers to commit what was printed.
    fn print(&mut self, batch: &Batch, printer: &mut Printer) -> Result<()> {
        let partition = batch.partition();
        let end = match &self.ends {
            Some(ends) => ends.get(&partition).copied().unwrap_or(i64::MIN),
            None => i64::MAX,
        };
        let records = batch.records.iter();
        let records = records.take_while(|record| record.offset < end);
        let printed = printer.print_some(partition, records)?;
        self.progress.advance(printed.records as u64);

        let whole = printed.records == batch.records.len();
        let next_offset = if whole {
            Some(batch.cursor.offset)
        } else {
            printed.last_offset.map(|last| last + 1)
        };
        if let Some(offset) = next_offset {
            self.subscription.processed(Cursor {
                offset,
                ..batch.cursor.clone()
            });
        }
        // A batch that was cut at the end is read to the end, whatever offsets lie between.
        let reached = if whole { batch.cursor.offset } else { end };
        self.position.insert(partition, reached);
        if reached >= end {
            self.unread.remove(&partition);
        }
        Ok(())
    }

    /// As [`Self::commit`]. While the broker is away what was printed waits: the subscription
    /// knows when to give up.
    async fn commit_if_possible(&mut self) -> Result<()> {
        match self.commit().await {
            Err(error) if error.is_retryable() => Ok(()),
            committed => Ok(committed?),
        }
    }

    /// Commits what was printed, which must have been flushed before.
    async fn commit(&mut self) -> Result<(), Error> {
        self.committed_at = Instant::now();
        self.commit_now = false;
        let answer = self.subscription.commit().await?;
        for stale in answer.stale {
            self.progress.say(&format!(
                "warning: what was printed last of partition {} could not be committed, as it \
                 belongs to another session now; it comes again",
                stale.partition
            ));
        }
        Ok(())
    }

    async fn assign(&mut self, assignment: &Assignment) -> Result<()> {
        let ours = assignment
            .partitions
            .iter()
            .filter(|assigned| assigned.topic == self.topic)
            .map(|assigned| assigned.partition);
        let ours: BTreeSet<i32> = ours.collect();
        self.position
            .retain(|partition, _| ours.contains(partition));
        // So that a partition that is revoked can be handed over.
        self.commit_now = !assignment.revoking.is_empty();
        if self.ends.is_some() {
            let added: Vec<i32> = ours
                .iter()
                .filter(|partition| !self.position.contains_key(partition))
                .copied()
                .collect();
            if !added.is_empty()
                // From now on only this member moves them.
                && let Some(committed) = self.commits().await?
            {
                for partition in added {
                    let begins = committed.get(&partition);
                    let begins = begins.or_else(|| self.beginnings.get(&partition));
                    let begins = begins.copied().unwrap_or(0);
                    self.position.insert(partition, begins);
                }
            }
        }
        self.unread = ours
            .iter()
            .filter(|partition| !self.is_done_with(partition))
            .copied()
            .collect();
        self.assigned = Some(ours);
        Ok(())
    }

    /// What the group has committed of the topic; nothing while the broker is away, after which
    /// partitions are assigned anew.
    async fn commits(&self) -> Result<Option<BTreeMap<i32, i64>>> {
        let group = match self.client.get_group(&self.group).await {
            Ok(group) => group,
            Err(error) if error.code() == Code::NotFound => return Ok(Some(BTreeMap::new())),
            Err(error) if error.is_retryable() => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let offsets = group.offsets.iter();
        let committed = offsets
            .filter(|offset| offset.topic == self.topic)
            .filter_map(|offset| Some((offset.partition, offset.committed_offset?)));
        Ok(Some(committed.collect()))
    }

    fn note(&mut self, problem: PartitionError) {
        warn(&self.progress, &problem);
        // Reading goes on by itself after a trim.
        let stuck = !problem.error.is_retryable() && problem.error.code() != Code::OutOfRange;
        if stuck && self.ends.is_some() {
            self.unread.remove(&problem.cursor.partition);
            self.broken.insert(problem.cursor.partition, problem.error);
        }
    }

    /// Whether other members have all the partitions.
    fn has_nothing(&self) -> bool {
        self.assigned.as_ref().is_some_and(BTreeSet::is_empty)
    }

    /// Whether all assigned partitions are read to their ends, or cannot be. A member that has none
    /// is there once the group is.
    async fn is_at_the_end(&self) -> Result<bool> {
        let (Some(ends), Some(assigned)) = (&self.ends, &self.assigned) else {
            return Ok(false);
        };
        if assigned.is_empty() {
            let Some(committed) = self.commits().await? else {
                return Ok(false);
            };
            let begins = |partition| self.beginnings.get(partition).copied().unwrap_or(0);
            return Ok(ends.iter().all(|(partition, &end)| {
                let committed = committed.get(partition).copied();
                committed.unwrap_or_else(|| begins(partition)) >= end
            }));
        }
        Ok(self.unread.is_empty())
    }

    /// Whether a partition is read to its end, or cannot be.
    fn is_done_with(&self, partition: &i32) -> bool {
        let ends = self.ends.as_ref();
        let end = ends.and_then(|ends| ends.get(partition));
        let position = self.position.get(partition).copied().unwrap_or(0);
        position >= end.copied().unwrap_or(i64::MIN) || self.broken.contains_key(partition)
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
