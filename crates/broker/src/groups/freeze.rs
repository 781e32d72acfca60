//! Keeping a group still while its offsets are changed from outside.

use std::sync::Arc;

use super::{Group, Groups, Hub};
use crate::Error;

/// While this lives nobody of the group is assigned anything: who joins waits. Whoever holds it also holds
/// the offsets log alone, so that no commit is on its way.
#[derive(Debug)]
pub(crate) struct Frozen {
    hub: Arc<Hub>,
    group: Arc<Group>,
}

impl Groups {
    /// Keeps a group still. While it has members this is refused, or with `force` their sessions end.
    pub(crate) fn freeze(&self, name: &str, force: bool) -> Result<Frozen, Error> {
        let hub = &self.0;
        hub.enter(name, |group, state| {
            if !force && state.has_members() {
                return Err(Error::GroupActive {
                    group: name.to_owned(),
                });
            }
            state.frozen += 1;
            for in_topic in state.topics.values_mut() {
                in_topic.coordinator.freeze();
            }
            hub.settle(group, state);
            Ok(Frozen {
                hub: Arc::clone(hub),
                group: Arc::clone(group),
            })
        })
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        self.hub.change(&self.group, |state, now| {
            state.frozen -= 1;
            if state.frozen == 0 {
                for in_topic in state.topics.values_mut() {
                    in_topic.coordinator.thaw(now);
                }
            }
        });
    }
}
