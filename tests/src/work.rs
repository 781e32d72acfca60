//! What runs while a broker is killed or stopped: producers of three kinds, readers, and one that
//! commits what it has read.

mod endless;
mod follower;
mod lanes;
mod maker;
mod readers;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, MutexGuard};
use std::time::Duration;

use flowstone_proto::v1 as proto;
use tokio::sync::watch;
use tonic::{Code, Status};

use crate::History;
use crate::history::{Call, SharedHistory};

pub use endless::Endless;
pub use follower::{GROUP, committed, follow};
pub use lanes::{stream, unary};
pub use maker::Maker;
pub use readers::{fetch, subscribe};

const SHUTTING_DOWN: &str = "SHUTTING_DOWN";

/// No call takes anywhere near this while its broker is sound.
const PATIENCE: Duration = Duration::from_secs(30);

/// The topic, its history, and how much was done. Clones share it.
#[derive(Clone, Debug)]
pub struct Work {
    topic: &'static str,
    patience: Duration,
    history: SharedHistory,
    acknowledged: watch::Sender<u64>,
    read: Arc<AtomicU64>,
}

impl Work {
    /// Nothing was done yet.
    pub fn new(topic: &'static str) -> Self {
        Self::with_patience(topic, PATIENCE)
    }

    /// As [`Work::new`]; a call that is not answered for so long is given up, and its outcome is
    /// unknown.
    pub fn with_patience(topic: &'static str, patience: Duration) -> Self {
        Self {
            topic,
            patience,
            history: SharedHistory::new(),
            acknowledged: watch::Sender::new(0),
            read: Arc::default(),
        }
    }

    /// How many records readers were given, the same ones several times.
    pub fn records_read(&self) -> u64 {
        self.read.load(Ordering::Relaxed)
    }

    /// The history, to be kept.
    pub fn shared(&self) -> &SharedHistory {
        &self.history
    }

    /// The history, while nobody else uses it.
    pub fn history(&self) -> MutexGuard<'_, History> {
        self.history.lock()
    }

    /// Returns once so many more records are acknowledged than now.
    pub async fn acknowledged_beyond(&self, more: u64) {
        counts_up(&self.acknowledged, more).await;
    }

    /// A reader was given these records.
    pub fn read(&self, partition: i32, from: i64, records: &[proto::Record]) {
        self.count_read(records);
        self.history().read(partition, from, records);
    }

    pub(crate) fn count_read(&self, records: &[proto::Record]) {
        self.read.fetch_add(records.len() as u64, Ordering::Relaxed);
    }

    /// An answer in time; none when patience is at its end.
    pub async fn in_time<T>(&self, call: impl Future<Output = T>) -> Option<T> {
        tokio::time::timeout(self.patience, call).await.ok()
    }

    /// These records are about to be sent.
    fn invoke(&self, producer: u32, records: &[proto::Record]) -> Vec<Call> {
        let mut history = self.history();
        let calls = records.iter();
        calls
            .map(|record| history.invoke(producer, record))
            .collect()
    }

    /// The answer to a request of these records.
    fn acknowledge(&self, calls: &[Call], response: &proto::ProduceResponse) {
        let places = response.runs.iter().flat_map(|run| {
            let offsets = run.base_offset..run.base_offset + i64::from(run.record_count);
            offsets.map(|offset| (run.partition, offset))
        });
        let places: Vec<_> = places.collect();
        assert_eq!(places.len(), calls.len(), "an answer places each record");
        let mut history = self.history();
        for (&call, (partition, offset)) in calls.iter().zip(places) {
            history.acknowledged(call, partition, offset);
        }
        drop(history);
        self.acknowledged
            .send_modify(|count| *count += calls.len() as u64);
    }

    /// A call of these records failed since the broker ends.
    fn fail(&self, calls: &[Call], status: &Status) {
        assert!(is_the_end(status), "{status}");
        if is_shutting_down(status) {
            self.refuse(calls.to_vec());
        }
    }

    fn refuse(&self, calls: Vec<Call>) {
        let mut history = self.history();
        for call in calls {
            history.refused(call);
        }
    }
}

/// Returns once a counter is so much higher than now.
async fn counts_up(counter: &watch::Sender<u64>, more: u64) {
    let mut counter = counter.subscribe();
    let target = *counter.borrow() + more;
    let reached = counter.wait_for(|count| *count >= target).await;
    reached.expect("the caller holds a sender");
}

/// Whether a broker that ends may be the reason of a failure. All others would be a defect: there is
/// nothing to refuse.
pub(crate) fn is_the_end(status: &Status) -> bool {
    matches!(
        status.code(),
        Code::Unavailable | Code::Unknown | Code::Internal | Code::Cancelled
    )
}

/// What a broker says that takes no more: nothing of the request was appended.
fn is_shutting_down(status: &Status) -> bool {
    has_reason(status, SHUTTING_DOWN)
}

fn is_stale(status: &Status) -> bool {
    has_reason(status, "STALE_SESSION")
}

fn has_reason(status: &Status, reason: &str) -> bool {
    let told = status.metadata().get("flowstone-reason");
    told.is_some_and(|told| told == reason)
}
