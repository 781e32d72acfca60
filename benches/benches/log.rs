//! One partition's log on the disk that holds the build: append, append with sync, read.
//!
//! Old segments are dropped between measurements, so a run holds a few hundred MiB at most.

use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use flowstone_benches::Run;
use flowstone_disk::Env;
use flowstone_format::{Offset, PartitionId, ProducerId};
use flowstone_log::{Batch, Log, LogConfig, ProducerBatch, ReadLimit, Retention};
use tempfile::TempDir;

const SEGMENT_BYTES: u64 = 64 << 20;
/// How much of a log the reads go over.
const READ_BYTES: u64 = 128 << 20;

/// A log in a directory that goes with it.
struct Fixture {
    log: Log,
    /// Who appends, and its last sequence.
    producer: Option<ProducerBatch>,
    _dir: TempDir,
}

impl Fixture {
    fn new() -> Self {
        let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))
            .expect("the target directory is writable");
        let config = LogConfig {
            segment_bytes: SEGMENT_BYTES,
            ..LogConfig::default()
        };
        let log = Log::open(&Env::real(), dir.path(), PartitionId::new(1), None, config)
            .expect("an empty log opens");
        Fixture {
            log,
            producer: None,
            _dir: dir,
        }
    }

    fn append(&mut self, run: &Run) {
        if let Some(producer) = &mut self.producer {
            producer.sequence += 1;
        }
        let batch = Batch {
            request: &run.bytes,
            runs: &run.ranges(),
            record_count: run.record_count,
            append_ms: 1_700_000_000_000,
            routing_count: 1,
            limits: &run.limits,
            producer: self.producer,
            expected_offset: None,
        };
        self.log.append(&batch).expect("the disk takes it");
    }

    fn write(&mut self) {
        self.log.write().expect("the disk takes it");
    }

    fn sync(&mut self) {
        let durable = self.log.sync().expect("the disk syncs");
        self.log.set_high_watermark(durable.offset);
    }

    fn drop_old_segments(&mut self) {
        let retention = Retention {
            max_age_ms: None,
            max_bytes: Some(SEGMENT_BYTES),
            ..Retention::default()
        };
        self.log
            .retain(1_700_000_000_000, retention)
            .expect("old segments go");
    }

    /// Times `step` alone, over and over, and makes room in between.
    fn time(&mut self, iterations: u64, run: &Run, mut step: impl FnMut(&mut Self)) -> Duration {
        let steps_per_segment = (SEGMENT_BYTES / run.bytes.len() as u64).max(1);
        let mut elapsed = Duration::ZERO;
        for iteration in 0..iterations {
            let start = Instant::now();
            step(self);
            elapsed += start.elapsed();
            if (iteration + 1).is_multiple_of(steps_per_segment) {
                self.sync();
                self.drop_old_segments();
            }
        }
        elapsed
    }
}

/// Requests of one record and of many.
fn runs() -> [(&'static str, Run); 3] {
    [
        ("1x100", Run::new(1, 100)),
        ("100x100", Run::new(100, 100)),
        ("100x1024", Run::new(100, 1_024)),
    ]
}

fn throughput(run: &Run) -> Throughput {
    Throughput::ElementsAndBytes {
        elements: u64::from(run.record_count),
        bytes: run.bytes.len() as u64,
    }
}

fn append(criterion: &mut Criterion) {
    let producer = ProducerBatch {
        id: ProducerId::of("bench"),
        epoch: 1,
        sequence: 0,
    };
    for (name, sync, producer) in [
        ("append", false, None),
        ("append_producer", false, Some(producer)),
        ("append_sync", true, None),
    ] {
        let mut group = criterion.benchmark_group(name);
        group
            .sample_size(20)
            .measurement_time(Duration::from_secs(3));
        for (size, run) in runs() {
            let mut fixture = Fixture::new();
            fixture.producer = producer;
            group.throughput(throughput(&run));
            group.bench_function(BenchmarkId::from_parameter(size), |bencher| {
                bencher.iter_custom(|iterations| {
                    fixture.time(iterations, &run, |fixture| {
                        fixture.append(&run);
                        if sync {
                            fixture.sync()
                        } else {
                            fixture.write()
                        }
                    })
                });
            });
        }
        group.finish();
    }
}

fn read(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("read");
    group
        .sample_size(20)
        .measurement_time(Duration::from_secs(3));
    for (size, run) in runs() {
        // Small requests take long to lay down, and fewer of them show the same.
        let requests = (READ_BYTES / run.bytes.len() as u64).min(100_000);
        let mut fixture = Fixture::new();
        for _ in 0..requests {
            fixture.append(&run);
        }
        fixture.sync();

        let reader = fixture.log.reader();
        let limit = ReadLimit {
            max_bytes: 1 << 20,
            ..ReadLimit::default()
        };
        let first = reader.read(Offset::ZERO, &limit).expect("the log reads");
        group.throughput(Throughput::Bytes(first.bytes as u64));
        group.bench_function(BenchmarkId::from_parameter(size), |bencher| {
            let mut next = Offset::ZERO;
            bencher.iter(|| {
                let batch = reader.read(next, &limit).expect("the log reads");
                let at_end = batch.next_offset >= batch.high_watermark;
                next = if at_end {
                    Offset::ZERO
                } else {
                    batch.next_offset
                };
                batch
            });
        });
    }
    group.finish();
}

criterion_group!(benches, append, read);
criterion_main!(benches);
