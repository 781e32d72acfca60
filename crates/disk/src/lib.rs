//! Storage, time and randomness behind traits: the real ones, and simulated ones that fail on
//! demand.
//!
//! The only crate that touches files and the only one with `unsafe`. It knows nothing of logs or
//! records.

mod clock;
mod disk;
mod env;
mod random;
mod real;
mod sim;

pub use clock::{Clock, ManualClock, SystemClock};
pub use disk::{DirEntry, Disk, File, Lock, Map, OpenMode};
pub use env::Env;
pub use random::{Random, SeededRandom, SystemRandom};
pub use real::{
    RealDisk, is_out_of_open_files, keep_freed_memory, maps_limit, open_files_limit,
    raise_open_files_limit,
};
pub use sim::{Op, OpKind, SimDisk};
