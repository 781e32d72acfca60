//! A broker that is asked to stop: it finishes what it has begun, and ends within 5 seconds.

use std::time::Duration;

use flowstone_proto::v1 as proto;
use flowstone_tests::work::{Endless, Maker, Work, follow, stream, unary};
use flowstone_tests::{Broker, Dice, Proxy, Stopped, Stub, flowstone};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::timeout;

const TOPIC: &str = "stops";
const PARTITIONS: i32 = 3;
const STOP_LIMIT: Duration = Duration::from_secs(5);
const WAIT: Duration = Duration::from_secs(30);

fn start() -> Broker {
    let broker = Broker::start();
    let partitions = PARTITIONS.to_string();
    broker
        .flowstone(["topic", "create", TOPIC, "-p", &partitions])
        .run()
        .ok();
    broker
}

#[track_caller]
fn assert_stopped_well(broker: &Broker, stopped: &Stopped) {
    assert_eq!(stopped.status.code(), Some(0), "{}", broker.log());
    assert!(
        stopped.took < STOP_LIMIT,
        "{:?}\n{}",
        stopped.took,
        broker.log()
    );
    // Nothing is left that looks as if a crash had cut it off, nor is there any damage.
    let dir = broker.data_dir();
    let verify = ["log", "verify", dir.to_str().unwrap(), "--output", "json"];
    let partitions = flowstone(verify).run().ok().json();
    for partition in partitions.as_array().unwrap() {
        for segment in partition["segments"].as_array().unwrap() {
            assert_eq!(segment["torn_tail"], false, "{partition}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_under_load_loses_nothing_and_leaves_nothing_open() {
    let dice = Dice::from_env();
    let work = Work::new(TOPIC);
    let mut broker = start();
    let proxy = Proxy::start().await;
    proxy.point_to(Some(broker.address()));
    let endless = Endless::start(&work, &proxy, Maker::new(0, &dice)).await;
    let stub = Stub::connect(&broker.url()).await.unwrap();
    let mut lanes = JoinSet::new();
    for producer in 1..=4 {
        let (work, stub, maker) = (work.clone(), stub.clone(), Maker::new(producer, &dice));
        lanes.spawn(async move {
            match producer {
                4 => stream(&work, stub, 0, proto::Acks::Durable, maker).await,
                _ => unary(&work, stub, proto::Acks::Durable, maker).await,
            };
        });
    }
    let follower = tokio::spawn(follow(work.clone(), stub));
    timeout(WAIT, work.acknowledged_beyond(1_000))
        .await
        .expect("producing goes on");

    let stopped = broker.terminate();
    proxy.point_to(None);
    while let Some(ended) = timeout(WAIT, lanes.join_next()).await.unwrap() {
        ended.unwrap();
    }
    timeout(WAIT, follower).await.unwrap().unwrap();
    assert_stopped_well(&broker, &stopped);
    eprintln!(
        "stopped in {:?}: {:?}",
        stopped.took,
        work.history().counts()
    );

    // The client's producer repeats what was refused, and goes on.
    broker.restart();
    proxy.point_to(Some(broker.address()));
    timeout(WAIT, endless.acknowledged_beyond(100))
        .await
        .expect("producing goes on");
    timeout(WAIT, endless.end()).await.unwrap();
    let stub = Stub::connect(&broker.url()).await.unwrap();
    for partition in 0..PARTITIONS {
        let read = stub.read_partition(TOPIC, partition).await.unwrap();
        work.history()
            .read_whole(partition, read.end, &read.records);
    }
    let history = work.history();
    history.assert_holds("after the stop");
    let counts = history.counts();
    assert_eq!(
        counts.unanswered_and_read, 0,
        "what was appended was acknowledged: {counts:?}"
    );
    drop(history);
    let stopped = broker.terminate();
    assert_stopped_well(&broker, &stopped);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_that_hang_do_not_hold_up_a_stop() {
    let mut broker = start();
    let lines = "x".repeat(1_000) + "\n";
    broker
        .flowstone(["produce", TOPIC])
        .stdin(lines.repeat(20_000))
        .run()
        .ok();
    // One connects and says nothing, one stops in the middle of a greeting, one does not read what it
    // has asked for, and one waits for what does not come.
    let mut silent = TcpStream::connect(broker.address()).await.unwrap();
    let mut greeting = TcpStream::connect(broker.address()).await.unwrap();
    greeting.write_all(b"PRI * HTTP/2.0\r\n").await.unwrap();
    let stub = Stub::connect(&broker.url()).await.unwrap();
    let everything = proto::SubscribeRequest {
        topic: TOPIC.to_owned(),
        ..proto::SubscribeRequest::default()
    };
    let unread = stub.log.clone().subscribe(everything).await.unwrap();
    let wait = proto::FetchRequest {
        topic: TOPIC.to_owned(),
        start: Some(proto::StartPosition {
            position: Some(proto::start_position::Position::Anchor(
                proto::start_position::Anchor::Latest.into(),
            )),
        }),
        max_wait: Some(prost_types::Duration {
            seconds: 60,
            nanos: 0,
        }),
        ..proto::FetchRequest::default()
    };
    let mut log = stub.log.clone();
    let waiting = tokio::spawn(async move { log.fetch(wait).await });

    let stopped = broker.terminate();
    assert_stopped_well(&broker, &stopped);
    assert!(timeout(WAIT, waiting).await.is_ok(), "the call has ended");
    drop(unread);
    assert!(silent.shutdown().await.is_ok());
}

#[test]
fn ctrl_c_stops_an_idle_broker_at_once_and_the_next_one_can_start() {
    let mut broker = start();
    broker.process().interrupt();
    let status = broker.process().wait(STOP_LIMIT);
    assert_eq!(status.code(), Some(0), "{}", broker.log());
    broker.restart();
    let topics = broker.flowstone(["topic", "list"]).run().ok();
    assert!(topics.text().contains(TOPIC));
    let stopped = broker.terminate();
    assert_stopped_well(&broker, &stopped);
}
