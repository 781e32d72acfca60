//! Requests that are sent again and again, before and behind crashes: each is appended once.

use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;

use flowstone_broker::{Acks, Error, OpenedProducer, PendingProduce, ProduceRequest, Producer};
use flowstone_disk::Clock;
use flowstone_tests::Dice;

use crate::driven::{encode, poll};
use crate::ledger::{Ledger, Sent};
use crate::work::{Session, places};

/// Who sends: the first is never opened, the second is.
const NAMES: [&str; 2] = ["till", "named"];
/// So many requests of a topic may be repeated; older ones are not any more.
const KEPT: usize = 24;

/// What is known of the producers of a topic.
#[derive(Clone, Debug, Default)]
pub(crate) struct Producers {
    /// Of each.
    last_sequence: [i64; 2],
    /// The greatest that was acknowledged, of each.
    acknowledged: [i64; 2],
    /// Of the one that is opened, as it was told last.
    epoch: i32,
    sent: Vec<Arc<Request>>,
}

/// A request that may be repeated.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) sent: Sent,
    /// `None`: by key.
    pub(crate) partition: Option<u32>,
    who: usize,
    sequence: i64,
}

impl Request {
    /// Whether its producer is one that is opened.
    pub(crate) fn is_named(&self) -> bool {
        self.who == 1
    }

    /// What the broker is sent, now as ever but for the epoch, which may have risen.
    pub(crate) fn to_broker(&self, ledger: &Ledger, acks: Option<Acks>) -> ProduceRequest {
        let epoch = ledger
            .topics
            .get(&self.sent.topic)
            .map_or(0, |topic| topic.producers.epoch);
        ProduceRequest {
            topic: self.sent.topic.clone(),
            partition: self.partition,
            acks,
            records: encode(&self.sent.records),
            record_count: None,
            producer: Some(Producer {
                id: NAMES[self.who].to_owned(),
                epoch: if self.is_named() { epoch } else { 0 },
                sequence: self.sequence,
            }),
            expected_offset: None,
        }
    }
}

impl Producers {
    /// One that was sent before, if there is any.
    pub(crate) fn any(&self, dice: &Dice) -> Option<Arc<Request>> {
        let count = self.sent.len() as u64;
        (count > 0).then(|| Arc::clone(&self.sent[dice.pick(0..count) as usize]))
    }

    /// Takes note of a request before it is sent for the first time. Numbers may be left out.
    pub(crate) fn sending(
        &mut self,
        sent: Sent,
        partition: Option<u32>,
        dice: &Dice,
    ) -> Arc<Request> {
        let who = dice.pick(0..NAMES.len() as u64) as usize;
        self.last_sequence[who] += 1 + dice.pick(0..4) as i64 / 3;
        let request = Arc::new(Request {
            sent,
            partition,
            who,
            sequence: self.last_sequence[who],
        });
        if self.sent.len() == KEPT {
            self.sent.remove(0);
        }
        self.sent.push(Arc::clone(&request));
        request
    }

    /// All of a request is on disk.
    pub(crate) fn acknowledged(&mut self, request: &Request) {
        let greatest = &mut self.acknowledged[request.who];
        *greatest = request.sequence.max(*greatest);
    }

    /// The id of the producer that is opened.
    pub(crate) fn named() -> &'static str {
        NAMES[1]
    }

    /// Takes what an opening was answered, and tells what is wrong with it.
    pub(crate) fn opened(&mut self, opened: OpenedProducer) -> Option<String> {
        let OpenedProducer {
            epoch,
            last_sequence,
        } = opened;
        let before = std::mem::replace(&mut self.epoch, epoch);
        if epoch <= before {
            return Some(format!("epoch {epoch} is given out behind epoch {before}"));
        }
        let (least, most) = (self.acknowledged[1], self.last_sequence[1]);
        (!(least..=most).contains(&last_sequence)).then(|| {
            format!(
                "the last sequence is told as {last_sequence}: {least} is acknowledged, and {most} sent"
            )
        })
    }
}

/// A request of a producer that was not answered yet.
pub(crate) struct Repeat {
    request: Arc<Request>,
    acks: Acks,
    answer: PendingProduce,
}

impl Repeat {
    /// Notes the answer if there is one: how many records were acknowledged.
    pub(crate) fn look(&mut self, ledger: &mut Ledger) -> Poll<u64> {
        let Poll::Ready(answer) = poll(Pin::new(&mut self.answer)) else {
            return Poll::Pending;
        };
        // Another try may have been appended, or may be still.
        Poll::Ready(answer.map_or(0, |produced| {
            ledger.acknowledged(&self.request, &places(&produced.runs), self.acks)
        }))
    }
}

impl Session<'_> {
    /// Submits a request of a producer: a new one, or one that was sent before, perhaps not answered yet.
    pub(crate) fn produce_once(&self) {
        let Some((topic, _, partition)) = self.any_partition() else {
            return;
        };
        let mut guard = self.world.lock();
        let world = &mut *guard;
        let ledger = &mut world.ledger;
        let before = ledger.topics[&topic].producers.any(self.dice);
        let request = match before.filter(|_| self.dice.once_in(2)) {
            Some(request) => {
                world.counts.repeated += 1;
                request
            }
            None => {
                let fixed = self.dice.once_in(2);
                let lens: Vec<usize> = (0..self.dice.pick(1..5))
                    .map(|_| self.dice.pick(0..400) as usize)
                    .collect();
                let keyless = self.dice.once_in(4);
                let key = |at: usize| (!fixed && !keyless).then(|| format!("key-{at}"));
                let now_ms = self.clock.now_ms();
                let Some(sent) = ledger.send_to_repeat(&topic, &lens, key, now_ms) else {
                    return;
                };
                let of = ledger.topics.get_mut(&topic).expect("it was sent there");
                of.producers
                    .sending(sent, fixed.then_some(partition), self.dice)
            }
        };
        let acks = match self.dice.once_in(4) {
            true => Acks::Written,
            false => Acks::Durable,
        };
        ledger.repeating(&request.sent);
        let to_broker = request.to_broker(ledger, Some(acks));
        drop(guard);
        let bytes = to_broker.records.len();
        let Ok(permit) = self.driven.wait(self.driven.broker.admit(bytes)) else {
            return;
        };
        // What is refused may have been appended by an earlier try.
        if let Ok(answer) = self.driven.broker.submit(to_broker, permit) {
            let repeat = Repeat {
                request,
                acks,
                answer,
            };
            self.world.lock().repeats.push(repeat);
        }
    }

    /// Opens the producer of a topic that has a name.
    pub(crate) fn open_producer(&self) -> Result<(), String> {
        let Some((topic, number)) = self.any_topic() else {
            return Ok(());
        };
        let opening = self.driven.broker.open_producer(&topic, Producers::named());
        let opened = self.driven.wait(opening);
        let mut world = self.world.lock();
        if world.down {
            return Ok(());
        }
        let (Ok(opened), Some(of)) = (opened, world.ledger.topics.get_mut(&topic)) else {
            return Ok(());
        };
        match of.producers.opened(opened).filter(|_| of.number == number) {
            Some(wrong) => Err(format!("{topic}: {wrong}")),
            None => Ok(()),
        }
    }
}

/// What is wrong with a refusal of a request that is repeated behind a recovery, if anything.
pub(crate) fn wrong_refusal(error: &Error, was_acknowledged: bool, may_be_full: bool) -> bool {
    match error {
        Error::DiskFull => false,
        Error::TopicFull { .. } => was_acknowledged || !may_be_full,
        _ => true,
    }
}
