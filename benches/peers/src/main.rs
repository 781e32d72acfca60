//! Runs Flowstone, its ceiling and its peers in turn on the same work, and tells how they compare.

mod chart;
mod duplex;
mod external;
mod flowstone_wire;
mod latency;
mod machine;
mod measure;
mod opaque;
mod options;
mod peer;
mod peers;
mod process;
mod procfs;
mod report;
mod runtime;
mod sample;
mod size;
mod summary;
mod table;
mod work;

use std::fs;
use std::path::Path;
use std::process::{Command as Process, ExitCode};

use anyhow::{Context, Result, bail};
use clap::Parser;
use flowstone_disk::keep_freed_memory;

use machine::Machine;
use opaque::keeper::Keeper;
use options::{Command, Options};
use peer::Peer;
use report::{Report, Skipped, Told};

fn main() -> ExitCode {
    keep_freed_memory();
    let options = Options::parse();
    let outcome = match options.command {
        Some(Command::RawServer { port, keep, synced }) => {
            let keeper = keep.map(|dir| Keeper::new(dir, synced));
            opaque::server::serve(port, keeper).map(|()| true)
        }
        None => run(&options),
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Answers with whether all went well.
fn run(options: &Options) -> Result<bool> {
    let all = peers::all(options);
    let names: Vec<&str> = all.iter().map(|peer| peer.name()).collect();
    options.check_names(&names)?;
    if options.list {
        list(&all);
        return Ok(true);
    }
    let wanted: Vec<_> = all
        .into_iter()
        .filter(|peer| options.wants(peer.name()))
        .collect();
    if options.flowstone.is_none()
        && wanted
            .iter()
            .any(|peer| peer.name().starts_with("flowstone"))
    {
        build_flowstone()?;
    }
    let mut there = Vec::new();
    let mut skipped = Vec::new();
    for peer in wanted {
        match peer.missing() {
            None => there.push(peer),
            Some(missing) => {
                eprintln!("{} is skipped: {missing}", peer.name());
                skipped.push(Skipped {
                    title: peer.title(),
                    missing,
                });
            }
        }
    }
    if there.is_empty() {
        bail!("nothing that was asked for is there");
    }

    let parent = options.data_dir.clone().unwrap_or_else(std::env::temp_dir);
    fs::create_dir_all(&parent).with_context(|| format!("cannot make {}", parent.display()))?;
    let dir = tempfile::Builder::new()
        .prefix("flowstone-peers-")
        .tempdir_in(&parent)
        .with_context(|| format!("cannot write in {}", parent.display()))?;
    let machine = Machine::this(dir.path());
    eprintln!("{}", machine.line());
    let samples = measure::run(options, &there, dir.path())?;
    let works = options.works();
    let report = Report {
        machine,
        runs: options.runs,
        peers: there
            .iter()
            .map(|peer| Told::of(peer.as_ref(), &works))
            .collect(),
        works,
        skipped,
        samples,
    };
    write(options, &report)?;
    Ok(report.samples.failures.is_empty())
}

fn list(peers: &[Box<dyn Peer>]) {
    for peer in peers {
        let state = peer
            .missing()
            .map_or("there".to_owned(), |missing| format!("missing: {missing}"));
        println!("{:<18} {:<52} {state}", peer.name(), peer.title());
    }
    println!("\nwork:");
    for work in work::Work::all() {
        println!("{:<18} {}", work.name(), work.title());
    }
}

fn build_flowstone() -> Result<()> {
    let workspace = options::workspace();
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let status = Process::new(cargo)
        .args(["build", "--release", "--quiet", "--package", "flowstone"])
        .current_dir(&workspace)
        .status()
        .context("cannot start cargo; name a binary with --flowstone")?;
    if !status.success() {
        bail!("Flowstone does not build in {}", workspace.display());
    }
    Ok(())
}

fn write(options: &Options, report: &Report) -> Result<()> {
    let markdown = table::markdown(report);
    let json = serde_json::to_string_pretty(report).context("the report is plain data")?;
    if options.json.as_deref() == Some(Path::new("-")) {
        println!("{json}");
    } else {
        println!("{markdown}");
    }
    let put = |path: &Path, text: &str| {
        fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
    };
    if let Some(path) = options
        .json
        .as_deref()
        .filter(|path| *path != Path::new("-"))
    {
        put(path, &json)?;
    }
    if let Some(path) = &options.markdown {
        put(path, &markdown)?;
    }
    if let Some(path) = &options.svg {
        put(path, &chart::svg(report))?;
    }
    Ok(())
}
