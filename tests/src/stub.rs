//! The generated stubs and nothing else: what a service in any language has.

use flowstone_proto::v1 as proto;
use flowstone_proto::v1::group_service_client::GroupServiceClient;
use flowstone_proto::v1::log_service_client::LogServiceClient;
use flowstone_proto::v1::start_position::{self, Position};
use flowstone_proto::v1::topic_service_client::TopicServiceClient;
use tonic::Status;
use tonic::transport::{Channel, Endpoint};

/// Stubs of one connection. Clones share it.
#[derive(Clone, Debug)]
pub struct Stub {
    /// Append and read.
    pub log: LogServiceClient<Channel>,
    /// Topics.
    pub topics: TopicServiceClient<Channel>,
    /// Groups.
    pub groups: GroupServiceClient<Channel>,
    /// The connection, for calls without a stub.
    pub channel: Channel,
}

/// A partition as one reader saw it.
#[derive(Clone, Debug)]
pub struct Partition {
    /// The first offset that is there.
    pub start: i64,
    /// The high watermark, exclusive.
    pub end: i64,
    /// The records before it, from where the reader began.
    pub records: Vec<proto::Record>,
}

impl Stub {
    /// Connects to `http://host:port`.
    ///
    /// # Errors
    /// When nobody answers there.
    pub async fn connect(url: &str) -> Result<Self, tonic::transport::Error> {
        let channel = Endpoint::from_shared(url.to_owned())?.connect().await?;
        Ok(Self {
            log: LogServiceClient::new(channel.clone()),
            topics: TopicServiceClient::new(channel.clone()),
            groups: GroupServiceClient::new(channel.clone()),
            channel,
        })
    }

    /// Reads a whole partition, up to what is its end at the first call.
    ///
    /// # Errors
    /// As Fetch.
    pub async fn read_partition(&self, topic: &str, partition: i32) -> Result<Partition, Status> {
        let earliest = start_position::Anchor::Earliest;
        self.read_from(topic, partition, Position::Anchor(earliest.into()))
            .await
    }

    /// As [`Stub::read_partition`], from a position on.
    ///
    /// # Errors
    /// As Fetch.
    pub async fn read_from(
        &self,
        topic: &str,
        partition: i32,
        mut next: Position,
    ) -> Result<Partition, Status> {
        let mut records = Vec::new();
        let mut bounds = None;
        loop {
            let response = self.fetch(topic, partition, next, 0).await?;
            let (start, end) =
                *bounds.get_or_insert((response.log_start_offset, response.high_watermark));
            let nothing = response.records.is_empty();
            records.extend(response.records);
            if response.next_offset >= end || nothing {
                // A damaged partition ends where the damage begins, and says so behind its end.
                self.fetch(topic, partition, Position::Offset(end), 1)
                    .await?;
                records.retain(|record: &proto::Record| record.offset < end);
                return Ok(Partition {
                    start,
                    end,
                    records,
                });
            }
            next = Position::Offset(response.next_offset);
        }
    }

    /// Reads once, at most so many records; 0 for no limit.
    ///
    /// # Errors
    /// As Fetch.
    pub async fn fetch(
        &self,
        topic: &str,
        partition: i32,
        from: Position,
        max_records: i32,
    ) -> Result<proto::FetchResponse, Status> {
        let request = proto::FetchRequest {
            topic: topic.to_owned(),
            partition,
            start: Some(proto::StartPosition {
                position: Some(from),
            }),
            max_records,
            ..proto::FetchRequest::default()
        };
        Ok(self.log.clone().fetch(request).await?.into_inner())
    }
}
