//! A storm of duplicates: every request is sent one to three times, at the same time, in other orders
//! and over several connections, while the broker is killed, producers start anew and the topic grows.
//! In the end each record is there once, where its answers said, and in order where its producer waited.
//!
//! `cargo run --release -p flowstone-tests --bin duplicate-storm -- --seconds 60 --seed 1`.
//! `FLOWSTONE_BIN` names another binary to try. Exits 1 at a violation, and keeps the data directory then.

mod check;
mod content;
mod named;
mod ordered;
mod reordered;
mod sender;
mod weather;

use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use clap::Parser;
use flowstone_tests::{Broker, Dice, Proxy};

use crate::check::Expected;
use crate::sender::Sender;
use crate::weather::Weather;

/// The topic that is produced to.
const TOPIC: &str = "storm";
/// Segments roll, so that what is remembered is taken from snapshots too.
const CONFIG: &str = "[limits]\nmin_segment_bytes = 524_288\nmax_record_bytes = 65_536\n\
                      max_request_bytes = 262_144\nmax_records_per_request = 1_024\n";
/// What is under way when the time is over has to end within this.
const WAIT: Duration = Duration::from_secs(60);

/// Sends every request one to three times through kills, restarts and growth, and counts records.
#[derive(Debug, Parser)]
struct Args {
    /// How long requests are sent.
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// All choices follow from it, but the timing does not. Another one each time unless given.
    #[arg(long)]
    seed: Option<u64>,
    /// Producers of each of the three kinds.
    #[arg(long, default_value_t = 3)]
    producers: u32,
}

fn main() -> ExitCode {
    let args = Args::parse();
    let seed = args.seed.unwrap_or_else(|| {
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        since.map_or(0, |since| since.as_secs())
    });
    println!("seed {seed}, {} seconds", args.seconds);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("threads can be started");
    // What is broken is told by a panic.
    match runtime.block_on(async { tokio::spawn(storm(args, seed)).await }) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => {
            println!("BROKEN: see above; seed {seed}");
            ExitCode::FAILURE
        }
    }
}

async fn storm(args: Args, seed: u64) {
    let dice = Dice::new(seed);
    let broker = Broker::with_config(CONFIG).kept_after_failure();
    let create = [
        "topic",
        "create",
        TOPIC,
        "-p",
        "2",
        "--segment-bytes",
        "512KiB",
    ];
    broker.flowstone(create).run().ok();
    let proxy = Proxy::start().await;
    proxy.point_to(Some(broker.address()));
    let sender = Arc::new(Sender::new(&proxy.url()));

    let mut lanes = tokio::task::JoinSet::new();
    for number in 0..args.producers {
        let of = |kind: u32| kind * 1_000 + number;
        lanes.spawn(reordered::run(Arc::clone(&sender), of(1), dice.fork()));
        lanes.spawn(ordered::run(Arc::clone(&sender), of(2), dice.fork()));
        lanes.spawn(named::run(Arc::clone(&sender), of(3), dice.fork()));
    }
    let mut weather = Weather::new(broker, proxy, dice.fork());
    weather
        .rage(Duration::from_secs(args.seconds), &sender)
        .await;
    sender.stop();
    let mut expected = Expected::default();
    let ended = tokio::time::timeout(WAIT, async {
        while let Some(lane) = lanes.join_next().await {
            expected.add(lane.expect("a producer saw something wrong"));
        }
    });
    assert!(ended.await.is_ok(), "what was under way does not end");
    let found = check::read(&weather.broker, weather.partitions).await;
    expected.check(&found);
    let broker = weather.end();
    let found = check::read(&broker, weather::partitions_of(&broker).await).await;
    expected.check(&found);
    println!(
        "done: {} records of {} requests there once, {} calls, {} answered as duplicates, {} producers \
         opened, {} stale ones refused, {} kills, {} growths; seed {seed}",
        found.len(),
        expected.requests(),
        sender.calls(),
        sender.duplicates(),
        expected.openings(),
        expected.refusals(),
        weather::kills(),
        weather::growths(),
    );
}
