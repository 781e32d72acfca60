//! Producers that have the plain stubs, and end with their broker.

use std::collections::VecDeque;

use flowstone_proto::v1 as proto;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use super::{Maker, SHUTTING_DOWN, Work};
use crate::Stub;
use crate::history::Call;

/// Requests of one stream that are under way.
const IN_FLIGHT: usize = 16;

/// Why a stream is over.
#[derive(Debug, PartialEq, Eq)]
enum Ended {
    /// The broker is gone, or takes no more.
    WithTheBroker,
    /// No answer came in time.
    GivenUp,
}

/// Produces one request after the other, over all partitions, until the broker is gone.
///
/// # Panics
/// When anything else goes wrong.
pub async fn unary(work: &Work, mut stub: Stub, acks: proto::Acks, mut maker: Maker) -> Maker {
    loop {
        let records = maker.records();
        let calls = work.invoke(maker.producer(), &records);
        let request = proto::ProduceRequest {
            records,
            topic: work.topic.to_owned(),
            acks: acks.into(),
            ..proto::ProduceRequest::default()
        };
        match work.in_time(stub.log.produce(request)).await {
            Some(Ok(response)) => work.acknowledge(&calls, response.get_ref()),
            Some(Err(status)) => {
                work.fail(&calls, &status);
                return maker;
            }
            None => maker = maker.heir(),
        }
    }
}

/// Produces to one partition over streams, many requests in flight, until the broker is gone.
///
/// # Panics
/// When anything else goes wrong.
pub async fn stream(
    work: &Work,
    stub: Stub,
    partition: i32,
    acks: proto::Acks,
    mut maker: Maker,
) -> Maker {
    let shape = proto::ProduceRequest {
        topic: work.topic.to_owned(),
        partition: Some(partition),
        acks: acks.into(),
        ..proto::ProduceRequest::default()
    };
    loop {
        match one_stream(work, stub.clone(), &shape, &mut maker).await {
            Ended::WithTheBroker => return maker,
            Ended::GivenUp => maker = maker.heir(),
        }
    }
}

async fn one_stream(
    work: &Work,
    mut stub: Stub,
    shape: &proto::ProduceRequest,
    maker: &mut Maker,
) -> Ended {
    let (requests, receiver) = mpsc::channel(IN_FLIGHT);
    let mut requests = Some(requests);
    let mut waiting = VecDeque::new();
    send(work, maker, shape, &mut requests, &mut waiting).await;
    let opening = stub.log.produce_stream(ReceiverStream::new(receiver));
    let mut answers = match work.in_time(opening).await {
        Some(Ok(response)) => response.into_inner(),
        Some(Err(status)) => {
            work.fail(&waiting.make_contiguous().concat(), &status);
            return Ended::WithTheBroker;
        }
        None => return Ended::GivenUp,
    };
    loop {
        let Some(answer) = work.in_time(answers.message()).await else {
            return Ended::GivenUp;
        };
        match answer {
            Ok(Some(answer)) => {
                if let Some(error) = answer.error {
                    assert_eq!(error.reason, SHUTTING_DOWN, "there is nothing to refuse");
                    // Nor is anything appended that was sent behind it.
                    work.refuse(waiting.make_contiguous().concat());
                    return Ended::WithTheBroker;
                }
                let calls: Vec<Call> = waiting.pop_front().expect("an answer has its request");
                work.acknowledge(&calls, &answer.produce.expect("it is no error"));
            }
            Ok(None) => panic!("a stream does not end before its requests do"),
            Err(status) => {
                // All that were begun have been answered before.
                work.fail(&waiting.make_contiguous().concat(), &status);
                return Ended::WithTheBroker;
            }
        }
        send(work, maker, shape, &mut requests, &mut waiting).await;
    }
}

/// Sends as many requests as may be in flight; once the broker takes no more, none.
async fn send(
    work: &Work,
    maker: &mut Maker,
    shape: &proto::ProduceRequest,
    requests: &mut Option<mpsc::Sender<proto::ProduceStreamRequest>>,
    waiting: &mut VecDeque<Vec<Call>>,
) {
    while waiting.len() < IN_FLIGHT
        && let Some(sender) = requests
    {
        let records = maker.records();
        let calls = work.invoke(maker.producer(), &records);
        waiting.push_back(calls);
        let produce = proto::ProduceRequest {
            records,
            ..shape.clone()
        };
        let request = proto::ProduceStreamRequest {
            produce: Some(produce),
        };
        // The channel holds as many as may be in flight, and so never waits while the broker does not
        // take any.
        if sender.try_send(request).is_err() {
            *requests = None;
        }
    }
}
