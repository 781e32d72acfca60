//! The broker with its threads, on a real disk.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, RwLock, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use flowstone_broker::{
    Acks, Broker, BrokerConfig, Cursor, Delivery, Env, Error, FetchRequest, OpenError,
    ProduceRequest, Start, Stop, SubscribeRequest, TopicChange, TopicSpec,
};
use flowstone_disk::{OpKind, SimDisk};
use pollster::block_on;

use crate::harness::{at, decode, log_everything, read, texts, values};
use crate::watched_disk;

fn config(dir: &Path) -> BrokerConfig {
    log_everything();
    let mut config = BrokerConfig::new(dir);
    config.append_threads = 2;
    config.read_threads = 2;
    config
}

fn open(dir: &Path) -> Broker {
    Broker::open(config(dir), Env::real()).expect("the directory opens")
}

fn topic(broker: &Broker, partition_count: u32) {
    block_on(broker.create_topic(TopicSpec::new("visits", partition_count), false)).unwrap();
}

fn request(partition: Option<u32>, value: &str) -> ProduceRequest {
    ProduceRequest {
        topic: "visits".to_owned(),
        partition,
        acks: None,
        records: values([value]),
        ..ProduceRequest::default()
    }
}

#[test]
fn requests_of_many_callers_are_all_there_and_share_syncs() {
    const CALLERS: usize = 16;
    const REQUESTS: usize = 100;
    let dir = tempfile::tempdir().unwrap();
    let syncs = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&syncs);
    let env = watched_disk::env(move || {
        counted.fetch_add(1, Ordering::Relaxed);
    });
    let broker = Broker::open(config(dir.path()), env).unwrap();
    topic(&broker, 1);
    syncs.store(0, Ordering::Relaxed);
    thread::scope(|scope| {
        for caller in 0..CALLERS {
            let broker = &broker;
            scope.spawn(move || {
                let mut last = None;
                for n in 0..REQUESTS {
                    let produced = broker.produce(request(Some(0), &format!("{caller} {n}")));
                    let offset = block_on(produced).unwrap().runs[0].base_offset;
                    assert!(
                        last.is_none_or(|last| last < offset),
                        "a caller's order is kept"
                    );
                    last = Some(offset);
                }
            });
        }
    });
    let total = (CALLERS * REQUESTS) as u64;
    let syncs = syncs.load(Ordering::Relaxed);
    assert!(syncs < total / 2, "{syncs} syncs for {total} requests");
    block_on(broker.shutdown()).unwrap();

    let broker = open(dir.path());
    let everything = SubscribeRequest {
        stop: Some(Stop::CurrentEnd),
        ..read("visits")
    };
    let mut found = follow(&broker, everything, usize::MAX);
    found.sort();
    let mut sent: Vec<String> = (0..CALLERS)
        .flat_map(|c| (0..REQUESTS).map(move |n| format!("{c} {n}")))
        .collect();
    sent.sort();
    assert_eq!(found, sent);
}

/// However many partitions are written to, and though none of their syncs comes to an end.
#[test]
fn an_ack_before_the_sync_waits_for_no_sync() {
    const PARTITIONS: u32 = 6;
    let dir = tempfile::tempdir().unwrap();
    let gate = Arc::new(RwLock::new(()));
    let passed = Arc::clone(&gate);
    let env = watched_disk::env(move || drop(passed.read().unwrap()));
    let broker = Broker::open(config(dir.path()), env).unwrap();
    topic(&broker, PARTITIONS);
    for partition in 0..PARTITIONS {
        block_on(broker.produce(request(Some(partition), "durable"))).unwrap();
    }
    thread::scope(|scope| {
        let shut = gate.write().unwrap();
        let (acked, acks) = mpsc::channel();
        let broker = &broker;
        scope.spawn(move || {
            for partition in 0..PARTITIONS {
                let early = ProduceRequest {
                    acks: Some(Acks::Written),
                    ..request(Some(partition), "written")
                };
                block_on(broker.produce(early)).unwrap();
                acked.send(()).unwrap();
            }
        });
        let within = Duration::from_secs(20);
        let count = (0..PARTITIONS)
            .take_while(|_| acks.recv_timeout(within).is_ok())
            .count();
        drop(shut);
        assert_eq!(count, PARTITIONS as usize, "partitions that were acked");
    });
    block_on(broker.shutdown()).unwrap();
}

/// Reads until the end of the subscription or until there are so many values.
fn follow(broker: &Broker, request: SubscribeRequest, count: usize) -> Vec<String> {
    let mut found = Vec::new();
    let mut reader = block_on(broker.subscribe(request)).unwrap();
    while found.len() < count {
        match block_on(reader.next()) {
            Some(Ok(Delivery::Records { chunks, .. })) => found.extend(texts(&chunks)),
            Some(Ok(Delivery::Assignment { .. })) => {}
            None => break,
            other => panic!("records should come, not {other:?}"),
        }
    }
    found
}

#[test]
fn a_reader_follows_what_is_appended_and_sees_each_record_once_in_order() {
    const RECORDS: usize = 2000;
    let dir = tempfile::tempdir().unwrap();
    let broker = open(dir.path());
    topic(&broker, 4);
    thread::scope(|scope| {
        let readers: Vec<_> = (0..3)
            .map(|_| scope.spawn(|| follow(&broker, read("visits"), RECORDS)))
            .collect();
        let pending: Vec<_> = (0..RECORDS)
            .map(|n| {
                let request = request(Some(n as u32 % 4), &n.to_string());
                let permit = block_on(broker.admit(request.records.len())).unwrap();
                broker.submit(request, permit).unwrap()
            })
            .collect();
        for pending in pending {
            block_on(pending).unwrap();
        }
        for reader in readers {
            let found = reader.join().unwrap();
            let mut by_partition: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
            for value in found {
                let n: usize = value.parse().unwrap();
                by_partition.entry(n % 4).or_default().push(n);
            }
            for (partition, found) in by_partition {
                assert_eq!(found, (partition..RECORDS).step_by(4).collect::<Vec<_>>());
            }
        }
    });
}

#[test]
fn dropping_the_broker_finishes_what_was_submitted() {
    let dir = tempfile::tempdir().unwrap();
    let broker = open(dir.path());
    topic(&broker, 2);
    for n in 0..200u32 {
        let request = request(Some(n % 2), &n.to_string());
        let permit = block_on(broker.admit(request.records.len())).unwrap();
        drop(broker.submit(request, permit).unwrap());
    }
    drop(broker);
    let broker = open(dir.path());
    let ends = broker.describe_topic("visits").unwrap().1;
    assert_eq!(
        ends.iter()
            .map(|info| info.high_watermark)
            .collect::<Vec<_>>(),
        [100, 100]
    );
}

#[test]
fn shutting_down_ends_readers_and_frees_the_directory() {
    let dir = tempfile::tempdir().unwrap();
    let broker = open(dir.path());
    topic(&broker, 1);
    let in_use = Broker::open(config(dir.path()), Env::real()).map(drop);
    assert!(matches!(
        in_use,
        Err(Error::Open(OpenError::DirectoryInUse { .. }))
    ));
    let mut reader = block_on(broker.subscribe(read("visits"))).unwrap();
    let waiting = thread::spawn(move || block_on(reader.next()));
    block_on(broker.shutdown()).unwrap();
    assert_eq!(waiting.join().unwrap(), Some(Err(Error::ShuttingDown)));
    block_on(broker.shutdown()).unwrap();
    open(dir.path());
}

#[test]
fn a_replaced_member_stops_waiting() {
    let dir = tempfile::tempdir().unwrap();
    let broker = open(dir.path());
    topic(&broker, 1);
    let till = || SubscribeRequest {
        group: Some("billing".to_owned()),
        member: "till".to_owned(),
        ..read("visits")
    };
    let mut first = block_on(broker.subscribe(till())).unwrap();
    assert!(matches!(
        block_on(first.next()),
        Some(Ok(Delivery::Assignment { .. }))
    ));
    let waiting = thread::spawn(move || block_on(first.next()));
    let second = block_on(broker.subscribe(till())).unwrap();
    let ended = waiting.join().unwrap();
    assert!(matches!(ended, Some(Err(Error::MemberReplaced { member, .. })) if member == "till"));
    drop(second);
}

#[test]
fn a_group_goes_on_where_it_committed_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let broker = open(dir.path());
    topic(&broker, 1);
    for n in 0..10 {
        block_on(broker.produce(request(Some(0), &n.to_string()))).unwrap();
    }
    let cursor = Cursor {
        group: "billing".to_owned(),
        ..at("visits", 0, 4)
    };
    block_on(broker.commit_offsets(vec![cursor], Vec::new())).unwrap();
    block_on(broker.shutdown()).unwrap();
    let broker = open(dir.path());
    let billing = SubscribeRequest {
        group: Some("billing".to_owned()),
        ..read("visits")
    };
    assert_eq!(follow(&broker, billing, 6), ["4", "5", "6", "7", "8", "9"]);
}

#[test]
fn a_topic_can_be_wide_and_then_wider() {
    let dir = tempfile::tempdir().unwrap();
    let broker = open(dir.path());
    topic(&broker, 9_000);
    let more = TopicChange {
        partition_count: Some(10_000),
        ..TopicChange::default()
    };
    block_on(broker.update_topic("visits", more)).unwrap();
    block_on(broker.produce(request(Some(9_999), "the last"))).unwrap();
    block_on(broker.shutdown()).unwrap();
    let partitions = std::fs::read_dir(dir.path().join("partitions"))
        .unwrap()
        .count();
    assert_eq!(partitions, 2, "empty partitions have no files");
    let broker = open(dir.path());
    let last = FetchRequest {
        topic: "visits".to_owned(),
        partition: 9_999,
        start: Start::Earliest,
        ..FetchRequest::default()
    };
    assert_eq!(
        decode(&block_on(broker.fetch(last)).unwrap().chunks).len(),
        1
    );
    block_on(broker.delete_topic("visits")).unwrap();
}

#[test]
fn large_requests_come_back_bit_for_bit() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = config(dir.path());
    config.default_segment_bytes = 5 << 20;
    let broker = Broker::open(config, Env::real()).unwrap();
    topic(&broker, 1);
    let value = |n: usize| vec![n as u8; (1 << 20) - 100];
    for n in 0..12 {
        let produce = broker.produce(ProduceRequest {
            topic: "visits".to_owned(),
            records: values([value(n)]),
            ..ProduceRequest::default()
        });
        block_on(produce).unwrap();
    }
    assert!(broker.describe_topic("visits").unwrap().1[0].segment_count > 2);
    let everything = SubscribeRequest {
        stop: Some(Stop::CurrentEnd),
        ..read("visits")
    };
    let mut reader = block_on(broker.subscribe(everything)).unwrap();
    let mut n = 0;
    while let Some(delivery) = block_on(reader.next()) {
        let Ok(Delivery::Records { chunks, .. }) = delivery else {
            panic!("records should come, not {delivery:?}");
        };
        for record in decode(&chunks) {
            assert_eq!(record.value, Some(value(n)));
            n += 1;
        }
    }
    assert_eq!(n, 12);
}

#[test]
fn commits_beside_snapshots_are_not_lost() {
    const GROUPS: u64 = 8;
    const COMMITS: u64 = 150;
    let dir = tempfile::tempdir().unwrap();
    let mut config = config(dir.path());
    config.snapshot_interval_bytes = 4096;
    let broker = Broker::open(config, Env::real()).unwrap();
    topic(&broker, 1);
    block_on(broker.produce(ProduceRequest {
        topic: "visits".to_owned(),
        records: values((0..COMMITS).map(|n| n.to_string())),
        ..ProduceRequest::default()
    }))
    .unwrap();
    let cursor = |group: u64, offset| Cursor {
        group: format!("group {group}"),
        ..at("visits", 0, offset)
    };
    thread::scope(|scope| {
        for group in 0..GROUPS {
            let (broker, cursor) = (&broker, &cursor);
            scope.spawn(move || {
                for offset in 1..=COMMITS {
                    let commit = broker.commit_offsets(vec![cursor(group, offset)], Vec::new());
                    assert_eq!(block_on(commit), Ok(flowstone_broker::Committed::default()));
                }
            });
        }
    });
    block_on(broker.shutdown()).unwrap();
    let broker = open(dir.path());
    for group in 0..GROUPS {
        let found = block_on(broker.describe_group(&format!("group {group}"))).unwrap();
        assert_eq!(found.offsets[0].committed_offset, Some(COMMITS));
    }
}

#[test]
fn what_a_topic_keeps_is_changed_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = config(dir.path());
    config.retention_interval_ms = 3_600_000;
    let broker = Broker::open(config, Env::real()).unwrap();
    topic(&broker, 1);
    block_on(broker.produce(request(Some(0), "old"))).unwrap();
    let begin = Instant::now();
    // The record may be too young for the first change, so that there are several.
    for retention_ms in [1, 2].into_iter().cycle() {
        let keep = TopicChange {
            retention_ms: Some(Some(retention_ms)),
            ..TopicChange::default()
        };
        block_on(broker.update_topic("visits", keep)).unwrap();
        if broker.describe_topic("visits").unwrap().1[0].log_start_offset > 0 {
            return;
        }
        assert!(
            begin.elapsed() < Duration::from_secs(30),
            "retention is not applied"
        );
    }
}

/// A broker with threads and a topic, whose disk notes what is done with it from now on.
fn traced_broker() -> (Broker, SimDisk) {
    let disk = SimDisk::new(1);
    let env = Env {
        disk: disk.disk(),
        ..Env::real()
    };
    let broker = Broker::open(config(Path::new("/data")), env).unwrap();
    topic(&broker, 1);
    disk.start_trace();
    (broker, disk)
}

/// Whoever commits a thousand times a second would wake the thread that keeps FLOOR as often.
#[test]
fn floor_is_told_in_rounds_and_not_of_each_commit() {
    let (broker, disk) = traced_broker();
    let begun = Instant::now();
    for _ in 0..500 {
        block_on(broker.produce(request(Some(0), "one"))).unwrap();
    }
    let rounds = begun.elapsed().as_millis() / 10 + 2;
    let trace = disk.take_trace();
    let told = trace
        .iter()
        .filter(|op| op.kind == OpKind::Write && op.path.ends_with("FLOOR"));
    let told = told.count() as u128;
    assert!(
        0 < told && told <= rounds,
        "{told} times in {rounds} rounds"
    );
}

/// Within the round that is waited for, or before what was written is synced.
#[test]
fn floor_is_on_disk_after_a_stop() {
    let (broker, disk) = traced_broker();
    block_on(broker.produce(request(Some(0), "one"))).unwrap();
    block_on(broker.shutdown()).unwrap();
    let of_floor = disk.take_trace().into_iter();
    let of_floor = of_floor.filter(|op| op.path.ends_with("FLOOR"));
    let kinds: Vec<_> = of_floor.map(|op| op.kind).collect();
    assert!(kinds.contains(&OpKind::Write), "{kinds:?}");
    assert_eq!(kinds.last(), Some(&OpKind::SyncData), "{kinds:?}");
}
