//! The generated stubs and nothing else: what a service in any language has.

use flowstone_proto::v1 as proto;
use flowstone_proto::v1::group_service_client::GroupServiceClient;
use flowstone_proto::v1::log_service_client::LogServiceClient;
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
    /// The high watermark, exclusive.
    pub end: i64,
    /// The records before it, from the start of the log on.
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
        let mut records = Vec::new();
        let mut end = None;
        let mut next =
            proto::start_position::Position::Anchor(proto::start_position::Anchor::Earliest.into());
        loop {
            let request = proto::FetchRequest {
                topic: topic.to_owned(),
                partition,
                start: Some(proto::StartPosition {
                    position: Some(next),
                }),
                ..proto::FetchRequest::default()
            };
            let response = self.log.clone().fetch(request).await?.into_inner();
            let end = *end.get_or_insert(response.high_watermark);
            let nothing = response.records.is_empty();
            records.extend(response.records);
            if response.next_offset >= end || nothing {
                records.retain(|record: &proto::Record| record.offset < end);
                return Ok(Partition { end, records });
            }
            next = proto::start_position::Position::Offset(response.next_offset);
        }
    }
}
