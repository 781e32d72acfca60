//! Damages the files of a partition in every way there is, and checks that rot is never served and never
//! passed over in silence.
//!
//! `cargo run --release -p flowstone-tests --bin rot -- --seed 1`: every bit of a segment of 64 KiB and
//! every byte of one of 1 MiB, every length that a file can be cut to, every run of zeroed sectors, every
//! bit of MANIFEST, FLOOR and an index. After each, the partition is opened and read: each record is
//! right or answered with an error, and what was acknowledged is never gone without a word, but for what
//! `docs/durability.md` says about zeros above the floor. Those are counted. `--repair-stride` also
//! repairs: at most what was damaged is lost. Exits 1 at a violation, and says how to see it again.

mod damage;
mod exception;
mod repaired;
mod subject;
mod verdict;

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use clap::Parser;

use damage::Plan;
use subject::Subject;
use verdict::Verdict;

/// How many violations are shown.
const SHOWN: usize = 12;
/// A thread takes so many cases at a time.
const BATCH: u64 = 256;

/// Damages the files of a partition in every way there is, and checks what is served.
#[derive(Debug, Parser)]
struct Args {
    /// All contents and choices follow from it.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Try only every so many-th case, from one that the seed chooses.
    #[arg(long, default_value_t = 1)]
    stride: u64,
    /// Also repair after every so many-th case that was tried; 0 for never.
    #[arg(long, default_value_t = 0)]
    repair_stride: u64,
    /// Try only what has this in its name, such as "sealed" or "64 KiB".
    #[arg(long)]
    only: Option<String>,
    /// Try only this case of what `--only` names.
    #[arg(long, requires = "only")]
    case: Option<u64>,
    /// How many threads work; all processors unless told.
    #[arg(long)]
    threads: Option<usize>,
}

fn main() -> ExitCode {
    let args = Args::parse();
    let processors = || std::thread::available_parallelism().map_or(1, usize::from);
    let threads = args.threads.unwrap_or_else(processors).max(1);
    let (mut tried, mut violations) = (0, Vec::new());
    let begun = Instant::now();
    for subject in subject::all(args.seed) {
        for kind in subject.kinds() {
            let name = format!("{}: {}", subject.name, kind.name());
            if args.only.as_ref().is_some_and(|only| !name.contains(only)) {
                continue;
            }
            let plan = Plan::new(kind, &subject, args.seed);
            let totals = try_all(&subject, &plan, &args, threads);
            tried += totals.cases;
            println!("{name:<58} {totals}");
            for (case, what) in &totals.violations {
                let seed = args.seed;
                violations.push(format!(
                    "{name}, case {case} ({}): {what}\n  again: --seed {seed} --only \"{name}\" --case {case}",
                    plan.damage(*case),
                ));
            }
        }
    }
    let seconds = begun.elapsed().as_secs_f64();
    println!(
        "seed {}: {tried} cases in {seconds:.1} s, {} violations",
        args.seed,
        violations.len()
    );
    for violation in violations.iter().take(SHOWN) {
        println!("VIOLATION {violation}");
    }
    if violations.is_empty() && tried > 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// How the cases of one kind ended.
#[derive(Debug, Default)]
struct Totals {
    cases: u64,
    by_verdict: BTreeMap<Verdict, u64>,
    violations: Vec<(u64, String)>,
}

impl std::fmt::Display for Totals {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:>8} cases", self.cases)?;
        for (verdict, count) in &self.by_verdict {
            write!(f, ", {count} {verdict}")?;
        }
        match self.violations.len() {
            0 => Ok(()),
            count => write!(f, ", {count} VIOLATIONS"),
        }
    }
}

/// Tries the cases of one kind on several threads.
fn try_all(subject: &Subject, plan: &Plan, args: &Args, threads: usize) -> Totals {
    let chosen = match args.case {
        Some(case) => case..case + 1,
        None => 0..plan.count(),
    };
    // One case stands for all behind it up to the next.
    let first = chosen.start + args.seed % args.stride.min(chosen.end - chosen.start).max(1);
    let next = AtomicU64::new(0);
    let totals = Mutex::new(Totals::default());
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let from = next.fetch_add(BATCH, Ordering::Relaxed);
                    let mut own = Totals::default();
                    for number in from..from + BATCH {
                        let case = first + number * args.stride;
                        if case >= chosen.end {
                            break;
                        }
                        let repair = args.repair_stride > 0
                            && (number % args.repair_stride == 0 || args.case.is_some());
                        own.try_one(subject, plan, case, repair);
                    }
                    if own.cases == 0 {
                        return;
                    }
                    totals.lock().expect("no thread panics with it").add(own);
                }
            });
        }
    });
    totals.into_inner().expect("no thread panics with it")
}

impl Totals {
    fn try_one(&mut self, subject: &Subject, plan: &Plan, case: u64, repair: bool) {
        self.cases += 1;
        let damage = plan.damage(case);
        let disk = subject.disk.fork(case);
        damage.apply(&disk, subject);
        let mut outcome = verdict::judge(subject, &disk, &damage);
        if repair && outcome.is_ok() {
            let disk = subject.disk.fork(case);
            damage.apply(&disk, subject);
            if let Err(what) = repaired::check(subject, &disk, &damage, case) {
                outcome = Err(format!("after the repair: {what}"));
            }
        }
        match outcome {
            Ok(verdict) => *self.by_verdict.entry(verdict).or_default() += 1,
            Err(what) => self.violations.push((case, what)),
        }
    }

    fn add(&mut self, other: Self) {
        self.cases += other.cases;
        for (verdict, count) in other.by_verdict {
            *self.by_verdict.entry(verdict).or_default() += count;
        }
        self.violations.extend(other.violations);
    }
}
