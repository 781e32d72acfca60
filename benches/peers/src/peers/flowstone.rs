//! Flowstone's server: the real binary, with its default configuration.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use flowstone_client::{Client, Topic};
use tokio::runtime::Runtime;

use crate::peer::{Offer, Place};
use crate::process::{Server, free_port};
use crate::work::{Durability, Work};

/// How long a sync may take after the last ack.
const SYNC_TIMEOUT: Duration = Duration::from_secs(60);
const POLL_EVERY: Duration = Duration::from_millis(5);

/// What its acks mean.
pub(super) fn offers(work: Work) -> Offer {
    Offer::Acks(match work.durability() {
        Durability::Written => "page cache (ACKS_WRITTEN), synced every few milliseconds",
        Durability::Synced => "synced, in groups (ACKS_DURABLE)",
    })
}

/// How to get it, if it is not there.
pub(super) fn missing(binary: &Path) -> Option<String> {
    (!binary.is_file()).then(|| {
        format!(
            "{} is not there: `cargo build --release` in the workspace builds it, or name another with --flowstone",
            binary.display()
        )
    })
}

/// Starts it on a free port.
pub(super) fn start(binary: &Path, place: &Place) -> Result<(Server, u16)> {
    let port = free_port()?;
    let mut command = Command::new(binary);
    command
        .arg("serve")
        .arg("--data-dir")
        .arg(place.join("data"))
        .args(["--listen", &format!("127.0.0.1:{port}")]);
    let mut server = Server::start("flowstone", &mut command, place.dir())?;
    server.wait_for_port(port)?;
    Ok((server, port))
}

/// Makes a topic.
pub(super) fn create_topic(
    runtime: &Runtime,
    port: u16,
    name: &str,
    partitions: usize,
) -> Result<()> {
    let topic = Topic {
        name: name.to_owned(),
        partition_count: i32::try_from(partitions).context("too many partitions")?,
        ..Topic::default()
    };
    runtime.block_on(async {
        let client = Client::connect(format!("127.0.0.1:{port}"))?;
        client
            .create_topic(topic, false)
            .await
            .with_context(|| format!("cannot create topic {name}"))?;
        Ok(())
    })
}

/// Waits until so many records can be read: what is acknowledged before it is synced is shown to readers only
/// afterwards, since they never see what a power cut could take back.
pub(super) fn wait_until_readable(
    runtime: &Runtime,
    port: u16,
    topic: &str,
    records: u64,
) -> Result<()> {
    let begun = Instant::now();
    runtime.block_on(async {
        let client = Client::connect(format!("127.0.0.1:{port}"))?;
        loop {
            let (_, partitions) = client.get_topic(topic).await?;
            let ends = partitions.iter().map(|partition| partition.high_watermark);
            if ends.sum::<i64>() as u64 >= records {
                return Ok(());
            }
            ensure!(
                begun.elapsed() < SYNC_TIMEOUT,
                "what was produced is not synced"
            );
            tokio::time::sleep(POLL_EVERY).await;
        }
    })
}
