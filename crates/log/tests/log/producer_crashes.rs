//! A crash at every single operation of producers that repeat what they cannot tell the fate of: each
//! request is there once, and what was acknowledged is a duplicate for ever.

use std::collections::BTreeMap;
use std::time::Duration;

use flowstone_disk::Clock;
use flowstone_format::{Offset, ProducerId, RecordLimits};
use flowstone_log::{Appended, Batch, Log, LogError, ProducerBatch, Retention};

use crate::crash_points::{Crash, crash_at};
use crate::harness::{Rig, publish, record, try_read_from};

const PRODUCERS: [&str; 3] = ["a", "b", "c"];

/// Longer than any story here, and kept by the clock of the rig.
const RETENTION_MS: i64 = 1_000_000;

/// What the producers know.
#[derive(Default)]
struct History {
    /// The next sequence of each producer.
    next: [i64; 3],
    /// Requests whose fate nobody knows: they are repeated until it is.
    open: Vec<(usize, i64)>,
    /// Where each acknowledged request went.
    acknowledged: BTreeMap<(usize, i64), u64>,
    log_start: u64,
}

/// A request says who sent it, so that it is known again when it is read. Some are large.
fn value(producer: usize, sequence: i64) -> Vec<u8> {
    let mut value = format!("{}:{sequence}:", PRODUCERS[producer]).into_bytes();
    value.resize(if sequence % 3 == 0 { 1900 } else { 300 }, b'v');
    value
}

fn send(rig: &Rig, log: &mut Log, producer: usize, sequence: i64) -> Result<Appended, LogError> {
    let request = record(&value(producer, sequence), 0);
    let whole = 0..request.len();
    log.append(&Batch {
        request: &request,
        runs: std::slice::from_ref(&whole),
        record_count: 1,
        append_ms: rig.clock.now_ms(),
        routing_count: 1,
        limits: &RecordLimits::default(),
        producer: Some(ProducerBatch {
            id: ProducerId::of(PRODUCERS[producer]),
            epoch: 0,
            sequence,
        }),
        expected_offset: None,
    })
}

impl History {
    /// Sends what is open, in any order, and acknowledges it after the sync.
    fn settle(&mut self, rig: &Rig, log: &mut Log) -> Result<(), LogError> {
        let mut sent = Vec::new();
        for &(producer, sequence) in self.open.iter().rev() {
            let appended = send(rig, log, producer, sequence)?;
            sent.push(((producer, sequence), appended.base_offset.get()));
        }
        publish(log)?;
        for (request, offset) in sent {
            self.acknowledge(request, offset);
        }
        self.open.clear();
        Ok(())
    }

    fn acknowledge(&mut self, request: (usize, i64), offset: u64) {
        let before = self.acknowledged.insert(request, offset);
        assert!(
            before.is_none_or(|before| before == offset),
            "{request:?} moved"
        );
    }

    fn draw(&mut self, producer: usize) {
        self.next[producer] += 1;
        self.open.push((producer, self.next[producer]));
    }

    /// One life of a process, from its start to its end or its first error.
    fn live(&mut self, rig: &Rig) -> Result<(), LogError> {
        let (mut log, floor) = rig.open()?;
        self.check(rig, &mut log)?;
        for round in 0..6_usize {
            rig.clock.advance(Duration::from_secs(1));
            for producer in 0..=round % 3 {
                self.draw(producer);
            }
            self.settle(rig, &mut log)?;
            if let Some(slot) = log.floor() {
                floor.put(slot)?;
            }
            self.draw(round % 3);
            self.draw(2);
            for &(producer, sequence) in &self.open {
                send(rig, &mut log, producer, sequence)?;
            }
            if round % 2 == 0 {
                // Written, and neither synced nor acknowledged.
                log.write()?;
            }
            match round {
                1 | 4 => log.roll()?,
                2 => {
                    // A failed write, and what recovery makes of it.
                    log.reopen(log.floor())?;
                }
                3 => {
                    self.settle(rig, &mut log)?;
                    let before = log.reader().high_watermark().get() * 2 / 3;
                    self.log_start = self.log_start.max(before);
                    log.trim(Offset::new(before))?;
                }
                5 => {
                    self.settle(rig, &mut log)?;
                    let start = log.reader();
                    self.log_start = u64::MAX;
                    let retention = Retention {
                        max_age_ms: None,
                        max_bytes: Some(9_000),
                        ..Retention::default()
                    };
                    log.retain(rig.clock.now_ms(), retention)?;
                    self.log_start = start.log_start_offset().get();
                }
                _ => {}
            }
            log.expire_producers(rig.clock.now_ms(), RETENTION_MS);
        }
        self.settle(rig, &mut log)?;
        floor.sync()
    }

    /// Nothing is there twice, and whatever was acknowledged, also if it was dropped since, is known.
    fn check(&mut self, rig: &Rig, log: &mut Log) -> Result<(), LogError> {
        assert_eq!(log.damage(), None, "a crash is never damage");
        let reader = log.reader();
        let Ok(found) = try_read_from(&reader, reader.log_start_offset(), 5000) else {
            return Err(log.sync().err().unwrap_or_else(machine_is_down));
        };
        if let Some(damage) = reader.damage() {
            return Err(damage.into());
        }
        let mut seen = BTreeMap::new();
        for (offset, _, value) in found {
            let text = String::from_utf8_lossy(&value);
            let mut parts = text.split(':');
            let name = parts.next().unwrap();
            let producer = PRODUCERS.iter().position(|one| *one == name).unwrap();
            let request = (producer, parts.next().unwrap().parse::<i64>().unwrap());
            assert_eq!(
                seen.insert(request, offset),
                None,
                "{request:?} is there twice"
            );
            let acknowledged = self.acknowledged.get(&request);
            assert!(
                acknowledged.is_none_or(|at| *at == offset),
                "{request:?} moved"
            );
        }
        let end = log.log_end_offset();
        for (&(producer, sequence), &offset) in &self.acknowledged {
            let again = match send(rig, log, producer, sequence) {
                Ok(again) => again,
                // A dead machine's files could not be read.
                Err(LogError::ProducersUnknown { .. }) => {
                    return Err(log.roll().err().unwrap_or_else(machine_is_down));
                }
                Err(error) => return Err(error),
            };
            assert!(
                again.duplicate,
                "{sequence} of {producer} is appended twice"
            );
            assert_eq!(again.base_offset.get(), offset);
            let dropped = offset < self.log_start;
            assert!(
                dropped || seen.contains_key(&(producer, sequence)),
                "it is lost"
            );
        }
        assert_eq!(log.log_end_offset(), end);
        Ok(())
    }
}

fn machine_is_down() -> LogError {
    LogError::Io {
        operation: "read",
        path: "/".into(),
        source: std::io::Error::other("the machine is down"),
    }
}

fn sweep(seed: u64, crash: Crash) -> u64 {
    let mut points = 0;
    for nth in 1.. {
        let rig = Rig::new(seed ^ (nth << 16));
        let mut history = History::default();
        history.live(&rig).expect("nothing disturbs the first life");
        if !crash_at(&rig, nth, crash, || history.live(&rig)) {
            break;
        }
        points += 1;
        // Once more, in the middle of the recovery.
        crash_at(&rig, 1 + (nth * 7 + seed) % 31, crash, || {
            history.live(&rig)
        });
        let mut log = rig.open_log();
        history.check(&rig, &mut log).unwrap();
        drop(log);
        history
            .live(&rig)
            .expect("the log goes on after its crashes");
        rig.disk.power_cut();
        history.check(&rig, &mut rig.open_log()).unwrap();
    }
    points
}

#[test]
fn a_power_cut_at_every_operation_leaves_every_request_there_once() {
    let points: u64 = (0..2).map(|seed| sweep(seed, Crash::PowerCut)).sum();
    assert!(points > 200, "only {points} points");
}

#[test]
fn a_kill_at_every_operation_leaves_every_request_there_once() {
    let points = sweep(5, Crash::ProcessDies);
    assert!(points > 100, "only {points} points");
}
