//! Crashes at random moments, again and again, against a history of what was acknowledged.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use flowstone_broker::{AppendedRun, Cursor, Error, ProduceRequest, Start};
use flowstone_disk::{Random, SeededRandom};

use crate::harness::{Driven, Machine, at, decode, values};

const SEEDS: u64 = 300;
const LIVES: u64 = 4;
const PARTITIONS: u32 = 2;

/// What one partition was told and has told.
#[derive(Default)]
struct Partition {
    /// Values whose append was acknowledged, by offset.
    acknowledged: BTreeMap<u64, String>,
    /// Values that may be there or not.
    unknown: BTreeSet<String>,
    /// What was ever read, by offset.
    seen: BTreeMap<u64, String>,
    /// The greatest log start that was acknowledged, and the greatest asked for.
    trimmed: (u64, u64),
    /// The greatest commit that was acknowledged, and the greatest asked for.
    committed: (u64, u64),
}

/// What all calls of all lives have said.
#[derive(Default)]
struct History {
    partitions: BTreeMap<(String, u32), Partition>,
    /// Topics that are there, and those that may be.
    topics: BTreeSet<String>,
    maybe_topics: BTreeSet<String>,
    next_value: u64,
    next_topic: u64,
}

struct Life<'a> {
    broker: &'a Driven,
    random: &'a SeededRandom,
    history: &'a mut History,
}

impl Life<'_> {
    fn below(&self, bound: u64) -> u64 {
        self.random.u64() % bound
    }

    fn any_partition(&self) -> (String, u32) {
        let topics: Vec<_> = self.history.topics.iter().collect();
        let topic = topics[self.below(topics.len() as u64) as usize].clone();
        (topic, self.below(u64::from(PARTITIONS)) as u32)
    }

    fn step(&mut self) {
        match self.below(20) {
            0 => self.create_topic(),
            1 => self.delete_topic(),
            2 => self.trim(),
            3..6 => self.commit(),
            6 => self.let_time_pass(),
            _ => self.produce(),
        }
    }

    fn create_topic(&mut self) {
        let name = format!("topic {}", self.history.next_topic).replace(' ', "-");
        self.history.next_topic += 1;
        let spec = flowstone_broker::TopicSpec::new(name.clone(), PARTITIONS);
        match self
            .broker
            .wait(self.broker.broker.create_topic(spec, false))
        {
            Ok(_) => self.history.topics.insert(name),
            Err(_) => self.history.maybe_topics.insert(name),
        };
    }

    fn delete_topic(&mut self) {
        if self.history.topics.len() < 3 {
            return;
        }
        let (name, _) = self.any_partition();
        self.history.topics.remove(&name);
        if self
            .broker
            .wait(self.broker.broker.delete_topic(&name))
            .is_err()
        {
            self.history.maybe_topics.insert(name);
        }
    }

    fn trim(&mut self) {
        let (topic, partition) = self.any_partition();
        let end = self.end_of(&topic, partition);
        let before = self.below(end + 1);
        let trim = self.broker.broker.trim_partition(&topic, partition, before);
        let outcome = self.broker.wait(trim);
        let trimmed = &mut self.partition(&topic, partition).trimmed;
        trimmed.1 = before.max(trimmed.1);
        if outcome.is_ok() {
            trimmed.0 = before.max(trimmed.0);
        }
    }

    fn commit(&mut self) {
        let (topic, partition) = self.any_partition();
        let end = self.end_of(&topic, partition);
        let offset = self.below(end + 1);
        let cursor = Cursor {
            group: "billing".to_owned(),
            ..at(&topic, partition, offset)
        };
        let outcome = self.broker.commit(&[cursor]);
        let committed = &mut self.partition(&topic, partition).committed;
        committed.1 = offset.max(committed.1);
        if outcome.is_ok() {
            committed.0 = offset.max(committed.0);
        }
    }

    fn let_time_pass(&mut self) {
        while self.broker.broker.run_pending() {}
    }

    /// Submits a few requests that wait together, and then waits for each.
    fn produce(&mut self) {
        let mut waiting = Vec::new();
        for _ in 0..=self.below(4) {
            let (topic, partition) = self.any_partition();
            let first = self.history.next_value;
            self.history.next_value += 1 + self.below(5);
            let padding = "x".repeat(self.below(600) as usize);
            let texts: Vec<String> = (first..self.history.next_value)
                .map(|n| format!("{n} {padding}"))
                .collect();
            self.partition(&topic, partition)
                .unknown
                .extend(texts.iter().cloned());
            let request = ProduceRequest {
                topic: topic.clone(),
                partition: Some(partition),
                records: values(&texts),
                acks: None,
            };
            let Ok(permit) = self
                .broker
                .wait(self.broker.broker.admit(request.records.len()))
            else {
                continue;
            };
            if let Ok(pending) = self.broker.broker.submit(request, permit) {
                waiting.push((topic, partition, texts, pending));
            }
        }
        for (topic, partition, texts, pending) in waiting {
            if let Ok(runs) = self.broker.wait(pending) {
                self.acknowledge(&topic, partition, texts, &runs);
            }
        }
    }

    fn acknowledge(
        &mut self,
        topic: &str,
        partition: u32,
        texts: Vec<String>,
        runs: &[AppendedRun],
    ) {
        assert_eq!(runs.len(), 1);
        assert_eq!(runs[0].record_count as usize, texts.len());
        let known = self.partition(topic, partition);
        for (offset, text) in (runs[0].base_offset..).zip(texts) {
            known.unknown.remove(&text);
            assert_eq!(
                known.acknowledged.insert(offset, text),
                None,
                "an offset given twice"
            );
        }
    }

    fn partition(&mut self, topic: &str, partition: u32) -> &mut Partition {
        self.history
            .partitions
            .entry((topic.to_owned(), partition))
            .or_default()
    }

    fn end_of(&self, topic: &str, partition: u32) -> u64 {
        match self.broker.broker.describe_topic(topic) {
            Ok((_, partitions)) => partitions[partition as usize].high_watermark,
            Err(_) => 0,
        }
    }

    /// Holds what is there against what was said.
    fn check(&mut self) {
        let listed = self.broker.broker.list_topics("", None, usize::MAX);
        let there: BTreeSet<String> = listed.into_iter().map(|topic| topic.spec.name).collect();
        for topic in &self.history.topics {
            assert!(there.contains(topic), "{topic} was made and never deleted");
        }
        for topic in &there {
            let known = &self.history;
            let may = known.topics.contains(topic) || known.maybe_topics.contains(topic);
            assert!(may, "{topic} was deleted or never made");
        }
        // What was unknown is known now.
        self.history.maybe_topics.clear();
        self.history.topics = there;
        let committed = self.committed();
        for topic in self.history.topics.clone() {
            for partition in 0..PARTITIONS {
                let committed = committed.get(&(topic.clone(), partition)).copied();
                self.check_partition(&topic, partition, committed.unwrap_or(0));
            }
        }
    }

    fn committed(&self) -> BTreeMap<(String, u32), u64> {
        match self
            .broker
            .wait(self.broker.broker.describe_group("billing"))
        {
            Ok(group) => group
                .offsets
                .into_iter()
                .map(|at| ((at.topic, at.partition), at.committed_offset))
                .collect(),
            Err(Error::GroupNotFound { .. }) => BTreeMap::new(),
            Err(error) => panic!("the group cannot be described: {error}"),
        }
    }

    fn check_partition(&mut self, topic: &str, partition: u32, committed: u64) {
        let (start, read) = read_all(self.broker, topic, partition);
        let known = self.partition(topic, partition);
        let (least, most) = known.trimmed;
        assert!(
            (least..=most).contains(&start),
            "the log start {start} was not asked for"
        );
        let (least, most) = known.committed;
        assert!(
            (least..=most).contains(&committed),
            "{committed} was not committed"
        );
        for (offset, text) in &known.acknowledged {
            if *offset >= start {
                assert_eq!(
                    read.get(offset),
                    Some(text),
                    "acknowledged at offset {offset}"
                );
            }
        }
        let mut once = BTreeSet::new();
        for (offset, text) in &read {
            let before = known.seen.get(offset).or(known.acknowledged.get(offset));
            match before {
                Some(before) => assert_eq!(text, before, "offset {offset} has changed"),
                None => assert!(known.unknown.remove(text), "{text} was never sent there"),
            }
            assert!(once.insert(text), "{text} is there twice");
        }
        known.trimmed = (start, start);
        known.committed = (committed, committed);
        known.seen.extend(read);
        // What is not there by now never will be.
        known.unknown.clear();
    }
}

/// The log start, and all values by offset, without gaps.
fn read_all(broker: &Driven, topic: &str, partition: u32) -> (u64, BTreeMap<u64, String>) {
    let mut next = None;
    let (mut first, mut read) = (0, BTreeMap::new());
    loop {
        let start = next.map_or(Start::Earliest, Start::Offset);
        let fetched = broker
            .fetch(topic, partition, start)
            .unwrap_or_else(|error| panic!("{topic} {partition} cannot be read: {error}"));
        first = if next.is_none() {
            fetched.log_start_offset
        } else {
            first
        };
        for record in decode(&fetched.chunks) {
            let offset = record.offset.expect("stored records have offsets");
            assert_eq!(offset, first + read.len() as u64, "offsets have no gaps");
            read.insert(offset, String::from_utf8(record.value.unwrap()).unwrap());
        }
        if fetched.next_offset == fetched.high_watermark {
            return (first, read);
        }
        next = Some(fetched.next_offset);
    }
}

/// Lets one life go on until it is cut off at a random operation, or ends by itself.
fn live(machine: &Machine, random: &SeededRandom, history: &mut History) {
    let left = AtomicU64::new(random.u64() % 400);
    let (by_power, cut) = (
        !random.u64().is_multiple_of(4),
        Arc::new(AtomicBool::new(false)),
    );
    let (disk, is_cut) = (machine.disk.clone(), Arc::clone(&cut));
    machine.disk.set_hook(move |_| {
        if left.fetch_sub(1, Ordering::Relaxed) == 1 {
            is_cut.store(true, Ordering::Relaxed);
            if by_power {
                disk.power_cut()
            } else {
                disk.process_crash()
            }
        }
        None
    });
    if let Ok(broker) = machine.try_open() {
        let mut life = Life {
            broker: &broker,
            random,
            history,
        };
        if life.history.topics.is_empty() {
            life.create_topic();
        }
        for _ in 0..40 {
            if cut.load(Ordering::Relaxed) || life.history.topics.is_empty() {
                break;
            }
            machine
                .clock
                .advance(Duration::from_millis(random.u64() % 200));
            life.step();
        }
    }
    machine.disk.clear_faults();
    if !cut.load(Ordering::Relaxed) && random.u64().is_multiple_of(2) {
        machine.disk.power_cut();
    }
}

#[test]
fn no_crash_loses_or_changes_what_was_acknowledged() {
    let mut acknowledged = 0;
    for seed in 0..SEEDS {
        let machine = Machine::new(seed);
        let random = SeededRandom::new(seed);
        let mut history = History::default();
        for life in 0..LIVES {
            live(&machine, &random, &mut history);
            let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                let broker = machine.open();
                Life {
                    broker: &broker,
                    random: &random,
                    history: &mut history,
                }
                .check();
                // The next crash finds a floor that was synced, or one that was not.
                if random.u64().is_multiple_of(2) {
                    broker.shutdown();
                }
            }));
            if let Err(panic) = caught {
                eprintln!("seed {seed}, life {life}");
                std::panic::resume_unwind(panic);
            }
        }
        let partitions = history.partitions.values();
        acknowledged += partitions
            .map(|known| known.acknowledged.len())
            .sum::<usize>();
    }
    assert!(
        acknowledged > 10_000,
        "{acknowledged} records are too few to show anything"
    );
}
