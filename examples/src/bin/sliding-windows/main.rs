//! Streaming analytics: how many requests each client made, in sliding windows, from the lines of an
//! access log.
//!
//! Any number of these processes share the work as one group. Each may be killed and started again at
//! any moment: every request is counted exactly once.
//!
//! ```text
//! flowstone topic create access -p 4
//! flowstone topic create windows -p 4
//! flowstone produce access -K ' ' access.log     the client is the key, the rest of the line the value
//! sliding-windows access windows --member one &
//! sliding-windows access windows --member two &
//! flowstone consume windows -f '%k %s\n'         client, then window and count
//! ```
//!
//! How a crash at any point loses nothing and counts nothing twice:
//!
//! 1. What a batch of requests adds to the counts is appended to the output in one request of a producer
//!    that is named after the input's partition, and whose sequence is the input's next offset.
//! 2. Only then is the batch committed. A crash between the two makes the group read the batch again.
//! 3. Whoever reads a partition first opens its producer. That tells how far the output is, so that what
//!    is read again is left out; and it raises the epoch, so that an earlier owner that still lives can
//!    append nothing more.
//!
//! The whole request goes to one partition of the output, so it is there whole or not at all. A count is
//! the sum of what the output says of a client and a window.

mod windows;

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::Parser;
use flowstone_client::{
    Batch, Client, ClientOptions, Code, Event, ProduceRequest, Record, RequestProducer,
};

use windows::Windows;

/// How long to wait before joining again after a failure.
const PAUSE: Duration = Duration::from_millis(200);
/// How much is counted at a time.
const BATCH_BYTES: i32 = 16 << 10;

#[derive(Debug, Parser)]
struct Args {
    /// The topic with a request a record: the client is the key
    input: String,
    /// The topic that the counts go to, with as many partitions
    output: String,
    /// Address of the broker
    #[arg(
        long,
        env = "FLOWSTONE_SERVER",
        default_value = "http://127.0.0.1:7420"
    )]
    server: String,
    /// Who shares the work
    #[arg(long, default_value = "sliding-windows")]
    group: String,
    /// A name of this process in the group: started again soon, it keeps its partitions
    #[arg(long, default_value = "")]
    member: String,
    /// How long a window is, in seconds
    #[arg(long, default_value_t = 600)]
    window: i64,
    /// How far a window begins after the one before, in seconds
    #[arg(long, default_value_t = 300)]
    slide: i64,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let args = Args::parse();
    let windows = Windows::new(args.window, args.slide)?;
    let options = ClientOptions {
        retry_for: Duration::from_secs(30),
        ..ClientOptions::default()
    };
    let client = Client::with_options(&args.server, options)?;
    loop {
        // Whatever fails, the group knows where to go on.
        if let Err(error) = count(&client, &args, &windows).await {
            let is_lasting = error.downcast_ref().is_some_and(is_lasting);
            if is_lasting {
                return Err(error);
            }
            eprintln!("{error:#}; joining again");
            tokio::time::sleep(PAUSE).await;
        }
    }
}

/// Whether joining again would fail again, or disturb a newer process of the same name.
fn is_lasting(error: &flowstone_client::Error) -> bool {
    error.is("MEMBER_REPLACED") || matches!(error.code(), Code::NotFound | Code::InvalidArgument)
}

/// Joins the group and counts until something fails.
async fn count(client: &Client, args: &Args, windows: &Windows) -> Result<()> {
    let mut requests = client
        .subscribe(&args.input)
        .group(&args.group)
        .member(&args.member)
        // Small ones, so that counts come soon.
        .max_batch_bytes(BATCH_BYTES)
        .open()
        .await?;
    // The producers of the partitions that this process reads.
    let mut producers: BTreeMap<i32, Output> = BTreeMap::new();
    while let Some(event) = requests.next().await {
        match event? {
            // A partition that comes back may have been another's meanwhile.
            Event::Assignment(now) => {
                let has =
                    |partition: &i32| now.partitions.iter().any(|p| p.partition == *partition);
                producers.retain(|partition, _| has(partition));
            }
            Event::Partition(problem) => eprintln!("{}", problem.error),
            Event::Records(batch) => {
                let partition = batch.partition();
                let output = match producers.entry(partition) {
                    Entry::Occupied(opened) => opened.into_mut(),
                    Entry::Vacant(new) => new.insert(Output::open(client, args, &batch).await?),
                };
                output.append(client, &batch, windows).await?;
                // Cursors that are stale belong to a partition that has moved on, and its new owner
                // knows from the output that these requests are counted.
                client.commit(vec![batch.cursor]).await?;
            }
        }
    }
    Ok(())
}

/// Where the counts of one input partition go, and how far they are.
struct Output {
    topic: String,
    partition: i32,
    id: String,
    epoch: i32,
    /// The next offset of the input that is not counted yet.
    counted_to: i64,
}

impl Output {
    /// Fences earlier owners and asks how far they came.
    async fn open(client: &Client, args: &Args, batch: &Batch) -> Result<Self> {
        // With the topic's id in it: a topic that is made anew begins at offset 0 again.
        let partition = batch.partition();
        let id = format!("{}/{}/{partition}", args.group, batch.cursor.topic_id);
        let (epoch, counted_to) = client.open_producer(&args.output, &id).await?;
        Ok(Self {
            topic: args.output.clone(),
            partition,
            id,
            epoch,
            counted_to,
        })
    }

    /// Appends what the requests of a batch that are not counted yet add to the counts.
    async fn append(&mut self, client: &Client, batch: &Batch, windows: &Windows) -> Result<()> {
        let new = batch.records.iter().filter(|r| r.offset >= self.counted_to);
        let mut counts: BTreeMap<(Vec<u8>, i64), u64> = BTreeMap::new();
        for record in new {
            let client = record.key.unwrap_or_default();
            for window in windows.of_line(record.value.unwrap_or_default()) {
                *counts.entry((client.to_vec(), window)).or_default() += 1;
            }
        }
        let next = batch.cursor.offset;
        if next > self.counted_to && !counts.is_empty() {
            let records = counts.into_iter().map(|((client, window), count)| Record {
                key: Some(client.into()),
                value: Some(format!("{window} {count}").into()),
                ..Record::default()
            });
            let request = ProduceRequest {
                topic: self.topic.clone(),
                partition: Some(self.partition),
                producer: Some(RequestProducer {
                    id: self.id.clone(),
                    epoch: self.epoch,
                    sequence: next,
                }),
                records: records.collect(),
                ..ProduceRequest::default()
            };
            // Repeated while the broker is away: the sequence makes that safe.
            client
                .produce(request)
                .await
                .context("the counts could not be appended")?;
        }
        self.counted_to = self.counted_to.max(next);
        Ok(())
    }
}
