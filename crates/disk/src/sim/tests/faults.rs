//! Operations that fail, or that a crash comes upon.

use std::collections::BTreeSet;
use std::io::{Error, ErrorKind};
use std::path::Path;
use std::sync::Arc;

use super::{SECTOR, create, create_durable, outcomes, read};
use crate::{Disk, File, OpKind, OpenMode, SimDisk};

/// The first byte of each sector.
fn sectors(sim: &SimDisk, name: &str) -> Vec<u8> {
    let bytes = read(sim, name).unwrap();
    bytes.chunks(SECTOR).map(|sector| sector[0]).collect()
}

/// What a scenario leaves behind, over many seeds.
fn left<T: Ord>(scenario: impl Fn(&SimDisk) -> T) -> BTreeSet<T> {
    (0..128).map(|seed| scenario(&SimDisk::new(seed))).collect()
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
            "the cache shows what the medium may lack"
        );
        file
    };
    let look = |sim: &SimDisk| read(sim, "f").unwrap();
    let again = |sim: &SimDisk| fail(sim).sync_data().unwrap();
    assert_eq!(
        outcomes(again, look),
        BTreeSet::from([b"new".to_vec(), b"old".to_vec()]),
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
fn a_failed_sync_has_made_any_of_the_sectors_durable() {
    let fail = |sim: &SimDisk| {
        let file = create_durable(sim, "f", &[1; 3 * SECTOR]);
        file.write_all_at(&[2; 3 * SECTOR], 0).unwrap();
        sim.fail_nth(OpKind::SyncAll, 1, ErrorKind::Other);
        file.sync_all().unwrap_err();
        // All are clean: neither this sync nor the power cut takes anything along.
        file.sync_all().unwrap();
        assert_eq!(sectors(sim, "f"), [2, 2, 2]);
    };
    let kept = left(|sim| {
        fail(sim);
        sim.power_cut();
        sectors(sim, "f")
    });
    assert_eq!(kept.len(), 8, "not every subset of three sectors: {kept:?}");
}

#[test]
fn pages_of_a_failed_sync_outlast_the_process_and_not_the_power() {
    let kept = left(|sim| {
        let file = create_durable(sim, "f", b"old");
        file.write_all_at(b"new", 0).unwrap();
        sim.fail_nth(OpKind::SyncDisk, 1, ErrorKind::Other);
        sim.sync_all(Path::new("/")).unwrap_err();
        sim.process_crash();
        assert_eq!(read(sim, "f").unwrap(), b"new");
        sim.sync_all(Path::new("/")).unwrap();
        sim.power_cut();
        read(sim, "f").unwrap()
    });
    assert_eq!(kept, BTreeSet::from([b"new".to_vec(), b"old".to_vec()]));
}

#[test]
fn a_failed_writeback_is_a_failed_sync_that_nobody_asked_for() {
    let kept = left(|sim| {
        let file = create_durable(sim, "f", b"old");
        file.write_all_at(b"new", 0).unwrap();
        sim.fail_writeback();
        file.sync_all().unwrap();
        assert_eq!(read(sim, "f").unwrap(), b"new");
        sim.power_cut();
        read(sim, "f").unwrap()
    });
    assert_eq!(kept, BTreeSet::from([b"new".to_vec(), b"old".to_vec()]));
}

#[test]
fn a_failed_write_leaves_any_of_its_sectors_in_the_cache() {
    let seen = left(|sim| {
        let file = create_durable(sim, "f", &[1; 3 * SECTOR]);
        sim.fail_nth(OpKind::Write, 1, ErrorKind::Other);
        // From the middle of the first sector to the middle of the last.
        let (half, len) = (SECTOR / 2, 2 * SECTOR);
        file.write_all_at(&vec![2; len], half as u64).unwrap_err();
        let bytes = read(sim, "f").unwrap();
        assert!(bytes[..half].iter().all(|&byte| byte == 1));
        assert!(bytes[half + len..].iter().all(|&byte| byte == 1));
        [bytes[half], bytes[SECTOR], bytes[2 * SECTOR]]
    });
    assert_eq!(seen.len(), 8, "not every subset of three sectors: {seen:?}");
}

#[test]
fn a_crash_comes_upon_a_write_half_way() {
    let crash = |sim: &SimDisk, by: fn(&SimDisk)| {
        let file = create_durable(sim, "f", &[1; 2 * SECTOR]);
        let switch = sim.clone();
        sim.set_hook(move |op| {
            if op.kind == OpKind::Write {
                by(&switch);
            }
            None
        });
        file.write_all_at(&[2; 2 * SECTOR], 0).unwrap_err();
        sim.clear_faults();
        sectors(sim, "f")
    };
    for by in [SimDisk::process_crash, SimDisk::power_cut] {
        let seen = left(|sim| crash(sim, by));
        assert_eq!(seen.len(), 4, "not every subset of two sectors: {seen:?}");
    }
}

#[test]
fn a_fork_made_in_a_hook_may_crash_half_way_and_the_write_goes_on() {
    let seen = left(|sim| {
        let file = create_durable(sim, "f", &[1; 2 * SECTOR]);
        let (machine, forks) = (sim.clone(), Arc::new(std::sync::Mutex::new(Vec::new())));
        let made = Arc::clone(&forks);
        sim.set_hook(move |op| {
            if op.kind == OpKind::Write {
                made.lock().unwrap().push(machine.fork(machine.count_all()));
            }
            None
        });
        file.write_all_at(&[2; 2 * SECTOR], 0).unwrap();
        assert_eq!(sectors(sim, "f"), [2, 2]);
        let fork = forks.lock().unwrap().pop().unwrap();
        fork.process_crash();
        sectors(&fork, "f")
    });
    assert_eq!(seen.len(), 1, "the seed of the fork decides");
}

#[test]
fn a_failed_reservation_leaves_its_first_pages() {
    let seen = left(|sim| {
        let file = create(sim, "f");
        sim.fail_nth(OpKind::Reserve, 1, ErrorKind::Other);
        file.reserve(0, 3 * 4096).unwrap_err();
        (file.len().unwrap(), sim.used_bytes())
    });
    let pages = [0, 4096, 8192, 12288];
    assert_eq!(seen, pages.into_iter().map(|len| (len, len)).collect());
}

#[test]
fn a_failed_removal_of_a_directory_leaves_some_of_its_files() {
    let seen = left(|sim| {
        sim.create_dir_all(Path::new("d/e")).unwrap();
        for name in ["d/a", "d/b", "d/e/c"] {
            create(sim, name);
        }
        sim.fail_nth(OpKind::RemoveDirAll, 1, ErrorKind::Other);
        sim.remove_dir_all(Path::new("d")).unwrap_err();
        let names = sim.list(Path::new("d")).unwrap();
        let count = names.len() + sim.list(Path::new("d/e")).map_or(0, |inner| inner.len());
        sim.remove_dir_all(Path::new("d")).unwrap();
        count
    });
    assert_eq!(seen, BTreeSet::from([0, 1, 2, 3, 4]));
}

#[test]
fn a_full_disk_takes_a_part_at_most_and_all_when_there_is_room() {
    let after = left(|sim| {
        sim.set_capacity(3 * 4096);
        let (one, two) = (create(sim, "one"), create(sim, "two"));
        one.reserve(0, 8192).unwrap();
        assert_eq!(sim.free_bytes(Path::new("/")).unwrap(), 4096);
        assert_eq!(
            two.reserve(0, 8192).unwrap_err().kind(),
            ErrorKind::StorageFull
        );
        let (len, used) = (two.len().unwrap(), sim.used_bytes());
        assert_eq!(used, 8192 + len, "what was reserved is taken");
        one.write_all_at(&[1; 8192], 0).unwrap();
        one.punch(0, 4096).unwrap();
        two.reserve(0, 8192).unwrap();
        assert_eq!(sim.used_bytes(), 3 * 4096);
        assert_eq!(
            two.write_all_at(&[1; 1], 8192).unwrap_err().kind(),
            ErrorKind::StorageFull
        );
        assert_eq!(two.len().unwrap(), 8192, "there was room for nothing of it");
        len
    });
    assert_eq!(after, BTreeSet::from([0, 4096]));
}

#[test]
fn a_removed_file_takes_space_until_nobody_has_it_open() {
    let sim = SimDisk::new(1);
    let file = create(&sim, "f");
    file.reserve(0, 8192).unwrap();
    let map = file.map(8192).unwrap();
    sim.remove_file(Path::new("f")).unwrap();
    drop(file);
    assert_eq!(sim.used_bytes(), 8192, "the map holds it");
    drop(map);
    assert_eq!(sim.used_bytes(), 0);

    let file = create(&sim, "g");
    file.reserve(0, 4096).unwrap();
    sim.remove_file(Path::new("g")).unwrap();
    sim.process_crash();
    assert_eq!(sim.used_bytes(), 0, "a dead process holds nothing");
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
    file.write_all_at(b"c", 0).unwrap();
    sim.fail_nth(OpKind::Write, 1, ErrorKind::Other);
    sim.clear_faults();
    file.write_all_at(b"d", 0).unwrap();
    assert_eq!(read(&sim, "f").unwrap(), b"d");
    assert_eq!(sim.count(OpKind::Write), 4);
}

#[test]
fn a_hook_sees_every_operation_and_may_cut_the_power_under_it() {
    let kept = left(|sim| {
        create_durable(sim, "f", b"old");
        let disk = sim.disk();
        let file: Arc<dyn File> = disk.open(Path::new("f"), OpenMode::ReadWrite).unwrap();
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
        read(sim, "f").unwrap()
    });
    assert_eq!(kept, BTreeSet::from([b"new".to_vec(), b"old".to_vec()]));
}
