//! IDENTITY: which data directory this is, and in which format.

use uuid::Uuid;

use crate::error::HeaderError;
use crate::layout::{self, Field, Kind};

/// The length of IDENTITY in bytes.
pub const IDENTITY_LEN: usize = 64;
/// What IDENTITY begins with: `FLSI`.
pub const IDENTITY_MAGIC: [u8; 4] = *b"FLSI";
/// The version of the data directory.
pub const IDENTITY_VERSION: u16 = 1;

const KIND: Kind = Kind {
    what: "IDENTITY",
    magic: IDENTITY_MAGIC,
    version: IDENTITY_VERSION,
};

mod at {
    crate::layout::fields! {
        MAGIC 0 4, VERSION 4 2, RESERVED_A 6 2, FEATURES 8 8, CLUSTER_ID 16 16,
        DIRECTORY_ID 32 16, CREATED_MS 48 8, RESERVED_B 56 4, CRC 60 4,
    }
}

/// What IDENTITY says. Its version and features are those of the whole directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The cluster that the data belongs to.
    pub cluster_id: Uuid,
    /// The directory's own id.
    pub directory_id: Uuid,
    /// When it was made, Unix milliseconds.
    pub created_ms: i64,
}

impl Identity {
    /// The fields in order.
    pub const LAYOUT: &[Field] = at::ALL;

    /// The bytes of the file.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = vec![0; IDENTITY_LEN];
        KIND.put_head(&mut out);
        at::CLUSTER_ID.put(&mut out, self.cluster_id.into_bytes());
        at::DIRECTORY_ID.put(&mut out, self.directory_id.into_bytes());
        at::CREATED_MS.put(&mut out, self.created_ms.to_le_bytes());
        layout::seal(&mut out);
        out
    }

    /// Reads a whole file.
    pub fn decode(bytes: &[u8]) -> Result<Self, HeaderError> {
        KIND.check_whole(bytes, IDENTITY_LEN)?;
        KIND.reserved(bytes, at::RESERVED_B)?;
        Ok(Self {
            cluster_id: Uuid::from_bytes(at::CLUSTER_ID.bytes16(bytes)),
            directory_id: Uuid::from_bytes(at::DIRECTORY_ID.bytes16(bytes)),
            created_ms: at::CREATED_MS.i64(bytes),
        })
    }
}
