//! The sparse index of a segment: a look-up, its file read, and its making anew from the frames.

use std::fs;
use std::hint::black_box;
use std::path::Path;
use std::time::{Duration, Instant};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use flowstone_benches::{Run, append};
use flowstone_disk::Env;
use flowstone_format::{IndexEntry, Offset, PartitionId, Position, SegmentIndex};
use flowstone_log::{Log, LogConfig, ReadLimit};
use uuid::Uuid;

/// Of a segment of the default size, with an entry for each 32 KiB.
const ENTRIES: u64 = 8192;
const SEGMENT_BYTES: u64 = 64 << 20;
const PARTITION: PartitionId = PartitionId::new(1);

fn index() -> SegmentIndex {
    let mut index = SegmentIndex::new();
    for number in 0..ENTRIES {
        index.push(IndexEntry {
            offset: Offset::new(number * 250),
            position: Position::new(4096 + (number << 15)),
            max_timestamp_before_ms: number as i64,
        });
    }
    index
}

fn look_up(criterion: &mut Criterion) {
    let index = index();
    let mut group = criterion.benchmark_group("index");
    group.throughput(Throughput::Elements(1));
    let mut at = 0;
    group.bench_function("offset", |bencher| {
        bencher.iter(|| {
            // All over the place, so that nothing is in the nearest cache by chance.
            at = (at + 1_000_003) % (ENTRIES * 250);
            index.position_for_offset(black_box(Offset::new(at)))
        });
    });
    group.bench_function("time", |bencher| {
        bencher.iter(|| {
            at = (at + 1_000_003) % ENTRIES;
            index.position_for_time(black_box(at as i64))
        });
    });
    let bytes = index.encode(Uuid::nil());
    group.throughput(Throughput::Bytes(bytes.len() as u64));
    group.bench_function("decode", |bencher| {
        bencher.iter(|| SegmentIndex::decode(black_box(&bytes), Uuid::nil()).expect("it is sound"));
    });
    group.finish();
}

fn open(dir: &Path) -> Log {
    let config = LogConfig {
        segment_bytes: SEGMENT_BYTES,
        ..LogConfig::default()
    };
    Log::open(&Env::real(), dir, PARTITION, None, config).expect("the log opens")
}

/// The first read in a sealed segment, with its index file and without.
fn first_read(criterion: &mut Criterion) {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("the target is writable");
    let run = Run::new(10, 100);
    let mut log = open(dir.path());
    while log.reader().segment_count() < 2 {
        append(&mut log, &run);
        if log.log_end_offset().get().is_multiple_of(10_000) {
            log.sync().expect("the disk syncs");
        }
    }
    log.sync().expect("the disk syncs");
    drop(log);
    let mut group = criterion.benchmark_group("index_first_read");
    group
        .sample_size(10)
        .measurement_time(Duration::from_secs(3));
    group.throughput(Throughput::Bytes(SEGMENT_BYTES));
    for name in ["with its file", "made anew"] {
        if name == "made anew" {
            remove_indexes(dir.path());
        }
        group.bench_function(name, |bencher| {
            bencher.iter_custom(|iterations| {
                let mut elapsed = Duration::ZERO;
                for _ in 0..iterations {
                    let reader = open(dir.path()).reader();
                    let limit = ReadLimit {
                        max_records: 1,
                        ..ReadLimit::default()
                    };
                    let middle = Offset::new(reader.high_watermark().get() / 2);
                    let began = Instant::now();
                    black_box(reader.read(middle, &limit).expect("the log reads"));
                    elapsed += began.elapsed();
                }
                elapsed
            });
        });
    }
    group.finish();
}

fn remove_indexes(dir: &Path) {
    for entry in fs::read_dir(dir).expect("it is there") {
        let path = entry.expect("it is readable").path();
        if path
            .extension()
            .is_some_and(|extension| extension == "index")
        {
            fs::remove_file(path).expect("it can be removed");
        }
    }
}

criterion_group!(benches, look_up, first_read);
criterion_main!(benches);
