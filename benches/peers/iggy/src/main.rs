//! A client of Apache Iggy on its own crate, at its low level: a request of many messages at a time, and every
//! message walked on the way out.
//!
//! ```text
//! iggy-client produce ADDRESS STREAM FLUSH PRODUCERS VALUE_BYTES BYTES SECONDS
//! iggy-client replay  ADDRESS STREAM VALUE_BYTES RECORDS
//! iggy-client latency ADDRESS STREAM FLUSH VALUE_BYTES SECONDS PER_SECOND     (0: one at a time)
//! ```
//!
//! FLUSH is `default`, or `each`: every request is written and synced. Prints "records bytes seconds", or with
//! `latency` the nanoseconds of each append, a line each.

use std::fmt::Write;
use std::str::FromStr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use iggy::prelude::{
    Client, Consumer, DEFAULT_ROOT_PASSWORD, DEFAULT_ROOT_USERNAME, Identifier, IggyClient,
    IggyClientBuilder, IggyMessage, MessageClient, Partitioning, PollingStrategy, StreamClient,
    TopicClient, TopicCreateOptions, UserClient,
};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

/// The only topic of each stream.
const TOPIC: &str = "records";
/// Bytes of values in a request, in and out.
const SENT_BYTES: usize = 256 << 10;
const READ_BYTES: usize = 1 << 20;
const WATCHED: Duration = Duration::from_micros(70);

#[tokio::main]
async fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        [
            "produce",
            address,
            stream,
            flush,
            producers,
            value,
            bytes,
            seconds,
        ] => {
            let load = Load {
                address,
                stream,
                flush,
                value_bytes: number(value)?,
                time: Duration::from_secs_f64(number(seconds)?),
            };
            produce(&load, number(producers)?, number(bytes)?).await
        }
        ["replay", address, stream, value, records] => {
            replay(address, stream, number(value)?, number(records)?).await
        }
        ["latency", address, stream, flush, value, seconds, rate] => {
            let load = Load {
                address,
                stream,
                flush,
                value_bytes: number(value)?,
                time: Duration::from_secs_f64(number(seconds)?),
            };
            latency(&load, number(rate)?).await
        }
        _ => bail!("see the beginning of main.rs for the arguments"),
    }
}

/// What is appended.
struct Load<'a> {
    address: &'a str,
    stream: &'a str,
    flush: &'a str,
    value_bytes: usize,
    time: Duration,
}

fn number<T: FromStr>(text: &str) -> Result<T> {
    text.parse()
        .ok()
        .with_context(|| format!("{text:?} is no number"))
}

fn name(text: &str) -> Result<Identifier> {
    Identifier::named(text).with_context(|| format!("{text:?} is no name"))
}

/// Bytes without a pattern, the same every time.
fn noise(len: usize) -> Bytes {
    let mut state: u64 = 0x9e37_79b9_7f4a_7c15;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    (0..len).map(|_| next()).collect()
}

async fn connect(address: &str) -> Result<IggyClient> {
    let client = IggyClientBuilder::new()
        .with_tcp()
        .with_server_address(address.to_owned())
        .build()?;
    client.connect().await?;
    client
        .login_user(DEFAULT_ROOT_USERNAME, DEFAULT_ROOT_PASSWORD)
        .await?;
    Ok(client)
}

impl Load<'_> {
    async fn create(&self, client: &IggyClient, partitions: u32) -> Result<()> {
        let mut options = TopicCreateOptions {
            partitions_count: Some(partitions),
            ..TopicCreateOptions::default()
        };
        if self.flush == "each" {
            options.enforce_fsync = Some(true);
            options.messages_required_to_save = Some(1);
        }
        client.create_stream(self.stream).await?;
        client
            .create_topic(&name(self.stream)?, TOPIC, &options)
            .await?;
        Ok(())
    }

    fn messages(&self, count: usize) -> Result<Vec<IggyMessage>> {
        let value = noise(self.value_bytes);
        let message = |_| Ok(IggyMessage::builder().payload(value.clone()).build()?);
        (0..count).map(message).collect()
    }
}

async fn produce(load: &Load<'_>, producers: u32, bytes: u64) -> Result<()> {
    let mut clients = Vec::new();
    for _ in 0..producers {
        clients.push(connect(load.address).await?);
    }
    load.create(clients.first().context("there is a producer")?, producers)
        .await?;
    let per_request = (SENT_BYTES / load.value_bytes).max(1);
    let requests_max =
        (bytes / u64::from(producers)).div_ceil((per_request * load.value_bytes) as u64);
    let mut tasks = JoinSet::new();
    let begun = Instant::now();
    for (partition, client) in (0..).zip(clients) {
        let (stream, topic) = (name(load.stream)?, name(TOPIC)?);
        let (mut messages, time) = (load.messages(per_request)?, load.time);
        tasks.spawn(async move {
            let partition = Partitioning::partition_id(partition);
            let mut requests = 0;
            while requests < requests_max && begun.elapsed() < time {
                client
                    .send_messages(&stream, &topic, &partition, &mut messages)
                    .await?;
                requests += 1;
            }
            anyhow::Ok(requests)
        });
    }
    let mut records = 0;
    while let Some(ended) = tasks.join_next().await {
        records += ended?? * per_request as u64;
    }
    let seconds = begun.elapsed().as_secs_f64();
    println!(
        "{records} {} {seconds:.6}",
        records * load.value_bytes as u64
    );
    Ok(())
}

async fn replay(address: &str, stream: &str, value_bytes: usize, wanted: u64) -> Result<()> {
    let client = connect(address).await?;
    let (stream, topic, consumer) = (name(stream)?, name(TOPIC)?, Consumer::default());
    let count = u32::try_from(READ_BYTES / value_bytes)?.max(1);
    let (mut records, mut bytes) = (0_u64, 0_u64);
    let begun = Instant::now();
    while records < wanted {
        let strategy = PollingStrategy::offset(records);
        let polled = client
            .poll_messages(&stream, &topic, Some(0), &consumer, &strategy, count, false)
            .await?;
        if polled.messages.is_empty() {
            break;
        }
        for message in &polled.messages {
            records += 1;
            bytes += message.payload.len() as u64;
        }
    }
    println!("{records} {bytes} {:.6}", begun.elapsed().as_secs_f64());
    Ok(())
}

async fn latency(load: &Load<'_>, rate: u32) -> Result<()> {
    let client = connect(load.address).await?;
    load.create(&client, 1).await?;
    let (stream, topic) = (name(load.stream)?, name(TOPIC)?);
    let partition = Partitioning::partition_id(0);
    let mut messages = load.messages(1)?;
    let mut nanos = Vec::new();
    if rate == 0 {
        let begun = Instant::now();
        while begun.elapsed() < load.time {
            let sent = Instant::now();
            client
                .send_messages(&stream, &topic, &partition, &mut messages)
                .await?;
            nanos.push(sent.elapsed().as_nanos());
        }
    } else {
        // What is due while a request is under way travels with the next one.
        let mut due = due_times(rate, load.time);
        let mut batch = Vec::new();
        while due
            .recv_many(&mut batch, SENT_BYTES / load.value_bytes)
            .await
            > 0
        {
            let mut messages = load.messages(batch.len())?;
            client
                .send_messages(&stream, &topic, &partition, &mut messages)
                .await?;
            nanos.extend(batch.drain(..).map(|due: Instant| due.elapsed().as_nanos()));
        }
    }
    let mut lines = String::new();
    for nanos in nanos {
        writeln!(lines, "{nanos}")?;
    }
    print!("{lines}");
    Ok(())
}

/// Moments at a fixed rate, each told when it has come.
fn due_times(rate: u32, time: Duration) -> mpsc::UnboundedReceiver<Instant> {
    let (sender, times) = mpsc::unbounded_channel();
    std::thread::spawn(move || {
        let count = (time.as_secs_f64() * f64::from(rate)) as u32;
        let begun = Instant::now();
        for number in 0..count {
            let due = begun + Duration::from_secs(1) / rate * number;
            if let Some(sleep) = due
                .saturating_duration_since(Instant::now())
                .checked_sub(WATCHED)
            {
                std::thread::sleep(sleep);
            }
            while Instant::now() < due {
                std::hint::spin_loop();
            }
            if sender.send(due).is_err() {
                return;
            }
        }
    });
    times
}
