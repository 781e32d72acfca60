//! Every byte that Flowstone keeps on disk: records, frames, segment headers,
//! MANIFEST, FLOOR, indexes, producer snapshots, IDENTITY and the names of the files.
//!
//! Pure functions over byte slices: this crate opens no file, asks no clock and
//! knows no async. `docs/format.md` describes the same bytes for readers in
//! other languages, and a test holds the two against each other.

mod batch;
mod error;
mod floor;
mod frame;
mod identity;
mod index;
mod layout;
mod manifest;
mod names;
mod offset;
mod producer;
mod producers;
mod record;
mod segment;
mod stored;
mod varint;

pub use batch::{BatchMeta, build_batch};
pub use error::{FrameError, HeaderError, Malformation, Place, RecordError, RecordErrorKind};
pub use floor::{
    FLOOR_BLOCK_LEN, FLOOR_HEADER_LEN, FLOOR_HEADER_MAGIC, FLOOR_SLOT_LEN, FLOOR_SLOT_MAGIC,
    FLOOR_SLOTS_PER_BLOCK, FLOOR_VERSION, FloorSlot, check_floor_header, floor_header,
    floor_slot_positions,
};
pub use frame::{
    Codec, FRAME_HEADER_LEN, FRAME_MAGIC, FRAME_VERSION, FrameHeader, FrameKind, LOCAL_LEN,
    MAX_HEADER_LEN, MAX_PAYLOAD_LEN, MAX_UNCOMPRESSED_LEN,
};
pub use identity::{IDENTITY_LEN, IDENTITY_MAGIC, IDENTITY_VERSION, Identity};
pub use index::{
    INDEX_ENTRY_LEN, INDEX_HEADER_LEN, INDEX_MAGIC, INDEX_VERSION, IndexEntry, SegmentIndex,
};
pub use layout::Field;
pub use manifest::{
    Location, MANIFEST_ENTRY_LEN, MANIFEST_HEADER_LEN, MANIFEST_MAGIC, MANIFEST_VERSION, Manifest,
    SegmentEntry, SegmentState,
};
pub use names::{
    ASIDE_DIR, FLOOR_NAME, IDENTITY_NAME, IDENTITY_TEMP_NAME, LOCK_NAME, MANIFEST_NAME,
    MANIFEST_TEMP_NAME, PARTITIONS_DIR, RESERVE_NAME, index_name, is_segment_temp_name,
    manifest_aside_name, parse_index_name, parse_partition_dir_name, parse_producers_name,
    parse_segment_name, partition_dir_name, producers_name, segment_name, segment_temp_name,
};
pub use offset::{Generation, Offset, PartitionId, Position};
pub use producer::{PRODUCER_WINDOW, ProducerId, ProducerSequence, client_crc};
pub use producers::{
    PRODUCER_ENTRY_LEN, PRODUCER_SEQUENCE_LEN, PRODUCERS_HEADER_LEN, PRODUCERS_MAGIC,
    PRODUCERS_VERSION, ProducerEntry, ProducerSnapshot,
};
pub use record::{MAX_BROKER_BYTES, Record, RecordLimits, Records};
pub use segment::{SEGMENT_HEADER_LEN, SEGMENT_MAGIC, SEGMENT_VERSION, SegmentHeader};
pub use stored::{leading_records, skip_records};
