//! What `flowstone produce` makes of lines.

use std::fs;

use flowstone_tests::Broker;

const TEMPLATE: &str = "%p|%K|%k|%s|%h\n";

fn visits() -> Broker {
    let broker = Broker::start();
    broker
        .flowstone(["topic", "create", "visits", "-p", "4"])
        .run()
        .ok();
    broker
}

/// Produces with these flags and prints what is in the topic then.
fn produced(broker: &Broker, flags: &[&str], stdin: &str) -> String {
    let args = ["produce", "visits"].iter().chain(flags);
    broker.flowstone(args).stdin(stdin).run().ok();
    let consume = ["consume", "visits", "-e", "-f", TEMPLATE];
    broker.flowstone(consume).run().ok().text().to_owned()
}

#[test]
fn the_key_stands_before_the_first_delimiter() {
    let broker = visits();
    let lines = "a => b => c\n => no key text\nno delimiter\nkey => \n";
    let printed = produced(&broker, &["-K", " => ", "-p", "1"], lines);
    assert_eq!(
        printed,
        "1|1|a|b => c|\n1|0||no key text|\n1|-1||no delimiter|\n1|3|key||\n"
    );
}

#[test]
fn one_key_and_headers_may_hold_for_all() {
    let broker = visits();
    let flags = ["-k", "stand-7", "-H", "till=2", "-H", "note=a=b", "-p", "3"];
    let printed = produced(&broker, &flags, "one\n\ntwo");
    let line = |value: &str| format!("3|7|stand-7|{value}|till=2,note=a=b\n");
    assert_eq!(printed, line("one") + &line("") + &line("two"));
}

#[test]
fn files_are_read_in_order_and_a_dash_is_standard_input() {
    let broker = visits();
    let files = tempfile::tempdir().unwrap();
    let path = |name: &str| files.path().join(name).to_str().unwrap().to_owned();
    fs::write(path("monday"), "1\n2\n").unwrap();
    fs::write(path("tuesday"), "4").unwrap();
    let flags = [&path("monday"), "-", &path("tuesday"), "-p", "0"];
    let printed = produced(&broker, &flags, "3");
    assert_eq!(printed, "0|-1||1|\n0|-1||2|\n0|-1||3|\n0|-1||4|\n");
}

#[test]
fn a_summary_goes_to_standard_error() {
    let broker = visits();
    let run = broker
        .flowstone(["produce", "visits"])
        .stdin("one\ntwo\n")
        .run()
        .ok();
    assert_eq!(run.stdout, b"");
    for part in ["2 records", "6 B", " s", "records/s"] {
        assert!(
            run.stderr.contains(part),
            "{part:?} is missing: {}",
            run.stderr
        );
    }
    let args = ["produce", "visits", "--output", "json"];
    let run = broker.flowstone(args).stdin("three\n").run().ok();
    let summary: serde_json::Value = serde_json::from_str(&run.stderr).unwrap();
    assert_eq!(summary["records"], 1);
    assert_eq!(summary["bytes"], 5);
    assert!(summary["seconds"].as_f64().unwrap() >= 0.0);
}

#[test]
fn an_empty_input_is_no_record() {
    let broker = visits();
    assert_eq!(produced(&broker, &[], ""), "");
}

/// The values of the topic, in order.
fn values(broker: &Broker) -> Vec<String> {
    let consume = ["consume", "visits", "-e", "-f", "%s\n"];
    let printed = broker.flowstone(consume).run().ok().text().to_owned();
    let mut values: Vec<_> = printed.lines().map(str::to_owned).collect();
    values.sort();
    values
}

#[test]
fn a_run_under_a_name_goes_on_where_an_earlier_one_was_cut_off() {
    for partition in [None, Some("2")] {
        let broker = visits();
        let produce = |flags: &[&str], stdin: &str| {
            let place = partition.iter().flat_map(|number| ["-p", number]);
            let named = ["produce", "visits", "--producer-id", "importer"];
            let args = named.into_iter().chain(place).chain(flags.iter().copied());
            broker.flowstone(args).stdin(stdin).run().ok();
        };
        produce(&[], "1\n2\n3\n");
        produce(&["--resume"], "1\n2\n3\n4\n5\n");
        assert_eq!(values(&broker), ["1", "2", "3", "4", "5"]);
        // Without it the lines are other ones.
        produce(&[], "6\n");
        produce(&["--resume"], "1\n2\n3\n4\n5\n6\n7\n");
        assert_eq!(values(&broker), ["1", "2", "3", "4", "5", "6", "7"]);
    }
}

#[test]
fn lines_go_to_the_expected_offset_or_nowhere() {
    let broker = visits();
    let produce = |offset: &str, stdin: &str| {
        let at = ["produce", "visits", "-p", "1", "--expected-offset", offset];
        broker.flowstone(at).stdin(stdin).run()
    };
    produce("0", "a\nb\n").ok();
    produce("0", "c\n").fails(1, &["next offset", "2"]);
    produce("2", "c\n").ok();
    assert_eq!(values(&broker), ["a", "b", "c"]);
}
