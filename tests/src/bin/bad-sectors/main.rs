//! Lets places of the disk go bad under the real binary, and checks what it makes of it.
//!
//! `cargo run --release -p flowstone-tests --bin bad-sectors`. A broker runs on an ext4 over a disk whose
//! reads fail in chosen places: in segments, sealed and active, in their headers, in a MANIFEST, in FLOOR
//! and more, and in a page between the moment when it was brought in and that when it is used. Every
//! place is mended again, and then all has to be as before. Needs root, FUSE and loop devices, and
//! strace for the last case; where they are missing it says so and exits 0. Exits 1 when something is
//! not as it has to be.

mod cases;
mod rig;

use std::process::ExitCode;
use std::time::Instant;

use cases::{Spot, can_hold};
use clap::Parser;
use flowstone_tests::mounts::{self, Mounted};
use flowstone_tests::{binary, workspace_root};
use rig::Rig;

/// Lets places of the disk go bad under the real binary.
#[derive(Debug, Parser)]
struct Args {}

fn main() -> ExitCode {
    let Args {} = Args::parse();
    mounts::in_namespace("bad-sectors", async {
        match all().await {
            Ok(true) => ExitCode::SUCCESS,
            Ok(false) => ExitCode::FAILURE,
            Err(error) => {
                println!("the rig does not work: {error}");
                ExitCode::FAILURE
            }
        }
    })
}

async fn all() -> Result<bool, String> {
    let workspace = workspace_root().join("target/bad-sectors");
    std::fs::create_dir_all(&workspace).map_err(|error| error.to_string())?;
    let _memory = Mounted::memory(&workspace);
    let begun = Instant::now();
    let (mut tried, mut broken) = (0, 0);
    for spot in Spot::ALL {
        if spot == Spot::SealedSegmentInUse && !can_hold() {
            println!("{spot:?}: skipped: it needs strace, and the right to trace");
            continue;
        }
        // Each begins with a disk of its own.
        let mut rig = Rig::new(binary(), &workspace).await?;
        tried += 1;
        match spot.try_out(&mut rig).await {
            Ok(told) => println!("{spot:?}: ok: {told}"),
            Err(error) => {
                broken += 1;
                println!("{spot:?}: BROKEN: {error}");
            }
        }
    }
    println!(
        "{tried} kinds of bad spots, {broken} of them not as they have to be; {} s",
        begun.elapsed().as_secs()
    );
    Ok(broken == 0)
}
