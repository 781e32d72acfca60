//! One point: a copy of the machine crashes, perhaps again and again, and what it holds then is
//! checked.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use flowstone_broker::{Acks, Cursor, Overflow, ProduceRequest, TopicSpec};
use flowstone_disk::{Clock, ManualClock, SimDisk};
use flowstone_tests::Dice;

use crate::counts::Counts;
use crate::crash::{Crash, Way};
use crate::driven::{Driven, encode};
use crate::ledger::{Answer, Ledger};
use crate::producers::{Producers, wrong_refusal};
use crate::work::{GROUPS, places};

/// What a broker did not keep, and how it came to that.
#[derive(Clone, Debug)]
pub(crate) struct Violation {
    pub(crate) wrong: Vec<String>,
    pub(crate) story: Vec<String>,
}

/// A machine that crashes, apart from the life that it was copied from.
pub(crate) struct Point<'a> {
    disk: SimDisk,
    ledger: Ledger,
    now_ms: i64,
    dice: Dice,
    counts: &'a mut Counts,
    story: Vec<String>,
    depth: u64,
}

/// How a recovery ends.
#[derive(Clone, Copy, Debug)]
enum End {
    Crash(Crash),
    /// The call fails, and the process ends some time later.
    IoError,
}

impl<'a> Point<'a> {
    pub(crate) fn new(
        disk: SimDisk,
        ledger: Ledger,
        now_ms: i64,
        seed: u64,
        counts: &'a mut Counts,
    ) -> Self {
        Self {
            disk,
            ledger,
            now_ms,
            dice: Dice::new(seed),
            counts,
            story: Vec::new(),
            depth: 0,
        }
    }

    /// Crashes the machine and brings it up again.
    pub(crate) fn explore(mut self, way: Way) -> Result<(), Violation> {
        *self.counts.ways.entry(way).or_default() += 1;
        let outcome = catch_unwind(AssertUnwindSafe(|| self.crash_and_recover(way)));
        let wrong = match outcome {
            Ok(Ok(())) => {
                *self.counts.depths.entry(self.depth).or_default() += 1;
                return Ok(());
            }
            Ok(Err(wrong)) => wrong,
            Err(panic) => vec![format!("it panicked: {}", told(&*panic))],
        };
        Err(Violation {
            wrong,
            story: self.story,
        })
    }

    fn crash_and_recover(&mut self, way: Way) -> Result<(), Vec<String>> {
        if self.dice.once_in(2) {
            self.disk.set_capacity(u64::MAX);
        }
        self.crash(way.crash());
        self.cut_recoveries()?;
        if way.serves_between() {
            self.serve()?;
            self.crash(Crash::PowerCut);
            self.cut_recoveries()?;
        }
        self.disk.set_capacity(u64::MAX);
        self.serve()?;
        // One more time, what the recovered broker has made durable.
        if self.dice.once_in(8) {
            self.crash(Crash::any(&self.dice));
            self.serve()?;
        }
        self.disk.process_crash();
        Ok(())
    }

    fn crash(&mut self, crash: Crash) {
        self.story.push(format!("{crash:?}"));
        crash.happen(&self.disk);
        crash.note(&mut self.ledger);
    }

    fn cut_recoveries(&mut self) -> Result<(), Vec<String>> {
        let depth = match self.dice.pick(0..16) {
            0..9 => 0,
            9..12 => 1,
            12..14 => 2,
            14 => 3,
            _ => self.dice.pick(4..8),
        };
        for _ in 0..depth {
            self.depth += 1;
            self.cut_recovery()?;
        }
        Ok(())
    }

    fn clock(&mut self) -> ManualClock {
        self.now_ms += self.dice.pick(0..3_000) as i64;
        self.ledger.latest_ms = self.ledger.latest_ms.max(self.now_ms);
        ManualClock::new(self.now_ms)
    }

    /// A recovery that something comes upon at one of its I/O calls.
    fn cut_recovery(&mut self) -> Result<(), Vec<String>> {
        let crash = Crash::any(&self.dice);
        let end = match self.dice.once_in(4) {
            true => End::IoError,
            false => End::Crash(crash),
        };
        let call = self.dice.pick(1..self.ledger.open_ops.max(30) + 5);
        let (count, struck) = (AtomicU64::new(0), Arc::new(AtomicBool::new(false)));
        let (machine, is_struck) = (self.disk.clone(), Arc::clone(&struck));
        self.disk.set_hook(move |_| {
            if count.fetch_add(1, Ordering::Relaxed) + 1 != call {
                return None;
            }
            is_struck.store(true, Ordering::Relaxed);
            match end {
                End::Crash(crash) => {
                    crash.happen(&machine);
                    None
                }
                End::IoError => Some(std::io::Error::from_raw_os_error(5)),
            }
        });
        let clock = self.clock();
        let opened = Driven::open(&self.disk, &clock, self.dice.pick(0..u64::MAX));
        self.disk.clear_faults();
        match (struck.load(Ordering::Relaxed), end) {
            (false, _) => {
                let driven = opened.map_err(does_not_open)?;
                self.story
                    .push(format!("a recovery of fewer than {call} I/O calls"));
                self.hold(&driven, &clock)?;
                self.crash(crash);
                drop(driven);
            }
            (true, End::Crash(_)) => {
                self.counts.cut_short += 1;
                self.story
                    .push(format!("{crash:?} at I/O call {call} of a recovery"));
                crash.note(&mut self.ledger);
                drop(opened);
            }
            (true, End::IoError) => {
                self.counts.failed += 1;
                self.story
                    .push(format!("I/O call {call} of a recovery fails"));
                if let Ok(driven) = opened {
                    let wrong = match driven.observe(true) {
                        Ok(observed) => self.ledger.glance(&observed),
                        Err(wrong) => vec![wrong],
                    };
                    if !wrong.is_empty() {
                        return Err(wrong);
                    }
                    self.crash(crash);
                } else {
                    self.crash(crash);
                }
            }
        }
        Ok(())
    }

    /// A recovery that comes to its end; what it holds is checked, and the broker works on.
    fn serve(&mut self) -> Result<(), Vec<String>> {
        let clock = self.clock();
        self.story.push("a whole recovery".to_owned());
        let seed = self.dice.pick(0..u64::MAX);
        let driven = Driven::open(&self.disk, &clock, seed).map_err(does_not_open)?;
        self.hold(&driven, &clock)?;
        if self.dice.once_in(4) {
            clock.advance(Duration::from_millis(self.dice.pick(0..5_000)));
            self.note_time(&clock);
            driven.broker.run_retention();
        }
        self.work(&driven, &clock)?;
        if self.dice.once_in(2) {
            clock.advance(Duration::from_millis(200));
            driven.drain();
        }
        if self.dice.once_in(8) {
            self.hold(&driven, &clock)?;
        }
        self.note_time(&clock);
        // Nobody is there any more when the broker is dropped.
        self.disk.process_crash();
        drop(driven);
        Ok(())
    }

    fn note_time(&mut self, clock: &ManualClock) {
        self.now_ms = clock.now_ms();
        self.ledger.latest_ms = self.ledger.latest_ms.max(self.now_ms);
    }

    fn hold(&mut self, driven: &Driven, clock: &ManualClock) -> Result<(), Vec<String>> {
        self.counts.checked += 1;
        self.note_time(clock);
        let observed = driven.observe(false).map_err(|wrong| vec![wrong])?;
        let wrong = self.ledger.hold(&observed);
        if wrong.is_empty() { Ok(()) } else { Err(wrong) }
    }

    /// The broker takes records and commits again.
    fn work(&mut self, driven: &Driven, clock: &ManualClock) -> Result<(), Vec<String>> {
        if self.ledger.topics.is_empty() {
            self.create(driven)?;
        }
        let topics = self.ledger.topics.values();
        let names: Vec<_> = topics
            .map(|topic| (topic.spec.name.clone(), topic.spec.partition_count))
            .collect();
        if names.is_empty() {
            return Ok(());
        }
        for _ in 0..self.dice.pick(1..3) {
            let (name, partitions) = &names[self.dice.pick(0..names.len() as u64) as usize];
            let partition = self.dice.pick(0..u64::from(*partitions)) as u32;
            let lens: Vec<usize> = (0..self.dice.pick(1..3))
                .map(|_| self.dice.pick(0..500) as usize)
                .collect();
            let sent = self
                .ledger
                .send(name, &lens, |_| None, clock.now_ms())
                .expect("the topic is known");
            let acks = match self.dice.once_in(4) {
                true => Acks::Written,
                false => Acks::Durable,
            };
            let request = ProduceRequest {
                topic: name.clone(),
                partition: Some(partition),
                acks: Some(acks),
                records: encode(&sent.records),
                ..ProduceRequest::default()
            };
            let full = |error| {
                vec![format!(
                    "{name}, partition {partition} takes nothing: {error}"
                )]
            };
            let produced = driven.wait(driven.broker.produce(request));
            let may_be_full = self.ledger.topics[name].spec.overflow == Overflow::Reject;
            let is_full = matches!(&produced, Err(flowstone_broker::Error::TopicFull { .. }));
            if produced == Err(flowstone_broker::Error::DiskFull) || (may_be_full && is_full) {
                self.ledger.answer(&sent, Answer::Refused);
                continue;
            }
            let places = places(&produced.map_err(full)?.runs);
            let answer = match acks {
                Acks::Written => Answer::Written(places),
                Acks::Durable => Answer::Acknowledged(places),
            };
            self.counts.acknowledged_behind += self.ledger.answer(&sent, answer);
        }
        if self.dice.once_in(2) {
            self.commit(driven, &names)?;
        }
        if self.dice.once_in(2) {
            self.repeat(driven, &names)?;
        }
        Ok(())
    }

    /// What was sent before the crash is sent again, whatever became of it.
    fn repeat(&mut self, driven: &Driven, names: &[(String, u32)]) -> Result<(), Vec<String>> {
        let (name, _) = &names[self.dice.pick(0..names.len() as u64) as usize];
        let mut opened = false;
        for _ in 0..self.dice.pick(1..5) {
            let topic = &self.ledger.topics[name];
            let may_be_full = topic.spec.overflow == Overflow::Reject;
            let Some(request) = topic.producers.any(&self.dice) else {
                return Ok(());
            };
            // Which epoch counts is not known for sure behind a crash.
            if request.is_named() && !std::mem::replace(&mut opened, true) {
                let opening = driven.wait(driven.broker.open_producer(name, Producers::named()));
                match opening {
                    Ok(opening) => {
                        let topic = self.ledger.topics.get_mut(name).expect("it is there");
                        if let Some(wrong) = topic.producers.opened(opening) {
                            return Err(vec![format!("{name}: {wrong}")]);
                        }
                    }
                    Err(flowstone_broker::Error::DiskFull) => return Ok(()),
                    Err(error) => return Err(vec![format!("a producer is not opened: {error}")]),
                }
            }
            let was_acknowledged = self.ledger.is_acknowledged(&request.sent);
            self.ledger.repeating(&request.sent);
            let to_broker = request.to_broker(&self.ledger, Some(Acks::Durable));
            match driven.wait(driven.broker.produce(to_broker)) {
                Ok(produced) if was_acknowledged && !produced.duplicate => {
                    return Err(vec![format!("{request:?} is appended twice: {produced:?}")]);
                }
                Ok(produced) => {
                    self.counts.repeated_behind += 1;
                    let places = places(&produced.runs);
                    self.ledger.acknowledged(&request, &places, Acks::Durable);
                }
                Err(error) if wrong_refusal(&error, was_acknowledged, may_be_full) => {
                    return Err(vec![format!("{request:?} cannot be repeated: {error}")]);
                }
                Err(_) => {}
            }
        }
        Ok(())
    }

    fn create(&mut self, driven: &Driven) -> Result<(), Vec<String>> {
        let spec = TopicSpec::new("topic-0", 2);
        self.ledger.creating(&spec);
        let made = driven.wait(driven.broker.create_topic(spec, false));
        self.ledger.changed("topic-0", made.is_ok());
        match made {
            Ok(_) | Err(flowstone_broker::Error::DiskFull) => Ok(()),
            Err(error) => Err(vec![format!("no topic can be made: {error}")]),
        }
    }

    fn commit(&mut self, driven: &Driven, names: &[(String, u32)]) -> Result<(), Vec<String>> {
        let (name, partitions) = &names[self.dice.pick(0..names.len() as u64) as usize];
        let partition = self.dice.pick(0..u64::from(*partitions)) as u32;
        let described = driven.broker.describe_topic(name);
        let (_, infos) = described.map_err(|error| vec![error.to_string()])?;
        let offset = self
            .dice
            .pick(0..infos[partition as usize].high_watermark + 1);
        let group = GROUPS[self.dice.pick(0..GROUPS.len() as u64) as usize];
        let number = self.ledger.topics[name].number;
        let history = self.ledger.history(name, number).expect("it is known");
        history.committing(group, partition as i32, offset as i64);
        let cursor = Cursor {
            group: group.to_owned(),
            topic: name.clone(),
            partition,
            offset,
            ..Cursor::default()
        };
        match driven.wait(driven.broker.commit_offsets(vec![cursor], Vec::new())) {
            Ok(_) => history.commit_answered(group, partition as i32, offset as i64),
            Err(flowstone_broker::Error::DiskFull) => {}
            Err(error) => return Err(vec![format!("a commit is refused: {error}")]),
        }
        Ok(())
    }
}

fn does_not_open(error: flowstone_broker::Error) -> Vec<String> {
    vec![format!("the broker does not open: {error}")]
}

/// What a panic says.
pub(crate) fn told(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().cloned();
    text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()))
        .unwrap_or_else(|| "without a word".to_owned())
}
