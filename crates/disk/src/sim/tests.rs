//! What the simulated disk loses and keeps, and how it fails.

use std::collections::BTreeSet;
use std::io::{Error, ErrorKind};
use std::path::Path;
use std::sync::Arc;

use crate::{Disk, File, OpKind, OpenMode, SimDisk};

const SECTOR: usize = 512;

fn create(disk: &dyn Disk, name: &str) -> Arc<dyn File> {
    disk.open(Path::new(name), OpenMode::CreateNew).unwrap()
}

/// A file that is durable with its name, of `bytes`.
fn create_durable(disk: &dyn Disk, name: &str, bytes: &[u8]) -> Arc<dyn File> {
    let file = create(disk, name);
    file.write_all_at(bytes, 0).unwrap();
    file.sync_all().unwrap();
    disk.sync_dir(Path::new("/")).unwrap();
    file
}

fn read(disk: &dyn Disk, name: &str) -> Option<Vec<u8>> {
    let file = match disk.open(Path::new(name), OpenMode::Read) {
        Err(error) if error.kind() == ErrorKind::NotFound => return None,
        opened => opened.unwrap(),
    };
    let mut bytes = vec![0; file.len().unwrap() as usize];
    file.read_exact_at(&mut bytes, 0).unwrap();
    Some(bytes)
}

/// What a scenario leaves after a power cut, over many seeds.
fn outcomes<T: Ord>(scenario: impl Fn(&SimDisk), look: impl Fn(&SimDisk) -> T) -> BTreeSet<T> {
    let run = |seed| {
        let sim = SimDisk::new(seed);
        scenario(&sim);
        sim.power_cut();
        look(&sim)
    };
    (0..64).map(run).collect()
}

#[test]
fn a_power_cut_keeps_any_subset_of_unsynced_sectors_and_all_synced_ones() {
    let kept = outcomes(
        |sim| {
            let file = create_durable(sim, "f", &[1; 8 * SECTOR]);
            file.write_all_at(&[2; 3 * SECTOR], 2 * SECTOR as u64)
                .unwrap();
        },
        |sim| {
            let bytes = read(sim, "f").unwrap();
            assert_eq!(bytes.len(), 8 * SECTOR);
            let sectors: Vec<u8> = bytes
                .chunks(SECTOR)
                .map(|sector| {
                    assert!(
                        sector.iter().all(|byte| *byte == sector[0]),
                        "a sector was torn"
                    );
                    sector[0]
                })
                .collect();
            assert_eq!(
                (&sectors[..2], &sectors[5..]),
                (&[1, 1][..], &[1, 1, 1][..])
            );
            sectors[2..5].to_vec()
        },
    );
    assert_eq!(
        kept.len(),
        8,
        "not every subset of three sectors came up: {kept:?}"
    );
}

#[test]
fn size_and_bytes_reach_the_medium_apart() {
    let kept = outcomes(
        |sim| {
            let file = create_durable(sim, "f", &[]);
            file.write_all_at(&[7; SECTOR], 0).unwrap();
        },
        |sim| read(sim, "f").unwrap().first().copied(),
    );
    assert_eq!(
        kept,
        BTreeSet::from([None, Some(0), Some(7)]),
        "old size, size alone, both"
    );
}

#[test]
fn a_synced_file_outlasts_every_power_cut() {
    let kept = outcomes(
        |sim| {
            let file = create_durable(sim, "f", b"first");
            file.write_all_at(b"second", 5).unwrap();
            file.sync_data().unwrap();
        },
        |sim| read(sim, "f"),
    );
    assert_eq!(kept, BTreeSet::from([Some(b"firstsecond".to_vec())]));
}

#[test]
fn a_name_is_durable_only_with_its_directory() {
    let look = |sim: &SimDisk| read(sim, "d/f");
    let unsynced = |sim: &SimDisk| {
        sim.create_dir_all(Path::new("d")).unwrap();
        sim.sync_dir(Path::new("/")).unwrap();
        create(sim, "d/f").sync_all().unwrap();
    };
    assert_eq!(
        outcomes(unsynced, look),
        BTreeSet::from([None, Some(vec![])])
    );
    let synced = |sim: &SimDisk| {
        unsynced(sim);
        sim.sync_dir(Path::new("d")).unwrap();
    };
    assert_eq!(outcomes(synced, look), BTreeSet::from([Some(vec![])]));
}

#[test]
fn a_directory_that_is_not_in_its_parent_takes_its_files_along() {
    let kept = outcomes(
        |sim| {
            sim.create_dir_all(Path::new("d")).unwrap();
            create(sim, "d/f").sync_all().unwrap();
            sim.sync_dir(Path::new("d")).unwrap();
        },
        |sim| {
            (
                sim.list(Path::new("/")).unwrap().len(),
                read(sim, "d/f").is_some(),
            )
        },
    );
    assert_eq!(kept, BTreeSet::from([(0, false), (1, true)]));
}

#[test]
fn a_rename_over_a_file_leaves_the_one_or_the_other() {
    let replace = |sim: &SimDisk| {
        create_durable(sim, "m", b"old");
        create(sim, "m.tmp").write_all_at(b"new", 0).unwrap();
        sim.open(Path::new("m.tmp"), OpenMode::ReadWrite)
            .unwrap()
            .sync_all()
            .unwrap();
        sim.rename(Path::new("m.tmp"), Path::new("m")).unwrap();
    };
    let look = |sim: &SimDisk| read(sim, "m");
    assert_eq!(
        outcomes(replace, look),
        BTreeSet::from([Some(b"new".to_vec()), Some(b"old".to_vec())])
    );
    let synced = |sim: &SimDisk| {
        replace(sim);
        sim.sync_dir(Path::new("/")).unwrap();
    };
    let look = |sim: &SimDisk| (read(sim, "m"), read(sim, "m.tmp"));
    assert_eq!(
        outcomes(synced, look),
        BTreeSet::from([(Some(b"new".to_vec()), None)])
    );
}

#[test]
fn a_file_moved_out_of_a_directory_does_not_come_back_there() {
    let kept = outcomes(
        |sim| {
            sim.create_dir_all(Path::new("a")).unwrap();
            sim.create_dir_all(Path::new("b")).unwrap();
            sim.sync_dir(Path::new("/")).unwrap();
            create(sim, "a/f");
            sim.rename(Path::new("a/f"), Path::new("b/f")).unwrap();
            sim.sync_dir(Path::new("b")).unwrap();
            sim.sync_dir(Path::new("a")).unwrap();
        },
        |sim| (read(sim, "a/f").is_some(), read(sim, "b/f").is_some()),
    );
    assert_eq!(kept, BTreeSet::from([(false, true)]));
}

#[test]
fn a_removed_name_may_come_back_until_its_directory_is_synced() {
    let remove = |sim: &SimDisk| {
        create_durable(sim, "f", b"x");
        sim.remove_file(Path::new("f")).unwrap();
    };
    let look = |sim: &SimDisk| read(sim, "f");
    assert_eq!(
        outcomes(remove, look),
        BTreeSet::from([None, Some(b"x".to_vec())])
    );
    let synced = |sim: &SimDisk| {
        remove(sim);
        sim.sync_dir(Path::new("/")).unwrap();
    };
    assert_eq!(outcomes(synced, look), BTreeSet::from([None]));
}

#[test]
fn syncing_the_disk_makes_everything_durable() {
    let kept = outcomes(
        |sim| {
            sim.create_dir_all(Path::new("d/e")).unwrap();
            create(sim, "d/e/f").write_all_at(b"x", 0).unwrap();
            sim.rename(Path::new("d/e/f"), Path::new("d/g")).unwrap();
            sim.sync_all(Path::new("d")).unwrap();
        },
        |sim| (read(sim, "d/e/f"), read(sim, "d/g")),
    );
    assert_eq!(kept, BTreeSet::from([(None, Some(b"x".to_vec()))]));
}

#[test]
fn a_punched_hole_may_fill_again_until_it_is_synced() {
    let punch = |sim: &SimDisk| {
        let file = create_durable(sim, "f", &[1; SECTOR]);
        file.punch(0, SECTOR as u64).unwrap();
        file
    };
    let look = |sim: &SimDisk| read(sim, "f").unwrap()[0];
    assert_eq!(
        outcomes(|sim| drop(punch(sim)), look),
        BTreeSet::from([0, 1])
    );
    assert_eq!(
        outcomes(|sim| punch(sim).sync_data().unwrap(), look),
        BTreeSet::from([0])
    );
}

#[test]
fn a_failed_sync_leaves_pages_clean_and_lost() {
    let fail = |sim: &SimDisk| {
        let file = create_durable(sim, "f", b"old");
        file.write_all_at(b"new", 0).unwrap();
        sim.fail_nth(OpKind::SyncData, 1, ErrorKind::Other);
        file.sync_data().unwrap_err();
        assert_eq!(
            read(sim, "f").unwrap(),
            b"new",
            "the cache shows what the medium lacks"
        );
        file
    };
    let look = |sim: &SimDisk| read(sim, "f").unwrap();
    let again = |sim: &SimDisk| fail(sim).sync_data().unwrap();
    assert_eq!(
        outcomes(again, look),
        BTreeSet::from([b"old".to_vec()]),
        "a second sync proves nothing"
    );
    let rewritten = |sim: &SimDisk| {
        let file = fail(sim);
        file.write_all_at(b"new", 0).unwrap();
        file.sync_data().unwrap();
    };
    assert_eq!(
        outcomes(rewritten, look),
        BTreeSet::from([b"new".to_vec()]),
        "writing again makes dirty again"
    );
}

#[test]
fn pages_of_a_failed_sync_outlast_the_process_and_not_the_power() {
    let sim = SimDisk::new(1);
    let file = create_durable(&sim, "f", b"old");
    file.write_all_at(b"new", 0).unwrap();
    sim.fail_nth(OpKind::SyncDisk, 1, ErrorKind::Other);
    sim.sync_all(Path::new("/")).unwrap_err();
    sim.process_crash();
    assert_eq!(read(&sim, "f").unwrap(), b"new");
    sim.sync_all(Path::new("/")).unwrap();
    sim.power_cut();
    assert_eq!(read(&sim, "f").unwrap(), b"old");
}

#[test]
fn a_crash_of_the_process_keeps_what_was_written_and_kills_every_handle() {
    let sim = SimDisk::new(1);
    let disk = sim.disk();
    let file = create(&*disk, "f");
    file.write_all_at(b"x", 0).unwrap();
    let map = file.map(4096).unwrap();
    let lock = disk.lock(Path::new("LOCK")).unwrap();
    sim.process_crash();

    assert_eq!(read(&sim, "f").unwrap(), b"x");
    let next = sim.disk();
    let held = next.lock(Path::new("LOCK")).unwrap();
    drop(lock);
    assert_eq!(
        sim.lock(Path::new("LOCK")).unwrap_err().kind(),
        ErrorKind::WouldBlock,
        "a dead lock frees nothing"
    );
    drop(held);

    file.len().unwrap_err();
    file.write_all_at(b"y", 0).unwrap_err();
    file.sync_data().unwrap_err();
    map.populate(0..1).unwrap_err();
    disk.list(Path::new("/")).unwrap_err();
    assert_eq!(read(&*next, "f").unwrap(), b"x");
}

#[test]
fn a_full_disk_refuses_whole_and_takes_again_when_there_is_room() {
    let sim = SimDisk::new(1);
    sim.set_capacity(3 * 4096);
    let (one, two) = (create(&sim, "one"), create(&sim, "two"));
    one.reserve(0, 8192).unwrap();
    assert_eq!(
        two.reserve(0, 8192).unwrap_err().kind(),
        ErrorKind::StorageFull
    );
    assert_eq!(
        two.write_all_at(&[1; 4097], 0).unwrap_err().kind(),
        ErrorKind::StorageFull
    );
    assert_eq!((two.len().unwrap(), sim.used_bytes()), (0, 8192));
    one.write_all_at(&[1; 8192], 0).unwrap();
    one.punch(0, 4096).unwrap();
    two.reserve(0, 8192).unwrap();
    assert_eq!(sim.used_bytes(), 3 * 4096);
    sim.remove_file(Path::new("one")).unwrap();
    assert_eq!(sim.used_bytes(), 2 * 4096);
}

#[test]
fn planned_failures_come_once_and_in_their_turn() {
    let sim = SimDisk::new(1);
    let file = create(&sim, "f");
    sim.fail_nth(OpKind::Write, 2, ErrorKind::StorageFull);
    file.write_all_at(b"a", 0).unwrap();
    assert_eq!(
        file.write_all_at(b"b", 0).unwrap_err().kind(),
        ErrorKind::StorageFull
    );
    assert_eq!(read(&sim, "f").unwrap(), b"a");
    file.write_all_at(b"c", 0).unwrap();
    sim.fail_nth(OpKind::Write, 1, ErrorKind::Other);
    sim.clear_faults();
    file.write_all_at(b"d", 0).unwrap();
    assert_eq!(sim.count(OpKind::Write), 4);
}

#[test]
fn operations_are_counted_and_traced() {
    let sim = SimDisk::new(1);
    let file = create(&sim, "f");
    sim.start_trace();
    file.reserve(0, 4096).unwrap();
    file.write_all_at(b"abc", 7).unwrap();
    sim.rename(Path::new("f"), Path::new("g")).unwrap();
    let trace = sim.take_trace();
    let kinds: Vec<OpKind> = trace.iter().map(|op| op.kind).collect();
    assert_eq!(kinds, [OpKind::Reserve, OpKind::Write, OpKind::Rename]);
    assert_eq!(
        (trace[1].at, trace[1].len, &*trace[1].path),
        (7, 3, Path::new("f"))
    );
    assert_eq!(trace[2].to.as_deref(), Some(Path::new("g")));
    assert_eq!(sim.count_all(), 4);
    assert!(sim.take_trace().is_empty(), "the trace has ended");
}

#[test]
fn a_hook_sees_every_operation_and_may_cut_the_power_under_it() {
    let sim = SimDisk::new(1);
    create_durable(&sim, "f", b"old");
    let disk = sim.disk();
    let file = disk.open(Path::new("f"), OpenMode::ReadWrite).unwrap();
    let switch = sim.clone();
    sim.set_hook(move |op| match op.kind {
        OpKind::Write => {
            switch.power_cut();
            None
        }
        OpKind::Punch => Some(Error::other("no holes today")),
        _ => None,
    });
    assert_eq!(file.punch(0, 1).unwrap_err().to_string(), "no holes today");
    file.write_all_at(b"new", 0).unwrap_err();
    sim.clear_faults();
    disk.open(Path::new("f"), OpenMode::Read).unwrap_err();
    assert_eq!(read(&sim, "f").unwrap(), b"old", "the write came too late");
}

#[test]
fn the_same_seed_gives_the_same_disk() {
    let after = |seed| {
        let sim = SimDisk::new(seed);
        for name in ["a", "b", "c", "d"] {
            create(&sim, name)
                .write_all_at(&[9; 4 * SECTOR], 0)
                .unwrap();
        }
        sim.power_cut();
        ["a", "b", "c", "d"].map(|name| read(&sim, name))
    };
    assert_eq!(after(5), after(5));
    assert_ne!(after(5), after(6));
}

#[test]
#[should_panic(expected = "SIGBUS")]
fn touching_what_lies_past_the_last_page_ends_the_test() {
    let sim = SimDisk::new(1);
    let file = create(&sim, "f");
    file.write_all_at(b"x", 0).unwrap();
    file.map(1 << 20).unwrap().slice(0..4097);
}
