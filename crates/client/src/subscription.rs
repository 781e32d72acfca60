//! A subscription: a stream of batches that survives lost connections.

mod codec;
mod plan;
mod reader;

use std::collections::BTreeMap;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use flowstone_proto::v1 as proto;
use futures_util::Stream;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::{Client, Error, Records, Result, Start, Stop, reason};
use plan::Plan;
use reader::Reader;

/// One batch may wait while the one before it is worked on.
const BATCHES_AHEAD: usize = 1;

/// What a subscription yields.
#[derive(Clone, Debug)]
pub enum Event {
    /// Records of one partition.
    Records(Batch),
    /// With a group: which partitions this member has now, which it must give up (`revoking`: commit
    /// what is processed of them), and which it has `lost`: what was not committed of those comes
    /// again, to this member or another. A lost connection loses them all.
    Assignment(proto::Assignment),
    /// Something is wrong with one partition; the others go on.
    Partition(PartitionError),
}

/// Consecutive records of one partition, and the cursor behind them.
#[derive(Clone, Debug)]
pub struct Batch {
    /// In the order of their offsets; never empty.
    pub records: Records,
    /// Commit this once the records are processed, or resume from it.
    pub cursor: proto::Cursor,
    /// The end of what may be read of the partition, exclusive, when the batch was sent.
    pub high_watermark: i64,
}

impl Batch {
    /// The partition that all the records are of.
    pub fn partition(&self) -> i32 {
        self.cursor.partition
    }
}

/// A failure that concerns one partition only.
#[derive(Clone, Debug)]
pub struct PartitionError {
    /// The partition, and where reading it stands.
    pub cursor: proto::Cursor,
    /// What is wrong.
    pub error: Error,
}

/// Describes a subscription; [`SubscribeBuilder::open`] starts it.
#[derive(Clone, Debug)]
pub struct SubscribeBuilder {
    client: Client,
    topic: String,
    partitions: Vec<i32>,
    start: Start,
    stop: Option<Stop>,
    group: String,
    member: String,
    max_batch_bytes: i32,
    max_uncommitted_records: i32,
    processing_timeout: Option<Duration>,
    resume_from: Vec<proto::Cursor>,
    stop_before: Vec<proto::Cursor>,
    retry_for: Option<Duration>,
}

impl SubscribeBuilder {
    pub(crate) fn new(client: Client, topic: String) -> Self {
        Self {
            client,
            topic,
            partitions: Vec::new(),
            start: Start::default(),
            stop: None,
            group: String::new(),
            member: String::new(),
            max_batch_bytes: 0,
            max_uncommitted_records: 0,
            processing_timeout: None,
            resume_from: Vec::new(),
            stop_before: Vec::new(),
            retry_for: None,
        }
    }

    /// Where reading begins: at the oldest record unless told. With a group, only in partitions
    /// that the group has not committed.
    #[must_use]
    pub fn start(mut self, start: Start) -> Self {
        self.start = start;
        self
    }

    /// Where reading ends: never unless told. Not with a group.
    #[must_use]
    pub fn stop(mut self, stop: Stop) -> Self {
        self.stop = Some(stop);
        self
    }

    /// Reads these partitions only. Not with a group, which assigns them.
    #[must_use]
    pub fn partitions(mut self, partitions: impl IntoIterator<Item = i32>) -> Self {
        self.partitions = partitions.into_iter().collect();
        self
    }

    /// Reads as a member of this group: where it has committed, and what it is assigned.
    #[must_use]
    pub fn group(mut self, group: impl Into<String>) -> Self {
        self.group = group.into();
        self
    }

    /// A stable name of this member, which keeps its partitions over a short absence. A second
    /// stream with the same name ends the first.
    #[must_use]
    pub fn member(mut self, member: impl Into<String>) -> Self {
        self.member = member.into();
        self
    }

    /// How large one batch may be, in bytes; the broker's default unless told.
    #[must_use]
    pub fn max_batch_bytes(mut self, bytes: i32) -> Self {
        self.max_batch_bytes = bytes;
        self
    }

    /// With a group: no more records of a partition come than this many beyond the commit.
    #[must_use]
    pub fn max_uncommitted_records(mut self, records: i32) -> Self {
        self.max_uncommitted_records = records;
        self
    }

    /// With a group: after how long without a commit a member that holds uncommitted records is
    /// put out; the broker's default unless told.
    #[must_use]
    pub fn processing_timeout(mut self, timeout: Duration) -> Self {
        self.processing_timeout = Some(timeout);
        self
    }

    /// Goes on behind these cursors, as they were received; `start` holds for the partitions
    /// that none of them names. Not with a group.
    #[must_use]
    pub fn resume_from(mut self, cursors: impl IntoIterator<Item = proto::Cursor>) -> Self {
        self.resume_from = cursors.into_iter().collect();
        self
    }

    /// Stops before these cursors; `stop` holds for the partitions that none of them names. Not
    /// with a group.
    #[must_use]
    pub fn stop_before(mut self, cursors: impl IntoIterator<Item = proto::Cursor>) -> Self {
        self.stop_before = cursors.into_iter().collect();
        self
    }

    /// For how long without any sign of the broker the subscription tries to connect again
    /// before it ends with the error: for ever unless told.
    #[must_use]
    pub fn retry_for(mut self, time: Duration) -> Self {
        self.retry_for = Some(time);
        self
    }

    /// Resolves the positions and opens the stream. Needs a Tokio runtime.
    ///
    /// Once it is open the subscription connects again by itself after every retryable error.
    /// Without a group it goes on where it was, and keeps the positions that were resolved here.
    /// With one it tells that all partitions are lost, joins again, also after `STALE_SESSION`, and
    /// records that were not committed come again. It ends with `MEMBER_TIMED_OUT` when it held
    /// records for longer than its processing timeout without a commit, and with `MEMBER_REPLACED`
    /// when another took its name.
    ///
    /// # Errors
    /// `TOPIC_NOT_FOUND`, `OFFSET_TRIMMED`, `OFFSET_BEYOND_END`, or what the connection said.
    pub async fn open(self) -> Result<Subscription> {
        let limits = self.client.cluster().await?.limits.unwrap_or_default();
        let client = self.client.clone();
        let retry_for = self.retry_for;
        let plan = Plan::resolve(self).await?;
        let mut reader = Reader::new(client.clone(), plan, &limits, retry_for);
        reader.open().await?;
        let (sender, events) = mpsc::channel(BATCHES_AHEAD);
        Ok(Subscription {
            events,
            reader: tokio::spawn(reader.run(sender)),
            client,
            processed: BTreeMap::new(),
        })
    }
}

/// The events of a subscription, in order. Dropping it closes the stream, and with a group leaves
/// it. After an error it is over.
#[derive(Debug)]
pub struct Subscription {
    events: mpsc::Receiver<Result<Event>>,
    reader: JoinHandle<()>,
    client: Client,
    /// What is processed and not committed, by partition.
    processed: BTreeMap<i32, proto::Cursor>,
}

impl Subscription {
    /// The next event; nothing more once the stop position is reached. Cancelling it loses
    /// nothing.
    pub async fn next(&mut self) -> Option<Result<Event>> {
        let event = self.events.recv().await;
        self.forget_lost(event.as_ref());
        event
    }

    /// The next event if it is here already.
    pub fn try_next(&mut self) -> Option<Result<Event>> {
        let event = self.events.try_recv().ok();
        self.forget_lost(event.as_ref());
        event
    }

    /// With a group: the records before this cursor are processed, and may be committed. It is
    /// [`Batch::cursor`], or a copy of it with an earlier offset.
    pub fn processed(&mut self, cursor: proto::Cursor) {
        self.processed.insert(cursor.partition, cursor);
    }

    /// Whether anything is processed that is not committed.
    pub fn has_uncommitted(&self) -> bool {
        !self.processed.is_empty()
    }

    /// Commits, durably, all that is [processed](Self::processed). Partitions that are lost are
    /// named in `stale`, also when all of them are: what was processed of these comes again.
    /// Cancelling it loses nothing.
    ///
    /// # Errors
    /// What the connection said; the next call commits the same and more.
    pub async fn commit(&mut self) -> Result<proto::CommitOffsetsResponse> {
        let cursors: Vec<proto::Cursor> = self.processed.values().cloned().collect();
        if cursors.is_empty() {
            return Ok(proto::CommitOffsetsResponse::default());
        }
        let answer = match self.client.commit(cursors.clone()).await {
            Err(error) if error.is(reason::STALE_SESSION) => proto::CommitOffsetsResponse {
                stale: cursors,
                revoking: Vec::new(),
            },
            answer => answer?,
        };
        self.processed.clear();
        Ok(answer)
    }

    /// What is lost cannot be committed any more.
    fn forget_lost(&mut self, event: Option<&Result<Event>>) {
        if let Some(Ok(Event::Assignment(assignment))) = event {
            for lost in &assignment.lost {
                self.processed.remove(&lost.partition);
            }
        }
    }
}

impl Stream for Subscription {
    type Item = Result<Event>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let polled = self.events.poll_recv(cx);
        if let Poll::Ready(event) = &polled {
            self.forget_lost(event.as_ref());
        }
        polled
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.reader.abort();
    }
}
