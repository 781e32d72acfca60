//! The runtime that clients and the raw server work on: the one that Flowstone's broker has.

use anyhow::{Context, Result};
use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinSet;

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

/// Waits for all producers. Answers with how many records, or messages, they have sent together.
///
/// # Errors
/// The first of theirs, also when one has panicked.
pub(crate) async fn sum_of(mut tasks: JoinSet<Result<u64>>) -> Result<u64> {
    let mut sum = 0;
    while let Some(ended) = tasks.join_next().await {
        sum += ended.context("a producer has panicked")??;
    }
    Ok(sum)
}
