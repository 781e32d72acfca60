//! One partition's log: append, sync, read, roll, recover, trim, truncate. It knows neither topics nor async.

mod active;
mod closing;
mod config;
mod dir;
mod error;
mod floor;
mod idempotence;
pub mod inspect;
mod log;
mod open_segments;
mod producers;
mod reader;
mod recover;
pub mod repair;
mod retain;
mod roll;
mod scan;
mod scrub;
mod shared;
mod spare;
mod syncs;
mod tail;
mod view;

pub use config::LogConfig;
pub use error::{Damage, LogError, ReadError};
pub use floor::{Floor, FloorState};
pub use log::{Appended, Batch, Durable, Log};
pub use open_segments::OpenSegments;
pub use producers::{ProducerBatch, ProducerBudget};
pub use reader::{LogReader, ReadBatch, ReadLimit};
pub use retain::{MakeRoom, Retained, Retention};
pub use roll::begin_first_segments;
pub use scrub::{Checked, SealedSegment};
pub use syncs::Unsynced;
