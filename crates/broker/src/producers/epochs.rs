//! Which epoch each opened producer of a topic has, for those who append.

use std::collections::HashMap;
use std::sync::{RwLock, RwLockWriteGuard};

use flowstone_format::ProducerId;
use flowstone_log::ProducerBatch;

use crate::Error;

/// The epochs of one topic. Whoever appends asks with the partition's log in hand: after an opening
/// has had each log in hand once, nothing of an older epoch is appended any more.
#[derive(Debug, Default)]
pub(crate) struct Epochs(RwLock<HashMap<ProducerId, i32>>);

impl Epochs {
    pub(crate) fn new(epochs: impl Iterator<Item = (ProducerId, i32)>) -> Self {
        Self(RwLock::new(epochs.collect()))
    }

    /// Fails if the producer was opened since, or never got this epoch.
    pub(crate) fn check(&self, producer: &ProducerBatch) -> Result<(), Error> {
        let epochs = self.0.read().expect(NO_PANIC);
        let current = epochs.get(&producer.id).copied().unwrap_or(0);
        if producer.epoch == current {
            return Ok(());
        }
        Err(Error::StaleProducer {
            epoch: producer.epoch,
            current,
        })
    }

    /// From now on this epoch counts.
    pub(crate) fn raise(&self, producer: ProducerId, epoch: i32) {
        self.write().insert(producer, epoch);
    }

    pub(crate) fn forget(&self, producers: &[ProducerId]) {
        let mut epochs = self.write();
        for producer in producers {
            epochs.remove(producer);
        }
    }

    fn write(&self) -> RwLockWriteGuard<'_, HashMap<ProducerId, i32>> {
        self.0.write().expect(NO_PANIC)
    }
}

const NO_PANIC: &str = "nothing panics with epochs in hand";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_epoch_of_the_last_opening_passes() {
        let id = ProducerId::of("till-4");
        let batch = |epoch| ProducerBatch {
            id,
            epoch,
            sequence: 1,
        };
        let stale = |epoch, current| Err(Error::StaleProducer { epoch, current });
        let epochs = Epochs::default();
        assert_eq!(epochs.check(&batch(0)), Ok(()));
        assert_eq!(epochs.check(&batch(1)), stale(1, 0), "it was never given");
        epochs.raise(id, 1);
        epochs.raise(id, 2);
        assert_eq!(epochs.check(&batch(0)), stale(0, 2));
        assert_eq!(epochs.check(&batch(1)), stale(1, 2));
        assert_eq!(epochs.check(&batch(2)), Ok(()));
        epochs.forget(&[id]);
        assert_eq!(epochs.check(&batch(2)), stale(2, 0));
    }
}
