//! Where reading begins and ends: `-o` with times, counts and ranges, `-e`, `-n`, `-p`.

use std::time::Duration;

use flowstone_proto::v1 as proto;
use flowstone_tests::{Broker, Stub, access_log, time_ms};

use super::{Access, PARTITIONS, Row, key_of, row};

const WAIT: Duration = Duration::from_secs(20);

/// The rows that a condition holds for, given the end of their partition.
fn only(rows: &[Row], holds: impl Fn(&Row, u64) -> bool) -> Vec<Row> {
    let end = |partition| rows.iter().filter(|row| row.partition == partition).count() as u64;
    let ends: Vec<u64> = (0..PARTITIONS).map(end).collect();
    let found = rows
        .iter()
        .filter(|row| holds(row, ends[row.partition as usize]));
    found.cloned().collect()
}

#[track_caller]
fn assert_same(found: Vec<Row>, expected: Vec<Row>) {
    assert_eq!(found.len(), expected.len(), "the number of records");
    for (found, expected) in found.iter().zip(&expected) {
        assert_eq!(found, expected);
    }
}

#[test]
fn a_time_divides_what_came_before_from_what_came_after() {
    let access = Access::produced();
    let all = access.sorted(&["-e"]);
    let moment = access.between_ms;
    let first = only(&all, |row, _| row.timestamp_ms < moment);
    let second = only(&all, |row, _| row.timestamp_ms >= moment);
    let (one_half, other_half) = access.lines.split_at(access.half);
    let mut lines: Vec<_> = second.iter().map(|row| &row.line).collect();
    let mut expected: Vec<_> = other_half.iter().collect();
    lines.sort();
    expected.sort();
    assert!(
        lines == expected,
        "the second half is what came after the moment"
    );
    assert_eq!(first.len(), one_half.len());

    let written = jiff::Timestamp::from_millisecond(moment).unwrap();
    for at in [
        format!("@{moment}"),
        format!("@{written}"),
        format!("@{written:.3}"),
    ] {
        assert_same(access.sorted(&["-e", "-o", &at]), second.clone());
        assert_same(access.sorted(&["-o", &format!("{at}:end")]), second.clone());
        assert_same(
            access.sorted(&["-o", &format!("start:{at}")]),
            first.clone(),
        );
        assert_same(access.sorted(&["-o", &format!(":{at}")]), first.clone());
    }
    assert_same(access.sorted(&["-e", "-o", "@-1h"]), all.clone());
    assert_same(access.sorted(&["-o", "@-1h:end"]), all.clone());
    assert_same(access.sorted(&["-o", "@2015-05-17:@now"]), all);
    assert_same(access.sorted(&["-e", "-o", "@now"]), vec![]);
    assert_same(access.sorted(&["-o", "@-2h:@-1h"]), vec![]);
}

#[test]
fn the_last_n_are_those_of_each_partition() {
    let access = Access::produced();
    let all = access.sorted(&["-e"]);
    for count in [0, 1, 100, 1_000_000] {
        let last = only(&all, |row, end| row.offset + count >= end);
        assert_same(access.sorted(&["-e", "-o", &format!("-{count}")]), last);
    }
    let between = only(&all, |row, end| {
        row.offset + 100 >= end && row.offset + 10 < end
    });
    assert_same(access.sorted(&["-o", "-100:-10"]), between);
    let end = only(&all, |row, end| row.offset + 100 >= end);
    assert_eq!(end.len(), 100 * PARTITIONS as usize);
    assert_same(access.sorted(&["-o", "-100:end"]), end);
}

#[test]
fn ranges_of_offsets_leave_out_their_end() {
    let access = Access::produced();
    let all = access.sorted(&["-e"]);
    let ranges = [
        ("10:20", 10..20),
        ("0:1", 0..1),
        (":7", 0..7),
        ("start:7", 0..7),
        ("5:5", 0..0),
    ];
    for (range, offsets) in ranges {
        let expected = only(&all, |row, _| offsets.contains(&row.offset));
        assert_same(access.sorted(&["-o", range]), expected);
    }
    let from = only(&all, |row, _| row.offset >= 900);
    assert_same(access.sorted(&["-o", "900:end"]), from.clone());
    assert_same(access.sorted(&["-e", "-o", "900"]), from.clone());
    assert_same(access.sorted(&["-e", "-o", "900:"]), from);
    assert_same(access.sorted(&["-e", "-o", "end"]), vec![]);
    // The end that comes first holds.
    let nearest = only(&all, |row, _| row.offset < 3);
    assert_same(access.sorted(&["-e", "-o", "0:3"]), nearest);
    assert_same(access.sorted(&["-e", "-o", "0:999999999"]), all);
}

#[test]
fn partitions_and_counts_narrow_what_is_read() {
    let access = Access::produced();
    let all = access.sorted(&["-e"]);
    let third = only(&all, |row, _| row.partition == 3);
    assert_same(access.consume(&["-e", "-p", "3"]), third.clone());
    let some = only(&all, |row, _| [0, 3, 5].contains(&row.partition));
    assert_same(access.sorted(&["-e", "-p", "0,3", "-p", "5"]), some);

    // Without -e: it ends by itself once it has printed as many.
    assert_same(
        access.consume(&["-n", "17", "-p", "3"]),
        third[..17].to_vec(),
    );
    assert_same(
        access.consume(&["-n", "5", "-p", "3", "-o", "100"]),
        third[100..105].to_vec(),
    );
    assert_same(access.consume(&["-n", "0"]), vec![]);
    let any = access.consume(&["-n", "2500"]);
    assert_eq!(any.len(), 2_500);
    assert!(any.iter().all(|row| all.binary_search(row).is_ok()));
    // With -e: whatever comes first.
    assert_same(
        access.consume(&["-e", "-n", "1000000", "-p", "3"]),
        third.clone(),
    );
    assert_same(
        access.consume(&["-e", "-n", "2", "-p", "3", "-o", "-10:-1"]),
        {
            let from = third.len() - 10;
            third[from..from + 2].to_vec()
        },
    );
}

#[test]
fn without_an_end_reading_follows_what_is_appended() {
    let access = Access::produced();
    let args = [
        "consume",
        "access",
        "-o",
        "end",
        "-f",
        "%p\t%o\t%T\t%k %s\n",
    ];
    let mut reader = access.broker.flowstone(args).spawn();
    // It begins at what is the end when it connects, so records are sent until one is seen.
    let mut sent = 0;
    let first = loop {
        sent += 1;
        assert!(sent < 200, "nothing is read\n{}", reader.printed());
        access.produce(&format!("10.0.0.1 sent {sent}\n"));
        let line = |bytes: &[u8]| {
            let end = bytes.iter().position(|&byte| byte == b'\n')?;
            Some(String::from_utf8(bytes[..end].to_vec()).unwrap())
        };
        if let Some(line) = reader.stdout().wait_for(Duration::from_millis(100), line) {
            break row(&line);
        }
    };
    assert_eq!(key_of(&first.line), "10.0.0.1");
    access.produce("10.0.0.1 the last\n");
    let seen = reader.stdout().wait_for(WAIT, |bytes| {
        bytes.ends_with(b"10.0.0.1 the last\n").then_some(())
    });
    assert!(seen.is_some(), "it goes on reading\n{}", reader.printed());
    reader.terminate();
    assert_eq!(reader.wait(WAIT).code(), Some(0), "{}", reader.printed());
}

/// Records may carry times of their own, which need not be in order.
#[tokio::test]
async fn times_are_those_of_the_records() {
    let broker = Broker::start();
    broker.flowstone(["topic", "create", "visits"]).run().ok();
    let mut stub = Stub::connect(&broker.url()).await.unwrap();
    let log = access_log();
    let lines: Vec<&str> = log.lines().take(3_000).collect();
    for chunk in lines.chunks(100) {
        let records = chunk.iter().map(|line| proto::Record {
            value: Some(line.to_string().into()),
            timestamp_ms: time_ms(line),
            ..proto::Record::default()
        });
        let request = proto::ProduceRequest {
            topic: "visits".to_owned(),
            records: records.collect(),
            ..proto::ProduceRequest::default()
        };
        stub.log.produce(request).await.unwrap();
    }
    let at = |moment: &str| {
        let ms = moment.parse::<jiff::Timestamp>().unwrap().as_millisecond();
        lines
            .iter()
            .position(|line| time_ms(line) >= ms)
            .unwrap_or(lines.len())
    };
    let consume = |range: &str| {
        let run = broker
            .flowstone(["consume", "visits", "-o", range])
            .run()
            .ok();
        run.lines()
            .into_iter()
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    let (noon, later) = ("2015-05-17T12:00:00Z", "2015-05-17T20:30:00Z");
    let (from, to) = (at(noon), at(later));
    assert!(0 < from && from < to && to < lines.len(), "{from} {to}");
    assert_eq!(consume(&format!("@{noon}:@{later}")), lines[from..to]);
    assert_eq!(
        consume("@2015-05-17 12:00:@2015-05-17 20:30"),
        lines[from..to]
    );
    assert_eq!(consume(&format!("@{later}:end")), lines[to..]);
    assert_eq!(consume(&format!(":@{noon}")), lines[..from]);
    assert_eq!(consume("@2014-01-01:end"), lines);
    assert_eq!(consume("@2016-01-01:end"), lines[..0]);
}
