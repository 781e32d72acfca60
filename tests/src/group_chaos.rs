//! The group-chaos rig: members of one group that join, leave, are cut off, hang and come back, producers
//! in between, and a broker that is killed; all that members see and commit is held against the promises
//! of groups.

mod ledger;
mod member;
mod producer;

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, Instant};

use flowstone_proto::v1 as proto;
use tokio::task::JoinSet;

use crate::{Broker, Dice, Proxy, Stub};

use ledger::SharedLedger;
use member::Member;

pub use ledger::Counts;

const TOPIC: &str = "chaos";
const GROUP: &str = "crew";
const PARTITIONS: i32 = 8;
const MEMBERS: u64 = 12;
const PRODUCERS: u64 = 3;
/// Short times, so that much happens.
const CONFIG: &str = "[server]\nheartbeat_interval_ms = 500\n[groups]\nprocessing_timeout_ms = 2_000\n\
                      revoke_timeout_ms = 700\nmember_reconnect_timeout_ms = 600\n";
/// Nothing that has to come takes anywhere near this.
const WAIT: Duration = Duration::from_secs(60);
/// A call that is not answered for so long is given up.
const PATIENCE: Duration = Duration::from_millis(2_000);

/// What all tasks of a run share.
#[derive(Clone, Debug)]
struct Stage {
    url: String,
    ledger: SharedLedger,
    phase: Arc<AtomicU8>,
}

/// What is going on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Phase {
    /// Anything happens.
    Chaos = 0,
    /// No more is produced, and members live well until all is read.
    Calm = 1,
    /// Members leave.
    Over = 2,
}

impl Stage {
    fn is(&self, phase: Phase) -> bool {
        self.phase.load(Ordering::Acquire) == phase as u8
    }

    fn enter(&self, phase: Phase) {
        self.phase.store(phase as u8, Ordering::Release);
    }

    /// Connects as soon as there is a broker.
    async fn connect(&self) -> Option<Stub> {
        let connecting = tokio::time::timeout(PATIENCE, Stub::connect(&self.url)).await;
        connecting.ok()?.ok()
    }
}

/// Lets chaos be for so long, with a kill of the broker about every `kill_every`, then checks that all was
/// processed.
///
/// # Panics
/// When a promise is broken, or anything else goes wrong. The data directory is kept then.
pub async fn run(
    chaos: Duration,
    kill_every: Duration,
    dice: Dice,
    mut progress: impl FnMut(&Counts),
) -> Counts {
    let mut broker = Broker::with_config(CONFIG).kept_after_failure();
    let partitions = PARTITIONS.to_string();
    broker
        .flowstone(["topic", "create", TOPIC, "-p", &partitions])
        .run()
        .ok();
    let proxy = Proxy::start().await;
    proxy.point_to(Some(broker.address()));
    let stage = Stage {
        url: proxy.url(),
        ledger: SharedLedger::default(),
        phase: Arc::default(),
    };
    let mut tasks = JoinSet::new();
    for number in 0..MEMBERS {
        tasks.spawn(Member::new(stage.clone(), number, dice.fork()).live());
    }
    for number in 0..PRODUCERS {
        tasks.spawn(producer::produce(stage.clone(), number, dice.fork()));
    }

    let begun = Instant::now();
    let mut next_kill = kill_every;
    while begun.elapsed() < chaos {
        tokio::time::sleep(Duration::from_millis(250)).await;
        if let Some(ended) = tasks.try_join_next() {
            ended.expect("a task fails only with a promise");
            panic!("a task has ended before its time");
        }
        if begun.elapsed() >= next_kill {
            kill(&mut broker, &proxy, &stage, &dice).await;
            next_kill =
                begun.elapsed() + kill_every.mul_f64(0.5 + dice.pick(0..100) as f64 / 100.0);
        }
        stage.ledger.lock().assert_holds("amid the chaos");
        progress(&stage.ledger.lock().counts());
    }

    stage.enter(Phase::Calm);
    let drained = tokio::time::timeout(WAIT, drain(&broker, &stage)).await;
    assert!(
        drained.is_ok(),
        "members do not get to the end: {:?}",
        lag(&broker).await
    );
    let settled = tokio::time::timeout(WAIT, settle(&broker)).await;
    assert!(
        settled.is_ok(),
        "the group does not settle: {:?}",
        group(&broker).await
    );
    stage.enter(Phase::Over);
    let joined = tokio::time::timeout(WAIT, async {
        while let Some(ended) = tasks.join_next().await {
            ended.expect("a task fails only with a promise");
        }
    });
    joined.await.expect("everybody leaves");
    let end: Vec<(i32, i64)> = lag(&broker)
        .await
        .into_iter()
        .map(|it| (it.0, it.2))
        .collect();
    let mut ledger = stage.ledger.lock();
    ledger.check_all_processed(&end);
    ledger.assert_holds("in the end");
    ledger.counts()
}

async fn kill(broker: &mut Broker, proxy: &Proxy, stage: &Stage, dice: &Dice) {
    broker.kill9();
    proxy.point_to(None);
    stage.ledger.lock().broker_killed();
    tokio::time::sleep(Duration::from_millis(dice.pick(0..300))).await;
    broker.restart();
    look_at_commits(broker, stage).await;
    proxy.point_to(Some(broker.address()));
}

/// Asks what is committed, which may be more by now, and holds it against what was known before.
async fn look_at_commits(broker: &Broker, stage: &Stage) -> Vec<(i32, i64, i64)> {
    let known = stage.ledger.lock().known();
    let lag = lag(broker).await;
    let mut ledger = stage.ledger.lock();
    for (partition, committed, _) in &lag {
        ledger.committed(&known, *partition, *committed);
    }
    drop(ledger);
    lag
}

/// Waits until all is committed.
async fn drain(broker: &Broker, stage: &Stage) {
    loop {
        let lag = look_at_commits(broker, stage).await;
        if lag.iter().all(|(_, committed, end)| committed == end) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Waits until every partition is with one member, and shared as evenly as can be.
async fn settle(broker: &Broker) {
    loop {
        let group = group(broker).await;
        let mut owned: Vec<i32> = Vec::new();
        let mut even = true;
        for member in &group.members {
            owned.extend(member.partitions.iter().map(|it| it.partition));
            even &= member.partitions.len() <= (PARTITIONS as usize).div_ceil(group.members.len());
        }
        owned.sort_unstable();
        let whole = owned == (0..PARTITIONS).collect::<Vec<_>>();
        if whole && even && group.state() == proto::GroupState::Stable {
            return;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

async fn group(broker: &Broker) -> proto::Group {
    let stub = Stub::connect(&broker.url())
        .await
        .expect("a broker that is ready takes connections");
    let request = proto::GetGroupRequest {
        group: GROUP.to_owned(),
    };
    match stub.groups.clone().get_group(request).await {
        Ok(response) => response.into_inner().group.expect("the answer has a group"),
        Err(status) if status.code() == tonic::Code::NotFound => proto::Group::default(),
        Err(status) => panic!("the group cannot be looked at: {status}"),
    }
}

/// Partition, committed offset (0 for none) and end.
async fn lag(broker: &Broker) -> Vec<(i32, i64, i64)> {
    let offsets = group(broker).await.offsets.into_iter();
    offsets
        .map(|it| {
            (
                it.partition,
                it.committed_offset.unwrap_or(0),
                it.high_watermark,
            )
        })
        .collect()
}
