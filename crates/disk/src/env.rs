//! All that is not computation, in one value: storage, time and randomness.

use std::sync::Arc;

use crate::{Clock, Disk, Random, RealDisk, SystemClock, SystemRandom};

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
}
