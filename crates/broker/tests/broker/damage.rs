//! Rot that a running broker comes upon: the partition is offline from there on, all hear of it,
//! and a trim behind it brings the partition back.

use std::io::{ErrorKind, Write};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use flowstone_broker::{Delivery, Error, OpenError, Start, SubscribeRequest};
use flowstone_disk::{Disk, OpKind, OpenMode};

use crate::harness::{Driven, FIRST_PARTITION, Machine, partition_dir, read, values};

/// Two partitions; the first has 20 records of 3,000 bytes, in segments of five or so.
fn filled() -> (Machine, Driven) {
    let machine = Machine::new(1);
    let broker = machine.open();
    broker.create("visits", 2);
    for n in 0..20 {
        broker.put("visits", 0, &value(n));
    }
    broker.put("visits", 1, "b");
    (machine, broker)
}

fn value(n: u64) -> String {
    format!("{n:03000}")
}

/// Where the frame that holds a value lies.
fn place(machine: &Machine, n: u64) -> (PathBuf, u64) {
    let dir = partition_dir(FIRST_PARTITION);
    for entry in machine.disk.list(&dir).unwrap() {
        let path = dir.join(entry.name);
        let file = machine.disk.open(&path, OpenMode::Read).unwrap();
        let mut bytes = vec![0; file.len().unwrap() as usize];
        file.read_exact_at(&mut bytes, 0).unwrap();
        let text = value(n);
        let mut windows = bytes.windows(text.len());
        if let Some(at) = windows.position(|window| window == text.as_bytes()) {
            return (path, at as u64);
        }
    }
    panic!("no segment holds {n}");
}

/// Flips a bit of the frame that holds a value, on the medium and in the cache.
fn rot(machine: &Machine, n: u64) {
    let (path, at) = place(machine, n);
    machine.flip(&path, at);
}

/// Leaves a write that was cut short in the metadata log, so that the next start seals its segment;
/// returns the segment and where it will end.
fn seal_metadata(machine: &Machine) -> (PathBuf, u64) {
    let segment = machine.path(0, ".segment");
    let file = machine.disk.open(&segment, OpenMode::ReadWrite).unwrap();
    let mut bytes = vec![0; file.len().unwrap() as usize];
    file.read_exact_at(&mut bytes, 0).unwrap();
    let end = bytes.iter().rposition(|&byte| byte != 0).unwrap() as u64 + 1;
    file.write_all_at(b"FLSB", end).unwrap();
    (segment, end)
}

fn damaged_at<T: std::fmt::Debug>(result: Result<T, Error>) -> u64 {
    match result {
        Err(Error::CorruptSegment { offset, .. }) => offset,
        other => panic!("it should be damaged: {other:?}"),
    }
}

#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// What is logged as an error meanwhile, line by line.
fn errors_logged(work: impl FnOnce()) -> Vec<String> {
    let lines = Lines::default();
    let writer = lines.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing_subscriber::filter::LevelFilter::ERROR)
        .with_ansi(false)
        .with_writer(move || writer.clone())
        .finish();
    tracing::subscriber::with_default(subscriber, work);
    let text = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
    text.lines().map(str::to_owned).collect()
}

#[test]
fn what_a_read_finds_is_told_to_all_and_takes_the_partition_offline_from_there_on() {
    let (machine, broker) = filled();
    let mut follows = broker.subscribe(flowstone_broker::SubscribeRequest {
        start: Start::Latest,
        ..read("visits")
    });
    assert!(follows.is_waiting());
    rot(&machine, 7);

    assert_eq!(
        damaged_at(broker.fetch("visits", 0, Start::Offset(7))),
        7,
        "found by this read"
    );
    for start in [7, 8, 19, 20, 21] {
        let read = broker.fetch("visits", 0, Start::Offset(start));
        assert_eq!(damaged_at(read), 7);
    }
    assert_eq!(
        damaged_at(broker.fetch("visits", 0, Start::Latest)),
        7,
        "what can be read ends there"
    );
    let below = broker.fetch("visits", 0, Start::Offset(3)).unwrap();
    assert_eq!((below.next_offset, below.high_watermark), (7, 7));
    assert_eq!(
        damaged_at(broker.produce("visits", Some(0), values(["x"]))),
        7
    );
    assert!(!broker.broker.run_retention());
    let info = broker.broker.describe_topic("visits").unwrap().1[0].clone();
    let reason = info.offline_reason.unwrap();
    assert!(reason.contains("damaged at offset 7"), "{reason}");
    assert_eq!(info.high_watermark, 7);

    let (cursor, error) = follows.partition_error();
    assert_eq!((cursor.partition, cursor.offset), (0, 20));
    assert_eq!(damaged_at::<()>(Err(error)), 7);
    assert_eq!(broker.put("visits", 1, "c"), 1, "the rest goes on");
    assert_eq!(follows.batch(), (1, 2, vec!["c".to_owned()]));
    for value in ["d", "e"] {
        let runs = broker.produce("visits", None, values([value])).unwrap();
        assert_eq!(runs[0].partition, 1, "keyless records go elsewhere");
    }
}

#[test]
fn damage_is_logged_once_with_its_place() {
    let (machine, broker) = filled();
    rot(&machine, 7);
    let lines = errors_logged(|| {
        for _ in 0..3 {
            damaged_at(broker.fetch("visits", 0, Start::Offset(7)));
            damaged_at(broker.fetch("visits", 0, Start::Offset(12)));
        }
    });
    let [line] = &lines[..] else {
        panic!("one line, not {lines:?}");
    };
    for part in [
        "topic=visits",
        "partition=0",
        "offset=7",
        ".segment",
        "position=",
        "segment_end=",
    ] {
        assert!(line.contains(part), "{part} is not in {line}");
    }
}

#[test]
fn a_trim_behind_the_damage_brings_the_partition_back() {
    let (machine, broker) = filled();
    rot(&machine, 7);
    damaged_at(broker.fetch("visits", 0, Start::Offset(7)));
    let trim = |before| broker.wait(broker.broker.trim_partition("visits", 0, before));
    assert_eq!(trim(5), Ok(5));
    assert_eq!(damaged_at(broker.fetch("visits", 0, Start::Offset(9))), 7);
    assert!(matches!(
        trim(21),
        Err(Error::OffsetBeyondEnd { requested: 21, .. })
    ));
    assert_eq!(trim(15), Ok(15));
    let info = broker.broker.describe_topic("visits").unwrap().1[0].clone();
    assert_eq!(
        (
            info.offline_reason,
            info.log_start_offset,
            info.high_watermark
        ),
        (None, 15, 20)
    );
    assert_eq!(broker.put("visits", 0, "new"), 20);
    assert_eq!(broker.all("visits", 0).len(), 6);
    broker.shutdown();
    assert_eq!(machine.open().all("visits", 0).len(), 6);
}

#[test]
fn rot_in_a_sealed_segment_of_the_metadata_log_is_not_its_end() {
    let machine = Machine::new(1);
    let broker = machine.open();
    for name in ["a", "b", "c"] {
        broker.create(name, 1);
    }
    broker.shutdown();
    let (segment, sealed) = seal_metadata(&machine);
    let broker = machine.open();
    broker.create("d", 1);
    broker.shutdown();
    assert_ne!(machine.path(0, ".segment"), segment, "there is a new one");

    machine.flip(&segment, sealed - 3);
    let error = machine.try_open().map(drop).unwrap_err();
    assert!(
        matches!(error, Error::Open(OpenError::MetadataDamaged { .. })),
        "{error}"
    );
}

#[test]
fn a_scrub_finds_what_nobody_reads_and_the_cache_hides() {
    let (machine, broker) = filled();
    assert!(!broker.broker.run_scrub(), "all is sound");
    let (path, at) = place(&machine, 7);
    machine.disk.rot(&path, at, 0x10).unwrap();
    assert_eq!(broker.all("visits", 0).len(), 20, "the cache has it still");
    let lines = errors_logged(|| {
        assert!(broker.broker.run_scrub());
        assert!(broker.broker.run_scrub(), "it is there in every round");
    });
    assert_eq!(lines.len(), 1, "told once: {lines:?}");
    assert!(lines[0].contains("offset=7"), "{lines:?}");
    assert_eq!(damaged_at(broker.fetch("visits", 0, Start::Offset(9))), 7);
    assert_eq!(
        damaged_at(broker.produce("visits", Some(0), values(["x"]))),
        7
    );
    assert_eq!(broker.put("visits", 1, "c"), 1, "the rest goes on");
    broker
        .wait(broker.broker.trim_partition("visits", 0, 8))
        .unwrap();
    assert!(broker.broker.run_scrub(), "its segment is not all trimmed");
    assert_eq!(broker.all("visits", 0).len(), 12, "and nobody is harmed");
}

#[test]
fn a_scrub_tells_damage_from_files_that_cannot_be_opened_now_and_from_those_that_are_gone() {
    let (machine, broker) = filled();
    let online = || {
        let info = broker.broker.describe_topic("visits").unwrap().1[0].clone();
        info.offline_reason.is_none()
    };
    machine.disk.fail_nth(OpKind::Open, 1, ErrorKind::Other);
    assert!(!broker.broker.run_scrub());
    machine
        .disk
        .fail_nth(OpKind::Read, 3, ErrorKind::OutOfMemory);
    assert!(!broker.broker.run_scrub());
    assert!(online());
    let (path, _) = place(&machine, 7);
    machine.disk.remove_file(&path).unwrap();
    assert!(broker.broker.run_scrub());
    assert!(!online());
}

#[test]
fn segments_that_are_gone_are_no_damage() {
    let (_machine, broker) = filled();
    broker
        .wait(broker.broker.trim_partition("visits", 0, 20))
        .unwrap();
    assert!(!broker.broker.run_scrub());
    broker.wait(broker.broker.delete_topic("visits")).unwrap();
    assert!(!broker.broker.run_scrub());
}

#[test]
fn one_of_the_brokers_own_logs_is_written_anew_from_memory() {
    let machine = Machine::new(1);
    let broker = machine.open();
    for name in ["a", "b", "c"] {
        broker.create(name, 1);
    }
    broker.shutdown();
    let (segment, sealed) = seal_metadata(&machine);
    let broker = machine.open();
    broker.create("d", 1);
    machine.disk.rot(&segment, sealed - 3, 0x10).unwrap();
    let lines = errors_logged(|| assert!(broker.broker.run_scrub()));
    assert_eq!(lines.len(), 1, "{lines:?}");
    for _ in 0..20 {
        broker.broker.run_pending();
    }
    assert!(!broker.broker.run_scrub(), "what was damaged is gone");
    broker.create("e", 1);
    broker.shutdown();
    machine.disk.power_cut();
    let broker = machine.open();
    let names = broker.broker.list_topics("", None, 9);
    let names: Vec<_> = names.iter().map(|topic| &*topic.spec.name).collect();
    assert_eq!(names, ["a", "b", "c", "d", "e"]);
}

#[test]
fn a_member_keeps_a_damaged_partition_goes_on_with_the_others_and_with_that_one_once_it_is_mended()
{
    let (machine, broker) = filled();
    rot(&machine, 7);
    let member = SubscribeRequest {
        group: Some("billing".to_owned()),
        max_batch_bytes: 1,
        ..read("visits")
    };
    let mut reader = broker.subscribe(member);
    assert_eq!(reader.assignment().len(), 2);
    let (mut read, mut damaged) = (Vec::new(), None);
    while damaged.is_none() || read.len() < 8 {
        match reader.next() {
            Some(Ok(Delivery::Records { cursor, .. })) => {
                read.push((cursor.partition, cursor.offset));
                assert_eq!(broker.commit(&[cursor]), Ok(vec![]));
            }
            Some(Ok(Delivery::PartitionError { cursor, error })) => {
                assert!(matches!(error, Error::CorruptSegment { .. }));
                damaged = Some((cursor.partition, cursor.offset));
            }
            other => panic!("records or an error should come, not {other:?}"),
        }
    }
    assert_eq!(damaged, Some((0, 7)));
    read.sort_unstable();
    let all: Vec<_> = (1..=7).map(|at| (0, at)).chain([(1, 1)]).collect();
    assert_eq!(read, all);
    assert!(reader.is_waiting());
    broker.put("visits", 1, "c");
    assert_eq!(reader.batch(), (1, 2, vec!["c".to_owned()]));
    let trimmed = || {
        let trim = broker.broker.trim_partition("visits", 0, 19);
        assert_eq!(broker.wait(trim), Ok(19));
    };
    assert_eq!(reader.woken_by(trimmed), 1, "nothing else has to come");
    let (cursor, error) = reader.partition_error();
    assert_eq!(cursor.offset, 7);
    assert!(matches!(error, Error::OffsetTrimmed { .. }));
    assert_eq!(reader.batch(), (0, 20, vec![value(19)]));
    broker.put("visits", 0, "new");
    assert_eq!(reader.batch(), (0, 21, vec!["new".to_owned()]));
}
