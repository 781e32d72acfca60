//! The counts of the sliding windows are those that the file has, whoever was killed meanwhile.

#![allow(clippy::unwrap_used, reason = "a failed step is a failed test")]

use std::collections::BTreeMap;
use std::process::Command;
use std::time::{Duration, Instant};

use flowstone_tests::{Broker, Dice, Process, access_log, time_ms};

const WAIT: Duration = Duration::from_secs(60);
const PARTITIONS: &str = "4";
const PARTS: usize = 24;
const MEMBERS: [&str; 3] = ["one", "two", "three"];
const WINDOW: i64 = 600;
const SLIDE: i64 = 300;

/// Counts by client and window.
type Counts = BTreeMap<(String, i64), u64>;

fn member(broker: &Broker, name: &str) -> Process {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sliding-windows"));
    command.args([
        "access",
        "windows",
        "--server",
        &broker.url(),
        "--member",
        name,
    ]);
    Process::spawn(name, &mut command, None)
}

/// What the file itself says.
fn expected(lines: &[&str]) -> Counts {
    let mut counts = Counts::new();
    for line in lines {
        let (client, _) = line.split_once(' ').unwrap();
        let second = time_ms(line).div_euclid(1000);
        let first = (second - WINDOW).div_euclid(SLIDE) + 1;
        for window in first..=second.div_euclid(SLIDE) {
            *counts
                .entry((client.to_owned(), window * SLIDE))
                .or_default() += 1;
        }
    }
    counts
}

/// What the output says in all.
fn counted(broker: &Broker) -> Counts {
    let mut counts = Counts::new();
    let run = broker.flowstone(["consume", "windows", "-e", "-f", "%k %s\n"]);
    for line in run.run().ok().lines() {
        let fields: Vec<&str> = line.split(' ').collect();
        let [client, window, count] = fields[..] else {
            panic!("{line:?} is no count");
        };
        let key = (client.to_owned(), window.parse().unwrap());
        *counts.entry(key).or_default() += count.parse::<u64>().unwrap();
    }
    counts
}

/// Whether the group has committed all that there is.
fn is_done(broker: &Broker) -> bool {
    let args = ["group", "describe", "sliding-windows", "--output", "json"];
    let run = broker.flowstone(args).run();
    run.code == Some(0)
        && run.json()["offsets"].as_array().is_some_and(|offsets| {
            offsets.len().to_string() == PARTITIONS && offsets.iter().all(|at| at["lag"] == 0)
        })
}

#[test]
fn members_that_are_killed_at_will_count_every_request_once() {
    let broker = Broker::start();
    for topic in ["access", "windows"] {
        let args = ["topic", "create", topic, "-p", PARTITIONS];
        broker.flowstone(args).run().ok();
    }
    let log = access_log();
    let lines: Vec<&str> = log.lines().collect();
    let dice = Dice::new(7);
    let mut members: Vec<Process> = MEMBERS.iter().map(|name| member(&broker, name)).collect();
    for part in lines.chunks(lines.len().div_ceil(PARTS)) {
        broker
            .flowstone(["produce", "access", "-K", " "])
            .stdin(part.join("\n"))
            .run()
            .ok();
        let victim = dice.pick(0..MEMBERS.len() as u64) as usize;
        members[victim].kill9();
        members[victim] = member(&broker, MEMBERS[victim]);
    }
    let give_up_at = Instant::now() + WAIT;
    // Only asking tells.
    while !is_done(&broker) {
        let told = members.iter().map(Process::printed).collect::<Vec<_>>();
        assert!(Instant::now() < give_up_at, "{}", told.join("\n"));
        std::thread::sleep(Duration::from_millis(50));
    }
    assert_eq!(counted(&broker), expected(&lines));
}
