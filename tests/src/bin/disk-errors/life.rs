//! One life of a broker whose disk answers with an error, and what must hold of it.

use std::collections::BTreeSet;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use flowstone_tests::mounts::must;
use flowstone_tests::server::{command, serve_args, without_settings};
use flowstone_tests::{Process, Server, Stub};

use crate::client::{Client, FIRST_ID, GONE, NEW, OLD, now};
use crate::judge::End;
use crate::trace::{self, Call, Failing};

/// One thread of each kind, so that each life makes the same calls; small segments; and FLOOR is
/// synced soon.
const CONFIG: &str = "[limits]\nmin_segment_bytes = 65_536\nmax_record_bytes = 16_384\n\
                      max_request_bytes = 32_768\nmax_records_per_request = 64\n\
                      [storage]\ndefault_segment_bytes = 1_048_576\nappend_threads = 1\n\
                      read_threads = 1\nfloor_idle_ms = 5\n";
/// Longer than the broker waits before it syncs FLOOR.
const QUIET: Duration = Duration::from_millis(40);
const ATTACH_LIMIT: Duration = Duration::from_secs(10);
const END_LIMIT: Duration = Duration::from_secs(10);
const SIGABRT: i32 = 6;
const POLL: Duration = Duration::from_millis(5);
/// Which calls fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Phase {
    /// While an empty directory is opened.
    Creating,
    /// While a directory is opened whose broker was killed.
    Opening,
    /// While it serves, and while it stops.
    Serving,
}

/// What came of it.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) end: End,
    /// All calls that strace has seen of the data directory.
    pub(crate) calls: Vec<Call>,
    /// From the last error to the end of a process that ended by itself, in seconds.
    pub(crate) ended_after: Option<f64>,
    pub(crate) wrong: Vec<String>,
    pub(crate) log: String,
}

/// A directory that lives begin with.
#[derive(Debug)]
pub(crate) struct Template {
    directory: PathBuf,
    client: Client,
}

/// Where things lie.
#[derive(Debug)]
pub(crate) struct Places {
    binary: PathBuf,
    folder: PathBuf,
}

impl Places {
    pub(crate) fn new(binary: &Path, folder: &Path) -> std::io::Result<Self> {
        std::fs::write(folder.join("flowstone.toml"), CONFIG)?;
        Ok(Self {
            binary: binary.to_path_buf(),
            folder: folder.canonicalize()?,
        })
    }

    fn data(&self) -> PathBuf {
        self.folder.join("data")
    }

    fn arguments(&self) -> Vec<std::ffi::OsString> {
        serve_args(&self.folder.join("flowstone.toml"), &self.data())
    }

    fn plain(&self) -> Command {
        let mut command = command(&self.binary);
        command.args(self.arguments());
        command
    }

    /// What a power cut could leave: closed and open segments, commits, a FLOOR that is behind, and a
    /// torn frame.
    pub(crate) async fn template(&self) -> Result<Template, String> {
        let mut client = Client::new();
        let server = Server::start(&mut self.plain())?;
        let stub = server.stub().await?;
        client.create(&stub, OLD).await;
        client.create(&stub, GONE).await;
        let floor = self.data().join("FLOOR");
        let mut behind = Vec::new();
        for round in 0..2 {
            for (name, partitions) in [OLD, GONE] {
                for partition in 0..partitions {
                    for _ in 0..3 {
                        client.produce(&stub, name, partition).await;
                    }
                    client.commit(&stub, name, partition, round + 2).await;
                }
            }
            if round == 0 {
                tokio::time::sleep(QUIET).await;
                behind = std::fs::read(&floor).map_err(|error| error.to_string())?;
            }
        }
        server.kill9()?;
        if let Some(call) = client.calls.iter().find(|call| call.failed.is_some()) {
            return Err(format!("while nothing was wrong: {call:?}"));
        }
        client.calls.clear();
        let made = std::fs::write(floor, behind)
            .and_then(|()| tear(&self.data()))
            .and_then(|()| {
                let directory = self.folder.join("template");
                std::fs::rename(self.data(), &directory)?;
                Ok(directory)
            });
        let directory = made.map_err(|error| error.to_string())?;
        Ok(Template { directory, client })
    }

    /// One life, in which these calls fail, and a start after it in which none does.
    pub(crate) async fn live(
        &self,
        phase: Phase,
        template: &Template,
        failing: Option<Failing>,
    ) -> Result<Outcome, String> {
        let data = self.data();
        if data.exists() {
            std::fs::remove_dir_all(&data).map_err(|error| error.to_string())?;
        }
        let mut client = Client::new();
        if phase != Phase::Creating {
            must(
                "cp",
                [
                    "-a".as_ref(),
                    template.directory.as_os_str(),
                    data.as_os_str(),
                ],
            );
            client = template.client.clone();
        }
        let trace = self.folder.join("trace");
        let mut life = Life {
            phase,
            client,
            ready_at: f64::MAX,
            stopped_at: f64::MAX,
            unusable: BTreeSet::new(),
            refused: None,
            ended_badly: None,
            ended_by_itself: None,
        };
        let log = self.first(&mut life, phase, failing, &trace).await?;
        let text = std::fs::read_to_string(&trace).map_err(|error| error.to_string())?;
        let (calls, ended_at) = trace::parse(&text, &data);
        let (end, ended_after) = life.judge(&calls, ended_at, &log);
        let mut outcome = Outcome {
            end,
            calls,
            ended_after,
            wrong: Vec::new(),
            log,
        };
        if let Err(error) = self.second(&mut life.client).await {
            life.client.wrong.push(error);
        }
        outcome.wrong = life.client.wrong;
        Ok(outcome)
    }

    /// The life in which calls fail; what the broker has printed.
    async fn first(
        &self,
        life: &mut Life,
        phase: Phase,
        failing: Option<Failing>,
        trace: &Path,
    ) -> Result<String, String> {
        let started = if phase == Phase::Serving {
            Server::start(&mut self.plain())
        } else {
            let paths = known_paths(&self.data());
            let mut command = trace::launch(&self.binary, failing, &paths, trace);
            without_settings(&mut command);
            command.args(self.arguments());
            Server::start(&mut command)
        };
        let mut server = match started {
            Ok(server) => server,
            Err(why) => {
                life.refused = Some(why.clone());
                return Ok(why);
            }
        };
        let mut tracer = None;
        if phase == Phase::Serving {
            let mut command = trace::attach(server.process().pid(), failing, trace);
            let process = Process::spawn("strace", &mut command, None);
            let attached = process.stderr().wait_for(ATTACH_LIMIT, |printed| {
                String::from_utf8_lossy(printed)
                    .contains(" attached")
                    .then_some(())
            });
            attached.ok_or_else(|| format!("strace does not attach: {}", process.printed()))?;
            tracer = Some(process);
        } else {
            trace::detach(server.process().pid())?;
        }
        life.ready_at = now();
        life.run(&mut server).await;
        let capture = server.process().stderr().clone();
        life.stop(server);
        if let Some(mut tracer) = tracer {
            tracer.wait(END_LIMIT);
        }
        Ok(capture.text())
    }

    /// The life after it.
    async fn second(&self, client: &mut Client) -> Result<(), String> {
        let server = Server::start(&mut self.plain())
            .map_err(|why| format!("it does not start again: {why}"))?;
        let stub = server.stub().await?;
        client.check(&stub).await;
        server.terminate()
    }
}

/// Puts the beginning of a frame behind the last one of a partition.
fn tear(data: &Path) -> std::io::Result<()> {
    let partition = data.join(format!("partitions/{FIRST_ID:010}"));
    let mut segments = Vec::new();
    for file in std::fs::read_dir(partition)? {
        let path = file?.path();
        if path
            .extension()
            .is_some_and(|extension| extension == "segment")
        {
            segments.push(path);
        }
    }
    // Their names begin with their base offsets. A record ends in its offset, which is not 0 here.
    let last = segments
        .into_iter()
        .max()
        .ok_or(std::io::ErrorKind::NotFound)?;
    let bytes = std::fs::read(&last)?;
    let end = bytes
        .iter()
        .rposition(|&byte| byte != 0)
        .map_or(0, |at| at + 1);
    let file = File::options().write(true).open(last)?;
    file.write_all_at(b"FLSB\x01\x00\x80", end as u64)
}

/// The names that an opening broker may use: those that there are, and those that it makes.
fn known_paths(data: &Path) -> Vec<PathBuf> {
    let mut paths = vec![data.to_path_buf()];
    let made = ["LOCK", "FLOOR", "IDENTITY", "IDENTITY.tmp", "partitions"];
    paths.extend(made.map(|name| data.join(name)));
    for id in 0..2 {
        paths.push(data.join(format!("partitions/{id:010}")));
        paths.push(data.join(format!("partitions/{id:010}/MANIFEST")));
    }
    let partitions = std::fs::read_dir(data.join("partitions"))
        .into_iter()
        .flatten();
    for partition in partitions.flatten() {
        let files = std::fs::read_dir(partition.path()).into_iter().flatten();
        paths.extend(files.flatten().map(|file| file.path()));
        paths.push(partition.path().join("MANIFEST.tmp"));
        paths.push(partition.path());
    }
    paths.sort();
    paths.dedup();
    paths
}

/// What is known of a life.
pub(crate) struct Life {
    pub(crate) phase: Phase,
    pub(crate) client: Client,
    /// Unix times in seconds.
    pub(crate) ready_at: f64,
    pub(crate) stopped_at: f64,
    /// Partitions that did not serve in the end, by their directories.
    pub(crate) unusable: BTreeSet<u64>,
    pub(crate) refused: Option<String>,
    pub(crate) ended_badly: Option<String>,
    pub(crate) ended_by_itself: Option<String>,
}

impl Life {
    /// All that clients do, until the broker is gone.
    async fn run(&mut self, server: &mut Server) {
        let Ok(stub) = server.stub().await else {
            return;
        };
        self.steps(&stub).await;
        if self.client.calls.iter().all(|call| !call.is_cut_off) {
            self.unusable = self.client.use_all(&stub).await;
        }
        tokio::time::sleep(QUIET).await;
    }

    async fn steps(&mut self, stub: &Stub) {
        let client = &mut self.client;
        client.create(stub, OLD).await;
        client.create(stub, GONE).await;
        for partition in 0..OLD.1 {
            // What was there before this broker is cold.
            client.read(stub, OLD.0, partition).await;
        }
        for partition in 0..OLD.1 {
            for _ in 0..6 {
                client.produce(stub, OLD.0, partition).await;
            }
        }
        client.commit(stub, OLD.0, 0, 5).await;
        client.trim(stub, OLD.0, 1, 5).await;
        client.create(stub, NEW).await;
        client.produce(stub, NEW.0, 0).await;
        client.delete(stub, GONE.0).await;
        client.commit(stub, NEW.0, 0, 1).await;
    }

    fn stop(&mut self, mut server: Server) {
        let until = Instant::now() + END_LIMIT;
        if self.client.calls.iter().any(|call| call.is_cut_off) {
            while server.process().is_running() && Instant::now() < until {
                std::thread::sleep(POLL);
            }
        }
        if server.process().is_running() {
            self.stopped_at = now();
            self.ended_badly = server.terminate().err();
        } else {
            let status = server.process().wait(END_LIMIT);
            self.ended_by_itself = Some(status.to_string());
            // It aborts, so that nothing of it goes on.
            if status.success() || status.signal().is_some_and(|signal| signal != SIGABRT) {
                self.wrong(format!("it ended by itself with {status}"));
            }
        }
    }

    pub(crate) fn wrong(&mut self, what: String) {
        self.client.wrong.push(what);
    }
}
