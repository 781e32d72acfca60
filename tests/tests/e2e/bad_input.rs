//! What goes wrong outside: every error is clear, names what to do, and loses nothing.

mod command_line;
mod directories;
mod records;
mod requests;

use flowstone_tests::Broker;

const TOPIC: &str = "visits";

/// A broker with a topic of two partitions, and ten records in each.
fn with_visits() -> Broker {
    let broker = Broker::start();
    broker
        .flowstone(["topic", "create", TOPIC, "-p", "2"])
        .run()
        .ok();
    for partition in ["0", "1"] {
        let lines: String = (0..10).map(|n| format!("{partition}:{n}\n")).collect();
        let produce = ["produce", TOPIC, "-p", partition];
        broker.flowstone(produce).stdin(lines).run().ok();
    }
    broker
}

/// The twenty records and nothing else.
#[track_caller]
fn assert_nothing_is_lost(broker: &Broker) {
    let consume = ["consume", TOPIC, "-e", "-f", "%p %o %s\n"];
    let run = broker.flowstone(consume).run().ok();
    let mut lines = run.lines();
    lines.sort_unstable();
    let record = |number| {
        let (partition, offset) = (number / 10, number % 10);
        format!("{partition} {offset} {partition}:{offset}")
    };
    let expected: Vec<String> = (0..20).map(record).collect();
    assert_eq!(lines, expected);
}
