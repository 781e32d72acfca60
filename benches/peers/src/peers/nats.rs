//! NATS JetStream behind nats.go, in both of its manners of publishing.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};

use crate::external::{latencies, load_arguments, probe_arguments, replayed, run, transferred};
use crate::latency::Latencies;
use crate::peer::{Offer, Peer, Place, Probe, Session, Transferred};
use crate::process::{Server, find_program, free_port};
use crate::work::{Durability, Load, Work};

/// How messages are published.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Manner {
    /// An ack for each.
    Async,
    /// Fast ingest: an ack for many.
    Fast,
}

pub(super) struct Nats {
    manner: Manner,
    installed: PathBuf,
}

impl Nats {
    /// With an ack for each message.
    pub(super) fn publishing_async(installed: PathBuf) -> Self {
        let manner = Manner::Async;
        Self { manner, installed }
    }

    /// With fast-ingest batches.
    pub(super) fn publishing_fast(installed: PathBuf) -> Self {
        let manner = Manner::Fast;
        Self { manner, installed }
    }

    fn program(&self, name: &str) -> Option<PathBuf> {
        find_program(name, &self.installed.join("bin"))
    }
}

impl Peer for Nats {
    fn name(&self) -> &'static str {
        match self.manner {
            Manner::Async => "nats",
            Manner::Fast => "nats-fast",
        }
    }

    fn title(&self) -> String {
        match self.manner {
            Manner::Async => "NATS JetStream (nats.go, 4,096 in flight)".to_owned(),
            Manner::Fast => "NATS JetStream (nats.go, fast ingest)".to_owned(),
        }
    }

    fn offers(&self, work: Work) -> Offer {
        match (self.manner, work) {
            (Manner::Fast, Work::Latency | Work::Paced) => {
                Offer::Not("its acks are for many messages")
            }
            (Manner::Fast, Work::Replay1k | Work::Replay100) => {
                Offer::Not("reads as the other one does")
            }
            (_, work) => Offer::Acks(match work.durability() {
                Durability::Written => "page cache, synced every 2 minutes",
                Durability::Synced => "synced, each message (sync_interval: always)",
            }),
        }
    }

    fn missing(&self) -> Option<String> {
        let programs = ["nats-server", "nats-client"];
        let absent = programs
            .into_iter()
            .find(|name| self.program(name).is_none())?;
        Some(format!(
            "{absent} is not there: `benches/peers/install nats` brings it with go install"
        ))
    }

    fn start(&self, place: &Place, durability: Durability) -> Result<Box<dyn Session>> {
        let port = free_port()?;
        let config = place.join("nats.conf");
        let sync = match durability {
            Durability::Written => "",
            Durability::Synced => "sync_interval: always",
        };
        let store = place.join("data");
        let text = format!(
            "listen: \"127.0.0.1:{port}\"\njetstream {{\n  store_dir: \"{}\"\n  {sync}\n}}\n",
            store.display()
        );
        fs::write(&config, text).with_context(|| format!("cannot write {}", config.display()))?;
        let program = self
            .program("nats-server")
            .context("nats-server is not there")?;
        let mut command = Command::new(program);
        command.arg("-c").arg(&config);
        let mut server = Server::start("nats", &mut command, place.dir())?;
        server.wait_for_port(port)?;
        Ok(Box::new(NatsSession {
            server,
            url: format!("nats://127.0.0.1:{port}"),
            client: self
                .program("nats-client")
                .context("nats-client is not there")?,
            manner: self.manner,
        }))
    }
}

struct NatsSession {
    server: Server,
    url: String,
    client: PathBuf,
    manner: Manner,
}

impl NatsSession {
    fn run(&self, work: &str, stream: &str, arguments: Vec<String>) -> Result<String> {
        let mut all = vec![work.to_owned(), self.url.clone(), stream.to_owned()];
        all.extend(arguments);
        run(&self.client, &all)
    }
}

impl Session for NatsSession {
    fn server(&self) -> Option<&Server> {
        Some(&self.server)
    }

    fn produce(&mut self, load: &Load) -> Result<Transferred> {
        let manner = match self.manner {
            Manner::Async => "async",
            Manner::Fast => "fast",
        };
        let mut arguments = vec![manner.to_owned()];
        arguments.extend(load_arguments(load));
        transferred(&self.run("produce", &load.topic, arguments)?)
    }

    fn replay(&mut self, load: &Load, produced: &Transferred) -> Result<Transferred> {
        let arguments = vec![produced.records.to_string()];
        replayed(&self.run("replay", &load.topic, arguments)?, produced)
    }

    fn latency(&mut self, probe: &Probe) -> Result<Latencies> {
        latencies(&self.run("latency", &probe.topic, probe_arguments(probe))?)
    }
}
