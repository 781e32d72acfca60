//! ProduceStream: requests are submitted as they come and answered in their order.
//!
//! One state machine does both, driven by whoever reads the answers: a client that does not read them is
//! not read either, so what is under way stays bounded without a task or a channel.

use std::collections::VecDeque;
use std::pin::Pin;

use bytes::Bytes;
use flowstone_broker::{Broker, Error, PendingProduce, Permit, Pipeline, ProduceRequest, Produced};
use flowstone_grpc::Messages;
use flowstone_proto::v1;
use futures_util::stream::unfold;
use tonic::Status;

use super::Services;
use super::produce::{failed, response};
use crate::front::transport_refusal;
use crate::grpc;
use crate::metrics::Outcomes;
use crate::status::Failure;
use crate::wire::{FromWire, ProduceStreamRequest};

type Admission = Pin<Box<dyn Future<Output = Result<Permit, Error>> + Send>>;

/// Answers the requests of one stream.
pub(super) fn answers(
    services: Services,
    requests: Messages,
) -> grpc::Stream<v1::ProduceStreamResponse> {
    let appending = Appending {
        services,
        requests,
        pipeline: Pipeline::default(),
        waiting: None,
        pending: VecDeque::new(),
        end: None,
        last: None,
    };
    Box::pin(unfold(appending, |mut appending| async move {
        let answer = appending.next().await?;
        Some((answer, appending))
    }))
}

struct Appending {
    services: Services,
    requests: Messages,
    /// Once one of its requests has failed, nothing later is appended.
    pipeline: Pipeline,
    /// A request for which there is no room yet; no other is read before it is submitted.
    waiting: Option<(ProduceRequest, Admission)>,
    /// Submitted and not answered, in order.
    pending: VecDeque<PendingProduce>,
    /// Nothing more is read, and this comes once all that is pending is answered.
    end: Option<End>,
    /// The status that the call ends with, after its last message.
    last: Option<Status>,
}

enum End {
    /// The client has no more requests.
    Complete,
    /// This request failed, as the last answer tells.
    Failed(Failure),
    /// No request failed, but the call ends here.
    Stopped(Status),
}

enum Event {
    Answered(Result<Produced, Error>),
    Admitted(Result<Permit, Error>),
    Received(Result<Option<Bytes>, Status>),
    Stopping,
}

impl Appending {
    async fn next(&mut self) -> Option<Result<v1::ProduceStreamResponse, Status>> {
        loop {
            if let Some(status) = self.last.take() {
                self.end = Some(End::Complete);
                return Some(Err(status));
            }
            if self.pending.is_empty() {
                match self.end.take() {
                    Some(End::Complete) => {
                        self.end = Some(End::Complete);
                        return None;
                    }
                    Some(End::Failed(failure)) => return Some(Ok(self.fail(&failure))),
                    Some(End::Stopped(status)) => {
                        self.last = Some(status);
                        continue;
                    }
                    None => {}
                }
            }
            match self.event().await {
                Event::Answered(Ok(produced)) => {
                    self.pending.pop_front();
                    self.services.outcomes.add(Outcomes::OK);
                    return Some(Ok(v1::ProduceStreamResponse {
                        produce: Some(response(produced)),
                        error: None,
                    }));
                }
                Event::Answered(Err(error)) => return Some(Ok(self.fail(&failed(error)))),
                Event::Admitted(permit) => self.submit(permit),
                Event::Received(received) => self.receive(received),
                Event::Stopping => {
                    self.waiting = None;
                    self.end = Some(End::Stopped(failed(Error::ShuttingDown).into()));
                }
            }
        }
    }

    /// Waits for whatever comes first; it may be called again after it was dropped.
    async fn event(&mut self) -> Event {
        let open = self.end.is_none();
        let room = self.pending.len() < self.services.config.produce_stream_requests_max;
        let admission = self.waiting.as_mut().map(|(_, admission)| admission);
        let admitting = admission.is_some();
        tokio::select! {
            biased;
            answer = optional(self.pending.front_mut()) => Event::Answered(answer),
            permit = optional(admission) => Event::Admitted(permit),
            () = self.services.stopping.cancelled(), if open => Event::Stopping,
            received = self.requests.next(), if open && room && !admitting => {
                Event::Received(received)
            }
        }
    }

    fn receive(&mut self, received: Result<Option<Bytes>, Status>) {
        let limit = self.services.config.limits.max_request_bytes;
        let request = match received {
            Ok(None) => {
                self.end = Some(End::Complete);
                return;
            }
            Err(status) => {
                self.end = Some(match transport_refusal(&status, "", limit) {
                    Some(failure) => End::Failed(failure),
                    None => End::Stopped(status),
                });
                return;
            }
            Ok(Some(message)) => ProduceStreamRequest::from_wire(message)
                .and_then(|request| {
                    request.produce.ok_or_else(|| {
                        crate::fields::invalid(
                            "produce",
                            "it is missing; each message holds one request",
                        )
                    })
                })
                .map_err(failed)
                .and_then(|request| self.services.produce_request(request)),
        };
        match request {
            Ok(request) => {
                let bytes = request.records.len();
                let admission = Box::pin(admit(self.services.broker.clone(), bytes));
                self.waiting = Some((request, admission));
            }
            Err(failure) => self.end = Some(End::Failed(failure)),
        }
    }

    fn submit(&mut self, permit: Result<Permit, Error>) {
        let (request, _) = self.waiting.take().expect("it was waiting for this permit");
        let submitted = permit.and_then(|permit| {
            self.services
                .broker
                .submit_pipelined(&self.pipeline, request, permit)
        });
        match submitted {
            Ok(pending) => self.pending.push_back(pending),
            Err(error) => self.end = Some(End::Failed(failed(error))),
        }
    }

    /// Gives up all that is left and says why; the call ends with the same status.
    fn fail(&mut self, failure: &Failure) -> v1::ProduceStreamResponse {
        self.services.outcomes.add(failure.reason());
        self.pending.clear();
        self.waiting = None;
        self.last = Some(failure.into());
        v1::ProduceStreamResponse {
            produce: None,
            error: Some(failure.error_status()),
        }
    }
}

async fn admit(broker: Broker, bytes: usize) -> Result<Permit, Error> {
    broker.admit(bytes).await
}

/// Resolves with the future, never without one.
async fn optional<F: Future + Unpin>(future: Option<&mut F>) -> F::Output {
    match future {
        Some(future) => future.await,
        None => std::future::pending().await,
    }
}
