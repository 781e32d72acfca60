//! One cycle: the disk fills up, things go on that have to, and it gets space again.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use flowstone_proto::v1 as proto;
use flowstone_proto::v1::start_position::Position;
use flowstone_tests::server::{Server, command, serve_args};
use flowstone_tests::{Dice, Stub};
use prost_types::FieldMask;

use crate::load::{Load, PARTITIONS, Shared, TOPIC, is_full};
use crate::volume::Volume;

/// A refusal has to come within this …
pub(crate) const REFUSAL_LIMIT: Duration = Duration::from_millis(100);
/// … and a success within this after there is space.
pub(crate) const RESUME_LIMIT: Duration = Duration::from_secs(1);
/// Nothing takes longer, however busy the machine is.
const PATIENCE: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(1);
/// Segments roll all the time, and trims give back nearly all.
const CONFIG: &str = "[limits]\nmin_segment_bytes = 1_048_576\nmax_record_bytes = 262_144\n\
                      max_request_bytes = 524_288\nmax_records_per_request = 64\n\
                      [storage]\ndefault_segment_bytes = 2_097_152\n";
const BULK: &str = "bulk";

/// How the disk gets full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fill {
    /// By records, in what somebody else has left.
    Records,
    /// Somebody else takes all there is.
    Foreign,
    /// Somebody else takes all there is, and what the reserve leaves as well.
    Everything,
}

/// How it gets space again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Free {
    Foreign,
    Trim,
    Delete,
    Retention,
}

/// The volume, the broker on it, and what is known of it.
pub(crate) struct World<'a> {
    binary: &'a Path,
    workspace: &'a Path,
    // Ends before the volume that it has open is unmounted.
    server: Option<Server>,
    pub(crate) volume: Volume,
    stub: Stub,
    pub(crate) shared: Arc<Shared>,
    phase: u32,
    dice: Dice,
    pub(crate) resumed: Vec<Duration>,
    pub(crate) kills: u64,
    pub(crate) given_up: u64,
}

impl<'a> World<'a> {
    /// An empty volume and a broker with a topic on it.
    pub(crate) async fn begin(
        binary: &'a Path,
        workspace: &'a Path,
        dice: Dice,
    ) -> Result<Self, String> {
        let volume = Volume::make(workspace)?;
        let server = serve(binary, workspace, &volume)?;
        let stub = server.stub().await?;
        create(&stub, TOPIC, PARTITIONS).await?;
        Ok(Self {
            binary,
            workspace,
            volume,
            server: Some(server),
            stub,
            shared: Arc::new(Shared::new()),
            phase: 0,
            dice,
            resumed: Vec::new(),
            kills: 0,
            given_up: 0,
        })
    }

    /// One cycle; tells what kind it was.
    pub(crate) async fn cycle(&mut self) -> Result<String, String> {
        let (fill, free) = match self.dice.pick(0..11) {
            0..3 => (Fill::Records, Free::Foreign),
            3..6 => (Fill::Foreign, Free::Foreign),
            6 => (Fill::Everything, Free::Foreign),
            7..9 => (Fill::Records, Free::Trim),
            9 => (Fill::Records, Free::Delete),
            _ => (Fill::Records, Free::Retention),
        };
        let kill = self.dice.once_in(4);
        let kind = format!("{fill:?}, {free:?}{}", if kill { ", killed" } else { "" });
        let resumed = self.fill_and_free(fill, free, kill).await;
        let resumed = resumed.map_err(|error| format!("{kind}: {error}"))?;
        Ok(format!(
            "{kind}; taken again after {} ms",
            resumed.as_millis()
        ))
    }

    /// Tells how long it took until records were taken again.
    async fn fill_and_free(
        &mut self,
        fill: Fill,
        free: Free,
        kill: bool,
    ) -> Result<Duration, String> {
        let mut load = self.load();
        self.fill(fill, free).await?;
        self.check_all("while the disk is full").await?;
        // Enough for the offsets log to need space, most of the time.
        for _ in 0..self.dice.pick(20..600) {
            self.shared.commit(&self.stub, &self.dice).await;
        }
        self.given_up += u64::from(!self.volume.has_reserve());
        if fill == Fill::Everything {
            self.take_the_rest().await;
        }
        if kill {
            load = self.kill(load).await?;
            self.wait_until_refused("after a kill", 1).await?;
        }
        self.check_all("before there is space").await?;

        let waits = self.free(free).await?;
        self.shared.nothing_left.store(false, Ordering::Relaxed);
        let resumed = self.wait_until_taken(waits).await?;
        load.end().await;
        self.check_all("when there is space again").await?;
        self.tidy(free).await?;
        let server = self.server.as_mut().expect("it runs");
        if !server.process().is_running() {
            return Err(format!(
                "the broker has ended: {}",
                server.process().printed()
            ));
        }
        Ok(resumed)
    }

    fn load(&mut self) -> Load {
        self.phase += 1;
        {
            let mut seen = self.shared.seen();
            seen.refused_in_row.clear();
            seen.taken_at.clear();
        }
        Load::start(&self.shared, &self.stub, self.phase, &self.dice)
    }

    async fn fill(&mut self, fill: Fill, free: Free) -> Result<(), String> {
        match (fill, free) {
            (Fill::Records, Free::Foreign) => {
                self.volume.take_all_but(self.dice.pick(6..24) << 20);
            }
            (Fill::Records, Free::Delete) => {
                create(&self.stub, BULK, 1).await?;
                self.fill_bulk().await?;
            }
            (Fill::Records, _) => {}
            (Fill::Foreign | Fill::Everything, _) => {
                self.until("records are taken", |seen| seen.taken_at.len() == 4)
                    .await?;
                self.volume.take_all_but(0);
            }
        }
        self.wait_until_refused("while the disk fills up", 5).await
    }

    /// Fills most of the disk with records that nobody reads.
    async fn fill_bulk(&self) -> Result<(), String> {
        let mut number = 0;
        while self.volume.free_bytes() > 8 << 20 {
            number += 1;
            let mut value = format!("{number}-").into_bytes();
            value.resize(250_000, b'x');
            let record = proto::Record {
                value: Some(value.into()),
                ..proto::Record::default()
            };
            let request = proto::ProduceRequest {
                records: vec![record],
                topic: BULK.to_owned(),
                ..proto::ProduceRequest::default()
            };
            match self.stub.log.clone().produce(request).await {
                Ok(_) => {}
                Err(status) if is_full(&status) => return Ok(()),
                Err(status) => return Err(format!("a produce call: {status}")),
            }
        }
        Ok(())
    }

    /// Takes what the reserve has left, until commits are refused too.
    async fn take_the_rest(&self) {
        self.shared.nothing_left.store(true, Ordering::Relaxed);
        for _ in 0..5_000 {
            self.volume.take_all_but(0);
            if !self.shared.commit(&self.stub, &self.dice).await {
                return;
            }
        }
    }

    /// kill -9 under load on a full disk, and a start there.
    async fn kill(&mut self, load: Load) -> Result<Load, String> {
        self.kills += 1;
        self.shared.killing.store(true, Ordering::Relaxed);
        self.server.take().expect("it runs").kill9()?;
        load.end().await;
        self.shared.killing.store(false, Ordering::Relaxed);
        let server = serve(self.binary, self.workspace, &self.volume)?;
        self.stub = server.stub().await?;
        self.server = Some(server);
        self.check_commits().await?;
        Ok(self.load())
    }

    async fn check_commits(&self) -> Result<(), String> {
        let checked = self.shared.check_commits(&self.stub).await;
        checked
            .map(drop)
            .map_err(|status| format!("GetGroup: {status}"))
    }

    /// Makes space. Tells since when there is some.
    async fn free(&mut self, free: Free) -> Result<Instant, String> {
        match free {
            Free::Foreign => self.volume.give_back(),
            Free::Trim => self.trim().await?,
            Free::Delete => {
                let request = proto::DeleteTopicRequest {
                    topic: BULK.to_owned(),
                };
                let deleted = self.stub.topics.clone().delete_topic(request).await;
                deleted.map_err(|status| format!("a deletion: {status}"))?;
            }
            Free::Retention => {
                for partition in 0..PARTITIONS {
                    let mut history = self.shared.history.lock();
                    let end = history.read_up_to(partition);
                    history.trimming(partition, end);
                }
                self.retain(Some(1)).await?;
            }
        }
        Ok(Instant::now())
    }

    /// Trims all that was read.
    async fn trim(&self) -> Result<(), String> {
        for partition in 0..PARTITIONS {
            let before_offset = {
                let mut history = self.shared.history.lock();
                let end = history.read_up_to(partition);
                history.trimming(partition, end);
                end
            };
            let request = proto::TrimPartitionRequest {
                topic: TOPIC.to_owned(),
                partition,
                before_offset,
            };
            let trimmed = self.stub.topics.clone().trim_partition(request).await;
            let trimmed = trimmed.map_err(|status| format!("a trim: {status}"))?;
            let start = trimmed.into_inner().log_start_offset;
            self.shared.history.lock().starts_at(partition, start);
        }
        Ok(())
    }

    async fn retain(&self, bytes: Option<i64>) -> Result<(), String> {
        let topic = proto::Topic {
            name: TOPIC.to_owned(),
            retention_bytes: bytes,
            ..proto::Topic::default()
        };
        let request = proto::UpdateTopicRequest {
            topic: Some(topic),
            update_mask: Some(FieldMask {
                paths: vec!["retention_bytes".to_owned()],
            }),
        };
        let updated = self.stub.topics.clone().update_topic(request).await;
        updated
            .map(drop)
            .map_err(|status| format!("an update of a topic: {status}"))
    }

    /// Leaves room for the next cycle.
    async fn tidy(&self, free: Free) -> Result<(), String> {
        if free == Free::Retention {
            self.retain(None).await?;
        }
        self.volume.give_back();
        self.trim().await
    }

    /// Reads all that is new, while no record is on its way, and holds it against the history.
    async fn check_all(&self, when: &str) -> Result<(), String> {
        let _none = self.shared.on_the_way.write().await;
        for partition in 0..PARTITIONS {
            let from = self.shared.history.lock().read_up_to(partition);
            let read = self
                .stub
                .read_from(TOPIC, partition, Position::Offset(from));
            let read = read
                .await
                .map_err(|status| format!("{when} partition {partition} is not read: {status}"))?;
            let mut history = self.shared.history.lock();
            history.starts_at(partition, read.start);
            history.read_on(partition, read.end, &read.records);
        }
        let history = self.shared.history.lock();
        match history.violations().first() {
            Some(first) => Err(format!(
                "{when}: {} violations, the first: {first}",
                history.violations().len()
            )),
            None => Ok(()),
        }
    }

    async fn wait_until_refused(&self, when: &str, times: u32) -> Result<(), String> {
        self.until(when, |seen| {
            seen.refused_in_row.len() == PARTITIONS as usize
                && seen.refused_in_row.values().all(|row| *row >= times)
        })
        .await
    }

    /// Waits until every partition has taken a record since there is space, and tells how long the
    /// last of them has taken.
    async fn wait_until_taken(&mut self, since: Instant) -> Result<Duration, String> {
        let all = |seen: &crate::load::Seen| {
            seen.taken_at.len() == PARTITIONS as usize
                && seen.taken_at.values().all(|at| *at >= since)
        };
        self.until("there is space again", all).await?;
        let last = self.shared.seen().taken_at.values().max().copied();
        let resumed = last.map_or(Duration::ZERO, |last| last - since);
        self.resumed.push(resumed);
        Ok(resumed)
    }

    async fn until(
        &self,
        what: &str,
        is_so: impl Fn(&crate::load::Seen) -> bool,
    ) -> Result<(), String> {
        let give_up_at = Instant::now() + PATIENCE;
        loop {
            {
                let seen = self.shared.seen();
                if is_so(&seen) {
                    return Ok(());
                }
                if let Some(first) = seen.wrong.first() {
                    return Err(format!("{what}: {first}"));
                }
                if Instant::now() > give_up_at {
                    return Err(format!(
                        "it does not come to pass: {what}; {:?} refused, {} bytes free",
                        seen.refused_in_row,
                        self.volume.free_bytes()
                    ));
                }
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// The end: a stop, and what the broker has logged.
    pub(crate) async fn end(&mut self) -> Result<(), String> {
        self.check_commits().await?;
        let server = self.server.take().expect("it runs");
        let log = server.log();
        server.terminate()?;
        if log.contains("panicked") {
            return Err(format!("the broker panicked: {log}"));
        }
        Ok(())
    }

    /// What the broker has logged.
    pub(crate) fn log(&self) -> String {
        self.server.as_ref().map(Server::log).unwrap_or_default()
    }
}

fn serve(binary: &Path, workspace: &Path, volume: &Volume) -> Result<Server, String> {
    let config = workspace.join("flowstone.toml");
    std::fs::write(&config, CONFIG).map_err(|error| format!("{}: {error}", config.display()))?;
    let mut command = command(binary);
    Server::start(command.args(serve_args(&config, &volume.data_dir())))
}

async fn create(stub: &Stub, name: &str, partition_count: i32) -> Result<(), String> {
    let topic = proto::Topic {
        name: name.to_owned(),
        partition_count,
        ..proto::Topic::default()
    };
    let request = proto::CreateTopicRequest {
        topic: Some(topic),
        validate_only: false,
    };
    let created = stub.topics.clone().create_topic(request).await;
    created
        .map(drop)
        .map_err(|status| format!("topic {name} cannot be made: {status}"))
}
