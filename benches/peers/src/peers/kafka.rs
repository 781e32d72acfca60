//! Apache Kafka, one KRaft node from its Maven artifacts, behind librdkafka.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::external::{latencies, load_arguments, probe_arguments, replayed, run, transferred};
use crate::latency::Latencies;
use crate::peer::{Offer, Peer, Place, Probe, Session, Transferred};
use crate::process::{Server, find_program, free_port};
use crate::work::{Durability, Load, Work};

/// Any will do for a cluster that lives for a minute.
const CLUSTER_ID: &str = "Zmxvd3N0b25lLXBlZXJzMA";
/// The heap that Kafka's own script gives a broker.
const HEAP: [&str; 2] = ["-Xms1g", "-Xmx1g"];
/// The collector that Kafka's own script asks for.
const COLLECTOR: [&str; 4] = [
    "-XX:+UseG1GC",
    "-XX:MaxGCPauseMillis=20",
    "-XX:InitiatingHeapOccupancyPercent=35",
    "-Djava.awt.headless=true",
];

pub(super) struct Kafka {
    installed: PathBuf,
}

impl Kafka {
    pub(super) fn new(installed: PathBuf) -> Self {
        Self { installed }
    }

    fn jars(&self) -> PathBuf {
        self.installed.join("kafka")
    }

    /// The version in the name of the broker's jar.
    fn version(&self) -> Option<String> {
        let names = fs::read_dir(self.jars()).ok()?.flatten();
        let names = names.filter_map(|entry| entry.file_name().into_string().ok());
        let version = |name: String| {
            let version = name.strip_prefix("kafka_2.13-")?.strip_suffix(".jar")?;
            Some(version.to_owned())
        };
        names.filter_map(version).next()
    }

    fn java(&self) -> Option<PathBuf> {
        find_program("java", &self.installed.join("bin"))
    }

    fn client(&self) -> Option<PathBuf> {
        find_program("kafka-client", &self.installed.join("bin"))
    }

    /// Java with Kafka's classes.
    fn command(&self) -> Result<Command> {
        let mut command = Command::new(self.java().context("java is not there")?);
        command.arg("-cp").arg(self.jars().join("*"));
        Ok(command)
    }

    /// Gives the data directory its cluster, as a broker wants it.
    fn format(&self, config: &Path) -> Result<()> {
        let output = self
            .command()?
            .args(["kafka.tools.StorageTool", "format", "-t", CLUSTER_ID, "-c"])
            .arg(config)
            .output()
            .context("cannot start java")?;
        if !output.status.success() {
            let said = [output.stdout, output.stderr].concat();
            bail!(
                "Kafka's directory cannot be formatted: {}",
                String::from_utf8_lossy(&said).trim()
            );
        }
        Ok(())
    }
}

impl Peer for Kafka {
    fn name(&self) -> &'static str {
        "kafka"
    }

    fn title(&self) -> String {
        let version = self
            .version()
            .map_or(String::new(), |version| format!(" {version}"));
        format!("Apache Kafka{version} (librdkafka)")
    }

    fn offers(&self, work: Work) -> Offer {
        Offer::Acks(match work.durability() {
            Durability::Written => "page cache (acks=1)",
            Durability::Synced => "synced, each batch (acks=1, flush.messages=1)",
        })
    }

    fn missing(&self) -> Option<String> {
        let bring = "`benches/peers/install kafka` brings it with mvn and apt-get";
        if self.version().is_none() {
            Some(format!("its jars are not there: {bring}"))
        } else if self.client().is_none() {
            Some(format!("its client is not there: {bring}"))
        } else if self.java().is_none() {
            Some("java is not there: `apt-get install default-jre-headless` brings it".to_owned())
        } else {
            None
        }
    }

    fn start(&self, place: &Place, durability: Durability) -> Result<Box<dyn Session>> {
        let (port, controller) = (free_port()?, free_port()?);
        let config = place.join("server.properties");
        let text = properties(port, controller, &place.join("data"), durability);
        fs::write(&config, text).with_context(|| format!("cannot write {}", config.display()))?;
        self.format(&config)?;
        let mut command = self.command()?;
        command
            .args(HEAP)
            .args(COLLECTOR)
            .arg("kafka.Kafka")
            .arg(&config);
        let mut server = Server::start("kafka", &mut command, place.dir())?;
        server.wait_for_port(port)?;
        Ok(Box::new(KafkaSession {
            server,
            address: format!("127.0.0.1:{port}"),
            client: self.client().context("kafka-client is not there")?,
        }))
    }
}

/// A node that is broker and controller. Topics are made when they are asked for, and have as many partitions
/// as any work needs.
fn properties(port: u16, controller: u16, data: &Path, durability: Durability) -> String {
    let flush = match durability {
        Durability::Written => "",
        Durability::Synced => "log.flush.interval.messages=1\n",
    };
    format!(
        "process.roles=broker,controller\n\
         node.id=1\n\
         controller.quorum.voters=1@127.0.0.1:{controller}\n\
         listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}\n\
         advertised.listeners=PLAINTEXT://127.0.0.1:{port}\n\
         controller.listener.names=CONTROLLER\n\
         listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT\n\
         log.dirs={}\n\
         num.partitions=4\n\
         auto.create.topics.enable=true\n\
         offsets.topic.replication.factor=1\n\
         transaction.state.log.replication.factor=1\n\
         transaction.state.log.min.isr=1\n\
         {flush}",
        data.display()
    )
}

struct KafkaSession {
    server: Server,
    address: String,
    client: PathBuf,
}

impl KafkaSession {
    fn run(&self, work: &str, topic: &str, arguments: Vec<String>) -> Result<String> {
        let mut all = vec![work.to_owned(), self.address.clone(), topic.to_owned()];
        all.extend(arguments);
        run(&self.client, &all)
    }
}

impl Session for KafkaSession {
    fn server(&self) -> Option<&Server> {
        Some(&self.server)
    }

    fn produce(&mut self, load: &Load) -> Result<Transferred> {
        transferred(&self.run("produce", &load.topic, load_arguments(load))?)
    }

    fn replay(&mut self, load: &Load, produced: &Transferred) -> Result<Transferred> {
        let arguments = vec![produced.records.to_string()];
        replayed(&self.run("replay", &load.topic, arguments)?, produced)
    }

    fn latency(&mut self, probe: &Probe) -> Result<Latencies> {
        latencies(&self.run("latency", &probe.topic, probe_arguments(probe))?)
    }
}
