//! The runtime that clients and the raw server work on: the one that Flowstone's binary has.

use anyhow::{Context, Result};
use tokio::runtime::{Builder, Runtime};

/// A worker for each core.
///
/// # Errors
/// When there are no threads.
pub(crate) fn new() -> Result<Runtime> {
    Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("no threads")
}
