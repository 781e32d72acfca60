//! What happens to the broker and the topic meanwhile.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use flowstone_proto::v1 as proto;
use flowstone_tests::{Broker, Dice, Proxy, Stub};

use crate::TOPIC;
use crate::sender::Sender;

const MOST_PARTITIONS: i32 = 12;

static KILLS: AtomicU64 = AtomicU64::new(0);
static GROWTHS: AtomicU64 = AtomicU64::new(0);

/// The broker, and the address that clients know.
pub(crate) struct Weather {
    pub(crate) broker: Broker,
    pub(crate) partitions: i32,
    proxy: Proxy,
    dice: Dice,
}

impl Weather {
    pub(crate) fn new(broker: Broker, proxy: Proxy, dice: Dice) -> Self {
        Self {
            broker,
            partitions: 2,
            proxy,
            dice,
        }
    }

    /// Kills the broker and grows the topic, over and over.
    pub(crate) async fn rage(&mut self, time: Duration, sender: &Sender) {
        let end = Instant::now() + time;
        while Instant::now() < end {
            let calm = Duration::from_millis(self.dice.pick(100..1_500));
            tokio::time::sleep(calm).await;
            match self.dice.pick(0..4) {
                0 => self.grow().await,
                1 => {
                    // In the middle of the growth, or around it.
                    let delay = Duration::from_micros(self.dice.pick(0..8_000));
                    let broker = &mut self.broker;
                    let growth = grow(broker.url(), self.partitions + 1);
                    let _ = tokio::time::timeout(delay, growth).await;
                    self.kill().await;
                    self.partitions = partitions_of(&self.broker).await;
                }
                _ => self.kill().await,
            }
        }
        println!("{} calls in all weathers", sender.calls());
    }

    async fn grow(&mut self) {
        if self.partitions >= MOST_PARTITIONS {
            return;
        }
        let grown = grow(self.broker.url(), self.partitions + 1).await;
        self.partitions = grown.expect("a topic can grow");
        GROWTHS.fetch_add(1, Ordering::Relaxed);
    }

    async fn kill(&mut self) {
        self.proxy.point_to(None);
        self.broker.kill9();
        KILLS.fetch_add(1, Ordering::Relaxed);
        self.broker.restart();
        self.proxy.point_to(Some(self.broker.address()));
    }

    /// A last, orderly restart.
    pub(crate) fn end(mut self) -> Broker {
        assert!(self.broker.terminate().status.success(), "it ends well");
        self.broker.restart();
        self.broker
    }
}

async fn grow(url: String, partition_count: i32) -> Result<i32, tonic::Status> {
    let mut stub = Stub::connect(&url)
        .await
        .map_err(|error| tonic::Status::unavailable(error.to_string()))?;
    let request = proto::UpdateTopicRequest {
        topic: Some(proto::Topic {
            name: TOPIC.to_owned(),
            partition_count: partition_count.min(MOST_PARTITIONS),
            ..proto::Topic::default()
        }),
        update_mask: Some(prost_types::FieldMask {
            paths: vec!["partition_count".to_owned()],
        }),
    };
    let updated = stub.topics.update_topic(request).await?.into_inner();
    Ok(updated.topic.unwrap_or_default().partition_count)
}

/// How many partitions the topic has.
pub(crate) async fn partitions_of(broker: &Broker) -> i32 {
    let mut stub = Stub::connect(&broker.url()).await.expect("it is ready");
    let request = proto::GetTopicRequest {
        topic: TOPIC.to_owned(),
    };
    let found = stub.topics.get_topic(request).await;
    let topic = found.expect("the topic is there").into_inner().topic;
    topic.unwrap_or_default().partition_count
}

pub(crate) fn kills() -> u64 {
    KILLS.load(Ordering::Relaxed)
}

pub(crate) fn growths() -> u64 {
    GROWTHS.load(Ordering::Relaxed)
}
