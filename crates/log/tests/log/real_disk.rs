//! The same on a real disk: mappings, holes and file names as they are.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use flowstone_disk::Env;
use flowstone_format::{Offset, PartitionId};
use flowstone_log::{Log, LogConfig, OpenSegments, ProducerBudget, ReadError, ReadLimit};
use rustix::fs::Advice;

use crate::harness::{START_MS, append, publish, read_all, record};

fn open(dir: &Path) -> Log {
    let config = LogConfig {
        segment_bytes: 256 << 10,
        index_interval_bytes: 4096,
        ..LogConfig::default()
    };
    Log::open(&Env::real(), dir, PartitionId::new(3), None, config).unwrap()
}

/// The segment files of a log, oldest first.
fn segment_files(dir: &Path) -> Vec<PathBuf> {
    let files = std::fs::read_dir(dir).unwrap();
    let mut files: Vec<_> = files
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|e| e == "segment"))
        .collect();
    files.sort();
    files
}

#[test]
fn a_log_on_a_real_disk_keeps_its_records_over_rolls_and_reopens() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("0000000003");
    let mut expected = Vec::new();
    for life in 0..3_u64 {
        let mut log = open(&dir);
        for n in 0..300_u64 {
            let value = format!("{life}-{n}-{}", "v".repeat(1500)).into_bytes();
            append(&mut log, &[record(&value, 0)], START_MS).unwrap();
            expected.push((life * 300 + n, value));
            if n % 10 == 9 {
                publish(&mut log).unwrap();
            }
        }
        assert_eq!(read_all(&log), expected);
        assert!(log.reader().segment_count() > 1);
    }
    assert_eq!(read_all(&open(&dir)), expected);
}

#[test]
fn what_a_read_returns_lies_in_the_file_byte_for_byte() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("0000000003");
    let mut log = open(&dir);
    append(
        &mut log,
        &[record(b"stored once, sent as it is", 0)],
        START_MS,
    )
    .unwrap();
    publish(&mut log).unwrap();
    let batch = log
        .reader()
        .read(Offset::ZERO, &ReadLimit::default())
        .unwrap();
    let bytes = std::fs::read(&segment_files(&dir)[0]).unwrap();
    let chunk = &batch.chunks[0];
    assert!(
        bytes
            .windows(chunk.len())
            .any(|window| window == &chunk[..])
    );
}

#[test]
fn readers_go_on_while_the_log_is_written() {
    let temp = tempfile::tempdir().unwrap();
    let mut log = open(&temp.path().join("0000000003"));
    let reader = log.reader();
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            for n in 0..2000_u64 {
                append(
                    &mut log,
                    &[record(&n.to_be_bytes().repeat(100), 0)],
                    START_MS,
                )
                .unwrap();
                if n % 20 == 19 {
                    publish(&mut log).unwrap();
                }
            }
        });
        let mut at = Offset::ZERO;
        while !(writer.is_finished() && at == reader.high_watermark()) {
            let batch = reader.read(at, &ReadLimit::default()).unwrap();
            assert_eq!(batch.next_offset - at, u64::from(batch.record_count));
            at = batch.next_offset;
            std::thread::yield_now();
        }
        assert_eq!(at.get(), 2000);
    });
}

/// A read begins where one before it has found its frame, if that is not too far.
#[test]
fn what_is_in_memory_is_found_whatever_was_read_before() {
    let temp = tempfile::tempdir().unwrap();
    let mut log = open(&temp.path().join("0000000003"));
    let value = |n: u64| n.to_be_bytes().repeat(60);
    // Frames of one to five records.
    let mut end = 0;
    while end < 2000 {
        let records: Vec<_> = (end..=end + end % 5)
            .map(|n| record(&value(n), 0))
            .collect();
        append(&mut log, &records, START_MS).unwrap();
        end += records.len() as u64;
    }
    publish(&mut log).unwrap();
    let reader = log.reader();
    assert!(reader.segment_count() > 2);
    let mut limit = ReadLimit::default();
    let mut at = 0;
    for round in 0..2000 {
        limit.max_records = 1 + round % 7;
        let read = reader.read(Offset::new(at), &limit).unwrap();
        let resident = reader.read_resident(Offset::new(at), &limit);
        assert_eq!(resident, Some(read), "at {at}");
        // Back and forth, near and far.
        at = (at * 13 + u64::from(round)) % end;
    }
}

/// Flips a bit of a record that holds a value, on the medium and, as long as it is in memory, there.
fn flip(file: &Path, value: &[u8]) {
    let bytes = std::fs::read(file).unwrap();
    let at = bytes.windows(value.len()).position(|part| part == value);
    let at = at.expect("the file holds the value");
    let file = File::options().write(true).open(file).unwrap();
    file.write_all_at(&[bytes[at] ^ 1], at as u64).unwrap();
    file.sync_all().unwrap();
}

/// Takes a file that nobody has mapped out of memory.
fn evict(file: &Path) {
    let file = File::open(file).unwrap();
    rustix::fs::fadvise(&file, 0, None, Advice::DontNeed).unwrap();
}

/// What this process has written or checked is checked again once it had to be read from the disk.
#[test]
fn bytes_are_checked_when_they_were_gone_from_memory_and_only_then() {
    // A file system in memory would have nothing to read from.
    let temp = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let dir = temp.path().join("0000000003");
    // What was read last stays mapped, and nothing else.
    let open_log = || {
        let config = LogConfig {
            segment_bytes: 16 << 10,
            ..LogConfig::default()
        };
        let budget = Arc::new(ProducerBudget::unlimited());
        let open = Arc::new(OpenSegments::new(16, 1, 1 << 20));
        let id = PartitionId::new(3);
        Log::open_within(&Env::real(), &dir, id, None, config, &budget, &open).unwrap()
    };
    let value = |n: u64| format!("{n:01000}").into_bytes();
    let mut log = open_log();
    for n in 0..60 {
        append(&mut log, &[record(&value(n), 0)], START_MS).unwrap();
    }
    publish(&mut log).unwrap();
    let files = segment_files(&dir);
    let read = |log: &Log, offset: u64| {
        let limit = ReadLimit {
            max_records: 1,
            ..ReadLimit::default()
        };
        let read = log.reader().read(Offset::new(offset), &limit);
        read.map(|read| read.chunks.concat())
    };
    let holds = |read: &[u8], value: &[u8]| read.windows(value.len()).any(|part| part == value);

    flip(&files[0], &value(0));
    let written = read(&log, 0).expect("what was written and stayed in memory is not checked");
    assert!(!holds(&written, &value(0)));
    assert!(
        holds(&read(&log, 59).unwrap(), &value(59)),
        "the first segment is unmapped now"
    );
    evict(&files[0]);
    let error = read(&log, 0).expect_err("what was gone is checked");
    assert!(matches!(error, ReadError::Corrupt(_)), "{error}");
    drop(log);

    // The same for what was not written, but read by this process.
    flip(&files[0], &flipped(&value(0)));
    let log = open_log();
    assert!(holds(&read(&log, 0).unwrap(), &value(0)));
    flip(&files[0], &value(0));
    read(&log, 0).expect("what was checked and stayed in memory is not checked again");
    read(&log, 59).unwrap();
    evict(&files[0]);
    let error = read(&log, 0).expect_err("what was gone is checked");
    assert!(matches!(error, ReadError::Corrupt(_)), "{error}");
}

/// What `flip` makes of a value.
fn flipped(value: &[u8]) -> Vec<u8> {
    let mut value = value.to_vec();
    value[0] ^= 1;
    value
}
