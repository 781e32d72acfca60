//! Forgetting a group.

use std::sync::Arc;

use tokio::sync::oneshot;

use super::{exists, not_found};
use crate::Error;
use crate::core::Core;
use crate::names::check_group;
use crate::offsets::OffsetsCommand;

/// Forgets, durably, all that a group without members has committed.
pub(crate) async fn delete(core: &Arc<Core>, name: &str) -> Result<(), Error> {
    core.check_accepting()?;
    check_group(name)?;
    if !exists(core, name)? {
        return Err(not_found(name));
    }
    core.groups.check_empty(name)?;
    let log = core.offsets.log()?;
    let alone = log.alone().await;
    let frozen = core.groups.freeze(name, false)?;
    // Another call may have been faster.
    if log.state().group(name).is_none() {
        return Err(not_found(name));
    }
    let command = OffsetsCommand::delete_groups(vec![name.to_owned()]);
    let (sender, receiver) = oneshot::channel();
    log.append(core, (frozen, alone), command, move |outcome| {
        let _ = sender.send(outcome);
    });
    receiver.await.unwrap_or(Err(Error::ShuttingDown))
}
