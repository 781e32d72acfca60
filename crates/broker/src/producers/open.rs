//! Opening a producer: its epoch rises durably, and older ones are over on every partition before
//! the answer says how far it had come.

use std::sync::Arc;

use flowstone_format::ProducerId;

use crate::Error;
use crate::append::settled;
use crate::core::Core;
use crate::metadata::{OpenProducer, next_epoch};
use crate::producers::{OpenedProducer, checked_id};
use crate::topics::{Topic, admin};

/// Opens a producer of a topic.
pub(crate) async fn open(core: &Arc<Core>, topic: &str, id: &str) -> Result<OpenedProducer, Error> {
    core.check_accepting()?;
    let producer = checked_id("id", id)?;
    let right = core.metadata.alone().await;
    let topic = core.topics.get(topic)?;
    // How far it had come cannot be told where a partition is offline.
    let partitions = &topic.now().partitions;
    if let Some(refusal) = partitions.iter().find_map(|partition| partition.refusal()) {
        return Err(refusal);
    }
    let epoch = raised(core, &topic, producer)?;
    let command = OpenProducer {
        topic: topic.id().as_bytes().to_vec(),
        producer: producer.into_bytes().to_vec(),
        epoch,
        opened_ms: core.append_clock.stamp_ms(),
    };
    let opened = Arc::clone(&topic);
    admin::change(core, right, command, move |_| {
        opened.epochs().raise(producer, epoch);
    })
    .await?;
    let owner = Arc::clone(core);
    let last_sequence = core
        .pool
        .run(move || last_sequence(&owner, &topic, producer))
        .await??;
    Ok(OpenedProducer {
        epoch,
        last_sequence,
    })
}

/// The epoch that it gets.
fn raised(core: &Core, topic: &Topic, producer: ProducerId) -> Result<i32, Error> {
    let state = core.metadata.state();
    let opened = state.producers(topic.id());
    let most = core.config.limits.max_opened_producers;
    let is_new = !opened.is_some_and(|opened| opened.is_opened(producer));
    if is_new && state.producer_count() >= most as usize {
        return Err(Error::LimitExceeded {
            limit: "max_opened_producers",
            value: u64::from(most),
        });
    }
    next_epoch(opened, producer).ok_or(Error::LimitExceeded {
        limit: "producer_epoch",
        value: i32::MAX as u64,
    })
}

/// The highest sequence of all partitions. Whoever has had a log in hand knows that the group under
/// way is over: all that is appended later sees the new epoch. Blocks.
fn last_sequence(core: &Core, topic: &Topic, producer: ProducerId) -> Result<i64, Error> {
    let mut last = 0;
    for partition in &topic.now().partitions {
        let mut guard = partition.log();
        let log = settled(core, partition, &mut guard)?;
        let found = log.last_sequence(producer);
        let found = found.map_err(|error| partition.append_error(&error))?;
        last = last.max(found.unwrap_or(0));
    }
    Ok(last)
}
