//! The broker as a library: topics of partitions, appended to in groups that share a sync, read by
//! offset or time, with consumer groups whose offsets are durable.
//!
//! It knows no network protocol and no async runtime: its futures wait on channels alone and may be
//! polled by any executor. What blocks (appending, syncing, reading) happens on threads of its own.
//!
//! ```no_run
//! # async fn example() -> Result<(), flowstone_broker::Error> {
//! use flowstone_broker::{Broker, BrokerConfig, Env, TopicSpec};
//!
//! let broker = Broker::open(BrokerConfig::new("flowstone-data"), Env::real())?;
//! let topic = broker.create_topic(TopicSpec::new("visits", 8), false).await?;
//! assert_eq!(topic.spec.partition_count, 8);
//! broker.shutdown().await
//! # }
//! ```

mod append;
mod append_clock;
mod broker;
mod config;
mod core;
mod counters;
mod cursor;
mod error;
mod fetch;
mod floor_keeper;
mod group;
mod groups;
mod housekeeping;
mod internal;
mod listeners;
mod metadata;
mod metrics;
mod names;
mod offsets;
mod open;
mod partition;
mod pool;
mod produce;
mod producers;
mod reserve;
mod resolve;
mod retention;
mod route;
mod running;
mod scrub;
mod subscribe;
mod topic;
mod topics;

pub use broker::Broker;
pub use config::{BrokerConfig, GroupConfig, Limits, OnFatal, OpenLimits};
pub use counters::Distribution;
pub use cursor::{Cursor, PartitionOffsets, Start, Stop};
pub use error::{Error, OpenError};
pub use fetch::{FetchRequest, Fetched};
pub use flowstone_disk::Env;
pub use flowstone_format::leading_records;
pub use group::{
    GroupInfo, GroupOffset, GroupState, MemberInfo, ResetOffsets, ResetTarget, ResetTo,
};
pub use metrics::{Metrics, TopicMetrics};
pub use offsets::Committed;
pub use open::offline::{Offline, OfflinePartition};
pub use produce::{Acks, AppendedRun, PendingProduce, Permit, Pipeline, ProduceRequest, Produced};
pub use producers::{OpenedProducer, PRODUCER_WINDOW, Producer};
pub use subscribe::{Delivery, SubscribeRequest, Subscription};
pub use topic::{Overflow, PartitionInfo, TopicChange, TopicInfo, TopicSpec};
pub use uuid::Uuid;
