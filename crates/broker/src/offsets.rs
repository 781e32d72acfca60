//! The offsets log: how far each group has read.

mod command;
mod commit;
mod expire;
mod idle;
mod state;

use std::sync::Arc;

use crate::Error;
use crate::internal::InternalLog;

pub(crate) use command::{OffsetsCommand, PartitionOffset};
pub use commit::Committed;
pub(crate) use commit::{commit, pin};
pub(crate) use expire::expire;
use idle::Idle;
pub(crate) use state::OffsetsState;

/// The committed offsets. When their log is damaged the rest of the broker goes on without.
#[derive(Debug)]
pub(crate) struct Offsets {
    log: Result<Arc<InternalLog<OffsetsState>>, Error>,
    idle: Idle,
}

impl Offsets {
    /// Groups that are idle for as long as `retention_ms` are forgotten; with 0 none are.
    pub(crate) fn new(
        log: Result<Arc<InternalLog<OffsetsState>>, Error>,
        retention_ms: u64,
    ) -> Self {
        Self {
            log,
            idle: Idle::new(retention_ms),
        }
    }

    /// The log, if it can be used.
    pub(crate) fn log(&self) -> Result<&Arc<InternalLog<OffsetsState>>, Error> {
        self.log.as_ref().map_err(Clone::clone)
    }

    /// Which groups are idle.
    pub(crate) fn idle(&self) -> &Idle {
        &self.idle
    }
}
