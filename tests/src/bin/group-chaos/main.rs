//! Lets the members of a group come and go in all kinds of ways under load, kills the broker in between, and
//! checks that every record is processed, and by nobody who may not.
//!
//! `cargo run --release -p flowstone-tests --bin group-chaos -- --seconds 300 --seed 1`. `FLOWSTONE_BIN`
//! names another binary to try. Exits 1 at a violation, and keeps the data directory then.

use std::process::ExitCode;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use clap::Parser;
use flowstone_tests::{Dice, group_chaos};

/// Lets the members of a group come and go in all kinds of ways, and checks what they see.
#[derive(Debug, Parser)]
struct Args {
    /// How long the chaos lasts.
    #[arg(long, default_value_t = 300)]
    seconds: u64,
    /// About how often the broker is killed.
    #[arg(long, default_value_t = 6)]
    kill_every_seconds: u64,
    /// All choices follow from it, but the timing does not. Another one each time unless given.
    #[arg(long)]
    seed: Option<u64>,
}

fn main() -> ExitCode {
    let args = Args::parse();
    let seed = args.seed.unwrap_or_else(|| {
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        since.map_or(0, |since| since.as_secs())
    });
    println!("seed {seed}, {} s", args.seconds);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("threads can be started");
    let begun = Instant::now();
    let mut told = Instant::now();
    let chaos = Duration::from_secs(args.seconds);
    let kill_every = Duration::from_secs(args.kill_every_seconds);
    let run = group_chaos::run(chaos, kill_every, Dice::new(seed), move |counts| {
        if told.elapsed() > Duration::from_secs(20) {
            told = Instant::now();
            println!("{counts}");
        }
    });
    // What is broken is told by a panic.
    match runtime.block_on(async { tokio::spawn(run).await }) {
        Ok(counts) => {
            let took = begun.elapsed().as_secs();
            println!("done: {counts}; 0 violations; {took} s; seed {seed}");
            ExitCode::SUCCESS
        }
        Err(_) => {
            println!("BROKEN: see above; seed {seed}");
            ExitCode::FAILURE
        }
    }
}
