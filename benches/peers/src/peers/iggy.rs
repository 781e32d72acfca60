//! Apache Iggy behind its own crate. No registry has its server, so one has to be named.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};

use crate::external::{latencies, load_arguments, probe_arguments, replayed, run, transferred};
use crate::latency::Latencies;
use crate::peer::{Offer, Peer, Place, Probe, Session, Transferred};
use crate::process::{Server, find_program, free_port};
use crate::work::{Durability, Load, Work};

/// What both sides are told; nobody else can connect.
const USER: &str = "iggy";

pub(super) struct Iggy {
    server: Option<PathBuf>,
    installed: PathBuf,
}

impl Iggy {
    pub(super) fn new(server: Option<PathBuf>, installed: PathBuf) -> Self {
        Self { server, installed }
    }

    fn client(&self) -> Option<PathBuf> {
        find_program("iggy-client", &self.installed.join("bin"))
    }

    fn server(&self) -> Option<PathBuf> {
        let found = || find_program("iggy-server", &self.installed.join("bin"));
        self.server.clone().or_else(found)
    }
}

impl Peer for Iggy {
    fn name(&self) -> &'static str {
        "iggy"
    }

    fn title(&self) -> String {
        "Apache Iggy (its Rust client, one request at a time)".to_owned()
    }

    fn offers(&self, work: Work) -> Offer {
        Offer::Acks(match work.durability() {
            Durability::Written => "memory and page cache, written every 1,024 records or 1 MiB",
            Durability::Synced => "synced, each request (enforce_fsync)",
        })
    }

    fn missing(&self) -> Option<String> {
        match (self.server(), self.client()) {
            (Some(server), _) if !server.is_file() => {
                Some(format!("{} is not there", server.display()))
            }
            (None, _) => {
                let why = "its server is in no registry: build it from its source and name it with --iggy-server";
                Some(why.to_owned())
            }
            (_, None) => Some(
                "its client is not there: `benches/peers/install iggy` builds it with cargo"
                    .to_owned(),
            ),
            _ => None,
        }
    }

    fn start(&self, place: &Place, durability: Durability) -> Result<Box<dyn Session>> {
        let port = free_port()?;
        let mut command = Command::new(self.server().context("iggy-server is not there")?);
        command
            .current_dir(place.dir())
            .env("IGGY_TCP_ADDRESS", format!("127.0.0.1:{port}"))
            .env("IGGY_HTTP_ENABLED", "false")
            .env("IGGY_QUIC_ENABLED", "false")
            .env("IGGY_WEBSOCKET_ENABLED", "false")
            .env("IGGY_SYSTEM_PATH", place.join("data"))
            .env("IGGY_ROOT_USERNAME", USER)
            .env("IGGY_ROOT_PASSWORD", USER);
        let mut server = Server::start("iggy", &mut command, place.dir())?;
        server.wait_for_port(port)?;
        Ok(Box::new(IggySession {
            server,
            address: format!("127.0.0.1:{port}"),
            client: self.client().context("iggy-client is not there")?,
            flush: match durability {
                Durability::Written => "default",
                Durability::Synced => "each",
            },
        }))
    }
}

struct IggySession {
    server: Server,
    address: String,
    client: PathBuf,
    /// When what was sent is written, in the client's words.
    flush: &'static str,
}

impl IggySession {
    fn run(&self, work: &str, stream: &str, arguments: Vec<String>) -> Result<String> {
        let mut all = vec![work.to_owned(), self.address.clone(), stream.to_owned()];
        all.extend(arguments);
        run(&self.client, &all)
    }
}

impl Session for IggySession {
    fn server(&self) -> Option<&Server> {
        Some(&self.server)
    }

    fn produce(&mut self, load: &Load) -> Result<Transferred> {
        let mut arguments = vec![self.flush.to_owned()];
        arguments.extend(load_arguments(load));
        transferred(&self.run("produce", &load.topic, arguments)?)
    }

    fn replay(&mut self, load: &Load, produced: &Transferred) -> Result<Transferred> {
        let arguments = vec![load.value_bytes.to_string(), produced.records.to_string()];
        replayed(&self.run("replay", &load.topic, arguments)?, produced)
    }

    fn latency(&mut self, probe: &Probe) -> Result<Latencies> {
        let mut arguments = vec![self.flush.to_owned()];
        arguments.extend(probe_arguments(probe));
        latencies(&self.run("latency", &probe.topic, arguments)?)
    }
}
