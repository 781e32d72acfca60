//! Each test is written once and run on both disks, in a directory of its own.

use std::io::ErrorKind;
use std::path::Path;
use std::sync::Arc;

use flowstone_disk::{DirEntry, Disk, File, OpenMode, RealDisk, SimDisk};

/// Makes one `#[test]` a disk of each `fn name(disk, dir)`.
macro_rules! on_both_disks {
    ($($name:ident)*) => {
        mod real {
            $(#[test] fn $name() { super::on_the_real_disk(super::$name) })*
        }
        mod simulated {
            $(#[test] fn $name() { super::on_the_simulated_disk(super::$name) })*
        }
    };
}

on_both_disks! {
    opening_says_what_is_there
    files_read_back_what_was_written
    reservation_extends_with_zeros_and_keeps_bytes
    a_hole_reads_zero_and_keeps_the_size
    a_map_shows_what_is_written_later_without_mapping_again
    a_map_says_where_it_cannot_be_read
    slices_outlive_the_map_and_the_file
    lists_are_sorted_and_tell_directories
    renames_replace_files_and_move_directories
    removal_takes_whole_directories_and_leaves_open_files
    syncs_succeed_on_what_is_there_only
    a_lock_is_held_once
    free_space_is_told
}

fn on_the_real_disk(test: fn(&dyn Disk, &Path)) {
    let dir = tempfile::tempdir().unwrap();
    test(&RealDisk, dir.path());
}

fn on_the_simulated_disk(test: fn(&dyn Disk, &Path)) {
    let sim = SimDisk::new(1);
    sim.create_dir_all(Path::new("/data")).unwrap();
    test(&*sim.disk(), Path::new("/data"));
}

fn create(disk: &dyn Disk, path: &Path, bytes: &[u8]) -> Arc<dyn File> {
    let file = disk.open(path, OpenMode::CreateNew).unwrap();
    file.write_all_at(bytes, 0).unwrap();
    file
}

fn read(file: &dyn File, at: u64, len: usize) -> Vec<u8> {
    let mut bytes = vec![0xEE; len];
    file.read_exact_at(&mut bytes, at).unwrap();
    bytes
}

fn kind<T: std::fmt::Debug>(result: std::io::Result<T>) -> ErrorKind {
    result.unwrap_err().kind()
}

fn opening_says_what_is_there(disk: &dyn Disk, dir: &Path) {
    let path = dir.join("f");
    assert_eq!(kind(disk.open(&path, OpenMode::Read)), ErrorKind::NotFound);
    assert_eq!(
        kind(disk.open(&path, OpenMode::ReadWrite)),
        ErrorKind::NotFound
    );
    assert_eq!(
        kind(disk.open(&dir.join("no/f"), OpenMode::CreateNew)),
        ErrorKind::NotFound
    );
    create(disk, &path, b"kept");
    assert_eq!(
        kind(disk.open(&path, OpenMode::CreateNew)),
        ErrorKind::AlreadyExists
    );
    assert_eq!(
        kind(disk.open(&path.join("x"), OpenMode::Read)),
        ErrorKind::NotADirectory
    );
    let file = disk.open(&path, OpenMode::Read).unwrap();
    assert_eq!(read(&*file, 0, 4), b"kept");
    file.write_all_at(b"no", 0).unwrap_err();
    disk.open(&path, OpenMode::ReadWrite)
        .unwrap()
        .write_all_at(b"K", 0)
        .unwrap();
    assert_eq!(read(&*file, 0, 4), b"Kept");
}

fn files_read_back_what_was_written(disk: &dyn Disk, dir: &Path) {
    let file = create(disk, &dir.join("f"), b"");
    assert!(file.is_empty().unwrap());
    file.write_all_at(b"far", 10_000).unwrap();
    file.write_all_at(b"near", 1).unwrap();
    assert_eq!(file.len().unwrap(), 10_003);
    assert_eq!(read(&*file, 0, 6), b"\0near\0");
    assert_eq!(read(&*file, 9_999, 4), b"\0far");
    assert_eq!(
        kind(file.read_exact_at(&mut [0; 4], 10_000)),
        ErrorKind::UnexpectedEof
    );
    assert_eq!(
        kind(file.read_exact_at(&mut [0; 1], u64::from(u32::MAX))),
        ErrorKind::UnexpectedEof
    );
    file.read_exact_at(&mut [], 20_000).unwrap();
    file.write_all_at(&[], 20_000).unwrap();
    assert_eq!(
        file.len().unwrap(),
        10_003,
        "nothing written, nothing grown"
    );
}

fn reservation_extends_with_zeros_and_keeps_bytes(disk: &dyn Disk, dir: &Path) {
    let file = create(disk, &dir.join("f"), b"abc");
    file.reserve(0, 65_536).unwrap();
    assert_eq!(file.len().unwrap(), 65_536);
    file.reserve(65_536, 65_536).unwrap();
    file.reserve(0, 4_096).unwrap();
    file.reserve(1 << 30, 0).unwrap();
    assert_eq!(file.len().unwrap(), 131_072);
    let bytes = read(&*file, 0, 131_072);
    assert_eq!(&bytes[..3], b"abc");
    assert!(bytes[3..].iter().all(|byte| *byte == 0));
    file.sync_data().unwrap();
    assert_eq!(read(&*file, 0, 131_072), bytes);
}

fn a_hole_reads_zero_and_keeps_the_size(disk: &dyn Disk, dir: &Path) {
    let file = create(disk, &dir.join("f"), &[1; 20_000]);
    file.punch(4_096, 8_192).unwrap();
    file.punch(19_000, 1 << 20).unwrap();
    file.punch(100, 0).unwrap();
    assert_eq!(file.len().unwrap(), 20_000);
    let bytes = read(&*file, 0, 20_000);
    for (at, byte) in bytes.iter().enumerate() {
        let hole = (4_096..12_288).contains(&at) || at >= 19_000;
        assert_eq!(*byte, u8::from(!hole), "at {at}");
    }
}

fn a_map_shows_what_is_written_later_without_mapping_again(disk: &dyn Disk, dir: &Path) {
    let file = create(disk, &dir.join("f"), b"");
    let map = file.map(1 << 20).unwrap();
    file.reserve(0, 65_536).unwrap();
    file.write_all_at(b"first", 100).unwrap();
    map.populate(100..105).unwrap();
    assert_eq!(&map.slice(100..105)[..], b"first");
    file.reserve(65_536, 65_536).unwrap();
    file.write_all_at(b"second", 131_000).unwrap();
    map.populate(0..131_072).unwrap();
    assert!(map.resident(0..131_072).unwrap());
    assert!(map.resident(100..5_000).unwrap());
    assert!(map.resident(7..7).unwrap());
    assert_eq!(&map.slice(131_000..131_007)[..], b"second\0");
    assert_eq!(&map.slice(100..105)[..], b"first");
    assert!(map.slice(7..7).is_empty());
}

fn a_map_says_where_it_cannot_be_read(disk: &dyn Disk, dir: &Path) {
    let file = create(disk, &dir.join("f"), &[1; 5_000]);
    let map = file.map(1 << 20).unwrap();
    map.populate(0..0).unwrap();
    map.populate(0..5_000).unwrap();
    map.populate(0..8_192).unwrap();
    assert_eq!(
        map.slice(4_999..5_001)[..],
        [1, 0],
        "zeros up to the page's end"
    );
    let error = map.populate(5_000..8_193).unwrap_err();
    assert!(
        error.to_string().contains("the file ends before"),
        "{error}"
    );
    assert_eq!(
        kind(map.populate(0..(1 << 20) + 1)),
        ErrorKind::InvalidInput
    );
    file.write_all_at(&[2], 9_000).unwrap();
    map.populate(5_000..9_001).unwrap();
    assert_eq!(map.slice(9_000..9_001)[..], [2]);
}

fn slices_outlive_the_map_and_the_file(disk: &dyn Disk, dir: &Path) {
    let path = dir.join("f");
    let file = create(disk, &path, &[7; 10_000]);
    let map = file.map(10_000).unwrap();
    map.populate(0..10_000).unwrap();
    let slice = map.slice(5_000..9_000);
    drop((file, map));
    disk.remove_file(&path).unwrap();
    let part = slice.slice(1_000..2_000);
    drop(slice);
    assert_eq!(part, vec![7; 1_000]);
}

fn lists_are_sorted_and_tell_directories(disk: &dyn Disk, dir: &Path) {
    assert_eq!(disk.list(dir).unwrap(), []);
    assert_eq!(kind(disk.list(&dir.join("absent"))), ErrorKind::NotFound);
    disk.create_dir_all(&dir.join("b/inner")).unwrap();
    disk.create_dir_all(&dir.join("b")).unwrap();
    create(disk, &dir.join("c"), b"");
    create(disk, &dir.join("a"), b"");
    assert_eq!(kind(disk.list(&dir.join("a"))), ErrorKind::NotADirectory);
    assert_eq!(
        kind(disk.create_dir_all(&dir.join("a"))),
        ErrorKind::AlreadyExists
    );
    let entry = |name: &str, is_dir| DirEntry {
        name: name.into(),
        is_dir,
    };
    assert_eq!(
        disk.list(dir).unwrap(),
        [entry("a", false), entry("b", true), entry("c", false)]
    );
    assert_eq!(disk.list(&dir.join("b")).unwrap(), [entry("inner", true)]);
}

fn renames_replace_files_and_move_directories(disk: &dyn Disk, dir: &Path) {
    let (old, new) = (dir.join("old"), dir.join("new"));
    create(disk, &old, b"old");
    let file = create(disk, &new, b"new");
    disk.rename(&new, &old).unwrap();
    assert_eq!(kind(disk.open(&new, OpenMode::Read)), ErrorKind::NotFound);
    assert_eq!(
        read(&*disk.open(&old, OpenMode::Read).unwrap(), 0, 3),
        b"new"
    );
    file.write_all_at(b"NEW", 0).unwrap();
    assert_eq!(
        read(&*disk.open(&old, OpenMode::Read).unwrap(), 0, 3),
        b"NEW",
        "handles follow the file"
    );

    disk.create_dir_all(&dir.join("d")).unwrap();
    disk.create_dir_all(&dir.join("full/inner")).unwrap();
    disk.rename(&old, &dir.join("d/f")).unwrap();
    disk.rename(&dir.join("d"), &dir.join("e")).unwrap();
    assert_eq!(
        read(&*disk.open(&dir.join("e/f"), OpenMode::Read).unwrap(), 0, 3),
        b"NEW"
    );

    assert_eq!(
        kind(disk.rename(&dir.join("absent"), &new)),
        ErrorKind::NotFound
    );
    assert_eq!(
        kind(disk.rename(&dir.join("e"), &dir.join("no/e"))),
        ErrorKind::NotFound
    );
    assert_eq!(
        kind(disk.rename(&dir.join("e"), &dir.join("e/f/g"))),
        ErrorKind::NotADirectory
    );
    assert_eq!(
        kind(disk.rename(&dir.join("e"), &dir.join("e/g"))),
        ErrorKind::InvalidInput
    );
    assert_eq!(
        kind(disk.rename(&dir.join("e"), &dir.join("full"))),
        ErrorKind::DirectoryNotEmpty
    );
    assert_eq!(
        kind(disk.rename(&dir.join("e/f"), &dir.join("full"))),
        ErrorKind::IsADirectory
    );
    assert_eq!(
        kind(disk.rename(&dir.join("full"), &dir.join("e/f"))),
        ErrorKind::NotADirectory
    );
    disk.rename(&dir.join("e/f"), &dir.join("e/f")).unwrap();
    disk.rename(&dir.join("e"), &dir.join("full/inner"))
        .unwrap();
    assert_eq!(
        read(
            &*disk
                .open(&dir.join("full/inner/f"), OpenMode::Read)
                .unwrap(),
            0,
            3
        ),
        b"NEW"
    );
}

fn removal_takes_whole_directories_and_leaves_open_files(disk: &dyn Disk, dir: &Path) {
    disk.create_dir_all(&dir.join("d/e")).unwrap();
    let file = create(disk, &dir.join("d/e/f"), b"open");
    assert_eq!(
        kind(disk.remove_file(&dir.join("d"))),
        ErrorKind::IsADirectory
    );
    assert_eq!(
        kind(disk.remove_file(&dir.join("d/absent"))),
        ErrorKind::NotFound
    );
    assert_eq!(
        kind(disk.remove_dir_all(&dir.join("absent"))),
        ErrorKind::NotFound
    );
    assert_eq!(
        kind(disk.remove_dir_all(&dir.join("d/e/f"))),
        ErrorKind::NotADirectory
    );
    disk.remove_dir_all(&dir.join("d")).unwrap();
    assert_eq!(disk.list(dir).unwrap(), []);
    assert_eq!(read(&*file, 0, 4), b"open");
    disk.create_dir_all(&dir.join("d/e")).unwrap();
    assert_eq!(disk.list(&dir.join("d/e")).unwrap(), []);
    create(disk, &dir.join("d/e/f"), b"other");
    assert_eq!(read(&*file, 0, 4), b"open");
    disk.remove_file(&dir.join("d/e/f")).unwrap();
    assert_eq!(disk.list(&dir.join("d/e")).unwrap(), []);
}

fn syncs_succeed_on_what_is_there_only(disk: &dyn Disk, dir: &Path) {
    let file = create(disk, &dir.join("f"), b"bytes");
    file.sync_data().unwrap();
    file.sync_all().unwrap();
    disk.sync_dir(dir).unwrap();
    disk.sync_all(dir).unwrap();
    assert_eq!(
        kind(disk.sync_dir(&dir.join("absent"))),
        ErrorKind::NotFound
    );
    assert_eq!(
        kind(disk.sync_dir(&dir.join("f"))),
        ErrorKind::NotADirectory
    );
    assert_eq!(
        kind(disk.sync_all(&dir.join("absent"))),
        ErrorKind::NotFound
    );
}

fn a_lock_is_held_once(disk: &dyn Disk, dir: &Path) {
    let path = dir.join("LOCK");
    assert_eq!(kind(disk.lock(&dir.join("no/LOCK"))), ErrorKind::NotFound);
    let held = disk.lock(&path).unwrap();
    assert_eq!(kind(disk.lock(&path)), ErrorKind::WouldBlock);
    disk.lock(&dir.join("OTHER")).unwrap();
    drop(held);
    drop(disk.lock(&path).unwrap());
    drop(disk.lock(&path).unwrap());
    assert_eq!(disk.list(dir).unwrap().len(), 2, "lock files stay");
}

fn free_space_is_told(disk: &dyn Disk, dir: &Path) {
    assert!(disk.free_bytes(dir).unwrap() > 0);
    assert_eq!(
        kind(disk.free_bytes(&dir.join("absent"))),
        ErrorKind::NotFound
    );
}
