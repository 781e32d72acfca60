//! The same on a real disk: mappings, holes and file names as they are.

use std::path::Path;

use flowstone_disk::Env;
use flowstone_format::{Offset, PartitionId};
use flowstone_log::{Log, LogConfig, ReadLimit};

use crate::harness::{START_MS, append, publish, read_all, record};

fn open(dir: &Path) -> Log {
    let config = LogConfig {
        segment_bytes: 256 << 10,
        index_interval_bytes: 4096,
        ..LogConfig::default()
    };
    Log::open(&Env::real(), dir, PartitionId::new(3), None, config).unwrap()
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
    let file = std::fs::read_dir(&dir)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .find(|path| path.extension().is_some_and(|e| e == "segment"))
        .unwrap();
    let bytes = std::fs::read(file).unwrap();
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
