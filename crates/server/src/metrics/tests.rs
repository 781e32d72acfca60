//! The page of all metrics in the repository is the one that the table makes.

use std::fmt::Write as _;
use std::path::Path;

use super::families::FAMILIES;

fn reference_markdown() -> String {
    let mut out = String::from(
        "# Metrics\n\n\
         With `server.metrics_listen` (or `--metrics-listen`) set, `flowstone serve` answers \
         `GET /metrics` there, in the OpenMetrics text format that Prometheus reads. It is plain HTTP \
         without any check of who asks: listen on the loopback interface, or on one that only your \
         Prometheus reaches. At most 16 connections are served at a time.\n\n\
         ```toml\n[server]\nmetrics_listen = \"127.0.0.1:7421\"\n```\n\n\
         Counters begin with 0 at every start. Only topics are labels, no partitions, so that many \
         partitions do not make many series; the log tells which partition is damaged, and so does \
         `flowstone topic describe`.\n\n\
         Watch at least `flowstone_offline_partitions > 0`, \
         `rate(flowstone_produce_requests_total{reason=\"DISK_FULL\"}[5m]) > 0`, and the time since \
         `flowstone_scrub_last_round_timestamp_seconds`.\n\n\
         This page is made from the code; a test holds the two together.\n\n\
         | metric | kind | what it tells |\n|---|---|---|\n",
    );
    for family in FAMILIES {
        let (name, kind) = family.shown();
        let _ = writeln!(out, "| `{name}` | {kind} | {}. |", family.help);
    }
    out
}

#[test]
fn the_page_in_the_repository_is_the_one_that_the_table_makes() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/metrics.md");
    let made = reference_markdown();
    if std::env::var_os("BLESS").is_some() {
        std::fs::write(&path, &made).expect("the page can be written");
    }
    let found = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        found == made,
        "docs/metrics.md is not what the table makes: run BLESS=1 cargo test -p flowstone-server metrics"
    );
}

#[test]
fn names_are_unique_and_end_in_their_unit() {
    for (at, family) in FAMILIES.iter().enumerate() {
        assert!(family.name.starts_with("flowstone_"), "{}", family.name);
        assert!(!family.name.ends_with("_total"), "{}", family.name);
        assert!(!family.help.ends_with('.'), "{}", family.name);
        assert!(
            FAMILIES[at + 1..].iter().all(|f| f.name != family.name),
            "{}",
            family.name
        );
    }
}
