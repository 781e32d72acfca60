//! Opening a partition: one that was shut down, and one whose last group may not be on disk and is written again.

use std::path::Path;
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use flowstone_benches::{Run, append};
use flowstone_disk::Env;
use flowstone_format::{FloorSlot, PartitionId};
use flowstone_log::{Log, LogConfig};

const PARTITION: PartitionId = PartitionId::new(1);
/// Requests that share a sync.
const GROUP: usize = 16;

fn open(dir: &Path, floor: Option<FloorSlot>) -> Log {
    Log::open(&Env::real(), dir, PARTITION, floor, LogConfig::default()).expect("the log opens")
}

/// A log of about so many bytes, and what FLOOR would say of its end.
fn fill(dir: &Path, bytes: u64) -> Option<FloorSlot> {
    let run = Run::new(100, 100);
    let mut log = open(dir, None);
    while log.size_bytes() < bytes {
        for _ in 0..GROUP {
            append(&mut log, &run);
        }
        log.sync().expect("the disk syncs");
    }
    log.floor()
}

fn recovery(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("recovery");
    group
        .sample_size(10)
        .measurement_time(Duration::from_secs(3));
    for bytes in [1 << 20, 16 << 20] {
        let dir =
            tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("the target is writable");
        let floor = fill(dir.path(), bytes);
        group.throughput(Throughput::Bytes(bytes));
        for (name, floor) in [("clean", floor), ("unclean", None)] {
            group.bench_function(BenchmarkId::new(name, bytes >> 20), |bencher| {
                bencher.iter(|| open(dir.path(), floor));
            });
        }
    }
    group.finish();
}

criterion_group!(benches, recovery);
criterion_main!(benches);
