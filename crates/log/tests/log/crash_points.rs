//! A crash at every single operation of a whole life: nothing acknowledged is lost, nothing is invented.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use flowstone_disk::Clock;
use flowstone_format::Offset;
use flowstone_log::{Floor, Log, LogError, ReadError, Retention};

use crate::harness::{Rig, append, record, try_read_from};

/// What the outside knows: what was tried, what was acknowledged, what was trimmed.
#[derive(Default)]
struct History {
    /// Value by the offset that an append was given; a later try may have given it to another.
    tried: BTreeMap<u64, Vec<Vec<u8>>>,
    /// Value by offset, of all that was made visible.
    acknowledged: BTreeMap<u64, Vec<u8>>,
    trimmed_below: u64,
    next_value: u64,
}

impl History {
    fn value(&mut self, len: usize) -> Vec<u8> {
        self.next_value += 1;
        let mut value = format!("{}-", self.next_value).into_bytes();
        value.resize(len.max(value.len()), b'v');
        value
    }

    /// Appends one batch of `count` records of about `len` bytes; staged only.
    fn append(
        &mut self,
        rig: &Rig,
        log: &mut Log,
        count: usize,
        len: usize,
    ) -> Result<(), LogError> {
        let values: Vec<_> = (0..count).map(|_| self.value(len)).collect();
        let records: Vec<_> = values.iter().map(|value| record(value, 0)).collect();
        let base = append(log, &records, rig.clock.now_ms())?.base_offset.get();
        for (offset, value) in (base..).zip(values) {
            self.tried.entry(offset).or_default().push(value);
        }
        Ok(())
    }

    fn publish(&mut self, log: &mut Log) -> Result<(), LogError> {
        let durable = log.sync()?.offset.get();
        log.set_high_watermark(Offset::new(durable));
        for (&offset, values) in self.tried.range(..durable) {
            let newest = values.last().expect("tried at least once");
            self.acknowledged
                .entry(offset)
                .or_insert_with(|| newest.clone());
        }
        Ok(())
    }

    /// One life of a process, from its start to its end or its first error.
    fn live(&mut self, rig: &Rig) -> Result<(), LogError> {
        let (mut log, floor) = rig.open()?;
        self.check(&log)?;
        for round in 0..6_usize {
            rig.clock.advance(std::time::Duration::from_secs(1));
            self.append(rig, &mut log, 1 + round % 3, 700)?;
            self.append(rig, &mut log, 2, 40)?;
            self.publish(&mut log)?;
            self.keep_floor(&log, &floor, round % 3 == 2)?;
            self.append(rig, &mut log, 1, 2500)?;
            if round % 2 == 0 {
                // Written and never acknowledged: may survive or not.
                log.write()?;
            }
            match round {
                1 => log.roll()?,
                3 => {
                    self.publish(&mut log)?;
                    let before = log.reader().high_watermark().get() / 2;
                    // What a trim was asked for may be gone, whether it answered or not.
                    self.trimmed_below = self.trimmed_below.max(before);
                    log.trim(Offset::new(before))?;
                }
                4 => {
                    let watermark = log.reader().high_watermark();
                    self.forget_from(watermark.get());
                    log.truncate(watermark)?;
                }
                5 => {
                    let retention = Retention {
                        max_age_ms: None,
                        max_bytes: Some(20_000),
                        ..Retention::default()
                    };
                    self.trimmed_below = self.trimmed_below.max(log.log_start_offset().get());
                    let start = log.reader();
                    log.retain(rig.clock.now_ms(), retention)?;
                    self.trimmed_below = self.trimmed_below.max(start.log_start_offset().get());
                }
                _ => {}
            }
        }
        self.publish(&mut log)?;
        self.keep_floor(&log, &floor, true)
    }

    fn keep_floor(&mut self, log: &Log, floor: &Floor, sync: bool) -> Result<(), LogError> {
        if let Some(slot) = log.floor() {
            floor.put(slot)?;
        }
        if sync { floor.sync() } else { Ok(()) }
    }

    fn forget_from(&mut self, offset: u64) {
        // The truncated values may still be tried again by a crash before the seal; they stay in
        // `tried`, and only what was acknowledged counts as lost.
        assert!(self.acknowledged.range(offset..).next().is_none());
    }

    /// Holds what the log serves against the history.
    fn check(&mut self, log: &Log) -> Result<(), LogError> {
        assert_eq!(log.damage(), None, "a crash is never damage");
        let reader = log.reader();
        let start = reader.log_start_offset().get();
        let end = reader.high_watermark().get();
        assert!(
            end >= self
                .acknowledged
                .keys()
                .next_back()
                .map_or(0, |last| last + 1)
        );
        let found = match try_read_from(&reader, Offset::new(start), 3000) {
            Ok(found) => found,
            Err(ReadError::Corrupt(damage)) => return Err(damage.into()),
            Err(ReadError::Io {
                operation,
                path,
                source,
            }) => {
                return Err(LogError::Io {
                    operation,
                    path,
                    source,
                });
            }
            Err(error) => panic!("{error}"),
        };
        // The machine went down while it was read, which nothing can tell from a broken medium.
        if let Some(damage) = reader.damage() {
            return Err(damage.into());
        }
        let offsets: Vec<_> = found.iter().map(|(offset, ..)| *offset).collect();
        assert_eq!(
            offsets,
            (start..end).collect::<Vec<_>>(),
            "offsets have no gaps"
        );
        for (offset, _, value) in found {
            match self.acknowledged.get(&offset) {
                Some(acknowledged) => assert_eq!(&value, acknowledged, "offset {offset}"),
                None => {
                    let tried = &self.tried[&offset];
                    assert!(
                        tried.contains(&value),
                        "offset {offset} serves what nobody wrote"
                    );
                    // It was recovered, synced and shown: from now on it may not vanish.
                    self.acknowledged.insert(offset, value);
                }
            }
        }
        let retained_from = self.retention_limit();
        assert!(
            start <= self.trimmed_below.max(retained_from),
            "records from {} on are gone, and only those below {} may be",
            start,
            self.trimmed_below
        );
        Ok(())
    }

    /// Retention by size may have dropped whole segments that held records of this life; it leaves
    /// 20,000 bytes, which are more than the last five large records.
    fn retention_limit(&self) -> u64 {
        let acknowledged = self
            .acknowledged
            .keys()
            .next_back()
            .map_or(0, |last| last + 1);
        acknowledged.saturating_sub(5)
    }
}

/// What ends a life early.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Crash {
    PowerCut,
    ProcessDies,
}

/// Crashes at the `nth` operation from now on; false when there were fewer.
pub(crate) fn crash_at(
    rig: &Rig,
    nth: u64,
    crash: Crash,
    life: impl FnOnce() -> Result<(), LogError>,
) -> bool {
    let left = Arc::new(AtomicU64::new(nth));
    let (disk, counter) = (rig.disk.clone(), Arc::clone(&left));
    rig.disk.set_hook(move |_| {
        if counter.fetch_sub(1, Ordering::SeqCst) == 1 {
            match crash {
                Crash::PowerCut => disk.power_cut(),
                Crash::ProcessDies => disk.process_crash(),
            }
        }
        None
    });
    let result = life();
    rig.disk.clear_faults();
    let crashed = left.load(Ordering::SeqCst) == 0 || left.load(Ordering::SeqCst) > nth;
    assert_eq!(
        result.is_err(),
        crashed,
        "only a crash ends a life early: {result:?}"
    );
    crashed
}

fn sweep(seed: u64, crash: Crash, step: u64) -> u64 {
    let mut points = 0;
    let mut nth = 1 + seed % step;
    loop {
        let rig = Rig::new(seed ^ (nth << 16));
        let mut history = History::default();
        // A life before, so that recovery of an older file is among what is cut short.
        history.live(&rig).expect("nothing disturbs the first life");
        let crashed = crash_at(&rig, nth, crash, || history.live(&rig));
        if !crashed {
            return points;
        }
        points += 1;
        // A second crash in the middle of the recovery, then a third of the other kind.
        crash_at(&rig, 1 + (nth * 7 + seed) % 23, crash, || {
            history.live(&rig)
        });
        let other = match crash {
            Crash::PowerCut => Crash::ProcessDies,
            Crash::ProcessDies => Crash::PowerCut,
        };
        crash_at(&rig, 1 + (nth * 13 + seed) % 41, other, || {
            history.live(&rig)
        });
        let log = rig.open_log();
        history.check(&log).unwrap();
        drop(log);
        history
            .live(&rig)
            .expect("the log goes on after its crashes");
        rig.disk.power_cut();
        history.check(&rig.open_log()).unwrap();
        nth += step;
    }
}

#[test]
fn a_power_cut_at_every_operation_loses_nothing_acknowledged() {
    let points: u64 = (0..4).map(|seed| sweep(seed, Crash::PowerCut, 1)).sum();
    assert!(points > 400, "only {points} points");
}

#[test]
fn a_kill_at_every_operation_loses_nothing_acknowledged() {
    let points: u64 = (0..2).map(|seed| sweep(seed, Crash::ProcessDies, 1)).sum();
    assert!(points > 200, "only {points} points");
}
