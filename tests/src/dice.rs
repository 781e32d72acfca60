//! Random choices of a test that can be made again.

use std::ops::Range;
use std::time::{SystemTime, UNIX_EPOCH};

use flowstone_disk::{Random, SeededRandom};

const SEED: &str = "FLOWSTONE_SEED";

/// Random choices from a seed, which is printed with a failure and can be given by `FLOWSTONE_SEED`.
#[derive(Debug)]
pub struct Dice(SeededRandom);

impl Dice {
    /// Choices from the seed in `FLOWSTONE_SEED`, or others at every run.
    ///
    /// # Panics
    /// When the variable holds no number.
    pub fn from_env() -> Self {
        let seed = match std::env::var(SEED) {
            Ok(seed) => seed
                .parse()
                .unwrap_or_else(|_| panic!("{SEED}={seed:?} is no number")),
            Err(_) => SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .map_or(0, |since| since.as_nanos() as u64),
        };
        eprintln!("{SEED}={seed} makes the same choices again");
        Self::new(seed)
    }

    /// The choices of this seed.
    pub fn new(seed: u64) -> Self {
        Self(SeededRandom::new(seed))
    }

    /// Other choices, for another thread, that follow from these.
    pub fn fork(&self) -> Self {
        Self::new(self.0.u64())
    }

    /// A number of the range, which is not empty.
    pub fn pick(&self, range: Range<u64>) -> u64 {
        range.start + self.0.u64() % (range.end - range.start)
    }

    /// True once in `times`.
    pub fn once_in(&self, times: u64) -> bool {
        self.pick(0..times) == 0
    }

    /// So many random bytes.
    pub fn bytes(&self, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        self.0.fill(&mut bytes);
        bytes
    }
}
