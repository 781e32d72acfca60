//! FLOOR's two slots of a partition: the newer one holds, and is never the one that is written over.

use std::path::Path;
use std::sync::Arc;

use flowstone_disk::{Disk, OpKind, OpenMode};
use flowstone_format::{
    FLOOR_NAME, FLOOR_SLOT_LEN, FloorSlot, Generation, Offset, PartitionId, Position,
    floor_slot_positions,
};
use flowstone_log::{Floor, LogError};

use crate::harness::{DATA_DIR, PARTITION, Rig};

fn slot(offset: u64) -> FloorSlot {
    FloorSlot {
        partition: PARTITION,
        generation: Generation::new(1),
        offset: Offset::new(offset),
        position: Position::new(4096 + offset),
        counter: 0,
    }
}

fn offset_of(floor: &Floor) -> Option<u64> {
    let newest = floor.get(PARTITION).unwrap();
    newest.map(|slot| slot.offset.get())
}

#[test]
fn every_write_goes_to_the_older_slot_and_counts_on() {
    let rig = Rig::new(1);
    let (_, floor) = rig.open().unwrap();
    let places = floor_slot_positions(PARTITION);
    for offset in 1..6 {
        rig.disk.start_trace();
        floor.put(slot(offset)).unwrap();
        let written = rig.disk.take_trace();
        let written: Vec<_> = written
            .iter()
            .filter(|op| op.kind == OpKind::Write)
            .map(|op| op.at)
            .collect();
        let other = places[usize::from(offset % 2 == 0)];
        assert_eq!(written, [other]);
        let newest = floor.get(PARTITION).unwrap().unwrap();
        assert_eq!((newest.offset.get(), newest.counter), (offset, offset));
    }
}

#[test]
fn when_one_slot_is_unreadable_the_other_holds_and_the_next_write_goes_over_the_unreadable_one() {
    for newest in [4, 5] {
        let rig = Rig::new(1);
        let (_, floor) = rig.open().unwrap();
        for offset in 1..=newest {
            floor.put(slot(offset)).unwrap();
        }
        let at = floor_slot_positions(PARTITION)[usize::from(newest % 2 == 0)];
        let path = Path::new(DATA_DIR).join(FLOOR_NAME);
        rig.overwrite(&path, at + 9, &[0xEE; FLOOR_SLOT_LEN - 9]);
        assert_eq!(offset_of(&floor), Some(newest - 1));
        floor.put(slot(99)).unwrap();
        assert_eq!(offset_of(&floor), Some(99));
        // The slot that held meanwhile was not touched.
        rig.overwrite(&path, at, &[0; FLOOR_SLOT_LEN]);
        assert_eq!(offset_of(&floor), Some(newest - 1));
    }
}

#[test]
fn a_tool_reads_floor_where_there_is_one_and_fails_where_it_cannot() {
    let rig = Rig::new(1);
    let disk: Arc<dyn Disk> = rig.disk.disk();
    let open = || Floor::open_read_only(&disk, Path::new(DATA_DIR));
    assert!(open().unwrap().is_none());
    let (_, floor) = rig.open().unwrap();
    floor.put(slot(3)).unwrap();
    assert_eq!(offset_of(&open().unwrap().unwrap()), Some(3));
    rig.disk
        .fail_nth(OpKind::Open, 1, std::io::ErrorKind::PermissionDenied);
    assert!(open().is_err(), "what cannot be opened is not absent");
}

/// A file that ends within a slot has lost it, and is no reason not to open.
#[test]
fn a_slot_that_is_cut_off_is_none() {
    let rig = Rig::new(1);
    let (_, floor) = rig.open().unwrap();
    for offset in 1..=2 {
        floor.put(slot(offset)).unwrap();
    }
    let [first, second] = floor_slot_positions(PARTITION);
    let path = Path::new(DATA_DIR).join(FLOOR_NAME);
    let bytes = rig.bytes_of(&path);
    let cut_at = |len: u64| {
        rig.disk.remove_file(&path).unwrap();
        let file = rig.disk.open(&path, OpenMode::CreateNew).unwrap();
        let kept = &bytes[..usize::try_from(len).unwrap()];
        file.write_all_at(kept, 0).unwrap();
        let (floor, _) = Floor::open(&rig.disk.disk(), Path::new(DATA_DIR)).unwrap();
        (offset_of(&floor), floor.highest().unwrap())
    };
    let whole = FLOOR_SLOT_LEN as u64;
    assert_eq!(cut_at(second + whole), (Some(2), Some(PARTITION)));
    assert_eq!(cut_at(second + whole - 1), (Some(1), Some(PARTITION)));
    assert_eq!(cut_at(first + whole), (Some(1), Some(PARTITION)));
    assert_eq!(cut_at(first + whole - 1), (None, None));
}

#[test]
fn the_highest_slot_counts_readable_or_not() {
    let rig = Rig::new(1);
    let (_, floor) = rig.open().unwrap();
    assert_eq!(floor.highest().unwrap(), None);
    let path = Path::new(DATA_DIR).join(FLOOR_NAME);
    for id in [0, 1, 63, 64, 200] {
        let partition = PartitionId::new(id);
        floor
            .put(FloorSlot {
                partition,
                ..slot(1)
            })
            .unwrap();
        assert_eq!(floor.highest().unwrap(), Some(partition));
    }
    let [_, second] = floor_slot_positions(PartitionId::new(300));
    rig.overwrite(&path, second + 5, &[0xEE]);
    rig.overwrite(&path, second + FLOOR_SLOT_LEN as u64, &[0]);
    assert_eq!(floor.highest().unwrap(), Some(PartitionId::new(300)));
}

/// A file that cannot be opened may be there, and says what nothing else knows.
#[test]
fn an_error_is_not_taken_for_no_file() {
    let rig = Rig::new(1);
    drop(rig.open().unwrap());
    for (kind, operation) in [(OpKind::Open, "open"), (OpKind::Read, "read")] {
        rig.disk.fail_nth(kind, 1, std::io::ErrorKind::Other);
        let error = Floor::open(&rig.disk.disk(), Path::new(DATA_DIR)).unwrap_err();
        let told = error.to_string();
        assert!(
            told.starts_with(&format!("could not {operation}")),
            "{told}"
        );
    }
}

#[test]
fn what_was_synced_survives_a_power_cut() {
    for seed in 0..10 {
        let rig = Rig::new(seed);
        let (_, floor) = rig.open().unwrap();
        floor.put(slot(1)).unwrap();
        floor.sync().unwrap();
        rig.disk.power_cut();
        let (_, floor) = rig.open().unwrap();
        assert_eq!(offset_of(&floor), Some(1));
    }
}

/// Only what a crash can leave of a header is begun again: a foreign sector is an error.
#[test]
fn a_header_that_nobody_has_begun_is_refused() {
    let rig = Rig::new(1);
    drop(rig.open().unwrap());
    let path = Path::new(DATA_DIR).join(FLOOR_NAME);
    rig.overwrite(&path, 1_024, &[0xEE]);
    let opened = Floor::open(&rig.disk.disk(), Path::new(DATA_DIR));
    assert!(matches!(opened, Err(LogError::Header { .. })));
    rig.overwrite(&path, 0, &[0; 4_096]);
    let opened = Floor::open(&rig.disk.disk(), Path::new(DATA_DIR));
    assert!(opened.is_ok(), "none of it has come to the disk");
}
