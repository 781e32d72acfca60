//! LogService: append and read.

use std::time::Duration;

use flowstone_broker::{Error, FetchRequest};
use flowstone_proto::v1;
use tonic::{Request, Response, Status, Streaming};

use super::generated::log_service_server::LogService;
use super::produce_stream::ProduceStream;
use super::subscribe::SubscribeStream;
use super::{Services, told};
use crate::deadline::Deadline;
use crate::fields;
use crate::status::Failure;
use crate::wire;

#[tonic::async_trait]
impl LogService for Services {
    type ProduceStreamStream = ProduceStream;
    type SubscribeStream = SubscribeStream;

    async fn produce(
        &self,
        request: Request<wire::ProduceRequest>,
    ) -> Result<Response<v1::ProduceResponse>, Status> {
        let deadline = deadline_of(&request);
        let answer = self.produce_once(request.into_inner(), deadline).await;
        Ok(Response::new(answer?))
    }

    async fn produce_stream(
        &self,
        request: Request<Streaming<wire::ReceivedInStream>>,
    ) -> Result<Response<ProduceStream>, Status> {
        Ok(Response::new(super::produce_stream::answers(
            self.clone(),
            request.into_inner(),
        )))
    }

    async fn fetch(
        &self,
        request: Request<v1::FetchRequest>,
    ) -> Result<Response<wire::FetchResponse>, Status> {
        let deadline = deadline_of(&request);
        let fetched = self
            .fetch_or_wait(request.into_inner(), deadline)
            .await
            .map_err(told)?;
        Ok(Response::new(fetched))
    }

    async fn subscribe(
        &self,
        request: Request<v1::SubscribeRequest>,
    ) -> Result<Response<SubscribeStream>, Status> {
        let peer = request
            .remote_addr()
            .map(|addr| addr.to_string())
            .unwrap_or_default();
        let request = super::subscribe::request(request.into_inner(), peer).map_err(told)?;
        let subscription = self.broker.subscribe(request).await.map_err(told)?;
        let heartbeat = Duration::from_millis(self.config.heartbeat_interval_ms);
        Ok(Response::new(super::subscribe::responses(
            subscription,
            heartbeat,
        )))
    }

    async fn open_producer(
        &self,
        request: Request<v1::OpenProducerRequest>,
    ) -> Result<Response<v1::OpenProducerResponse>, Status> {
        let deadline = deadline_of(&request);
        let request = request.into_inner();
        let opened = deadline
            .within(self.broker.open_producer(&request.topic, &request.id))
            .await
            .map_err(|_| Failure::deadline_passed())?
            .map_err(told)?;
        Ok(Response::new(v1::OpenProducerResponse {
            epoch: opened.epoch,
            last_sequence: opened.last_sequence,
        }))
    }

    async fn commit_offsets(
        &self,
        request: Request<v1::CommitOffsetsRequest>,
    ) -> Result<Response<v1::CommitOffsetsResponse>, Status> {
        let request = request.into_inner();
        let cursors = fields::cursors("cursors", request.cursors).map_err(told)?;
        let released = fields::cursors("released", request.released).map_err(told)?;
        let committed = self
            .broker
            .commit_offsets(cursors, released)
            .await
            .map_err(told)?;
        Ok(Response::new(v1::CommitOffsetsResponse {
            stale: committed.stale.into_iter().map(fields::cursor).collect(),
            revoking: fields::topic_partitions(committed.revoking),
        }))
    }

    async fn list_offsets(
        &self,
        request: Request<v1::ListOffsetsRequest>,
    ) -> Result<Response<v1::ListOffsetsResponse>, Status> {
        let request = request.into_inner();
        let at = fields::start("at", request.at.as_ref()).map_err(told)?;
        let partitions = fields::partitions("partitions", &request.partitions).map_err(told)?;
        let group = Some(request.group.as_str()).filter(|group| !group.is_empty());
        let (topic_id, found) = self
            .broker
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
        Ok(Response::new(v1::ListOffsetsResponse {
            partitions,
            topic_id: topic_id.to_string(),
        }))
    }
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

fn deadline_of<T>(request: &Request<T>) -> Deadline {
    request
        .extensions()
        .get::<Deadline>()
        .copied()
        .unwrap_or(Deadline::NONE)
}
