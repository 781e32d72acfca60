//! What changes metadata, as it is stored. Numbers are never used again for something else.

use std::collections::BTreeMap;

use prost::{Message, Oneof};
use uuid::Uuid;

use crate::{Acks, Overflow};

/// A command of the metadata log.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct MetadataCommand {
    #[prost(oneof = "Kind", tags = "1, 2, 3, 4, 5")]
    pub(crate) kind: Option<Kind>,
}

#[derive(Clone, PartialEq, Oneof)]
pub(crate) enum Kind {
    #[prost(message, tag = "1")]
    Create(CreateTopic),
    #[prost(message, tag = "2")]
    Update(UpdateTopic),
    #[prost(message, tag = "3")]
    Delete(DeleteTopic),
    #[prost(message, tag = "4")]
    OpenProducer(OpenProducer),
    #[prost(message, tag = "5")]
    ForgetProducers(ForgetProducers),
}

/// Makes a topic. Its partitions get the next ids.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct CreateTopic {
    #[prost(string, tag = "1")]
    pub(crate) name: String,
    #[prost(bytes = "vec", tag = "2")]
    pub(crate) id: Vec<u8>,
    #[prost(int64, tag = "3")]
    pub(crate) created_ms: i64,
    #[prost(uint32, tag = "4")]
    pub(crate) partition_count: u32,
    #[prost(message, required, tag = "5")]
    pub(crate) settings: TopicSettings,
    /// The first of its partitions' ids: what it follows from may be lost, and then a topic must not get
    /// the files of another. 0 where an early version wrote this.
    #[prost(uint64, tag = "6")]
    pub(crate) first_partition: u64,
}

/// Changes a topic. Partitions that are added get the next ids.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct UpdateTopic {
    #[prost(bytes = "vec", tag = "1")]
    pub(crate) id: Vec<u8>,
    /// How many there are then.
    #[prost(uint32, tag = "2")]
    pub(crate) partition_count: u32,
    /// All of them, in place of those there were.
    #[prost(message, required, tag = "3")]
    pub(crate) settings: TopicSettings,
    /// The first id of the partitions that are added; 0 as above, and where none are.
    #[prost(uint64, tag = "4")]
    pub(crate) first_partition: u64,
}

/// Deletes a topic.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct DeleteTopic {
    #[prost(bytes = "vec", tag = "1")]
    pub(crate) id: Vec<u8>,
}

/// Raises the epoch of a producer in a topic.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct OpenProducer {
    #[prost(bytes = "vec", tag = "1")]
    pub(crate) topic: Vec<u8>,
    /// The hash of its id, 16 bytes.
    #[prost(bytes = "vec", tag = "2")]
    pub(crate) producer: Vec<u8>,
    /// Greater than any that it had.
    #[prost(int32, tag = "3")]
    pub(crate) epoch: i32,
    #[prost(int64, tag = "4")]
    pub(crate) opened_ms: i64,
}

/// Forgets producers of a topic that were idle for long. Their epochs are not given out again.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct ForgetProducers {
    #[prost(bytes = "vec", tag = "1")]
    pub(crate) topic: Vec<u8>,
    /// The hashes of their ids, 16 bytes each.
    #[prost(bytes = "vec", repeated, tag = "2")]
    pub(crate) producers: Vec<Vec<u8>>,
}

/// What can be changed of a topic.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct TopicSettings {
    #[prost(int64, optional, tag = "1")]
    pub(crate) retention_ms: Option<i64>,
    #[prost(uint64, optional, tag = "2")]
    pub(crate) retention_bytes: Option<u64>,
    #[prost(uint64, optional, tag = "3")]
    pub(crate) segment_bytes: Option<u64>,
    #[prost(uint32, optional, tag = "4")]
    pub(crate) max_record_bytes: Option<u32>,
    /// 0: none, 1: durable, 2: written.
    #[prost(uint32, tag = "5")]
    pub(super) default_acks: u32,
    #[prost(btree_map = "string, string", tag = "6")]
    pub(crate) labels: BTreeMap<String, String>,
    /// 0: trim, 1: reject.
    #[prost(uint32, tag = "7")]
    pub(super) overflow: u32,
}

impl TopicSettings {
    /// Fails where a number has no meaning.
    pub(crate) fn check(&self) -> Result<(), String> {
        self.default_acks()?;
        self.overflow().map(drop)
    }

    pub(crate) fn default_acks(&self) -> Result<Option<Acks>, String> {
        match self.default_acks {
            0 => Ok(None),
            1 => Ok(Some(Acks::Durable)),
            2 => Ok(Some(Acks::Written)),
            other => Err(format!("acks of kind {other}")),
        }
    }

    pub(crate) fn set_default_acks(&mut self, acks: Option<Acks>) {
        self.default_acks = match acks {
            None => 0,
            Some(Acks::Durable) => 1,
            Some(Acks::Written) => 2,
        };
    }

    pub(crate) fn overflow(&self) -> Result<Overflow, String> {
        match self.overflow {
            0 => Ok(Overflow::Trim),
            1 => Ok(Overflow::Reject),
            other => Err(format!("overflow of kind {other}")),
        }
    }

    pub(crate) fn set_overflow(&mut self, overflow: Overflow) {
        self.overflow = match overflow {
            Overflow::Trim => 0,
            Overflow::Reject => 1,
        };
    }
}

impl From<CreateTopic> for MetadataCommand {
    fn from(command: CreateTopic) -> Self {
        Self {
            kind: Some(Kind::Create(command)),
        }
    }
}

impl From<UpdateTopic> for MetadataCommand {
    fn from(command: UpdateTopic) -> Self {
        Self {
            kind: Some(Kind::Update(command)),
        }
    }
}

impl From<DeleteTopic> for MetadataCommand {
    fn from(command: DeleteTopic) -> Self {
        Self {
            kind: Some(Kind::Delete(command)),
        }
    }
}

impl From<OpenProducer> for MetadataCommand {
    fn from(command: OpenProducer) -> Self {
        Self {
            kind: Some(Kind::OpenProducer(command)),
        }
    }
}

impl From<ForgetProducers> for MetadataCommand {
    fn from(command: ForgetProducers) -> Self {
        Self {
            kind: Some(Kind::ForgetProducers(command)),
        }
    }
}

/// The id in a command.
pub(crate) fn topic_id(bytes: &[u8]) -> Result<Uuid, String> {
    Uuid::from_slice(bytes).map_err(|_| format!("a topic id of {} bytes", bytes.len()))
}
