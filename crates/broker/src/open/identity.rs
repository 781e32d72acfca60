//! The identity file, which tells an empty volume from one that is not mounted.

use std::io;

use flowstone_disk::OpenMode;
use flowstone_format::{HeaderError, IDENTITY_NAME, IDENTITY_TEMP_NAME, Identity};
use uuid::Uuid;

use crate::open::directory::failed;
use crate::{BrokerConfig, Env, OpenError};

/// Reads the identity, or gives one to a directory that is new.
pub(super) fn read_or_create(
    config: &BrokerConfig,
    env: &Env,
    is_new: bool,
) -> Result<Identity, OpenError> {
    let path = config.data_dir.join(IDENTITY_NAME);
    let file = match env.disk.open(&path, OpenMode::Read) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return if is_new {
                create(config, env)
            } else {
                Err(OpenError::IdentityMissing { path })
            };
        }
        Err(error) => return Err(failed("open", &path)(error)),
    };
    let len = file.len().map_err(failed("measure", &path))?;
    let mut bytes = vec![0; usize::try_from(len.min(MAX_BYTES)).expect("a small number")];
    file.read_exact_at(&mut bytes, 0)
        .map_err(failed("read", &path))?;
    Identity::decode(&bytes).map_err(|error| match error {
        HeaderError::NewerVersion { .. } | HeaderError::UnknownFeatures { .. } => {
            OpenError::NewerFormat {
                path,
                detail: error.to_string(),
            }
        }
        error => OpenError::IdentityDamaged {
            path,
            detail: error.to_string(),
        },
    })
}

/// More than any version of the file may have.
const MAX_BYTES: u64 = 64 << 10;

fn create(config: &BrokerConfig, env: &Env) -> Result<Identity, OpenError> {
    let dir = &config.data_dir;
    let uuid = || Uuid::from_bytes(env.random.uuid_bytes());
    let identity = Identity {
        cluster_id: config.expected_cluster_id.unwrap_or_else(uuid),
        directory_id: uuid(),
        created_ms: env.clock.now_ms(),
    };
    let (temp, path) = (dir.join(IDENTITY_TEMP_NAME), dir.join(IDENTITY_NAME));
    // A crash may have left one behind.
    match env.disk.remove_file(&temp) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(failed("remove", &temp)(error));
        }
        _ => {}
    }
    let file = env
        .disk
        .open(&temp, OpenMode::CreateNew)
        .map_err(failed("create", &temp))?;
    file.write_all_at(&identity.encode(), 0)
        .map_err(failed("write", &temp))?;
    file.sync_all().map_err(failed("sync", &temp))?;
    env.disk
        .rename(&temp, &path)
        .map_err(failed("rename", &temp))?;
    env.disk.sync_dir(dir).map_err(failed("sync", dir))?;
    Ok(identity)
}
