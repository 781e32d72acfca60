//! What the simulated disk loses and keeps; the rest in the modules below.

mod faults;
mod machine;

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::path::Path;
use std::sync::Arc;

use crate::{Disk, File, OpenMode, SimDisk};

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
fn a_file_that_grew_in_steps_keeps_any_of_its_sizes() {
    let kept = outcomes(
        |sim| {
            let file = create_durable(sim, "f", &[]);
            for step in 1..=3 {
                file.reserve(0, step * 4096).unwrap();
            }
        },
        |sim| read(sim, "f").unwrap().len(),
    );
    assert_eq!(kept, BTreeSet::from([0, 4096, 8192, 12288]));
    let kept = outcomes(
        |sim| {
            let file = create_durable(sim, "f", &[]);
            file.reserve(0, 3 * 4096).unwrap();
        },
        |sim| read(sim, "f").unwrap().len(),
    );
    assert_eq!(
        kept,
        BTreeSet::from([0, 4096, 8192, 12288]),
        "a step is written back in pages"
    );
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

#[test]
fn rot_on_the_medium_is_seen_past_the_cache_at_once_and_by_all_after_a_power_cut() {
    let sim = SimDisk::new(1);
    let disk = sim.disk();
    let path = Path::new("f");
    let file = disk.open(path, OpenMode::CreateNew).unwrap();
    file.write_all_at(b"abcd", 0).unwrap();
    file.sync_all().unwrap();
    disk.sync_all(Path::new("")).unwrap();
    file.write_all_at(b"e", 4).unwrap();
    sim.rot(path, 1, 0x20).unwrap();
    let read = |mode| {
        let mut bytes = [0; 5];
        let file = sim.disk().open(path, mode).unwrap();
        file.read_exact_at(&mut bytes[..4], 0).unwrap();
        bytes[..4].to_vec()
    };
    assert_eq!(read(OpenMode::Read), b"abcd");
    file.sync_data().unwrap();
    sim.power_cut();
    assert_eq!(
        read(OpenMode::Read),
        b"abcd",
        "the whole sector was written again"
    );
    sim.rot(path, 1, 0x20).unwrap();
    assert_eq!(read(OpenMode::ReadDirect), b"aBcd");
    assert_eq!(read(OpenMode::Read), b"abcd");
    sim.power_cut();
    assert_eq!(read(OpenMode::Read), b"aBcd");
    let direct = sim.disk().open(path, OpenMode::ReadDirect).unwrap();
    assert!(direct.write_all_at(b"x", 0).is_err());
}
