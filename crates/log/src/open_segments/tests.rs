//! Pools of things that can be had again, and files that are open while bytes are not synced.

use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex};

use flowstone_disk::{Disk, File, Map, OpenMode, SimDisk};

use super::{Kept, Pool, SegmentFile};

fn word(kept: &Arc<Kept<String>>, word: &str) -> Arc<String> {
    kept.get(|| Ok::<_, ()>(Arc::new(word.to_owned()))).unwrap()
}

fn is_open(kept: &Arc<Kept<String>>) -> bool {
    kept.get(|| Err(())).is_ok()
}

fn pool(limit: usize) -> Arc<Pool<String>> {
    Arc::new(Pool::new(limit, String::len))
}

#[test]
fn the_coldest_goes_when_there_is_too_much() {
    let pool = pool(6);
    let kept: Vec<_> = (0..4).map(|_| Kept::new(&pool)).collect();
    for (kept, value) in kept.iter().zip(["aa", "bb", "cc"]) {
        word(kept, value);
    }
    assert_eq!(pool.cost(), 6);
    assert_eq!(*word(&kept[0], "opened again"), "aa", "it is used again");
    word(&kept[3], "dddd");
    assert_eq!(pool.cost(), 6);
    let open: Vec<bool> = kept.iter().map(is_open).collect();
    assert_eq!(open, [true, false, false, true]);
}

#[test]
fn what_is_in_use_stays_however_much_it_is() {
    let pool = pool(3);
    let kept: Vec<_> = (0..10).map(|_| Kept::new(&pool)).collect();
    let held: Vec<_> = kept.iter().map(|kept| word(kept, "ab")).collect();
    assert_eq!(pool.cost(), 20);
    assert!(kept.iter().all(is_open));
    drop(held);
    for kept in &kept {
        word(kept, "ab");
    }
    word(&Kept::new(&pool), "ab");
    assert!(pool.cost() <= 3, "{} is open", pool.cost());
}

#[test]
fn what_is_dropped_or_replaced_takes_no_room() {
    let pool = pool(100);
    let kept = Kept::new(&pool);
    word(&kept, "aaaa");
    kept.put(&Arc::new("b".to_owned()));
    assert_eq!(pool.cost(), 1);
    assert_eq!(*word(&kept, "opened again"), "b");
    drop(kept);
    assert_eq!(pool.cost(), 0);
    let failed = Kept::new(&pool);
    assert_eq!(failed.get(|| Err("no")), Err("no"));
    assert_eq!(pool.cost(), 0);
}

#[test]
fn threads_that_open_and_close_agree_on_what_is_open() {
    let pool = pool(5);
    let kept: Vec<_> = (0..20).map(|_| Kept::new(&pool)).collect();
    std::thread::scope(|scope| {
        for thread in 0..4_usize {
            let (kept, pool) = (&kept, &pool);
            scope.spawn(move || {
                for step in 0..5_000 {
                    let at = (step * (thread + 3) + thread) % kept.len();
                    let value = word(&kept[at], "x");
                    if step % 7 == 0 {
                        kept[at].put(&Arc::new("y".to_owned()));
                    }
                    assert_eq!(value.len(), 1);
                    assert!(pool.cost() <= 5 + 2 * 4 + 20);
                }
            });
        }
    });
    let open = kept.iter().filter(|kept| is_open(kept)).count();
    assert_eq!(pool.cost(), open);
    drop(kept);
    assert_eq!(pool.cost(), 0);
}

/// A file that does something else while it is synced.
struct Meanwhile {
    file: Arc<dyn File>,
    act: Mutex<Option<Box<dyn FnOnce() + Send>>>,
}

impl std::fmt::Debug for Meanwhile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.file.fmt(f)
    }
}

impl File for Meanwhile {
    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn read_exact_at(&self, buf: &mut [u8], at: u64) -> io::Result<()> {
        self.file.read_exact_at(buf, at)
    }

    fn write_all_at(&self, buf: &[u8], at: u64) -> io::Result<()> {
        self.file.write_all_at(buf, at)
    }

    fn reserve(&self, at: u64, len: u64) -> io::Result<()> {
        self.file.reserve(at, len)
    }

    fn punch(&self, at: u64, len: u64) -> io::Result<()> {
        self.file.punch(at, len)
    }

    fn sync_data(&self) -> io::Result<()> {
        if let Some(act) = self.act.lock().unwrap().take() {
            act();
        }
        self.file.sync_data()
    }

    fn sync_all(&self) -> io::Result<()> {
        self.file.sync_all()
    }

    fn map(&self, capacity: u64) -> io::Result<Arc<dyn Map>> {
        self.file.map(capacity)
    }
}

struct Rig {
    disk: Arc<dyn Disk>,
    pool: Arc<Pool<dyn File>>,
    file: Arc<SegmentFile>,
}

fn rig() -> Rig {
    let disk = SimDisk::new(1).disk();
    disk.create_dir_all(Path::new("/data")).unwrap();
    let pool: Arc<Pool<dyn File>> = Arc::new(Pool::new(1, |_| 1));
    let file = SegmentFile::create(&disk, Path::new("/data/file"), &pool).unwrap();
    Rig {
        disk,
        pool,
        file: Arc::new(file),
    }
}

impl Rig {
    /// Whether the file stays open when others are opened.
    fn stays_open(&self) -> bool {
        for number in 0..3 {
            let path = format!("/data/other-{number}");
            let _ = self.disk.remove_file(Path::new(&path));
            let other = SegmentFile::create(&self.disk, Path::new(&path), &self.pool).unwrap();
            other.sync_all().unwrap();
        }
        self.file.kept.get(|| Err(())).is_ok()
    }
}

#[test]
fn a_file_stays_open_until_what_was_written_is_synced() {
    let rig = rig();
    assert!(rig.stays_open(), "it was made and not synced");
    rig.file.sync_all().unwrap();
    assert!(!rig.stays_open());
    rig.file.write_all_at(b"bytes", 0).unwrap();
    assert!(rig.stays_open());
    rig.file.sync_data().unwrap();
    assert!(!rig.stays_open());
    rig.file.reserve(0, 8192).unwrap();
    assert!(rig.stays_open());
    rig.file.sync_data().unwrap();
    rig.file.prepare().unwrap();
    assert!(rig.stays_open(), "it is about to be written");
    rig.file.sync_data().unwrap();
    assert!(!rig.stays_open());
    let mut bytes = [0; 5];
    rig.file.read_exact_at(&mut bytes, 0).unwrap();
    assert_eq!(&bytes, b"bytes");
}

#[test]
fn a_sync_lets_nothing_go_that_was_written_while_it_ran() {
    let rig = rig();
    rig.file.sync_all().unwrap();
    let writer = Arc::clone(&rig.file);
    let act = move || writer.write_all_at(b"later", 5).unwrap();
    let plain = rig.disk.open(Path::new("/data/file"), OpenMode::ReadWrite);
    let file: Arc<dyn File> = Arc::new(Meanwhile {
        file: plain.unwrap(),
        act: Mutex::new(Some(Box::new(act))),
    });
    rig.file.kept.put(&file);
    rig.file.write_all_at(b"first", 0).unwrap();
    rig.file.sync_data().unwrap();
    drop(file);
    assert!(rig.stays_open(), "the second write may not be on disk");
    rig.file.sync_data().unwrap();
    assert!(!rig.stays_open());
}
