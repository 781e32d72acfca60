//! A producer that waits for nothing: dozens of requests at a time, each several times.

use std::sync::Arc;
use std::time::Duration;

use flowstone_tests::Dice;
use tokio::task::JoinSet;

use crate::check::Sent;
use crate::content::Who;
use crate::sender::Sender;

/// So many are under way at a time.
const AT_ONCE: i64 = 40;

pub(crate) async fn run(sender: Arc<Sender>, number: u32, dice: Dice) -> Sent {
    let who = Who::new(number);
    let mut sent = Sent::in_any_order(number);
    let mut next = 1;
    while !sender.is_stopped() {
        let mut calls = JoinSet::new();
        for sequence in next..next + AT_ONCE {
            for _ in 0..dice.pick(1..4) {
                let (sender, request) = (Arc::clone(&sender), who.request(sequence));
                let delay = Duration::from_micros(dice.pick(0..30_000));
                calls.spawn(async move {
                    tokio::time::sleep(delay).await;
                    (sequence, sender.produce(request).await)
                });
            }
        }
        while let Some(answer) = calls.join_next().await {
            let (sequence, answer) = answer.expect("no call panics");
            let runs = answer
                .unwrap_or_else(|status| panic!("sequence {sequence} of {number}: {status:?}"));
            sent.answered(sequence, runs);
        }
        next += AT_ONCE;
    }
    sent
}
