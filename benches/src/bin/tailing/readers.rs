//! Readers at the end of a partition, and a producer at a steady rate.

use std::time::{Duration, Instant};

use bytes::Bytes;
use flowstone_benches::cpu_seconds;
use flowstone_proto::v1;
use flowstone_proto::v1::log_service_client::LogServiceClient;
use flowstone_proto::v1::start_position::{Anchor, Position};
use flowstone_proto::v1::topic_service_client::TopicServiceClient;
use tokio::task::JoinSet;
use tonic::transport::{Channel, Endpoint};

use crate::{Args, Outcome};

pub(crate) const TOPIC: &str = "tail";
/// Calls on one connection: the broker takes 256, and a stub waits for ever with one more.
const CALLS_MAX: usize = 200;

/// What one run came to.
pub(crate) struct Found {
    /// The server's CPU time for each record that came to a reader, in microseconds.
    pub(crate) cpu_micros: f64,
    /// From the moment a record is sent to the one it is received at, in milliseconds.
    pub(crate) p50_ms: f64,
    pub(crate) p99_ms: f64,
}

/// Lets `count` readers take all records; makes the topic first if there has to be one.
pub(crate) async fn measure(
    args: &Args,
    address: &str,
    process: &str,
    count: usize,
    topic: bool,
) -> Outcome<Found> {
    let endpoint = Endpoint::from_shared(address.to_owned())?;
    if topic {
        let request = v1::CreateTopicRequest {
            topic: Some(v1::Topic {
                name: TOPIC.to_owned(),
                partition_count: 1,
                ..v1::Topic::default()
            }),
            ..v1::CreateTopicRequest::default()
        };
        let mut topics = TopicServiceClient::new(endpoint.connect().await?);
        topics.create_topic(request).await?;
    }
    let mut channels = Vec::new();
    let connections = count.div_ceil(CALLS_MAX).max(args.connections as usize);
    for _ in 0..connections {
        channels.push(endpoint.connect().await?);
    }
    let began = Instant::now();
    let mut readers = JoinSet::new();
    for channel in channels.iter().cycle().take(count) {
        let records = subscribe(channel.clone()).await?;
        readers.spawn(read(records, args.records, began));
    }
    let before = cpu_seconds(process);
    produce(args, endpoint.connect().await?, began).await?;
    let mut delays = Vec::with_capacity(count * args.records as usize);
    while let Some(read) = readers.join_next().await {
        delays.extend(read??);
    }
    let cpu = cpu_seconds(process) - before;
    delays.sort_unstable();
    let at = |share: f64| {
        let place = (delays.len().saturating_sub(1)) as f64 * share;
        delays
            .get(place as usize)
            .map_or(0.0, |delay| delay.as_secs_f64() * 1e3)
    };
    Ok(Found {
        cpu_micros: cpu * 1e6 / delays.len().max(1) as f64,
        p50_ms: at(0.5),
        p99_ms: at(0.99),
    })
}

/// A stream that begins at the end, as it is when this returns.
async fn subscribe(channel: Channel) -> Outcome<tonic::Streaming<v1::SubscribeResponse>> {
    let request = v1::SubscribeRequest {
        topic: TOPIC.to_owned(),
        start: Some(v1::StartPosition {
            position: Some(Position::Anchor(Anchor::Latest.into())),
        }),
        ..v1::SubscribeRequest::default()
    };
    let answer = LogServiceClient::new(channel).subscribe(request).await?;
    Ok(answer.into_inner())
}

/// How long each record took that came to one reader.
async fn read(
    mut responses: tonic::Streaming<v1::SubscribeResponse>,
    wanted: u32,
    began: Instant,
) -> Outcome<Vec<Duration>> {
    let mut delays = Vec::with_capacity(wanted as usize);
    while delays.len() < wanted as usize {
        let response = responses.message().await?.ok_or("the stream has ended")?;
        if let Some(error) = response.error {
            return Err(error.message.into());
        }
        let now = began.elapsed();
        for record in response.records {
            let value = record.value.unwrap_or_default();
            let sent = value.first_chunk().ok_or("a record without its time")?;
            delays.push(now.saturating_sub(Duration::from_nanos(u64::from_le_bytes(*sent))));
        }
    }
    Ok(delays)
}

/// Sends a record at each moment that is due, with the time at which it is sent.
async fn produce(args: &Args, channel: Channel, began: Instant) -> Outcome<()> {
    let mut log = LogServiceClient::new(channel);
    let mut due = tokio::time::interval(Duration::from_secs(1) / args.rate);
    for _ in 0..args.records {
        due.tick().await;
        let mut value = vec![b'v'; args.size as usize];
        let now = u64::try_from(began.elapsed().as_nanos())?;
        value[..8].copy_from_slice(&now.to_le_bytes());
        let record = v1::Record {
            value: Some(Bytes::from(value)),
            ..v1::Record::default()
        };
        log.produce(v1::ProduceRequest {
            records: vec![record],
            topic: TOPIC.to_owned(),
            partition: Some(0),
            ..v1::ProduceRequest::default()
        })
        .await?;
    }
    Ok(())
}
