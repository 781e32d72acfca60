//! `flowstone bench`: its numbers are of what it did, and it leaves nothing behind.

use std::time::Duration;

use flowstone_tests::Broker;
use serde_json::Value;

fn number(of: &Value) -> f64 {
    of.as_f64()
        .unwrap_or_else(|| panic!("{of} is not a number"))
}

/// The quantiles of a result, which rise.
fn latencies(result: &Value) -> Vec<f64> {
    let ms = &result["latency"]["ms"];
    let quantiles: Vec<f64> = ["p50", "p90", "p99", "p99.9", "max"]
        .iter()
        .map(|name| number(&ms[name]))
        .collect();
    assert!(quantiles.is_sorted(), "{quantiles:?}");
    assert!(quantiles[0] > 0.0, "{quantiles:?}");
    quantiles
}

#[test]
fn records_that_are_counted_are_in_the_topic() {
    let broker = Broker::start();
    broker
        .flowstone(["topic", "create", "visits", "-p", "3"])
        .run()
        .ok();
    let args = ["bench", "produce", "visits", "-n", "3001", "-s", "100"];
    let more = ["-k", "7", "-P", "2", "--acks", "written", "--json"];
    let run = broker.flowstone(args.iter().chain(&more)).run().ok();
    let result = run.json();
    assert_eq!(result["records"], 3001);
    // A key is `key-N`.
    assert_eq!(result["bytes"], 3001 * 105);
    assert!(
        result["durability"]
            .as_str()
            .unwrap()
            .starts_with("written")
    );
    assert!(number(&result["broker"]["anonymous_bytes_max"]) > 0.0);
    latencies(&result);

    let count = broker.flowstone(["consume", "visits", "-e", "-f", "%k\n"]);
    let printed = count.run().ok();
    let mut keys = printed.lines();
    assert_eq!(keys.len(), 3001);
    keys.sort_unstable();
    keys.dedup();
    assert_eq!(keys.len(), 7);

    let read = broker.flowstone(["bench", "consume", "visits", "-c", "2", "--json"]);
    let result = read.run().ok().json();
    assert_eq!(result["records"], 3001);
    assert_eq!(result["bytes"], 3001 * 105);
}

#[test]
fn a_rate_is_kept_and_a_topic_that_was_made_is_gone_in_the_end() {
    let broker = Broker::start();
    let args = ["bench", "e2e", "-n", "300", "--rate", "1000", "--json"];
    let result = broker.flowstone(args).run().ok().json();
    assert_eq!(result["records"], 300);
    assert!(number(&result["seconds"]) >= 0.299, "{result}");
    assert!(
        result["durability"]
            .as_str()
            .unwrap()
            .starts_with("durable")
    );
    latencies(&result);
    let args = ["bench", "consume", "--fill", "64KiB", "--json"];
    let result = broker.flowstone(args).run().ok().json();
    assert_eq!(result["records"], 64);
    let topics = broker.flowstone(["topic", "list", "--output", "json"]);
    assert_eq!(topics.run().ok().json(), Value::Array(vec![]));
}

#[test]
fn what_cannot_be_measured_is_told() {
    let broker = Broker::start();
    let run = |args: &[&str]| broker.flowstone(args).run();
    run(&["bench", "produce", "nosuch"]).fails(3, &["nosuch", "flowstone topic create"]);
    run(&["bench", "consume", "-c", "3", "--fill", "1KiB"])
        .fails(2, &["3 consumers", "--partitions"]);
    run(&["bench", "produce", "--rate", "0"]).fails(2, &["records a second"]);
    run(&["bench", "produce", "--batch", "0"]).fails(2, &["write 1"]);
}

#[test]
fn a_stop_waits_for_acks_but_not_for_long() {
    let mut broker = Broker::start();
    broker.flowstone(["topic", "create", "visits"]).run().ok();
    let args = ["bench", "produce", "visits", "-d", "10m"];
    let mut bench = broker.flowstone(args).spawn();
    // It is at work once there is a record.
    broker
        .flowstone(["consume", "visits", "-n", "1"])
        .run()
        .ok();
    broker.process().stop();
    bench.interrupt();
    let status = bench.wait(Duration::from_secs(60));
    assert_eq!(status.code(), Some(1), "{}", bench.printed());
    let told = bench.stderr().text();
    assert!(told.contains("not acknowledged after 5s"), "{told}");
}
