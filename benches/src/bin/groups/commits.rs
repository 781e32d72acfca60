//! Committing, as fast as it goes.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::Child;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use flowstone_benches::{anonymous_bytes, cpu_seconds};
use flowstone_broker::{Cursor, Distribution};
use flowstone_client::Client;
use tokio::runtime::Runtime;
use tokio::task::JoinSet;

use crate::directory::{RECORDS, TOPIC, mib, open};
use crate::{Args, Outcome};

/// Commits every partition of the topic for every group, a group a call.
pub(crate) fn fill(args: &Args, dir: &Path) -> Outcome<()> {
    let broker = open(dir)?;
    let began = Instant::now();
    let next = Arc::new(AtomicU64::new(0));
    Runtime::new()?.block_on(async {
        let mut fillers = JoinSet::new();
        for _ in 0..64 {
            let (broker, next, args) = (broker.clone(), Arc::clone(&next), args.clone());
            fillers.spawn(async move {
                loop {
                    let group = next.fetch_add(1, Ordering::Relaxed);
                    if group >= args.groups {
                        return Ok(());
                    }
                    let cursors = (0..args.partitions)
                        .map(|at| cursor(group, at, 1))
                        .collect();
                    broker.commit_offsets(cursors, Vec::new()).await?;
                }
            });
        }
        while let Some(filled) = fillers.join_next().await {
            let filled: Result<(), flowstone_broker::Error> = filled?;
            filled?;
        }
        Outcome::Ok(())
    })?;
    let took = began.elapsed().as_secs_f64();
    println!(
        "filled with {} commits of {} offsets in {took:.1} s",
        args.groups, args.partitions
    );
    Ok(pollster::block_on(broker.shutdown())?)
}

/// Measures the rates of the broker alone, and ends without a goodbye.
pub(crate) fn through_the_broker(args: &Args, dir: &Path) -> Outcome<()> {
    let broker = open(dir)?;
    let turn = Arc::new(Turn::new(args));
    let runtime = Runtime::new()?;
    for &in_flight in &args.in_flight {
        let before = syncs(&broker.metrics().sync_micros);
        let cpu = Cpu::of("self");
        let commit = |_| {
            let broker = broker.clone();
            move |group: u64, places: Vec<Place>| {
                let broker = broker.clone();
                async move {
                    let cursors = places.into_iter();
                    let cursors =
                        cursors.map(|(partition, offset)| cursor(group, partition, offset));
                    let told = broker.commit_offsets(cursors.collect(), Vec::new()).await?;
                    told.stale.is_empty().then_some(()).ok_or("stale")?;
                    Outcome::Ok(())
                }
            }
        };
        let rate = runtime.block_on(rate(args, &turn, in_flight, 1, commit))?;
        let syncs = syncs(&broker.metrics().sync_micros) - before;
        println!(
            "broker, {in_flight} in flight: {rate}, {:.1} a sync, {}",
            rate.commits as f64 / syncs.max(1) as f64,
            cpu.share(rate.commits)
        );
    }
    println!("memory then: {:.1} MiB", mib(anonymous_bytes()?));
    std::process::abort();
}

/// How many syncs took some time.
fn syncs(took: &Distribution) -> u64 {
    let classes = took.classes.iter().map(|(_, syncs)| syncs);
    classes.sum::<u64>() + took.above
}

/// CPU time that a process has taken, which says more than a rate where others use the machine too.
struct Cpu {
    process: String,
    before: f64,
}

impl Cpu {
    /// From now on; the process is named as in `/proc`.
    fn of(process: impl ToString) -> Self {
        let process = process.to_string();
        Self {
            before: cpu_seconds(&process),
            process,
        }
    }

    fn share(&self, commits: u64) -> String {
        let seconds = cpu_seconds(&self.process) - self.before;
        let micros = seconds * 1e6 / commits.max(1) as f64;
        format!("{micros:.1} µs of CPU each")
    }
}

/// Measures the rates through gRPC, with a server in another process.
pub(crate) fn through_grpc(args: &Args, server: &mut Child) -> Outcome<()> {
    let stdout = server.stdout.take().ok_or("no output")?;
    let mut address = String::new();
    BufReader::new(stdout).read_line(&mut address)?;
    // Behind all that the broker has committed: an offset that is lower changes nothing.
    let turn = Arc::new(Turn::behind(args));
    let runtime = Runtime::new()?;
    let clients: Vec<Client> = runtime.block_on(async {
        let clients = (0..args.connections).map(|_| Client::connect(address.trim()));
        clients.collect::<Result<_, _>>()
    })?;
    let calls = args.in_flight.iter().map(|&in_flight| (in_flight, 1));
    let most = args
        .in_flight
        .last()
        .map(|&in_flight| (in_flight, args.cursors));
    for (in_flight, cursors) in calls.chain(most) {
        let commit = |number: usize| {
            let client = clients[number % clients.len()].clone();
            move |group: u64, places: Vec<Place>| {
                let client = client.clone();
                async move {
                    let cursor = |(partition, offset): Place| {
                        Ok(flowstone_client::Cursor {
                            group: name(group),
                            topic: TOPIC.to_owned(),
                            partition: partition.try_into()?,
                            offset: offset.try_into()?,
                            ..flowstone_client::Cursor::default()
                        })
                    };
                    let cursors: Outcome<_> = places.into_iter().map(cursor).collect();
                    client.commit(cursors?).await?;
                    Outcome::Ok(())
                }
            }
        };
        let of_server = Cpu::of(server.id());
        let of_client = Cpu::of("self");
        let rate = runtime.block_on(rate(args, &turn, in_flight, cursors, commit))?;
        println!(
            "gRPC, {in_flight} calls in flight, commits a call {cursors}: {rate}, {} in the broker, {} in the client",
            of_server.share(rate.commits),
            of_client.share(rate.commits)
        );
    }
    Ok(())
}

/// Partition and offset of a commit.
type Place = (u32, u64);

/// Commits one after the other, each of which raises an offset.
struct Turn {
    next: AtomicU64,
    groups: u64,
    partitions: u64,
    from: u64,
}

impl Turn {
    fn new(args: &Args) -> Self {
        Self {
            next: AtomicU64::new(0),
            groups: args.groups,
            partitions: args.partitions.into(),
            from: 2,
        }
    }

    fn behind(args: &Args) -> Self {
        Self {
            from: u64::from(RECORDS) / 2,
            ..Self::new(args)
        }
    }

    /// The next so many partitions of a group, until all records are committed.
    fn take(&self, count: u64) -> Option<(u64, Vec<Place>)> {
        // Those of one call are of one group.
        let calls = self.partitions / count;
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let group = number / calls % self.groups;
        let offset = self.from + number / calls / self.groups;
        let first = number % calls * count;
        let places = (first..first + count).map(|at| Some((u32::try_from(at).ok()?, offset)));
        let places = places.collect::<Option<_>>()?;
        (offset <= u64::from(RECORDS)).then_some((group, places))
    }
}

/// How fast commits were.
struct Rate {
    commits: u64,
    took: Duration,
    micros: Vec<u32>,
}

impl std::fmt::Display for Rate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let at = |share: f64| {
            let last = self.micros.len().saturating_sub(1);
            let micros = self.micros.get((last as f64 * share) as usize);
            f64::from(micros.copied().unwrap_or(0)) / 1_000.0
        };
        write!(
            f,
            "{:.0} commits/s, p50 {:.2} ms, p99 {:.2} ms, max {:.2} ms",
            self.commits as f64 / self.took.as_secs_f64(),
            at(0.5),
            at(0.99),
            at(1.0),
        )
    }
}

/// Keeps so many commits on their way for the time that is asked for.
async fn rate<C, F>(
    args: &Args,
    turn: &Arc<Turn>,
    in_flight: usize,
    cursors: u32,
    commit: impl Fn(usize) -> C,
) -> Outcome<Rate>
where
    C: Fn(u64, Vec<Place>) -> F + Send + 'static,
    F: Future<Output = Outcome<()>> + Send,
{
    let began = Instant::now();
    let end = began + Duration::from_secs(args.seconds);
    let mut committers = JoinSet::new();
    for number in 0..in_flight {
        let (turn, commit) = (Arc::clone(turn), commit(number));
        committers.spawn(async move {
            let mut micros = Vec::new();
            while Instant::now() < end {
                let next = turn.take(cursors.into());
                let (group, places) = next.ok_or("all is committed: measure for less time")?;
                let sent = Instant::now();
                commit(group, places).await?;
                micros.push(u32::try_from(sent.elapsed().as_micros())?);
            }
            Outcome::Ok(micros)
        });
    }
    let mut micros = Vec::new();
    while let Some(committed) = committers.join_next().await {
        micros.extend(committed??);
    }
    let took = began.elapsed();
    micros.sort_unstable();
    Ok(Rate {
        commits: micros.len() as u64 * u64::from(cursors),
        took,
        micros,
    })
}

fn name(group: u64) -> String {
    format!("group-{group:06}")
}

fn cursor(group: u64, partition: u32, offset: u64) -> Cursor {
    Cursor {
        group: name(group),
        topic: TOPIC.to_owned(),
        partition,
        offset,
        ..Cursor::default()
    }
}
