//! What a record costs on its way in: the scanner, and building the batch that is stored.

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use flowstone_benches::Run;
use flowstone_format::{BatchMeta, Offset, Records, build_batch};

/// Value sizes, and how many records of each make a request.
const SIZES: [(usize, u32); 2] = [(100, 1_000), (1_024, 1_000)];

fn scan(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("scan");
    for (value_bytes, record_count) in SIZES {
        let run = Run::new(record_count, value_bytes);
        group.throughput(Throughput::ElementsAndBytes {
            elements: u64::from(record_count),
            bytes: run.bytes.len() as u64,
        });
        group.bench_function(BenchmarkId::from_parameter(value_bytes), |bencher| {
            bencher.iter(|| {
                let records = Records::new(black_box(&run.bytes), &run.limits);
                let mut key_bytes = 0;
                for record in records {
                    let (_, record) = record.expect("the run is well-formed");
                    key_bytes += record.key.map_or(0, <[u8]>::len);
                }
                key_bytes
            });
        });
    }
    group.finish();
}

fn build(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("build_batch");
    let meta = BatchMeta {
        base_offset: Offset::new(1_000_000),
        leader_epoch: 1,
        entry_index: 1_000,
        append_ms: 1_700_000_000_000,
        producer_id: [0; 16],
        sequence: 0,
        producer_epoch: 0,
        routing_count: 8,
        client_crc: 0,
    };
    for (value_bytes, record_count) in SIZES {
        let run = Run::new(record_count, value_bytes);
        let ranges = run.ranges();
        group.throughput(Throughput::ElementsAndBytes {
            elements: u64::from(record_count),
            bytes: run.bytes.len() as u64,
        });
        group.bench_function(BenchmarkId::from_parameter(value_bytes), |bencher| {
            let mut out = Vec::with_capacity(2 * run.bytes.len());
            bencher.iter(|| {
                out.clear();
                build_batch(&mut out, black_box(&run.bytes), &ranges, &meta, &run.limits)
                    .expect("the run is well-formed")
            });
        });
    }
    group.finish();
}

criterion_group!(benches, scan, build);
criterion_main!(benches);
