//! The metadata log: topics are what its commands, one after the other, have made of them.

mod command;
mod producers;
mod rules;
mod state;

pub(crate) use command::{
    CreateTopic, DeleteTopic, ForgetProducers, MetadataCommand, OpenProducer, UpdateTopic,
};
pub(crate) use producers::{OpenedProducers, next_epoch};
pub(crate) use rules::{
    Change, MAX_SEGMENT_BYTES, check_change, check_new, max_payload_bytes, min_segment_bytes,
};
pub(crate) use state::{FIRST_TOPIC_PARTITION, MetadataState};
