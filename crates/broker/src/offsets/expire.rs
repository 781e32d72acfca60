//! Giving up groups that nobody has used for long, where that is asked for.

use std::sync::Arc;

use tokio::sync::oneshot;

use crate::Error;
use crate::core::Core;
use crate::offsets::OffsetsCommand;

/// So many are forgotten with one command, while no commit gets on.
const AT_ONCE: usize = 1_000;

/// Looks for groups that have been idle for too long, and sees to it that they are forgotten.
pub(crate) fn expire(core: &Arc<Core>) {
    let idle = core.offsets.idle();
    let Ok(log) = core.offsets.log() else {
        return;
    };
    if !idle.is_on() || core.is_stopping() {
        return;
    }
    let names: Vec<String> = log.state().names_after(None).map(str::to_owned).collect();
    let unused = names
        .into_iter()
        .filter(|name| core.groups.check_empty(name).is_ok())
        .collect();
    let due = idle.look(core.env.clock.monotonic(), unused);
    if due.is_empty() {
        return;
    }
    let owner = Arc::clone(core);
    core.housekeeping.add(async move {
        for names in due.chunks(AT_ONCE) {
            if let Err(error) = forget(&owner, names).await {
                tracing::warn!(%error, "groups that are not used any more are still stored");
                return;
            }
        }
    });
}

async fn forget(core: &Arc<Core>, names: &[String]) -> Result<(), Error> {
    let log = core.offsets.log()?;
    let alone = log.alone().await;
    let now = core.env.clock.monotonic();
    // One that is in use again stays.
    let still_due = |name: &String| {
        let frozen = core.groups.freeze(name, false).ok()?;
        let committed = log.state().group(name).is_some();
        let due = committed && core.offsets.idle().is_due(now, name);
        due.then(|| (name.clone(), frozen))
    };
    let (names, frozen): (Vec<String>, Vec<_>) = names.iter().filter_map(still_due).unzip();
    if names.is_empty() {
        return Ok(());
    }
    tracing::info!(groups = ?names, "nobody has used these groups for long: they are forgotten");
    let command = OffsetsCommand::delete_groups(names);
    let (sender, receiver) = oneshot::channel();
    log.append(core, (frozen, alone), command, move |outcome| {
        let _ = sender.send(outcome);
    });
    receiver.await.unwrap_or(Err(Error::ShuttingDown))
}
