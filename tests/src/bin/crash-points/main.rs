//! Crashes a simulated machine under a running broker at every I/O call, over and over, and checks
//! what is left.
//!
//! `cargo run --release -p flowstone-tests --bin crash-points -- --points 1000000 --seed 1`. A *life* is
//! a machine in memory on which brokers run one after the other, in one thread and on a simulated
//! clock: they get topics, records, commits, members of a group, trims, retention, full disks and I/O
//! errors, and some of them crash. At every I/O call of a life (a *point*) a copy of the machine
//! crashes; recoveries of the copy are cut short by further crashes, and when one comes to its end all
//! that the broker holds is read and held against the history of what was asked and answered. All
//! follows from the seed. Exits 1 at a violation, with the command that shows it again.

mod counts;
mod crash;
mod driven;
mod ledger;
mod life;
mod members;
mod point;
mod producers;
#[cfg(test)]
mod tests;
mod work;

use std::io::Write;
use std::process::ExitCode;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use clap::Parser;
use counts::Counts;
use life::{Points, live, mix};
use point::Violation;

/// How often the progress is told.
const PROGRESS_EVERY: Duration = Duration::from_secs(2);

/// Crashes a simulated machine under a running broker at every I/O call, and checks what is left.
#[derive(Debug, Parser)]
struct Args {
    /// How many points are tried, or a few more: every life is lived to its end.
    #[arg(long, default_value_t = 20_000)]
    points: u64,
    /// All choices follow from it.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Only this life of the seed.
    #[arg(long)]
    life: Option<u64>,
    /// Only this point of the life: the number of its I/O call.
    #[arg(long, requires = "life")]
    point: Option<u64>,
    /// End after this many seconds, with what was tried until then.
    #[arg(long)]
    seconds: Option<u64>,
    /// How many lives are lived at a time, each on a thread of its own.
    #[arg(long, default_value_t = 1)]
    jobs: usize,
}

/// What all threads have tried.
struct Tried {
    counts: Counts,
    next_life: u64,
    told: Instant,
    /// The life of the first violation, its I/O call, and what it is.
    violation: Option<(u64, u64, Violation)>,
}

fn main() -> ExitCode {
    let args = Args::parse();
    // A panic of the broker is a violation, and is told as one.
    std::panic::set_hook(Box::new(|_| {}));
    let started = Instant::now();
    let tried = Mutex::new(Tried {
        counts: Counts::default(),
        next_life: args.life.unwrap_or(0),
        told: started,
        violation: None,
    });
    std::thread::scope(|scope| {
        for _ in 0..args.jobs.max(1) {
            scope.spawn(|| try_lives(&args, started, &tried));
        }
    });
    eprintln!();
    let tried = tried.into_inner().expect("no thread has panicked");
    let summary = tried.counts.summary(started.elapsed());
    let Some((life, call, violation)) = tried.violation else {
        println!("seed {}: {summary}\n0 violations", args.seed);
        return ExitCode::SUCCESS;
    };
    let seed = args.seed;
    println!("VIOLATION in life {life} of seed {seed}, at I/O call {call}:");
    for wrong in violation.wrong {
        println!("  {wrong}");
    }
    println!("It came to that so:");
    for step in violation.story {
        println!("  {step}");
    }
    println!(
        "Once more: cargo run --release -p flowstone-tests --bin crash-points -- --seed {seed} \
         --life {life} --point {call}"
    );
    println!("{summary}");
    ExitCode::FAILURE
}

/// Lives one life after the other until enough was tried, or something was found.
fn try_lives(args: &Args, started: Instant, tried: &Mutex<Tried>) {
    let lock = || tried.lock().expect("no thread has panicked");
    loop {
        let life = {
            let mut tried = lock();
            let late = args
                .seconds
                .is_some_and(|most| started.elapsed().as_secs() >= most);
            let only = args.life.is_some_and(|life| life < tried.next_life);
            let enough = tried.counts.points() >= args.points;
            if late || only || enough || tried.violation.is_some() {
                return;
            }
            tried.next_life += 1;
            tried.next_life - 1
        };
        let points = args.point.map_or(Points::All, Points::Only);
        let outcome = live(mix(args.seed, life), points);
        let mut tried = lock();
        tried.counts.add(&outcome.counts);
        if let Some((call, violation)) = outcome.violation {
            tried.violation.get_or_insert((life, call, violation));
            return;
        }
        if tried.told.elapsed() >= PROGRESS_EVERY {
            tried.told = Instant::now();
            let points = tried.counts.points();
            let rate = points as f64 / started.elapsed().as_secs_f64();
            eprint!("\r{points} points, {rate:.0} a second ");
            // A progress that nobody sees is none the worse.
            let _ = std::io::stderr().flush();
        }
    }
}
