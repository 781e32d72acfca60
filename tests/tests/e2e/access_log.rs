//! A web server's access log goes in and comes out: whole, in order per key, from anywhere to anywhere.

mod positions;
mod printing;
mod producing;

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use flowstone_tests::{Broker, access_log};

use crate::murmur2::partition_of;

const PARTITIONS: u32 = 8;

/// A record as it was printed.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Row {
    partition: u32,
    offset: u64,
    timestamp_ms: i64,
    /// Key, space, value: as the line was.
    line: String,
}

/// A broker whose topic `access` holds an access log that was produced in two halves.
struct Access {
    broker: Broker,
    lines: Vec<String>,
    /// How many lines the first half has.
    half: usize,
    /// A time behind all of the first half and before all of the second.
    between_ms: i64,
    _files: tempfile::TempDir,
    file: PathBuf,
}

impl Access {
    /// The topic with nothing in it.
    fn empty() -> Self {
        let broker = Broker::start();
        let partitions = PARTITIONS.to_string();
        broker
            .flowstone(["topic", "create", "access", "-p", &partitions])
            .run()
            .ok();
        let files = tempfile::tempdir().unwrap();
        let file = files.path().join("access.log");
        let log = access_log();
        fs::write(&file, &log).unwrap();
        let lines: Vec<_> = log.lines().map(str::to_owned).collect();
        Self {
            broker,
            half: lines.len() / 2,
            lines,
            between_ms: 0,
            _files: files,
            file,
        }
    }

    /// The topic with both halves.
    fn produced() -> Self {
        let mut access = Self::empty();
        let (first, second) = access.lines.split_at(access.half);
        let (first, second) = (first.join("\n"), second.join("\n"));
        access.produce(&first);
        let latest = access
            .consume(&["-e"])
            .iter()
            .map(|row| row.timestamp_ms)
            .max();
        access.between_ms = latest.unwrap() + 1;
        wait_until(access.between_ms);
        access.produce(&second);
        access
    }

    fn produce(&self, lines: &str) {
        let produce = ["produce", "access", "-K", " "];
        self.broker.flowstone(produce).stdin(lines).run().ok();
    }

    /// What `flowstone consume` prints with these flags, in the order in which it does. Order holds in
    /// each partition.
    fn consume(&self, flags: &[&str]) -> Vec<Row> {
        let args = ["consume", "access", "-f", "%p\t%o\t%T\t%k %s\n"];
        let run = self.broker.flowstone(args.iter().chain(flags)).run().ok();
        let rows: Vec<_> = run.lines().into_iter().map(row).collect();
        let mut next: BTreeMap<u32, u64> = BTreeMap::new();
        for row in &rows {
            let expected = next
                .insert(row.partition, row.offset + 1)
                .unwrap_or(row.offset);
            assert_eq!(
                row.offset, expected,
                "{flags:?}: the next of partition {}",
                row.partition
            );
        }
        rows
    }

    /// As [`Access::consume`], by partition and offset.
    fn sorted(&self, flags: &[&str]) -> Vec<Row> {
        let mut rows = self.consume(flags);
        rows.sort();
        rows
    }
}

fn row(line: &str) -> Row {
    let mut fields = line.splitn(4, '\t');
    let mut field = || {
        fields
            .next()
            .unwrap_or_else(|| panic!("a field is missing: {line:?}"))
    };
    Row {
        partition: field().parse().unwrap(),
        offset: field().parse().unwrap(),
        timestamp_ms: field().parse().unwrap(),
        line: field().to_owned(),
    }
}

fn now_ms() -> i64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap()
        .as_millis() as i64
}

/// Waits for the clock, which nothing else tells of.
fn wait_until(ms: i64) {
    let give_up_at = Instant::now() + Duration::from_secs(10);
    while now_ms() < ms {
        assert!(Instant::now() < give_up_at, "the clock stands still");
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn key_of(line: &str) -> &str {
    line.split_once(' ').unwrap().0
}

fn by_key<'a>(lines: impl Iterator<Item = &'a str>) -> HashMap<&'a str, Vec<&'a str>> {
    let mut keys: HashMap<_, Vec<_>> = HashMap::new();
    for line in lines {
        keys.entry(key_of(line)).or_default().push(line);
    }
    keys
}

#[test]
fn every_line_comes_back_in_the_order_of_its_key() {
    let access = Access::empty();
    let before_ms = now_ms();
    let produce = [
        "produce",
        "access",
        "-K",
        " ",
        access.file.to_str().unwrap(),
    ];
    let produced = access.broker.flowstone(produce).run().ok();
    let after_ms = now_ms();
    assert!(
        produced.stderr.contains("10,000 records"),
        "{}",
        produced.stderr
    );
    assert_eq!(produced.text(), "", "only records go to standard output");

    let rows = access.consume(&["-e"]);
    let mut came: Vec<&str> = rows.iter().map(|row| row.line.as_str()).collect();
    // In order per key: each key's lines, as they stand in the log.
    let went = access.lines.iter().map(String::as_str);
    assert_eq!(by_key(came.iter().copied()), by_key(went.clone()));
    // The same multiset of lines.
    let mut went: Vec<&str> = went.collect();
    went.sort_unstable();
    came.sort_unstable();
    assert_eq!(came.len(), went.len());
    assert!(came == went, "the lines are not the same");

    for row in &rows {
        let time = before_ms..=after_ms;
        assert!(
            time.contains(&row.timestamp_ms),
            "{row:?} is of another time than {time:?}"
        );
    }
    // The values alone, as they are printed unless told otherwise.
    let mut values: Vec<_> = rows
        .iter()
        .map(|row| row.line.split_once(' ').unwrap().1)
        .collect();
    let plain = access
        .broker
        .flowstone(["consume", "access", "-e"])
        .run()
        .ok();
    let mut printed = plain.lines();
    values.sort_unstable();
    printed.sort_unstable();
    assert!(printed == values, "the values are not the same");
}

#[test]
fn each_key_lies_in_the_partition_that_kafka_gives_it() {
    let access = Access::produced();
    let mut of_key: BTreeMap<&str, u32> = BTreeMap::new();
    let rows = access.consume(&["-e"]);
    for row in &rows {
        let key = key_of(&row.line);
        assert_eq!(
            row.partition,
            partition_of(key.as_bytes(), PARTITIONS),
            "{key}"
        );
        of_key.insert(key, row.partition);
    }
    assert_eq!(of_key.len(), 1_753);
    let used: std::collections::BTreeSet<_> = of_key.values().collect();
    assert_eq!(used.len(), PARTITIONS as usize, "all partitions are used");
}
