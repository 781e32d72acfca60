//! A plain list is the model; whatever is done to both, with reopens and power cuts in between,
//! the log agrees with it.

use std::time::Duration;

use flowstone_disk::Clock;
use flowstone_format::Offset;
use flowstone_log::{Floor, Log, Retention};
use proptest::prelude::*;

use crate::harness::{Rig, append, publish, read_from, record};

#[derive(Clone, Debug)]
enum Step {
    Append { lens: Vec<usize>, ago_ms: i64 },
    Write,
    Publish,
    KeepFloor,
    Roll,
    Trim { percent: u64 },
    Truncate { batches: usize },
    RetainBytes { bytes: u64 },
    Reopen,
    Kill,
    PowerCut,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (prop::collection::vec(0..1800_usize, 1..5), -5000..5000_i64)
            .prop_map(|(lens, ago_ms)| Step::Append { lens, ago_ms }),
        2 => Just(Step::Write),
        6 => Just(Step::Publish),
        2 => Just(Step::KeepFloor),
        1 => Just(Step::Roll),
        1 => (0..=100_u64).prop_map(|percent| Step::Trim { percent }),
        1 => (0..3_usize).prop_map(|batches| Step::Truncate { batches }),
        1 => (0..60_000_u64).prop_map(|bytes| Step::RetainBytes { bytes }),
        2 => Just(Step::Reopen),
        1 => Just(Step::Kill),
        1 => Just(Step::PowerCut),
    ]
}

/// What the log should hold.
#[derive(Default)]
struct Model {
    start: u64,
    /// Timestamp and value by offset, from offset 0, also of what was trimmed.
    records: Vec<(i64, Vec<u8>)>,
    /// Where each batch ends.
    ends: Vec<u64>,
    visible: u64,
    next_value: u64,
}

impl Model {
    fn cut(&mut self, end: u64) {
        self.records.truncate(usize::try_from(end).unwrap());
        self.ends.retain(|&batch_end| batch_end <= end);
    }

    fn step(&mut self, rig: &Rig, log: &mut Log, floor: &Floor, step: &Step) {
        match step {
            Step::Append { lens, ago_ms } => {
                rig.clock.advance(Duration::from_millis(500));
                let ms = rig.clock.now_ms() - ago_ms;
                let mut batch = Vec::new();
                for len in lens {
                    self.next_value += 1;
                    let mut value = format!("{}-", self.next_value).into_bytes();
                    value.resize(value.len() + len, b'v');
                    batch.push(record(&value, ms));
                    self.records.push((ms, value));
                }
                let appended = append(log, &batch, rig.clock.now_ms()).unwrap();
                self.ends.push(self.records.len() as u64);
                assert_eq!(
                    appended.base_offset.get(),
                    self.records.len() as u64 - lens.len() as u64
                );
            }
            Step::Write => log.write().unwrap(),
            Step::Publish => {
                publish(log).unwrap();
                self.visible = self.records.len() as u64;
            }
            Step::KeepFloor => {
                if let Some(slot) = log.floor() {
                    floor.put(slot).unwrap();
                }
            }
            Step::Roll => log.roll().unwrap(),
            Step::Trim { percent } => {
                let before = self.start + (self.visible - self.start) * percent / 100;
                log.trim(Offset::new(before)).unwrap();
                self.start = before;
            }
            Step::Truncate { batches } => {
                let keep = self.ends.len().saturating_sub(*batches);
                let end = self.ends[..keep]
                    .last()
                    .copied()
                    .unwrap_or(0)
                    .max(self.visible);
                log.truncate(Offset::new(end)).unwrap();
                self.cut(end);
            }
            Step::RetainBytes { bytes } => {
                let retention = Retention {
                    max_age_ms: None,
                    max_bytes: Some(*bytes),
                    ..Retention::default()
                };
                log.retain(rig.clock.now_ms(), retention).unwrap();
                let start = log.log_start_offset().get();
                assert!(start >= self.start && start <= self.visible);
                self.start = start;
            }
            Step::Reopen | Step::Kill | Step::PowerCut => unreachable!("done by the caller"),
        }
    }

    /// After a crash the log may end anywhere between what was visible and what was tried, at a batch.
    fn after_crash(&mut self, log: &Log) {
        assert_eq!(log.damage(), None);
        let end = log.log_end_offset().get();
        assert!(end >= self.visible && end <= self.records.len() as u64);
        assert!(
            end == self.visible || self.ends.contains(&end),
            "batches are whole or not there"
        );
        self.cut(end);
        self.visible = end;
    }

    fn check(&self, log: &Log) {
        let reader = log.reader();
        assert_eq!(reader.log_start_offset().get(), self.start);
        assert_eq!(reader.high_watermark().get(), self.visible);
        assert_eq!(log.log_end_offset().get(), self.records.len() as u64);
        let found = read_from(&reader, Offset::new(self.start), 2000);
        let expected: Vec<_> = (self.start..self.visible)
            .map(|offset| {
                let (ms, value) = &self.records[usize::try_from(offset).unwrap()];
                (offset, *ms, value.clone())
            })
            .collect();
        assert_eq!(found, expected);
        for (_, ms, _) in expected.iter().step_by(3) {
            let lowest = expected
                .iter()
                .find(|(_, other, _)| other >= ms)
                .map(|found| found.0);
            assert_eq!(
                reader.offset_for_time(*ms).unwrap().map(Offset::get),
                lowest
            );
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, max_shrink_iters: 2000, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn the_log_agrees_with_a_plain_list(
        seed in any::<u64>(),
        steps in prop::collection::vec(step(), 1..60),
    ) {
        let rig = Rig::new(seed);
        let mut model = Model::default();
        let (mut log, mut floor) = rig.open().unwrap();
        for step in &steps {
            match step {
                Step::Reopen | Step::Kill | Step::PowerCut => {
                    drop(log);
                    match step {
                        Step::Kill => rig.disk.process_crash(),
                        Step::PowerCut => rig.disk.power_cut(),
                        _ => {}
                    }
                    (log, floor) = rig.open().unwrap();
                    model.after_crash(&log);
                }
                step => model.step(&rig, &mut log, &floor, step),
            }
            model.check(&log);
        }
    }
}
