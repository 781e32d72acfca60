//! The data directory itself: made, locked, identified, and cleared of what deleted topics have left.

use std::io;
use std::path::Path;

use flowstone_disk::{DirEntry, Lock, is_out_of_open_files};
use flowstone_format::{
    FLOOR_NAME, Identity, LOCK_NAME, PARTITIONS_DIR, PartitionId, parse_partition_dir_name,
    partition_dir_name,
};

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
    let mut live: Vec<PartitionId> = state
        .topics()
        .flat_map(|topic| topic.partition_ids())
        .collect();
    live.sort_unstable();
    let mut removed = false;
    for entry in list(env, &partitions)? {
        let Some(id) = parse_partition_dir_name(&entry.name) else {
            continue;
        };
        if id.get() < FIRST_TOPIC_PARTITION || live.binary_search(&id).is_ok() {
            continue;
        }
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
