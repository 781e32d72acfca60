//! The offsets log: how far each group has read.

mod command;
mod commit;
mod state;

use std::sync::Arc;

use crate::Error;
use crate::internal::InternalLog;

pub(crate) use command::{OffsetsCommand, PartitionOffset};
pub use commit::Committed;
pub(crate) use commit::{commit, pin};
pub(crate) use state::OffsetsState;

/// The committed offsets. When their log is damaged the rest of the broker goes on without.
#[derive(Debug)]
pub(crate) struct Offsets(Result<Arc<InternalLog<OffsetsState>>, Error>);

impl Offsets {
    pub(crate) fn new(log: Result<Arc<InternalLog<OffsetsState>>, Error>) -> Self {
        Self(log)
    }

    /// The log, if it can be used.
    pub(crate) fn log(&self) -> Result<&Arc<InternalLog<OffsetsState>>, Error> {
        self.0.as_ref().map_err(Clone::clone)
    }
}
