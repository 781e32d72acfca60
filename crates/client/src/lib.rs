//! The Rust client of Flowstone: administration, batching producers, subscriptions that reconnect.
//!
//! ```no_run
//! # async fn example() -> Result<(), flowstone_client::Error> {
//! use flowstone_client::{Client, Event, Record, Start, Stop};
//!
//! let client = Client::connect("http://127.0.0.1:7420")?;
//! let producer = client.producer("visits").build().await?;
//! let delivery = producer
//!     .send(Record { value: Some("two lemonades".into()), ..Record::default() })
//!     .await?;
//! println!("on disk at offset {}", delivery.await?.offset);
//! producer.close().await?;
//!
//! let mut visits = client.subscribe("visits").start(Start::Earliest).stop(Stop::CurrentEnd).open().await?;
//! while let Some(event) = visits.next().await {
//!     if let Event::Records(batch) = event? {
//!         for record in &batch.records {
//!             println!("{}: {:?}", record.offset, record.value);
//!         }
//!     }
//! }
//! # Ok(())
//! # }
//! ```
//!
//! Members of a group share a topic. Each commits what it has processed, and what it loses comes
//! again to whoever has the partition then:
//!
//! ```no_run
//! # async fn example(client: flowstone_client::Client) -> Result<(), flowstone_client::Error> {
//! use flowstone_client::Event;
//!
//! let mut visits = client.subscribe("visits").group("billing").open().await?;
//! while let Some(event) = visits.next().await {
//!     match event? {
//!         Event::Records(batch) => {
//!             println!("{} records of partition {}", batch.records.len(), batch.partition());
//!             visits.processed(batch.cursor);
//!             visits.commit().await?;
//!         }
//!         Event::Assignment(now) => println!("{} partitions are mine", now.partitions.len()),
//!         Event::Partition(problem) => println!("{}", problem.error),
//!     }
//! }
//! # Ok(())
//! # }
//! ```
//!
//! Topics, cursors and records are the messages of the API themselves, so numbers have the
//! types they have on the wire: partitions are `i32`, offsets are `i64`. Records that were received
//! are not even decoded: a [`RecordRef`] has the fields of a [`Record`] and borrows them.

mod backoff;
mod calls;
mod client;
mod error;
mod group;
mod position;
mod produce;
mod producer;
mod records;
mod stream;
mod subscription;

pub use client::{Client, ClientOptions};
pub use error::{Error, reason};
pub use group::{ResetOffsets, ResetTarget};
pub use position::{Start, Stop, timestamp_from_ms, timestamp_to_ms};
pub use producer::{Appended, Delivery, Producer, ProducerBuilder, ProducerTotals};
pub use records::{HeaderRef, Headers, HeadersIter, RecordRef, Records, RecordsIter};
pub use subscription::{Batch, Event, PartitionError, SubscribeBuilder, Subscription};

pub use flowstone_proto::v1::{
    Acks, Assignment, Broker, CommitOffsetsResponse, Cursor, FetchRequest, FetchResponse,
    GetClusterResponse, Group, GroupOffset, GroupState, Header, Limits, ListOffsetsResponse,
    Member, Overflow, PartitionInfo, PartitionOffsets, ProduceRequest, ProduceResponse,
    Producer as RequestProducer, Record, ResetOffsetsResponse, Topic, TopicPartition,
};
pub use prost_types::{Duration as ProtoDuration, Timestamp as ProtoTimestamp};
pub use tonic::Code;

/// What every call of this crate answers.
pub type Result<T> = std::result::Result<T, Error>;
