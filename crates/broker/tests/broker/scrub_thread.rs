//! The thread that scrubs, on a real disk.

use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use flowstone_broker::{
    Broker, BrokerConfig, Delivery, Env, Error, ProduceRequest, Start, SubscribeRequest, TopicSpec,
};
use pollster::block_on;

use crate::harness::{log_everything, read, values};

/// A broker with ten records of 3,000 bytes in small segments, and where the oldest one lies.
fn filled(dir: &Path, change: impl FnOnce(&mut BrokerConfig)) -> (Broker, PathBuf) {
    log_everything();
    let mut config = BrokerConfig::new(dir);
    config.limits.max_request_bytes = 8 << 10;
    config.limits.max_record_bytes = 4 << 10;
    config.limits.max_records_per_request = 100;
    config.limits.min_segment_bytes = 1;
    config.default_segment_bytes = 16 << 10;
    change(&mut config);
    let broker = Broker::open(config, Env::real()).unwrap();
    block_on(broker.create_topic(TopicSpec::new("visits", 1), false)).unwrap();
    for _ in 0..10 {
        let request = ProduceRequest {
            topic: "visits".to_owned(),
            partition: Some(0),
            acks: None,
            records: values(["x".repeat(3000)]),
            ..ProduceRequest::default()
        };
        block_on(broker.produce(request)).unwrap();
    }
    let mut segments: Vec<_> = std::fs::read_dir(dir.join("partitions/0000000016"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|kind| kind == "segment"))
        .collect();
    segments.sort();
    (broker, segments.remove(0))
}

#[test]
fn rot_that_nobody_reads_is_found_and_told() {
    let dir = tempfile::tempdir().unwrap();
    let (broker, segment) = filled(dir.path(), |config| config.scrub_interval_ms = 20);
    let at_the_end = SubscribeRequest {
        start: Start::Latest,
        ..read("visits")
    };
    let mut follows = block_on(broker.subscribe(at_the_end)).unwrap();
    let file = std::fs::OpenOptions::new()
        .write(true)
        .open(segment)
        .unwrap();
    file.write_all_at(b"y", 4096 + 128 + 1000).unwrap();
    match block_on(follows.next()) {
        Some(Ok(Delivery::PartitionError { error, .. })) => assert!(
            matches!(error, Error::CorruptSegment { offset: 0, .. }),
            "{error}"
        ),
        other => panic!("the damage should be told, not {other:?}"),
    }
    block_on(broker.shutdown()).unwrap();
}

#[test]
fn a_slow_scrub_does_not_hold_up_a_stop() {
    let dir = tempfile::tempdir().unwrap();
    let (broker, _) = filled(dir.path(), |config| {
        config.scrub_interval_ms = 1;
        config.scrub_bytes_per_second = 1;
    });
    let began = Instant::now();
    block_on(broker.shutdown()).unwrap();
    assert!(began.elapsed() < Duration::from_secs(10));
}
