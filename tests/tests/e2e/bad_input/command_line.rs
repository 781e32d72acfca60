//! Wrong usage, wrong names, wrong files, and nobody who answers.

use std::fs;

use flowstone_tests::{binary, flowstone, server};
use tokio::net::TcpSocket;

use super::{TOPIC, assert_nothing_is_lost, with_visits};

#[test]
fn wrong_usage_exits_with_2_and_says_what_is_wrong() {
    let cases: [(&[&str], &str); 17] = [
        (&["brew"], "brew"),
        (&["topic"], "Usage"),
        (&["topic", "create"], "<NAME>"),
        (&["topic", "create", "t", "-p", "0"], "0"),
        (&["topic", "create", "t", "--retention", "soon"], "soon"),
        (&["produce"], "<TOPIC>"),
        (&["produce", TOPIC, "-p", "-1"], "-1"),
        (&["produce", TOPIC, "-K", ""], "--key-delimiter"),
        (&["produce", TOPIC, "-K", " ", "-k", "key"], "--key"),
        (&["produce", TOPIC, "-H", "novalue"], "name=value"),
        (
            &["consume", TOPIC, "-o", "soon"],
            "start, end, N, -N or @TIME",
        ),
        (&["consume", TOPIC, "-o", "@soon"], "@-1h"),
        (&["consume", TOPIC, "-f", "%q"], "%q"),
        (&["consume", TOPIC, "-J", "-f", "%s"], "--json"),
        (&["consume", TOPIC, "-g", "g", "-p", "0"], "--group"),
        (&["topic", "list", "--server", "ftp://broker"], "ftp"),
        (&["serve", "--listen", "nowhere"], "nowhere"),
    ];
    for (args, told) in cases {
        let run = flowstone(args).run().fails(2, &[told]);
        assert_eq!(run.stdout, b"", "{args:?}");
    }
}

#[test]
fn names_and_settings_that_the_broker_refuses_are_wrong_usage() {
    let broker = with_visits();
    let cases: [(&[&str], &[&str]); 3] = [
        (&["topic", "create", "a/b"], &["name:", "A-Z"]),
        (
            &["topic", "create", "t", "--segment-bytes", "1"],
            &["segment_bytes"],
        ),
        (&["consume", TOPIC, "-g", "a b\u{7}"], &["group"]),
    ];
    for (args, told) in cases {
        broker.flowstone(args).run().fails(2, told);
    }
    let too_many = ["topic", "create", "t", "-p", "1000000"];
    let told = ["max_partitions_per_topic", "10000", "configuration"];
    broker.flowstone(too_many).run().fails(1, &told);
    broker
        .flowstone(["topic", "create", TOPIC])
        .run()
        .fails(1, &[TOPIC, "exists already"]);
    assert_nothing_is_lost(&broker);
}

#[test]
fn what_is_not_there_exits_with_3_and_says_where_to_look() {
    let broker = with_visits();
    let no_topic: [&[&str]; 8] = [
        &["consume", "nosuch", "-e"],
        &["consume", "nosuch", "-g", "g", "-e"],
        &["consume", "nosuch", "-o", "5:9"],
        &["produce", "nosuch"],
        &["topic", "describe", "nosuch"],
        &["topic", "alter", "nosuch", "-p", "9"],
        &["topic", "delete", "nosuch", "--yes"],
        &["topic", "trim", "nosuch", "-p", "0", "--before", "1"],
    ];
    for args in no_topic {
        let told = [
            "nosuch",
            "does not exist",
            "flowstone topic list",
            "topic create",
        ];
        broker.flowstone(args).run().fails(3, &told);
    }
    let no_group = ["group", "describe", "nosuch"];
    broker
        .flowstone(no_group)
        .run()
        .fails(3, &["nosuch", "flowstone group list"]);
    let told = ["no partition 7", "it has 2"];
    broker
        .flowstone(["consume", TOPIC, "-p", "7", "-e"])
        .run()
        .fails(3, &told);
    broker
        .flowstone(["produce", TOPIC, "-p", "7"])
        .stdin("x\n")
        .run()
        .fails(3, &told);
    let no_file = ["produce", TOPIC, "/no/such/file"];
    broker.flowstone(no_file).run().fails(3, &["/no/such/file"]);
    let no_config = ["serve", "--config", "/no/such/file"];
    flowstone(no_config).run().fails(3, &["/no/such/file"]);
    let no_directory = ["log", "verify", "/no/such/directory"];
    flowstone(no_directory)
        .run()
        .fails(3, &["/no/such/directory"]);
    assert_nothing_is_lost(&broker);
}

#[test]
fn when_nobody_reads_what_is_printed_it_ends_without_a_word() {
    let broker = with_visits();
    let reset = ["group", "reset-offsets", "billing", TOPIC];
    let reset = [&reset[..], &["--to-earliest", "--execute"]].concat();
    broker.flowstone(reset).run().ok();
    let commands: [&[&str]; 8] = [
        &["topic", "list"],
        &["topic", "describe", TOPIC],
        &["group", "list"],
        &["group", "describe", "billing"],
        &["group", "lag", "billing"],
        &["group", "describe", "billing", "--output", "json"],
        &["consume", TOPIC, "-e"],
        &["consume", TOPIC, "-e", "--json"],
    ];
    for args in commands {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let mut command = server::command(binary());
        let command = command.args(args).env("FLOWSTONE_SERVER", broker.url());
        let ended = command.stdout(writer).output().unwrap();
        let told = String::from_utf8_lossy(&ended.stderr);
        assert_eq!((ended.status.code(), &*told), (Some(0), ""), "{args:?}");
    }
}

#[test]
fn nobody_at_the_address_exits_with_4_and_says_how_to_name_another() {
    // It holds its port, so that nobody else is given it, and does not listen.
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = socket.local_addr().unwrap().to_string();
    let commands: [&[&str]; 5] = [
        &["topic", "list"],
        &["produce", TOPIC],
        &["consume", TOPIC, "-e"],
        &["consume", TOPIC, "-g", "g"],
        &["group", "list"],
    ];
    for args in commands {
        let run = flowstone(args).env("FLOWSTONE_SERVER", format!("http://{address}"));
        run.run().fails(
            4,
            &[&address, "--server", "FLOWSTONE_SERVER", "flowstone serve"],
        );
    }
}

#[test]
fn a_setting_that_is_none_is_told_with_its_line() {
    let directory = tempfile::tempdir().unwrap();
    let config = directory.path().join("flowstone.toml");
    let data = directory.path().join("data");
    let cases = [
        (
            "[server]\nlisten = \"127.0.0.1:0\"\nportt = 1\n",
            ":3:",
            "portt",
        ),
        ("[server]\n\n[storge]\n", ":3:", "storge"),
        (
            "[limits]\nmax_record_bytes = \"big\"\n",
            ":2:",
            "max_record_bytes",
        ),
        ("[limits]\nmax_record_bytes = 0\n", "", "max_record_bytes"),
        ("[limits\n", "", "TOML"),
    ];
    for (toml, line, told) in cases {
        fs::write(&config, toml).unwrap();
        let (data_dir, file) = (data.to_str().unwrap(), config.to_str().unwrap());
        let args = ["serve", "--data-dir", data_dir, "--config", file];
        flowstone(args).run().fails(2, &[line, told]);
        assert!(!data.exists(), "nothing was made for {toml:?}");
    }
}
