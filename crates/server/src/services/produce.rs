//! One produce request: its fields, and the way through the broker.

use flowstone_broker::{AppendedRun, Error, ProduceRequest};
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
        let runs = deadline
            .within(pending)
            .await
            .map_err(|_| Failure::deadline_passed())?
            .map_err(failed)?;
        Ok(response(runs))
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
        let wire::ProduceRequest { records, fields } = request;
        broker_request(records, fields).map_err(failed)
    }
}

fn broker_request(
    records: bytes::Bytes,
    request: v1::ProduceRequest,
) -> Result<ProduceRequest, Error> {
    if request.producer.is_some() {
        return Err(Error::Unimplemented { what: "producer" });
    }
    if request.expected_offset.is_some() {
        return Err(Error::Unimplemented {
            what: "expected_offset",
        });
    }
    let partition = request
        .partition
        .map(|partition| fields::count("partition", partition))
        .transpose()?;
    Ok(ProduceRequest {
        topic: request.topic,
        partition,
        acks: fields::acks("acks", request.acks)?,
        records,
    })
}

/// Where the records went.
pub(super) fn response(runs: Vec<AppendedRun>) -> v1::ProduceResponse {
    let runs = runs
        .into_iter()
        .map(|run| v1::AppendedRun {
            partition: fields::number(run.partition),
            base_offset: fields::number(run.base_offset),
            record_count: fields::number(run.record_count),
        })
        .collect();
    v1::ProduceResponse {
        runs,
        duplicate: false,
    }
}

/// A refusal or failure of the broker, also told in the log where somebody has to look after it.
pub(super) fn failed(error: Error) -> Failure {
    status::failure_of(&error)
}
