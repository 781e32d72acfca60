//! All that is not computation, in one value: storage, time and randomness.

use std::sync::Arc;

use crate::{
    Clock, Disk, ManualClock, Random, RealDisk, SeededRandom, SimDisk, SystemClock, SystemRandom,
};

/// The world a broker lives in. Clones share it.
#[derive(Clone, Debug)]
pub struct Env {
    /// Where files are.
    pub disk: Arc<dyn Disk>,
    /// What time it is.
    pub clock: Arc<dyn Clock>,
    /// Where ids and salts come from.
    pub random: Arc<dyn Random>,
}

impl Env {
    /// The real disk, the system's clock and the system's randomness.
    pub fn real() -> Self {
        Env {
            disk: Arc::new(RealDisk),
            clock: Arc::new(SystemClock::new()),
            random: Arc::new(SystemRandom),
        }
    }

    /// A simulated machine: its disk, which dies with the next crash (call [`Env::simulated`] again
    /// to come back up), a clock that moves only when told, and a seeded stream of randomness.
    pub fn simulated(disk: &SimDisk, clock: &ManualClock, seed: u64) -> Self {
        Env {
            disk: disk.disk(),
            clock: Arc::new(clock.clone()),
            random: Arc::new(SeededRandom::new(seed)),
        }
    }
}
