//! A read brings as many whole records as its limits allow, and one at least.

use flowstone_format::Offset;
use flowstone_log::ReadLimit;

use crate::harness::{Rig, record};

/// Whatever the limits are, and wherever it begins; over frames and segments. Once it is half full it takes a frame
/// whole or not at all.
#[test]
fn reads_bring_what_fits_to_the_record_or_to_the_frame() {
    let mut rig = Rig::new(1);
    rig.config.segment_bytes = 5_000;
    let mut log = rig.open_log();
    let values: Vec<Vec<u8>> = (1..=9).map(|n| vec![b'v'; n * 37 % 50]).collect();
    let frame_ends = [5, 7, 9];
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
    let mut ends_with_a_frame = 0;
    for from in 0..9_usize {
        for max_bytes in 0..=all + 1 {
            for (max_records, before) in [(u32::MAX, 9), (2, 9), (4, 9), (u32::MAX, 5), (3, 7)] {
                let limit = ReadLimit {
                    max_bytes,
                    max_records,
                    before: Some(Offset::new(before)),
                };
                let told = format!("from {from}, {limit:?}");
                let batch = reader.read(Offset::new(from as u64), &limit).unwrap();
                let (count, bytes) = (batch.record_count as usize, batch.bytes);
                let next = from + count;
                assert_eq!(batch.next_offset.get(), next as u64, "{told}");
                assert_eq!(bytes, sizes[from..next].iter().sum::<usize>(), "{told}");
                let chunks: usize = batch.chunks.iter().map(|chunk| chunk.len()).sum();
                assert_eq!(chunks, bytes);
                assert!(batch.chunks.iter().all(|chunk| !chunk.is_empty()));

                assert!(bytes <= max_bytes || count <= 1, "too much {told}");
                let most = (before as usize)
                    .saturating_sub(from)
                    .min(max_records as usize);
                assert!(count <= most, "too many {told}");
                if count == most || bytes + sizes[next] > max_bytes {
                    continue;
                }
                let begins_frame = frame_ends.iter().position(|&end| end == next);
                let frame = begins_frame.map(|at| sizes[next..frame_ends[at + 1]].iter().sum());
                assert!(
                    frame.is_some_and(|frame: usize| bytes + frame > max_bytes)
                        && bytes >= max_bytes / 2,
                    "too little {told}"
                );
                ends_with_a_frame += 1;
            }
        }
    }
    assert!(ends_with_a_frame > 0);
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
