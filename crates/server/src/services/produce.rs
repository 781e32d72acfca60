//! One produce request: its fields, and the way through the broker.

use flowstone_broker::{Error, ProduceRequest, Produced, Producer};
use flowstone_proto::v1;

use super::Services;
use crate::deadline::Deadline;
use crate::fields;
use crate::metrics::Outcomes;
use crate::status::{self, Failure};
use crate::wire;

impl Services {
    /// Appends and waits until it is as durable as asked. Once the records are submitted they are appended
    /// whether or not anybody still waits for the answer.
    pub(super) async fn produce_once(
        &self,
        request: wire::ProduceRequest,
        deadline: Deadline,
    ) -> Result<v1::ProduceResponse, Failure> {
        let produced = self.produce_within(request, deadline).await;
        let reason = produced
            .as_ref()
            .err()
            .map_or(Outcomes::OK, Failure::reason);
        self.outcomes.add(reason);
        produced
    }

    async fn produce_within(
        &self,
        request: wire::ProduceRequest,
        deadline: Deadline,
    ) -> Result<v1::ProduceResponse, Failure> {
        let request = self.produce_request(request)?;
        let permit = deadline
            .within(self.broker.admit(request.records.len()))
            .await
            .map_err(|_| Failure::throttled())?
            .map_err(failed)?;
        let pending = self.broker.submit(request, permit).map_err(failed)?;
        let produced = deadline
            .within(pending)
            .await
            .map_err(|_| Failure::deadline_passed())?
            .map_err(failed)?;
        Ok(response(produced))
    }

    /// The request as the broker takes it.
    pub(super) fn produce_request(
        &self,
        request: wire::ProduceRequest,
    ) -> Result<ProduceRequest, Failure> {
        let limit = self.config.limits.max_request_bytes;
        if request.records.len() > limit as usize {
            return Err(Failure::request_too_large(
                Some(request.records.len()),
                limit,
            ));
        }
        broker_request(request).map_err(failed)
    }
}

fn broker_request(request: wire::ProduceRequest) -> Result<ProduceRequest, Error> {
    let wire::ProduceRequest {
        records,
        record_count,
        fields: request,
    } = request;
    let partition = request
        .partition
        .map(|partition| fields::count("partition", partition))
        .transpose()?;
    let expected_offset = request
        .expected_offset
        .map(|offset| fields::count("expected_offset", offset))
        .transpose()?;
    let producer = request.producer.map(|producer| Producer {
        id: producer.id,
        epoch: producer.epoch,
        sequence: producer.sequence,
    });
    Ok(ProduceRequest {
        topic: request.topic,
        partition,
        acks: fields::acks("acks", request.acks)?,
        records,
        record_count,
        producer,
        expected_offset,
    })
}

/// Where the records went.
pub(super) fn response(produced: Produced) -> v1::ProduceResponse {
    let runs = produced
        .runs
        .into_iter()
        .map(|run| v1::AppendedRun {
            partition: fields::number(run.partition),
            base_offset: fields::number(run.base_offset),
            record_count: fields::number(run.record_count),
        })
        .collect();
    v1::ProduceResponse {
        runs,
        duplicate: produced.duplicate,
    }
}

/// A refusal or failure of the broker, also told in the log where somebody has to look after it.
pub(super) fn failed(error: Error) -> Failure {
    status::failure_of(&error)
}
