//! LogService: append and read.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use flowstone_broker::{Error, FetchRequest};
use flowstone_grpc::Messages;
use flowstone_proto::v1;
use http::{Extensions, Request, Response};
use tonic::Status;
use tonic::body::Body;
use tonic::codegen::Service;
use tonic::server::NamedService;

use super::{Services, produce_stream, subscribe, told};
use crate::connections::{OpenStreams, Peer};
use crate::deadline::Deadline;
use crate::fields;
use crate::grpc;
use crate::status::Failure;
use crate::wire::{self, FromWire};

/// The service by itself: no generated code, since records are not decoded.
#[derive(Clone, Debug)]
pub(super) struct LogService {
    services: Services,
    max_message_bytes: usize,
}

impl LogService {
    pub(super) fn new(services: Services, max_message_bytes: usize) -> Self {
        Self {
            services,
            max_message_bytes,
        }
    }

    async fn answer(self, request: Request<Body>) -> Response<Body> {
        let (parts, body) = request.into_parts();
        let messages = match Messages::new(&parts.headers, body, self.max_message_bytes) {
            Ok(messages) => messages,
            Err(status) => return status.into_http(),
        };
        let call = Call {
            services: self.services,
            extensions: parts.extensions,
            messages,
        };
        let path = parts.uri.path();
        let method = path.rsplit('/').next().unwrap_or_default();
        match method {
            "Produce" => grpc::unary(call.produce().await),
            "ProduceStream" => {
                let place = call.place();
                let answers = produce_stream::answers(call.services, call.messages);
                grpc::streaming(Ok(answers), place)
            }
            "Fetch" => grpc::unary(call.fetch().await),
            "Subscribe" => {
                let place = call.place();
                grpc::streaming(call.subscribe().await, place)
            }
            "OpenProducer" => grpc::unary(call.open_producer().await),
            "CommitOffsets" => grpc::unary(call.commit_offsets().await),
            "ListOffsets" => grpc::unary(call.list_offsets().await),
            _ => Status::from(Failure::no_such_method(path)).into_http(),
        }
    }
}

impl NamedService for LogService {
    const NAME: &'static str = "flowstone.v1.LogService";
}

impl Service<Request<Body>> for LogService {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let answer = self.clone().answer(request);
        Box::pin(async move { Ok(answer.await) })
    }
}

/// One call.
struct Call {
    services: Services,
    extensions: Extensions,
    messages: Messages,
}

impl Call {
    fn deadline(&self) -> Deadline {
        let deadline = self.extensions.get::<Deadline>();
        deadline.copied().unwrap_or(Deadline::NONE)
    }

    /// Where the client is.
    fn peer(&self) -> String {
        let peer = self.extensions.get::<Peer>();
        peer.map(|peer| peer.address.to_string())
            .unwrap_or_default()
    }

    /// Its place among the streams of its connection.
    fn place(&self) -> Option<OpenStreams> {
        let peer = self.extensions.get::<Peer>();
        peer.map(|peer| peer.streams.clone())
    }

    async fn produce(self) -> Result<v1::ProduceResponse, Status> {
        let deadline = self.deadline();
        let request = decode(self.messages.only().await?)?;
        Ok(self.services.produce_once(request, deadline).await?)
    }

    async fn fetch(self) -> Result<wire::FetchResponse, Status> {
        let deadline = self.deadline();
        let request = decode(self.messages.only().await?)?;
        let fetched = self.services.fetch_or_wait(request, deadline).await;
        fetched.map_err(told)
    }

    async fn subscribe(self) -> Result<grpc::Stream<wire::SubscribeResponse>, Status> {
        let peer = self.peer();
        let request = decode(self.messages.only().await?)?;
        let request = subscribe::request(request, peer).map_err(told)?;
        let services = self.services;
        let subscription = services.broker.subscribe(request).await.map_err(told)?;
        let heartbeat = Duration::from_millis(services.config.heartbeat_interval_ms);
        Ok(subscribe::responses(subscription, heartbeat))
    }

    async fn open_producer(self) -> Result<v1::OpenProducerResponse, Status> {
        let deadline = self.deadline();
        let request: v1::OpenProducerRequest = decode(self.messages.only().await?)?;
        let broker = &self.services.broker;
        let opened = deadline
            .within(broker.open_producer(&request.topic, &request.id))
            .await
            .map_err(|_| Failure::deadline_passed())?
            .map_err(told)?;
        Ok(v1::OpenProducerResponse {
            epoch: opened.epoch,
            last_sequence: opened.last_sequence,
        })
    }

    async fn commit_offsets(self) -> Result<v1::CommitOffsetsResponse, Status> {
        let request: v1::CommitOffsetsRequest = decode(self.messages.only().await?)?;
        let cursors = fields::cursors("cursors", request.cursors).map_err(told)?;
        let released = fields::cursors("released", request.released).map_err(told)?;
        let broker = &self.services.broker;
        let committed = broker
            .commit_offsets(cursors, released)
            .await
            .map_err(told)?;
        Ok(v1::CommitOffsetsResponse {
            stale: committed.stale.into_iter().map(fields::cursor).collect(),
            revoking: fields::topic_partitions(committed.revoking),
        })
    }

    async fn list_offsets(self) -> Result<v1::ListOffsetsResponse, Status> {
        let request: v1::ListOffsetsRequest = decode(self.messages.only().await?)?;
        let at = fields::start("at", request.at.as_ref()).map_err(told)?;
        let partitions = fields::partitions("partitions", &request.partitions).map_err(told)?;
        let group = Some(request.group.as_str()).filter(|group| !group.is_empty());
        let broker = &self.services.broker;
        let (topic_id, found) = broker
            .list_offsets(&request.topic, &at, &partitions, group)
            .await
            .map_err(told)?;
        let partitions = found
            .into_iter()
            .map(|found| v1::PartitionOffsets {
                partition: fields::number(found.partition),
                offset: fields::number(found.offset),
                log_start_offset: fields::number(found.log_start_offset),
                high_watermark: fields::number(found.high_watermark),
            })
            .collect();
        Ok(v1::ListOffsetsResponse {
            partitions,
            topic_id: topic_id.to_string(),
        })
    }
}

fn decode<M: FromWire>(message: Bytes) -> Result<M, Status> {
    M::from_wire(message).map_err(told)
}

impl Services {
    /// Reads once; waits for records when there are none, no longer than `max_wait`, the deadline and what
    /// is configured. The start position is resolved before the wait.
    async fn fetch_or_wait(
        &self,
        request: v1::FetchRequest,
        deadline: Deadline,
    ) -> Result<wire::FetchResponse, Error> {
        let wait_ms = match &request.max_wait {
            Some(wait) => fields::duration_ms("max_wait", wait)?,
            None => 0,
        };
        let wait = Duration::from_millis(wait_ms.min(self.config.fetch_wait_ms_max));
        let mut wanted = FetchRequest {
            start: fields::start("start", request.start.as_ref())?,
            partition: fields::count("partition", request.partition)?,
            max_bytes: fields::count("max_bytes", request.max_bytes)?,
            max_records: fields::count("max_records", request.max_records)?,
            topic_id: fields::topic_id("topic_id", &request.topic_id)?,
            topic: request.topic,
        };
        let mut fetched = self.broker.fetch(wanted.clone()).await?;
        if fetched.record_count == 0 && !wait.is_zero() {
            let from = fetched.next_offset;
            let come = self
                .broker
                .wait_for_data(&wanted.topic, wanted.partition, from);
            if deadline.or_after(wait).within(come).await.is_ok() {
                wanted.start = flowstone_broker::Start::Offset(from);
                fetched = self.broker.fetch(wanted).await?;
            }
        }
        Ok(wire::FetchResponse {
            records: fetched.chunks,
            fields: v1::FetchResponse {
                records: Vec::new(),
                next_offset: fields::number(fetched.next_offset),
                high_watermark: fields::number(fetched.high_watermark),
                log_start_offset: fields::number(fetched.log_start_offset),
            },
        })
    }
}
