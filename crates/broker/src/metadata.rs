//! The metadata log: topics are what its commands, one after the other, have made of them.

mod command;
mod rules;
mod state;

pub(crate) use command::{CreateTopic, DeleteTopic, MetadataCommand, UpdateTopic};
pub(crate) use rules::{Change, check_change, check_new, max_payload_bytes, min_segment_bytes};
pub(crate) use state::{FIRST_TOPIC_PARTITION, MetadataState};
