//! What very many partitions cost: the first append to each, a start after a shutdown and after a kill, memory,
//! open files and maps, the rate of one partition among idle ones against its rate alone, and what a reader of all of
//! them costs.
//!
//! `cargo run --release -p flowstone-benches --bin partitions -- --partitions 10000`

mod broker;
mod process;

use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use clap::{Parser, ValueEnum};
use flowstone_benches::median;

use crate::process::Standing;

/// What goes wrong ends the program.
type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

#[derive(Clone, Parser)]
struct Args {
    /// Partitions of the one topic, each with some records.
    #[arg(long, default_value_t = 10_000)]
    partitions: u32,
    /// Segments of each partition, of 64 KiB.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    segments: u32,
    /// Pairs of measurements of one active partition, with the idle ones and without.
    #[arg(long, default_value_t = 5)]
    pairs: usize,
    /// How long each of them takes.
    #[arg(long, default_value_t = 2)]
    seconds: u64,
    /// Where to put the data. A temporary directory if absent.
    #[arg(long)]
    dir: Option<PathBuf>,
    /// For the program itself, in a process of its own: do this with the data directory, and end.
    #[arg(long, hide = true, requires = "dir")]
    act: Option<Act>,
    /// For the program itself: end without a goodbye.
    #[arg(long, hide = true)]
    killed: bool,
}

/// What a process is started for, so that its memory is that of a fresh broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Act {
    /// Make the topic and append to each partition.
    Fill,
    /// Open the directory.
    Start,
    /// Open it, and read and write every partition once.
    Touch,
    /// Append to one partition for a while, beside the topic.
    Rate,
    /// Append to one partition of the topic, and read all of it.
    Follow,
}

fn main() -> ExitCode {
    let args = Args::parse();
    let outcome = match (args.act, args.dir.as_deref()) {
        (Some(act), Some(dir)) => broker::run(&args, act, dir),
        _ => measure(args),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("partitions: {error}");
            ExitCode::FAILURE
        }
    }
}

fn measure(args: Args) -> Outcome<()> {
    let temp = match &args.dir {
        Some(dir) => tempfile::tempdir_in(dir)?,
        None => tempfile::tempdir()?,
    };
    let many = temp.path().join("many");
    let rig = Rig { args: &args };
    let seconds: f64 = rig.run(Act::Fill, &many, args.partitions, false)?.parse()?;
    println!(
        "{} partitions of {} segments, filled in {seconds:.1} s: {:.2} ms each",
        args.partitions,
        args.segments,
        seconds * 1e3 / f64::from(args.partitions)
    );
    println!();
    println!("| broker | cache | seconds | anonymous MiB | files | maps |");
    println!("|---|---|---|---|---|---|");
    let (shutdown, kill) = ("start after a shutdown", "start after a kill");
    rig.tell(shutdown, &many, Act::Start, false, false)?;
    rig.tell(shutdown, &many, Act::Touch, true, true)?;
    rig.tell(kill, &many, Act::Touch, true, false)?;
    rig.tell(kill, &many, Act::Start, false, true)?;
    println!();
    let one = temp.path().join("one");
    rig.run(Act::Fill, &one, 1, false)?;
    rig.compare(Act::Rate, "appends/s of one active partition", &many, &one)?;
    let followed = "µs of CPU an append to one partition, read by who reads all";
    rig.compare(Act::Follow, followed, &many, &one)
}

/// Starts the processes that are measured.
struct Rig<'a> {
    args: &'a Args,
}

impl Rig<'_> {
    /// Lines of the table.
    fn tell(&self, what: &str, dir: &Path, act: Act, killed: bool, cold: bool) -> Outcome<()> {
        let is_cold = cold && drop_caches();
        let told = self.run(act, dir, self.args.partitions, killed)?;
        let cache = if is_cold { "cold" } else { "warm" };
        for (what, line) in [what, "each written and read once", "a pass of retention"]
            .iter()
            .zip(told.lines())
        {
            let standing: Standing = line.parse()?;
            println!("| {what} | {cache} | {standing} |");
        }
        Ok(())
    }

    /// A figure of one partition among all of them and alone, by turns: the machine is not the same from one minute
    /// to the next.
    fn compare(&self, act: Act, what: &str, many: &Path, one: &Path) -> Outcome<()> {
        let (mut among, mut alone): (Vec<f64>, Vec<f64>) = Default::default();
        for pair in 0..self.args.pairs {
            let mut turns = [
                (many, self.args.partitions, &mut among),
                (one, 1, &mut alone),
            ];
            if !pair.is_multiple_of(2) {
                turns.reverse();
            }
            for (dir, partitions, found) in turns {
                found.push(self.run(act, dir, partitions, false)?.parse()?);
            }
        }
        if among.is_empty() {
            return Ok(());
        }
        let pairs = among.iter().zip(&alone);
        let ratio: f64 = median(pairs.map(|(among, alone)| among / alone).collect());
        println!(
            "{what}: {:.0} among {}, {:.0} alone, {:.1} % in the median of pairs",
            median(among),
            self.args.partitions,
            median(alone),
            ratio * 100.0
        );
        Ok(())
    }

    /// What one thing in a process of its own has to say.
    fn run(&self, act: Act, dir: &Path, partitions: u32, killed: bool) -> Outcome<String> {
        let name = act.to_possible_value().ok_or("no name")?;
        let output = Command::new(std::env::current_exe()?)
            .args(["--act", name.get_name()])
            .args(["--partitions", &partitions.to_string()])
            .args(["--segments", &self.args.segments.to_string()])
            .args(["--seconds", &self.args.seconds.to_string()])
            .args(killed.then_some("--killed"))
            .arg("--dir")
            .arg(dir)
            .stderr(Stdio::inherit())
            .output()?;
        if output.status.success() == killed {
            return Err(format!("{act:?} ended with {}", output.status).into());
        }
        Ok(String::from_utf8(output.stdout)?.trim().to_owned())
    }
}

/// Makes the next reads come from the disk; only root may.
fn drop_caches() -> bool {
    Command::new("sync")
        .status()
        .is_ok_and(|status| status.success())
        && fs::write("/proc/sys/vm/drop_caches", "3").is_ok()
}
