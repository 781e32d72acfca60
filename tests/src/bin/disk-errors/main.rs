//! Lets every call of the real binary on its data directory fail with EIO, one after the other, and
//! checks what it does.
//!
//! `cargo run --release -p flowstone-tests --bin disk-errors`. strace makes the calls fail: the n-th
//! of a kind, for every kind and every n of a life that is known, while a directory is made, while
//! one is opened after a kill, and while the broker serves and stops. Each life is followed by a start
//! without errors, at which all that was acknowledged has to be there. `--every 10` tries each tenth
//! call only. Where strace is missing or may not trace, it says so and exits 0. Exits 1 at a violation.

mod client;
mod judge;
mod life;
mod trace;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::process::ExitCode;
use std::time::Instant;

use clap::Parser;
use flowstone_tests::binary;
use judge::End;
use life::{Outcome, Phase, Places, Template};
use trace::{Failing, SYSCALLS};

/// Violations that are shown of one life.
const SHOWN: usize = 5;

/// Lets every call of the real binary on its data directory fail, one after the other.
#[derive(Debug, Parser)]
struct Args {
    /// Only each n-th call.
    #[arg(long, default_value_t = 1)]
    every: usize,
    /// Only calls of this kind.
    #[arg(long)]
    syscall: Option<String>,
    /// Only the n-th of them.
    #[arg(long, requires = "syscall")]
    when: Option<u64>,
    /// Prints each life.
    #[arg(long, short)]
    verbose: bool,
}

fn main() -> ExitCode {
    let args = Args::parse();
    if let Some(missing) = trace::missing() {
        println!("skipped: the disk-errors rig needs {missing}");
        return ExitCode::SUCCESS;
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("threads can be started");
    match runtime.block_on(all(&args)) {
        Ok(0) => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(error) => {
            println!("the rig does not work: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Tries all, and tells how many lives were not as they have to be.
async fn all(args: &Args) -> Result<usize, String> {
    let folder = tempfile::Builder::new()
        .prefix("flowstone-disk-errors-")
        .tempdir()
        .map_err(|error| error.to_string())?;
    let places = Places::new(binary(), folder.path()).map_err(|error| error.to_string())?;
    let begun = Instant::now();
    let template = places.template().await?;
    let mut table = Table::default();
    for phase in [Phase::Creating, Phase::Opening, Phase::Serving] {
        for failing in choose(args, &places, phase, &template).await? {
            let outcome = places.live(phase, &template, Some(failing)).await?;
            report(args, phase, failing, &outcome);
            table.add(phase, failing.syscall, &outcome);
        }
    }
    print!("{table}");
    println!("{}; {} s", table.summary(), begun.elapsed().as_secs());
    Ok(table.broken)
}

/// Which calls are to fail: those that a life without errors makes.
async fn choose(
    args: &Args,
    places: &Places,
    phase: Phase,
    template: &Template,
) -> Result<Vec<Failing>, String> {
    let outcome = places.live(phase, template, None).await?;
    if !outcome.wrong.is_empty() {
        return Err(format!("without any error: {:?}", outcome.wrong));
    }
    let mut chosen = Vec::new();
    for syscall in SYSCALLS {
        let calls = outcome.calls.iter();
        let numbers: BTreeSet<u64> = calls
            .filter(|call| call.syscall == *syscall)
            .map(|call| call.number)
            .collect();
        chosen.extend(numbers.into_iter().map(|when| Failing { syscall, when }));
    }
    chosen.retain(|failing| {
        args.syscall
            .as_deref()
            .is_none_or(|only| only == failing.syscall)
            && args.when.is_none_or(|only| only == failing.when)
    });
    Ok(chosen.into_iter().step_by(args.every.max(1)).collect())
}

fn report(args: &Args, phase: Phase, failing: Failing, outcome: &Outcome) {
    let Failing { syscall, when } = failing;
    let hits = outcome.calls.iter().filter(|call| call.is_injected);
    let paths: Vec<_> = hits.filter_map(|call| call.path.as_deref()).collect();
    if args.verbose {
        println!("{phase:?} {syscall} {when}: {:?}: {paths:?}", outcome.end);
    }
    if outcome.wrong.is_empty() {
        return;
    }
    println!(
        "VIOLATION {phase:?} --syscall {syscall} --when {when}: {:?}: {paths:?}",
        outcome.end
    );
    for wrong in outcome.wrong.iter().take(SHOWN) {
        println!("  {wrong}");
    }
    println!("  the broker said: {}", outcome.log.trim_end());
}

/// What came of all lives, by what failed.
#[derive(Debug, Default)]
struct Table {
    rows: BTreeMap<(Phase, &'static str), Row>,
    broken: usize,
    slowest: f64,
}

#[derive(Debug, Default)]
struct Row {
    lives: usize,
    injected: usize,
    ends: BTreeMap<&'static str, usize>,
}

const ENDS: [(End, &str); 7] = [
    (End::Refused, "refused to start"),
    (End::Offline, "a partition did not serve"),
    (End::Ended, "process ended"),
    (End::Failed, "calls failed"),
    (End::EndedBadly, "told at the stop"),
    (End::Unnoticed, "no client noticed"),
    (End::Missed, "not hit"),
];

impl Table {
    fn add(&mut self, phase: Phase, syscall: &'static str, outcome: &Outcome) {
        let row = self.rows.entry((phase, syscall)).or_default();
        row.lives += 1;
        row.injected += outcome.calls.iter().filter(|call| call.is_injected).count();
        let end = ENDS.iter().find(|(end, _)| *end == outcome.end);
        *row.ends
            .entry(end.map_or("", |(_, name)| name))
            .or_default() += 1;
        self.broken += usize::from(!outcome.wrong.is_empty());
        self.slowest = self.slowest.max(outcome.ended_after.unwrap_or(0.0));
    }

    fn summary(&self) -> String {
        let rows = self.rows.values();
        let (lives, injected) = rows.fold((0, 0), |(lives, injected), row| {
            (lives + row.lives, injected + row.injected)
        });
        format!(
            "{lives} lives with {injected} calls that failed with EIO: {} not as they have to be; a process that ended by itself did so within {:.0} ms",
            self.broken,
            self.slowest * 1_000.0
        )
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for ((phase, syscall), row) in &self.rows {
            write!(
                f,
                "{phase:?} {syscall}: {} lives, {} failed calls:",
                row.lives, row.injected
            )?;
            for (_, name) in ENDS {
                if let Some(count) = row.ends.get(name) {
                    write!(f, " {count} {name},")?;
                }
            }
            writeln!(f)?;
        }
        Ok(())
    }
}
