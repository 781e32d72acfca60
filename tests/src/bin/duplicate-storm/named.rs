//! A producer with a name whose process starts anew now and then: it forgets everything, asks how far
//! it had come, and repeats what may be missing, while calls of the old process are still under way.

use std::sync::Arc;
use std::time::Duration;

use flowstone_tests::Dice;
use tokio::task::JoinSet;

use crate::check::Sent;
use crate::content::Who;
use crate::sender::{Sender, reason};

/// No process has more requests under way, so that a new one knows which may be missing.
const AT_ONCE: i64 = 24;

pub(crate) async fn run(sender: Arc<Sender>, number: u32, dice: Dice) -> Sent {
    let mut sent = Sent::in_any_order(number);
    let mut who = Who::new(number);
    let mut ghosts = JoinSet::new();
    let mut is_last = false;
    loop {
        let before = who.clone();
        let (epoch, last) = sender.open(&who).await;
        assert!(epoch > who.epoch, "epoch {epoch} of {number} is no new one");
        who.epoch = epoch;
        sent.openings += 1;
        refuse_old(&sender, &before, last, &mut sent).await;
        // Whatever the ghosts of the old process do from here on is refused or a duplicate.
        let mut next = (last - AT_ONCE).max(0) + 1;
        let upto = if is_last {
            sent.highest()
        } else {
            last + dice.pick(10..400) as i64
        };
        while next <= upto && (is_last || !sender.is_stopped()) {
            let mut calls = JoinSet::new();
            let end = (next + AT_ONCE - 1).min(upto);
            let dies = !is_last && dice.once_in(12);
            for sequence in next..=end {
                sent.began(sequence);
                for _ in 0..dice.pick(1..4) {
                    let (sender, request) = (Arc::clone(&sender), who.request(sequence));
                    let delay = Duration::from_micros(dice.pick(0..20_000));
                    let call = async move {
                        tokio::time::sleep(delay).await;
                        (sequence, sender.produce(request).await)
                    };
                    match dies {
                        true => drop(ghosts.spawn(call)),
                        false => drop(calls.spawn(call)),
                    }
                }
            }
            if dies {
                // Nobody hears the answers.
                tokio::time::sleep(Duration::from_millis(dice.pick(0..20))).await;
                break;
            }
            while let Some(answer) = calls.join_next().await {
                let (sequence, answer) = answer.expect("no call panics");
                let runs = answer
                    .unwrap_or_else(|status| panic!("sequence {sequence} of {number}: {status:?}"));
                sent.answered(sequence, runs);
            }
            next = end + 1;
        }
        if is_last && ghosts.is_empty() {
            return sent;
        }
        if sender.is_stopped() {
            // One more process repeats what the ghosts have left undone.
            while let Some(answer) = ghosts.join_next().await {
                let (sequence, answer) = answer.expect("no call panics");
                haunt(&mut sent, number, sequence, answer);
            }
            is_last = true;
        }
        while let Some(answer) = ghosts.try_join_next() {
            let (sequence, answer) = answer.expect("no call panics");
            haunt(&mut sent, number, sequence, answer);
        }
    }
}

/// An old process is answered as any other, or refused.
fn haunt(
    sent: &mut Sent,
    number: u32,
    sequence: i64,
    answer: Result<Vec<flowstone_proto::v1::AppendedRun>, tonic::Status>,
) {
    match answer {
        Ok(runs) => sent.answered(sequence, runs),
        Err(status) if reason(&status) == Some("STALE_PRODUCER") => sent.refusals += 1,
        Err(status) => panic!("sequence {sequence} of {number}: {status:?}"),
    }
}

/// Nothing of an older epoch is taken once the opening was answered.
async fn refuse_old(sender: &Sender, old: &Who, last: i64, sent: &mut Sent) {
    let forged = sender.produce(old.forged(last + 1)).await;
    match forged {
        Err(status) if reason(&status) == Some("STALE_PRODUCER") => sent.refusals += 1,
        other => panic!("an old process of {} is answered {other:?}", old.id()),
    }
}
