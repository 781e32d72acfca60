//! What has to be there after a power cut, as the story tells.

use std::collections::{BTreeMap, HashMap};

use flowstone_proto::v1::Record;
use flowstone_tests::History;
use flowstone_tests::history::Call;

use crate::load::GROUP;
use crate::recording::About;
use crate::story::{Event, Id, Seen};

/// A topic, as far as it was known when the power was cut.
#[derive(Debug, Default)]
pub(crate) struct Topic {
    pub(crate) partitions: i32,
    pub(crate) creating: bool,
    pub(crate) created: bool,
    pub(crate) deleting: bool,
    pub(crate) deleted: bool,
    pub(crate) history: History,
    /// The greatest offset for which a commit was answered, by partition.
    pub(crate) committed: BTreeMap<i32, i64>,
    /// The least and the greatest start that each partition may have.
    starts: BTreeMap<i32, (i64, i64)>,
    /// What readers saw, also later.
    seen: BTreeMap<(i32, i64), Seen>,
    /// Where each record lay while the power was on, also later.
    places: HashMap<Id, (i32, i64)>,
}

/// The topics by name, at a point of the recording.
pub(crate) fn expected(about: &About, point: u64) -> BTreeMap<String, Topic> {
    let mut topics: BTreeMap<String, Topic> = BTreeMap::new();
    let mut calls: HashMap<Id, Call> = HashMap::new();
    for noted in &about.events {
        let before = noted.point <= point;
        match &noted.event {
            Event::Creating { topic, partitions } => {
                let topic = topics.entry(topic.clone()).or_default();
                topic.partitions = *partitions;
                topic.creating = before;
            }
            Event::Created { topic } => of(&mut topics, topic).created = before,
            Event::Deleting { topic } => of(&mut topics, topic).deleting = before,
            Event::Deleted { topic } => of(&mut topics, topic).deleted = before,
            Event::Sending { topic, id } => {
                if before {
                    let history = &mut of(&mut topics, topic).history;
                    calls.insert(*id, history.invoke(id.producer, &id.record(about.seed)));
                }
            }
            Event::Acknowledged {
                topic,
                id,
                partition,
                offset,
                durable,
            } => {
                let topic = of(&mut topics, topic);
                topic.places.insert(*id, (*partition, *offset));
                if before && *durable {
                    topic.history.acknowledged(calls[id], *partition, *offset);
                }
            }
            Event::Read {
                topic,
                partition,
                from,
                records,
            } => {
                let topic = of(&mut topics, topic);
                for (seen, offset) in records.iter().zip(*from..) {
                    topic.seen.insert((*partition, offset), *seen);
                    topic.places.insert(seen.id, (*partition, offset));
                }
                if before {
                    let records = records.iter().zip(*from..);
                    let records: Vec<_> = records
                        .map(|(seen, offset)| seen.record(about.seed, offset))
                        .collect();
                    topic.history.read(*partition, *from, &records);
                }
            }
            Event::Committed {
                topic,
                partition,
                offset,
            } => {
                let topic = of(&mut topics, topic);
                // A commit below the one before it is answered, and changes nothing.
                let known = topic.committed.get(partition).copied().unwrap_or(0);
                if before && *offset >= known {
                    topic.history.committed(GROUP, *partition, *offset);
                    topic.committed.insert(*partition, *offset);
                }
            }
            Event::Trimming {
                topic,
                partition,
                before: start,
            } => {
                if before {
                    let most = &mut of(&mut topics, topic)
                        .starts
                        .entry(*partition)
                        .or_default()
                        .1;
                    *most = (*most).max(*start);
                }
            }
            Event::Trimmed {
                topic,
                partition,
                start,
            } => {
                if before {
                    let least = &mut of(&mut topics, topic)
                        .starts
                        .entry(*partition)
                        .or_default()
                        .0;
                    *least = (*least).max(*start);
                }
            }
        }
    }
    topics
}

fn of<'a>(topics: &'a mut BTreeMap<String, Topic>, name: &str) -> &'a mut Topic {
    topics
        .get_mut(name)
        .expect("a topic is created before anything else")
}

impl Topic {
    /// Holds all that was read of a partition against what has to be there, and tells what the
    /// history does not know of.
    pub(crate) fn read_whole(
        &mut self,
        seed: u64,
        partition: i32,
        start: i64,
        end: i64,
        records: Vec<Record>,
    ) -> Vec<String> {
        let mut wrong = Vec::new();
        let (least, most) = self.starts.get(&partition).copied().unwrap_or_default();
        if start < least || start > most {
            wrong.push(format!(
                "partition {partition} starts at {start}, and not from {least} to {most}"
            ));
        }
        for record in &records {
            let here = (partition, record.offset);
            let place = Id::of(record, seed).and_then(|id| self.places.get(&id));
            if place.is_some_and(|place| *place != here) {
                wrong.push(format!(
                    "what is at {here:?} was at {place:?} while the power was on"
                ));
            }
        }
        // What is trimmed was read before. With it, the history sees the partition whole.
        let mut all = Vec::new();
        for offset in 0..start {
            match self.seen.get(&(partition, offset)) {
                Some(seen) => all.push(seen.record(seed, offset)),
                None => {
                    wrong.push(format!(
                        "partition {partition}: nobody had read {offset}, and it is trimmed"
                    ));
                    break;
                }
            }
        }
        all.extend(records);
        self.history.read_whole(partition, end, &all);
        wrong
    }
}
