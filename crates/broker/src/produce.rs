//! Appending: what a request holds, and what it is answered with.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use bytes::Bytes;
use flowstone_format::{Offset, RecordLimits};
use flowstone_log::ProducerBatch;
use tokio::sync::{OwnedSemaphorePermit, oneshot};

use crate::Error;
use crate::append::{AppendJob, Fenced, Pipelined, ProduceAnswer};
use crate::core::Core;
use crate::names::invalid;
use crate::producers::{Inside, Producer, keyless_partition};
use crate::retention;
use crate::route::{Placement, Routed, route};
use crate::topics::{Topic, TopicNow};

/// Records to append to a topic.
#[derive(Clone, Debug, Default)]
pub struct ProduceRequest {
    /// The topic.
    pub topic: String,
    /// The partition. `None`: by key; records without a key of one request go to one partition.
    pub partition: Option<u32>,
    /// When to answer. `None`: as the topic is set up.
    pub acks: Option<Acks>,
    /// A run of `0A len Record`, as the client sent it.
    pub records: Bytes,
    /// How many `records` are by their lengths, if somebody has counted them ([`leading_records`](crate::leading_records)).
    pub record_count: Option<u32>,
    /// Makes the request safe to repeat.
    pub producer: Option<Producer>,
    /// Append only if the partition's next offset is this one. Needs `partition`. Looked at after
    /// `producer`: a repeat of what succeeded is a duplicate.
    pub expected_offset: Option<u64>,
}

/// When a produce call is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Acks {
    /// After the records are synced to disk.
    Durable,
    /// After the records are handed to the operating system, which are synced soon after. A power
    /// cut may give their offsets to other records.
    Written,
}

/// Consecutive records of the request that got consecutive offsets of one partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AppendedRun {
    /// The partition.
    pub partition: u32,
    /// The offset of the first of them.
    pub base_offset: u64,
    /// How many there are.
    pub record_count: u32,
}

/// What became of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Produced {
    /// Where its records are, in their order.
    pub runs: Vec<AppendedRun>,
    /// Whether every one of them had been appended before.
    pub duplicate: bool,
}

/// What a request costs besides its records.
pub(crate) const REQUEST_OVERHEAD_BYTES: usize = 1 << 10;

/// A record may be this much ahead of the broker's clock.
const MAX_AHEAD_MS: i64 = 3_600_000;

/// Room for the bytes of one request, given back once they are appended.
#[derive(Debug)]
pub struct Permit {
    _room: Option<OwnedSemaphorePermit>,
}

impl Permit {
    /// A permit that takes no room.
    #[cfg(test)]
    pub(crate) fn unlimited() -> Self {
        Self { _room: None }
    }
}

/// Requests of one client that are appended in order or not at all: once one has failed, none that
/// was submitted after it is appended any more.
#[derive(Debug)]
pub struct Pipeline {
    next: AtomicU64,
    first_failed: Arc<AtomicU64>,
}

impl Pipeline {
    /// A pipeline without requests.
    pub fn new() -> Self {
        Self {
            next: AtomicU64::new(0),
            first_failed: Arc::new(AtomicU64::new(u64::MAX)),
        }
    }

    pub(crate) fn place(&self) -> Pipelined {
        let place = self.next.fetch_add(1, Ordering::Relaxed);
        Pipelined::new(place, Arc::clone(&self.first_failed))
    }
}

impl Default for Pipeline {
    fn default() -> Self {
        Self::new()
    }
}

/// The answer to a submitted request. The request goes on also when this is dropped.
#[derive(Debug)]
pub struct PendingProduce {
    answer: oneshot::Receiver<Result<Produced, Error>>,
}

impl Future for PendingProduce {
    type Output = Result<Produced, Error>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.answer).poll(context).map(|answer| {
            answer.unwrap_or_else(|_| {
                Err(Error::OutcomeUnknown {
                    detail: "the broker stopped before it answered".to_owned(),
                })
            })
        })
    }
}

/// Waits for room for a request.
pub(crate) async fn admit(core: &Core, bytes: usize) -> Result<Permit, Error> {
    core.check_accepting()?;
    let most = core.config.limits.max_produce_bytes_in_flight;
    let wanted = u32::try_from(bytes + REQUEST_OVERHEAD_BYTES).map_or(most, |w| w.min(most));
    match Arc::clone(&core.room).acquire_many_owned(wanted).await {
        Ok(room) => Ok(Permit { _room: Some(room) }),
        Err(_) => Err(Error::ShuttingDown),
    }
}

/// Checks and routes a request and queues its parts. While its topic grows, a request with a
/// producer waits for that first.
pub(crate) fn submit(
    core: &Arc<Core>,
    request: ProduceRequest,
    permit: Permit,
    pipeline: Option<Pipelined>,
) -> Result<PendingProduce, Error> {
    core.check_accepting()?;
    let topic = core.topics.get(&request.topic)?;
    check_expectation(&request)?;
    let producer = request.producer.as_ref().map(Producer::checked);
    let submission = Submission {
        producer: producer.transpose()?,
        topic,
        request,
        permit,
        pipeline,
    };
    let (sender, answer) = oneshot::channel();
    if submission.producer.is_none() {
        submission.prepare(core)?.queue(core, None, sender);
        return Ok(PendingProduce { answer });
    }
    let gate = Arc::clone(submission.topic.gate());
    let owner = Arc::clone(core);
    let go = move |inside| match submission.prepare(&owner) {
        Ok(prepared) => prepared.queue(&owner, Some(inside), sender),
        Err(error) => {
            // The caller may have gone away meanwhile.
            let _ = sender.send(Err(error));
        }
    };
    gate.enter(go);
    Ok(PendingProduce { answer })
}

fn check_expectation(request: &ProduceRequest) -> Result<(), Error> {
    if request.expected_offset.is_some() && request.partition.is_none() {
        return Err(invalid(
            "expected_offset",
            "it needs `partition`: each partition has offsets of its own",
        ));
    }
    Ok(())
}

/// A request that is not routed yet.
struct Submission {
    topic: Arc<Topic>,
    request: ProduceRequest,
    producer: Option<ProducerBatch>,
    permit: Permit,
    pipeline: Option<Pipelined>,
}

/// A request that was checked as a whole, and taken apart.
struct Prepared {
    submission: Submission,
    now: Arc<TopicNow>,
    routed: Routed,
    limits: RecordLimits,
    acks: Acks,
    routing_count: u32,
}

impl Submission {
    /// All that can be refused is refused here, before the first part is queued.
    fn prepare(self, core: &Core) -> Result<Prepared, Error> {
        let prepared = self.check_and_route(core);
        match prepared {
            Ok((now, routed, limits, routing_count)) => {
                let acks = self.request.acks.or(now.info.spec.default_acks);
                Ok(Prepared {
                    acks: acks.unwrap_or(Acks::Durable),
                    submission: self,
                    now,
                    routed,
                    limits,
                    routing_count,
                })
            }
            Err(error) => {
                if let Some(pipeline) = &self.pipeline {
                    pipeline.break_off();
                }
                Err(error)
            }
        }
    }

    fn check_and_route(
        &self,
        core: &Core,
    ) -> Result<(Arc<TopicNow>, Routed, RecordLimits, u32), Error> {
        if let Some(error) = self.pipeline.as_ref().and_then(Pipelined::broken) {
            return Err(error);
        }
        let topic = &self.topic;
        if let Some(producer) = &self.producer {
            topic.epochs().check(producer)?;
        }
        let now = topic.now();
        let count = now.info.spec.partition_count;
        let routing_count = self.producer.as_ref().map_or(count, |producer| {
            let before = &now.routed_before;
            before.routing_count(producer.id, producer.sequence, count)
        });
        let placement = match self.request.partition {
            Some(partition) if (partition as usize) < now.partitions.len() => {
                Placement::Fixed(partition)
            }
            Some(partition) => return Err(topic.no_partition(partition, &now)),
            None => Placement::ByKey {
                partition_count: routing_count,
                keyless: match &self.producer {
                    Some(producer) => keyless_partition(producer, routing_count),
                    None => topic.next_keyless(&now),
                },
            },
        };
        let (routed, limits) = scan(core, &now, &self.request, placement)?;
        for part in &routed.parts {
            let partition = &now.partitions[part.partition as usize];
            if let Some(refusal) = partition.refusal() {
                return Err(refusal);
            }
            // What a full partition holds already it tells all the same.
            if self.producer.is_none() {
                retention::refuse_if_full(core, partition)?;
            }
        }
        core.reserve.check()?;
        Ok((now, routed, limits, routing_count))
    }
}

impl Prepared {
    /// Queues the parts; the answer goes to `sender`.
    fn queue(
        self,
        core: &Core,
        inside: Option<Inside>,
        sender: oneshot::Sender<Result<Produced, Error>>,
    ) {
        let Submission {
            topic,
            request,
            producer,
            permit,
            pipeline,
        } = self.submission;
        let fenced = producer.map(|batch| Fenced {
            batch,
            epochs: Arc::clone(topic.epochs()),
        });
        let answers = ProduceAnswer::new(&self.routed, sender, (permit, inside));
        for (index, part) in self.routed.parts.into_iter().enumerate() {
            let job = AppendJob {
                request: request.records.clone(),
                runs: part.runs,
                record_count: part.record_count,
                routing_count: self.routing_count,
                limits: self.limits,
                acks: self.acks,
                producer: fenced.clone(),
                expected_offset: request.expected_offset.map(Offset::new),
                pipeline: pipeline.clone(),
                done: answers.part(index),
            };
            core.appends
                .submit(&self.now.partitions[part.partition as usize], job);
        }
    }
}

/// Finds out where the records of a request go, and checks them if that takes a look at each.
fn scan(
    core: &Core,
    now: &TopicNow,
    request: &ProduceRequest,
    placement: Placement,
) -> Result<(Routed, RecordLimits), Error> {
    let limits = &core.config.limits;
    let records = &request.records;
    if records.is_empty() {
        return Err(invalid("records", "a request has at least one record"));
    }
    let most = limits.max_request_bytes;
    if records.len() > most as usize {
        let bytes = records.len();
        let detail = format!("{bytes} bytes of records are more than the {most} allowed");
        return Err(invalid("records", detail));
    }
    let spec = &now.info.spec;
    let record_limits = RecordLimits {
        max_record_bytes: spec.max_record_bytes.unwrap_or(limits.max_record_bytes),
        max_records: limits.max_records_per_request,
        max_timestamp_ms: core.env.clock.now_ms().saturating_add(MAX_AHEAD_MS),
    };
    let routed = route(records, request.record_count, &record_limits, placement)?;
    Ok((routed, record_limits))
}
