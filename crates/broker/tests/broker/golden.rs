//! Data directories as earlier versions left them: this version opens each and reads it to the same
//! records. A directory is added when the format changes and is never made again.

use std::fs;
use std::path::{Path, PathBuf};

use flowstone_broker::{
    Broker, BrokerConfig, Cursor, Env, FetchRequest, ProduceRequest, Producer, Start, TopicSpec,
};
use pollster::block_on;

use crate::harness::{Record, decode, log_everything, run};

pub(crate) fn golden(version: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/golden")
        .join(version)
}

pub(crate) fn open(dir: &Path) -> Broker {
    log_everything();
    let mut config = BrokerConfig::new(dir);
    config.limits.min_segment_bytes = 1;
    config.limits.max_request_bytes = 4 << 10;
    config.limits.max_record_bytes = 2 << 10;
    config.limits.max_records_per_request = 100;
    Broker::open(config, Env::real()).expect("the directory opens")
}

/// All that the directory says: topics, records, what was trimmed, what groups have read.
fn contents(broker: &Broker) -> String {
    let mut out = String::new();
    for topic in broker.list_topics("", None, 100) {
        let (info, partitions) = broker.describe_topic(&topic.spec.name).unwrap();
        out += &format!(
            "topic {} id {} created {}\n",
            info.spec.name, info.id, info.created_ms
        );
        for (label, value) in &info.spec.labels {
            out += &format!("  label {label}={value}\n");
        }
        for partition in partitions {
            assert_eq!(partition.offline_reason, None);
            let (number, start, end) = (
                partition.partition,
                partition.log_start_offset,
                partition.high_watermark,
            );
            out += &format!("  partition {number} from {start} to {end}\n");
            let mut next = start;
            while next < end {
                let fetched = block_on(broker.fetch(FetchRequest {
                    topic: info.spec.name.clone(),
                    partition: number,
                    start: Start::Offset(next),
                    ..FetchRequest::default()
                }))
                .unwrap();
                for record in decode(&fetched.chunks) {
                    let text = |bytes: Option<Vec<u8>>| match bytes {
                        Some(bytes) => String::from_utf8(bytes).unwrap(),
                        None => "-".to_owned(),
                    };
                    let offset = record.offset.unwrap();
                    let (key, value) = (text(record.key), text(record.value));
                    out += &format!("    {offset} {} {key} {value}\n", record.timestamp_ms);
                }
                next = fetched.next_offset;
            }
        }
    }
    for group in broker.list_groups(None, 100) {
        let group = block_on(broker.describe_group(&group.name)).unwrap();
        for offset in group.offsets {
            if let Some(at) = offset.committed_offset {
                let (topic, partition) = (offset.topic, offset.partition);
                out += &format!("group {} {topic} {partition} at {at}\n", group.name);
            }
        }
    }
    out
}

pub(crate) fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// Opens a directory, holds it against what it held when it was made, and goes on in it.
fn assert_opens(dir: &Path, expected: &str, has_producer: bool) {
    let broker = open(dir);
    assert_eq!(contents(&broker), expected);
    if has_producer {
        for sequence in 1..=LOADED {
            let repeated = block_on(broker.produce(loaded(sequence))).unwrap();
            assert!(repeated.duplicate, "sequence {sequence}");
        }
    }
    block_on(broker.produce(request("visits", Some(1), vec![record(1, None, "and on")]))).unwrap();
    block_on(broker.shutdown()).unwrap();
    drop(broker);
    let broker = open(dir);
    let now = contents(&broker);
    assert_eq!(now.lines().count(), expected.lines().count() + 1, "{now}");
    block_on(broker.shutdown()).unwrap();
}

#[test]
fn directories_of_version_1_open_and_read_to_the_same_records() {
    for (name, has_producer) in [("v1", false), ("v1-producers", true)] {
        let temp = tempfile::tempdir().unwrap();
        copy(&golden(name), temp.path());
        let expected = fs::read_to_string(golden(&format!("{name}.txt"))).unwrap();
        assert_opens(temp.path(), &expected, has_producer);
    }
}

/// So that the one below works on the day that it is needed.
#[test]
fn a_directory_that_is_made_now_opens_and_reads_to_the_same_records() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("data");
    let made = make(&dir, "now");
    assert_opens(&dir, &made, true);
}

pub(crate) fn record(ms: i64, key: Option<&str>, value: &str) -> Record {
    Record {
        key: key.map(|key| key.as_bytes().to_vec()),
        value: Some(value.as_bytes().to_vec()),
        timestamp_ms: ms,
        ..Record::default()
    }
}

pub(crate) fn request(topic: &str, partition: Option<u32>, records: Vec<Record>) -> ProduceRequest {
    ProduceRequest {
        topic: topic.to_owned(),
        partition,
        records: run(records),
        ..ProduceRequest::default()
    }
}

/// How many requests of a producer there are, over several segments of their partition.
const LOADED: i64 = 40;

fn loaded(sequence: i64) -> ProduceRequest {
    let value = format!("load {sequence} {}", "v".repeat(700));
    ProduceRequest {
        producer: Some(Producer {
            id: "loader".to_owned(),
            epoch: 1,
            sequence,
        }),
        ..request(
            "visits",
            Some(1),
            vec![record(1_700_000_100_000, None, &value)],
        )
    }
}

/// Makes a directory as this version does, and tells what is in it.
fn make(dir: &Path, version: &str) -> String {
    let broker = open(dir);
    let mut visits = TopicSpec::new("visits", 2);
    visits.segment_bytes = Some(16 << 10);
    visits
        .labels
        .insert("made-by".to_owned(), version.to_owned());
    block_on(broker.create_topic(visits, false)).unwrap();
    block_on(broker.create_topic(TopicSpec::new("empty", 3), false)).unwrap();
    block_on(broker.create_topic(TopicSpec::new("gone", 1), false)).unwrap();
    block_on(broker.produce(request("gone", None, vec![record(1, None, "x")]))).unwrap();
    block_on(broker.delete_topic("gone")).unwrap();
    for n in 0..60_i64 {
        let value = format!("visit {n} {}", "v".repeat(500));
        let key = ["park", "harbour", "beach"][usize::try_from(n % 3).unwrap()];
        let records = vec![
            record(1_700_000_000_000 + n, Some(key), &value),
            Record::default(),
        ];
        block_on(broker.produce(request(
            "visits",
            Some(u32::try_from(n % 2).unwrap()),
            records,
        )))
        .unwrap();
    }
    let opened = block_on(broker.open_producer("visits", "loader")).unwrap();
    assert_eq!(opened.epoch, 1);
    for sequence in 1..=LOADED {
        block_on(broker.produce(loaded(sequence))).unwrap();
    }
    block_on(broker.trim_partition("visits", 0, 25)).unwrap();
    let cursor = Cursor {
        group: "accounts".to_owned(),
        topic: "visits".to_owned(),
        partition: 1,
        offset: 17,
        ..Cursor::default()
    };
    block_on(broker.commit_offsets(vec![cursor], Vec::new())).unwrap();
    let text = contents(&broker);
    block_on(broker.shutdown()).unwrap();
    text
}

/// Makes the directory of the present version. Run once for each version, before it is released:
/// `GOLDEN=v2 cargo test -p flowstone-broker --test broker golden -- --ignored`
#[test]
#[ignore = "makes a golden directory; run by hand when the format changes"]
fn make_the_golden_directory_of_this_version() {
    let version = std::env::var("GOLDEN").expect("GOLDEN names the version");
    let dir = golden(&version);
    assert!(
        !dir.exists(),
        "{} is there already, and is never made again",
        dir.display()
    );
    let text = make(&dir, &version);
    // It means nothing, and is large.
    fs::remove_file(dir.join("RESERVE")).unwrap();
    fs::write(golden(&format!("{version}.txt")), text).unwrap();
}
