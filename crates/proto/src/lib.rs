//! The messages, clients and servers that are generated from `proto/`, and nothing else.

/// Package `flowstone.v1`, the only one.
#[allow(missing_docs, unreachable_pub, clippy::all)]
pub mod v1 {
    tonic::include_proto!("flowstone.v1");
}

/// The encoded `FileDescriptorSet` of all files under `proto/`, for reflection.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));
