//! A producer that outlives its brokers.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use flowstone_client::{Client, Delivery, reason};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use super::{Maker, Work, counts_up};
use crate::Proxy;
use crate::history::Call;

/// A producer of the client crate that lives on while brokers come and go.
#[derive(Debug)]
pub struct Endless {
    acknowledged: watch::Sender<u64>,
    stop: Arc<AtomicBool>,
    producing: JoinHandle<()>,
    answers: JoinHandle<()>,
}

impl Endless {
    /// Starts to produce to the topic, through the proxy.
    ///
    /// # Panics
    /// When the topic cannot be asked for.
    pub async fn start(work: &Work, proxy: &Proxy, mut maker: Maker) -> Self {
        let client = Client::connect(proxy.url()).expect("it is an address");
        let producer = client
            .producer(work.topic)
            .batch_bytes(4 << 10)
            .in_flight_bytes(32 << 10)
            .linger(Duration::from_millis(1))
            .build()
            .await
            .expect("the topic is there");
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let (sent, deliveries) = mpsc::unbounded_channel();
        let acknowledged = watch::Sender::new(0);
        let answers = answers(work.clone(), deliveries, acknowledged.clone());
        let answers = tokio::spawn(answers);
        let work = work.clone();
        let producing = tokio::spawn(async move {
            while !stopped.load(Ordering::Relaxed) {
                let record = maker.record();
                let calls = work.invoke(maker.producer(), std::slice::from_ref(&record));
                let delivery = producer.send(record).await.expect("it is not too large");
                sent.send((calls[0], delivery)).expect("somebody listens");
            }
            // Failures were told by the deliveries.
            let _ = producer.close().await;
        });
        Self {
            acknowledged,
            stop,
            producing,
            answers,
        }
    }

    /// Returns once so many more of its records are acknowledged than now.
    pub async fn acknowledged_beyond(&self, more: u64) {
        counts_up(&self.acknowledged, more).await;
    }

    /// Produces no more, and waits until all records are answered.
    ///
    /// # Panics
    /// When one was given up.
    pub async fn end(self) {
        self.stop.store(true, Ordering::Relaxed);
        self.producing.await.expect("it produces to its end");
        self.answers.await.expect("all answers are understood");
    }
}

/// Tells the history what became of each record.
async fn answers(
    work: Work,
    mut deliveries: mpsc::UnboundedReceiver<(Call, Delivery)>,
    acknowledged: watch::Sender<u64>,
) {
    while let Some((call, delivery)) = deliveries.recv().await {
        match delivery.await {
            Ok(at) => {
                work.history().acknowledged(call, at.partition, at.offset);
                work.acknowledged.send_modify(|count| *count += 1);
                acknowledged.send_modify(|count| *count += 1);
            }
            Err(error) if error.is(reason::OUTCOME_UNKNOWN) => {}
            Err(error) => panic!("a record was given up: {error}"),
        }
    }
}
