//! Append, sync, read, roll, times, and the files that come of it.

use flowstone_disk::{Disk, OpKind};
use flowstone_format::Offset;
use flowstone_log::{LogError, ReadError, ReadLimit};

use crate::harness::{Rig, START_MS, publish, read_all, read_from, record, strings, values};

#[test]
fn an_empty_partition_has_no_files() {
    let rig = Rig::new(1);
    let log = rig.open_log();
    assert_eq!(log.log_end_offset(), Offset::ZERO);
    assert!(rig.disk.list(&rig.dir()).is_err(), "not even a directory");
}

#[test]
fn what_was_appended_is_read_back_also_after_a_reopen() {
    let rig = Rig::new(1);
    let mut log = rig.open_log();
    let first = rig.put(&mut log, &values(["a", "b"])).unwrap();
    let second = rig.put(&mut log, &values(["c"])).unwrap();
    assert_eq!((first.base_offset.get(), first.record_count), (0, 2));
    assert_eq!((second.base_offset.get(), second.record_count), (2, 1));
    let expected = [(0, "a".into()), (1, "b".into()), (2, "c".into())];
    assert_eq!(strings(read_all(&log)), expected);
    drop(log);
    assert_eq!(strings(read_all(&rig.open_log())), expected);
}

#[test]
fn readers_see_nothing_above_the_watermark() {
    let rig = Rig::new(1);
    let mut log = rig.open_log();
    rig.append(&mut log, &values(["a"])).unwrap();
    let reader = log.reader();
    assert_eq!(reader.high_watermark(), Offset::ZERO);
    assert!(
        reader
            .read(Offset::ZERO, &ReadLimit::default())
            .unwrap()
            .chunks
            .is_empty()
    );
    let error = reader.read(Offset::new(1), &ReadLimit::default());
    assert!(
        matches!(error, Err(ReadError::OutOfRange { .. })),
        "{error:?}"
    );
    publish(&mut log).unwrap();
    assert_eq!(read_all(&log).len(), 1);
}

#[test]
#[should_panic(expected = "above the durable end")]
fn a_watermark_above_the_durable_end_is_a_bug() {
    let rig = Rig::new(1);
    let mut log = rig.open_log();
    rig.append(&mut log, &values(["a"])).unwrap();
    log.write().unwrap();
    log.set_high_watermark(Offset::new(1));
}

#[test]
fn many_batches_share_one_write_and_one_sync() {
    let rig = Rig::new(1);
    let mut log = rig.open_log();
    rig.put(&mut log, &values(["first"])).unwrap();
    let (writes, syncs) = (
        rig.disk.count(OpKind::Write),
        rig.disk.count(OpKind::SyncData),
    );
    for _ in 0..20 {
        rig.append(&mut log, &values(["x"])).unwrap();
    }
    publish(&mut log).unwrap();
    assert_eq!(rig.disk.count(OpKind::Write) - writes, 1);
    assert_eq!(rig.disk.count(OpKind::SyncData) - syncs, 1);
    assert_eq!(read_all(&log).len(), 21);
}

#[test]
fn a_sync_with_nothing_new_does_nothing() {
    let rig = Rig::new(1);
    let mut log = rig.open_log();
    rig.put(&mut log, &values(["a"])).unwrap();
    let before = rig.disk.count_all();
    log.sync().unwrap();
    assert_eq!(rig.disk.count_all(), before);
}

#[test]
fn segments_roll_and_offsets_run_through_them() {
    let rig = Rig::new(1);
    let mut log = rig.open_log();
    let value = [b'v'; 1000];
    for _ in 0..60 {
        rig.put(&mut log, &[record(&value, 0)]).unwrap();
    }
    assert!(
        log.reader().segment_count() >= 4,
        "{}",
        log.reader().segment_count()
    );
    for path in rig.segment_files() {
        let len = rig.bytes_of(&path).len() as u64;
        assert!(
            len <= rig.config.segment_bytes && len.is_multiple_of(4096),
            "{path:?} has {len}"
        );
    }
    let offsets = |log: &flowstone_log::Log| {
        read_all(log)
            .into_iter()
            .map(|(offset, _)| offset)
            .collect::<Vec<_>>()
    };
    assert_eq!(offsets(&log), (0..60).collect::<Vec<_>>());
    drop(log);
    assert_eq!(offsets(&rig.open_log()), (0..60).collect::<Vec<_>>());
}

#[test]
fn a_batch_larger_than_a_segment_is_refused_and_changes_nothing() {
    let rig = Rig::new(1);
    let mut log = rig.open_log();
    rig.put(&mut log, &values(["a"])).unwrap();
    let error = rig.put(&mut log, &[record(&[0; 20_000], 0)]).unwrap_err();
    assert!(matches!(error, LogError::BatchTooLarge { .. }), "{error}");
    rig.put(&mut log, &values(["b"])).unwrap();
    assert_eq!(strings(read_all(&log)), [(0, "a".into()), (1, "b".into())]);
}

#[test]
fn every_start_and_every_limit_cuts_at_records() {
    let rig = Rig::new(1);
    let mut log = rig.open_log();
    for batch in 0..30 {
        let records: Vec<_> = (0..=batch % 7)
            .map(|n| {
                record(
                    format!("{batch}-{n}-{}", "x".repeat(batch * 5)).as_bytes(),
                    0,
                )
            })
            .collect();
        rig.put(&mut log, &records).unwrap();
    }
    let reader = log.reader();
    let all = read_from(&reader, Offset::ZERO, 1 << 20);
    assert_eq!(all.len() as u64, reader.high_watermark().get());
    for max_bytes in [1, 40, 300, 5000] {
        for from in 0..all.len() {
            let rest = read_from(&reader, Offset::new(from as u64), max_bytes);
            assert_eq!(
                rest,
                all[from..],
                "from {from} in steps of {max_bytes} bytes"
            );
        }
    }
    for before in 1..=20_u64 {
        for from in 0..before {
            let limit = ReadLimit {
                before: Some(Offset::new(before)),
                max_records: 5,
                ..ReadLimit::default()
            };
            let batch = reader.read(Offset::new(from), &limit).unwrap();
            assert_eq!(u64::from(batch.record_count), (before - from).min(5));
            assert_eq!(batch.next_offset.get(), from + (before - from).min(5));
        }
    }
}

#[test]
fn a_response_keeps_to_its_bytes_unless_one_record_is_larger() {
    let rig = Rig::new(1);
    let mut log = rig.open_log();
    rig.put(&mut log, &vec![record(&[1; 500], 0); 10]).unwrap();
    let read = |max_bytes| {
        let limit = ReadLimit {
            max_bytes,
            ..ReadLimit::default()
        };
        log.reader().read(Offset::ZERO, &limit).unwrap()
    };
    assert_eq!(read(1).record_count, 1);
    assert_eq!(read(1600).record_count, 3);
    assert!(read(1600).bytes <= 1600);
    assert_eq!(read(1 << 20).record_count, 10);
}

#[test]
fn a_time_finds_the_lowest_offset_at_or_after_it() {
    let rig = Rig::new(1);
    let mut log = rig.open_log();
    let mut times = Vec::new();
    // Times jump to and fro, over several segments; some records come without one.
    for n in 0..400_i64 {
        let ms = START_MS + (n * 7919) % 4001 - 2000;
        times.push(ms);
        rig.put(&mut log, &[record(&[b'v'; 100], ms)]).unwrap();
    }
    let check = |log: &flowstone_log::Log| {
        let reader = log.reader();
        assert!(reader.segment_count() > 2);
        for ms in (START_MS - 2100..START_MS + 2100).step_by(13) {
            let expected = times.iter().position(|&time| time >= ms);
            let found = reader.offset_for_time(ms).unwrap();
            assert_eq!(
                found.map(Offset::get),
                expected.map(|n| n as u64),
                "at {ms}"
            );
        }
    };
    check(&log);
    drop(log);
    let mut log = rig.open_log();
    check(&log);

    // Below the log start nothing is found, whatever its time.
    log.trim(Offset::new(150)).unwrap();
    let reader = log.reader();
    for ms in (START_MS - 2100..START_MS + 2100).step_by(13) {
        let expected = times.iter().skip(150).position(|&time| time >= ms);
        let found = reader.offset_for_time(ms).unwrap();
        assert_eq!(
            found.map(Offset::get),
            expected.map(|n| n as u64 + 150),
            "at {ms}"
        );
    }
}

#[test]
fn records_without_a_time_get_that_of_the_append_which_never_goes_back() {
    let rig = Rig::new(1);
    let mut log = rig.open_log();
    rig.put(&mut log, &values(["a"])).unwrap();
    rig.clock.set(START_MS - 3_600_000);
    rig.put(&mut log, &values(["b"])).unwrap();
    drop(log);
    let mut log = rig.open_log();
    rig.put(&mut log, &values(["c"])).unwrap();
    rig.clock.set(START_MS + 5);
    rig.put(&mut log, &values(["d"])).unwrap();
    let times: Vec<_> = read_from(&log.reader(), Offset::ZERO, 1 << 20)
        .into_iter()
        .map(|(_, ms, _)| ms - START_MS)
        .collect();
    assert_eq!(times, [0, 0, 0, 5]);
}

#[test]
fn an_index_that_is_missing_or_garbled_or_of_another_segment_changes_no_answer() {
    let rig = Rig::new(1);
    let mut log = rig.open_log();
    for n in 0..200 {
        rig.put(
            &mut log,
            &[record(format!("{n:0200}").as_bytes(), START_MS + n)],
        )
        .unwrap();
    }
    let expected = read_all(&log);
    drop(log);
    let indexes: Vec<_> = rig
        .files()
        .into_iter()
        .filter(|path| path.extension().is_some_and(|e| e == "index"))
        .collect();
    assert!(indexes.len() >= 2, "sealed segments have an index each");

    let valid = rig.bytes_of(&indexes[0]);
    let check = |what: &str| {
        let log = rig.open_log();
        let reader = log.reader();
        for from in (0..200).step_by(17) {
            let rest: Vec<_> = read_from(&reader, Offset::new(from), 1 << 20)
                .into_iter()
                .map(|(offset, _, value)| (offset, value))
                .collect();
            let from = usize::try_from(from).unwrap();
            assert_eq!(rest, expected[from..], "{what}, from {from}");
            let time = START_MS + from as i64;
            assert_eq!(
                reader.offset_for_time(time).unwrap().unwrap().get(),
                from as u64,
                "{what}"
            );
        }
    };
    rig.overwrite(&indexes[0], 40, &[0xff; 8]);
    check("garbled");
    rig.disk.remove_file(&indexes[0]).unwrap();
    check("missing");
    rig.disk.remove_file(&indexes[1]).unwrap();
    let file = rig
        .disk
        .open(&indexes[1], flowstone_disk::OpenMode::CreateNew)
        .unwrap();
    file.write_all_at(&valid, 0).unwrap();
    check("of another segment");
}

#[test]
fn a_frame_that_fits_a_segment_exactly_is_taken_and_one_byte_more_is_not() {
    let taken = |len: usize| {
        let rig = Rig::new(1);
        let mut log = rig.open_log();
        let outcome = rig.put(&mut log, &[record(&vec![b'x'; len], 0)]);
        let size = log.reader().size_bytes();
        match outcome {
            Ok(_) => Some(size),
            Err(flowstone_log::LogError::BatchTooLarge { bytes, limit }) => {
                assert_eq!(bytes, limit + 1);
                None
            }
            Err(other) => panic!("{other}"),
        }
    };
    let capacity = Rig::new(1).config.segment_bytes;
    // What a value of so many bytes takes besides itself.
    let around = taken(10_000).expect("it fits") - 10_000;
    let longest = (capacity - around) as usize;
    assert_eq!(taken(longest), Some(capacity));
    assert_eq!(taken(longest + 1), None);
}

#[test]
fn a_read_without_room_brings_one_record() {
    let rig = Rig::new(1);
    let mut log = rig.open_log();
    rig.put(&mut log, &values(["a", "b"])).unwrap();
    for limit in [
        ReadLimit {
            max_bytes: 0,
            ..ReadLimit::default()
        },
        ReadLimit {
            max_bytes: 1,
            ..ReadLimit::default()
        },
        ReadLimit {
            max_records: 1,
            ..ReadLimit::default()
        },
    ] {
        let batch = log.reader().read(Offset::ZERO, &limit).unwrap();
        assert_eq!((batch.record_count, batch.next_offset.get()), (1, 1));
    }
}
