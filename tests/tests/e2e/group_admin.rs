//! `flowstone group`: what an operator does with groups, and what it says when that cannot be.

use std::time::Duration;

use flowstone_tests::{Broker, Run};
use serde_json::json;

const WAIT: Duration = Duration::from_secs(20);

/// A topic of two partitions with ten records in the first, of which `billing` has read six.
fn start() -> Broker {
    let broker = Broker::start();
    let run = |args: &[&str], stdin: &str| {
        let invocation = broker.flowstone(args).stdin(stdin);
        invocation.run().ok();
    };
    run(&["topic", "create", "visits", "-p", "2"], "");
    let lines: String = (0..10).map(|n| format!("visit {n}\n")).collect();
    run(&["produce", "visits", "-p", "0"], &lines);
    let reset = ["group", "reset-offsets", "billing", "visits"];
    run(
        &[&reset[..], &["--to-offset", "6", "-p", "0", "--execute"]].concat(),
        "",
    );
    broker
}

fn group(broker: &Broker, args: &[&str]) -> Run {
    broker.flowstone([&["group"], args].concat()).run()
}

fn reset(broker: &Broker, flags: &[&str]) -> Run {
    group(
        broker,
        &[&["reset-offsets", "billing", "visits"], flags].concat(),
    )
}

/// Columns of a table, without the spaces between them.
fn rows(run: &Run) -> Vec<Vec<&str>> {
    let lines = run.lines();
    lines
        .iter()
        .map(|line| line.split_whitespace().collect())
        .collect()
}

#[test]
fn a_reset_is_shown_first_and_done_when_told() {
    let broker = start();
    let dry = reset(&broker, &["--to-earliest"]).ok();
    let table = [
        ["PARTITION", "BEFORE", "AFTER", "LAG"],
        ["0", "6", "0", "10"],
        ["1", "-", "0", "0"],
    ];
    assert_eq!(rows(&dry), table);
    assert!(
        dry.stderr.contains("nothing was changed; --execute"),
        "{}",
        dry.stderr
    );
    let json = [&["--last", "3"][..], &["--output", "json"]].concat();
    let told = reset(&broker, &json).ok().json();
    let expected = json!({
        "group": "billing", "topic": "visits", "executed": false,
        "partitions": [
            {"partition": 0, "before": 6, "after": 7, "lag": 3},
            {"partition": 1, "before": null, "after": 0, "lag": 0},
        ],
    });
    assert_eq!(told, expected);
    let done = reset(&broker, &["--shift-by", "-2", "--execute"]).ok();
    assert_eq!(rows(&done)[1..], [["0", "6", "4", "6"]]);
    let read = ["consume", "visits", "-g", "billing", "-e"];
    let read = broker.flowstone(read).run().ok();
    assert_eq!(read.lines()[0], "visit 4");

    let copy = [
        "reset-offsets",
        "audit",
        "visits",
        "--copy-from",
        "billing",
        "--execute",
    ];
    group(&broker, &copy).ok();
    let lag = group(&broker, &["lag", "audit", "--output", "json"])
        .ok()
        .json();
    assert_eq!(lag["lag"], 0);
    assert_eq!(lag["offsets"][0]["committed_offset"], 10);
}

#[test]
fn what_cannot_be_reset_is_said_so_that_one_knows_what_to_do() {
    let broker = start();
    reset(&broker, &[]).fails(2, &["--to-earliest", "--shift-by"]);
    reset(&broker, &["--to-offset", "11"]).fails(
        2,
        &["partition 0 has no offset 11", "starts at 0 and ends at 10"],
    );
    reset(&broker, &["--to-offset", "3"]).fails(2, &["partition 1 has no offset 3", "leave that"]);
    reset(&broker, &["--to-time", "soon"]).fails(2, &["soon", "no time", "@-1h"]);
    reset(&broker, &["--to-latest", "-p", "7"]).fails(3, &["no partition 7", "it has 2"]);
    reset(&broker, &["--copy-from", "nobody"]).fails(3, &["nobody", "group list"]);
    let topic = ["reset-offsets", "billing", "orders", "--to-latest"];
    group(&broker, &topic).fails(3, &["orders", "topic list"]);
    let nothing = ["reset-offsets", "audit", "visits", "--shift-by", "1"];
    group(&broker, &nothing).fails(3, &["audit", "does not exist"]);
    group(&broker, &["lag", "audit"]).fails(3, &["audit", "group list"]);
    group(&broker, &["delete", "audit"]).fails(3, &["audit", "group list"]);
    let elsewhere = broker.flowstone(["group", "lag", "billing"]);
    let elsewhere = elsewhere.env("FLOWSTONE_SERVER", "http://127.0.0.1:1");
    elsewhere
        .run()
        .fails(4, &["127.0.0.1:1", "flowstone serve"]);
}

#[test]
fn the_lag_is_shown_with_its_sum_and_again_until_interrupted() {
    let broker = start();
    let once = group(&broker, &["lag", "billing"]).ok();
    let shown = rows(&once);
    assert_eq!(
        shown[0],
        [
            "TOPIC",
            "PARTITION",
            "COMMITTED",
            "END",
            "LAG",
            "OLDEST",
            "UNREAD"
        ]
    );
    assert_eq!(shown[1][..5], ["visits", "0", "6", "10", "4"]);
    assert_eq!(shown[2], ["visits", "1", "-", "0", "0"]);
    assert_eq!(once.lines()[3], "group billing is 4 records behind");

    let watch = [
        "group",
        "lag",
        "billing",
        "--watch",
        "--interval",
        "10ms",
        "--output",
        "json",
    ];
    let mut watch = broker.flowstone(watch).spawn();
    let lags = |printed: &[u8]| -> Vec<i64> {
        let text = String::from_utf8(printed.to_vec()).unwrap();
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        let lag =
            |line: &str| serde_json::from_str::<serde_json::Value>(line).unwrap()["lag"].as_i64();
        whole.lines().filter_map(lag).collect()
    };
    let seen = |wanted: i64| {
        let seen = |printed: &[u8]| lags(printed).contains(&wanted).then_some(());
        let seen = watch.stdout().wait_for(WAIT, seen);
        assert!(seen.is_some(), "{}", watch.printed());
    };
    seen(4);
    reset(&broker, &["--to-latest", "--execute"]).ok();
    seen(0);
    watch.interrupt();
    assert_eq!(watch.wait(WAIT).code(), Some(0), "{}", watch.printed());
}

#[test]
fn a_deleted_group_is_gone_and_begins_anew() {
    let broker = start();
    let deleted = group(&broker, &["delete", "billing"]).ok();
    assert!(
        deleted.stderr.contains("deleted group billing"),
        "{}",
        deleted.stderr
    );
    let listed = group(&broker, &["list", "--output", "json"]).ok().json();
    assert_eq!(listed, json!([]));
    let read = ["consume", "visits", "-g", "billing", "-e"];
    assert_eq!(broker.flowstone(read).run().ok().lines().len(), 10);
}

#[test]
fn a_group_with_members_is_left_alone() {
    let broker = start();
    let mut member = broker
        .flowstone(["consume", "visits", "-g", "billing"])
        .spawn();
    let read = member.stdout().wait_for(WAIT, |printed| {
        printed.ends_with(b"visit 9\n").then_some(())
    });
    assert!(read.is_some(), "{}", member.printed());
    for args in [
        &["delete", "billing", "--yes"][..],
        &[
            "reset-offsets",
            "billing",
            "visits",
            "--to-earliest",
            "--execute",
        ],
    ] {
        group(&broker, args).fails(1, &["billing", "active member", "group describe"]);
    }
    assert!(member.is_running(), "{}", member.printed());
    member.terminate();
    assert_eq!(member.wait(WAIT).code(), Some(0), "{}", member.printed());
}
