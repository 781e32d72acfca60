//! What checking a frame costs: its header's checksum, and that of its payload.

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use flowstone_benches::Run;
use flowstone_format::{BatchMeta, FRAME_HEADER_LEN, FrameHeader, Offset, Position, build_batch};

const SALT: u64 = 0x5EED;
const PLACE: Position = Position::new(4096);

/// A whole frame with one record of such a value.
fn frame(value_bytes: usize) -> (FrameHeader, Vec<u8>) {
    let run = Run::new(1, value_bytes);
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
    let mut bytes = Vec::new();
    let header = build_batch(&mut bytes, &run.bytes, &run.ranges(), &meta, &run.limits)
        .expect("the run is well-formed");
    header.encode(SALT, PLACE, &mut bytes[..FRAME_HEADER_LEN]);
    (header, bytes)
}

fn header(criterion: &mut Criterion) {
    let (_, bytes) = frame(100);
    let mut group = criterion.benchmark_group("frame_header");
    group.throughput(Throughput::Elements(1));
    group.bench_function("decode", |bencher| {
        bencher.iter(|| {
            FrameHeader::decode(black_box(&bytes), SALT, PLACE).expect("it was encoded just now")
        });
    });
    group.finish();
}

fn payload(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("payload_crc");
    for value_bytes in [100, 4 << 10, 64 << 10, 1_000 << 10] {
        let (header, bytes) = frame(value_bytes);
        let payload = &bytes[FRAME_HEADER_LEN..];
        group.throughput(Throughput::Bytes(payload.len() as u64));
        group.bench_function(BenchmarkId::from_parameter(value_bytes), |bencher| {
            bencher.iter(|| {
                header
                    .check_payload(black_box(payload))
                    .expect("it is as it was")
            });
        });
    }
    group.finish();
}

criterion_group!(benches, header, payload);
criterion_main!(benches);
