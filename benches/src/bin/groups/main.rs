//! What very many groups cost: memory, how long a start takes, and how many commits a second become durable,
//! by the broker alone and through gRPC, with one commit at a time and with many.
//!
//! Every commit moves one partition of one group and is answered after its sync.
//!
//! `cargo run --release -p flowstone-benches --bin groups`

mod commits;
mod directory;

use std::error::Error;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};

use clap::{Parser, ValueEnum};

/// What goes wrong ends the program.
type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

#[derive(Clone, Parser)]
struct Args {
    /// Groups.
    #[arg(long, default_value_t = 10_000)]
    groups: u64,
    /// Partitions of the topic, each of which every group has committed.
    #[arg(long, default_value_t = 100)]
    partitions: u32,
    /// How long each rate is measured.
    #[arg(long, default_value_t = 5)]
    seconds: u64,
    /// Commits that are on their way at a time, for each of which a rate is measured.
    #[arg(long, value_delimiter = ',', default_values_t = [1, 64, 512])]
    in_flight: Vec<usize>,
    /// Commits of one call of a member that has so many partitions; one a call is measured in any case.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..))]
    cursors: u32,
    /// Connections that commits through gRPC share.
    #[arg(long, default_value_t = 8)]
    connections: usize,
    /// Where to put the data. A temporary directory if absent.
    #[arg(long)]
    dir: Option<PathBuf>,
    /// For the program itself, in a process of its own: do this with the data directory, and end.
    #[arg(long, hide = true, requires = "dir")]
    act: Option<Act>,
}

/// What a process is started for, so that its memory is that of a fresh broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Act {
    /// Make the topic.
    Prepare,
    /// Open the directory, and tell how long that took and what memory it takes.
    Open,
    /// Commit every partition for every group.
    Fill,
    /// Commit, and be killed at the end.
    Commit,
    /// Serve until standard input ends.
    Serve,
}

fn main() -> ExitCode {
    let args = Args::parse();
    let outcome = match (args.act, args.dir.as_deref()) {
        (Some(act), Some(dir)) => run_act(&args, act, dir),
        _ => measure(args),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("groups: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run_act(args: &Args, act: Act, dir: &Path) -> Outcome<()> {
    match act {
        Act::Prepare => directory::prepare(args, dir),
        Act::Open => directory::open_and_tell(dir),
        Act::Fill => commits::fill(args, dir),
        Act::Commit => commits::through_the_broker(args, dir),
        Act::Serve => flowstone_benches::serve(dir),
    }
}

fn measure(mut args: Args) -> Outcome<()> {
    let temp = match &args.dir {
        Some(dir) => tempfile::tempdir_in(dir)?,
        None => tempfile::tempdir()?,
    };
    args.dir = Some(temp.path().join("data"));
    let offsets = args.groups * u64::from(args.partitions);
    println!(
        "{} groups on {} partitions: {offsets} offsets",
        args.groups, args.partitions
    );
    run(&args, Act::Prepare)?;
    say("start with no offsets: ")?;
    run(&args, Act::Open)?;
    run(&args, Act::Fill)?;
    say("start with all of them, after a shutdown: ")?;
    run(&args, Act::Open)?;
    run(&args, Act::Commit)?;
    say("start with all of them, after a kill: ")?;
    run(&args, Act::Open)?;
    let mut server = start(&args, Act::Serve, Stdio::piped())?;
    let outcome = commits::through_grpc(&args, &mut server);
    drop(server.stdin.take());
    let ended = server.wait()?;
    outcome?;
    if !ended.success() {
        return Err(format!("the server ended with {ended}").into());
    }
    Ok(())
}

/// The beginning of a line that another process ends.
fn say(text: &str) -> Outcome<()> {
    print!("{text}");
    Ok(std::io::stdout().flush()?)
}

/// Does one thing in a process of its own. The one that commits is killed, by itself.
fn run(args: &Args, act: Act) -> Outcome<()> {
    let status = start(args, act, Stdio::inherit())?.wait()?;
    if status.success() != (act != Act::Commit) {
        return Err(format!("{act:?} ended with {status}").into());
    }
    Ok(())
}

fn start(args: &Args, act: Act, stdout: Stdio) -> Outcome<Child> {
    let name = act.to_possible_value().ok_or("no name")?;
    let in_flight: Vec<String> = args.in_flight.iter().map(ToString::to_string).collect();
    let dir = args.dir.as_deref().ok_or("no directory")?;
    Ok(Command::new(std::env::current_exe()?)
        .args(["--act", name.get_name()])
        .args(["--groups", &args.groups.to_string()])
        .args(["--partitions", &args.partitions.to_string()])
        .args(["--seconds", &args.seconds.to_string()])
        .args(["--in-flight", &in_flight.join(",")])
        .arg("--dir")
        .arg(dir)
        .stdin(Stdio::piped())
        .stdout(stdout)
        .spawn()?)
}
