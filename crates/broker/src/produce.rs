//! Appending: what a request holds, and what it is answered with.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use bytes::Bytes;
use flowstone_format::RecordLimits;
use tokio::sync::{OwnedSemaphorePermit, oneshot};

use crate::Error;
use crate::append::{AppendJob, Pipelined, ProduceAnswer};
use crate::core::Core;
use crate::names::invalid;
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
    answer: oneshot::Receiver<Result<Vec<AppendedRun>, Error>>,
}

impl Future for PendingProduce {
    type Output = Result<Vec<AppendedRun>, Error>;

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

/// Checks and routes a request and queues its parts.
pub(crate) fn submit(
    core: &Core,
    request: ProduceRequest,
    permit: Permit,
    pipeline: Option<Pipelined>,
) -> Result<PendingProduce, Error> {
    core.check_accepting()?;
    if let Some(error) = pipeline.as_ref().and_then(Pipelined::broken) {
        return Err(error);
    }
    let topic = core.topics.get(&request.topic)?;
    let now = topic.now();
    let (routed, limits) = scan(core, &topic, &now, &request)?;
    // All that can be refused is refused before the first part is queued.
    for part in &routed.parts {
        let partition = &now.partitions[part.partition as usize];
        if let Some(refusal) = partition.refusal() {
            return Err(refusal);
        }
        retention::refuse_if_full(core, partition)?;
    }
    core.reserve.check()?;
    let spec = &now.info.spec;
    let acks = request.acks.or(spec.default_acks).unwrap_or(Acks::Durable);
    let (answers, answer) = ProduceAnswer::new(&routed, permit);
    for (index, part) in routed.parts.into_iter().enumerate() {
        let job = AppendJob {
            request: request.records.clone(),
            runs: part.runs,
            record_count: part.record_count,
            routing_count: spec.partition_count,
            limits,
            acks,
            pipeline: pipeline.clone(),
            done: answers.part(index),
        };
        core.appends
            .submit(&now.partitions[part.partition as usize], job);
    }
    Ok(PendingProduce { answer })
}

/// Checks the records of a request and finds out where they go.
fn scan(
    core: &Core,
    topic: &Topic,
    now: &TopicNow,
    request: &ProduceRequest,
) -> Result<(Routed, RecordLimits), Error> {
    let limits = &core.config.limits;
    if request.records.is_empty() {
        return Err(invalid("records", "a request has at least one record"));
    }
    let most = limits.max_request_bytes;
    if request.records.len() > most as usize {
        let bytes = request.records.len();
        let detail = format!("{bytes} bytes of records are more than the {most} allowed");
        return Err(invalid("records", detail));
    }
    let placement = match request.partition {
        Some(partition) if (partition as usize) < now.partitions.len() => {
            Placement::Fixed(partition)
        }
        Some(partition) => return Err(topic.no_partition(partition, now)),
        None => Placement::ByKey {
            partition_count: now.info.spec.partition_count,
            keyless: topic.next_keyless(now),
        },
    };
    let record_limits = RecordLimits {
        max_record_bytes: now
            .info
            .spec
            .max_record_bytes
            .unwrap_or(limits.max_record_bytes),
        max_records: limits.max_records_per_request,
    };
    let latest_ms = core.env.clock.now_ms().saturating_add(MAX_AHEAD_MS);
    let routed = route(
        &request.records,
        &record_limits,
        placement,
        |index, record| {
            if record.timestamp_ms > latest_ms {
                return Err(invalid(
                    format!("records[{index}].timestamp_ms"),
                    "it is more than an hour ahead of the broker's clock",
                ));
            }
            Ok(())
        },
    )?;
    Ok((routed, record_limits))
}
