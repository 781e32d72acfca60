//! Flowstone's server: the real binary, with its default configuration.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};
use flowstone_client::{Client, Topic};
use tokio::runtime::Runtime;

use crate::peer::{Offer, Place};
use crate::process::{Server, free_port};
use crate::work::{Durability, Work};

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
