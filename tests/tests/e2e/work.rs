//! What runs while a broker is killed or stopped: producers of three kinds, and a reader that commits.

mod endless;
mod follower;
mod lanes;
mod maker;

use std::sync::MutexGuard;

use flowstone_proto::v1 as proto;
use flowstone_tests::History;
use flowstone_tests::history::{Call, SharedHistory};
use tokio::sync::watch;
use tonic::{Code, Status};

pub(crate) use endless::Endless;
pub(crate) use follower::{GROUP, committed, follow};
pub(crate) use lanes::{stream, unary};
pub(crate) use maker::Maker;

const SHUTTING_DOWN: &str = "SHUTTING_DOWN";

/// The topic, its history, and how many records were acknowledged.
#[derive(Clone)]
pub(crate) struct Work {
    topic: &'static str,
    history: SharedHistory,
    acknowledged: watch::Sender<u64>,
}

impl Work {
    pub(crate) fn new(topic: &'static str) -> Self {
        Self {
            topic,
            history: SharedHistory::new(),
            acknowledged: watch::Sender::new(0),
        }
    }

    pub(crate) fn shared(&self) -> &SharedHistory {
        &self.history
    }

    pub(crate) fn history(&self) -> MutexGuard<'_, History> {
        self.history.lock()
    }

    /// Returns once so many more records are acknowledged than now.
    pub(crate) async fn acknowledged_beyond(&self, more: u64) {
        counts_up(&self.acknowledged, more).await;
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
fn is_the_end(status: &Status) -> bool {
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
