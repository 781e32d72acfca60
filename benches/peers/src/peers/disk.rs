//! The bare disk: appends to a file and fdatasync, without any server.

use std::fs::File;
use std::io::Write;
use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context, Result, bail};

use crate::latency::{Latencies, Pace};
use crate::peer::{Offer, Peer, Place, Probe, Session, Transferred};
use crate::process::Server;
use crate::work::{Durability, Load, Work, noise};

/// What is appended where latency is measured: a block.
const BLOCK_BYTES: usize = 4 << 10;

/// Appends of one size, and a sync after so many bytes.
pub(super) struct Disk {
    name: &'static str,
    title: &'static str,
    append_bytes: usize,
    sync_bytes: usize,
    probes: bool,
}

impl Disk {
    /// The disk at its best: large appends, few syncs.
    pub(super) fn large() -> Self {
        Self {
            name: "disk",
            title: "bare disk, 1 MiB appends, a sync after each 16 MiB",
            append_bytes: 1 << 20,
            sync_bytes: 16 << 20,
            probes: true,
        }
    }

    /// What a server gets that syncs each request by itself.
    pub(super) fn small() -> Self {
        Self {
            name: "disk-256k",
            title: "bare disk, 256 KiB appends, a sync after each",
            append_bytes: 256 << 10,
            sync_bytes: 256 << 10,
            probes: false,
        }
    }
}

impl Peer for Disk {
    fn name(&self) -> &'static str {
        self.name
    }

    fn title(&self) -> String {
        self.title.to_owned()
    }

    fn offers(&self, work: Work) -> Offer {
        match work {
            Work::Durable1k => Offer::Acks("fdatasync"),
            Work::Latency | Work::Paced if self.probes => {
                Offer::Acks("fdatasync after an append of 4 KiB")
            }
            _ => Offer::Not("is the limit of durable work only"),
        }
    }

    fn missing(&self) -> Option<String> {
        None
    }

    fn start(&self, place: &Place, _: Durability) -> Result<Box<dyn Session>> {
        Ok(Box::new(DiskSession {
            dir: place.dir().to_owned(),
            append_bytes: self.append_bytes,
            sync_bytes: self.sync_bytes,
        }))
    }
}

struct DiskSession {
    dir: PathBuf,
    append_bytes: usize,
    sync_bytes: usize,
}

impl DiskSession {
    fn create(&self, name: &str) -> Result<File> {
        let path = self.dir.join(name);
        File::create_new(&path).with_context(|| format!("cannot create {}", path.display()))
    }
}

impl Session for DiskSession {
    fn server(&self) -> Option<&Server> {
        None
    }

    fn produce(&mut self, load: &Load) -> Result<Transferred> {
        let mut file = self.create(&load.topic)?;
        let block = noise(self.append_bytes);
        let begun = Instant::now();
        let mut bytes = 0;
        while bytes < load.bound.bytes && begun.elapsed() < load.bound.time {
            for _ in 0..self.sync_bytes / self.append_bytes {
                file.write_all(&block).context("cannot append to a file")?;
                bytes += block.len() as u64;
            }
            file.sync_data().context("cannot sync a file")?;
        }
        Ok(Transferred {
            records: bytes / load.value_bytes as u64,
            bytes,
            seconds: begun.elapsed().as_secs_f64(),
        })
    }

    fn replay(&mut self, _: &Load, _: &Transferred) -> Result<Transferred> {
        bail!("nothing is read back from the bare disk")
    }

    fn latency(&mut self, probe: &Probe) -> Result<Latencies> {
        let mut file = self.create(&probe.topic)?;
        let block = noise(BLOCK_BYTES);
        let mut latencies = Latencies::default();
        let mut append = |from: Instant| -> Result<()> {
            file.write_all(&block).context("cannot append to a file")?;
            file.sync_data().context("cannot sync a file")?;
            latencies.record(from.elapsed());
            Ok(())
        };
        match probe.per_second {
            None => {
                let begun = Instant::now();
                while begun.elapsed() < probe.time {
                    append(Instant::now())?;
                }
            }
            Some(rate) => {
                let pace = Pace::new(rate);
                let count = (probe.time.as_secs_f64() * f64::from(rate)) as u32;
                let begun = Instant::now();
                for number in 0..count {
                    append(pace.wait_for(number))?;
                    // A disk that cannot keep up would take ever longer.
                    if begun.elapsed() > probe.time * 2 {
                        break;
                    }
                }
            }
        }
        Ok(latencies)
    }
}
