//! Any sequence of operations gives the same answers on the simulated disk as on the real one.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use flowstone_disk::{DirEntry, Disk, File, OpenMode, RealDisk, SimDisk};
use proptest::prelude::*;

const NAMES: [&str; 6] = ["a", "b", "d", "d/a", "d/b", "d/e"];
/// Past the third page, so that ranges cross, touch and miss page boundaries.
const LEN_MAX: u64 = 14_000;

#[derive(Clone, Debug)]
enum Step {
    Create(usize),
    CreateDir(usize),
    Rename(usize, usize),
    RemoveFile(usize),
    RemoveDir(usize),
    List(usize),
    Write {
        name: usize,
        at: u64,
        len: u64,
        byte: u8,
    },
    Reserve {
        name: usize,
        at: u64,
        len: u64,
    },
    Punch {
        name: usize,
        at: u64,
        len: u64,
    },
    Populate {
        name: usize,
        at: u64,
        len: u64,
    },
    Read(usize),
}

/// All that a step can answer.
#[derive(Debug, PartialEq)]
enum Answer {
    Done,
    Entries(Vec<DirEntry>),
    Bytes(Vec<u8>),
    Failed(io::ErrorKind),
}

fn step() -> impl Strategy<Value = Step> {
    let name = 0..NAMES.len();
    let range = (
        0..NAMES.len(),
        0..LEN_MAX,
        prop_oneof![0..LEN_MAX, Just(0), Just(512), Just(4096)],
    );
    prop_oneof![
        3 => name.clone().prop_map(Step::Create),
        2 => name.clone().prop_map(Step::CreateDir),
        2 => (name.clone(), name.clone()).prop_map(|(from, to)| Step::Rename(from, to)),
        1 => name.clone().prop_map(Step::RemoveFile),
        1 => name.clone().prop_map(Step::RemoveDir),
        1 => name.clone().prop_map(Step::List),
        4 => (range.clone(), any::<u8>())
            .prop_map(|((name, at, len), byte)| Step::Write { name, at, len, byte }),
        2 => range.clone().prop_map(|(name, at, len)| Step::Reserve { name, at, len }),
        2 => range.clone().prop_map(|(name, at, len)| Step::Punch { name, at, len }),
        2 => range.prop_map(|(name, at, len)| Step::Populate { name, at, len }),
        2 => name.prop_map(Step::Read),
    ]
}

fn answer(disk: &dyn Disk, dir: &Path, step: &Step) -> Answer {
    let done = try_answer(disk, dir, step);
    done.unwrap_or_else(|error| Answer::Failed(error.kind()))
}

fn try_answer(disk: &dyn Disk, dir: &Path, step: &Step) -> io::Result<Answer> {
    let path = |name: usize| -> PathBuf { dir.join(NAMES[name]) };
    let open = |name| -> io::Result<Arc<dyn File>> { disk.open(&path(name), OpenMode::ReadWrite) };
    match *step {
        Step::Create(name) => drop(disk.open(&path(name), OpenMode::CreateNew)?),
        Step::CreateDir(name) => disk.create_dir_all(&path(name))?,
        Step::Rename(from, to) => disk.rename(&path(from), &path(to))?,
        Step::RemoveFile(name) => disk.remove_file(&path(name))?,
        Step::RemoveDir(name) => disk.remove_dir_all(&path(name))?,
        Step::List(name) => return Ok(Answer::Entries(disk.list(&path(name))?)),
        Step::Write {
            name,
            at,
            len,
            byte,
        } => open(name)?.write_all_at(&vec![byte; len as usize], at)?,
        Step::Reserve { name, at, len } => open(name)?.reserve(at, len)?,
        Step::Punch { name, at, len } => open(name)?.punch(at, len)?,
        Step::Populate { name, at, len } => {
            let map = open(name)?.map(2 * LEN_MAX)?;
            map.populate(at..at + len)?;
            return Ok(Answer::Bytes(map.slice(at..at + len).to_vec()));
        }
        Step::Read(name) => {
            let file = open(name)?;
            let mut bytes = vec![0; file.len()? as usize];
            file.read_exact_at(&mut bytes, 0)?;
            return Ok(Answer::Bytes(bytes));
        }
    }
    Ok(Answer::Done)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(192))]
    #[test]
    fn both_disks_give_the_same_answers(steps in prop::collection::vec(step(), 1..60)) {
        let real_dir = tempfile::tempdir()?;
        let sim = SimDisk::new(1);
        sim.create_dir_all(Path::new("/data"))?;
        for step in &steps {
            let real = answer(&RealDisk, real_dir.path(), step);
            let simulated = answer(&sim, Path::new("/data"), step);
            prop_assert_eq!(real, simulated, "{:?}", step);
        }
    }
}
