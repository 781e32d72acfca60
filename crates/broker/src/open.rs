//! Opening a data directory: whose it is, that nobody else has it, and what it holds.

mod directory;
mod identity;
pub(crate) mod offline;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use flowstone_format::{
    FLOOR_NAME, HeaderError, Offset, PARTITIONS_DIR, PartitionId, partition_dir_name,
};
use flowstone_log::{Floor, FloorState, LogError, OpenSegments, ProducerBudget};
use tokio::sync::Semaphore;

use crate::append::RunQueue;
use crate::append_clock::AppendClock;
use crate::core::Core;
use crate::counters::Counters;
use crate::floor_keeper::FloorKeeper;
use crate::groups::Groups;
use crate::housekeeping::Housekeeping;
use crate::internal::{InternalLog, ReplayError, StateMachine};
use crate::metadata::{MetadataState, OpenedProducers};
use crate::offsets::{Offsets, OffsetsState};
use crate::partition::{Label, Partition};
use crate::pool::Pool;
use crate::producers::{Epochs, RoutedBefore};
use crate::reserve::Reserve;
use crate::scrub::Scrubber;
use crate::topics::{Topic, TopicNow, Topics};
use crate::{BrokerConfig, Env, Error, OpenError};

pub(crate) const METADATA: PartitionId = PartitionId::new(0);
pub(crate) const OFFSETS: PartitionId = PartitionId::new(1);
const INTERNAL_SEGMENT_BYTES: u64 = 16 << 20;
/// Partitions that are opened at a time: most of it is waiting for the disk.
const OPENING_THREADS: usize = 16;

/// Opens a data directory.
pub(crate) fn open(config: BrokerConfig, env: Env) -> Result<Core, Error> {
    config.validate()?;
    let (lock, identity) = directory::claim(&config, &env)?;
    let floor = open_floor(&config, &env)?;
    let metadata = Arc::new(open_metadata(&config, &env, &floor)?);
    match metadata.loss() {
        None => directory::clean_up(&config, &env, &metadata.state())?,
        Some(_) => directory::keep_unknown(&config, &env, &mut metadata.state(), &floor)?,
    }
    let offsets = open_offsets(&config, &env, &floor)?;
    let threaded = config.append_threads > 0;
    let limits = config.limits.clone();
    let core = Core {
        identity,
        topics: Topics::default(),
        metadata,
        offsets: Offsets::new(offsets, config.groups.offsets_retention_ms),
        groups: Groups::new(&config, Arc::clone(&env.clock)),
        appends: RunQueue::new(config.append_threads, env.random.u64()),
        append_clock: AppendClock::new(Arc::clone(&env.clock)),
        pool: Pool::new(!threaded || config.read_threads == 0),
        floor,
        housekeeping: Housekeeping::new(Duration::from_millis(config.retention_interval_ms)),
        reserve: Reserve::new(&config, &env),
        scrubber: Scrubber::new(&config),
        counters: Counters::new(),
        producer_budget: Arc::new(ProducerBudget::new(limits.max_producer_sequences as usize)),
        open_segments: Arc::new(OpenSegments::new(
            config.open.files,
            config.open.maps,
            config.open.index_bytes,
        )),
        room: Arc::new(Semaphore::new(limits.max_produce_bytes_in_flight as usize)),
        subscriptions: Arc::new(Semaphore::new(limits.max_subscriptions as usize)),
        lock: Mutex::new(Some(lock)),
        stopping: false.into(),
        dead: OnceLock::new(),
        config,
        env,
    };
    let began = core.env.clock.monotonic();
    open_topics(&core)?;
    core.reserve.stand_up();
    // Locked once: the event holds all its fields at the same time.
    let (topics, partitions) = {
        let metadata = core.metadata.state();
        (metadata.topic_count(), metadata.partition_count())
    };
    tracing::debug!(
        data_dir = %core.config.data_dir.display(),
        cluster_id = %core.identity.cluster_id,
        topics,
        partitions,
        elapsed_ms = (core.env.clock.monotonic() - began).as_millis() as u64,
        "opened"
    );
    if let Ok(offsets) = core.offsets.log() {
        let topics = &core.topics;
        offsets
            .state()
            .retain_topics(|id| topics.get_by_id(id).is_some());
    }
    Ok(core)
}

fn open_floor(config: &BrokerConfig, env: &Env) -> Result<FloorKeeper, OpenError> {
    let path = config.data_dir.join(FLOOR_NAME);
    let has_partitions = directory::has_partitions(config, env)?;
    let (floor, state) = Floor::open(&env.disk, &config.data_dir).map_err(|error| {
        newer_format(&error).unwrap_or_else(|| match error {
            LogError::Header { path, source } => OpenError::FloorDamaged {
                path,
                detail: source.to_string(),
            },
            LogError::TooManyOpenFiles { path, .. } => OpenError::TooManyOpenFiles { path },
            error => OpenError::Io {
                operation: "open",
                path: path.clone(),
                detail: error.to_string(),
            },
        })
    })?;
    if state == FloorState::Created && has_partitions {
        let path = path.display();
        tracing::warn!(
            %path,
            "the file of durable floors was missing and is made anew: until each partition's next \
             commit, damage at its end may be taken for a torn write"
        );
    }
    Ok(FloorKeeper::new(
        floor,
        Duration::from_millis(config.floor_idle_ms),
    ))
}

/// The refusal of a file that a later version has written.
fn newer_format(error: &LogError) -> Option<OpenError> {
    let LogError::Header { path, source } = error else {
        return None;
    };
    matches!(
        source,
        HeaderError::NewerVersion { .. } | HeaderError::UnknownFeatures { .. }
    )
    .then(|| OpenError::NewerFormat {
        path: path.clone(),
        detail: source.to_string(),
    })
}

fn open_metadata(
    config: &BrokerConfig,
    env: &Env,
    floor: &FloorKeeper,
) -> Result<InternalLog<MetadataState>, OpenError> {
    let (partition, path) = open_internal(config, env, floor, METADATA, "metadata")?;
    replay(config, partition, &path).map_err(|error| match error {
        ReplayError::Newer { .. } => OpenError::NewerFormat {
            path,
            detail: error.to_string(),
        },
        ReplayError::TooManyOpenFiles => OpenError::TooManyOpenFiles { path },
        ReplayError::Damaged { detail } => OpenError::MetadataDamaged { path, detail },
    })
}

/// Opens the offsets log. When it is damaged, what groups ask for fails and the rest goes on.
fn open_offsets(
    config: &BrokerConfig,
    env: &Env,
    floor: &FloorKeeper,
) -> Result<Result<Arc<InternalLog<OffsetsState>>, Error>, OpenError> {
    let (partition, path) = open_internal(config, env, floor, OFFSETS, "offsets")?;
    match replay(config, Arc::clone(&partition), &path) {
        Ok(log) => Ok(Ok(Arc::new(log))),
        Err(error @ ReplayError::Newer { .. }) => Err(OpenError::NewerFormat {
            path,
            detail: error.to_string(),
        }),
        Err(ReplayError::TooManyOpenFiles) => Err(OpenError::TooManyOpenFiles { path }),
        Err(ReplayError::Damaged { detail }) => {
            let path = path.display();
            tracing::error!(
                %path, detail,
                "the log of committed offsets is damaged: groups are refused, the rest goes on"
            );
            Ok(Err(partition.refusal().unwrap_or_else(|| {
                partition.corrupt(Offset::new(partition.high_watermark()), detail)
            })))
        }
    }
}

fn replay<S: StateMachine>(
    config: &BrokerConfig,
    partition: Arc<Partition>,
    path: &Path,
) -> Result<InternalLog<S>, ReplayError> {
    InternalLog::replay(
        partition,
        path.to_path_buf(),
        config.snapshot_interval_bytes,
    )
}

fn open_internal(
    config: &BrokerConfig,
    env: &Env,
    floor: &FloorKeeper,
    id: PartitionId,
    name: &str,
) -> Result<(Arc<Partition>, PathBuf), OpenError> {
    let label = Label {
        topic: format!("(internal) {name}").into(),
        partition: 0,
        internal: true,
    };
    let path = config
        .data_dir
        .join(PARTITIONS_DIR)
        .join(partition_dir_name(id));
    let slot = floor.newest(id);
    let bytes = INTERNAL_SEGMENT_BYTES;
    let shared = (&Arc::default(), &Arc::default());
    let opened = Partition::open_log(env, &config.data_dir, id, slot, bytes, shared);
    if let Some(refusal) = opened.as_ref().err().and_then(newer_format) {
        return Err(refusal);
    }
    if let Err(LogError::TooManyOpenFiles { path, .. }) = opened {
        return Err(OpenError::TooManyOpenFiles { path });
    }
    let partition = Partition::new(id, opened, bytes, label);
    Ok((Arc::new(partition), path))
}

/// Opens the partitions of all topics, several at a time if there are threads.
fn open_topics(core: &Core) -> Result<(), OpenError> {
    let state = core.metadata.state();
    let topics: Vec<_> = state
        .topics()
        .map(|topic| {
            let info = topic.info();
            let opened = state.producers(info.id);
            let epochs = Epochs::new(opened.into_iter().flat_map(OpenedProducers::epochs));
            (Arc::new(Topic::with_epochs(info, epochs)), topic)
        })
        .collect();
    let numbered: Vec<_> = topics
        .iter()
        .flat_map(|(topic, state)| {
            (0..)
                .zip(state.partition_ids())
                .map(move |(number, id)| (topic, number, id))
        })
        .collect();
    let threads = match core.config.append_threads {
        0 => 1,
        _ => OPENING_THREADS,
    };
    let share = numbered.len().div_ceil(threads).max(1);
    let open = |part: &[(&Arc<Topic>, u32, PartitionId)]| -> Vec<Arc<Partition>> {
        part.iter()
            .flat_map(|&(topic, number, id)| {
                core.open_partitions(topic, std::iter::once((number, id)))
            })
            .collect()
    };
    let opened: Vec<_> = if threads == 1 {
        open(&numbered)
    } else {
        std::thread::scope(|scope| {
            let parts: Vec<_> = numbered
                .chunks(share)
                .map(|part| scope.spawn(move || open(part)))
                .collect();
            let join = |part: std::thread::ScopedJoinHandle<'_, Vec<Arc<Partition>>>| {
                part.join().expect("opening a partition does not panic")
            };
            parts.into_iter().flat_map(join).collect()
        })
    };
    // A start with partitions that are offline for want of descriptors would leave them so.
    let unopened = opened
        .iter()
        .find(|partition| partition.refusal() == Some(Error::TooManyOpenFiles));
    if let Some(partition) = unopened {
        let dir = core.config.data_dir.join(PARTITIONS_DIR);
        let path = dir.join(partition_dir_name(partition.id()));
        return Err(OpenError::TooManyOpenFiles { path });
    }
    let mut opened = opened.into_iter();
    for (topic, state) in topics {
        let info = state.info();
        let count = info.spec.partition_count;
        let partitions: Vec<_> = opened.by_ref().take(count as usize).collect();
        let mut routed_before = RoutedBefore::default();
        for partition in &partitions {
            partition.routed_otherwise(partition.log().as_ref(), count, &mut routed_before);
        }
        topic.replace(TopicNow {
            info,
            partitions,
            routed_before: Arc::new(routed_before),
        });
        core.topics.insert(topic);
    }
    Ok(())
}
