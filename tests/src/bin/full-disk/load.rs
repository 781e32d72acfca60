//! What runs against the broker all the time: a producer for each partition, a reader, and a group
//! that commits.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use flowstone_proto::v1 as proto;
use flowstone_proto::v1::start_position::Position;
use flowstone_tests::history::SharedHistory;
use flowstone_tests::{Dice, Stub};
use tokio::sync::RwLock;
use tokio::task::JoinSet;
use tonic::{Code, Status};

pub(crate) const TOPIC: &str = "records";
pub(crate) const PARTITIONS: i32 = 4;
const GROUPS: u64 = 200;
/// How long a producer waits after a refusal: less than what the broker asks for, so that the time to
/// the first success is the broker's.
const REPEAT_AFTER: Duration = Duration::from_millis(20);
const RECORD_BYTES_MAX: u64 = 128 << 10;

/// What all that runs shares.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) history: SharedHistory,
    /// Held for reading while a record is on its way.
    pub(crate) on_the_way: RwLock<()>,
    /// Set while the broker is being killed: calls may fail then.
    pub(crate) killing: AtomicBool,
    /// Set while not a byte is left for commits either.
    pub(crate) nothing_left: AtomicBool,
    seen: Mutex<Seen>,
    commits: Mutex<BTreeMap<(u64, i32), i64>>,
    /// The end of what is acknowledged, by partition.
    ends: [AtomicI64; PARTITIONS as usize],
}

/// What the producers have seen.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    /// How long each refusal took to come.
    pub(crate) refusals: Vec<Duration>,
    /// How many of them came one after the other, by partition.
    pub(crate) refused_in_row: BTreeMap<i32, u32>,
    /// When a partition last took a record.
    pub(crate) taken_at: BTreeMap<i32, Instant>,
    /// How many records were taken.
    pub(crate) taken: u64,
    /// How many commits were answered, and how many were refused.
    pub(crate) commits: u64,
    pub(crate) refused_commits: u64,
    /// What should not have come to pass.
    pub(crate) wrong: Vec<String>,
}

impl Shared {
    pub(crate) fn new() -> Self {
        Self {
            history: SharedHistory::new(),
            on_the_way: RwLock::default(),
            killing: AtomicBool::new(false),
            nothing_left: AtomicBool::new(false),
            seen: Mutex::default(),
            commits: Mutex::default(),
            ends: Default::default(),
        }
    }

    pub(crate) fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn wrong(&self, what: String) {
        self.seen().wrong.push(what);
    }

    fn failed(&self, call: &str, status: &Status) {
        if !self.killing.load(Ordering::Relaxed) {
            self.wrong(format!("{call}: {status}"));
        }
    }

    /// Commits one more record of a group and a partition. False once the broker has refused.
    pub(crate) async fn commit(&self, stub: &Stub, dice: &Dice) -> bool {
        let key = (dice.pick(0..GROUPS), dice.pick(0..PARTITIONS as u64) as i32);
        let end = self.ends[key.1 as usize].load(Ordering::Relaxed);
        let offset = {
            let commits = self.commits();
            (commits.get(&key).copied().unwrap_or(0) + 1).min(end)
        };
        let cursor = proto::Cursor {
            group: group(key.0),
            topic: TOPIC.to_owned(),
            partition: key.1,
            offset,
            ..proto::Cursor::default()
        };
        let request = proto::CommitOffsetsRequest {
            cursors: vec![cursor],
            released: vec![],
        };
        // What was refused on the way counts for the time when it was sent, too.
        let nothing_left = || self.nothing_left.load(Ordering::Relaxed);
        let nothing_was_left = nothing_left();
        match stub.log.clone().commit_offsets(request).await {
            Ok(_) => {
                let mut commits = self.commits();
                let known = commits.entry(key).or_default();
                *known = offset.max(*known);
                self.seen().commits += 1;
                true
            }
            Err(status) if is_full(&status) && (nothing_was_left || nothing_left()) => {
                self.seen().refused_commits += 1;
                false
            }
            Err(status) => {
                self.failed("a commit", &status);
                false
            }
        }
    }

    /// Holds what the broker tells of all groups against what it has acknowledged.
    pub(crate) async fn check_commits(&self, stub: &Stub) -> Result<usize, Status> {
        let expected = self.commits().clone();
        let mut found = BTreeMap::new();
        for number in 0..GROUPS {
            let request = proto::GetGroupRequest {
                group: group(number),
            };
            let told = match stub.groups.clone().get_group(request).await {
                Ok(told) => told.into_inner().group.unwrap_or_default(),
                Err(status) if status.code() == Code::NotFound => continue,
                Err(status) => return Err(status),
            };
            for offset in told.offsets {
                if let Some(committed) = offset.committed_offset {
                    found.insert((number, offset.partition), committed);
                }
            }
        }
        for (key, offset) in &expected {
            let told = found.get(key).copied().unwrap_or(0);
            if told < *offset {
                self.wrong(format!(
                    "group {} committed {offset} of partition {}, and the broker knows of {told}",
                    key.0, key.1
                ));
            }
        }
        *self.commits() = found;
        Ok(expected.len())
    }

    fn commits(&self) -> MutexGuard<'_, BTreeMap<(u64, i32), i64>> {
        self.commits.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether a status says that the disk is full.
pub(crate) fn is_full(status: &Status) -> bool {
    let reason = status.metadata().get("flowstone-reason");
    status.code() == Code::ResourceExhausted
        && reason.is_some_and(|reason| reason.as_bytes() == b"DISK_FULL")
}

fn group(number: u64) -> String {
    format!("readers-{number}")
}

/// What runs until it is stopped.
pub(crate) struct Load {
    stop: Arc<AtomicBool>,
    tasks: JoinSet<()>,
}

impl Load {
    /// Starts it. `phase` tells these producers from earlier ones.
    pub(crate) fn start(shared: &Arc<Shared>, stub: &Stub, phase: u32, dice: &Dice) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let mut tasks = JoinSet::new();
        let lane = |partition| Lane {
            shared: Arc::clone(shared),
            stub: stub.clone(),
            stop: Arc::clone(&stop),
            partition,
            producer: phase * PARTITIONS as u32 + partition as u32,
            filler: dice.bytes(RECORD_BYTES_MAX as usize).into(),
            dice: dice.fork(),
        };
        for partition in 0..PARTITIONS {
            tasks.spawn(lane(partition).produce());
        }
        tasks.spawn(lane(0).read());
        tasks.spawn(lane(0).commit());
        Self { stop, tasks }
    }

    /// Stops it and waits for all that was on its way.
    pub(crate) async fn end(mut self) {
        self.stop.store(true, Ordering::Relaxed);
        while let Some(ended) = self.tasks.join_next().await {
            ended.expect("a lane does not panic");
        }
    }
}

struct Lane {
    shared: Arc<Shared>,
    stub: Stub,
    stop: Arc<AtomicBool>,
    partition: i32,
    producer: u32,
    /// What records are filled up with.
    filler: Arc<[u8]>,
    dice: Dice,
}

impl Lane {
    fn goes_on(&self) -> bool {
        !self.stop.load(Ordering::Relaxed)
    }

    async fn produce(self) {
        let mut number = 0;
        while self.goes_on() {
            number += 1;
            if !self.produce_one(number).await {
                return;
            }
        }
    }

    /// False when the outcome is unknown, after which a producer cannot tell its order.
    async fn produce_one(&self, number: u32) -> bool {
        let on_the_way = self.shared.on_the_way.read().await;
        let mut value = format!("{}-{number}-", self.producer).into_bytes();
        let len = self.dice.pick(0..RECORD_BYTES_MAX) as usize;
        value.extend_from_slice(&self.filler[..len]);
        let record = proto::Record {
            value: Some(value.into()),
            ..proto::Record::default()
        };
        let call = self.shared.history.lock().invoke(self.producer, &record);
        let request = proto::ProduceRequest {
            records: vec![record],
            topic: TOPIC.to_owned(),
            partition: Some(self.partition),
            ..proto::ProduceRequest::default()
        };
        let begun = Instant::now();
        let answer = self.stub.log.clone().produce(request).await;
        let took = begun.elapsed();
        match answer {
            Ok(response) => {
                let runs = response.into_inner().runs;
                let offset = runs.first().map_or(-1, |run| run.base_offset);
                self.shared
                    .history
                    .lock()
                    .acknowledged(call, self.partition, offset);
                self.shared.ends[self.partition as usize].store(offset + 1, Ordering::Relaxed);
                let mut seen = self.shared.seen();
                seen.taken += 1;
                seen.taken_at.insert(self.partition, Instant::now());
                seen.refused_in_row.insert(self.partition, 0);
                true
            }
            Err(status) if is_full(&status) => {
                self.shared.history.lock().refused(call);
                {
                    let mut seen = self.shared.seen();
                    seen.refusals.push(took);
                    *seen.refused_in_row.entry(self.partition).or_default() += 1;
                }
                drop(on_the_way);
                tokio::time::sleep(REPEAT_AFTER).await;
                true
            }
            Err(status) => {
                self.shared.failed("a produce call", &status);
                false
            }
        }
    }

    async fn read(self) {
        let mut next = [0; PARTITIONS as usize];
        while self.goes_on() {
            for partition in 0..PARTITIONS {
                let from = next[partition as usize];
                let at = Position::Offset(from);
                match self.stub.fetch(TOPIC, partition, at, 16).await {
                    Ok(response) => {
                        let mut history = self.shared.history.lock();
                        history.read(partition, from, &response.records);
                        next[partition as usize] = response.next_offset;
                    }
                    // Trimmed, after somebody else had read it.
                    Err(status) if status.code() == Code::OutOfRange => {
                        let start = status.metadata().get("flowstone-log-start-offset");
                        let start = start.and_then(|start| start.to_str().ok()?.parse().ok());
                        next[partition as usize] = start.unwrap_or(from);
                    }
                    Err(status) => {
                        self.shared.failed("a fetch", &status);
                        return;
                    }
                }
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    async fn commit(self) {
        while self.goes_on() {
            self.shared.commit(&self.stub, &self.dice).await;
            if self.shared.killing.load(Ordering::Relaxed) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}
