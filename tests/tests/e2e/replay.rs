//! `flowstone replay`: a range is copied once, with everything that belongs to its records, whoever is
//! killed meanwhile.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use flowstone_client::{ProduceRequest, Record};
use flowstone_tests::{Broker, Process, Proxy};
use serde_json::Value;

const WAIT: Duration = Duration::from_secs(30);
const KEYS: u32 = 20;

/// A broker with topic `visits` of 4 partitions and `copy` of as many as told.
fn start(records: u32, copy_partitions: u32) -> Broker {
    let broker = Broker::start();
    for (topic, partitions) in [("visits", 4), ("copy", copy_partitions)] {
        let partitions = partitions.to_string();
        broker
            .flowstone(["topic", "create", topic, "-p", &partitions])
            .run()
            .ok();
    }
    produce(&broker, 0..records);
    broker
}

fn produce(broker: &Broker, numbers: std::ops::Range<u32>) {
    let lines: String = numbers
        .map(|n| format!("stand-{} visit {n}\n", n % KEYS))
        .collect();
    broker
        .flowstone(["produce", "visits", "-K", " ", "-H", "source=till"])
        .stdin(lines)
        .run()
        .ok();
}

/// All records of a topic, as `consume -J` prints them.
fn records(broker: &Broker, topic: &str) -> Vec<Value> {
    let run = broker.flowstone(["consume", topic, "-e", "-J"]).run().ok();
    run.lines()
        .into_iter()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

/// What a copy keeps of a record.
fn kept(record: &Value) -> (String, String) {
    let rest = ["ts", "headers", "payload"].map(|field| record[field].to_string());
    (record["key"].to_string(), rest.join(" "))
}

/// By key, in the order of the topic.
fn by_key<'a>(records: impl IntoIterator<Item = &'a Value>) -> BTreeMap<String, Vec<String>> {
    let mut found: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for record in records {
        let (key, rest) = kept(record);
        found.entry(key).or_default().push(rest);
    }
    found
}

fn replay(broker: &Broker, flags: &[&str]) -> flowstone_tests::Run {
    let args = ["replay", "visits", "--to", "copy"];
    broker.flowstone(args.iter().chain(flags)).run()
}

/// A replay that is under way, and slow enough to be disturbed.
fn slow_replay(broker: &Broker, url: &str) -> Process {
    let args = ["replay", "visits", "--to", "copy", "--rate", "2000/s"];
    broker.flowstone(args).env("FLOWSTONE_SERVER", url).spawn()
}

/// Waits until the copy has so many records more than now.
fn wait_for_records(broker: &Broker, count: usize) {
    let limit = count.to_string();
    let args = ["consume", "copy", "-o", "end", "-n", &limit];
    let mut reader = broker.flowstone(args).spawn();
    assert_eq!(reader.wait(WAIT).code(), Some(0), "{}", reader.printed());
}

fn assert_copied(broker: &Broker) {
    let (source, copy) = (records(broker, "visits"), records(broker, "copy"));
    assert_eq!(copy.len(), source.len());
    assert_eq!(by_key(&copy), by_key(&source));
}

#[test]
fn a_copy_has_the_times_keys_headers_and_order_of_the_original() {
    let broker = start(3_000, 3);
    let run = replay(&broker, &[]).ok();
    assert!(
        run.stderr.contains("copied 3,000 records"),
        "{}",
        run.stderr
    );
    assert_copied(&broker);
}

#[test]
fn the_same_command_copies_nothing_twice_and_goes_on_with_what_has_come() {
    let broker = start(1_000, 3);
    replay(&broker, &[]).ok();
    let again = replay(&broker, &[]).ok();
    assert!(
        again.stderr.contains("copied 0 records"),
        "{}",
        again.stderr
    );
    assert_copied(&broker);
    produce(&broker, 1_000..1_500);
    let more = replay(&broker, &["--output", "json"]).ok();
    assert!(more.stderr.contains("\"copied\":500"), "{}", more.stderr);
    assert_copied(&broker);
    replay(&broker, &["--run", "once more"]).ok();
    assert_eq!(records(&broker, "copy").len(), 3_000);
}

#[test]
fn a_range_and_partitions_may_be_chosen_and_kept() {
    let broker = start(4_000, 4);
    let flags = ["-o", "10:200", "-p", "1,3", "--same-partitions"];
    replay(&broker, &flags).ok();
    let wanted: Vec<_> = records(&broker, "visits")
        .into_iter()
        .filter(|record| [1, 3].contains(&record["partition"].as_i64().unwrap()))
        .filter(|record| (10..200).contains(&record["offset"].as_i64().unwrap()))
        .map(|record| (record["partition"].as_i64(), kept(&record)))
        .collect();
    let mut copy: Vec<_> = records(&broker, "copy")
        .into_iter()
        .map(|record| (record["partition"].as_i64(), kept(&record)))
        .collect();
    assert!(wanted.len() > 100);
    copy.sort_by_key(|(partition, _)| *partition);
    let mut wanted = wanted;
    wanted.sort_by_key(|(partition, _)| *partition);
    assert_eq!(copy, wanted);
}

/// The tool and the broker are killed in turn; each time the same command goes on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_is_killed_every_record_is_copied_once() {
    let mut broker = start(6_000, 3);
    let proxy = Proxy::start().await;
    proxy.point_to(Some(broker.address()));
    for kills_broker in [false, true, false] {
        let mut tool = slow_replay(&broker, &proxy.url());
        tokio::task::block_in_place(|| wait_for_records(&broker, 300));
        if kills_broker {
            broker.kill9();
            proxy.point_to(None);
            broker.restart();
            proxy.point_to(Some(broker.address()));
            // The tool goes on by itself.
            tokio::task::block_in_place(|| wait_for_records(&broker, 300));
        }
        assert!(tool.is_running(), "{}", tool.printed());
        tool.kill9();
    }
    let copied = records(&broker, "copy").len();
    assert!((600..6_000).contains(&copied), "{copied} are copied");
    let last = tokio::task::block_in_place(|| replay(&broker, &[]).ok());
    assert!(
        last.stderr.contains("going on at offset"),
        "{}",
        last.stderr
    );
    assert_copied(&broker);
}

#[test]
fn an_interrupted_replay_says_how_to_go_on() {
    let broker = start(6_000, 3);
    let mut tool = slow_replay(&broker, &broker.url());
    wait_for_records(&broker, 100);
    tool.interrupt();
    assert_eq!(tool.wait(WAIT).code(), Some(0), "{}", tool.printed());
    let told = tool.stderr().text();
    assert!(
        told.contains("the same command goes on from here"),
        "{told}"
    );
    assert!(records(&broker, "copy").len() < 6_000);
    replay(&broker, &[]).ok();
    assert_copied(&broker);
}

#[test]
fn a_second_run_of_the_same_name_takes_over_and_both_copy_once() {
    let broker = start(6_000, 3);
    let mut first = slow_replay(&broker, &broker.url());
    wait_for_records(&broker, 100);
    replay(&broker, &[]).ok();
    assert_eq!(first.wait(WAIT).code(), Some(1), "{}", first.printed());
    let told = first.stderr().text();
    assert!(told.contains("another replay of the same run"), "{told}");
    assert_copied(&broker);
}

#[tokio::test]
async fn records_keep_their_distance_in_time_where_that_is_asked_for() {
    let broker = start(0, 1);
    let records = [1_431_856_800_000, 1_431_856_801_000].map(|timestamp_ms| Record {
        timestamp_ms,
        ..Record::default()
    });
    let request = ProduceRequest {
        topic: "visits".to_owned(),
        records: records.to_vec(),
        ..ProduceRequest::default()
    };
    broker.client().produce(request).await.unwrap();
    let took = |flags: &[&str]| {
        let begun = Instant::now();
        replay(&broker, flags).ok();
        begun.elapsed()
    };
    let slow = took(&["--speed", "0.5x"]);
    assert!(slow >= Duration::from_millis(1_990), "{slow:?}");
    let rate = took(&["--rate", "60/m", "--run", "b"]);
    assert!(rate >= Duration::from_millis(990), "{rate:?}");
    assert_eq!(self::records(&broker, "copy").len(), 4);
}

#[test]
fn what_cannot_be_copied_is_told_with_what_to_do() {
    let broker = start(100, 2);
    replay(&broker, &["--same-partitions"]).fails(2, &["topic alter copy -p 4"]);
    replay(&broker, &["--rate", "fast"]).fails(2, &["500/s"]);
    replay(&broker, &["--speed", "0"]).fails(2, &["2x"]);
    replay(&broker, &["-o", "soon"]).fails(2, &["start, end, N, -N or @TIME"]);
    replay(&broker, &["-p", "9"]).fails(3, &["no partition 9"]);
    let absent = ["replay", "visits", "--to", "absent"];
    broker
        .flowstone(absent)
        .run()
        .fails(3, &["\"absent\" does not exist", "topic create"]);
    broker
        .flowstone(["topic", "alter", "copy", "--max-record-bytes", "20"])
        .run()
        .ok();
    replay(&broker, &[]).fails(1, &["the record at offset 0 could not be copied"]);
}
