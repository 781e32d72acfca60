//! The task that owns a producer's stream: it sends batches, matches answers to them, and decides
//! after a failure which are sent again.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use flowstone_proto::v1 as proto;
use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use prost::Message;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::{Code, Status};

use super::batch::Batch;
use super::codec;
use super::delivery::Placement;
use super::queue::Queue;
use crate::backoff::Backoff;
use crate::stream::Responses;
use crate::{Client, Error, reason};

const PRODUCE_STREAM: &str = "/flowstone.v1.LogService/ProduceStream";

/// A last attempt that begins just before the time is over still waits so long for its answer:
/// what is sent and not waited for is left unknown.
const FAIR_ATTEMPT: Duration = Duration::from_secs(1);

/// What is repeated, and for how long.
#[derive(Clone, Debug)]
pub(super) struct Repeat {
    /// Also what may have been appended.
    pub(super) unknown: bool,
    /// Since the first record of a batch.
    pub(super) within: Duration,
}

/// What all requests of a producer have in common.
#[derive(Debug)]
pub(super) struct RequestShape {
    /// The fields behind the records.
    pub(super) tail: Bytes,
    /// Whether these name the partition.
    pub(super) names_partition: bool,
    /// Makes requests safe to repeat.
    pub(super) identity: Option<Identity>,
    /// Where the first record has to go, and each other one behind it.
    pub(super) expected_offset: Option<i64>,
}

/// Who this producer is to the broker.
#[derive(Debug)]
pub(super) struct Identity {
    pub(super) id: String,
    pub(super) epoch: i32,
    /// So many unanswered requests the broker remembers for sure.
    pub(super) window: usize,
}

impl RequestShape {
    fn message(&self, batch: &mut Batch) -> Bytes {
        let producer = self.identity.as_ref().map(|identity| proto::Producer {
            id: identity.id.clone(),
            epoch: identity.epoch,
            sequence: batch.sequence(),
        });
        let expected_offset = self.expected_offset.map(|first| first + batch.before);
        batch.message([&self.tail, &codec::request_end(producer, expected_offset)])
    }

    /// How many requests may be unanswered.
    fn window(&self) -> usize {
        self.identity.as_ref().map_or(usize::MAX, |i| i.window)
    }
}

pub(super) struct Driver {
    client: Client,
    queue: Arc<Queue>,
    request: RequestShape,
    repeat: Repeat,
    /// To be sent before anything that is still in the queue, oldest first.
    pending: VecDeque<Batch>,
    /// Sent over the stream of now and not answered, oldest first.
    sent: VecDeque<Batch>,
    backoff: Backoff,
    /// What went wrong last, from a failure to the next answer.
    last_error: Option<Error>,
}

/// Why a stream is over.
enum Ended {
    /// Nothing was unanswered.
    Idle,
    /// The broker refused the oldest unanswered request and appended none of the later ones.
    Refused(Error),
    /// The stream broke; the broker may have appended those of `sent` that left this process.
    Lost { error: Error, left: usize },
}

impl Driver {
    pub(super) fn new(
        client: Client,
        queue: Arc<Queue>,
        request: RequestShape,
        repeat: Repeat,
    ) -> Self {
        Self {
            client,
            queue,
            request,
            repeat,
            pending: VecDeque::new(),
            sent: VecDeque::new(),
            backoff: Backoff::default(),
            last_error: None,
        }
    }

    /// Runs until the queue is closed and everything is answered.
    pub(super) async fn run(mut self) {
        loop {
            if self.pending.is_empty() {
                match self.queue.take(true) {
                    Some(batch) => self.pending.push_back(batch),
                    None if self.queue.is_finished() => return,
                    None => {
                        self.queue.woken().await;
                        continue;
                    }
                }
            }
            let ended = self.stream().await;
            let pause = self.settle(ended);
            self.pause(pause).await;
        }
    }

    /// Opens a stream and uses it for as long as it lasts.
    async fn stream(&mut self) -> Ended {
        let (requests, receiver) = mpsc::unbounded_channel();
        let taken = Arc::new(AtomicU64::new(0));
        let mut answers = Answers::open(&self.client, receiver, Arc::clone(&taken));
        let mut answered: u64 = 0;
        let fair_until = Instant::now() + self.repeat.within.min(FAIR_ATTEMPT);
        loop {
            self.dispatch(&requests);
            if self.sent.is_empty() && self.queue.is_finished() {
                return Ended::Idle;
            }
            let next = tokio::select! {
                biased;
                next = answers.next() => next,
                () = self.queue.woken() => continue,
                () = self.linger() => continue,
                () = self.overdue(fair_until) => Err(Status::deadline_exceeded(format!(
                    "the broker did not answer within {:?}", self.repeat.within
                ))),
            };
            let error = match next {
                Ok(Some(response)) => match (response.error, self.sent.pop_front()) {
                    (None, Some(batch)) => {
                        answered += 1;
                        self.backoff.reset();
                        self.last_error = None;
                        let runs = response.produce.unwrap_or_default().runs;
                        let placement = Placement::new(&runs, batch.record_count);
                        self.queue.answer(batch, placement);
                        continue;
                    }
                    (Some(error), Some(batch)) => {
                        self.sent.push_front(batch);
                        return Ended::Refused(Error::from_error_status(error));
                    }
                    (_, None) => return Ended::Idle,
                },
                Ok(None) => Error::local(Code::Unavailable, None, "the broker ended the stream"),
                Err(status) => self.client.error(&status),
            };
            if self.sent.is_empty() {
                return Ended::Idle;
            }
            // What the transport never asked for never left; all of the rest may have.
            let left = taken.load(Ordering::Acquire).saturating_sub(answered);
            return Ended::Lost {
                error,
                left: usize::try_from(left).unwrap_or(usize::MAX),
            };
        }
    }

    /// Sends what is due. The queue bounds the bytes, so the channel need not.
    fn dispatch(&mut self, requests: &mpsc::UnboundedSender<Bytes>) {
        while self.has_room() {
            let next = self.pending.pop_front();
            let Some(mut batch) = next.or_else(|| self.queue.take(self.sent.is_empty())) else {
                return;
            };
            if self.is_too_late(&batch) {
                self.give_up(batch);
                continue;
            }
            // A stream that is gone is told by its answers.
            let _ = requests.send(self.request.message(&mut batch));
            self.sent.push_back(batch);
        }
    }

    /// Whether one more request may be unanswered: what the broker may have forgotten must not have
    /// to be repeated.
    fn has_room(&self) -> bool {
        self.sent.len() < self.request.window()
    }

    async fn linger(&self) {
        match self.queue.linger_until() {
            Some(until) if !self.sent.is_empty() && self.has_room() => {
                tokio::time::sleep_until(until).await
            }
            _ => std::future::pending().await,
        }
    }

    async fn overdue(&self, fair_until: Instant) {
        match self.sent.front() {
            Some(oldest) => {
                let until = oldest.since + self.repeat.within;
                tokio::time::sleep_until(until.max(fair_until)).await;
            }
            None => std::future::pending().await,
        }
    }

    /// Decides about every unanswered batch, and how long to wait before the next stream.
    fn settle(&mut self, ended: Ended) -> Duration {
        let mut sent = std::mem::take(&mut self.sent);
        let (error, pause) = match ended {
            Ended::Idle => return Duration::ZERO,
            Ended::Refused(error) => {
                let Some(mut batch) = sent.pop_front() else {
                    return Duration::ZERO;
                };
                if !error.is_retryable() {
                    self.refuse(batch, sent, &error);
                    return Duration::ZERO;
                }
                let pause = self.backoff.after(&error);
                batch.perhaps_appended |= !self.surely_not_appended(&batch, &error);
                sent.push_front(batch);
                (error, pause)
            }
            Ended::Lost { error, left } => {
                // A status with a reason of ours speaks of the oldest unanswered request.
                if !error.is_retryable()
                    && let Some(batch) = sent.pop_front()
                {
                    self.refuse(batch, sent, &error);
                    return Duration::ZERO;
                }
                for batch in sent.iter_mut().take(left) {
                    batch.perhaps_appended |= !self.surely_not_appended(batch, &error);
                }
                let pause = self.backoff.after(&error);
                (error, pause)
            }
        };
        // One outage is told once.
        if self.last_error.is_some() {
            tracing::debug!(%error, unanswered_requests = sent.len(), "the produce stream ended again");
        } else {
            tracing::warn!(%error, unanswered_requests = sent.len(), "the produce stream ended");
        }
        self.last_error = Some(error);
        for batch in sent {
            let repeat = !batch.perhaps_appended || self.repeat.unknown;
            if repeat && !self.is_too_late(&batch) {
                self.pending.push_back(batch);
            } else {
                self.give_up(batch);
            }
        }
        pause
    }

    /// The oldest batch is refused for good; those behind it are sent again, unless this producer is
    /// over.
    fn refuse(&mut self, batch: Batch, behind: VecDeque<Batch>, error: &Error) {
        let is_over = error.is(reason::STALE_PRODUCER);
        self.pending.extend(behind);
        self.answer_refused(batch, error);
        if is_over {
            for batch in std::mem::take(&mut self.pending) {
                self.answer_refused(batch, error);
            }
        }
    }

    fn answer_refused(&self, batch: Batch, error: &Error) {
        // An earlier attempt is not undone by the refusal of a later one.
        let unknown = batch.perhaps_appended || error.is(reason::SEQUENCE_TOO_OLD);
        let answer = if unknown {
            outcome_unknown(error)
        } else {
            error.clone()
        };
        self.queue.answer(batch, Err(answer));
    }

    fn is_too_late(&self, batch: &Batch) -> bool {
        batch.since + self.repeat.within <= Instant::now()
    }

    /// Answers with what went wrong last.
    fn give_up(&self, batch: Batch) {
        let error = self.last_error.clone().unwrap_or_else(|| {
            let within = self.repeat.within;
            Error::local(
                Code::DeadlineExceeded,
                None,
                format!("the records could not be sent within {within:?}"),
            )
        });
        let error = if batch.perhaps_appended {
            outcome_unknown(&error)
        } else {
            error
        };
        self.queue.answer(batch, Err(error));
    }

    /// Whether a retryable failure says that nothing of the batch was appended.
    fn surely_not_appended(&self, batch: &Batch, error: &Error) -> bool {
        let refused_whole = [reason::THROTTLED, reason::QUEUE_FULL, reason::SHUTTING_DOWN];
        // One partition may be full, or find no descriptor for its next file, while another has taken its part of the same request.
        let refused_by_partition = [
            reason::DISK_FULL,
            reason::TOPIC_FULL,
            reason::LIMIT_EXCEEDED,
        ];
        let one_partition = self.request.names_partition || batch.goes_to_one_partition;
        refused_whole.iter().any(|reason| error.is(reason))
            || one_partition && refused_by_partition.iter().any(|reason| error.is(reason))
    }

    /// Waits, but not beyond the time that the oldest batch has, and at most half of a batch's: one
    /// that comes meanwhile shall be sent once before it is given up.
    async fn pause(&self, pause: Duration) {
        let until = Instant::now() + pause.min(self.repeat.within / 2);
        let until = match self.pending.front() {
            Some(oldest) => until.min(oldest.since + self.repeat.within),
            None => until,
        };
        tokio::time::sleep_until(until).await;
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        for batch in &mut self.sent {
            batch.perhaps_appended = true;
        }
        let unanswered = self.sent.drain(..).chain(self.pending.drain(..));
        self.queue.end(unanswered);
    }
}

/// The answers of a stream, which may still be opening: a broker may look at the first request
/// before it opens its side.
enum Answers {
    Opening(BoxFuture<'static, Result<Responses, Status>>),
    Open(Box<Responses>),
}

impl Answers {
    fn open(
        client: &Client,
        requests: mpsc::UnboundedReceiver<Bytes>,
        taken: Arc<AtomicU64>,
    ) -> Self {
        let requests = UnboundedReceiverStream::new(requests).inspect(move |_| {
            taken.fetch_add(1, Ordering::Release);
        });
        let opening = client.stream(PRODUCE_STREAM, flowstone_grpc::body(requests));
        Self::Opening(Box::pin(opening))
    }

    /// Nothing is lost when this is cancelled.
    async fn next(&mut self) -> Result<Option<proto::ProduceStreamResponse>, Status> {
        loop {
            match self {
                Self::Opening(opening) => *self = Self::Open(Box::new(opening.await?)),
                Self::Open(stream) => {
                    let Some(message) = stream.next().await? else {
                        return Ok(None);
                    };
                    let answer = proto::ProduceStreamResponse::decode(message);
                    return answer.map(Some).map_err(|error| {
                        Status::internal(format!("the broker's answer is malformed: {error}"))
                    });
                }
            }
        }
    }
}

fn outcome_unknown(error: &Error) -> Error {
    if error.is(reason::OUTCOME_UNKNOWN) {
        return error.clone();
    }
    Error::local(
        Code::Unavailable,
        Some(reason::OUTCOME_UNKNOWN),
        format!("the records may or may not be appended: {error}"),
    )
}
