//! Cuts the power of the real binary on ext4, over and over, and checks what is left.
//!
//! `cargo run --release -p flowstone-tests --bin power-cut -- --images 300 --seed 1`. A broker runs on an
//! ext4 over a disk that writes down all that is done to it; disks are built as a power cut could have
//! left them, and the broker has to serve from each what was promised. `--image K` tries one of them
//! again: from the recording that a violation has left under `target/power-cut`, or, where there is
//! none, from a new one. `FLOWSTONE_BIN` names another binary to try. Needs root, FUSE and loop devices;
//! where they are missing it says so and exits 0. Exits 1 at a violation.

mod check;
mod cut;
mod evidence;
mod expected;
mod load;
mod recording;
mod story;

use std::path::Path;
use std::process::ExitCode;
use std::time::Instant;

use check::{Outcome, Places};
use clap::Parser;
use cut::Cut;
use flowstone_tests::mounts::{self, Mounted};
use flowstone_tests::recorder::Op;
use flowstone_tests::{Dice, binary, workspace_root};
use recording::Recording;

/// Images that come of one recording.
const IMAGES_PER_ROUND: u64 = 50;
/// How many recordings and images of violations are kept.
const KEPT: usize = 5;
const SHOWN: usize = 12;

/// Cuts the power of the real binary on ext4, over and over, and checks what is left.
#[derive(Debug, Parser)]
struct Args {
    /// How many disks are built and tried.
    #[arg(long, default_value_t = 300)]
    images: u64,
    /// All choices follow from it, but the timing does not. Another one each time unless given.
    #[arg(long)]
    seed: Option<u64>,
    /// Try only this image, of a seed.
    #[arg(long, requires = "seed")]
    image: Option<u64>,
}

fn main() -> ExitCode {
    let args = Args::parse();
    mounts::in_namespace("power-cut", async { all(&args, binary()).await })
}

async fn all(args: &Args, binary: &Path) -> ExitCode {
    let seed = args
        .seed
        .unwrap_or_else(|| Dice::from_env().pick(0..1 << 32));
    let kept = workspace_root().join("target/power-cut");
    let workspace = kept.join("run");
    std::fs::create_dir_all(&workspace).expect("the target directory can be written to");
    let _memory = Mounted::memory(&workspace);
    let begun = Instant::now();
    let places = Places {
        binary,
        workspace: &workspace,
    };
    let chosen = args.image.map_or(0..args.images, |image| image..image + 1);
    let mut totals = Totals::default();
    let mut recording: Option<(u64, Recording)> = None;
    for image in chosen {
        let round = image / IMAGES_PER_ROUND;
        let file = kept.join(format!("seed-{seed}-round-{round}.recording"));
        if recording.as_ref().is_none_or(|(of, _)| *of != round) {
            drop(recording.take());
            let made = match args.image.map(|_| Recording::load(&file)) {
                Some(Ok(recording)) => Ok(recording),
                _ => Recording::make(mixed(seed, !round), binary, &workspace).await,
            };
            match made {
                Ok(made) => {
                    describe(round, &made);
                    totals.violations += made.about.wrong.len();
                    recording = Some((round, made));
                }
                Err(error) => {
                    println!("round {round} cannot be recorded: {error}");
                    return ExitCode::FAILURE;
                }
            }
        }
        let (_, recording) = recording.as_ref().expect("it was made above");
        let own = mixed(seed, image);
        let cut = Cut::choose(
            own,
            &recording.ops,
            recording.about.from,
            &recording.about.windows,
        );
        let started = Instant::now();
        let outcome = places.try_out(recording, &cut, own).await;
        report(seed, image, &cut, &outcome, started);
        totals.add(&outcome);
        if !outcome.violations.is_empty() && totals.broken <= KEPT && args.image.is_none() {
            match recording.save(&file) {
                Ok(()) => println!("  the recording is kept in {}", file.display()),
                Err(error) => println!("  the recording is not kept: {}: {error}", file.display()),
            }
        }
    }
    println!(
        "{} images, {} of them broken, {} violations; {} with torn tails ({} tails), {} lost sectors of {}, {} times a record was checked that had to be there; ext4 itself needed e2fsck -y {} times; seed {seed}, {} s",
        totals.images,
        totals.broken,
        totals.violations,
        totals.with_torn,
        totals.torn,
        totals.lost,
        totals.sectors,
        totals.records,
        totals.mended,
        begun.elapsed().as_secs()
    );
    if totals.violations == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// What all images came to.
#[derive(Debug, Default)]
struct Totals {
    images: u64,
    broken: usize,
    violations: usize,
    with_torn: u64,
    torn: usize,
    sectors: u64,
    lost: u64,
    records: usize,
    mended: u64,
}

impl Totals {
    fn add(&mut self, outcome: &Outcome) {
        self.images += 1;
        self.broken += usize::from(!outcome.violations.is_empty());
        self.violations += outcome.violations.len();
        self.with_torn += u64::from(outcome.torn > 0);
        self.torn += outcome.torn;
        self.sectors += outcome.taken.sectors;
        self.lost += outcome.taken.lost;
        self.records += outcome.records;
        self.mended += u64::from(outcome.replay.contains(mounts::MENDED));
    }
}

/// Another seed for each number.
fn mixed(seed: u64, number: u64) -> u64 {
    Dice::new(seed).fork().pick(0..u64::MAX) ^ Dice::new(number).fork().pick(0..u64::MAX)
}

fn describe(round: u64, recording: &Recording) {
    let flushes = recording.ops.iter().filter(|op| **op == Op::Flush).count();
    println!(
        "round {round}: ext4 with blocks of {}, {} operations of the disk, {flushes} of them flushes; {} events",
        recording.about.block_bytes,
        recording.ops.len(),
        recording.about.events.len()
    );
    for wrong in recording.about.wrong.iter().take(SHOWN) {
        println!("  VIOLATION with the power on: {wrong}");
    }
}

fn report(seed: u64, image: u64, cut: &Cut, outcome: &Outcome, started: Instant) {
    let verdict = if outcome.violations.is_empty() {
        "ok"
    } else {
        "BROKEN"
    };
    println!(
        "image {image} of seed {seed}: {verdict}: {}; {} of {} sectors lost; {}; {} torn tails; {} records; {} ms",
        cut.describe(),
        outcome.taken.lost,
        outcome.taken.sectors,
        outcome.replay,
        outcome.torn,
        outcome.records,
        started.elapsed().as_millis()
    );
    for violation in outcome.violations.iter().take(SHOWN) {
        println!("  VIOLATION {violation}");
    }
    if outcome.violations.len() > SHOWN {
        println!("  and {} more", outcome.violations.len() - SHOWN);
    }
    if !outcome.evidence.is_empty() {
        println!("{}", outcome.evidence.trim_end());
    }
}
