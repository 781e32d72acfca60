//! The names of all files and directories in a data directory: built and parsed
//! here and nowhere else.

use uuid::Uuid;

use crate::offset::{Offset, PartitionId};

/// The data directory's identity file.
pub const IDENTITY_NAME: &str = "IDENTITY";
/// IDENTITY while it is written.
pub const IDENTITY_TEMP_NAME: &str = "IDENTITY.tmp";
/// The data directory's file of durable floors.
pub const FLOOR_NAME: &str = "FLOOR";
/// The file that keeps a second process out of the data directory.
pub const LOCK_NAME: &str = "LOCK";
/// Space that is kept for the broker's own logs on a full disk.
pub const RESERVE_NAME: &str = "RESERVE";
/// The directory that holds the partitions' directories.
pub const PARTITIONS_DIR: &str = "partitions";
/// A partition's list of segments.
pub const MANIFEST_NAME: &str = "MANIFEST";
/// MANIFEST while it is written.
pub const MANIFEST_TEMP_NAME: &str = "MANIFEST.tmp";
/// Where a partition's files go that are kept but never read.
pub const ASIDE_DIR: &str = "aside";

const SEGMENT_SUFFIX: &str = ".segment";
const INDEX_SUFFIX: &str = ".index";
const PRODUCERS_SUFFIX: &str = ".producers";
const TEMP_SUFFIX: &str = ".tmp";

/// The name of a segment file: its base offset in 20 digits, and the first 8 hex
/// digits of its id.
pub fn segment_name(base: Offset, id: Uuid) -> String {
    format!("{}{SEGMENT_SUFFIX}", stem(base, id))
}

/// The name of a segment file that repair has not finished: no one takes it for a segment.
pub fn segment_temp_name(base: Offset, id: Uuid) -> String {
    format!("{}{TEMP_SUFFIX}", segment_name(base, id))
}

/// Whether this is the name of a segment file that a repair has left unfinished.
pub fn is_segment_temp_name(name: &str) -> bool {
    name.strip_suffix(TEMP_SUFFIX)
        .is_some_and(|name| parse_segment_name(name).is_some())
}

/// The name that a MANIFEST is kept under, aside, once repair has replaced it; `id` tells it from others.
pub fn manifest_aside_name(id: Uuid) -> String {
    let [a, b, c, d, ..] = id.into_bytes();
    format!("{MANIFEST_NAME}-{:08x}", u32::from_be_bytes([a, b, c, d]))
}

/// The name of a segment's index file.
pub fn index_name(base: Offset, id: Uuid) -> String {
    format!("{}{INDEX_SUFFIX}", stem(base, id))
}

/// The name of a segment's producer snapshot.
pub fn producers_name(base: Offset, id: Uuid) -> String {
    format!("{}{PRODUCERS_SUFFIX}", stem(base, id))
}

/// Base offset and first four bytes of the id, if this is a segment file's name.
pub fn parse_segment_name(name: &str) -> Option<(Offset, [u8; 4])> {
    parse_stem(name.strip_suffix(SEGMENT_SUFFIX)?)
}

/// Base offset and first four bytes of the id, if this is an index file's name.
pub fn parse_index_name(name: &str) -> Option<(Offset, [u8; 4])> {
    parse_stem(name.strip_suffix(INDEX_SUFFIX)?)
}

/// Base offset and first four bytes of the id, if this is a producer snapshot's name.
pub fn parse_producers_name(name: &str) -> Option<(Offset, [u8; 4])> {
    parse_stem(name.strip_suffix(PRODUCERS_SUFFIX)?)
}

/// The name of a partition's directory: its id in 10 digits.
pub fn partition_dir_name(partition: PartitionId) -> String {
    format!("{partition:010}")
}

/// The partition, if this is the name of a partition's directory.
pub fn parse_partition_dir_name(name: &str) -> Option<PartitionId> {
    let partition = PartitionId::new(name.parse().ok()?);
    (partition_dir_name(partition) == name).then_some(partition)
}

fn stem(base: Offset, id: Uuid) -> String {
    let [a, b, c, d, ..] = id.into_bytes();
    join(base, [a, b, c, d])
}

fn join(base: Offset, id: [u8; 4]) -> String {
    format!("{base:020}-{:08x}", u32::from_be_bytes(id))
}

fn parse_stem(stem: &str) -> Option<(Offset, [u8; 4])> {
    let (base, id) = stem.split_once('-')?;
    let base = Offset::new(base.parse().ok()?);
    let id = u32::from_str_radix(id, 16).ok()?.to_be_bytes();
    (join(base, id) == stem).then_some((base, id))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: Uuid = Uuid::from_bytes([0x0A, 0x1B, 0x2C, 0x3D, 4, 5, 6, 7, 8, 9, 0, 1, 2, 3, 4, 5]);

    #[test]
    fn names_have_fixed_forms() {
        let base = Offset::new(184_467);
        assert_eq!(
            segment_name(base, ID),
            "00000000000000184467-0a1b2c3d.segment"
        );
        assert_eq!(index_name(base, ID), "00000000000000184467-0a1b2c3d.index");
        assert_eq!(
            parse_index_name("00000000000000184467-0a1b2c3d.index"),
            Some((base, [0x0A, 0x1B, 0x2C, 0x3D]))
        );
        let snapshot = producers_name(base, ID);
        assert_eq!(snapshot, "00000000000000184467-0a1b2c3d.producers");
        assert_eq!(
            parse_producers_name(&snapshot),
            Some((base, [0x0A, 0x1B, 0x2C, 0x3D]))
        );
        assert!(parse_segment_name(&snapshot).is_none());
        assert!(ID.to_string().starts_with("0a1b2c3d"));
        let unfinished = segment_temp_name(base, ID);
        assert_eq!(unfinished, "00000000000000184467-0a1b2c3d.segment.tmp");
        assert!(is_segment_temp_name(&unfinished) && parse_segment_name(&unfinished).is_none());
        assert!(!is_segment_temp_name(MANIFEST_TEMP_NAME));
        assert_eq!(manifest_aside_name(ID), "MANIFEST-0a1b2c3d");
        assert_eq!(partition_dir_name(PartitionId::new(7)), "0000000007");
        let wide = PartitionId::new(12_345_678_901);
        assert_eq!(parse_partition_dir_name("12345678901"), Some(wide));
    }

    #[test]
    fn other_names_are_not_ours() {
        for name in [
            "",
            ".segment",
            "00000000000000184467-0a1b2c3d",
            "00000000000000184467-0a1b2c3d.index",
            "00000000000000184467-0A1B2C3D.segment",
            "00000000000000184467-0a1b2c3.segment",
            "0000000000000184467-0a1b2c3d.segment",
            "+0000000000000184467-0a1b2c3d.segment",
            "99999999999999999999-0a1b2c3d.segment",
            "00000000000000184467-0a1b2c3d.segment.segment",
        ] {
            assert_eq!(parse_segment_name(name), None, "{name}");
        }
        for name in [
            "",
            "7",
            "000000007",
            "00000000007",
            "+000000007",
            "000000000x",
            "aside",
        ] {
            assert_eq!(parse_partition_dir_name(name), None, "{name}");
        }
    }
}
