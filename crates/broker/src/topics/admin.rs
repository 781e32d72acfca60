//! Making, changing and deleting topics: checked against the metadata, appended to its log, and only
//! then done.

use std::sync::Arc;

use flowstone_format::{Offset, PARTITIONS_DIR, PartitionId, partition_dir_name};
use tokio::sync::oneshot;
use uuid::Uuid;

use crate::append::settled;
use crate::core::Core;
use crate::internal::{Alone, InternalLog};
use crate::metadata::{
    Change, CreateTopic, DeleteTopic, MetadataCommand, UpdateTopic, check_change, check_new,
};
use crate::offsets::{OffsetsCommand, OffsetsState};
use crate::partition::Partition;
use crate::producers::RoutedBefore;
use crate::topics::{Topic, TopicNow};
use crate::{Error, TopicChange, TopicInfo, TopicSpec};

pub(crate) async fn create(
    core: &Arc<Core>,
    spec: TopicSpec,
    validate_only: bool,
) -> Result<TopicInfo, Error> {
    core.check_accepting()?;
    let right = core.metadata.alone().await;
    let (count, settings, first) = {
        let state = core.metadata.state();
        let (count, settings) = check_new(&spec, &state, &core.config.limits)?;
        (count, settings, state.next_partition())
    };
    let info = TopicInfo {
        spec: TopicSpec {
            partition_count: count,
            ..spec
        },
        id: Uuid::from_bytes(core.env.random.uuid_bytes()),
        created_ms: core.env.clock.now_ms(),
    };
    if validate_only {
        return Ok(info);
    }
    // Making a topic is the one change of metadata that can wait for space.
    let owner = Arc::clone(core);
    core.pool
        .run(move || owner.reserve.admit_records().map(drop))
        .await??;
    let topic = Arc::new(Topic::new(info.clone()));
    let partitions = open_added(core, &topic, 0..count, first).await?;
    topic.replace(TopicNow {
        info: info.clone(),
        partitions,
        routed_before: Arc::default(),
    });
    let command = CreateTopic {
        name: info.spec.name.clone(),
        id: info.id.as_bytes().to_vec(),
        created_ms: info.created_ms,
        partition_count: count,
        settings,
        first_partition: first.get(),
    };
    change(core, right, command, move |core| core.topics.insert(topic)).await?;
    Ok(info)
}

pub(crate) async fn update(
    core: &Arc<Core>,
    name: &str,
    wanted: TopicChange,
) -> Result<TopicInfo, Error> {
    core.check_accepting()?;
    let right = core.metadata.alone().await;
    let topic = core.topics.get(name)?;
    let now = topic.now();
    let (checked, first) = {
        let state = core.metadata.state();
        let checked = check_change(&now.info, wanted, &state, &core.config.limits)?;
        (checked, state.next_partition())
    };
    let Some(Change { spec, settings }) = checked else {
        return Ok(now.info.clone());
    };
    let have = now.info.spec.partition_count;
    // Nothing with a producer is under way while the topic grows.
    let grows = spec.partition_count > have;
    let closed = match grows {
        true => Some(topic.gate().close().await),
        false => None,
    };
    let routed_before = match grows {
        true => routed_by_other(core, &now, spec.partition_count).await?,
        false => Arc::clone(&now.routed_before),
    };
    let added = open_added(core, &topic, have..spec.partition_count, first).await?;
    let command = UpdateTopic {
        id: topic.id().as_bytes().to_vec(),
        partition_count: spec.partition_count,
        settings,
        first_partition: if grows { first.get() } else { 0 },
    };
    let info = TopicInfo {
        spec,
        ..now.info.clone()
    };
    let result = info.clone();
    change(core, right, command, move |core| {
        let segment_bytes = core.segment_bytes(&info.spec);
        let full_bytes = info.spec.full_bytes();
        let partitions: Vec<_> = now.partitions.iter().cloned().chain(added).collect();
        for partition in &partitions {
            partition.set_segment_bytes(segment_bytes);
            partition.set_full_bytes(full_bytes);
        }
        topic.replace(TopicNow {
            info,
            partitions,
            routed_before,
        });
        drop(closed);
        core.housekeeping.apply_retention();
    })
    .await?;
    Ok(result)
}

pub(crate) async fn delete(core: &Arc<Core>, name: &str) -> Result<(), Error> {
    core.check_accepting()?;
    let right = core.metadata.alone().await;
    let topic = core.topics.get(name)?;
    // No commit that was checked against the topic comes after what forgets it.
    let offsets = match core.offsets.log() {
        Ok(log) => Some((Arc::clone(log), log.alone().await)),
        Err(_) => None,
    };
    let command = DeleteTopic {
        id: topic.id().as_bytes().to_vec(),
    };
    let (sender, forgotten) = oneshot::channel();
    change(core, right, command, move |core| {
        core.topics.remove(&topic);
        topic.delete();
        if let Some((log, alone)) = offsets {
            forget_offsets(core, &log, alone, topic.id(), sender);
        }
        let owner = Arc::clone(core);
        core.housekeeping
            .add(async move { remove_files(&owner, &topic) });
    })
    .await?;
    // The topic is gone whether or not anything had to be forgotten.
    let _ = forgotten.await;
    Ok(())
}

/// Forgets what groups have committed of a topic that is no more. Where that fails it is forgotten at
/// the next start.
fn forget_offsets(
    core: &Arc<Core>,
    log: &Arc<InternalLog<OffsetsState>>,
    alone: Alone,
    topic: Uuid,
    forgotten: oneshot::Sender<()>,
) {
    if !log.state().has_topic(topic) {
        return;
    }
    let command = OffsetsCommand::delete_topic(topic);
    log.append(core, alone, command, move |outcome| {
        if let Err(error) = outcome {
            tracing::warn!(%topic, %error, "the offsets of a deleted topic are still stored");
        }
        let _ = forgotten.send(());
    });
}

/// Removes the records of a partition before an offset.
pub(crate) async fn trim(
    core: &Arc<Core>,
    topic: &str,
    partition: u32,
    before: u64,
) -> Result<u64, Error> {
    core.check_accepting()?;
    let partition = core.topics.get(topic)?.partition(partition)?;
    let owner = Arc::clone(core);
    core.pool
        .run(move || trim_now(&owner, &partition, before))
        .await?
}

fn trim_now(core: &Core, partition: &Partition, before: u64) -> Result<u64, Error> {
    // Behind damage too: whoever trims there gives up what it has cost.
    if before > partition.durable_end() {
        return Err(partition.out_of_range(before));
    }
    if before <= partition.log_start_offset() {
        return Ok(partition.log_start_offset());
    }
    let mut guard = partition.log();
    let Some(log) = guard.as_mut() else {
        drop(guard);
        let refusal = partition.refusal();
        return Err(refusal.expect("a partition without a log has a refusal"));
    };
    core.check_alive()?;
    let trimmed = core.reserve.with_space(|| log.trim(Offset::new(before)));
    drop(guard);
    match trimmed {
        Ok(start) => {
            // What was damaged may be gone.
            partition.wake_readers();
            Ok(start.get())
        }
        Err(error) => Err(core.log_error(partition, &error)),
    }
}

/// What the partitions remember that was routed by another number of partitions than `count`.
async fn routed_by_other(
    core: &Arc<Core>,
    now: &Arc<TopicNow>,
    count: u32,
) -> Result<Arc<RoutedBefore>, Error> {
    let (owner, now) = (Arc::clone(core), Arc::clone(now));
    core.pool
        .run(move || {
            let mut routed = RoutedBefore::default();
            for partition in &now.partitions {
                let mut guard = partition.log();
                // What cannot be appended to takes no repeat either.
                if partition.refusal().is_none() {
                    settled(&owner, partition, &mut guard)?;
                }
                partition.routed_otherwise(guard.as_ref(), count, &mut routed);
            }
            Ok(Arc::new(routed))
        })
        .await?
}

/// Opens the partitions that a change adds. Nobody else gives out ids meanwhile.
async fn open_added(
    core: &Arc<Core>,
    topic: &Arc<Topic>,
    numbers: std::ops::Range<u32>,
    first: PartitionId,
) -> Result<Vec<Arc<Partition>>, Error> {
    let (owner, topic) = (Arc::clone(core), Arc::clone(topic));
    let opened = core
        .pool
        .run(move || {
            let ids = (first.get()..).map(PartitionId::new);
            owner.open_partitions(&topic, numbers.zip(ids))
        })
        .await?;
    match opened.iter().find_map(|partition| partition.refusal()) {
        Some(Error::TooManyOpenFiles) => Err(Error::TooManyOpenFiles),
        Some(error) => Err(Error::Internal {
            detail: format!("a new partition could not be opened: {error}"),
        }),
        None => Ok(opened),
    }
}

/// Appends a command; `then` happens once it is durable, also when the caller has gone away.
pub(crate) async fn change(
    core: &Arc<Core>,
    right: impl Send + 'static,
    command: impl Into<MetadataCommand>,
    then: impl FnOnce(&Arc<Core>) + Send + 'static,
) -> Result<(), Error> {
    let (sender, receiver) = oneshot::channel();
    let owner = Arc::clone(core);
    core.metadata
        .append(core, right, command.into(), move |outcome| {
            if outcome.is_ok() {
                then(&owner);
            }
            let _ = sender.send(outcome);
        });
    receiver.await.unwrap_or(Err(Error::ShuttingDown))
}

/// Removes what a deleted topic has left on disk. What cannot be removed is tried again at the next
/// start.
fn remove_files(core: &Core, topic: &Topic) {
    let partitions = core.config.data_dir.join(PARTITIONS_DIR);
    for partition in &topic.now().partitions {
        partition.close(topic.not_found());
        if core.is_dead() {
            return;
        }
        let path = partitions.join(partition_dir_name(partition.id()));
        match core.env.disk.remove_dir_all(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                let path = path.display();
                tracing::warn!(%path, %error, "a deleted partition's files are still there");
            }
            _ => {}
        }
    }
    if let Err(error) = core.env.disk.sync_dir(&partitions) {
        core.die(&format!("could not sync {}: {error}", partitions.display()));
    }
}
