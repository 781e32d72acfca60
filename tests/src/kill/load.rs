//! What runs against one broker until it is gone.

use std::time::Duration;

use flowstone_proto::v1 as proto;
use tokio::task::{JoinHandle, JoinSet};

use super::{PARTITIONS, TOPIC, connect};
use crate::work::{Maker, Work, committed, fetch, follow, is_the_end, stream, subscribe, unary};
use crate::{Broker, Dice, Stub};

const UNARY_LANES: u32 = 4;
const STREAM_LANES: u32 = 4;
const FETCHERS: u64 = 2;
/// A partition is not trimmed nearer than this to where it was read to.
const KEPT_RECORDS: i64 = 500;

/// The producers that have the plain stubs. Each has its successors in later brokers' lives.
#[derive(Debug)]
pub(super) struct Lanes(Vec<(u32, Maker)>);

/// Those of one broker's life.
#[derive(Debug)]
pub(super) struct Running {
    producers: JoinSet<(u32, Maker)>,
    others: Vec<JoinHandle<()>>,
}

impl Lanes {
    pub(super) fn new(dice: &Dice) -> Self {
        let lanes = 0..UNARY_LANES + STREAM_LANES;
        Self(
            lanes
                .map(|lane| (lane, Maker::new(lane + 1, dice)))
                .collect(),
        )
    }

    /// Starts them all, and the readers.
    pub(super) async fn start(&mut self, work: &Work, broker: &Broker, dice: &Dice) -> Running {
        let stub = connect(broker).await;
        let mut producers = JoinSet::new();
        for (lane, maker) in self.0.drain(..) {
            let (work, stub) = (work.clone(), stub.clone());
            producers.spawn(async move { (lane, produce(&work, stub, lane, maker).await) });
        }
        // Readers do not hold up the producers on one connection.
        let stub = connect(broker).await;
        let mut others = vec![
            tokio::spawn(follow(work.clone(), stub.clone())),
            tokio::spawn(subscribe(work.clone(), stub.clone(), PARTITIONS)),
            tokio::spawn(trim(work.clone(), stub.clone(), dice.fork())),
        ];
        for _ in 0..FETCHERS {
            let partition = dice.pick(0..PARTITIONS as u64) as i32;
            others.push(tokio::spawn(fetch(work.clone(), stub.clone(), partition)));
        }
        Running { producers, others }
    }

    /// Waits until all have seen that the broker is gone.
    pub(super) async fn join(&mut self, mut running: Running) {
        while let Some(ended) = running.producers.join_next().await {
            self.0
                .push(ended.expect("a producer fails only with its broker"));
        }
        self.0.sort_by_key(|(lane, _)| *lane);
        for other in running.others {
            other.await.expect("a reader fails only with its broker");
        }
    }
}

/// Over all partitions call by call, or to one of them over a stream; every other one of each kind
/// with acks that do not wait for the sync, which a kill does not undo.
async fn produce(work: &Work, stub: Stub, lane: u32, maker: Maker) -> Maker {
    let acks = if lane.is_multiple_of(2) {
        proto::Acks::Durable
    } else {
        proto::Acks::Written
    };
    if lane < UNARY_LANES {
        unary(work, stub, acks, maker).await
    } else {
        stream(work, stub, lane as i32 % PARTITIONS, acks, maker).await
    }
}

/// Trims one partition, sometimes, somewhere within what the group has committed and the last check
/// has read.
async fn trim(work: Work, stub: Stub, dice: Dice) {
    let partition = dice.pick(0..PARTITIONS as u64) as i32;
    let Some(committed) = work.in_time(committed(&stub)).await else {
        return;
    };
    let committed = committed.get(&partition).copied().unwrap_or(0);
    let most = committed.min(work.history().read_up_to(partition)) - KEPT_RECORDS;
    if most <= 0 || dice.once_in(2) {
        return;
    }
    tokio::time::sleep(Duration::from_millis(dice.pick(0..50))).await;
    let before_offset = most - dice.pick(0..KEPT_RECORDS as u64).min(most as u64) as i64;
    work.history().trimming(partition, before_offset);
    let request = proto::TrimPartitionRequest {
        topic: TOPIC.to_owned(),
        partition,
        before_offset,
    };
    let mut topics = stub.topics.clone();
    match work.in_time(topics.trim_partition(request)).await {
        Some(Ok(response)) => {
            let start = response.get_ref().log_start_offset;
            work.history().starts_at(partition, start);
        }
        Some(Err(status)) => assert!(is_the_end(&status), "{status}"),
        None => {}
    }
}
