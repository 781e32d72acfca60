//! Gathers the outcomes of a request's parts and answers the caller when the last one is there.

use std::sync::{Arc, Mutex};

use flowstone_log::Appended;
use tokio::sync::oneshot;

use crate::append::Done;
use crate::producers::Inside;
use crate::route::Routed;
use crate::{AppendedRun, Error, Permit, Produced};

type Answer = Result<Produced, Error>;

/// What a request holds until it is answered.
pub(crate) type Held = (Permit, Option<Inside>);

/// The answer to one produce request, as far as it is known.
#[derive(Debug)]
pub(crate) struct ProduceAnswer(Mutex<State>);

#[derive(Debug)]
struct State {
    /// Of each part: the partition, and what became of it.
    parts: Vec<(u32, Option<Result<Appended, Error>>)>,
    /// How many outcomes are missing.
    missing: usize,
    /// See [`Routed::order`].
    order: Vec<(u32, u32)>,
    /// Gone once it was answered.
    waiter: Option<(oneshot::Sender<Answer>, Held)>,
}

impl ProduceAnswer {
    /// Makes the answer to a routed request, which goes to `sender`.
    pub(crate) fn new(routed: &Routed, sender: oneshot::Sender<Answer>, held: Held) -> Arc<Self> {
        Arc::new(Self(Mutex::new(State {
            parts: routed
                .parts
                .iter()
                .map(|part| (part.partition, None))
                .collect(),
            missing: routed.parts.len(),
            order: routed.order.clone(),
            waiter: Some((sender, held)),
        })))
    }

    /// What a worker calls with the outcome of a part.
    pub(crate) fn part(self: &Arc<Self>, part: usize) -> Done {
        let answer = Arc::clone(self);
        Box::new(move |outcome| answer.take(part, outcome))
    }

    fn take(&self, part: usize, outcome: Result<Appended, Error>) {
        let mut state = self
            .0
            .lock()
            .expect("nothing panics with an answer in hand");
        state.parts[part].1 = Some(outcome);
        state.missing -= 1;
        if state.missing > 0 {
            return;
        }
        if let Some((sender, held)) = state.waiter.take() {
            let answer = state.sum_up();
            drop(state);
            drop(held);
            // A caller that has gone away hears nothing; its records are there all the same.
            let _ = sender.send(answer);
        }
    }
}

impl State {
    /// The runs in the order of the request, or the gravest of the errors.
    fn sum_up(&mut self) -> Answer {
        let mut next = Vec::with_capacity(self.parts.len());
        let mut gravest: Option<Error> = None;
        let mut duplicate = true;
        for (partition, outcome) in std::mem::take(&mut self.parts) {
            match outcome.expect("no outcome is missing") {
                Ok(appended) => {
                    duplicate &= appended.duplicate;
                    next.push((partition, appended.base_offset.get()));
                }
                Err(error) => {
                    let graver = matches!(error, Error::OutcomeUnknown { .. });
                    if graver || gravest.is_none() {
                        gravest = Some(error);
                    }
                }
            }
        }
        if let Some(error) = gravest {
            return Err(error);
        }
        let runs = self.order.iter().map(|&(part, record_count)| {
            let (partition, base_offset) = next[part as usize];
            next[part as usize].1 += u64::from(record_count);
            AppendedRun {
                partition,
                base_offset,
                record_count,
            }
        });
        Ok(Produced {
            runs: runs.collect(),
            duplicate,
        })
    }
}

#[cfg(test)]
mod tests {
    use flowstone_format::Offset;

    use super::*;
    use crate::route::Part;

    fn routed() -> Routed {
        let part = |partition| Part {
            partition,
            runs: Vec::new(),
            record_count: 0,
        };
        Routed {
            parts: vec![part(4), part(1)],
            order: vec![(0, 2), (1, 1), (0, 3)],
        }
    }

    fn appended(base_offset: u64, record_count: u32, duplicate: bool) -> Result<Appended, Error> {
        Ok(Appended {
            base_offset: Offset::new(base_offset),
            record_count,
            append_ms: 0,
            duplicate,
        })
    }

    fn answer() -> (Arc<ProduceAnswer>, oneshot::Receiver<Answer>) {
        let (sender, waiter) = oneshot::channel();
        let held = (Permit::unlimited(), None);
        (ProduceAnswer::new(&routed(), sender, held), waiter)
    }

    #[test]
    fn runs_come_in_the_order_of_the_request() {
        let (answer, mut waiter) = answer();
        answer.part(1)(appended(7, 1, true));
        assert!(waiter.try_recv().is_err(), "one part is still missing");
        answer.part(0)(appended(100, 5, false));
        let run = |partition, base_offset, record_count| AppendedRun {
            partition,
            base_offset,
            record_count,
        };
        assert_eq!(
            waiter.try_recv(),
            Ok(Ok(Produced {
                runs: vec![run(4, 100, 2), run(1, 7, 1), run(4, 102, 3)],
                duplicate: false,
            }))
        );
    }

    #[test]
    fn only_what_was_there_as_a_whole_is_a_duplicate() {
        let (answer, mut waiter) = answer();
        answer.part(0)(appended(100, 5, true));
        answer.part(1)(appended(7, 1, true));
        assert!(waiter.try_recv().unwrap().unwrap().duplicate);
    }

    #[test]
    fn an_unknown_outcome_outweighs_a_refusal() {
        let (answer, mut waiter) = answer();
        let unknown = Error::OutcomeUnknown {
            detail: "sync".to_owned(),
        };
        answer.part(0)(Err(Error::DiskFull));
        answer.part(1)(Err(unknown.clone()));
        assert_eq!(waiter.try_recv(), Ok(Err(unknown)));
    }
}
