//! What is done to a file.

use std::fmt;
use std::ops::Range;

use flowstone_disk::{Disk, OpenMode, SimDisk};
use flowstone_tests::Dice;

use crate::subject::Subject;

const SECTOR_BYTES: u64 = 512;
/// Of a file with more sectors than this, not every run of them is zeroed.
const MAX_SECTORS_FOR_ALL_RUNS: u64 = 256;

/// A way to damage a file, in as many places as there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Every bit is flipped.
    Bits,
    /// Every byte gets another value.
    Bytes,
    /// The file is cut to every length that it can have.
    Lengths,
    /// Every sector is zeroed, and every run of sectors; of a large file some runs.
    Zeros,
}

impl Kind {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Bits => "every bit",
            Self::Bytes => "every byte",
            Self::Lengths => "every length",
            Self::Zeros => "zeroed sectors",
        }
    }
}

/// All damages of one kind to one subject's file.
#[derive(Debug)]
pub(crate) struct Plan {
    kind: Kind,
    len: u64,
    /// What the bytes are changed by.
    seed: u64,
    /// Runs of sectors that are zeroed.
    runs: Vec<Range<u64>>,
}

/// One change of the subject's file.
#[derive(Clone, Debug)]
pub(crate) enum Damage {
    /// A byte is changed by these bits.
    Xor { at: u64, bits: u8 },
    /// The file ends here.
    Cut { len: u64 },
    /// These bytes read as zero.
    Zero { bytes: Range<u64> },
}

impl Plan {
    pub(crate) fn new(kind: Kind, subject: &Subject, seed: u64) -> Self {
        let len = subject.target_bytes.len() as u64;
        let mut runs = Vec::new();
        if kind == Kind::Zeros {
            let sectors = len.div_ceil(SECTOR_BYTES);
            if sectors <= MAX_SECTORS_FOR_ALL_RUNS {
                for from in 0..sectors {
                    runs.extend((from + 1..=sectors).map(|to| from..to));
                }
            } else {
                let dice = Dice::new(seed);
                runs.extend((0..sectors).map(|from| from..from + 1));
                runs.extend((0..sectors).map(|from| from..dice.pick(from + 1..sectors + 1)));
            }
        }
        Self {
            kind,
            len,
            seed,
            runs,
        }
    }

    pub(crate) fn count(&self) -> u64 {
        match self.kind {
            Kind::Bits => self.len * 8,
            Kind::Bytes | Kind::Lengths => self.len,
            Kind::Zeros => self.runs.len() as u64,
        }
    }

    pub(crate) fn damage(&self, case: u64) -> Damage {
        match self.kind {
            Kind::Bits => Damage::Xor {
                at: case / 8,
                bits: 1 << (case % 8),
            },
            Kind::Bytes => {
                let bits = Dice::new(self.seed ^ case << 8).pick(1..256);
                Damage::Xor {
                    at: case,
                    bits: u8::try_from(bits).expect("less than 256"),
                }
            }
            Kind::Lengths => Damage::Cut { len: case },
            Kind::Zeros => {
                let run = &self.runs[usize::try_from(case).expect("as many as there are runs")];
                Damage::Zero {
                    bytes: run.start * SECTOR_BYTES..(run.end * SECTOR_BYTES).min(self.len),
                }
            }
        }
    }
}

impl Damage {
    /// Does it to the subject's file on a disk that holds the subject.
    pub(crate) fn apply(&self, disk: &SimDisk, subject: &Subject) {
        let done = match self {
            Self::Cut { len } => {
                let kept = &subject.target_bytes[..index(*len)];
                disk.remove_file(&subject.target)
                    .and_then(|()| disk.open(&subject.target, OpenMode::CreateNew))
                    .and_then(|file| file.write_all_at(kept, 0))
            }
            Self::Xor { .. } | Self::Zero { .. } => {
                let bytes = self.changed(&subject.target_bytes);
                disk.open(&subject.target, OpenMode::ReadWrite)
                    .and_then(|file| file.write_all_at(&bytes.1, bytes.0))
            }
        };
        done.and_then(|()| disk.sync_all(std::path::Path::new("/")))
            .expect("the simulated disk does what it is told");
    }

    /// The file as it is then.
    pub(crate) fn image(&self, whole: &[u8]) -> Vec<u8> {
        let mut image = whole.to_vec();
        match self {
            Self::Cut { len } => image.truncate(index(*len)),
            Self::Xor { .. } | Self::Zero { .. } => {
                let (at, bytes) = self.changed(whole);
                image[index(at)..][..bytes.len()].copy_from_slice(&bytes);
            }
        }
        image
    }

    /// Whether any of these bytes of the file are not what they were.
    pub(crate) fn touches(&self, whole: &[u8], bytes: &Range<u64>) -> bool {
        match self {
            Self::Cut { len } => *len < bytes.end,
            Self::Xor { at, .. } => bytes.contains(at),
            Self::Zero { bytes: zeroed } => {
                let both = zeroed.start.max(bytes.start)..zeroed.end.min(bytes.end);
                both.start < both.end
                    && whole[index(both.start)..index(both.end)]
                        .iter()
                        .any(|&byte| byte != 0)
            }
        }
    }

    fn changed(&self, whole: &[u8]) -> (u64, Vec<u8>) {
        match self {
            Self::Xor { at, bits } => (*at, vec![whole[index(*at)] ^ bits]),
            Self::Zero { bytes } => (bytes.start, vec![0; index(bytes.end - bytes.start)]),
            Self::Cut { len } => (*len, Vec::new()),
        }
    }
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Xor { at, bits } => write!(f, "byte {at} xor {bits:#04x}"),
            Self::Cut { len } => write!(f, "cut to {len} bytes"),
            Self::Zero { bytes } => write!(f, "bytes {} to {} zeroed", bytes.start, bytes.end),
        }
    }
}

fn index(bytes: u64) -> usize {
    usize::try_from(bytes).expect("files of the rig are small")
}
