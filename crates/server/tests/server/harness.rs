//! A server of its own for each test, and the clients that `flowstone-proto` generates.

use std::path::Path;
use std::sync::Arc;

use bytes::{Buf, BufMut, Bytes};
use flowstone_disk::Env;
use flowstone_proto::v1;
use flowstone_proto::v1::cluster_service_client::ClusterServiceClient;
use flowstone_proto::v1::group_service_client::GroupServiceClient;
use flowstone_proto::v1::log_service_client::LogServiceClient;
use flowstone_proto::v1::topic_service_client::TopicServiceClient;
use flowstone_server::{ServeError, Server, ServerConfig};
use tempfile::TempDir;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status};
use tonic_types::StatusExt;

/// A running server, and a connection to it.
pub(crate) struct TestServer {
    pub(crate) dir: Arc<TempDir>,
    pub(crate) channel: Channel,
    pub(crate) local_addr: std::net::SocketAddr,
    pub(crate) metrics_addr: Option<std::net::SocketAddr>,
    pub(crate) cluster_id: String,
    stop: oneshot::Sender<()>,
    served: JoinHandle<Result<(), ServeError>>,
}

/// A configuration for a port of its own and a directory within `dir`.
pub(crate) fn config_in(dir: &Path) -> ServerConfig {
    ServerConfig {
        listen: "127.0.0.1:0".parse().expect("an address"),
        data_dir: dir.join("data"),
        append_threads: 2,
        read_threads: 2,
        default_segment_bytes: 16 << 20,
        ..ServerConfig::default()
    }
}

impl TestServer {
    pub(crate) async fn start() -> Self {
        Self::start_with(|_| {}).await
    }

    pub(crate) async fn start_with(change: impl FnOnce(&mut ServerConfig)) -> Self {
        let dir = Arc::new(tempfile::tempdir().expect("a directory"));
        Self::start_in(dir, Env::real(), change).await
    }

    pub(crate) async fn start_in(
        dir: Arc<TempDir>,
        env: Env,
        change: impl FnOnce(&mut ServerConfig),
    ) -> Self {
        let mut config = config_in(dir.path());
        change(&mut config);
        let server = Server::start(config, env).await.expect("the server starts");
        let local_addr = server.local_addr();
        let cluster_id = server.cluster_id().to_string();
        let metrics_addr = server.metrics_addr();
        let (stop, stopped) = oneshot::channel();
        let served = tokio::spawn(server.run_until(async {
            let _ = stopped.await;
        }));
        let channel = Endpoint::from_shared(format!("http://{local_addr}"))
            .expect("an address")
            .connect()
            .await
            .expect("it accepts connections");
        Self {
            dir,
            channel,
            local_addr,
            metrics_addr,
            cluster_id,
            stop,
            served,
        }
    }

    /// Asks the server to stop, without waiting for it.
    pub(crate) fn begin_stop(self) -> (Arc<TempDir>, JoinHandle<Result<(), ServeError>>) {
        self.stop.send(()).expect("it runs until now");
        (self.dir, self.served)
    }

    /// Stops the server and leaves its directory.
    pub(crate) async fn stop(self) -> Arc<TempDir> {
        let (dir, served) = self.begin_stop();
        served
            .await
            .expect("it does not panic")
            .expect("it stops cleanly");
        dir
    }

    pub(crate) fn log(&self) -> LogServiceClient<Channel> {
        LogServiceClient::new(self.channel.clone())
    }

    pub(crate) fn topics(&self) -> TopicServiceClient<Channel> {
        TopicServiceClient::new(self.channel.clone())
    }

    pub(crate) fn groups(&self) -> GroupServiceClient<Channel> {
        GroupServiceClient::new(self.channel.clone())
    }

    pub(crate) fn cluster(&self) -> ClusterServiceClient<Channel> {
        ClusterServiceClient::new(self.channel.clone())
    }

    pub(crate) async fn create_topic(&self, name: &str, partition_count: i32) -> v1::Topic {
        let topic = v1::Topic {
            name: name.to_owned(),
            partition_count,
            ..v1::Topic::default()
        };
        self.topics()
            .create_topic(v1::CreateTopicRequest {
                topic: Some(topic),
                validate_only: false,
            })
            .await
            .expect("created")
            .into_inner()
            .topic
            .expect("told")
    }

    /// Appends one record for each value, all in one request to one partition.
    pub(crate) async fn append(&self, topic: &str, partition: i32, values: &[&str]) -> i64 {
        let request = v1::ProduceRequest {
            partition: Some(partition),
            acks: v1::Acks::Durable.into(),
            ..to(topic, values)
        };
        let runs = self
            .log()
            .produce(request)
            .await
            .expect("appended")
            .into_inner()
            .runs;
        assert_eq!(runs.len(), 1);
        runs[0].base_offset
    }

    /// All values of a partition from its start.
    pub(crate) async fn values(&self, topic: &str, partition: i32) -> Vec<String> {
        let mut log = self.log();
        let mut values = Vec::new();
        let mut from =
            v1::start_position::Position::Anchor(v1::start_position::Anchor::Earliest.into());
        loop {
            let fetched = log
                .fetch(v1::FetchRequest {
                    topic: topic.to_owned(),
                    partition,
                    start: Some(v1::StartPosition {
                        position: Some(from),
                    }),
                    ..v1::FetchRequest::default()
                })
                .await
                .expect("fetched")
                .into_inner();
            if fetched.records.is_empty() {
                assert_eq!(fetched.next_offset, fetched.high_watermark);
                return values;
            }
            values.extend(fetched.records.iter().map(text));
            from = v1::start_position::Position::Offset(fetched.next_offset);
        }
    }
}

pub(crate) fn record(value: &str) -> v1::Record {
    v1::Record {
        value: Some(Bytes::copy_from_slice(value.as_bytes())),
        ..v1::Record::default()
    }
}

pub(crate) fn text(record: &v1::Record) -> String {
    let value = record.value.clone().expect("a value");
    String::from_utf8(value.into()).expect("text")
}

/// A request without keys.
pub(crate) fn to(topic: &str, values: &[&str]) -> v1::ProduceRequest {
    v1::ProduceRequest {
        records: values.iter().map(|value| record(value)).collect(),
        topic: topic.to_owned(),
        ..v1::ProduceRequest::default()
    }
}

/// A trailer of ours.
pub(crate) fn trailer(status: &Status, key: &str) -> Option<String> {
    let value = status.metadata().get(format!("flowstone-{key}"))?;
    Some(value.to_str().expect("ASCII").to_owned())
}

/// Holds a refusal against what the table says, by each of the ways in which it is told.
#[track_caller]
pub(crate) fn assert_refused(status: &Status, code: Code, reason: &str, metadata: &[(&str, &str)]) {
    assert_eq!(status.code(), code, "{status:?}");
    assert_eq!(
        trailer(status, "reason").as_deref(),
        Some(reason),
        "{status:?}"
    );
    let details = status.get_error_details();
    let info = details.error_info().expect("ErrorInfo");
    assert_eq!(
        (info.domain.as_str(), info.reason.as_str()),
        ("flowstone", reason)
    );
    for (key, value) in metadata {
        assert_eq!(
            trailer(status, key).as_deref(),
            Some(*value),
            "{key} of {status:?}"
        );
        assert_eq!(
            info.metadata.get(*key).map(String::as_str),
            Some(*value),
            "{key}"
        );
    }
    let repeatable = matches!(
        code,
        Code::Unavailable | Code::DeadlineExceeded | Code::ResourceExhausted
    );
    assert_eq!(details.retry_info().is_some(), repeatable, "{status:?}");
    assert_eq!(
        trailer(status, "retry-ms").is_some(),
        repeatable,
        "{status:?}"
    );
    assert!(!status.message().is_empty());
}

/// Sends and receives messages as bytes.
#[derive(Clone, Copy, Default)]
pub(crate) struct RawCodec;

impl Codec for RawCodec {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for RawCodec {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, out: &mut EncodeBuf<'_>) -> Result<(), Status> {
        out.put(item);
        Ok(())
    }
}

impl Decoder for RawCodec {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, frame: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(frame.copy_to_bytes(frame.remaining())))
    }
}

impl TestServer {
    /// Calls a method with a message that no generated client would send.
    pub(crate) async fn call_raw(
        &self,
        path: &'static str,
        message: impl Into<Bytes>,
    ) -> Result<Bytes, Status> {
        let mut client = tonic::client::Grpc::new(self.channel.clone());
        client.ready().await.expect("connected");
        let path = http::uri::PathAndQuery::from_static(path);
        let request = tonic::Request::new(message.into());
        Ok(client.unary(request, path, RawCodec).await?.into_inner())
    }
}
