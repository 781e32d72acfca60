//! The machine against a list of everything that was ever appended.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

/// One try to append, or a restart.
#[derive(Clone, Debug)]
enum Step {
    /// The `ahead`th sequence behind, or before, the highest one of a producer.
    Send {
        producer: usize,
        ahead: i64,
    },
    Other {
        producer: usize,
        ahead: i64,
    },
    Restart,
}

fn step() -> impl Strategy<Value = Step> {
    let ahead = prop_oneof![
        6 => 1..3_i64,
        3 => -20..20_i64,
        1 => -1100..200_i64,
    ];
    prop_oneof![
        200 => (0..2_usize, ahead.clone())
            .prop_map(|(producer, ahead)| Step::Send { producer, ahead }),
        20 => (0..2_usize, ahead)
            .prop_map(|(producer, ahead)| Step::Other { producer, ahead }),
        1 => Just(Step::Restart),
    ]
}

/// Base offset by sequence.
#[derive(Default)]
struct Model {
    appended: BTreeMap<i64, u64>,
}

impl Model {
    fn highest(&self) -> i64 {
        self.appended.keys().next_back().copied().unwrap_or(0)
    }

    /// The highest sequence that is not among the highest 1,024.
    fn dropped(&self) -> i64 {
        let behind = self.appended.keys().rev().nth(PRODUCER_WINDOW);
        behind.copied().unwrap_or(0)
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_machine_agrees_with_one_that_keeps_everything(
        steps in prop::collection::vec(step(), 1500..4000),
    ) {
        let mut machine = Machine::new(ProducerBudget::unlimited());
        let mut models = [Model::default(), Model::default()];
        for step in steps {
            let (number, ahead, crc) = match step {
                Step::Restart => {
                    machine.restart();
                    continue;
                }
                Step::Send { producer, ahead } => (producer, ahead, 1),
                Step::Other { producer, ahead } => (producer, ahead, 2),
            };
            let model = &mut models[number];
            let sequence = (model.highest() + ahead).max(1);
            let base = machine.next_offset;
            let mut request = Request::new(["a", "b"][number], sequence);
            request.crc = crc;
            let answer = machine.append(&request);
            let known = model.appended.get(&sequence).copied();
            let dropped = model.dropped();
            match answer {
                Ok(None) => {
                    prop_assert!(known.is_none() && sequence > dropped, "{sequence} again");
                    model.appended.insert(sequence, base * 10 + u64::from(crc));
                }
                Ok(Some(found)) => {
                    let stored = found.base_offset.get() * 10 + u64::from(found.client_crc);
                    prop_assert!(sequence > dropped);
                    prop_assert_eq!((known, found.client_crc), (Some(stored), crc));
                }
                Err(LogError::SequenceReused { .. }) => {
                    prop_assert!(sequence > dropped);
                    prop_assert!(known.is_some_and(|known| known % 10 != u64::from(crc)));
                }
                Err(LogError::SequenceTooOld { lowest_known, .. }) => {
                    prop_assert!(sequence <= dropped && lowest_known > dropped);
                }
                Err(error) => prop_assert!(false, "{error}"),
            }
            let id = ProducerId::of(["a", "b"][number]);
            let last = machine.state.last_sequence(id);
            prop_assert_eq!(last.unwrap_or(0), models[number].highest());
        }
        machine.check_budget();
    }

    /// However little room there is, nothing is appended twice, and a producer that sends in order
    /// goes on.
    #[test]
    fn a_full_budget_never_appends_twice(
        limit in 0..200_usize,
        steps in prop::collection::vec((0..12_usize, -6..4_i64, any::<bool>()), 1..3000),
    ) {
        let mut machine = Machine::new(ProducerBudget::new(limit));
        let mut appended: Vec<BTreeMap<i64, u64>> = vec![BTreeMap::new(); 12];
        for (number, ahead, again) in steps {
            let known = &mut appended[number];
            let highest = known.keys().next_back().copied().unwrap_or(0);
            let sequence = (highest + if again { ahead } else { 1 }).max(1);
            let base = machine.next_offset;
            match machine.append(&Request::new(&format!("p{number}"), sequence)) {
                Ok(None) => prop_assert_eq!(known.insert(sequence, base), None),
                Ok(Some(found)) => {
                    prop_assert_eq!(known.get(&sequence), Some(&found.base_offset.get()));
                }
                Err(LogError::SequenceTooOld { .. }) => {
                    prop_assert!(sequence <= highest - MIN_WINDOW as i64 || !known.contains_key(&sequence));
                }
                Err(LogError::TooManyProducers { .. }) => prop_assert!(known.is_empty()),
                Err(error) => prop_assert!(false, "{error}"),
            }
            prop_assert!(machine.state.budget.used() <= limit);
        }
        machine.check_budget();
        machine.restart();
        prop_assert!(machine.state.budget.used() <= limit);
    }

    /// A snapshot in the middle and the frames behind it tell what all frames tell.
    #[test]
    fn a_snapshot_and_the_rest_are_the_whole(
        sequences in prop::collection::vec((0..3_usize, 1..3000_i64), 1..2500),
        cut in any::<prop::sample::Index>(),
    ) {
        let cut = cut.index(sequences.len());
        let budget = Arc::new(ProducerBudget::unlimited());
        let mut whole = ProducerState::new(&budget);
        let mut parts = Machine::new(ProducerBudget::unlimited());
        for (number, (producer, sequence)) in sequences.into_iter().enumerate() {
            if number == cut {
                parts.next_offset = number as u64;
                parts.restart();
            }
            let request = Request::new(["a", "b", "c"][producer], sequence);
            let header = frame(&request, number as u64);
            whole.apply(&header);
            parts.state.apply(&header);
        }
        prop_assert_eq!(&whole.producers, &parts.state.producers);
    }
}
