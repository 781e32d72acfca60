//! A life of a broker: every operation of its disk, and all that its clients saw.

use std::fs::File;
use std::io::{self, BufRead, BufReader, BufWriter, Read, Write};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use flowstone_tests::mounts::{Mounted, make_ext4};
use flowstone_tests::recorder::{FILE, Op, Recorder};
use flowstone_tests::server::{command, serve_args};
use flowstone_tests::{Dice, Server};
use serde::{Deserialize, Serialize};

use crate::load::{Load, TOPICS, create};
use crate::story::{Noted, Story};

/// Enough for all that one life writes, and for a second copy of the superblock.
const DISK_BYTES: u64 = 144 << 20;
/// How long clients run before the broker is killed, and after it was started again.
const PHASES: [Duration; 2] = [Duration::from_millis(2_500), Duration::from_millis(2_000)];
/// No phase goes on beyond so many operations of the disk.
const OPS_MAX: u64 = 60_000;
/// Longer than the broker waits before it syncs FLOOR.
const QUIET: Duration = Duration::from_millis(250);
const POLL: Duration = Duration::from_millis(20);

/// Small segments, so that they roll all the time.
const CONFIG: &str = "[limits]\nmin_segment_bytes = 65_536\nmax_record_bytes = 16_384\n\
                      max_request_bytes = 32_768\nmax_records_per_request = 64\n\
                      [storage]\ndefault_segment_bytes = 1_048_576\n";

/// The command that serves `directory/data`. `workspace` takes its configuration.
pub(crate) fn serve(binary: &Path, workspace: &Path, directory: &Path) -> Result<Command, String> {
    let config = workspace.join("flowstone.toml");
    std::fs::write(&config, CONFIG).map_err(|error| format!("{}: {error}", config.display()))?;
    let mut command = command(binary);
    command.args(serve_args(&config, &directory.join("data")));
    Ok(command)
}

/// What is known of a life.
#[derive(Debug)]
pub(crate) struct Recording {
    pub(crate) about: About,
    pub(crate) ops: Vec<Op>,
}

/// All but the operations.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct About {
    /// The records follow from it.
    pub(crate) seed: u64,
    /// The size of the disk.
    pub(crate) disk_bytes: u64,
    /// The blocks of its file system.
    pub(crate) block_bytes: u32,
    /// So many operations had been done when the first broker was started.
    pub(crate) from: usize,
    /// While a broker starts: from one number of operations to another.
    pub(crate) windows: Vec<(usize, usize)>,
    pub(crate) events: Vec<Noted>,
    /// What was wrong already while the power was on.
    pub(crate) wrong: Vec<String>,
}

impl Recording {
    /// Lives once: a start on an empty disk, clients, kill -9 in the middle of it, another start, and
    /// clients again.
    pub(crate) async fn make(seed: u64, binary: &Path, workspace: &Path) -> Result<Self, String> {
        let told = |error: io::Error| format!("the disk cannot be made: {error}");
        // The default of a large file system, and that of a small one, with blocks below a page.
        let block_bytes = if Dice::new(seed).fork().once_in(3) {
            1024
        } else {
            4096
        };
        let fresh = workspace.join("fresh");
        make_ext4(&fresh, DISK_BYTES, block_bytes).map_err(told)?;
        let disk = Recorder::new(std::fs::read(&fresh).map_err(told)?);
        std::fs::remove_file(&fresh).map_err(told)?;
        let (below, above) = (workspace.join("fuse"), workspace.join("recorded"));
        std::fs::create_dir_all(&below).map_err(told)?;
        std::fs::create_dir_all(&above).map_err(told)?;
        let session = disk.mount(&below).map_err(told)?;
        let mounted = Mounted::image(&below.join(FILE), &above)?;

        let story = Arc::new(Story::new(seed, disk.clone()));
        let from = disk.point() as usize;
        let mut windows = Vec::new();
        for (phase, duration) in (1..).zip(PHASES) {
            let begun = disk.point() as usize;
            let server = Server::start(&mut serve(binary, workspace, &above)?)?;
            let stub = server.stub().await?;
            if phase == 1 {
                for &(name, partitions, segment_bytes) in TOPICS {
                    let created = create(&story, &stub, name, partitions, segment_bytes).await;
                    created.map_err(|status| format!("{name} cannot be created: {status}"))?;
                }
            }
            windows.push((begun, disk.point() as usize));
            let load = Load::start(&story, &stub, phase);
            let until = Instant::now() + duration;
            while Instant::now() < until && disk.point() < u64::from(phase) * OPS_MAX {
                tokio::time::sleep(POLL).await;
            }
            if phase == 1 {
                server.kill9()?;
                load.join().await;
            } else {
                load.end().await;
                tokio::time::sleep(QUIET).await;
                server.kill9()?;
            }
        }
        let ops = disk.take();
        drop(mounted);
        drop(session);
        let (events, wrong) = Arc::into_inner(story).expect("all lanes have ended").end();
        let about = About {
            seed,
            disk_bytes: DISK_BYTES,
            block_bytes,
            from,
            windows,
            events,
            wrong,
        };
        Ok(Self { about, ops })
    }

    /// Keeps it in a file: a line of JSON, then the operations.
    pub(crate) fn save(&self, path: &Path) -> io::Result<()> {
        let mut file = BufWriter::new(File::create(path)?);
        serde_json::to_writer(&mut file, &self.about)?;
        file.write_all(b"\n")?;
        for op in &self.ops {
            // A flush is a write of nothing.
            let (at, bytes) = match op {
                Op::Write { at, bytes } => (*at, bytes.as_slice()),
                Op::Flush => (0, [].as_slice()),
            };
            file.write_all(&at.to_le_bytes())?;
            file.write_all(&(bytes.len() as u64).to_le_bytes())?;
            file.write_all(bytes)?;
        }
        file.flush()
    }

    /// The recording that a file keeps.
    pub(crate) fn load(path: &Path) -> io::Result<Self> {
        let mut file = BufReader::new(File::open(path)?);
        let mut line = Vec::new();
        file.read_until(b'\n', &mut line)?;
        let about = serde_json::from_slice(&line)?;
        let mut ops = Vec::new();
        while !file.fill_buf()?.is_empty() {
            let mut numbers = [[0; 8]; 2];
            file.read_exact(&mut numbers[0])?;
            file.read_exact(&mut numbers[1])?;
            let [at, len] = numbers.map(u64::from_le_bytes);
            let mut bytes = Vec::new();
            file.by_ref().take(len).read_to_end(&mut bytes)?;
            ops.push(if len == 0 {
                Op::Flush
            } else {
                Op::Write { at, bytes }
            });
        }
        Ok(Self { about, ops })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed step is a failed test")]

    use super::*;
    use crate::story::{Event, Id};

    #[test]
    fn a_recording_that_is_kept_is_the_one_that_was_made() {
        let id = Id {
            producer: 7,
            number: 8,
        };
        let event = Event::Sending {
            topic: "orders".to_owned(),
            id,
        };
        let about = About {
            seed: 1,
            disk_bytes: 1 << 20,
            block_bytes: 4096,
            from: 2,
            windows: vec![(2, 3)],
            events: vec![Noted { point: 2, event }],
            wrong: Vec::new(),
        };
        let write = Op::Write {
            at: 4096,
            bytes: b"\nnot a line\n".to_vec(),
        };
        let ops = vec![write.clone(), Op::Flush, write, Op::Flush];
        let file = tempfile::NamedTempFile::new().unwrap();
        let made = Recording { about, ops };
        made.save(file.path()).unwrap();
        let kept = Recording::load(file.path()).unwrap();
        assert_eq!(kept.ops, made.ops);
        assert_eq!(
            serde_json::to_value(&kept.about).unwrap(),
            serde_json::to_value(&made.about).unwrap()
        );
    }
}
