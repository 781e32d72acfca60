//! What a life asks of the broker, by chance.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use flowstone_broker::{
    Acks, AppendedRun, Committed, Cursor, Error, Overflow, PendingProduce, ProduceRequest, Start,
    TopicChange, TopicSpec,
};
use flowstone_disk::{Clock, ManualClock, SimDisk};
use flowstone_tests::Dice;
use flowstone_tests::history::Place;

use crate::driven::{Driven, encode, poll};
use crate::ledger::{Answer, Change, Ledger, Sent};
use crate::life::World;
use crate::members::Member;

/// Long names, so that the log of offsets soon needs a snapshot.
pub(crate) const GROUPS: [&str; 3] = ["billing", LONG, LONGER];
const LONG: &str = "the group of those who read every record that there is and take a note of each of them \
    in a large book that nobody ever opens again once it is closed";
const LONGER: &str = "another group with a long name that reads from the start again and again until all \
    segments have rolled and been trimmed away, since what it has committed stands in a log too, which \
    has to be made shorter by a snapshot now and then";
const TOPICS_MAX: usize = 3;
const PARTITIONS_MAX: u32 = 3;

/// Where the records of a request lie, in their order.
pub(crate) fn places(runs: &[AppendedRun]) -> Vec<Place> {
    let of = |run: &AppendedRun| {
        let (partition, base) = (run.partition as i32, run.base_offset as i64);
        (0..i64::from(run.record_count)).map(move |at| Place {
            partition,
            offset: base + at,
        })
    };
    runs.iter().flat_map(of).collect()
}

/// A request that was not answered yet.
pub(crate) struct Produce {
    pub(crate) sent: Sent,
    pub(crate) acks: Acks,
    /// Whether all of it goes to one partition.
    pub(crate) fixed: bool,
    pub(crate) answer: PendingProduce,
}

/// A commit that was not answered yet.
pub(crate) struct Commit {
    pub(crate) topic: String,
    pub(crate) number: u64,
    pub(crate) group: &'static str,
    pub(crate) partition: u32,
    pub(crate) offset: u64,
    pub(crate) answer: Pin<Box<dyn Future<Output = Result<Committed, Error>> + Send>>,
}

impl Produce {
    /// Notes the answer if there is one: how many records were acknowledged.
    pub(crate) fn look(&mut self, ledger: &mut Ledger) -> Poll<u64> {
        let Poll::Ready(answer) = poll(Pin::new(&mut self.answer)) else {
            return Poll::Pending;
        };
        let answer = match answer {
            Ok(produced) if self.acks == Acks::Written => Answer::Written(places(&produced.runs)),
            Ok(produced) => Answer::Acknowledged(places(&produced.runs)),
            Err(Error::OutcomeUnknown { .. }) => Answer::Unknown,
            Err(_) if self.fixed => Answer::Refused,
            Err(_) => Answer::Unknown,
        };
        Poll::Ready(ledger.answer(&self.sent, answer))
    }
}

impl Commit {
    /// Notes the answer if there is one.
    pub(crate) fn look(&mut self, ledger: &mut Ledger) -> Poll<()> {
        let Poll::Ready(answer) = poll(self.answer.as_mut()) else {
            return Poll::Pending;
        };
        if answer.is_ok()
            && let Some(history) = ledger.history(&self.topic, self.number)
        {
            let (partition, offset) = (self.partition as i32, self.offset as i64);
            history.commit_answered(self.group, partition, offset);
        }
        Poll::Ready(())
    }
}

/// One session of a life: a broker, from its open to its end.
pub(crate) struct Session<'a> {
    pub(crate) world: &'a World,
    pub(crate) disk: &'a SimDisk,
    pub(crate) clock: &'a ManualClock,
    pub(crate) dice: &'a Dice,
    pub(crate) driven: &'a Driven,
    /// Who reads as members of a group.
    pub(crate) members: RefCell<Vec<Member>>,
}

impl Session<'_> {
    /// Does something.
    pub(crate) fn step(&self) -> Result<(), String> {
        let passing = self.dice.pick(0..80);
        self.clock.advance(Duration::from_millis(passing));
        if self.world.lock().ledger.topics.is_empty() {
            self.create();
            return Ok(());
        }
        match self.dice.pick(0..100) {
            0..4 => self.create(),
            4..7 => self.delete(),
            7..11 => self.update(),
            11..17 => self.trim(),
            17..21 => drop(self.driven.broker.run_retention()),
            21..24 => {
                let long = self.dice.pick(0..8_000);
                self.clock.advance(Duration::from_millis(long));
                self.driven.drain();
            }
            24..28 => self.fill_the_disk(),
            28..34 => self.read()?,
            34..44 => (0..self.dice.pick(1..4)).for_each(|_| self.commit()),
            44..56 => self.crew()?,
            56..61 => self.wait_for_all(),
            61..76 => (0..self.dice.pick(1..4)).for_each(|_| self.produce_once()),
            76..78 => self.open_producer()?,
            _ => (0..self.dice.pick(1..5)).for_each(|_| self.produce()),
        }
        // Sometimes more comes before the broker gets to anything.
        if !self.dice.once_in(3) {
            self.driven.broker.run_pending();
        }
        Ok(())
    }

    /// Lets everything that is under way come to its end.
    pub(crate) fn wait_for_all(&self) {
        self.driven.drain();
        self.world.lock().look();
    }

    fn spec(&self, name: String) -> TopicSpec {
        let retention_ms = self.dice.once_in(4);
        let retention_ms = retention_ms.then(|| self.dice.pick(200..20_000) as i64);
        let retention_bytes = self.dice.once_in(4).then(|| self.dice.pick(1..40_000));
        let may_reject = |bytes: u64| bytes > 4096 && bytes.is_multiple_of(3);
        TopicSpec {
            retention_ms,
            retention_bytes,
            overflow: if retention_bytes.is_some_and(may_reject) {
                Overflow::Reject
            } else {
                Overflow::Trim
            },
            segment_bytes: match self.dice.pick(0..6) {
                0..2 => Some(self.dice.pick(8_192..20_000)),
                2 => Some(100_000),
                _ => None,
            },
            default_acks: self.dice.once_in(4).then_some(Acks::Written),
            labels: BTreeMap::from([(
                "note".to_owned(),
                "x".repeat(self.dice.pick(0..900) as usize),
            )]),
            ..TopicSpec::new(
                name,
                self.dice.pick(1..u64::from(PARTITIONS_MAX) + 1) as u32,
            )
        }
    }

    fn create(&self) {
        let name = {
            let world = self.world.lock();
            let taken = |name: &String| world.ledger.topics.contains_key(name);
            let free = (0..TOPICS_MAX).map(|at| format!("topic-{at}"));
            free.filter(|name| !taken(name)).find(|_| true)
        };
        let Some(name) = name else { return };
        let spec = self.spec(name);
        self.world.lock().ledger.creating(&spec);
        let name = spec.name.clone();
        let made = self
            .driven
            .wait(self.driven.broker.create_topic(spec, false));
        self.changed(&name, made.map(drop));
    }

    fn update(&self) {
        let Some((name, _)) = self.any_topic() else {
            return;
        };
        let now = self.world.lock().ledger.topics[&name].spec.clone();
        let grows = now.partition_count < PARTITIONS_MAX && self.dice.once_in(2);
        let wanted = TopicSpec {
            partition_count: now.partition_count + u32::from(grows),
            ..self.spec(name.clone())
        };
        let wanted = TopicSpec {
            partition_count: now.partition_count + u32::from(grows),
            retention_ms: if self.dice.once_in(3) {
                wanted.retention_ms
            } else {
                now.retention_ms
            },
            retention_bytes: now.retention_bytes,
            overflow: now.overflow,
            ..wanted
        };
        let change = TopicChange {
            partition_count: Some(wanted.partition_count),
            retention_ms: Some(wanted.retention_ms),
            retention_bytes: Some(wanted.retention_bytes),
            segment_bytes: Some(wanted.segment_bytes),
            max_record_bytes: Some(wanted.max_record_bytes),
            default_acks: Some(wanted.default_acks),
            overflow: Some(wanted.overflow),
            labels: Some(wanted.labels.clone()),
        };
        self.world
            .lock()
            .ledger
            .changing(&name, Change::Update(wanted));
        let made = self
            .driven
            .wait(self.driven.broker.update_topic(&name, change));
        self.changed(&name, made.map(drop));
    }

    fn delete(&self) {
        let Some((name, _)) = self.any_topic() else {
            return;
        };
        self.world.lock().ledger.changing(&name, Change::Delete);
        let made = self.driven.wait(self.driven.broker.delete_topic(&name));
        self.changed(&name, made);
    }

    fn changed(&self, name: &str, made: Result<(), Error>) {
        let mut world = self.world.lock();
        // Nobody hears what a dead process would have said.
        if world.down {
            return;
        }
        match made {
            Err(Error::OutcomeUnknown { .. }) => world.last_steps(0),
            made => world.ledger.changed(name, made.is_ok()),
        }
    }

    pub(crate) fn any_topic(&self) -> Option<(String, u64)> {
        let world = self.world.lock();
        let topics: Vec<_> = world.ledger.topics.iter().collect();
        if topics.is_empty() {
            return None;
        }
        let (name, topic) = topics[self.dice.pick(0..topics.len() as u64) as usize];
        Some((name.clone(), topic.number))
    }

    pub(crate) fn any_partition(&self) -> Option<(String, u64, u32)> {
        let (name, number) = self.any_topic()?;
        let count = self.world.lock().ledger.topics[&name].spec.partition_count;
        let partition = self.dice.pick(0..u64::from(count)) as u32;
        Some((name, number, partition))
    }

    fn end_of(&self, topic: &str, partition: u32) -> u64 {
        let described = self.driven.broker.describe_topic(topic);
        let info = described
            .ok()
            .and_then(|(_, all)| all.get(partition as usize).cloned());
        info.map_or(0, |info| info.high_watermark)
    }

    fn trim(&self) {
        let Some((topic, number, partition)) = self.any_partition() else {
            return;
        };
        let before = self.dice.pick(0..self.end_of(&topic, partition) + 1);
        if let Some(history) = self.world.lock().ledger.history(&topic, number) {
            history.trimming(partition as i32, before as i64);
        }
        let trim = self.driven.broker.trim_partition(&topic, partition, before);
        let trimmed = self.driven.wait(trim);
        let mut world = self.world.lock();
        if let Ok(start) = trimmed
            && !world.down
            && world.ledger.topics[&topic].keeps_all()
            && let Some(history) = world.ledger.history(&topic, number)
        {
            history.starts_at(partition as i32, start as i64);
        }
    }

    fn commit(&self) {
        let Some((topic, number, partition)) = self.any_partition() else {
            return;
        };
        let offset = self.dice.pick(0..self.end_of(&topic, partition) + 1);
        let group = GROUPS[self.dice.pick(0..GROUPS.len() as u64) as usize];
        if let Some(history) = self.world.lock().ledger.history(&topic, number) {
            history.committing(group, partition as i32, offset as i64);
        }
        let cursor = Cursor {
            group: group.to_owned(),
            topic: topic.clone(),
            partition,
            offset,
            ..Cursor::default()
        };
        let broker = self.driven.broker.clone();
        let mut commit = Commit {
            topic,
            number,
            group,
            partition,
            offset,
            answer: Box::pin(async move { broker.commit_offsets(vec![cursor], Vec::new()).await }),
        };
        let mut world = self.world.lock();
        if commit.look(&mut world.ledger).is_pending() {
            world.commits.push(commit);
        }
    }

    /// Submits a request that waits with others.
    fn produce(&self) {
        let Some((topic, _, partition)) = self.any_partition() else {
            return;
        };
        let fixed = !self.dice.once_in(3);
        let lens: Vec<usize> = (0..self.dice.pick(1..5))
            .map(|_| self.dice.pick(0..400) as usize)
            .collect();
        let keys: Vec<u64> = lens.iter().map(|_| self.dice.pick(0..20)).collect();
        let acks = match self.dice.pick(0..5) {
            0 => Some(Acks::Written),
            1..3 => Some(Acks::Durable),
            _ => None,
        };
        let mut world = self.world.lock();
        let key = |at: usize| (!fixed).then(|| format!("key-{}", keys[at]));
        let now_ms = self.clock.now_ms();
        let Some(sent) = world.ledger.send(&topic, &lens, key, now_ms) else {
            return;
        };
        let default_acks = world.ledger.topics[&topic].spec.default_acks;
        drop(world);
        let request = ProduceRequest {
            topic,
            partition: fixed.then_some(partition),
            acks,
            records: encode(&sent.records),
            ..ProduceRequest::default()
        };
        let Ok(permit) = self
            .driven
            .wait(self.driven.broker.admit(request.records.len()))
        else {
            return;
        };
        let submitted = self.driven.broker.submit(request, permit);
        let mut world = self.world.lock();
        match submitted {
            Ok(answer) => world.produces.push(Produce {
                sent,
                acks: acks.or(default_acks).unwrap_or(Acks::Durable),
                fixed,
                answer,
            }),
            Err(_) => drop(world.ledger.answer(&sent, Answer::Refused)),
        }
    }

    /// Reads a partition from somewhere on: what is seen must stay.
    fn read(&self) -> Result<(), String> {
        let Some((topic, number, partition)) = self.any_partition() else {
            return Ok(());
        };
        let end = self.end_of(&topic, partition);
        let start = self.dice.pick(0..end + 1);
        let read = match self.dice.once_in(2) {
            true => self.driven.fetch(&topic, partition, Start::Earliest),
            false => self.driven.fetch(&topic, partition, Start::Offset(start)),
        };
        let mut world = self.world.lock();
        match read {
            _ if world.down => {}
            Ok((records, _)) => {
                let from = records.first().map_or(0, |first| first.offset);
                if let Some(history) = world.ledger.history(&topic, number)
                    && !records.is_empty()
                {
                    history.read(partition as i32, from, &records);
                }
            }
            // It was trimmed, or the disk has failed.
            Err(wrong) if !world.had_io_error && !wrong.contains("was trimmed") => {
                return Err(wrong);
            }
            Err(_) => {}
        }
        Ok(())
    }

    /// Leaves little space, or gives it back.
    fn fill_the_disk(&self) {
        let mut world = self.world.lock();
        if world.is_full {
            self.disk.set_capacity(u64::MAX);
            world.is_full = false;
        } else if self.dice.once_in(2) {
            let left = self.dice.pick(0..12) * 4096 + self.dice.pick(0..2) * 60_000;
            self.disk.set_capacity(self.disk.used_bytes() + left);
            world.is_full = true;
            world.counts.full_disks += 1;
        }
    }
}
