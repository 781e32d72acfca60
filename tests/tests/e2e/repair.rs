//! `flowstone log repair`: two damaged segments cost two batches, and everything else goes on.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use flowstone_tests::{Broker, Run, flowstone};

const TOPIC: &str = "events";
const OTHER: &str = "other";
const CONFIG: &str = "\
[storage]
default_segment_bytes = 1048576

[limits]
max_record_bytes = 262144
max_request_bytes = 524288
max_records_per_request = 1000
";
/// Records of a call, which takes one or more batches, and calls: two and a half segments.
const IN_CALL: usize = 5;
const CALLS: usize = 12;
const RECORD_BYTES: usize = 40_000;

fn value(number: usize) -> String {
    format!("{number:0RECORD_BYTES$}")
}

fn filled() -> Broker {
    let broker = Broker::with_config(CONFIG);
    let produce = |topic: &str, lines: String| {
        broker.flowstone(["produce", topic]).stdin(lines).run().ok();
    };
    for topic in [TOPIC, OTHER] {
        let create = ["topic", "create", topic, "-p", "1"];
        broker.flowstone(create).run().ok();
    }
    for call in 0..CALLS {
        let numbers = call * IN_CALL..(call + 1) * IN_CALL;
        produce(TOPIC, numbers.map(|number| value(number) + "\n").collect());
    }
    produce(OTHER, "1\n".to_owned());
    broker
}

/// Every file below a directory, and its checksum.
fn contents(directory: &Path) -> BTreeMap<PathBuf, u32> {
    let mut found = BTreeMap::new();
    let mut directories = vec![directory.to_owned()];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                directories.push(path);
            } else {
                let checksum = crc32fast::hash(&fs::read(&path).unwrap());
                found.insert(path, checksum);
            }
        }
    }
    found
}

/// Flips a bit of the record with a number, and says in which file.
fn damage(data_dir: &Path, number: usize) -> PathBuf {
    let text = value(number);
    let segments = contents(data_dir)
        .into_keys()
        .filter(|path| path.extension().is_some_and(|ending| ending == "segment"));
    for path in segments {
        let mut bytes = fs::read(&path).unwrap();
        let found = bytes
            .windows(text.len())
            .position(|window| window == text.as_bytes());
        if let Some(at) = found {
            bytes[at + 1000] ^= 4;
            fs::write(&path, bytes).unwrap();
            return path;
        }
    }
    panic!("no segment holds record {number}");
}

fn log(command: &str, data_dir: &Path, flags: &[&str]) -> Run {
    let words = ["log", command, data_dir.to_str().unwrap()];
    flowstone(words.iter().chain(flags)).run()
}

const PARTITION: [&str; 4] = ["--topic", TOPIC, "--partition", "0"];

fn repair(data_dir: &Path, flags: &[&str]) -> Run {
    log("repair", data_dir, &[&PARTITION, flags].concat())
}

/// Its message says this.
#[track_caller]
fn told(run: &Run, fact: &str) {
    assert!(
        run.stderr.contains(fact),
        "{fact:?} is missing: {}",
        run.stderr
    );
}

/// The numbers of the records that a consumer was given.
fn numbers(run: &Run) -> Vec<usize> {
    let lines = run.lines().into_iter();
    lines.map(|line| line.parse().unwrap()).collect()
}

#[test]
fn a_repair_costs_the_damaged_batches_and_nothing_else() {
    let mut broker = filled();
    let read = |broker: &Broker, flags: &[&str]| {
        let consume = ["consume", TOPIC].iter().chain(flags);
        broker.flowstone(consume).run()
    };
    // A group stops before what is lost afterwards.
    let first = read(&broker, &["-g", "readers", "-n", "7"]).ok();
    assert_eq!(numbers(&first), (0..7).collect::<Vec<_>>());
    assert!(broker.terminate().status.success());
    let dir = broker.data_dir();
    log("verify", &dir, &[]).ok();
    let sound = repair(&dir, &["--accept-loss", "--execute"]).ok();
    told(&sound, "there is nothing to repair");

    let sealed = damage(&dir, 7);
    let active = damage(&dir, 58);
    assert_ne!(sealed, active);
    let verdict = log("verify", &dir, &[]).fails(5, &["damaged in 2 places", "log repair"]);
    for fact in [
        "(events 0): DAMAGED",
        sealed.to_str().unwrap(),
        active.to_str().unwrap(),
    ] {
        assert!(verdict.text().contains(fact), "{fact}: {}", verdict.text());
    }
    let plan = repair(&dir, &["--accept-loss", "--output", "json"])
        .ok()
        .json();
    let lost = lost(&plan);
    assert!(lost.contains(&7) && lost.contains(&58));
    let at_most: Vec<_> = (5..10).chain(55..60).collect();
    assert!(
        lost.iter().all(|offset| at_most.contains(offset)),
        "{lost:?}"
    );
    assert_eq!(plan["kept_records"], IN_CALL * CALLS - lost.len());
    assert_eq!(plan["end_offset"], IN_CALL * CALLS);
    assert_eq!(plan["executed"], false);

    // The rest is served meanwhile.
    broker.restart();
    let other = broker.flowstone(["consume", OTHER, "-e"]).run().ok();
    assert_eq!(other.lines(), ["1"]);
    let below = read(&broker, &["-e"]).fails(5, &["damaged at offset"]);
    assert_eq!(numbers(&below), (0..lost[0]).collect::<Vec<_>>());
    let produce = ["produce", TOPIC];
    let refused = broker.flowstone(produce).stdin("60\n").run();
    refused.fails(5, &["damaged at offset"]);
    assert!(broker.terminate().status.success());

    // Nothing is changed before it is agreed to, and then only when it is asked for.
    let before = contents(&dir);
    repair(&dir, &[]).fails(5, &["nothing was changed", "offsets", "--accept-loss"]);
    let shown = repair(&dir, &["--accept-loss"]).ok();
    told(&shown, "--execute");
    for fact in [
        "LOST: offsets",
        "stays in use up to offset",
        "go to a new segment",
    ] {
        assert!(shown.text().contains(fact), "{fact}: {}", shown.text());
    }
    assert_eq!(contents(&dir), before, "a plan changes nothing");
    let done = repair(&dir, &["--accept-loss", "--execute"]).ok();
    told(&done, "repaired and sound");
    log("verify", &dir, &[]).ok();
    let after = contents(&dir);
    for path in [&sealed, &active] {
        assert_eq!(
            after.get(path),
            before.get(path),
            "the damaged file is kept"
        );
    }

    broker.restart();
    let kept: Vec<_> = (0..60).filter(|offset| !lost.contains(offset)).collect();
    assert_eq!(numbers(&read(&broker, &["-e"]).ok()), kept);
    let next = kept.iter().find(|offset| **offset > 7).unwrap();
    let from_a_gap = read(&broker, &["-o", "7", "-n", "1"]).ok();
    assert_eq!(numbers(&from_a_gap), [*next]);
    broker.flowstone(produce).stdin("60\n").run().ok();
    let on: Vec<_> = kept
        .iter()
        .copied()
        .filter(|offset| *offset >= 7)
        .chain([60])
        .collect();
    assert_eq!(numbers(&read(&broker, &["-g", "readers", "-e"]).ok()), on);
    let last = read(&broker, &["-o", "60", "-e"]).ok();
    assert_eq!(numbers(&last), [60], "no offset is used again");
    assert!(broker.terminate().status.success());
    log("verify", &dir, &[]).ok();
}

/// The offsets that a plan gives up.
fn lost(plan: &serde_json::Value) -> Vec<usize> {
    let segments = plan["segments"].as_array().unwrap().iter();
    let ranges = segments.flat_map(|segment| segment["lost"].as_array().unwrap());
    let number = |range: &serde_json::Value, name: &str| {
        usize::try_from(range[name].as_u64().unwrap()).unwrap()
    };
    ranges
        .flat_map(|range| number(range, "from")..number(range, "to"))
        .collect()
}

#[test]
fn a_running_broker_and_unknown_partitions_are_not_repaired() {
    let broker = Broker::start();
    broker.flowstone(["topic", "create", TOPIC]).run().ok();
    let dir = broker.data_dir();
    let running = repair(&dir, &["--accept-loss", "--execute"]);
    running.fails(1, &["running broker"]);
    let mut broker = broker;
    assert!(broker.terminate().status.success());
    log("repair", &dir, &["--topic", "nothing", "--partition", "0"]).fails(3, &["no partition 0"]);
    log("repair", &dir, &["--id", "99"]).fails(3, &["id 99"]);
    log("repair", &dir, &["--topic", TOPIC]).fails(2, &["--partition"]);
    log("repair", &dir, &[]).fails(2, &["--topic"]);
    told(
        &log("repair", &dir, &["--id", "0"]).ok(),
        "metadata, internal",
    );
}

#[test]
fn a_damaged_producer_snapshot_costs_nothing_while_older_files_tell_the_same() {
    let mut broker = filled();
    assert!(broker.terminate().status.success());
    let dir = broker.data_dir();
    let snapshot = contents(&dir)
        .into_keys()
        .rfind(|path| path.extension().is_some_and(|ending| ending == "producers"))
        .expect("a segment that began behind the first has one");
    let mut bytes = fs::read(&snapshot).unwrap();
    bytes[100] ^= 4;
    fs::write(&snapshot, bytes).unwrap();
    let verdict = log("verify", &dir, &[]).fails(5, &["damaged in 1 place"]);
    for fact in ["(events 0): DAMAGED", snapshot.to_str().unwrap()] {
        assert!(verdict.text().contains(fact), "{fact}: {}", verdict.text());
    }

    broker.restart();
    let produce = ["produce", TOPIC];
    broker.flowstone(produce).stdin("60\n").run().ok();
    assert!(broker.terminate().status.success());
    repair(&dir, &[]).fails(5, &["loses no record"]);
    let done = repair(&dir, &["--accept-loss", "--execute"]).ok();
    told(&done, "it has lost no record");
    log("verify", &dir, &[]).ok();
    broker.restart();
    broker.flowstone(produce).stdin("61\n").run().ok();
    let read = broker.flowstone(["consume", TOPIC, "-e"]).run().ok();
    assert_eq!(numbers(&read), (0..62).collect::<Vec<_>>());
}
