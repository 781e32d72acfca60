//! Where the power is cut, and what the disk holds then.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use flowstone_tests::Dice;
use flowstone_tests::recorder::Op;

const SECTOR_BYTES: usize = 512;
const CHUNK_BYTES: usize = 64 << 10;
/// How many other points are looked at when no write, or few, lie between the first one and the flush
/// before it.
const TRIES: usize = 10;

/// A power cut.
#[derive(Debug)]
pub(crate) struct Cut {
    /// So many operations had been done.
    pub(crate) point: usize,
    /// So many of them up to the last flush, which are all there.
    flushed: usize,
    loss: Loss,
    /// Chooses the sectors.
    seed: u64,
}

/// What becomes of the writes behind the last flush.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Loss {
    /// There are none.
    None,
    /// Each sector is kept so many times in a hundred.
    Sectors(u64),
    /// Each write is kept as a whole or not at all.
    Writes,
    /// All are kept but the last, which loses some of its sectors.
    LastIsTorn,
    /// None is kept.
    All,
}

/// What a cut has taken.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Taken {
    /// Sectors written behind the last flush.
    pub(crate) sectors: u64,
    /// Those of them that are not there.
    pub(crate) lost: u64,
}

impl Cut {
    /// Cuts at or behind `from`. One of the `windows` is hit more often than its length would have it.
    pub(crate) fn choose(seed: u64, ops: &[Op], from: usize, windows: &[(usize, usize)]) -> Self {
        let dice = Dice::new(seed).fork();
        let (start, end) = if dice.once_in(5) && !windows.is_empty() {
            windows[dice.pick(0..windows.len() as u64) as usize]
        } else {
            (from, ops.len())
        };
        let pick = || dice.pick(start as u64..end.max(start + 1) as u64 + 1) as usize;
        let flushed_at = |point: usize| {
            ops[..point]
                .iter()
                .rposition(|op| *op == Op::Flush)
                .map_or(0, |at| at + 1)
        };
        let mut point = pick().min(ops.len());
        if dice.pick(0..10) < 4 {
            let flushed = flushed_at(point);
            return Self {
                point: flushed,
                flushed,
                loss: Loss::None,
                seed,
            };
        }
        // Often a single write lies between two flushes. Half of the cuts look for more.
        let is_greedy = dice.once_in(2);
        for _ in 0..TRIES {
            let (here, other) = (point - flushed_at(point), pick().min(ops.len()));
            if here == 0 || is_greedy && other - flushed_at(other) > here {
                point = other;
            }
        }
        let loss = match dice.pick(0..8) {
            0 => Loss::Sectors(10),
            1 | 2 => Loss::Sectors(50),
            3 => Loss::Sectors(90),
            4 | 5 => Loss::Writes,
            6 => Loss::LastIsTorn,
            _ => Loss::All,
        };
        Self {
            point,
            flushed: flushed_at(point),
            loss,
            seed,
        }
    }

    /// What it does, in a few words.
    pub(crate) fn describe(&self) -> String {
        let behind = self.point - self.flushed;
        let how = match self.loss {
            Loss::None => "at a flush".to_owned(),
            Loss::Sectors(kept) => format!("{behind} writes later, {kept} % of sectors kept"),
            Loss::Writes => format!("{behind} writes later, some writes kept"),
            Loss::LastIsTorn => format!("{behind} writes later, the last torn"),
            Loss::All => format!("{behind} writes later, none kept"),
        };
        format!("op {}, {how}", self.point)
    }

    /// The disk of so many bytes after the cut. The same each time.
    pub(crate) fn content(&self, ops: &[Op], len: usize) -> (Vec<u8>, Taken) {
        let mut content = vec![0; len];
        let mut taken = Taken::default();
        for op in &ops[..self.flushed] {
            if let Op::Write { at, bytes } = op {
                put(&mut content, *at as usize, bytes);
            }
        }
        let dice = Dice::new(!self.seed).fork();
        for (number, op) in ops[self.flushed..self.point].iter().enumerate() {
            let Op::Write { at, bytes } = op else {
                continue;
            };
            let is_last = self.flushed + number + 1 == self.point;
            let whole = dice.once_in(2);
            for (sector, piece) in bytes.chunks(SECTOR_BYTES).enumerate() {
                let kept = match self.loss {
                    Loss::None | Loss::All => false,
                    Loss::Sectors(percent) => dice.pick(0..100) < percent,
                    Loss::Writes => whole,
                    Loss::LastIsTorn => !is_last || dice.once_in(2),
                };
                taken.sectors += 1;
                if kept {
                    put(&mut content, *at as usize + sector * SECTOR_BYTES, piece);
                } else {
                    taken.lost += 1;
                }
            }
        }
        (content, taken)
    }
}

fn put(content: &mut [u8], at: usize, bytes: &[u8]) {
    content[at..at + bytes.len()].copy_from_slice(bytes);
}

/// Writes a disk to a file, with holes where it is zero.
pub(crate) fn write_image(path: &Path, content: &[u8]) -> io::Result<()> {
    let file = File::create(path)?;
    file.set_len(content.len() as u64)?;
    for (number, chunk) in content.chunks(CHUNK_BYTES).enumerate() {
        if chunk.iter().any(|&byte| byte != 0) {
            file.write_all_at(chunk, (number * CHUNK_BYTES) as u64)?;
        }
    }
    Ok(())
}
