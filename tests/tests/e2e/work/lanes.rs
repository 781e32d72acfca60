//! Producers that have the plain stubs, and end with their broker.

use std::collections::VecDeque;

use flowstone_proto::v1 as proto;
use flowstone_tests::Stub;
use flowstone_tests::history::Call;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use super::{Maker, SHUTTING_DOWN, Work};

/// Requests of one stream that are under way.
const IN_FLIGHT: usize = 16;

/// Produces one request after the other, over all partitions, until the broker is gone.
pub(crate) async fn unary(work: &Work, mut stub: Stub, mut maker: Maker) -> Maker {
    loop {
        let records = maker.records();
        let calls = work.invoke(maker.producer(), &records);
        let request = proto::ProduceRequest {
            records,
            topic: work.topic.to_owned(),
            ..proto::ProduceRequest::default()
        };
        match stub.log.produce(request).await {
            Ok(response) => work.acknowledge(&calls, response.get_ref()),
            Err(status) => {
                work.fail(&calls, &status);
                return maker;
            }
        }
    }
}

/// Produces to one partition over a stream, many requests in flight, until the broker is gone.
pub(crate) async fn stream(work: &Work, mut stub: Stub, partition: i32, mut maker: Maker) -> Maker {
    let (requests, receiver) = mpsc::channel(IN_FLIGHT);
    let mut requests = Some(requests);
    let mut waiting = VecDeque::new();
    send(work, &mut maker, partition, &mut requests, &mut waiting).await;
    let mut answers = match stub.log.produce_stream(ReceiverStream::new(receiver)).await {
        Ok(response) => response.into_inner(),
        Err(status) => {
            work.fail(&waiting.make_contiguous().concat(), &status);
            return maker;
        }
    };
    loop {
        match answers.message().await {
            Ok(Some(answer)) => {
                if let Some(error) = answer.error {
                    assert_eq!(error.reason, SHUTTING_DOWN, "there is nothing to refuse");
                    // Nor is anything appended that was sent behind it.
                    work.refuse(waiting.make_contiguous().concat());
                    return maker;
                }
                let calls: Vec<Call> = waiting.pop_front().expect("an answer has its request");
                work.acknowledge(&calls, &answer.produce.expect("it is no error"));
            }
            Ok(None) => panic!("a stream does not end before its requests do"),
            Err(status) => {
                // All that were begun have been answered before.
                work.fail(&waiting.make_contiguous().concat(), &status);
                return maker;
            }
        }
        send(work, &mut maker, partition, &mut requests, &mut waiting).await;
    }
}

/// Sends as many requests as may be in flight; once the broker takes no more, none.
async fn send(
    work: &Work,
    maker: &mut Maker,
    partition: i32,
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
            topic: work.topic.to_owned(),
            partition: Some(partition),
            ..proto::ProduceRequest::default()
        };
        let request = proto::ProduceStreamRequest {
            produce: Some(produce),
        };
        if sender.send(request).await.is_err() {
            *requests = None;
        }
    }
}
