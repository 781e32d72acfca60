//! The data directory itself: made, locked, identified, and cleared of what deleted topics have left.

use std::io;
use std::path::Path;

use flowstone_disk::{DirEntry, Lock, is_out_of_open_files};
use flowstone_format::{
    ASIDE_DIR, FLOOR_NAME, Identity, LOCK_NAME, PARTITIONS_DIR, PartitionId,
    parse_partition_dir_name, partition_dir_name,
};

use crate::floor_keeper::FloorKeeper;
use crate::metadata::{FIRST_TOPIC_PARTITION, MetadataState};
use crate::open::identity;
use crate::{BrokerConfig, Env, OpenError};

/// Takes the directory: from here on it is this process's, and all that lies in it is on disk.
pub(super) fn claim(
    config: &BrokerConfig,
    env: &Env,
) -> Result<(Box<dyn Lock>, Identity), OpenError> {
    let dir = &config.data_dir;
    let disk = &env.disk;
    disk.create_dir_all(dir).map_err(not_made(dir))?;
    let lock_path = dir.join(LOCK_NAME);
    let lock = disk.lock(&lock_path).map_err(|error| match error.kind() {
        io::ErrorKind::WouldBlock => OpenError::DirectoryInUse { path: dir.clone() },
        _ => failed("lock", &lock_path)(error),
    })?;
    let names = list(env, dir)?;
    let is_new = !names
        .iter()
        .any(|entry| entry.name == PARTITIONS_DIR || entry.name == FLOOR_NAME);
    let identity = identity::read_or_create(config, env, is_new)?;
    if let Some(expected) = config.expected_cluster_id
        && expected != identity.cluster_id
    {
        return Err(OpenError::WrongCluster {
            path: dir.clone(),
            expected,
            found: identity.cluster_id,
        });
    }
    // After a kill, names and bytes may be in the cache and not on disk.
    disk.sync_all(dir).map_err(failed("sync", dir))?;
    let partitions = dir.join(PARTITIONS_DIR);
    disk.create_dir_all(&partitions)
        .map_err(failed("create", &partitions))?;
    disk.sync_dir(dir).map_err(failed("sync", dir))?;
    Ok((lock, identity))
}

/// Whether any partition has files.
pub(super) fn has_partitions(config: &BrokerConfig, env: &Env) -> Result<bool, OpenError> {
    Ok(!list(env, &config.data_dir.join(PARTITIONS_DIR))?.is_empty())
}

/// Removes the directories of partitions whose topics were deleted.
pub(super) fn clean_up(
    config: &BrokerConfig,
    env: &Env,
    state: &MetadataState,
) -> Result<(), OpenError> {
    let partitions = config.data_dir.join(PARTITIONS_DIR);
    let mut removed = false;
    for id in unknown(config, env, state)? {
        let path = partitions.join(partition_dir_name(id));
        if id >= state.next_partition() {
            return Err(OpenError::MetadataDamaged {
                path: partitions.join(partition_dir_name(super::METADATA)),
                detail: format!(
                    "it does not know the partition in {}: it is older than the rest of the \
                     directory",
                    path.display()
                ),
            });
        }
        tracing::info!(path = %path.display(), "removing what a deleted topic has left");
        env.disk
            .remove_dir_all(&path)
            .map_err(failed("remove", &path))?;
        removed = true;
    }
    if removed {
        env.disk
            .sync_dir(&partitions)
            .map_err(failed("sync", &partitions))?;
    }
    Ok(())
}

/// Where records of the metadata log are lost, nobody knows which directories a deleted topic has
/// left: those of no topic are moved aside, and no id that anything on disk speaks of is given out
/// again.
pub(super) fn keep_unknown(
    config: &BrokerConfig,
    env: &Env,
    state: &mut MetadataState,
    floor: &FloorKeeper,
) -> Result<(), OpenError> {
    let partitions = config.data_dir.join(PARTITIONS_DIR);
    let aside = config.data_dir.join(ASIDE_DIR);
    env.disk
        .create_dir_all(&aside)
        .map_err(failed("create", &aside))?;
    let floor = floor.highest().map_err(|error| OpenError::Io {
        operation: "read",
        path: config.data_dir.join(FLOOR_NAME),
        detail: error.to_string(),
    })?;
    let mut ids: Vec<PartitionId> = floor.into_iter().collect();
    for path in [&partitions, &aside] {
        let names = list(env, path)?;
        ids.extend(
            names
                .iter()
                .filter_map(|entry| parse_partition_dir_name(&entry.name)),
        );
    }
    if let Some(greatest) = ids.iter().max() {
        state.skip_partitions(greatest.get() + 1);
    }
    for id in unknown(config, env, state)? {
        let path = partitions.join(partition_dir_name(id));
        let kept = aside.join(partition_dir_name(id));
        tracing::warn!(
            path = %path.display(), kept = %kept.display(),
            "no topic is known that these records are of: they are moved aside"
        );
        env.disk
            .rename(&path, &kept)
            .map_err(failed("move aside", &path))?;
    }
    for path in [&aside, &partitions, &config.data_dir] {
        env.disk.sync_dir(path).map_err(failed("sync", path))?;
    }
    Ok(())
}

/// Partitions that have files and are of no topic.
fn unknown(
    config: &BrokerConfig,
    env: &Env,
    state: &MetadataState,
) -> Result<Vec<PartitionId>, OpenError> {
    let mut live: Vec<PartitionId> = state
        .topics()
        .flat_map(|topic| topic.partition_ids())
        .collect();
    live.sort_unstable();
    let names = list(env, &config.data_dir.join(PARTITIONS_DIR))?;
    Ok(names
        .iter()
        .filter_map(|entry| parse_partition_dir_name(&entry.name))
        .filter(|id| id.get() >= FIRST_TOPIC_PARTITION && live.binary_search(id).is_err())
        .collect())
}

fn list(env: &Env, path: &Path) -> Result<Vec<DirEntry>, OpenError> {
    env.disk.list(path).map_err(failed("list", path))
}

/// The error of a data directory that could not be made: there is nothing in it yet, so another place
/// is always a way out.
fn not_made(path: &Path) -> impl FnOnce(io::Error) -> OpenError + use<> {
    let path = path.to_path_buf();
    move |error| OpenError::NotWritable {
        detail: match error.kind() {
            io::ErrorKind::AlreadyExists => "it is not a directory".to_owned(),
            _ => error.to_string(),
        },
        path,
    }
}

/// The error of an operation that failed; want of rights is told apart.
pub(super) fn failed(
    operation: &'static str,
    path: &Path,
) -> impl FnOnce(io::Error) -> OpenError + use<> {
    let path = path.to_path_buf();
    move |error| match error.kind() {
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
            OpenError::NotWritable {
                path,
                detail: error.to_string(),
            }
        }
        _ if is_out_of_open_files(&error) => OpenError::TooManyOpenFiles { path },
        _ => OpenError::Io {
            operation,
            path,
            detail: error.to_string(),
        },
    }
}
