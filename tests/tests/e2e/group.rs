//! Readers of a group: killed, started again, and one at a time.

mod plain_stub;

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use flowstone_proto::v1 as proto;
use flowstone_tests::{Broker, Process, Proxy, Stub, flowstone};
use tonic::Code;

use plain_stub::commit;

const GROUP: &str = "billing";
const TOPIC: &str = "visits";
const PARTITIONS: i32 = 3;
const WAIT: Duration = Duration::from_secs(20);

/// A place in the topic: partition and offset.
type At = (i32, i64);

fn start() -> Broker {
    let broker = Broker::start();
    let partitions = PARTITIONS.to_string();
    broker
        .flowstone(["topic", "create", TOPIC, "-p", &partitions])
        .run()
        .ok();
    broker
}

/// Appends records `from..to`, with keys that spread them over the partitions.
fn produce(broker: &Broker, numbers: std::ops::Range<u32>) {
    let lines: String = numbers
        .map(|n| format!("stand-{} visit {n}\n", n % 50))
        .collect();
    broker
        .flowstone(["produce", TOPIC, "-K", " "])
        .stdin(lines)
        .run()
        .ok();
}

const FORMAT: [&str; 2] = ["-f", "%p %o %s\n"];

/// `flowstone consume -g`, which prints a line for each record.
fn reader(broker: &Broker, url: &str, flags: &[&str]) -> Process {
    let args = ["consume", TOPIC, "-g", GROUP];
    let args = args.iter().chain(&FORMAT).chain(flags);
    broker.flowstone(args).env("FLOWSTONE_SERVER", url).spawn()
}

/// The places of all whole lines.
fn places(printed: &[u8]) -> Vec<At> {
    let text = String::from_utf8(printed.to_vec()).unwrap();
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    whole.lines().map(place).collect()
}

fn place(line: &str) -> At {
    let mut fields = line.split(' ');
    let mut number = || {
        fields
            .next()
            .and_then(|field| field.parse::<i64>().ok())
            .unwrap()
    };
    (number() as i32, number())
}

/// What is in the topic.
fn everything(broker: &Broker) -> BTreeSet<At> {
    let args = ["consume", TOPIC, "-e"].iter().chain(&FORMAT);
    let run = broker.flowstone(args).run().ok();
    let all = places(&run.stdout);
    let set: BTreeSet<At> = all.iter().copied().collect();
    assert_eq!(set.len(), all.len(), "nothing comes twice");
    set
}

/// Committed offset and lag by partition, as `group describe` tells them.
fn committed(broker: &Broker) -> BTreeMap<i32, (i64, i64)> {
    let args = ["group", "describe", GROUP, "--output", "json"];
    let group = broker.flowstone(args).run().ok().json();
    let offsets = group["offsets"].as_array().unwrap();
    offsets
        .iter()
        .filter_map(|offset| {
            assert_eq!(offset["topic"], TOPIC);
            let number = |name: &str| offset[name].as_i64().unwrap();
            let (committed, end) = (
                offset["committed_offset"].as_i64(),
                number("high_watermark"),
            );
            assert_eq!(number("lag"), end - committed.unwrap_or(0));
            Some((number("partition") as i32, (committed?, number("lag"))))
        })
        .collect()
}

/// Waits until the group has committed up to the end of all partitions, which only asking tells.
fn wait_until_committed(broker: &Broker, reader: &Process) {
    let give_up_at = Instant::now() + WAIT;
    loop {
        let run = broker
            .flowstone(["group", "describe", GROUP, "--output", "json"])
            .run();
        if run.code == Some(0)
            && committed(broker)
                .values()
                .filter(|(_, lag)| *lag == 0)
                .count()
                == PARTITIONS as usize
        {
            return;
        }
        assert!(
            Instant::now() < give_up_at,
            "not all is committed\n{}",
            reader.printed()
        );
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Waits until the broker has noticed that its reader is gone, which only asking tells. Until then a
/// last commit of it may still arrive.
fn wait_until_empty(broker: &Broker) {
    let give_up_at = Instant::now() + WAIT;
    let describe = ["group", "describe", GROUP, "--output", "json"];
    while broker.flowstone(describe).run().ok().json()["state"] != "empty" {
        assert!(Instant::now() < give_up_at, "the reader seems to be there");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// The first place of each partition.
fn firsts(places: &[At]) -> BTreeMap<i32, i64> {
    let mut firsts = BTreeMap::new();
    for &(partition, offset) in places {
        firsts.entry(partition).or_insert(offset);
    }
    firsts
}

/// Each partition's offsets follow each other.
#[track_caller]
fn assert_without_gaps(places: &[At]) {
    let mut next = firsts(places);
    for &(partition, offset) in places {
        let next = next.get_mut(&partition).unwrap();
        assert_eq!(offset, *next, "the next of partition {partition}");
        *next += 1;
    }
}

/// Lets a reader come to the end, appends more, kills it when it has printed something of that, and
/// lets a second one read on.
fn kill_and_read_on(kill_after: usize) {
    let broker = start();
    produce(&broker, 0..1_000);
    let mut first = reader(&broker, &broker.url(), &[]);
    wait_until_committed(&broker, &first);
    produce(&broker, 1_000..4_000);
    let some = first.stdout().wait_for(WAIT, |printed| {
        (printed.split(|&byte| byte == b'\n').count() > 1_000 + kill_after).then_some(())
    });
    assert!(some.is_some(), "{}", first.printed());
    first.kill9();
    let before = places(&first.stdout().bytes());
    assert_without_gaps(&before);

    wait_until_empty(&broker);
    let told: BTreeMap<i32, i64> = committed(&broker)
        .into_iter()
        .map(|(partition, (offset, _))| (partition, offset))
        .collect();
    let mut second = reader(&broker, &broker.url(), &["-e"]);
    assert_eq!(second.wait(WAIT).code(), Some(0), "{}", second.printed());
    let after = places(&second.stdout().bytes());
    assert_without_gaps(&after);
    // Exactly where the group had committed; a partition that was read to its end has no more.
    let everything = everything(&broker);
    let begins: BTreeMap<i32, i64> = told
        .into_iter()
        .filter(|&place| everything.contains(&place))
        .collect();
    assert_eq!(firsts(&after), begins);
    // Nothing that was printed and not committed is left out.
    let together: BTreeSet<At> = before.into_iter().chain(after).collect();
    assert_eq!(together, everything);
    wait_until_committed(&broker, &second);
}

#[test]
fn a_reader_that_is_killed_goes_on_where_it_committed() {
    kill_and_read_on(1);
}

#[test]
fn a_reader_that_is_killed_amid_a_flood_goes_on_where_it_committed() {
    kill_and_read_on(1_500);
}

#[test]
fn a_reader_that_is_stopped_has_committed_what_it_printed() {
    let broker = start();
    produce(&broker, 0..2_000);
    let mut first = reader(&broker, &broker.url(), &["-n", "700"]);
    assert_eq!(first.wait(WAIT).code(), Some(0), "{}", first.printed());
    let mut second = reader(&broker, &broker.url(), &[]);
    let all = second.stdout().wait_for(WAIT, |printed| {
        (places(printed).len() == 1_300).then_some(())
    });
    assert!(all.is_some(), "{}", second.printed());
    second.terminate();
    assert_eq!(second.wait(WAIT).code(), Some(0), "{}", second.printed());
    let mut places = places(&[first.stdout().bytes(), second.stdout().bytes()].concat());
    places.sort_unstable();
    let everything: Vec<At> = everything(&broker).into_iter().collect();
    assert_eq!(places, everything, "each record once");
    let mut third = reader(&broker, &broker.url(), &["-e"]);
    assert_eq!(third.wait(WAIT).code(), Some(0), "{}", third.printed());
    assert_eq!(third.stdout().text(), "", "nothing is left to read");
}

/// The broker is killed, too; the reader's connection comes back by itself.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_lives_through_the_death_of_the_broker() {
    let mut broker = start();
    let proxy = Proxy::start().await;
    proxy.point_to(Some(broker.address()));
    produce(&broker, 0..1_000);
    let mut reader = reader(&broker, &proxy.url(), &[]);
    wait_until_committed(&broker, &reader);
    let before = committed(&broker);
    broker.kill9();
    proxy.point_to(None);
    broker.restart();
    assert_eq!(committed(&broker), before, "commits survive the broker");
    produce(&broker, 1_000..2_000);
    proxy.point_to(Some(broker.address()));
    wait_until_committed(&broker, &reader);
    reader.terminate();
    assert_eq!(reader.wait(WAIT).code(), Some(0), "{}", reader.printed());
    let read = places(&reader.stdout().bytes());
    assert_without_gaps(&read);
    assert_eq!(
        read.into_iter().collect::<BTreeSet<_>>(),
        everything(&broker)
    );
}

#[tokio::test]
async fn nobody_commits_past_the_members() {
    let broker = start();
    produce(&broker, 0..100);
    let mut first = reader(&broker, &broker.url(), &[]);
    wait_until_committed(&broker, &first);

    // Nobody commits past the member.
    let stub = Stub::connect(&broker.url()).await.unwrap();
    let bare = proto::Cursor {
        group: GROUP.to_owned(),
        topic: TOPIC.to_owned(),
        ..proto::Cursor::default()
    };
    let status = commit(&stub, bare.clone()).await.unwrap_err();
    assert_eq!(
        status.metadata().get("flowstone-reason").unwrap(),
        "GROUP_ACTIVE"
    );
    // Another group is another reader.
    let others = ["consume", TOPIC, "-g", "marketing", "-e"];
    assert_eq!(broker.flowstone(others).run().ok().lines().len(), 100);

    assert!(
        first.is_running(),
        "it was not disturbed\n{}",
        first.printed()
    );
    first.terminate();
    assert_eq!(first.wait(WAIT).code(), Some(0), "{}", first.printed());
    // That the last member has left takes a moment, and nothing tells.
    let give_up_at = Instant::now() + WAIT;
    while let Err(status) = commit(&stub, bare.clone()).await {
        assert_eq!(status.code(), Code::FailedPrecondition, "{status}");
        assert!(Instant::now() < give_up_at, "{status}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Each partition has a record or two, so that they come one partition after the other.
#[test]
fn what_many_partitions_have_is_committed_together() {
    const MANY: usize = 300;
    let mut broker = Broker::start();
    let create = ["topic", "create", TOPIC, "-p", &MANY.to_string()];
    broker.flowstone(create).run().ok();
    let lines: String = (0..2 * MANY).map(|n| format!("{n} visit\n")).collect();
    let produce = ["produce", TOPIC, "-K", " "];
    broker.flowstone(produce).stdin(lines).run().ok();
    broker.terminate();
    broker.restart();
    let count = (2 * MANY).to_string();
    let consume = ["consume", TOPIC, "-g", GROUP, "-n", &count];
    let read = broker.flowstone(consume).run().ok();
    assert_eq!(read.lines().len(), 2 * MANY);
    assert!(committed(&broker).values().all(|(_, lag)| *lag == 0));
    broker.terminate();

    let dir = broker.data_dir().to_string_lossy().into_owned();
    let verify = flowstone(["log", "verify", &dir]).run().ok();
    let of_offsets = "partition 1 (offsets, internal): sound, ";
    let lines = verify.lines();
    let told = lines.iter().find_map(|line| line.strip_prefix(of_offsets));
    let (count, _) = told.unwrap().split_once(' ').unwrap();
    let commits: usize = count.parse().unwrap();
    assert!(commits < MANY / 2, "{commits} commits");
}
