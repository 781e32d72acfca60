//! Redis streams, behind a client of a few lines that speaks its protocol.

mod resp;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result, ensure};

use crate::duplex::{Requests, in_parallel, pipeline, probe};
use crate::latency::Latencies;
use crate::peer::{Offer, Peer, Place, Probe, Session, Transferred};
use crate::process::{Server, find_program, free_port};
use crate::work::{Durability, Load, Work};
use resp::{Reader, Writer, connect};

/// XADDs that are written at once.
const PIPELINE: usize = 1_000;
/// Pipelines without an answer.
const PIPELINES_IN_FLIGHT: usize = 4;
/// Entries that one XRANGE asks for.
const READ_BYTES: usize = 1 << 20;

pub(super) struct Redis {
    installed: PathBuf,
}

impl Redis {
    pub(super) fn new(installed: PathBuf) -> Self {
        Self { installed }
    }

    fn program(&self) -> Option<PathBuf> {
        find_program("redis-server", &self.installed.join("bin"))
    }
}

impl Peer for Redis {
    fn name(&self) -> &'static str {
        "redis"
    }

    fn title(&self) -> String {
        "Redis streams (pipelines of 1,000 XADD)".to_owned()
    }

    fn offers(&self, work: Work) -> Offer {
        Offer::Acks(match work.durability() {
            Durability::Written => {
                "memory and page cache, synced every second (appendfsync everysec)"
            }
            Durability::Synced => "synced, what one turn of its loop took (appendfsync always)",
        })
    }

    fn missing(&self) -> Option<String> {
        let bring =
            "redis-server is not there: `benches/peers/install redis` brings it with apt-get";
        self.program().is_none().then(|| bring.to_owned())
    }

    fn start(&self, place: &Place, durability: Durability) -> Result<Box<dyn Session>> {
        let port = free_port()?;
        let program = self.program().context("redis-server is not there")?;
        let mut server = Server::start(
            "redis",
            &mut command(&program, port, place, durability),
            place.dir(),
        )?;
        server.wait_for_port(port)?;
        Ok(Box::new(RedisSession { server, port }))
    }
}

/// Nothing but the append-only file, which is not rewritten meanwhile.
fn command(program: &Path, port: u16, place: &Place, durability: Durability) -> Command {
    let sync = match durability {
        Durability::Written => "everysec",
        Durability::Synced => "always",
    };
    let mut command = Command::new(program);
    command
        .args(["--bind", "127.0.0.1", "--port", &port.to_string()])
        .arg("--dir")
        .arg(place.dir())
        .args(["--daemonize", "no", "--save", ""])
        .args(["--appendonly", "yes", "--appendfsync", sync])
        .args(["--auto-aof-rewrite-percentage", "0"]);
    command
}

struct RedisSession {
    server: Server,
    port: u16,
}

impl RedisSession {
    fn produce_one(&self, load: &Load, key: &str) -> Result<u64> {
        let (mut reader, mut writer) = connect(self.port)?;
        let bound = load.bound_of_one();
        let pipelines = bound.bytes.div_ceil((PIPELINE * load.value_bytes) as u64);
        let requests = Requests {
            most: pipelines.max(1),
            time: bound.time,
            in_flight: PIPELINES_IN_FLIGHT,
        };
        let bytes = Writer::xadd(key, load.value_bytes).repeat(PIPELINE);
        let answered = pipeline(
            requests,
            || writer.send(&bytes),
            || (0..PIPELINE).try_for_each(|_| reader.id().map(drop)),
        )?;
        Ok(answered * PIPELINE as u64)
    }
}

fn key(topic: &str, partition: usize) -> String {
    match partition {
        0 => topic.to_owned(),
        other => format!("{topic}-{other}"),
    }
}

fn walk(reader: &mut Reader, writer: &mut Writer, key: &str, count: usize) -> Result<(u64, u64)> {
    let mut start = b"-".to_vec();
    let (mut records, mut bytes) = (0, 0);
    loop {
        writer.send(&Writer::xrange(key, &start, count))?;
        let entries = reader.entries(&mut start, |value| bytes += value.len() as u64)?;
        if entries == 0 {
            return Ok((records, bytes));
        }
        records += entries;
    }
}

impl Session for RedisSession {
    fn server(&self) -> Option<&Server> {
        Some(&self.server)
    }

    fn produce(&mut self, load: &Load) -> Result<Transferred> {
        let begun = Instant::now();
        let records = in_parallel(load.producers, |partition| {
            self.produce_one(load, &key(&load.topic, partition))
        })?;
        Ok(Transferred {
            records,
            bytes: records * load.value_bytes as u64,
            seconds: begun.elapsed().as_secs_f64(),
        })
    }

    fn replay(&mut self, load: &Load, produced: &Transferred) -> Result<Transferred> {
        let (mut reader, mut writer) = connect(self.port)?;
        let begun = Instant::now();
        let (records, bytes) = walk(
            &mut reader,
            &mut writer,
            &load.topic,
            READ_BYTES / load.value_bytes,
        )?;
        let seconds = begun.elapsed().as_secs_f64();
        ensure!(
            (records, bytes) == (produced.records, produced.bytes),
            "{records} records came back of {}",
            produced.records
        );
        Ok(Transferred {
            records,
            bytes,
            seconds,
        })
    }

    fn latency(&mut self, wanted: &Probe) -> Result<Latencies> {
        let (mut reader, mut writer) = connect(self.port)?;
        let bytes = Writer::xadd(&wanted.topic, wanted.value_bytes);
        probe(wanted, || writer.send(&bytes), || reader.id().map(drop))
    }
}
