//! Fills the disk of the real binary, over and over, and checks that it is an answer and no end.
//!
//! `cargo run --release -p flowstone-tests --bin full-disk -- --cycles 100 --seed 1`. A broker runs on a
//! small ext4. In each cycle records or somebody else fill it; every refusal has to come within 100 ms,
//! reads and commits go on, the broker is killed and started there now and then; then there is space
//! again, and every partition has to take records within a second, without a restart.
//! `FLOWSTONE_BIN` names another binary to try. Needs root and loop devices; where they are missing it
//! says so and exits 0. Exits 1 at a violation.

mod cycle;
mod load;
mod volume;

use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Parser;
use cycle::{REFUSAL_LIMIT, RESUME_LIMIT, World};
use flowstone_tests::mounts::{self, Mounted};
use flowstone_tests::{Dice, binary, workspace_root};

/// How much of the broker's log is shown when something is wrong.
const SHOWN_BYTES: usize = 4_000;

/// Fills the disk of the real binary, over and over, and checks that it is an answer and no end.
#[derive(Debug, Parser)]
struct Args {
    /// How often the disk gets full.
    #[arg(long, default_value_t = 100)]
    cycles: u64,
    /// All choices follow from it, but the timing does not. Another one each time unless given.
    #[arg(long)]
    seed: Option<u64>,
    /// Count late answers, and do not fail for them: on a busy machine they may be the machine's.
    #[arg(long)]
    any_time: bool,
}

fn main() -> ExitCode {
    let args = Args::parse();
    mounts::in_namespace("full-disk", async { all(&args, binary()).await })
}

async fn all(args: &Args, binary: &Path) -> ExitCode {
    let seed = args
        .seed
        .unwrap_or_else(|| Dice::from_env().pick(0..1 << 32));
    let workspace = workspace_root().join("target/full-disk");
    std::fs::create_dir_all(&workspace).expect("the target directory can be written to");
    let _memory = Mounted::memory(&workspace);
    let begun = Instant::now();
    let mut world = match World::begin(binary, &workspace, Dice::new(seed)).await {
        Ok(world) => world,
        Err(error) => {
            println!("it cannot be begun: {error}");
            return ExitCode::FAILURE;
        }
    };
    let (mut cycles, mut broken) = (0, None);
    while cycles < args.cycles && broken.is_none() {
        cycles += 1;
        let started = Instant::now();
        match world.cycle().await {
            Ok(kind) => println!(
                "cycle {cycles} of seed {seed}: {kind}; {} ms",
                started.elapsed().as_millis()
            ),
            Err(error) => broken = Some(error),
        }
    }
    if broken.is_none() {
        broken = world.end().await.err();
    }
    let seen = world.shared.seen();
    let late = over(&seen.refusals, REFUSAL_LIMIT);
    let slow = over(&world.resumed, RESUME_LIMIT);
    println!(
        "{cycles} cycles: {} records taken and {} refused, within {} ms (median) and {} ms (longest), {late} of them too late; taken again after {} ms (median) and {} ms (longest), {slow} times too late; {} commits, {} of them refused when not a byte was left; the reserve was given up in {} cycles, {} kills; {} violations; seed {seed}, {} s",
        seen.taken,
        seen.refusals.len(),
        millis(median(&seen.refusals)),
        millis(seen.refusals.iter().max().copied()),
        millis(median(&world.resumed)),
        millis(world.resumed.iter().max().copied()),
        seen.commits + seen.refused_commits,
        seen.refused_commits,
        world.given_up,
        world.kills,
        usize::from(broken.is_some()).max(seen.wrong.len()),
        begun.elapsed().as_secs()
    );
    for wrong in broken.iter().chain(seen.wrong.iter().take(5)) {
        println!("  VIOLATION {wrong}");
    }
    if broken.is_some() || !seen.wrong.is_empty() {
        let log = world.log();
        let from = log.floor_char_boundary(log.len().saturating_sub(SHOWN_BYTES));
        println!("the broker's log ends with\n{}", &log[from..]);
    }
    let in_time = args.any_time || late == 0 && slow == 0;
    if broken.is_none() && seen.wrong.is_empty() && in_time {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

fn over(times: &[Duration], limit: Duration) -> usize {
    times.iter().filter(|time| **time > limit).count()
}

fn median(times: &[Duration]) -> Option<Duration> {
    let mut sorted = times.to_vec();
    sorted.sort_unstable();
    sorted.get(sorted.len() / 2).copied()
}

fn millis(time: Option<Duration>) -> String {
    time.map_or("-".to_owned(), |time| {
        format!("{:.1}", time.as_secs_f64() * 1000.0)
    })
}
