//! Subscribe: the request's fields, and the stream of responses with its heartbeats.

use std::pin::Pin;
use std::time::Duration;

use flowstone_broker::{Delivery, Error, SubscribeRequest, Subscription};
use flowstone_proto::v1;
use futures_util::stream::unfold;
use tokio::time::{Instant, Sleep, sleep};

use super::told;
use crate::fields;
use crate::grpc;
use crate::status;
use crate::wire::SubscribeResponse;

/// The request as the broker takes it.
pub(super) fn request(
    request: v1::SubscribeRequest,
    peer: String,
) -> Result<SubscribeRequest, Error> {
    let timeout = request.processing_timeout.as_ref();
    Ok(SubscribeRequest {
        partitions: fields::partitions("partitions", &request.partitions)?,
        start: fields::start("start", request.start.as_ref())?,
        stop: fields::stop("stop", request.stop.as_ref())?,
        processing_timeout_ms: timeout
            .map(|timeout| fields::duration_ms("processing_timeout", timeout))
            .transpose()?,
        max_uncommitted_records: fields::count(
            "max_uncommitted_records",
            request.max_uncommitted_records,
        )?,
        max_batch_bytes: fields::count("max_batch_bytes", request.max_batch_bytes)?,
        resume_from: fields::cursors("resume_from", request.resume_from)?,
        stop_before: fields::cursors("stop_before", request.stop_before)?,
        topic: request.topic,
        group: Some(request.group).filter(|group| !group.is_empty()),
        member: request.member,
        peer,
    })
}

/// Asks the subscription for one delivery whenever the client has room for one more: a slow reader keeps
/// its place, and nothing is read ahead for it. Dropping the stream leaves the group.
pub(super) fn responses(
    subscription: Subscription,
    heartbeat: Duration,
) -> grpc::Stream<SubscribeResponse> {
    // In a box, since it is moved with every message.
    let paced = Box::new(Paced::new(subscription, heartbeat));
    Box::pin(unfold(Some(paced), |paced| async {
        let mut paced = paced?;
        Some(match paced.next().await? {
            Ok(delivery) => (Ok(response(delivery)), Some(paced)),
            Err(error) => (Err(told(error)), None),
        })
    }))
}

/// A subscription that gives a sign of life when there was nothing to deliver for a while.
struct Paced {
    subscription: Subscription,
    heartbeat: Duration,
    /// When something was delivered last.
    delivered_at: Instant,
    /// Set again when it has gone off, not with each delivery: most of them come long before.
    timer: Pin<Box<Sleep>>,
}

impl Paced {
    fn new(subscription: Subscription, heartbeat: Duration) -> Self {
        Self {
            subscription,
            heartbeat,
            delivered_at: Instant::now(),
            timer: Box::pin(sleep(heartbeat)),
        }
    }

    async fn next(&mut self) -> Option<Result<Delivery, Error>> {
        let delivery = loop {
            // What there is to deliver goes first; it is asked for again without losing anything.
            tokio::select! {
                biased;
                delivery = self.subscription.next() => break delivery,
                () = self.timer.as_mut() => {}
            }
            let now = Instant::now();
            let due = self.delivered_at + self.heartbeat;
            if due <= now {
                self.timer.as_mut().reset(now + self.heartbeat);
                break Some(Ok(self.subscription.heartbeat()));
            }
            self.timer.as_mut().reset(due);
        };
        self.delivered_at = Instant::now();
        delivery
    }
}

fn response(delivery: Delivery) -> SubscribeResponse {
    let mut records = Vec::new();
    let mut fields = v1::SubscribeResponse::default();
    match delivery {
        Delivery::Records {
            cursor,
            high_watermark,
            chunks,
            ..
        } => {
            records = chunks;
            fields.cursor = Some(fields::cursor(cursor));
            fields.high_watermark = fields::number(high_watermark);
        }
        Delivery::Assignment {
            partitions,
            revoking,
            lost,
            revoke_timeout_ms,
        } => {
            fields.assignment = Some(v1::Assignment {
                partitions: fields::topic_partitions(partitions),
                revoking: fields::topic_partitions(revoking),
                lost: fields::topic_partitions(lost),
                revoke_timeout: Some(fields::duration(revoke_timeout_ms)),
            });
        }
        Delivery::PartitionError { cursor, error } => {
            fields.cursor = Some(fields::cursor(cursor));
            fields.error = Some(status::failure_of(&error).error_status());
        }
        Delivery::Heartbeat {} => {}
    }
    SubscribeResponse { records, fields }
}
