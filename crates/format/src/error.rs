//! What can be wrong with bytes from a client or from a disk.

use std::fmt;

use thiserror::Error;

/// A record run is not as the grammar wants it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("record {index}: {kind}")]
pub struct RecordError {
    /// Which record of the run, from 0.
    pub index: u32,
    /// What is wrong with it.
    pub kind: RecordErrorKind,
}

/// Why a record is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum RecordErrorKind {
    /// The record is larger than allowed.
    #[error("{bytes} bytes are more than the limit of {limit} bytes a record")]
    TooLarge {
        /// Its size in bytes, without timestamp and offset.
        bytes: u64,
        /// The limit in bytes.
        limit: u32,
    },
    /// The run has more records than allowed.
    #[error("more than {limit} records in one batch")]
    TooMany {
        /// The greatest number of records.
        limit: u32,
    },
    /// The stored records of one batch exceed what a frame may hold.
    #[error("the batch exceeds {limit} bytes as it is stored")]
    BatchTooLarge {
        /// The greatest payload in bytes.
        limit: u32,
    },
    /// The record's timestamp is greater than allowed.
    #[error("the timestamp is too far ahead")]
    TooLate,
    /// The record has a field that this version does not know.
    #[error("field {field} is unknown")]
    UnknownField {
        /// Its number.
        field: u32,
    },
    /// A header has a field that this version does not know.
    #[error("field {field} of a header (field 3) is unknown")]
    UnknownHeaderField {
        /// Its number inside the header.
        field: u32,
    },
    /// The bytes break a rule of the grammar.
    #[error("{place}: {what}")]
    Malformed {
        /// Where.
        place: Place,
        /// Which rule.
        what: Malformation,
    },
}

impl RecordErrorKind {
    /// The number of the record's field that is at fault, if it is one field.
    pub fn field(&self) -> Option<u32> {
        match *self {
            Self::UnknownField { field } => Some(field),
            Self::UnknownHeaderField { .. } => Some(3),
            Self::Malformed { place, .. } => match place {
                Place::Field(field) => Some(field),
                Place::HeaderTag | Place::HeaderField(_) => Some(3),
                Place::Frame | Place::Tag => None,
            },
            Self::TooLate => Some(4),
            Self::TooLarge { .. } | Self::TooMany { .. } | Self::BatchTooLarge { .. } => None,
        }
    }
}

/// Where in a record a rule of the grammar is broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// The tag and length before the record.
    Frame,
    /// The tag of one of its fields.
    Tag,
    /// The field of this number.
    Field(u32),
    /// A tag inside a header.
    HeaderTag,
    /// The field of this number inside a header.
    HeaderField(u32),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Frame => f.write_str("the tag and length before it"),
            Self::Tag => f.write_str("a field's tag"),
            Self::Field(field) => write!(f, "field {field}"),
            Self::HeaderTag => f.write_str("a tag in a header (field 3)"),
            Self::HeaderField(field) => write!(f, "field {field} of a header (field 3)"),
        }
    }
}

/// The rules of the record grammar.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Malformation {
    /// A run holds nothing but records, each with the tag `0A`.
    #[error("a record begins with byte 0A, not {byte:02X}")]
    NotARecord {
        /// The byte that was found.
        byte: u8,
    },
    /// The bytes end inside it.
    #[error("the bytes end inside it")]
    Truncated,
    /// Varints are written in as few bytes as they need.
    #[error("a varint is longer than it needs to be")]
    NotMinimal,
    /// Varints have at most 64 bits.
    #[error("a varint has more than 64 bits")]
    VarintTooLong,
    /// Field numbers are 1 to 536,870,911.
    #[error("{tag} is not a valid tag")]
    BadTag {
        /// The number that was found.
        tag: u64,
    },
    /// Groups are not part of the grammar.
    #[error("groups are not allowed")]
    Group,
    /// Each field has its own wire type.
    #[error("wire type {found} instead of {expected}")]
    WireType {
        /// The type that was found.
        found: u8,
        /// The type that the field has.
        expected: u8,
    },
    /// All fields but headers stand at most once.
    #[error("it stands more than once")]
    Repeated,
    /// Fields stand in ascending order.
    #[error("it stands after field {after}; fields must ascend")]
    OutOfOrder {
        /// The field before.
        after: u32,
    },
    /// Header keys are text.
    #[error("a header's key is not UTF-8")]
    KeyNotUtf8,
    /// Priorities are 0 to 9.
    #[error("priority {value} is not one of 0 to 9")]
    Priority {
        /// The priority that was found.
        value: i64,
    },
}

/// Bytes in a segment are not a frame.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum FrameError {
    /// The bytes end inside the frame's header.
    #[error("{len} bytes where the frame header needs {need}")]
    Truncated {
        /// How many bytes there are.
        len: usize,
        /// How many the header needs.
        need: usize,
    },
    /// The bytes do not begin as a frame does.
    #[error("not a frame: the magic is wrong")]
    BadMagic,
    /// The checksum of the header does not fit: damage, or a frame of another
    /// place or segment.
    #[error("the frame header's checksum is wrong")]
    BadHeaderCrc,
    /// The checksum of the payload does not fit.
    #[error("the payload's checksum is wrong")]
    BadPayloadCrc,
    /// The payload at hand is not as long as the header says.
    #[error("{len} bytes of payload where the header says {expected}")]
    PayloadLength {
        /// How many bytes there are.
        len: usize,
        /// How many the header tells.
        expected: u32,
    },
    /// A length breaks its limit.
    #[error("{field} is {value}, outside {min} to {max}")]
    BadLength {
        /// Which length.
        field: &'static str,
        /// What it is.
        value: u64,
        /// The least that is allowed.
        min: u64,
        /// The most that is allowed.
        max: u64,
    },
    /// The header is whole, but of a version that this one does not know.
    #[error("frame version {found} is unknown; this is version {known}")]
    UnknownVersion {
        /// The version that was found.
        found: u16,
        /// The version that this code writes.
        known: u16,
    },
    /// The header is whole, but has attributes that this version does not know.
    #[error("unknown attribute bits {bits:#010x}")]
    UnknownAttributes {
        /// The bits that are not known.
        bits: u32,
    },
    /// The header is whole, but of a kind that this version does not know.
    #[error("unknown frame kind {kind}")]
    UnknownKind {
        /// The kind.
        kind: u8,
    },
    /// The header is whole, but its codec is not known to this version.
    #[error("unknown codec {codec}")]
    UnknownCodec {
        /// The codec.
        codec: u8,
    },
    /// The header is whole, but its fields contradict each other.
    #[error("frame header: {detail}")]
    Invalid {
        /// Which do.
        detail: &'static str,
    },
}

impl FrameError {
    /// Whether the header is whole and something newer than this version wrote it.
    pub fn is_newer(&self) -> bool {
        matches!(
            self,
            Self::UnknownVersion { .. }
                | Self::UnknownAttributes { .. }
                | Self::UnknownKind { .. }
                | Self::UnknownCodec { .. }
        )
    }
}

/// A file of Flowstone, or a header in one, cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum HeaderError {
    /// The bytes are something else.
    #[error("not a Flowstone {what}: the magic is wrong")]
    BadMagic {
        /// What was expected.
        what: &'static str,
    },
    /// A newer version of Flowstone wrote it.
    #[error("{what} has format version {found}; this Flowstone knows up to {known}")]
    NewerVersion {
        /// What was read.
        what: &'static str,
        /// The version that was found.
        found: u16,
        /// The newest version that this code knows.
        known: u16,
    },
    /// It needs features that this version does not have.
    #[error("{what} needs features that this Flowstone does not know: {bits:#x}")]
    UnknownFeatures {
        /// What was read.
        what: &'static str,
        /// The unknown feature bits.
        bits: u64,
    },
    /// Its checksum does not fit.
    #[error("{what} is damaged: the checksum is wrong")]
    BadCrc {
        /// What was read.
        what: &'static str,
    },
    /// It is too short.
    #[error("{what} is cut off: {len} bytes of {need}")]
    Truncated {
        /// What was read.
        what: &'static str,
        /// How many bytes there are.
        len: usize,
        /// How many are needed at least.
        need: usize,
    },
    /// The checksum fits, but the contents contradict themselves or what was asked for.
    #[error("{what}: {detail}")]
    Invalid {
        /// What was read.
        what: &'static str,
        /// What is wrong.
        detail: String,
    },
}
