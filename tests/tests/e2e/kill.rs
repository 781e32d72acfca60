//! kill -9 of the broker while producers and readers run, over and over.

use std::time::{Duration, Instant};

use flowstone_tests::history::SharedHistory;
use flowstone_tests::{Broker, Dice, Proxy, Stub};
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::work::{self, Endless, Maker, Work, follow, stream, unary};

const TOPIC: &str = "kills";
const PARTITIONS: i32 = 4;
const UNARY_LANES: u32 = 4;
const STREAM_LANES: u32 = 2;
/// Segments roll every few cycles: a kill may come in the middle of that, too.
const CONFIG: &str = "[limits]\nmax_record_bytes = 65_536\nmax_request_bytes = 262_144\n\
                      max_records_per_request = 1_024\n";
const SEGMENT_BYTES: &str = "1MiB";
const WAIT: Duration = Duration::from_secs(30);

/// How often the broker is killed.
fn cycles() -> u64 {
    match std::env::var("FLOWSTONE_KILL_CYCLES") {
        Ok(cycles) => cycles.parse().expect("FLOWSTONE_KILL_CYCLES is a number"),
        Err(_) => 20,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_acknowledged_record_survives_kill_9_once_and_in_its_place() {
    let cycles = cycles();
    let dice = Dice::from_env();
    let work = Work::new(TOPIC);
    let mut broker = Broker::with_config(CONFIG);
    let partitions = PARTITIONS.to_string();
    let create = [
        "topic",
        "create",
        TOPIC,
        "-p",
        &partitions,
        "--segment-bytes",
        SEGMENT_BYTES,
    ];
    broker.flowstone(create).run().ok();

    // One producer lives through all of it and connects again by itself; the others have the plain
    // stubs, and end with each broker.
    let proxy = Proxy::start().await;
    proxy.point_to(Some(broker.address()));
    let endless = Endless::start(&work, &proxy, Maker::new(0, &dice)).await;
    let mut makers: Vec<_> = (1..=UNARY_LANES + STREAM_LANES)
        .map(|producer| Maker::new(producer, &dice))
        .collect();

    for cycle in 1..=cycles {
        let stub = Stub::connect(&broker.url()).await.unwrap();
        proxy.point_to(Some(broker.address()));
        let mut lanes = JoinSet::new();
        for maker in makers.drain(..) {
            let (work, stub) = (work.clone(), stub.clone());
            lanes.spawn(async move {
                if maker.producer() <= UNARY_LANES {
                    unary(&work, stub, maker).await
                } else {
                    let partition = maker.producer() as i32 % PARTITIONS;
                    stream(&work, stub, partition, maker).await
                }
            });
        }
        let follower = tokio::spawn(follow(work.clone(), stub));

        let (more, of_endless) = (dice.pick(50..1_500), dice.pick(1..100));
        let reached = timeout(WAIT, async {
            endless.acknowledged_beyond(of_endless).await;
            work.acknowledged_beyond(more).await;
        });
        assert!(
            reached.await.is_ok(),
            "cycle {cycle}: producing stalled: {:?}",
            work.history().counts()
        );
        // An ack comes right after a sync. The kill is to come anywhere.
        tokio::time::sleep(Duration::from_millis(dice.pick(0..12))).await;
        broker.kill9();
        proxy.point_to(None);
        while let Some(maker) = timeout(WAIT, lanes.join_next()).await.unwrap() {
            makers.push(maker.unwrap());
        }
        timeout(WAIT, follower).await.unwrap().unwrap();

        // Sometimes it is killed again before or while it recovers.
        while dice.once_in(3) {
            broker.restart_and_kill9(Duration::from_millis(dice.pick(0..80)));
        }
        if cycle % 5 == 0 {
            verify(&broker);
        }
        broker.restart();
        check(&broker, work.shared(), &format!("after kill {cycle}")).await;
    }

    proxy.point_to(Some(broker.address()));
    timeout(WAIT, endless.end()).await.unwrap();
    check(&broker, work.shared(), "in the end").await;
    assert!(broker.terminate().status.success());
    verify(&broker);
    broker.restart();
    check(&broker, work.shared(), "after the last restart").await;

    let counts = work.history().counts();
    eprintln!("{cycles} kills: {counts:?}");
    let unanswered = counts.unanswered_and_read + counts.unanswered_and_absent;
    assert!(
        unanswered as u64 >= cycles,
        "a kill interrupts something: {counts:?}"
    );
    let stub = Stub::connect(&broker.url()).await.unwrap();
    let committed = work::committed(&stub).await;
    assert!(
        cycles < 5 || !committed.is_empty(),
        "the reader has committed"
    );
}

/// Reads everything, and what is committed, and holds it against what was told before.
async fn check(broker: &Broker, history: &SharedHistory, when: &str) {
    let begun = Instant::now();
    let stub = Stub::connect(&broker.url()).await.unwrap();
    for partition in 0..PARTITIONS {
        let read = timeout(WAIT, stub.read_partition(TOPIC, partition)).await;
        let read = read
            .expect("reading ends")
            .unwrap_or_else(|status| panic!("{when}: {status}"));
        history
            .lock()
            .read_whole(partition, read.end, &read.records);
    }
    for (partition, offset) in work::committed(&stub).await {
        history.lock().committed(work::GROUP, partition, offset);
    }
    let history = history.lock();
    eprintln!(
        "{when}: {:?}, checked in {:?}",
        history.counts(),
        begun.elapsed()
    );
    history.assert_holds(when);
}

/// The files of a broker that is not running are sound; a torn tail is not damage.
fn verify(broker: &Broker) {
    let data_dir = broker.data_dir();
    broker
        .flowstone(["log", "verify", data_dir.to_str().unwrap()])
        .run()
        .ok();
}
