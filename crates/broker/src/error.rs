//! Why the broker refused or failed: one variant for each reason that a caller can act on, with the
//! facts as fields.

use std::path::PathBuf;

use flowstone_format::{RecordError, RecordErrorKind};
use uuid::Uuid;

/// Why a call failed. Unless a variant says otherwise nothing was changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// No topic has this name, or it was deleted while the call ran.
    #[error("topic {topic:?} does not exist")]
    TopicNotFound {
        /// The name asked for.
        topic: String,
    },
    /// The topic has fewer partitions.
    #[error(
        "topic {topic:?} has no partition {partition}: it has {partition_count}, numbered from 0"
    )]
    PartitionNotFound {
        /// The topic.
        topic: String,
        /// The partition asked for.
        partition: u32,
        /// How many there are.
        partition_count: u32,
    },
    /// The group has neither members nor committed offsets.
    #[error("group {group:?} does not exist: it has no members and no committed offsets")]
    GroupNotFound {
        /// The name asked for.
        group: String,
    },
    /// A topic of this name exists already.
    #[error("topic {topic:?} exists already")]
    TopicExists {
        /// The name.
        topic: String,
    },
    /// A field of the request holds what it may not.
    #[error("{field}: {detail}")]
    InvalidField {
        /// The field, by the name that it has in the API.
        field: String,
        /// What is wrong, and what would be right.
        detail: String,
    },
    /// A record is not what the record grammar allows.
    #[error("record {index} is malformed: {detail}")]
    MalformedRecord {
        /// Which record of the request, from 0.
        index: u32,
        /// What is wrong with it.
        detail: String,
        /// The number of the field that is unknown, if that is the reason.
        field: Option<u32>,
    },
    /// A record is larger than the topic takes.
    #[error("record {index} has {bytes} bytes, more than the {limit} allowed")]
    RecordTooLarge {
        /// Which record of the request, from 0.
        index: u32,
        /// Its size.
        bytes: u64,
        /// What is allowed.
        limit: u64,
    },
    /// The offset was removed by retention or a trim.
    #[error(
        "offset {requested} was trimmed: the log starts at {log_start_offset} and ends at \
         {high_watermark}"
    )]
    OffsetTrimmed {
        /// The offset asked for.
        requested: u64,
        /// The first one there is.
        log_start_offset: u64,
        /// The end of what may be read, exclusive.
        high_watermark: u64,
    },
    /// The offset lies behind the end.
    #[error(
        "offset {requested} is beyond the end: the log starts at {log_start_offset} and ends at \
         {high_watermark}"
    )]
    OffsetBeyondEnd {
        /// The offset asked for.
        requested: u64,
        /// The first one there is.
        log_start_offset: u64,
        /// The end of what may be read, exclusive.
        high_watermark: u64,
    },
    /// The session of every cursor has ended: its partitions belong to another member, or to none.
    #[error("the session of group {group:?} has ended; nothing was stored")]
    StaleSession {
        /// The group.
        group: String,
    },
    /// A second stream of the same member took this one's place.
    #[error("member {member:?} of group {group:?} was replaced by a newer stream of the same name")]
    MemberReplaced {
        /// The group.
        group: String,
        /// The member's name.
        member: String,
    },
    /// A member held uncommitted records and did not call to commit for too long.
    #[error(
        "member {member:?} of group {group:?} was put out: it held uncommitted records and did not commit \
         for {timeout_ms} ms"
    )]
    MemberTimedOut {
        /// The group.
        group: String,
        /// The member's name, perhaps empty.
        member: String,
        /// Its processing timeout.
        timeout_ms: u64,
    },
    /// The group has members, who alone may commit for it.
    #[error("group {group:?} has active members")]
    GroupActive {
        /// The group.
        group: String,
    },
    /// The topic was deleted and made anew since the caller learnt its id.
    #[error("topic {topic:?} was deleted and made anew: it is not the one that was read")]
    TopicRecreated {
        /// The topic.
        topic: String,
    },
    /// The partition holds as much as its topic allows, and the topic refuses records then. Reads
    /// go on.
    #[error(
        "partition {partition} of topic {topic:?} is full: it holds {limit} bytes or more, and the \
         topic refuses records then"
    )]
    TopicFull {
        /// The topic.
        topic: String,
        /// The first partition that is full.
        partition: u32,
        /// The topic's `retention_bytes`.
        limit: u64,
    },
    /// The producer was opened since by somebody else, or never got this epoch.
    #[error("producer epoch {epoch} is not the one of now, {current}")]
    StaleProducer {
        /// What the request carries.
        epoch: i32,
        /// What was given out last; 0 where the producer was never opened, or not for long.
        current: i32,
    },
    /// The sequence was used for other records.
    #[error(
        "sequence {sequence} of the producer was used for other records in partition {partition}"
    )]
    SequenceReused {
        /// The sequence.
        sequence: i64,
        /// The partition that knows it.
        partition: u32,
    },
    /// The sequence is so old that it is not known whether it was appended.
    #[error(
        "sequence {sequence} of the producer is older than all that partition {partition} remembers: \
         whether it was appended is not known"
    )]
    SequenceTooOld {
        /// The sequence.
        sequence: i64,
        /// The partition.
        partition: u32,
        /// The oldest that it remembers.
        lowest_known: i64,
    },
    /// The next offset is not the one that the request expects.
    #[error("the next offset of partition {partition} is {end_offset}, not {expected}")]
    OffsetMismatch {
        /// The partition.
        partition: u32,
        /// What the request expects.
        expected: u64,
        /// The next offset, all below which is durable.
        end_offset: u64,
    },
    /// What the partition knew of its producers is lost in part, so that a repeat could be appended
    /// twice.
    #[error(
        "what partition {partition} of topic {topic:?} knew of its producers is lost: {detail}"
    )]
    ProducersUnknown {
        /// The topic.
        topic: String,
        /// The partition.
        partition: u32,
        /// Why, and until when.
        detail: String,
    },
    /// A limit of the broker is reached.
    #[error("the limit {limit} of {value} is reached")]
    LimitExceeded {
        /// Which limit, as it is named in [`Limits`](crate::Limits).
        limit: &'static str,
        /// Its value.
        value: u64,
    },
    /// The process has as many files open as the system lets it have.
    #[error("the broker has as many files open as the system lets it have")]
    TooManyOpenFiles,
    /// There is no room for the records. Reads go on.
    #[error("the disk is full")]
    DiskFull,
    /// The broker is stopping.
    #[error("the broker is shutting down")]
    ShuttingDown,
    /// A write or a sync failed: the records may or may not be there after a restart.
    #[error("the outcome is unknown: {detail}")]
    OutcomeUnknown {
        /// What failed.
        detail: String,
    },
    /// The bytes on disk are not those that were written. What lies below the offset is served.
    #[error("partition {partition} of topic {topic:?} is damaged at offset {offset}: {detail}")]
    CorruptSegment {
        /// The topic.
        topic: String,
        /// The partition.
        partition: u32,
        /// The first offset that cannot be served.
        offset: u64,
        /// Where the damage lies.
        detail: String,
    },
    /// Not there yet.
    #[error("{what} is not implemented")]
    Unimplemented {
        /// What was asked for.
        what: &'static str,
    },
    /// The data directory could not be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// Something failed that is no fault of the caller.
    #[error("internal error: {detail}")]
    Internal {
        /// What failed.
        detail: String,
    },
}

/// Why a data directory could not be opened, and what to do about it. It was left as it was.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// Another process holds the lock.
    #[error(
        "{path} is in use by another process: stop it, or choose another data directory",
        path = path.display()
    )]
    DirectoryInUse {
        /// The data directory.
        path: PathBuf,
    },
    /// Written by a newer version of this program.
    #[error(
        "{path} was written by a newer version ({detail}): start that version, nothing was changed",
        path = path.display()
    )]
    NewerFormat {
        /// The file or directory.
        path: PathBuf,
        /// What is newer.
        detail: String,
    },
    /// The directory cannot be made or written to.
    #[error(
        "{path} cannot be written to ({detail}): give this user the right to write there, or \
         choose another data directory",
        path = path.display()
    )]
    NotWritable {
        /// The data directory.
        path: PathBuf,
        /// What the operating system said.
        detail: String,
    },
    /// There are partitions but no identity.
    #[error(
        "{path} is missing although the directory holds partitions: restore it from a backup of \
         this directory, or check that all of the volume is mounted",
        path = path.display()
    )]
    IdentityMissing {
        /// The identity file.
        path: PathBuf,
    },
    /// The identity file is damaged.
    #[error(
        "{path} is damaged ({detail}): restore it from a backup of this directory",
        path = path.display()
    )]
    IdentityDamaged {
        /// The identity file.
        path: PathBuf,
        /// What is wrong with it.
        detail: String,
    },
    /// The directory belongs to another cluster.
    #[error(
        "{path} belongs to cluster {found}, but {expected} is expected: mount the right volume, or \
         change the expected cluster id",
        path = path.display()
    )]
    WrongCluster {
        /// The data directory.
        path: PathBuf,
        /// What the configuration says.
        expected: Uuid,
        /// What the directory says.
        found: Uuid,
    },
    /// The metadata log, which everything depends on, cannot be read.
    #[error(
        "the metadata log in {path} is damaged ({detail}): if the disk cannot be read, mend that and \
         start again, else restore the directory from a backup, or see what `flowstone log repair DIR \
         --id 0` can keep; nothing was changed",
        path = path.display()
    )]
    MetadataDamaged {
        /// The damaged file, or the directory of the log.
        path: PathBuf,
        /// What is wrong.
        detail: String,
    },
    /// The file of durable floors is damaged.
    #[error(
        "{path} is damaged ({detail}): restore it from a backup of this directory",
        path = path.display()
    )]
    FloorDamaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        detail: String,
    },
    /// The process may not have as many files open as it needs.
    #[error(
        "{path} cannot be opened: the broker may not have more files open; raise the limit (`ulimit -n`, \
         or LimitNOFILE= of the service): each partition with records takes one, and each connection",
        path = path.display()
    )]
    TooManyOpenFiles {
        /// What could not be opened.
        path: PathBuf,
    },
    /// A setting is out of its range.
    #[error("setting {field} is invalid: {detail}")]
    InvalidConfig {
        /// The setting, as it is named in [`BrokerConfig`](crate::BrokerConfig) or
        /// [`Limits`](crate::Limits).
        field: &'static str,
        /// What it must be.
        detail: String,
    },
    /// An operation of the file system failed.
    #[error("cannot {operation} {path}: {detail}", path = path.display())]
    Io {
        /// What was tried.
        operation: &'static str,
        /// On what.
        path: PathBuf,
        /// What the operating system said.
        detail: String,
    },
}

impl From<RecordError> for Error {
    fn from(error: RecordError) -> Self {
        let RecordError { index, kind } = error;
        match kind {
            RecordErrorKind::TooLarge { bytes, limit } => Self::RecordTooLarge {
                index,
                bytes,
                limit: u64::from(limit),
            },
            RecordErrorKind::TooMany { .. } | RecordErrorKind::BatchTooLarge { .. } => {
                Self::InvalidField {
                    field: "records".to_owned(),
                    detail: format!("{kind}; send them in several requests"),
                }
            }
            RecordErrorKind::TooLate => Self::InvalidField {
                field: format!("records[{index}].timestamp_ms"),
                detail: "it is more than an hour ahead of the broker's clock".to_owned(),
            },
            RecordErrorKind::UnknownField { field } => Self::MalformedRecord {
                index,
                detail: kind.to_string(),
                field: Some(field),
            },
            RecordErrorKind::UnknownHeaderField { .. } | RecordErrorKind::Malformed { .. } => {
                Self::MalformedRecord {
                    index,
                    detail: kind.to_string(),
                    field: None,
                }
            }
        }
    }
}
