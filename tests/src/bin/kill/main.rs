//! Ends the real binary under load, over and over, and checks what is left.
//!
//! `cargo run --release -p flowstone-tests --bin kill -- --cycles 1000 --seed 1`. `FLOWSTONE_BIN` names
//! another binary to try. Exits 1 at a violation, and keeps the data directory then.

use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

use clap::Parser;
use flowstone_tests::{Dice, kill};

/// Ends the real binary under load, over and over, and checks what is left.
#[derive(Debug, Parser)]
struct Args {
    /// How often a broker is ended and checked.
    #[arg(long, default_value_t = 1_000)]
    cycles: u64,
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
    println!("seed {seed}, {} cycles", args.cycles);
    let step = (args.cycles / 20).max(1);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("threads can be started");
    let run = kill::run(args.cycles, Dice::new(seed), move |cycle, report| {
        if cycle.is_multiple_of(step) {
            println!("{report}");
        }
    });
    // What is broken is told by a panic.
    match runtime.block_on(async { tokio::spawn(run).await }) {
        Ok(report) => {
            println!("done: {report}; seed {seed}");
            ExitCode::SUCCESS
        }
        Err(_) => {
            println!("BROKEN: see above; seed {seed}");
            ExitCode::FAILURE
        }
    }
}
