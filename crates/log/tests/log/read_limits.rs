//! A read brings as many whole records as its limits allow, and one at least.

use flowstone_format::Offset;
use flowstone_log::ReadLimit;

use crate::harness::{Rig, record};

/// Whatever the limits are, and wherever it begins, it is what counting says; over frames and segments.
#[test]
fn reads_bring_what_fits_to_the_byte_and_to_the_record() {
    let mut rig = Rig::new(1);
    rig.config.segment_bytes = 5_000;
    let mut log = rig.open_log();
    let values: Vec<Vec<u8>> = (1..=9).map(|n| vec![b'v'; n * 37 % 50]).collect();
    for group in [&values[..5], &values[5..7], &values[7..]] {
        let records: Vec<_> = group.iter().map(|value| record(value, 0)).collect();
        rig.put(&mut log, &records).unwrap();
    }
    let reader = log.reader();
    // What each record takes where it is stored.
    let one = ReadLimit {
        max_records: 1,
        ..ReadLimit::default()
    };
    let sizes: Vec<usize> = (0..9)
        .map(|offset| reader.read(Offset::new(offset), &one).unwrap().bytes)
        .collect();
    let all: usize = sizes.iter().sum();
    for from in 0..9_usize {
        for max_bytes in 0..=all + 1 {
            for (max_records, before) in [(u32::MAX, 9), (2, 9), (4, 9), (u32::MAX, 5), (3, 7)] {
                let limit = ReadLimit {
                    max_bytes,
                    max_records,
                    before: Some(Offset::new(before)),
                };
                let batch = reader.read(Offset::new(from as u64), &limit).unwrap();
                let (mut count, mut bytes) = (0, 0);
                while ((from + count) as u64) < before
                    && count < max_records as usize
                    && (count == 0 || bytes + sizes[from + count] <= max_bytes)
                {
                    bytes += sizes[from + count];
                    count += 1;
                }
                assert_eq!(
                    (batch.record_count as usize, batch.bytes),
                    (count, bytes),
                    "from {from}, {limit:?}"
                );
                assert_eq!(batch.next_offset.get(), (from + count) as u64);
                let chunks: usize = batch.chunks.iter().map(|chunk| chunk.len()).sum();
                assert_eq!(chunks, bytes);
                assert!(batch.chunks.iter().all(|chunk| !chunk.is_empty()));
            }
        }
    }
}

/// What a read has brought in is in memory for the next one, and that brings the same.
#[test]
fn what_is_in_memory_is_read_as_it_is_from_disk() {
    let rig = Rig::new(2);
    let mut log = rig.open_log();
    rig.put(&mut log, &[record(b"a", 0), record(b"b", 0)])
        .unwrap();
    let reader = log.reader();
    let limit = ReadLimit::default();
    let read = reader.read(Offset::ZERO, &limit).unwrap();
    let resident = reader.read_resident(Offset::ZERO, &limit).unwrap();
    assert_eq!(resident.chunks, read.chunks);
    assert_eq!(resident.next_offset, read.next_offset);
}

/// What would have to be waited for is left to a read that may wait: bytes, and files that are closed.
#[test]
fn a_read_of_what_is_in_memory_does_nothing_on_the_disk() {
    for seed in [1, 2] {
        let mut rig = Rig::new(seed);
        rig.config.segment_bytes = 64 << 10;
        let mut log = rig.open_log();
        for n in 0..100 {
            rig.put(&mut log, &[record(&[n; 5_000], 0)]).unwrap();
        }
        let reader = log.reader();
        let limit = ReadLimit {
            max_records: 1,
            ..ReadLimit::default()
        };
        for at in [0, 99, 50].map(Offset::new) {
            let before = rig.disk.count_all();
            assert_eq!(reader.read_resident(at, &limit), None, "at {at}");
            assert_eq!(rig.disk.count_all(), before, "at {at}");
            let read = reader.read(at, &limit).unwrap();
            assert_eq!(reader.read_resident(at, &limit), Some(read), "at {at}");
        }
    }
}

#[test]
fn a_segment_that_is_written_has_no_end() {
    let rig = Rig::new(1);
    let mut log = rig.open_log();
    rig.put(&mut log, &[record(b"a", 0), record(b"b", 0)])
        .unwrap();
    log.roll().unwrap();
    rig.put(&mut log, &[record(b"c", 0)]).unwrap();
    let end = |offset| log.reader().segment_end(Offset::new(offset));
    let two = Some(Offset::new(2));
    assert_eq!([end(0), end(1), end(2), end(3)], [two, two, None, None]);
}
