//! The history checker: what was produced and answered, held against everything that is read.
//!
//! Every record that a test produces differs from all others. The test tells when it is about to
//! send one, what the answer was, and all that it reads, over any number of crashes and restarts. The
//! checker knows nothing of time or threads; each event is held against those before it. Of a record it
//! keeps a digest, and of what is trimmed only where it was, so that a history may be long.

mod crash;
mod digest;
mod partition;
mod violation;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use flowstone_proto::v1::Record;

use digest::Digest;
use partition::{Partition, Seen};

pub use violation::Violation;

/// How many violations are shown when a test fails.
const SHOWN: usize = 20;

/// A record that is or was on its way to the broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Call(usize);

/// Where a record lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// The partition.
    pub partition: i32,
    /// The offset in it.
    pub offset: i64,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "partition {} at offset {}", self.partition, self.offset)
    }
}

/// What was done to one topic, and what was seen of it.
#[derive(Clone, Debug, Default)]
pub struct History {
    calls: Vec<Produced>,
    by_content: HashMap<Digest, Call>,
    partitions: BTreeMap<i32, Partition>,
    /// The greatest offset that is known to be committed, by group and partition.
    committed: BTreeMap<(String, i32), i64>,
    /// The offsets that somebody has tried to commit.
    committing: BTreeMap<(String, i32), BTreeSet<i64>>,
    violations: Vec<Violation>,
}

#[derive(Clone, Debug)]
struct Produced {
    producer: u32,
    timestamp_ms: i64,
    answer: Answer,
    /// Where it was read first.
    seen: Option<Place>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Answer {
    /// None came, or one that leaves it open: the record may be there or not.
    Unknown,
    Acknowledged(Place),
    Refused,
}

/// How many records came to what.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Acknowledged.
    pub acknowledged: usize,
    /// Refused, and so nowhere.
    pub refused: usize,
    /// Never answered, and read all the same.
    pub unanswered_and_read: usize,
    /// Never answered and not read.
    pub unanswered_and_absent: usize,
}

impl History {
    /// A history of nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// A record is about to be sent, once, and behind all earlier ones of the same producer. Until it
    /// is answered it may be there or not.
    ///
    /// # Panics
    /// When an equal record was produced before.
    pub fn invoke(&mut self, producer: u32, record: &Record) -> Call {
        let call = Call(self.calls.len());
        self.calls.push(Produced {
            producer,
            timestamp_ms: record.timestamp_ms,
            answer: Answer::Unknown,
            seen: None,
        });
        let before = self.by_content.insert(Digest::of(record), call);
        assert!(before.is_none(), "each record must differ from all others");
        call
    }

    /// The record was acknowledged.
    ///
    /// # Panics
    /// When it was answered before.
    pub fn acknowledged(&mut self, call: Call, partition: i32, offset: i64) {
        let place = Place { partition, offset };
        self.answer(call, Answer::Acknowledged(place));
        let of = self.partitions.entry(partition).or_default();
        if of.acknowledged.insert(offset, call).is_some() {
            self.violations.push(Violation::ToldTwice { place });
        }
        let elsewhere = self.calls[call.0].seen.filter(|&seen| seen != place);
        if let Some(seen) = elsewhere {
            self.violations
                .push(Violation::Misplaced { told: place, seen });
        }
        if let Some(there) = of.seen.get(&offset)
            && there.call != Some(call)
        {
            self.violations.push(Violation::OtherRecord { place });
        }
    }

    /// The broker surely did not append the record.
    ///
    /// # Panics
    /// When it was answered before.
    pub fn refused(&mut self, call: Call) {
        self.answer(call, Answer::Refused);
        if let Some(place) = self.calls[call.0].seen {
            self.violations.push(Violation::Refused { place });
        }
    }

    fn answer(&mut self, call: Call, answer: Answer) {
        let before = std::mem::replace(&mut self.calls[call.0].answer, answer);
        assert_eq!(before, Answer::Unknown, "a record is answered once");
    }

    /// A reader saw these records of a partition, beginning at an offset. How far they go says
    /// nothing.
    pub fn read(&mut self, partition: i32, from: i64, records: &[Record]) {
        let mut expected = from;
        let mut latest: HashMap<u32, Call> = HashMap::new();
        for record in records {
            let offset = record.offset;
            let place = Place { partition, offset };
            if offset != expected {
                self.violations.push(Violation::Gap {
                    partition,
                    expected,
                    found: offset,
                });
            }
            expected = offset + 1;
            let Some(call) = self.see(place, record) else {
                continue;
            };
            let before = latest.insert(self.calls[call.0].producer, call);
            if before.is_some_and(|before| before > call) {
                self.violations.push(Violation::OutOfOrder { place });
            }
        }
        let of = self.partitions.entry(partition).or_default();
        of.end = of.end.max(expected);
    }

    /// A reader saw all of a partition, from offset 0 to the end that it was told, while no record
    /// was on its way.
    pub fn read_whole(&mut self, partition: i32, end: i64, records: &[Record]) {
        self.read_to_end(partition, 0, end, records);
    }

    /// As [`History::read_whole`], from an offset on.
    pub fn read_to_end(&mut self, partition: i32, from: i64, end: i64, records: &[Record]) {
        let before = self.partitions.entry(partition).or_default().end;
        if end < before {
            self.violations.push(Violation::EndWentBack {
                partition,
                before,
                end,
            });
        }
        self.read(partition, from, records);
        let found = records.last().map_or(from, |last| last.offset + 1);
        if found != end {
            self.violations.push(Violation::Gap {
                partition,
                expected: found,
                found: end,
            });
        }
        let offsets: HashSet<i64> = records.iter().map(|record| record.offset).collect();
        let of = self.partitions.entry(partition).or_default();
        let lost = of
            .acknowledged
            .range(from..)
            .filter(|(offset, _)| !offsets.contains(offset))
            .map(|(&offset, _)| Violation::Lost {
                place: Place { partition, offset },
                end,
            });
        self.violations.extend(lost);
    }

    /// As [`History::read_to_end`], from where the last such reader had come to; the order of each
    /// producer is held against what that one saw. The whole partition is looked at once, however
    /// often this is told.
    pub fn read_on(&mut self, partition: i32, end: i64, records: &[Record]) {
        let from = self.read_up_to(partition);
        self.read_to_end(partition, from, end, records);
        let of = self.partitions.entry(partition).or_default();
        let mut out_of_order = Vec::new();
        for record in records {
            let offset = record.offset;
            let Some(call) = of.seen.get(&offset).and_then(|seen| seen.call) else {
                continue;
            };
            let latest = of.latest.entry(self.calls[call.0].producer).or_insert(call);
            // Within these records it was found already.
            let latest_at = self.calls[latest.0].seen.map_or(from, |seen| seen.offset);
            if *latest > call && latest_at < from {
                let place = Place { partition, offset };
                out_of_order.push(Violation::OutOfOrder { place });
            }
            *latest = call.max(*latest);
        }
        of.read_up_to = of.read_up_to.max(end);
        self.violations.extend(out_of_order);
    }

    /// Where the next [`History::read_on`] of a partition begins.
    pub fn read_up_to(&self, partition: i32) -> i64 {
        self.partitions
            .get(&partition)
            .map_or(0, |of| of.read_up_to)
    }

    /// From where to where a partition is known to be there.
    pub fn bounds(&self, partition: i32) -> (i64, i64) {
        self.partitions
            .get(&partition)
            .map_or((0, 0), |of| (of.start, of.read_up_to))
    }

    /// A partition is about to be trimmed to an offset.
    pub fn trimming(&mut self, partition: i32, before_offset: i64) {
        let of = self.partitions.entry(partition).or_default();
        of.trim_asked = of.trim_asked.max(before_offset);
    }

    /// The broker told where a partition starts, by answering a trim or a read.
    pub fn starts_at(&mut self, partition: i32, start: i64) {
        let of = self.partitions.entry(partition).or_default();
        if start < of.start {
            self.violations.push(Violation::StartWentBack {
                partition,
                before: of.start,
                start,
            });
        }
        if start > of.trim_asked {
            self.violations.push(Violation::TrimmedTooFar {
                partition,
                asked: of.trim_asked,
                start,
            });
        }
        of.forget_before(start);
    }

    /// Takes a record that lies at a place, and tells which one it is.
    fn see(&mut self, place: Place, record: &Record) -> Option<Call> {
        let call = self.by_content.get(&Digest::of(record)).copied();
        let seen = Seen::of(record, call);
        let of = self.partitions.entry(place.partition).or_default();
        if let Some(before) = of.seen.get(&place.offset) {
            if *before != seen {
                self.violations.push(Violation::Changed { place });
            }
            return call;
        }
        if place.offset >= of.start {
            of.seen.insert(place.offset, seen);
        }
        let Some(call) = call else {
            self.violations.push(Violation::Foreign { place });
            return None;
        };
        let acknowledged_there = of.acknowledged.get(&place.offset);
        if acknowledged_there.is_some_and(|&there| there != call) {
            self.violations.push(Violation::OtherRecord { place });
        }
        let produced = &mut self.calls[call.0];
        match produced.seen {
            None => produced.seen = Some(place),
            // What was trimmed in the meantime may still be on its way to a reader.
            Some(first) if first == place => {}
            Some(first) => self.violations.push(Violation::Twice {
                first,
                second: place,
            }),
        }
        match produced.answer {
            Answer::Refused => self.violations.push(Violation::Refused { place }),
            Answer::Acknowledged(told) if told != place => {
                self.violations
                    .push(Violation::Misplaced { told, seen: place });
            }
            Answer::Acknowledged(_) | Answer::Unknown => {}
        }
        if produced.timestamp_ms != 0 && produced.timestamp_ms != record.timestamp_ms {
            self.violations.push(Violation::OtherTime { place });
        }
        Some(call)
    }

    /// The broker told that a group has committed this offset, by answering a commit or a question.
    pub fn committed(&mut self, group: &str, partition: i32, offset: i64) {
        let known = self
            .committed
            .entry((group.to_owned(), partition))
            .or_insert(offset);
        if offset < *known {
            self.violations.push(Violation::CommitWentBack {
                group: group.to_owned(),
                partition,
                before: *known,
                offset,
            });
        }
        *known = offset.max(*known);
    }

    /// All that was not as it was promised.
    pub fn violations(&self) -> &[Violation] {
        &self.violations
    }

    /// How many records came to what.
    pub fn counts(&self) -> Counts {
        let mut counts = Counts::default();
        for produced in &self.calls {
            let of = match (produced.answer, produced.seen) {
                (Answer::Acknowledged(_), _) => &mut counts.acknowledged,
                (Answer::Refused, _) => &mut counts.refused,
                (Answer::Unknown, Some(_)) => &mut counts.unanswered_and_read,
                (Answer::Unknown, None) => &mut counts.unanswered_and_absent,
            };
            *of += 1;
        }
        counts
    }

    /// Everything is as it was promised.
    ///
    /// # Panics
    /// When it is not; the message tells what is off.
    #[track_caller]
    pub fn assert_holds(&self, when: &str) {
        let shown: String = self
            .violations
            .iter()
            .take(SHOWN)
            .map(|violation| format!("  {violation}\n"))
            .collect();
        assert!(
            self.violations.is_empty(),
            "{when}: {} of the broker's promises are broken ({:?}):\n{shown}",
            self.violations.len(),
            self.counts()
        );
    }
}

/// A history that several producers tell of. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct SharedHistory(Arc<Mutex<History>>);

impl SharedHistory {
    /// A history of nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// The history, while nobody else uses it.
    pub fn lock(&self) -> MutexGuard<'_, History> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
