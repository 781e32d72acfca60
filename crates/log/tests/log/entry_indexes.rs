//! Entry indexes go up by one from frame to frame, over rolls, cuts and reopenings.

use std::path::Path;
use std::sync::Arc;

use flowstone_disk::Disk;
use flowstone_format::{FRAME_HEADER_LEN, Offset};
use flowstone_log::inspect::inspect;

use crate::harness::{DATA_DIR, PARTITION, Rig, append, record};

fn put(rig: &Rig, log: &mut flowstone_log::Log, records: u64) {
    for n in 0..records {
        rig.put(log, &[record(format!("{n:0700}").as_bytes(), 0)])
            .unwrap();
    }
}

/// Offset and entry index of every frame in the partition.
fn indexes(rig: &Rig) -> Vec<(u64, u64)> {
    let disk: Arc<dyn Disk> = rig.disk.disk();
    let mut found = Vec::new();
    let report = inspect(&disk, Path::new(DATA_DIR), PARTITION, |_, frame| {
        let header = &frame.header;
        found.push((header.base_offset.get(), header.entry_index));
    });
    assert!(report.unwrap().damages.is_empty());
    found
}

#[test]
fn entry_indexes_leave_none_out() {
    let rig = Rig::new(1);
    let mut log = rig.open_log();
    put(&rig, &mut log, 50);
    assert!(log.reader().segment_count() > 2, "it has rolled");

    // A suffix that was not yet visible is cut off.
    for _ in 0..3 {
        append(&mut log, &[record(b"gone", 0)], 0).unwrap();
    }
    log.sync().unwrap();
    log.truncate(Offset::new(51)).unwrap();
    let durable = log.sync().unwrap();
    log.set_high_watermark(durable.offset);
    put(&rig, &mut log, 1);
    drop(log);
    let mut log = rig.open_log();
    put(&rig, &mut log, 2);

    // A torn tail is sealed off: a header whose payload never came.
    append(&mut log, &[record(&[7; 3000], 0)], 0).unwrap();
    log.write().unwrap();
    drop(log);
    let last = rig.segment_files().pop().unwrap();
    let bytes = rig.bytes_of(&last);
    let end = bytes.iter().rposition(|&byte| byte != 0).unwrap() + 1;
    let torn = end - 3000 + FRAME_HEADER_LEN;
    rig.overwrite(&last, torn as u64, &vec![0; end - torn]);
    let mut log = rig.open_log();
    assert_eq!(log.log_end_offset().get(), 54, "the torn frame is cut off");
    put(&rig, &mut log, 20);
    drop(log);

    let found = indexes(&rig);
    let expected: Vec<_> = (0..74).map(|n| (n, n + 1)).collect();
    assert_eq!(found, expected);
}
