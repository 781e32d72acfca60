//! How long a broker takes to start over a large partition: after a shutdown, after a kill, and after a power
//! cut that took FLOOR with it, each with the page cache dropped (as root) and with segments of the default
//! size and of the largest.
//!
//! `cargo run --release -p flowstone-benches --bin recovery -- --gib 10`

use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use clap::{Parser, ValueEnum};
use flowstone_benches::Run;
use flowstone_broker::{Acks, Broker, BrokerConfig, Env, ProduceRequest, TopicSpec};
use pollster::block_on;

const TOPIC: &str = "visits";
/// What waits for a sync together, as from many producers.
const IN_FLIGHT: usize = 8;

#[derive(Parser)]
struct Args {
    /// Size of the partition in GiB.
    #[arg(long, default_value_t = 10)]
    gib: u64,
    /// Size of a record's value in bytes.
    #[arg(long, default_value_t = 1024)]
    value_bytes: usize,
    /// Where to put the data; it needs as much space. A temporary directory if absent.
    #[arg(long)]
    dir: Option<PathBuf>,
    /// For the program itself: fill this directory, and end so.
    #[arg(long, hide = true, requires_all = ["end", "segment_bytes"])]
    fill: Option<PathBuf>,
    #[arg(long, hide = true)]
    end: Option<End>,
    #[arg(long, hide = true)]
    segment_bytes: Option<u64>,
}

/// How the broker before has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum End {
    /// It was shut down.
    Clean,
    /// It was killed.
    Killed,
    /// It was killed and FLOOR is lost: what the frames say of themselves is all there is.
    FloorLost,
}

fn main() -> ExitCode {
    let args = Args::parse();
    let outcome = match (&args.fill, args.end, args.segment_bytes) {
        (Some(dir), Some(end), Some(segment_bytes)) => fill(&args, dir, end, segment_bytes),
        _ => measure(&args),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("recovery: {error}");
            ExitCode::FAILURE
        }
    }
}

fn measure(args: &Args) -> Result<(), Box<dyn Error>> {
    let temp = match &args.dir {
        Some(dir) => tempfile::tempdir_in(dir)?,
        None => tempfile::tempdir()?,
    };
    println!("| end | segments | written | cache | start |");
    println!("|---|---|---|---|---|");
    for segment_bytes in [256_u64 << 20, 1 << 30] {
        for end in [End::Clean, End::Killed, End::FloorLost] {
            let dir = temp.path().join("data");
            let began = Instant::now();
            let status = Command::new(std::env::current_exe()?)
                .args(["--gib", &args.gib.to_string()])
                .args(["--value-bytes", &args.value_bytes.to_string()])
                .args(["--segment-bytes", &segment_bytes.to_string()])
                .args([
                    "--end",
                    end.to_possible_value().ok_or("no name")?.get_name(),
                ])
                .arg("--fill")
                .arg(&dir)
                .status()?;
            if status.success() != (end == End::Clean) {
                return Err(format!("the broker that fills ended with {status}").into());
            }
            let written = began.elapsed();
            if end == End::FloorLost {
                fs::remove_file(dir.join("FLOOR"))?;
            }
            let cold = drop_caches();
            let (took, records) = start(&dir)?;
            println!(
                "| {end:?} | {} MiB | {records} records in {:.0} s | {} | {:.3} s |",
                segment_bytes >> 20,
                written.as_secs_f64(),
                if cold { "cold" } else { "warm" },
                took.as_secs_f64(),
            );
            fs::remove_dir_all(&dir)?;
        }
    }
    Ok(())
}

/// Opens the directory and waits until the last record can be read.
fn start(dir: &Path) -> Result<(Duration, u64), Box<dyn Error>> {
    let began = Instant::now();
    let broker = Broker::open(BrokerConfig::new(dir), Env::real())?;
    let (_, partitions) = broker.describe_topic(TOPIC)?;
    let took = began.elapsed();
    if let Some(reason) = &partitions[0].offline_reason {
        return Err(format!("the partition is offline: {reason}").into());
    }
    block_on(broker.shutdown())?;
    Ok((took, partitions[0].high_watermark))
}

/// Appends until the partition has its size, and ends as asked for.
fn fill(args: &Args, dir: &Path, end: End, segment_bytes: u64) -> Result<(), Box<dyn Error>> {
    let broker = Broker::open(BrokerConfig::new(dir), Env::real())?;
    let mut spec = TopicSpec::new(TOPIC, 1);
    spec.segment_bytes = Some(segment_bytes);
    block_on(broker.create_topic(spec, false))?;
    let run = Run::new(250, args.value_bytes);
    let records = bytes::Bytes::from(run.bytes);
    // The last segment, which a start reads, is most of the way full.
    let bytes = (args.gib << 30) + segment_bytes / 10 * 7;
    let mut left = bytes / records.len() as u64;
    while left > 0 {
        let group = left.min(IN_FLIGHT as u64);
        let mut waiting = Vec::with_capacity(IN_FLIGHT);
        for _ in 0..group {
            let permit = block_on(broker.admit(records.len()))?;
            let request = ProduceRequest {
                topic: TOPIC.to_owned(),
                partition: Some(0),
                acks: Some(Acks::Durable),
                records: records.clone(),
                ..ProduceRequest::default()
            };
            waiting.push(broker.submit(request, permit)?);
        }
        for pending in waiting {
            block_on(pending)?;
        }
        left -= group;
    }
    match end {
        End::Clean => Ok(block_on(broker.shutdown())?),
        End::Killed | End::FloorLost => std::process::abort(),
    }
}

/// Makes the next reads come from the disk; only root may.
fn drop_caches() -> bool {
    Command::new("sync")
        .status()
        .is_ok_and(|status| status.success())
        && fs::write("/proc/sys/vm/drop_caches", "3").is_ok()
}
