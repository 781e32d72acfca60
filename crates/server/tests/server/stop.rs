//! A stop finishes what runs, ends streams with a reason, and loses nothing.

use std::sync::Arc;
use std::time::{Duration, Instant};

use flowstone_disk::Env;
use flowstone_proto::v1;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Code;

use crate::gated_disk::Gate;
use crate::harness::{TestServer, assert_refused, to, trailer};

#[tokio::test(flavor = "multi_thread")]
async fn produces_in_flight_are_finished_and_all_acknowledged_ones_are_there_after() {
    let server = TestServer::start().await;
    server.create_topic("visits", 4).await;
    let (first_acks, mut acknowledged_some) = mpsc::channel(1_000);
    let writers: Vec<_> = (0..8)
        .map(|writer| {
            let mut log = server.log();
            let first_acks = first_acks.clone();
            tokio::spawn(async move {
                let mut acknowledged = Vec::new();
                for n in 0.. {
                    let value = format!("{writer}-{n}");
                    match log.produce(to("visits", &[&value])).await {
                        Ok(_) => acknowledged.push(value),
                        Err(status) => return (acknowledged, status),
                    }
                    let _ = first_acks.try_send(());
                }
                unreachable!("the server stops");
            })
        })
        .collect();
    for _ in 0..100 {
        acknowledged_some.recv().await.expect("writers write");
    }
    let started = Instant::now();
    let dir = server.stop().await;
    assert!(started.elapsed() < Duration::from_secs(5));

    let mut acknowledged = Vec::new();
    for writer in writers {
        let (values, status) = writer.await.expect("no panic");
        let told = trailer(&status, "reason");
        match status.code() {
            Code::Unavailable => {}
            // The connection was closed before the broker had seen the call.
            Code::Internal | Code::Cancelled | Code::Unknown => assert_eq!(told, None),
            _ => panic!("{status:?}"),
        }
        acknowledged.extend(values);
    }
    assert!(acknowledged.len() >= 100);

    let server = TestServer::start_in(dir, Env::real(), |_| {}).await;
    let mut read = Vec::new();
    for partition in 0..4 {
        read.extend(server.values("visits", partition).await);
    }
    read.sort();
    let unique = read.len();
    read.dedup();
    assert_eq!(read.len(), unique, "nothing twice");
    for value in acknowledged {
        assert!(
            read.binary_search(&value).is_ok(),
            "{value} was acknowledged"
        );
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_produce_that_waits_for_its_sync_is_answered() {
    let gate = Gate::default();
    let dir = Arc::new(tempfile::tempdir().expect("a directory"));
    let server = TestServer::start_in(dir, gate.env(), |_| {}).await;
    server.create_topic("visits", 1).await;
    server.append("visits", 0, &["first"]).await;
    gate.shut();
    let mut log = server.log();
    let call = tokio::spawn(async move { log.produce(to("visits", &["last"])).await });
    gate.somebody_waits().await;
    let (dir, served) = server.begin_stop();
    gate.open();
    call.await.expect("no panic").expect("acknowledged");
    served.await.expect("no panic").expect("stops cleanly");
    let server = TestServer::start_in(dir, Env::real(), |_| {}).await;
    assert_eq!(server.values("visits", 0).await, ["first", "last"]);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_end_with_shutting_down() {
    let server = TestServer::start().await;
    server.create_topic("visits", 1).await;
    server.append("visits", 0, &["a"]).await;
    let follow = v1::SubscribeRequest {
        topic: "visits".to_owned(),
        ..v1::SubscribeRequest::default()
    };
    let mut subscribed = server
        .log()
        .subscribe(follow)
        .await
        .expect("open")
        .into_inner();
    subscribed
        .message()
        .await
        .expect("no failure")
        .expect("records");

    let (requests, received) = mpsc::channel(10);
    let mut answers = server
        .log()
        .produce_stream(ReceiverStream::new(received))
        .await
        .expect("open")
        .into_inner();
    let request = v1::ProduceStreamRequest {
        produce: Some(to("visits", &["b"])),
    };
    requests.send(request).await.expect("open");
    answers
        .message()
        .await
        .expect("no failure")
        .expect("appended");

    let mut log = server.log();
    let mut waiting = Box::pin(log.fetch(v1::FetchRequest {
        topic: "visits".to_owned(),
        start: Some(v1::StartPosition {
            position: Some(v1::start_position::Position::Offset(2)),
        }),
        max_wait: Some(prost_types::Duration {
            seconds: 30,
            nanos: 0,
        }),
        ..v1::FetchRequest::default()
    }));
    // What was sent behind the fetch on the same connection is answered, so the fetch has come.
    tokio::select! {
        biased;
        fetched = &mut waiting => panic!("there is nothing to fetch: {fetched:?}"),
        _ = server.values("visits", 0) => {}
    }

    let started = Instant::now();
    let (_, served) = server.begin_stop();
    let status = loop {
        match subscribed.message().await {
            Ok(Some(_)) => {}
            Ok(None) => panic!("it ends with a reason"),
            Err(status) => break status,
        }
    };
    assert_refused(&status, Code::Unavailable, "SHUTTING_DOWN", &[]);
    let status = answers.message().await.expect_err("it ends with a reason");
    assert_refused(&status, Code::Unavailable, "SHUTTING_DOWN", &[]);
    let fetched = waiting.await.expect("answered with nothing");
    assert!(fetched.into_inner().records.is_empty());
    served.await.expect("no panic").expect("stops cleanly");
    assert!(
        started.elapsed() < Duration::from_secs(2),
        "nobody holds it up"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_does_not_read_cannot_hold_up_the_stop() {
    let server = TestServer::start_with(|config| config.shutdown_timeout_ms = 1_000).await;
    server.create_topic("visits", 1).await;
    let large = "x".repeat(500_000);
    for _ in 0..10 {
        server.append("visits", 0, &[&large, &large]).await;
    }
    let follow = v1::SubscribeRequest {
        topic: "visits".to_owned(),
        ..v1::SubscribeRequest::default()
    };
    let mut stalled = server
        .log()
        .subscribe(follow)
        .await
        .expect("open")
        .into_inner();
    stalled
        .message()
        .await
        .expect("no failure")
        .expect("records");
    let started = Instant::now();
    let dir = server.stop().await;
    assert!(started.elapsed() < Duration::from_secs(2));
    drop(stalled);
    let server = TestServer::start_in(dir, Env::real(), |_| {}).await;
    assert_eq!(server.values("visits", 0).await.len(), 20);
    server.stop().await;
}
