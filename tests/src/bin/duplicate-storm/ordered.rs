//! A producer that keeps its order: requests are pipelined over a stream, and repeated from the first
//! unanswered one on over another when it fails; sometimes some that were answered too.

use std::sync::Arc;
use std::time::Duration;

use flowstone_proto::v1 as proto;
use flowstone_tests::Dice;
use tokio_stream::StreamExt;

use crate::check::Sent;
use crate::content::Who;
use crate::sender::{Sender, may_be_repeated};

/// So many requests are sent over a stream at most.
const OF_STREAM: u64 = 150;
/// A stream that says nothing for so long is given up.
const PATIENCE: Duration = Duration::from_secs(3);
const PAUSE: Duration = Duration::from_millis(15);

pub(crate) async fn run(sender: Arc<Sender>, number: u32, dice: Dice) -> Sent {
    let who = Who::new(number);
    let mut sent = Sent::in_order(number);
    // Answered up to, and sent up to: what was sent has to be answered in the end.
    let (mut answered, mut begun) = (0, 0);
    while !sender.is_stopped() || answered < begun {
        let from = (answered - dice.pick(0..40) as i64).max(0);
        let upto = match sender.is_stopped() {
            true => begun,
            false => begun.max(answered + dice.pick(1..OF_STREAM) as i64),
        };
        begun = upto;
        let done = stream(&sender, &who, from, upto, &mut sent).await;
        if done < upto {
            tokio::time::sleep(PAUSE).await;
        }
        answered = answered.max(done);
    }
    sent
}

/// Sends what comes after `from`, up to `upto`; returns up to where it was answered.
async fn stream(sender: &Sender, who: &Who, from: i64, upto: i64, sent: &mut Sent) -> i64 {
    let requests: Vec<_> = (from + 1..=upto)
        .map(|sequence| proto::ProduceStreamRequest {
            produce: Some(who.request(sequence)),
        })
        .collect();
    let mut stub = sender.stub();
    let opened = stub.produce_stream(tokio_stream::iter(requests));
    let Ok(Ok(answers)) = tokio::time::timeout(PATIENCE, opened).await else {
        return from;
    };
    let mut answers = answers.into_inner();
    let mut answered = from;
    while let Ok(Some(Ok(answer))) = tokio::time::timeout(PATIENCE, answers.next()).await {
        match (answer.produce, answer.error) {
            (Some(produced), None) => {
                answered += 1;
                sender.answered(&produced);
                sent.answered(answered, produced.runs);
            }
            (_, Some(error)) => {
                let status = tonic::Status::new(error.code.into(), error.message);
                let number = who.number;
                assert!(
                    may_be_repeated(&status),
                    "sequence {} of {number}: {} {status}",
                    answered + 1,
                    error.reason
                );
                break;
            }
            (None, None) => panic!("an answer says nothing"),
        }
    }
    answered
}
