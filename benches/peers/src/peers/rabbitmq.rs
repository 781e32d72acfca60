//! RabbitMQ streams, behind a client of a few lines that speaks their binary protocol, or behind RabbitMQ's own.

mod frame;
mod rust_client;
mod stream;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};

use crate::duplex::in_parallel;
use crate::latency::Latencies;
use crate::peer::{Offer, Peer, Place, Probe, Session, Transferred};
use crate::process::{Server, find_program, free_port};
use crate::work::{Durability, Load, Work};
use rust_client::RustClient;
use stream::{Connection, SendMany};

/// Where Debian's package has its scripts that do not change the user.
const SCRIPTS: &str = "/usr/lib/rabbitmq/bin";
const VERSIONS: &str = "/usr/lib/rabbitmq/lib";

pub(super) struct RabbitMq {
    /// Behind its own client in Rust.
    rust_client: bool,
}

impl RabbitMq {
    /// Spoken to in a few lines.
    pub(super) fn by_protocol() -> Self {
        Self { rust_client: false }
    }

    /// Behind the client that its users in Rust have.
    pub(super) fn by_rust_client() -> Self {
        Self { rust_client: true }
    }

    fn program(&self) -> Option<PathBuf> {
        let program = Path::new(SCRIPTS).join("rabbitmq-server");
        program.is_file().then_some(program)
    }

    fn version(&self) -> Option<String> {
        let names = fs::read_dir(VERSIONS).ok()?.flatten();
        let names = names.filter_map(|entry| entry.file_name().into_string().ok());
        let version = |name: String| name.strip_prefix("rabbitmq_server-").map(str::to_owned);
        names.filter_map(version).next()
    }
}

impl Peer for RabbitMq {
    fn name(&self) -> &'static str {
        match self.rust_client {
            true => "rabbitmq-rust",
            false => "rabbitmq",
        }
    }

    fn title(&self) -> String {
        let version = self
            .version()
            .map_or(String::new(), |version| format!(" {version}"));
        let client = match self.rust_client {
            true => "its Rust client",
            false => "their binary protocol",
        };
        format!("RabbitMQ{version} streams ({client})")
    }

    fn offers(&self, work: Work) -> Offer {
        match work.durability() {
            Durability::Written => Offer::Acks("page cache, never synced"),
            Durability::Synced => Offer::Not("cannot sync a stream before its ack"),
        }
    }

    fn missing(&self) -> Option<String> {
        let there = self.program().is_some() && find_program("epmd", Path::new(SCRIPTS)).is_some();
        let bring =
            "rabbitmq-server is not there: `benches/peers/install rabbitmq` brings it with apt-get";
        (!there).then(|| bring.to_owned())
    }

    fn start(&self, place: &Place, durability: Durability) -> Result<Box<dyn Session>> {
        if durability == Durability::Synced {
            bail!("streams are never synced before an ack");
        }
        // Erlang's port mapper would be left behind if the broker had to start one.
        let mapper_port = free_port()?;
        let mapper = find_program("epmd", Path::new(SCRIPTS)).context("epmd is not there")?;
        let mut command = Command::new(mapper);
        command.args(["-port", &mapper_port.to_string(), "-address", "127.0.0.1"]);
        let mut mapper = Server::start("epmd", &mut command, place.dir())?;
        mapper.wait_for_port(mapper_port)?;

        let port = free_port()?;
        let program = self.program().context("rabbitmq-server is not there")?;
        let mut command = command_of_broker(&program, port, mapper_port, place)?;
        let mut server = Server::start("rabbitmq", &mut command, place.dir())?;
        server.wait_until(|| Connection::open(port).is_ok())?;
        let session = RabbitMqSession {
            server,
            _mapper: mapper,
            port,
        };
        if self.rust_client {
            return Ok(Box::new(RustClient::connect(session)?));
        }
        Ok(Box::new(session))
    }
}

/// A node that reads and writes nothing outside of its place, and listens on loopback only.
fn command_of_broker(
    program: &Path,
    port: u16,
    mapper_port: u16,
    place: &Place,
) -> Result<Command> {
    let write = |name: &str, text: &str| -> Result<PathBuf> {
        let path = place.join(name);
        fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
        Ok(path)
    };
    let plugins = write("enabled_plugins", "[rabbitmq_stream].\n")?;
    let environment = write("environment.conf", "")?;
    let config = write(
        "rabbitmq.conf",
        &format!(
            "listeners.tcp = none\n\
             stream.listeners.tcp.1 = 127.0.0.1:{port}\n\
             stream.advertised_host = 127.0.0.1\n\
             stream.advertised_port = {port}\n"
        ),
    )?;
    let mut command = Command::new(program);
    command
        .env("HOME", place.dir())
        .env("ERL_EPMD_PORT", mapper_port.to_string())
        .env("ERL_EPMD_ADDRESS", "127.0.0.1")
        .env("RABBITMQ_NODENAME", "peers@localhost")
        .env("RABBITMQ_DIST_PORT", free_port()?.to_string())
        .env(
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS",
            "-kernel inet_dist_use_interface {127,0,0,1}",
        )
        .env("RABBITMQ_CONF_ENV_FILE", environment)
        .env("RABBITMQ_CONFIG_FILE", config)
        .env(
            "RABBITMQ_ADVANCED_CONFIG_FILE",
            place.join("advanced.config"),
        )
        .env("RABBITMQ_ENABLED_PLUGINS_FILE", plugins)
        .env("RABBITMQ_MNESIA_BASE", place.join("data"))
        .env("RABBITMQ_LOG_BASE", place.join("log"))
        .env("RABBITMQ_LOGS", "-")
        .env("RABBITMQ_PID_FILE", place.join("pid"));
    Ok(command)
}

/// Fields are dropped in this order: the broker ends before the port mapper.
struct RabbitMqSession {
    server: Server,
    _mapper: Server,
    port: u16,
}

fn stream_name(topic: &str, partition: usize) -> String {
    match partition {
        0 => topic.to_owned(),
        other => format!("{topic}-{other}"),
    }
}

impl Session for RabbitMqSession {
    fn server(&self) -> Option<&Server> {
        Some(&self.server)
    }

    fn produce(&mut self, load: &Load) -> Result<Transferred> {
        let mut connection = Connection::open(self.port)?;
        for partition in 0..load.producers {
            connection.create(&stream_name(&load.topic, partition))?;
        }
        let begun = Instant::now();
        let records = in_parallel(load.producers, |partition| {
            let connection = Connection::open(self.port)?;
            connection.send_many(&SendMany {
                stream: stream_name(&load.topic, partition),
                value_bytes: load.value_bytes,
                records_per_frame: load.records_per_request(),
                bound: load.bound_of_one(),
            })
        })?;
        Ok(Transferred {
            records,
            bytes: records * load.value_bytes as u64,
            seconds: begun.elapsed().as_secs_f64(),
        })
    }

    fn replay(&mut self, load: &Load, produced: &Transferred) -> Result<Transferred> {
        let connection = Connection::open(self.port)?;
        let begun = Instant::now();
        let (records, bytes) = connection.walk(&load.topic, produced.records)?;
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

    fn latency(&mut self, _: &Probe) -> Result<Latencies> {
        bail!("streams are never synced before an ack")
    }
}
