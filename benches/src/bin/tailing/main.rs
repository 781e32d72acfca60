//! What very many readers at the end of one partition cost: each record goes to each of them as soon as it is durable.
//!
//! Told are the server's CPU time for each delivery, and how long one takes from the producer to a reader, for Flowstone
//! and for a server that keeps nothing and writes the same messages to the same streams: what that takes is the cost
//! of the network writes alone.
//!
//! `cargo run --release -p flowstone-benches --bin tailing`

mod fan_out;
mod readers;

use std::error::Error;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};

use clap::{Parser, ValueEnum};
use flowstone_benches::median;
use tokio::runtime::Runtime;

/// What goes wrong ends the program.
type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

#[derive(Clone, Parser)]
struct Args {
    /// Readers, for each number of which it is measured.
    #[arg(long, value_delimiter = ',', default_values_t = [1, 100, 1_000])]
    readers: Vec<usize>,
    /// Connections that the readers share; more where there are more than 200 readers for each.
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..))]
    connections: u32,
    /// Records that are produced, one a request.
    #[arg(long, default_value_t = 200)]
    records: u32,
    /// So many of them a second.
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..))]
    rate: u32,
    /// Bytes of a record's value.
    #[arg(long, default_value_t = 1_024, value_parser = clap::value_parser!(u32).range(8..))]
    size: u32,
    /// Rounds, the two servers in turn; medians are told.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// For the program itself, in a process of its own: serve until standard input ends.
    #[arg(long, hide = true, requires = "dir")]
    act: Option<Act>,
    /// Where the data of that server lies.
    #[arg(long, hide = true)]
    dir: Option<PathBuf>,
}

/// What a server does with records.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Act {
    /// Keeps them, and sends them when they are durable.
    Flowstone,
    /// Sends them on.
    FanOut,
}

fn main() -> ExitCode {
    let args = Args::parse();
    let outcome = match (args.act, args.dir.as_deref()) {
        (Some(Act::Flowstone), Some(dir)) => flowstone_benches::serve(dir),
        (Some(Act::FanOut), _) => fan_out::serve(),
        _ => measure(&args),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("tailing: {error}");
            ExitCode::FAILURE
        }
    }
}

fn measure(args: &Args) -> Outcome<()> {
    println!("| readers | server | µs of its CPU a delivery | p50 ms | p99 ms |");
    println!("|--:|---|--:|--:|--:|");
    for &count in &args.readers {
        let mut found: [Vec<readers::Found>; 2] = Default::default();
        for _ in 0..args.rounds {
            for (act, found) in [Act::Flowstone, Act::FanOut].into_iter().zip(&mut found) {
                found.push(one(args, act, count)?);
            }
        }
        for (act, found) in [Act::Flowstone, Act::FanOut].into_iter().zip(&found) {
            let of =
                |figure: fn(&readers::Found) -> f64| median(found.iter().map(figure).collect());
            println!(
                "| {count} | {} | {:.1} | {:.2} | {:.2} |",
                if act == Act::Flowstone {
                    "Flowstone"
                } else {
                    "fan-out"
                },
                of(|found| found.cpu_micros),
                of(|found| found.p50_ms),
                of(|found| found.p99_ms),
            );
        }
    }
    Ok(())
}

/// One server, and its readers in this process.
fn one(args: &Args, act: Act, readers: usize) -> Outcome<readers::Found> {
    let temp = tempfile::tempdir()?;
    let mut server = start(act, temp.path())?;
    let outcome = address_of(&mut server).and_then(|address| {
        let topic = act == Act::Flowstone;
        let process = server.id().to_string();
        Runtime::new()?.block_on(readers::measure(args, &address, &process, readers, topic))
    });
    drop(server.stdin.take());
    let ended = server.wait()?;
    let found = outcome?;
    if !ended.success() {
        return Err(format!("the server ended with {ended}").into());
    }
    Ok(found)
}

fn start(act: Act, dir: &Path) -> Outcome<Child> {
    let name = act.to_possible_value().ok_or("no name")?;
    Ok(Command::new(std::env::current_exe()?)
        .args(["--act", name.get_name()])
        .arg("--dir")
        .arg(dir)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?)
}

fn address_of(server: &mut Child) -> Outcome<String> {
    let stdout = server.stdout.take().ok_or("no output")?;
    let mut address = String::new();
    BufReader::new(stdout).read_line(&mut address)?;
    Ok(format!("http://{}", address.trim()))
}
