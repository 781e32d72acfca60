//! The client of opaque messages: sends one message over and over, or counts what comes.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};
use bytes::Bytes;
use futures_util::stream;
use http::uri::PathAndQuery;
use tokio::sync::{Semaphore, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tonic::client::Grpc;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Streaming};

use super::codec::OpaqueCodec;
use crate::latency::{Latencies, Pace};
use crate::peer::Probe;
use crate::work::REQUESTS_IN_FLIGHT;

/// The settings of Flowstone's Rust client (`crates/client/src/client.rs`).
const STREAM_WINDOW_BYTES: u32 = 4 << 20;
const CONNECTION_WINDOW_BYTES: u32 = 16 << 20;
const FRAME_BYTES_MAX: u32 = 1 << 20;
const KEEPALIVE: Duration = Duration::from_secs(10);
const MESSAGE_BYTES_MAX: usize = 80 << 20;

/// A connection of its own to a server on loopback.
///
/// # Errors
/// When nobody accepts it.
pub(crate) async fn connect(port: u16) -> Result<Channel> {
    Endpoint::from_shared(format!("http://127.0.0.1:{port}"))
        .context("loopback has an address")?
        .tcp_nodelay(true)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_frame_size(FRAME_BYTES_MAX)
        .http2_keep_alive_interval(KEEPALIVE)
        .keep_alive_timeout(KEEPALIVE)
        .keep_alive_while_idle(true)
        .connect()
        .await
        .with_context(|| format!("cannot connect to port {port}"))
}

async fn grpc(channel: &Channel) -> Result<Grpc<Channel>> {
    let mut grpc = Grpc::new(channel.clone()).max_decoding_message_size(MESSAGE_BYTES_MAX);
    grpc.ready().await.context("the connection is lost")?;
    Ok(grpc)
}

/// What tells whether an ack is one: the peer's own failure otherwise.
pub(crate) type CheckAck = fn(Bytes) -> Result<()>;

/// A stream up: a message that is sent over and over, each answered by an ack.
#[derive(Clone, Debug)]
pub(crate) struct Up {
    /// The method.
    pub(crate) path: &'static str,
    /// What is sent.
    pub(crate) message: Bytes,
    /// Whether an answer is an ack.
    pub(crate) check: CheckAck,
}

impl Up {
    /// Sends until `messages_max` or the time is reached, with a fixed number unanswered, and waits for
    /// all acks. Answers with how many there were.
    ///
    /// # Errors
    /// When a message was refused, or the stream ended early.
    pub(crate) async fn send_many(
        &self,
        channel: &Channel,
        messages_max: u64,
        time: Duration,
    ) -> Result<u64> {
        let room = Arc::new(Semaphore::new(REQUESTS_IN_FLIGHT));
        let sent = Arc::new(AtomicU64::new(0));
        let end = Instant::now() + time;
        let state = (Arc::clone(&room), Arc::clone(&sent), self.message.clone());
        let messages = stream::unfold(state, move |(room, sent, message)| async move {
            room.acquire().await.ok()?.forget();
            if sent.load(Ordering::Relaxed) >= messages_max || Instant::now() >= end {
                return None;
            }
            sent.fetch_add(1, Ordering::Relaxed);
            Some((message.clone(), (room, sent, message)))
        });
        let mut acks = self.open(channel, messages).await?;
        let mut count = 0;
        while let Some(ack) = acks.message().await.context("the stream up has failed")? {
            (self.check)(ack)?;
            count += 1;
            room.add_permits(1);
        }
        let sent = sent.load(Ordering::Relaxed);
        if count != sent {
            return Err(anyhow!(
                "{sent} messages were sent and {count} acknowledged"
            ));
        }
        Ok(count)
    }

    /// Sends a message, and the next one when the ack is there, or at a rate.
    ///
    /// # Errors
    /// When a message was refused, or the stream ended early.
    pub(crate) async fn probe(&self, channel: &Channel, probe: &Probe) -> Result<Latencies> {
        match probe.per_second {
            None => self.one_by_one(channel, probe.time).await,
            Some(rate) => self.paced(channel, rate, probe.time).await,
        }
    }

    async fn one_by_one(&self, channel: &Channel, time: Duration) -> Result<Latencies> {
        let (sender, messages) = mpsc::channel(1);
        let mut acks = self.open(channel, ReceiverStream::new(messages)).await?;
        let mut latencies = Latencies::default();
        let begun = Instant::now();
        while begun.elapsed() < time {
            let sent = Instant::now();
            sender
                .send(self.message.clone())
                .await
                .context("the stream up has ended")?;
            self.take_ack(&mut acks).await?;
            latencies.record(sent.elapsed());
        }
        Ok(latencies)
    }

    async fn paced(&self, channel: &Channel, rate: u32, time: Duration) -> Result<Latencies> {
        let count = (time.as_secs_f64() * f64::from(rate)) as u32;
        let (sender, messages) = mpsc::channel(count.max(1) as usize);
        let (due_sender, mut due) = mpsc::unbounded_channel();
        let mut acks = self.open(channel, ReceiverStream::new(messages)).await?;
        let message = self.message.clone();
        let sending = std::thread::spawn(move || {
            let pace = Pace::new(rate);
            for number in 0..count {
                let due = pace.wait_for(number);
                if due_sender.send(due).is_err() || sender.blocking_send(message.clone()).is_err() {
                    return;
                }
            }
        });
        let mut latencies = Latencies::default();
        while let Some(due) = due.recv().await {
            self.take_ack(&mut acks).await?;
            latencies.record(due.elapsed());
        }
        sending
            .join()
            .map_err(|_| anyhow!("the sender has panicked"))?;
        Ok(latencies)
    }

    async fn take_ack(&self, acks: &mut Streaming<Bytes>) -> Result<()> {
        let ack = acks.message().await.context("the stream up has failed")?;
        (self.check)(ack.context("the stream up has ended before its last ack")?)
    }

    async fn open(
        &self,
        channel: &Channel,
        messages: impl futures_util::Stream<Item = Bytes> + Send + 'static,
    ) -> Result<Streaming<Bytes>> {
        let path = PathAndQuery::from_static(self.path);
        let mut grpc = grpc(channel).await?;
        let answer = grpc
            .streaming(Request::new(messages), path, OpaqueCodec)
            .await;
        Ok(answer.context("the stream up is refused")?.into_inner())
    }
}

/// What has come down.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Received {
    /// Messages.
    pub(crate) messages: u64,
    /// Their bytes.
    pub(crate) bytes: u64,
}

/// Opens a stream down and counts what comes until its end.
///
/// # Errors
/// When the stream fails.
pub(crate) async fn receive(
    channel: &Channel,
    path: &'static str,
    order: Bytes,
) -> Result<Received> {
    let path = PathAndQuery::from_static(path);
    let mut grpc = grpc(channel).await?;
    let answer = grpc
        .server_streaming(Request::new(order), path, OpaqueCodec)
        .await;
    let mut messages = answer.context("the stream down is refused")?.into_inner();
    let mut received = Received::default();
    while let Some(message) = messages
        .message()
        .await
        .context("the stream down has failed")?
    {
        received.messages += 1;
        received.bytes += message.len() as u64;
    }
    Ok(received)
}
