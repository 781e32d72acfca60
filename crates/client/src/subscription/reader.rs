//! The task that owns a subscription's stream, reads it, and opens it again.

use std::time::Duration;

use flowstone_proto::v1 as proto;
use futures_util::future::ready;
use futures_util::stream::once;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tonic::{Code, Status};

use super::codec::{SubscribeResponse, framed};
use super::plan::Plan;
use super::{Batch, Event, PartitionError};
use crate::backoff::Backoff;
use crate::stream::Responses;
use crate::{Client, Error, Result, reason};

const SUBSCRIBE: &str = "/flowstone.v1.LogService/Subscribe";

/// Of an idle stream, where the broker does not tell.
const HEARTBEAT: Duration = Duration::from_secs(5);
/// So many heartbeats may be missed before the stream counts as lost.
const HEARTBEATS_MISSED: u32 = 3;

pub(super) struct Reader {
    client: Client,
    plan: Plan,
    silence_max: Duration,
    retry_for: Option<Duration>,
    stream: Option<Responses>,
    /// When the broker was last heard.
    heard: Instant,
    backoff: Backoff,
    /// Set from a failure to the next message, so that one outage is told once.
    troubled: bool,
    /// What was wrong with a partition, when there is a stop position.
    failure: Option<Error>,
    /// With a group: the partitions that this member has, also those that it is to give up.
    held: Vec<proto::TopicPartition>,
}

enum Received {
    Event(Box<Event>),
    Nothing,
    End,
}

impl Reader {
    pub(super) fn new(
        client: Client,
        mut plan: Plan,
        limits: &proto::Limits,
        retry_for: Option<Duration>,
    ) -> Self {
        let told = |duration: Option<prost_types::Duration>| {
            duration
                .and_then(|duration| Duration::try_from(duration).ok())
                .filter(|duration| !duration.is_zero())
        };
        let heartbeat = told(limits.heartbeat_interval).unwrap_or(HEARTBEAT);
        Self {
            failure: plan.take_damage(),
            client,
            plan,
            silence_max: heartbeat * HEARTBEATS_MISSED,
            retry_for,
            stream: None,
            heard: Instant::now(),
            backoff: Backoff::default(),
            troubled: false,
            held: Vec::new(),
        }
    }

    /// Opens the stream for the first time.
    pub(super) async fn open(&mut self) -> Result<()> {
        self.connect().await
    }

    /// Reads until the end, an error that no repeat helps against, or until nobody listens.
    pub(super) async fn run(mut self, events: mpsc::Sender<Result<Event>>) {
        loop {
            let event = match self.receive().await {
                Ok(Received::Nothing) => continue,
                Ok(Received::End) => return,
                Ok(Received::Event(event)) => Ok(*event),
                Err(error) => match self.pause_after(error) {
                    Ok(pause) => {
                        // Said before the pause: others may have these partitions already.
                        let lost = self.lose_all().map(Event::Assignment);
                        if let Some(lost) = lost
                            && events.send(Ok(lost)).await.is_err()
                        {
                            return;
                        }
                        tokio::time::sleep(pause).await;
                        continue;
                    }
                    Err(error) => Err(error),
                },
            };
            let over = event.is_err();
            if events.send(event).await.is_err() || over {
                return;
            }
        }
    }

    async fn connect(&mut self) -> Result<()> {
        let request = self.plan.request();
        // A new connection, as the old one may be dead without a word.
        let request = flowstone_grpc::body(once(ready(framed(&request))));
        let opening = self.client.stream(SUBSCRIBE, request);
        let opened = tokio::time::timeout(self.silence_max, opening).await;
        let stream = match opened {
            Ok(stream) => stream.map_err(|status| self.client.error(&status))?,
            Err(_) => return Err(self.silent()),
        };
        self.stream = Some(stream);
        self.heard = Instant::now();
        Ok(())
    }

    async fn receive(&mut self) -> Result<Received> {
        if self.stream.is_none() {
            if self.plan.is_complete() {
                return self.finish();
            }
            self.connect().await?;
        }
        let Some(stream) = &mut self.stream else {
            return Ok(Received::Nothing);
        };
        let message = match tokio::time::timeout(self.silence_max, stream.next_in_pieces()).await {
            Ok(message) => message.map_err(|status| self.client.error(&status))?,
            Err(_) => return Err(self.silent()),
        };
        self.heard = Instant::now();
        self.backoff.reset();
        self.troubled = false;
        match message {
            Some(mut pieces) => {
                let response = SubscribeResponse::decode(pieces.take_all());
                let malformed =
                    |error| Status::internal(format!("the broker's message is malformed: {error}"));
                let response = response
                    .map_err(malformed)
                    .map_err(|status| self.client.error(&status))?;
                Ok(self.take(response))
            }
            None if self.plan.has_stop() => self.finish(),
            None => Err(Error::local(
                Code::Unavailable,
                None,
                "the broker ended the stream",
            )),
        }
    }

    fn take(&mut self, response: SubscribeResponse) -> Received {
        let SubscribeResponse {
            records,
            fields: response,
        } = response;
        let cursor = response.cursor;
        if let Some(status) = response.error {
            let cursor = cursor.unwrap_or_default();
            let error = Error::from_error_status(status);
            self.note(&cursor, &error);
            let event = Event::Partition(PartitionError { cursor, error });
            return Received::Event(Box::new(event));
        }
        if let Some(assignment) = response.assignment {
            self.held = [&assignment.partitions[..], &assignment.revoking].concat();
            return Received::Event(Box::new(Event::Assignment(assignment)));
        }
        match cursor {
            Some(cursor) if !records.is_empty() => {
                let batch = Batch {
                    records,
                    cursor,
                    high_watermark: response.high_watermark,
                };
                self.plan.received(&batch);
                Received::Event(Box::new(Event::Records(batch)))
            }
            Some(cursor) if !cursor.topic.is_empty() => {
                self.plan.moved(&cursor);
                Received::Nothing
            }
            _ => Received::Nothing,
        }
    }

    /// Remembers what a later stream could not know: where reading goes on, and that what was
    /// read is not all.
    fn note(&mut self, cursor: &proto::Cursor, error: &Error) {
        if self.plan.has_stop() {
            self.failure.get_or_insert_with(|| error.clone());
        }
        let start = error.metadata().get("log-start-offset");
        if let (true, Some(offset)) = (
            error.is(reason::OFFSET_TRIMMED),
            start.and_then(|start| start.parse().ok()),
        ) {
            self.plan.moved(&proto::Cursor {
                offset,
                ..cursor.clone()
            });
        }
    }

    /// The end of reading; a short read must not look like a whole one.
    fn finish(&mut self) -> Result<Received> {
        self.failure.take().map_or(Ok(Received::End), Err)
    }

    /// With the stream the session ends, and with that all that it had.
    fn lose_all(&mut self) -> Option<proto::Assignment> {
        let lost = std::mem::take(&mut self.held);
        (!lost.is_empty()).then(|| proto::Assignment {
            lost,
            ..proto::Assignment::default()
        })
    }

    /// How long to wait before the next attempt; gives the error back when none will help.
    fn pause_after(&mut self, error: Error) -> Result<Duration> {
        self.stream = None;
        let silent_for = self.heard.elapsed();
        // A session that was ended from outside is followed by another one.
        let retryable = error.is_retryable() || error.is(reason::STALE_SESSION);
        let patience = self.retry_for.unwrap_or(Duration::MAX);
        let pause = self.backoff.after(&error);
        if !retryable || silent_for.saturating_add(pause) > patience {
            return Err(error);
        }
        if self.troubled {
            tracing::debug!(%error, ?pause, "the subscription connects once more");
        } else {
            tracing::warn!(%error, "the subscription connects again");
        }
        self.troubled = true;
        Ok(pause)
    }

    fn silent(&self) -> Error {
        Error::local(
            Code::Unavailable,
            None,
            format!(
                "no broker answers at {}: no sign of life for {:?}",
                self.client.endpoint(),
                self.silence_max
            ),
        )
    }
}
