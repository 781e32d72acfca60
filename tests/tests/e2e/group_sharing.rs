//! `flowstone consume --group` side by side: readers share a topic, come, go, and are moved.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use flowstone_tests::{Broker, Process};
use serde_json::Value;

const PARTITIONS: usize = 4;
const WAIT: Duration = Duration::from_secs(30);

fn start() -> Broker {
    let broker = Broker::start();
    let create = ["topic", "create", "visits", "-p", "4"];
    broker.flowstone(create).run().ok();
    broker
}

/// Appends records `from..to`, with keys that spread them over the partitions.
fn produce(broker: &Broker, numbers: std::ops::Range<u32>) {
    let lines: String = numbers
        .map(|n| format!("stand-{} visit {n}\n", n % 50))
        .collect();
    let produce = ["produce", "visits", "-K", " "];
    broker.flowstone(produce).stdin(lines).run().ok();
}

fn reader(broker: &Broker, flags: &[&str]) -> Process {
    let consume = ["consume", "visits", "-g", "billing", "-f", "%p/%o\n"];
    broker.flowstone([&consume, flags].concat()).spawn()
}

/// How often each place was printed.
fn printed(readers: &[&Process]) -> BTreeMap<String, usize> {
    let mut places = BTreeMap::new();
    for reader in readers {
        for line in reader.stdout().text().lines() {
            *places.entry(line.to_owned()).or_default() += 1;
        }
    }
    places
}

/// How many partitions each member has, once the group looks as it is meant to, which only asking
/// tells.
fn wait_for(broker: &Broker, readers: &[&Process], what: impl Fn(&[usize], i64) -> bool) {
    let give_up_at = Instant::now() + WAIT;
    loop {
        let describe = ["group", "describe", "billing", "--output", "json"];
        let run = broker.flowstone(describe).run();
        let group = if run.code == Some(0) {
            run.json()
        } else {
            Value::Null
        };
        let list = |name: &str| group[name].as_array().cloned().unwrap_or_default();
        let held = |member: &Value| member["partitions"].as_array().map_or(0, Vec::len);
        let members: Vec<usize> = list("members").iter().map(held).collect();
        let lags: Vec<i64> = list("offsets")
            .iter()
            .filter_map(|offset| offset["lag"].as_i64())
            .collect();
        let settled = ["stable", "empty"].contains(&group["state"].as_str().unwrap_or_default());
        if settled && lags.len() == PARTITIONS && what(&members, lags.iter().sum()) {
            return;
        }
        let told: Vec<String> = readers.iter().map(|reader| reader.printed()).collect();
        assert!(
            Instant::now() < give_up_at,
            "{group:#}\n{}",
            told.join("\n")
        );
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn stop(mut reader: Process) -> Process {
    reader.interrupt();
    assert_eq!(reader.wait(WAIT).code(), Some(0), "{}", reader.printed());
    reader
}

#[test]
fn readers_share_the_partitions_and_print_each_record_once_as_they_come_and_go() {
    let broker = start();
    produce(&broker, 0..1_000);
    let first = reader(&broker, &[]);
    wait_for(&broker, &[&first], |members, lag| {
        members == [4] && lag == 0
    });
    let second = reader(&broker, &[]);
    let third = reader(&broker, &["--max-uncommitted-records", "10"]);
    wait_for(&broker, &[&first, &second, &third], |members, _| {
        members.len() == 3 && members.iter().all(|&held| (1..=2).contains(&held))
    });
    produce(&broker, 1_000..3_000);
    wait_for(&broker, &[&first, &second, &third], |_, lag| lag == 0);
    // One leaves amid the work: it commits what it has printed.
    produce(&broker, 3_000..6_000);
    let second = stop(second);
    wait_for(&broker, &[&first, &third], |members, lag| {
        members == [2, 2] && lag == 0
    });
    assert!(!printed(&[&third]).is_empty(), "{}", third.printed());
    let (first, third) = (stop(first), stop(third));
    wait_for(&broker, &[], |members, _| members.is_empty());
    let places = printed(&[&first, &second, &third]);
    let twice: Vec<_> = places.iter().filter(|(_, times)| **times > 1).collect();
    assert_eq!(twice, [], "printed more than once");
    assert_eq!(places.len(), 6_000);
    for reader in [first, second, third] {
        assert_eq!(reader.stderr().text(), "", "nobody had to be warned");
    }
}

#[test]
fn a_second_reader_that_stops_at_the_end_waits_for_what_the_first_has_to_read() {
    let broker = start();
    produce(&broker, 0..2_000);
    let mut readers: Vec<Process> = (0..6).map(|_| reader(&broker, &["-e"])).collect();
    for reader in &mut readers {
        assert_eq!(reader.wait(WAIT).code(), Some(0), "{}", reader.printed());
    }
    let all: Vec<&Process> = readers.iter().collect();
    assert_eq!(printed(&all).len(), 2_000);
    wait_for(&broker, &all, |members, lag| members.is_empty() && lag == 0);
}

#[test]
fn a_forced_reset_moves_readers_that_are_there() {
    let broker = start();
    produce(&broker, 0..500);
    let first = reader(&broker, &[]);
    wait_for(&broker, &[&first], |members, lag| {
        members == [4] && lag == 0
    });
    let reset = [
        "group",
        "reset-offsets",
        "billing",
        "visits",
        "--to-earliest",
    ];
    let refused = broker
        .flowstone([&reset[..], &["--execute"]].concat())
        .run();
    refused.fails(1, &["billing", "active members", "group describe"]);
    let forced = [&reset[..], &["--force", "--execute"]].concat();
    let told = broker.flowstone(forced).run().ok();
    assert_eq!(told.lines().len(), 1 + PARTITIONS);
    let twice = first.stdout().wait_for(WAIT, |printed| {
        (printed.split(|&byte| byte == b'\n').count() > 1_000).then_some(())
    });
    assert!(twice.is_some(), "{}", first.printed());
    wait_for(&broker, &[&first], |members, lag| {
        members == [4] && lag == 0
    });
    let first = stop(first);
    let places = printed(&[&first]);
    assert_eq!(places.len(), 500);
    assert!(places.values().all(|&times| times == 2));
}

#[test]
fn a_named_reader_finds_its_partitions_again_and_ends_an_older_one_of_its_name() {
    let broker = start();
    produce(&broker, 0..100);
    let mut first = reader(&broker, &["--member", "till-1"]);
    let other = reader(&broker, &[]);
    wait_for(&broker, &[&first, &other], |members, lag| {
        members == [2, 2] && lag == 0
    });
    let second = reader(&broker, &["--member", "till-1"]);
    assert_eq!(first.wait(WAIT).code(), Some(1), "{}", first.printed());
    let told = first.stderr().text();
    assert!(
        told.contains("till-1") && told.contains("replaced"),
        "{told}"
    );
    wait_for(&broker, &[&second, &other], |members, _| members == [2, 2]);
    stop(second);
    stop(other);
}
