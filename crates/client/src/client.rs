//! The connection, and the calls that ask once and get one answer.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use flowstone_proto::v1 as proto;
use flowstone_proto::v1::cluster_service_client::ClusterServiceClient;
use flowstone_proto::v1::group_service_client::GroupServiceClient;
use flowstone_proto::v1::log_service_client::LogServiceClient;
use flowstone_proto::v1::topic_service_client::TopicServiceClient;
use prost_types::FieldMask;
use tokio::time::Instant;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Response, Status};

use crate::backoff::Backoff;
use crate::{Error, ProducerBuilder, Result, Start, SubscribeBuilder};

/// Windows and frames far above HTTP/2's defaults: with those a stream is limited to a fraction
/// of what loopback or a local network carries.
const STREAM_WINDOW_BYTES: u32 = 8 << 20;
const CONNECTION_WINDOW_BYTES: u32 = 16 << 20;
const FRAME_BYTES_MAX: u32 = 1 << 20;
/// Above any response that a broker is configured to send; a bound all the same.
const RESPONSE_BYTES_MAX: usize = 80 << 20;
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);
const PAGE_SIZE: i32 = 1000;

/// How a [`Client`] behaves.
#[derive(Clone, Debug)]
pub struct ClientOptions {
    /// How long the TCP connection may take.
    pub connect_timeout: Duration,
    /// How long one attempt of a call may take. Streams are not calls in this sense.
    pub call_timeout: Duration,
    /// For how long a call that failed with a retryable error is repeated. Zero: never.
    pub retry_for: Duration,
}

impl Default for ClientOptions {
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(5),
            call_timeout: Duration::from_secs(30),
            retry_for: Duration::ZERO,
        }
    }
}

/// A connection to a broker. Clones are cheap and share it; it is made when it is first needed
/// and made anew when it was lost.
#[derive(Clone, Debug)]
pub struct Client {
    channel: Channel,
    endpoint: Arc<str>,
    options: Arc<ClientOptions>,
}

impl Client {
    /// A client of the broker at `endpoint`: `http://host:port`, or `host:port`.
    ///
    /// Does not connect yet, but needs a Tokio runtime around it.
    ///
    /// # Errors
    /// When `endpoint` is not such an address.
    pub fn connect(endpoint: impl AsRef<str>) -> Result<Self> {
        Self::with_options(endpoint, ClientOptions::default())
    }

    /// As [`Client::connect`], with other timeouts.
    ///
    /// # Errors
    /// When `endpoint` is not an address.
    pub fn with_options(endpoint: impl AsRef<str>, options: ClientOptions) -> Result<Self> {
        let address = normalize(endpoint.as_ref())?;
        let invalid = |detail: String| {
            Error::local(
                Code::InvalidArgument,
                None,
                format!("{address:?} is not the address of a broker: {detail}"),
            )
        };
        let endpoint =
            Endpoint::from_shared(address.clone()).map_err(|error| invalid(error.to_string()))?;
        if endpoint.uri().host().is_none_or(str::is_empty) {
            return Err(invalid("it names no host".to_owned()));
        }
        let channel = endpoint
            .tcp_nodelay(true)
            .connect_timeout(options.connect_timeout)
            .initial_stream_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
            .max_frame_size(FRAME_BYTES_MAX)
            .http2_keep_alive_interval(KEEPALIVE_INTERVAL)
            .keep_alive_timeout(KEEPALIVE_TIMEOUT)
            .keep_alive_while_idle(true)
            .connect_lazy();
        Ok(Self {
            channel,
            endpoint: address.into(),
            options: Arc::new(options),
        })
    }

    /// The address this client was made for.
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// Begins the description of a producer to one topic.
    pub fn producer(&self, topic: impl Into<String>) -> ProducerBuilder {
        ProducerBuilder::new(self.clone(), topic.into())
    }

    /// Begins the description of a subscription to one topic.
    pub fn subscribe(&self, topic: impl Into<String>) -> SubscribeBuilder {
        SubscribeBuilder::new(self.clone(), topic.into())
    }

    /// Who serves, which version, and every limit that a client can run into.
    ///
    /// # Errors
    /// As every call: what the broker or the connection said.
    pub async fn cluster(&self) -> Result<proto::GetClusterResponse> {
        self.call(|client| async move {
            ClusterServiceClient::new(client.channel)
                .get_cluster(proto::GetClusterRequest {})
                .await
        })
        .await
    }

    /// Creates a topic; with `validate_only` only says whether it could.
    ///
    /// # Errors
    /// `TOPIC_EXISTS`, `INVALID_FIELD`, `LIMIT_EXCEEDED`, or what the connection said.
    pub async fn create_topic(
        &self,
        topic: proto::Topic,
        validate_only: bool,
    ) -> Result<proto::Topic> {
        let request = proto::CreateTopicRequest {
            topic: Some(topic),
            validate_only,
        };
        let response = self
            .call(|client| {
                let request = request.clone();
                async move { client.topics().create_topic(request).await }
            })
            .await?;
        response
            .topic
            .ok_or_else(|| incomplete("CreateTopic", "topic"))
    }

    /// A topic's settings and the state of its partitions.
    ///
    /// # Errors
    /// `TOPIC_NOT_FOUND`, or what the connection said.
    pub async fn get_topic(&self, name: &str) -> Result<(proto::Topic, Vec<proto::PartitionInfo>)> {
        let response = self
            .call(|client| {
                let topic = name.to_owned();
                async move {
                    let request = proto::GetTopicRequest { topic };
                    client.topics().get_topic(request).await
                }
            })
            .await?;
        let topic = response
            .topic
            .ok_or_else(|| incomplete("GetTopic", "topic"))?;
        Ok((topic, response.partitions))
    }

    /// All topics whose names begin with `prefix`, by name.
    ///
    /// # Errors
    /// As every call: what the broker or the connection said.
    pub async fn list_topics(&self, prefix: &str) -> Result<Vec<proto::Topic>> {
        let mut topics = Vec::new();
        let mut page_token = String::new();
        loop {
            let request = proto::ListTopicsRequest {
                page_size: PAGE_SIZE,
                page_token,
                prefix: prefix.to_owned(),
            };
            let page = self
                .call(|client| {
                    let request = request.clone();
                    async move { client.topics().list_topics(request).await }
                })
                .await?;
            topics.extend(page.topics);
            page_token = page.next_page_token;
            if page_token.is_empty() {
                return Ok(topics);
            }
        }
    }

    /// Changes the fields of a topic that `paths` names, such as `retention` or
    /// `partition_count`; a named field that is absent goes back to its default.
    ///
    /// # Errors
    /// `TOPIC_NOT_FOUND`, `INVALID_FIELD`, or what the connection said.
    pub async fn update_topic(&self, topic: proto::Topic, paths: &[&str]) -> Result<proto::Topic> {
        let request = proto::UpdateTopicRequest {
            topic: Some(topic),
            update_mask: Some(FieldMask {
                paths: paths.iter().map(ToString::to_string).collect(),
            }),
        };
        let response = self
            .call(|client| {
                let request = request.clone();
                async move { client.topics().update_topic(request).await }
            })
            .await?;
        response
            .topic
            .ok_or_else(|| incomplete("UpdateTopic", "topic"))
    }

    /// Deletes a topic with all its records and the offsets committed for it.
    ///
    /// # Errors
    /// `TOPIC_NOT_FOUND`, or what the connection said.
    pub async fn delete_topic(&self, name: &str) -> Result<()> {
        self.call(|client| {
            let topic = name.to_owned();
            async move {
                let request = proto::DeleteTopicRequest { topic };
                client.topics().delete_topic(request).await
            }
        })
        .await?;
        Ok(())
    }

    /// Drops the records of one partition before an offset and answers with the new log start
    /// offset.
    ///
    /// # Errors
    /// `TOPIC_NOT_FOUND`, `PARTITION_NOT_FOUND`, `OFFSET_BEYOND_END`, or what the connection said.
    pub async fn trim_partition(&self, topic: &str, partition: i32, before: i64) -> Result<i64> {
        let response = self
            .call(|client| {
                let request = proto::TrimPartitionRequest {
                    topic: topic.to_owned(),
                    partition,
                    before_offset: before,
                };
                async move { client.topics().trim_partition(request).await }
            })
            .await?;
        Ok(response.log_start_offset)
    }

    /// All groups, without their offsets.
    ///
    /// # Errors
    /// As every call: what the broker or the connection said.
    pub async fn list_groups(&self) -> Result<Vec<proto::Group>> {
        let mut groups = Vec::new();
        let mut page_token = String::new();
        loop {
            let request = proto::ListGroupsRequest {
                page_size: PAGE_SIZE,
                page_token,
            };
            let page = self
                .call(|client| {
                    let request = request.clone();
                    async move { client.groups().list_groups(request).await }
                })
                .await?;
            groups.extend(page.groups);
            page_token = page.next_page_token;
            if page_token.is_empty() {
                return Ok(groups);
            }
        }
    }

    /// Members, committed offsets and lag of a group.
    ///
    /// # Errors
    /// `GROUP_NOT_FOUND`, or what the connection said.
    pub async fn get_group(&self, name: &str) -> Result<proto::Group> {
        let response = self
            .call(|client| {
                let group = name.to_owned();
                async move {
                    let request = proto::GetGroupRequest { group };
                    client.groups().get_group(request).await
                }
            })
            .await?;
        response
            .group
            .ok_or_else(|| incomplete("GetGroup", "group"))
    }

    /// The offset of a position in each of `partitions` (none named: all). `group` is needed for
    /// [`Start::Committed`] only.
    ///
    /// # Errors
    /// `TOPIC_NOT_FOUND`, `PARTITION_NOT_FOUND`, or what the connection said.
    pub async fn list_offsets(
        &self,
        topic: &str,
        at: Start,
        partitions: &[i32],
        group: Option<&str>,
    ) -> Result<proto::ListOffsetsResponse> {
        let request = proto::ListOffsetsRequest {
            topic: topic.to_owned(),
            at: Some(at.into()),
            partitions: partitions.to_vec(),
            group: group.unwrap_or_default().to_owned(),
        };
        self.call(|client| {
            let request = request.clone();
            async move { client.log().list_offsets(request).await }
        })
        .await
    }

    /// Reads one partition once.
    ///
    /// # Errors
    /// `OFFSET_TRIMMED`, `OFFSET_BEYOND_END`, `TOPIC_RECREATED`, or what the connection said.
    pub async fn fetch(&self, request: proto::FetchRequest) -> Result<proto::FetchResponse> {
        let wait = request
            .max_wait
            .and_then(|wait| Duration::try_from(wait).ok())
            .unwrap_or_default();
        self.call_within(self.options.call_timeout.saturating_add(wait), |client| {
            let request = request.clone();
            async move { client.log().fetch(request).await }
        })
        .await
    }

    /// Stores how far a group has read, durably. The response names the cursors that were not
    /// stored since another member holds their partitions now.
    ///
    /// # Errors
    /// `STALE_SESSION` when none was stored, `GROUP_ACTIVE` for a cursor without a session, or
    /// what the connection said.
    pub async fn commit(
        &self,
        cursors: Vec<proto::Cursor>,
    ) -> Result<proto::CommitOffsetsResponse> {
        let request = proto::CommitOffsetsRequest {
            cursors,
            released: Vec::new(),
        };
        self.call(|client| {
            let request = request.clone();
            async move { client.log().commit_offsets(request).await }
        })
        .await
    }

    pub(crate) fn channel(&self) -> Channel {
        self.channel.clone()
    }

    pub(crate) fn log(&self) -> LogServiceClient<Channel> {
        LogServiceClient::new(self.channel.clone()).max_decoding_message_size(RESPONSE_BYTES_MAX)
    }

    fn topics(&self) -> TopicServiceClient<Channel> {
        TopicServiceClient::new(self.channel.clone()).max_decoding_message_size(RESPONSE_BYTES_MAX)
    }

    fn groups(&self) -> GroupServiceClient<Channel> {
        GroupServiceClient::new(self.channel.clone()).max_decoding_message_size(RESPONSE_BYTES_MAX)
    }

    /// A status as an error that says, where nobody answered, who did not.
    pub(crate) fn error(&self, status: &Status) -> Error {
        let error = Error::from_status(status);
        if error.code() != Code::Unavailable || error.reason().is_some() {
            return error;
        }
        let detail = error.message();
        Error::local(
            Code::Unavailable,
            None,
            format!("no broker answers at {}: {detail}", self.endpoint),
        )
    }

    async fn call<T, F, Fut>(&self, attempt: F) -> Result<T>
    where
        F: FnMut(Client) -> Fut,
        Fut: Future<Output = std::result::Result<Response<T>, Status>>,
    {
        self.call_within(self.options.call_timeout, attempt).await
    }

    /// Makes the call, and again after retryable errors while `retry_for` lasts.
    async fn call_within<T, F, Fut>(&self, timeout: Duration, mut attempt: F) -> Result<T>
    where
        F: FnMut(Client) -> Fut,
        Fut: Future<Output = std::result::Result<Response<T>, Status>>,
    {
        let give_up_at = Instant::now() + self.options.retry_for;
        let mut backoff = Backoff::default();
        loop {
            let error = match tokio::time::timeout(timeout, attempt(self.clone())).await {
                Ok(Ok(response)) => return Ok(response.into_inner()),
                Ok(Err(status)) => self.error(&status),
                Err(_) => Error::local(
                    Code::DeadlineExceeded,
                    None,
                    format!("{} did not answer within {timeout:?}", self.endpoint),
                ),
            };
            if !error.is_retryable() {
                return Err(error);
            }
            let delay = backoff.after(&error);
            if Instant::now() + delay > give_up_at {
                return Err(error);
            }
            tracing::debug!(%error, ?delay, "the call is repeated");
            tokio::time::sleep(delay).await;
        }
    }
}

fn normalize(endpoint: &str) -> Result<String> {
    let (scheme, address) = endpoint.split_once("://").unwrap_or(("http", endpoint));
    if scheme != "http" {
        return Err(Error::local(
            Code::InvalidArgument,
            None,
            format!("{endpoint:?}: {scheme} is not supported, only http"),
        ));
    }
    Ok(format!("http://{}", address.trim_end_matches('/')))
}

fn incomplete(call: &str, field: &str) -> Error {
    Error::local(
        Code::Internal,
        None,
        format!("the broker answered {call} without `{field}`"),
    )
}

/// The cursors of a response of `ListOffsets`, as `resume_from` and `stop_before` take them.
pub(crate) fn cursors(topic: &str, offsets: &proto::ListOffsetsResponse) -> Vec<proto::Cursor> {
    offsets
        .partitions
        .iter()
        .map(|at| proto::Cursor {
            topic: topic.to_owned(),
            topic_id: offsets.topic_id.clone(),
            partition: at.partition,
            offset: at.offset,
            ..proto::Cursor::default()
        })
        .collect()
}

/// Where each partition stands, by number.
pub(crate) type Offsets = BTreeMap<i32, i64>;

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_address_may_leave_out_its_scheme() {
        let client = Client::connect("127.0.0.1:7420").unwrap();
        assert_eq!(client.endpoint(), "http://127.0.0.1:7420");
        let client = Client::connect("http://broker:7420/").unwrap();
        assert_eq!(client.endpoint(), "http://broker:7420");
    }

    #[tokio::test]
    async fn what_is_no_address_is_refused_by_name() {
        for bad in ["", "http://", "https://broker:7420", "ftp://broker", "a b"] {
            let error = Client::connect(bad).unwrap_err();
            assert_eq!(error.code(), Code::InvalidArgument, "{bad:?}: {error}");
            assert!(error.message().contains(bad), "{bad:?}: {error}");
        }
    }

    #[tokio::test]
    async fn nobody_at_the_address_is_unavailable_and_says_where() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        drop(listener);
        let error = Client::connect(&address)
            .unwrap()
            .cluster()
            .await
            .unwrap_err();
        assert_eq!(error.code(), Code::Unavailable);
        assert!(error.message().contains(&address), "{error}");
        assert!(error.message().contains("refused"), "{error}");
        assert!(error.is_retryable());
    }
}
