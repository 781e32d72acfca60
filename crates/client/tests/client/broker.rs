//! A broker that follows a script.

use std::collections::{BTreeMap, VecDeque};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use flowstone_client::Client;
use flowstone_proto::v1 as proto;
use flowstone_proto::v1::cluster_service_server::{ClusterService, ClusterServiceServer};
use flowstone_proto::v1::log_service_server::{LogService, LogServiceServer};
use flowstone_proto::v1::topic_service_server::{TopicService, TopicServiceServer};
use futures_util::{Stream, StreamExt, stream};
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, mpsc};
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tonic::{Code, Request, Response, Status, Streaming};

type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// What happens to one request of a produce stream.
#[derive(Clone, Debug)]
pub(crate) enum Produce {
    /// It is appended and acknowledged.
    Ack,
    /// It is appended, and the connection is lost before the answer.
    AppendAndBreak,
    /// It is not appended, and the connection is lost before the answer.
    Break,
    /// It is refused with this code and reason.
    Refuse(Code, &'static str),
    /// The stream ends with this status, and no message says why.
    EndWith(Code, &'static str),
}

/// What one call of Subscribe answers, and how it ends; `None`: it stays open.
pub(crate) type Subscribed = (
    Vec<proto::SubscribeResponse>,
    Option<Result<(), (Code, &'static str)>>,
);

#[derive(Debug, Default)]
pub(crate) struct State {
    /// What becomes of the next requests; those beyond it are acknowledged.
    pub(crate) produce: VecDeque<Produce>,
    /// When a refused request may come again, if that is told.
    pub(crate) retry_after: Option<Duration>,
    /// The records that were appended, in order.
    pub(crate) appended: Vec<proto::Record>,
    /// Producers and expected offsets of the produce requests, those that were looked at.
    pub(crate) producers: Vec<(Option<proto::Producer>, Option<i64>)>,
    /// Where the requests of producers are, by id and sequence.
    places: BTreeMap<(String, i64), i64>,
    /// The epoch of the one producer that is opened, and up to where it came.
    pub(crate) opened: (i32, i64),
    /// How many records each produce request had.
    pub(crate) request_sizes: Vec<usize>,
    /// What the next calls of Subscribe do.
    pub(crate) subscribe: VecDeque<Subscribed>,
    /// What was asked for.
    pub(crate) subscribed: Vec<proto::SubscribeRequest>,
    /// The cursors of each commit.
    pub(crate) committed: Vec<Vec<proto::Cursor>>,
    /// How commits fail, if they do.
    pub(crate) commit_fails: Option<(Code, &'static str)>,
    /// The end that ListOffsets tells for each of the two partitions; rises with each call.
    pub(crate) ends: [i64; 2],
    pub(crate) limits: proto::Limits,
    pub(crate) topic_max_record_bytes: Option<i32>,
    /// How many partitions the topic has beside the two that are described.
    pub(crate) more_partitions: i32,
    pub(crate) offline: Vec<i32>,
}

#[derive(Clone, Debug)]
pub(crate) struct Broker {
    state: Arc<Mutex<State>>,
    /// A permit for each produce request that may be looked at.
    gate: Arc<Semaphore>,
    /// A permit for each produce request that has come.
    arrivals: Arc<Semaphore>,
    address: String,
}

impl Broker {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let broker = Self {
            state: Arc::default(),
            gate: Arc::new(Semaphore::new(1 << 20)),
            arrivals: Arc::new(Semaphore::new(0)),
            address: listener.local_addr().unwrap().to_string(),
        };
        let server = tonic::transport::Server::builder()
            .add_service(ClusterServiceServer::new(broker.clone()))
            .add_service(TopicServiceServer::new(broker.clone()))
            .add_service(LogServiceServer::new(broker.clone()))
            .serve_with_incoming(TcpListenerStream::new(listener));
        tokio::spawn(server);
        broker
    }

    pub(crate) fn client(&self) -> Client {
        Client::connect(&self.address).unwrap()
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// No produce request is looked at until the gate is opened.
    pub(crate) async fn close_gate(&self) {
        let all = u32::try_from(self.gate.available_permits()).unwrap();
        self.gate.acquire_many(all).await.unwrap().forget();
    }

    pub(crate) fn let_one_pass(&self) {
        self.gate.add_permits(1);
    }

    pub(crate) fn open_gate(&self) {
        self.gate.add_permits(1 << 20);
    }

    /// Returns once one more produce request has come, looked at or not.
    pub(crate) async fn arrival(&self) {
        self.arrivals.acquire().await.unwrap().forget();
    }

    /// What was appended, as text.
    pub(crate) fn appended(&self) -> Vec<String> {
        let state = self.state();
        let values = state.appended.iter().map(|record| record.value.as_deref());
        values
            .map(|value| String::from_utf8(value.unwrap().to_vec()).unwrap())
            .collect()
    }

    fn append(&self, request: &proto::ProduceRequest) -> proto::ProduceResponse {
        let mut state = self.state();
        let end = state.appended.len() as i64;
        let base_offset = match &request.producer {
            None => end,
            Some(producer) => {
                let known = (producer.id.clone(), producer.sequence);
                *state.places.entry(known).or_insert(end)
            }
        };
        let duplicate = base_offset < end;
        if !duplicate {
            state.appended.extend(request.records.iter().cloned());
        }
        proto::ProduceResponse {
            runs: vec![proto::AppendedRun {
                partition: request.partition(),
                base_offset,
                record_count: request.records.len() as i32,
            }],
            duplicate,
        }
    }

    /// Looks at one request; an error ends the stream.
    async fn produce(
        &self,
        request: &proto::ProduceRequest,
    ) -> Result<proto::ProduceStreamResponse, Status> {
        self.arrivals.add_permits(1);
        self.gate.acquire().await.unwrap().forget();
        let action = {
            let mut state = self.state();
            state.request_sizes.push(request.records.len());
            let told = (request.producer.clone(), request.expected_offset);
            state.producers.push(told);
            state.produce.pop_front().unwrap_or(Produce::Ack)
        };
        match action {
            Produce::Ack => Ok(proto::ProduceStreamResponse {
                produce: Some(self.append(request)),
                error: None,
            }),
            Produce::AppendAndBreak => {
                self.append(request);
                Err(Status::unavailable("connection lost"))
            }
            Produce::Break => Err(Status::unavailable("connection lost")),
            Produce::Refuse(code, reason) => Ok(proto::ProduceStreamResponse {
                produce: None,
                error: Some(proto::ErrorStatus {
                    code: code.into(),
                    reason: reason.to_owned(),
                    message: "refused".to_owned(),
                    retry_delay: self
                        .state()
                        .retry_after
                        .map(|delay| delay.try_into().unwrap()),
                    ..proto::ErrorStatus::default()
                }),
            }),
            Produce::EndWith(code, reason) => Err(status(code, reason)),
        }
    }
}

pub(crate) fn status(code: Code, reason: &str) -> Status {
    let mut status = Status::new(code, "ended");
    if !reason.is_empty() {
        let metadata = status.metadata_mut();
        metadata.insert("flowstone-reason", reason.parse().unwrap());
    }
    status
}

#[tonic::async_trait]
impl ClusterService for Broker {
    async fn get_cluster(
        &self,
        _: Request<proto::GetClusterRequest>,
    ) -> Result<Response<proto::GetClusterResponse>, Status> {
        Ok(Response::new(proto::GetClusterResponse {
            limits: Some(self.state().limits),
            ..proto::GetClusterResponse::default()
        }))
    }
}

#[tonic::async_trait]
impl LogService for Broker {
    type ProduceStreamStream = Answers<proto::ProduceStreamResponse>;
    type SubscribeStream = Answers<proto::SubscribeResponse>;

    async fn produce_stream(
        &self,
        requests: Request<Streaming<proto::ProduceStreamRequest>>,
    ) -> Result<Response<Self::ProduceStreamStream>, Status> {
        let mut requests = requests.into_inner();
        let (answers, receiver) = mpsc::channel(64);
        let broker = self.clone();
        tokio::spawn(async move {
            while let Ok(Some(request)) = requests.message().await {
                let request = request.produce.unwrap();
                let answer = broker.produce(&request).await;
                let last = answer
                    .as_ref()
                    .map_or(true, |answer| answer.error.is_some());
                if answers.send(answer).await.is_err() || last {
                    return;
                }
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
    }

    async fn subscribe(
        &self,
        request: Request<proto::SubscribeRequest>,
    ) -> Result<Response<Self::SubscribeStream>, Status> {
        let (responses, end) = {
            let mut state = self.state();
            state.subscribed.push(request.into_inner());
            state.subscribe.pop_front().unwrap_or_default()
        };
        if responses.is_empty()
            && let Some(Err((code, reason))) = end
        {
            return Err(status(code, reason));
        }
        let responses = stream::iter(responses.into_iter().map(Ok));
        let last: Answers<proto::SubscribeResponse> = match end {
            None => Box::pin(stream::pending()),
            Some(Ok(())) => Box::pin(stream::empty()),
            Some(Err((code, reason))) => {
                Box::pin(stream::once(async move { Err(status(code, reason)) }))
            }
        };
        Ok(Response::new(Box::pin(responses.chain(last))))
    }

    async fn list_offsets(
        &self,
        request: Request<proto::ListOffsetsRequest>,
    ) -> Result<Response<proto::ListOffsetsResponse>, Status> {
        let asked = request.into_inner().partitions;
        let mut state = self.state();
        let partitions = (0..).zip(state.ends);
        let response = proto::ListOffsetsResponse {
            partitions: partitions
                .filter(|(partition, _)| asked.is_empty() || asked.contains(partition))
                .map(|(partition, offset)| proto::PartitionOffsets {
                    partition,
                    offset,
                    ..proto::PartitionOffsets::default()
                })
                .collect(),
            topic_id: "the-topic".to_owned(),
        };
        state.ends = state.ends.map(|end| end + 1000);
        Ok(Response::new(response))
    }

    async fn produce(
        &self,
        _: Request<proto::ProduceRequest>,
    ) -> Result<Response<proto::ProduceResponse>, Status> {
        Err(Status::unimplemented("no test needs it"))
    }

    async fn open_producer(
        &self,
        _: Request<proto::OpenProducerRequest>,
    ) -> Result<Response<proto::OpenProducerResponse>, Status> {
        let mut state = self.state();
        state.opened.0 += 1;
        let (epoch, last_sequence) = state.opened;
        Ok(Response::new(proto::OpenProducerResponse {
            epoch,
            last_sequence,
        }))
    }

    async fn fetch(
        &self,
        _: Request<proto::FetchRequest>,
    ) -> Result<Response<proto::FetchResponse>, Status> {
        Err(Status::unimplemented("no test needs it"))
    }

    async fn commit_offsets(
        &self,
        request: Request<proto::CommitOffsetsRequest>,
    ) -> Result<Response<proto::CommitOffsetsResponse>, Status> {
        let mut state = self.state();
        if let Some((code, reason)) = state.commit_fails {
            return Err(status(code, reason));
        }
        state.committed.push(request.into_inner().cursors);
        Ok(Response::new(proto::CommitOffsetsResponse::default()))
    }
}

#[tonic::async_trait]
impl TopicService for Broker {
    async fn get_topic(
        &self,
        request: Request<proto::GetTopicRequest>,
    ) -> Result<Response<proto::GetTopicResponse>, Status> {
        let state = self.state();
        let partitions = (0..2).map(|partition| proto::PartitionInfo {
            partition,
            offline: state.offline.contains(&partition),
            offline_reason: String::new(),
            ..proto::PartitionInfo::default()
        });
        Ok(Response::new(proto::GetTopicResponse {
            topic: Some(proto::Topic {
                name: request.into_inner().topic,
                partition_count: 2 + state.more_partitions,
                max_record_bytes: state.topic_max_record_bytes,
                ..proto::Topic::default()
            }),
            partitions: partitions.collect(),
        }))
    }

    async fn create_topic(
        &self,
        _: Request<proto::CreateTopicRequest>,
    ) -> Result<Response<proto::CreateTopicResponse>, Status> {
        Err(Status::unimplemented("no test needs it"))
    }

    async fn list_topics(
        &self,
        _: Request<proto::ListTopicsRequest>,
    ) -> Result<Response<proto::ListTopicsResponse>, Status> {
        Err(Status::unimplemented("no test needs it"))
    }

    async fn update_topic(
        &self,
        _: Request<proto::UpdateTopicRequest>,
    ) -> Result<Response<proto::UpdateTopicResponse>, Status> {
        Err(Status::unimplemented("no test needs it"))
    }

    async fn delete_topic(
        &self,
        _: Request<proto::DeleteTopicRequest>,
    ) -> Result<Response<proto::DeleteTopicResponse>, Status> {
        Err(Status::unimplemented("no test needs it"))
    }

    async fn trim_partition(
        &self,
        _: Request<proto::TrimPartitionRequest>,
    ) -> Result<Response<proto::TrimPartitionResponse>, Status> {
        Err(Status::unimplemented("no test needs it"))
    }
}

/// Heartbeats so short that a test need not wait for silence.
pub(crate) fn short_heartbeats() -> proto::Limits {
    proto::Limits {
        heartbeat_interval: Some(Duration::from_millis(50).try_into().unwrap()),
        ..proto::Limits::default()
    }
}
