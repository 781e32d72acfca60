//! All that was asked of the broker, what it answered, and whether what it holds fits to that.

use std::collections::BTreeMap;
use std::sync::Arc;

use flowstone_broker::{Acks, Overflow, TopicSpec, Uuid};
use flowstone_proto::v1::Record;
use flowstone_tests::History;
use flowstone_tests::history::{Call, Place};

use crate::driven::{Content, Observed};
use crate::producers::{Producers, Request};

/// What is known of a data directory from outside.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ledger {
    pub(crate) topics: BTreeMap<String, Topic>,
    /// Whether a broker has opened the directory.
    pub(crate) opened: bool,
    /// How many operations an open took.
    pub(crate) open_ops: u64,
    /// The latest time that any broker saw.
    pub(crate) latest_ms: i64,
    next_value: u64,
    next_topic: u64,
}

/// A topic that is there, or may be.
#[derive(Clone, Debug)]
pub(crate) struct Topic {
    /// Tells it from others of the same name.
    pub(crate) number: u64,
    id: Option<Uuid>,
    pub(crate) spec: TopicSpec,
    change: Option<Change>,
    /// Whether what it keeps was ever changed.
    retention_changed: bool,
    records: Arc<Records>,
    pub(crate) producers: Producers,
}

#[derive(Clone, Debug, Default)]
struct Records {
    history: History,
    /// When each was sent, by call.
    sent_ms: BTreeMap<Call, i64>,
}

/// What is being done to a topic, or was and nobody knows whether it has happened.
#[derive(Clone, Debug)]
pub(crate) enum Change {
    Create,
    Update(TopicSpec),
    Delete,
}

/// Records of one request.
#[derive(Clone, Debug)]
pub(crate) struct Sent {
    pub(crate) topic: String,
    pub(crate) number: u64,
    pub(crate) calls: Vec<Call>,
    pub(crate) records: Vec<Record>,
}

/// What one request was answered.
pub(crate) enum Answer {
    /// The places of its records, in their order.
    Acknowledged(Vec<Place>),
    /// The same, for as long as the power is on.
    Written(Vec<Place>),
    Refused,
    Unknown,
}

impl Ledger {
    /// Makes records that differ from all others and notes that they are sent, behind all others.
    pub(crate) fn send(
        &mut self,
        topic: &str,
        lens: &[usize],
        keys: impl Fn(usize) -> Option<String>,
        now_ms: i64,
    ) -> Option<Sent> {
        self.send_as(0, topic, lens, keys, now_ms)
    }

    /// The same, of a request that may come behind later ones, since it may be repeated.
    pub(crate) fn send_to_repeat(
        &mut self,
        topic: &str,
        lens: &[usize],
        keys: impl Fn(usize) -> Option<String>,
        now_ms: i64,
    ) -> Option<Sent> {
        let alone = u32::try_from(self.next_value + 1).expect("a life is short");
        self.send_as(alone, topic, lens, keys, now_ms)
    }

    fn send_as(
        &mut self,
        producer: u32,
        topic: &str,
        lens: &[usize],
        keys: impl Fn(usize) -> Option<String>,
        now_ms: i64,
    ) -> Option<Sent> {
        let of = self.topics.get_mut(topic)?;
        let kept = Arc::make_mut(&mut of.records);
        let mut sent = Sent {
            topic: topic.to_owned(),
            number: of.number,
            calls: Vec::new(),
            records: Vec::new(),
        };
        for (at, len) in lens.iter().enumerate() {
            let mut value = format!("{}-", self.next_value).into_bytes();
            self.next_value += 1;
            // Not zeros: zeros are what a torn write looks like.
            value.resize((*len).max(value.len()), b'a' + (self.next_value % 26) as u8);
            let record = Record {
                key: keys(at).map(Into::into),
                value: Some(value.into()),
                ..Record::default()
            };
            let call = kept.history.invoke(producer, &record);
            kept.sent_ms.insert(call, now_ms);
            sent.calls.push(call);
            sent.records.push(record);
        }
        Some(sent)
    }

    /// Notes the answer to a request. Returns how many records were acknowledged.
    pub(crate) fn answer(&mut self, sent: &Sent, answer: Answer) -> u64 {
        let Some(kept) = self.same(&sent.topic, sent.number) else {
            return 0;
        };
        let history = &mut kept.history;
        let places = match &answer {
            Answer::Acknowledged(places) | Answer::Written(places) => places,
            Answer::Refused => {
                sent.calls.iter().for_each(|&call| history.refused(call));
                return 0;
            }
            Answer::Unknown => return 0,
        };
        for (&call, place) in sent.calls.iter().zip(places) {
            match answer {
                Answer::Written(_) => {
                    history.acknowledged_written(call, place.partition, place.offset);
                }
                _ => history.acknowledged(call, place.partition, place.offset),
            }
        }
        places.len() as u64
    }

    /// A request of a producer is sent, perhaps again.
    pub(crate) fn repeating(&mut self, sent: &Sent) {
        if let Some(kept) = self.same(&sent.topic, sent.number) {
            let history = &mut kept.history;
            sent.calls.iter().for_each(|&call| history.repeating(call));
        }
    }

    /// Whether all records of a request were acknowledged.
    pub(crate) fn is_acknowledged(&mut self, sent: &Sent) -> bool {
        self.same(&sent.topic, sent.number).is_some_and(|kept| {
            sent.calls
                .iter()
                .all(|&call| kept.history.is_acknowledged(call))
        })
    }

    /// Notes that a request of a producer was acknowledged, perhaps again. Returns how many records.
    pub(crate) fn acknowledged(&mut self, request: &Request, places: &[Place], acks: Acks) -> u64 {
        let sent = &request.sent;
        let Some(kept) = self.same(&sent.topic, sent.number) else {
            return 0;
        };
        let durable = acks == Acks::Durable;
        for (&call, place) in sent.calls.iter().zip(places) {
            kept.history.acknowledged_again(call, *place, durable);
        }
        if durable && let Some(topic) = self.topics.get_mut(&sent.topic) {
            topic.producers.acknowledged(request);
        }
        places.len() as u64
    }

    /// The history of a topic that is still the same.
    fn same(&mut self, topic: &str, number: u64) -> Option<&mut Records> {
        let of = self.topics.get_mut(topic)?;
        (of.number == number).then(|| Arc::make_mut(&mut of.records))
    }

    pub(crate) fn history(&mut self, topic: &str, number: u64) -> Option<&mut History> {
        self.same(topic, number).map(|kept| &mut kept.history)
    }

    /// A topic is about to be made.
    pub(crate) fn creating(&mut self, spec: &TopicSpec) {
        let topic = Topic {
            number: self.next_topic,
            id: None,
            spec: spec.clone(),
            change: Some(Change::Create),
            retention_changed: false,
            records: Arc::default(),
            producers: Producers::default(),
        };
        self.next_topic += 1;
        self.topics.insert(spec.name.clone(), topic);
    }

    /// A topic is about to be changed.
    pub(crate) fn changing(&mut self, name: &str, change: Change) {
        if let Some(topic) = self.topics.get_mut(name) {
            if let Change::Update(spec) = &change {
                topic.retention_changed |= spec.retention_ms != topic.spec.retention_ms
                    || spec.retention_bytes != topic.spec.retention_bytes;
            }
            topic.change = Some(change);
        }
    }

    /// The change has happened, or surely has not.
    pub(crate) fn changed(&mut self, name: &str, done: bool) {
        let Some(topic) = self.topics.get_mut(name) else {
            return;
        };
        match (topic.change.take(), done) {
            (Some(Change::Create), false) | (Some(Change::Delete), true) => {
                self.topics.remove(name);
            }
            (Some(Change::Update(spec)), true) => topic.spec = spec,
            _ => {}
        }
    }

    /// The power was cut.
    pub(crate) fn power_cut(&mut self) {
        for topic in self.topics.values_mut() {
            Arc::make_mut(&mut topic.records).history.power_cut();
        }
    }

    /// Holds what a broker tells against what it has to hold; nothing is under way. With `settle`
    /// all is known from then on.
    pub(crate) fn hold(&mut self, observed: &Observed) -> Vec<String> {
        let mut wrong = self.hold_topics(observed);
        let latest_ms = self.latest_ms;
        for (info, contents) in &observed.topics {
            let name = &info.spec.name;
            let Some(topic) = self.topics.get_mut(name) else {
                continue;
            };
            let commits: Vec<_> = observed
                .commits
                .iter()
                .filter(|(_, found)| found.topic == *name)
                .filter_map(|(group, found)| {
                    let offset = found.committed_offset? as i64;
                    Some((group.clone(), found.partition as i32, offset))
                })
                .collect();
            let before = wrong.len();
            for content in contents {
                wrong.extend(topic.hold_start(content, latest_ms));
            }
            let history = &mut Arc::make_mut(&mut topic.records).history;
            for content in contents {
                let (start, end) = (content.start, content.info.high_watermark as i64);
                let partition = content.info.partition as i32;
                history.read_from_start(partition, start, end, &content.records);
            }
            history.found_committed(&commits);
            history.settle();
            wrong.extend(history.violations().iter().map(ToString::to_string));
            for wrong in &mut wrong[before..] {
                *wrong = format!("{name}: {wrong}");
            }
        }
        wrong
    }

    /// Holds what can be read, while a part of the disk fails, against what was sent and seen.
    pub(crate) fn glance(&mut self, observed: &Observed) -> Vec<String> {
        let mut wrong = Vec::new();
        for (info, contents) in &observed.topics {
            let name = &info.spec.name;
            let Some(topic) = self.topics.get_mut(name) else {
                continue;
            };
            if topic.id.is_some_and(|id| id != info.id) {
                continue;
            }
            let history = &mut Arc::make_mut(&mut topic.records).history;
            for content in contents {
                history.read(
                    content.info.partition as i32,
                    content.start,
                    &content.records,
                );
            }
            let violations = history.violations().iter();
            wrong.extend(violations.map(|violation| format!("{name}: {violation}")));
        }
        wrong
    }

    /// The topics that are there are those that have to be. From now on they are known.
    fn hold_topics(&mut self, observed: &Observed) -> Vec<String> {
        let mut wrong = Vec::new();
        for (info, contents) in &observed.topics {
            let name = &info.spec.name;
            let Some(topic) = self.topics.get_mut(name) else {
                wrong.push(format!("{name} was deleted or never made"));
                continue;
            };
            if topic.id.is_some_and(|id| id != info.id) {
                wrong.push(format!("{name} is another topic than before"));
            }
            topic.id = Some(info.id);
            match topic.change.take() {
                Some(Change::Update(spec)) if spec == info.spec => topic.spec = spec,
                _ => {}
            }
            if topic.spec != info.spec {
                let (was, is) = (&topic.spec, &info.spec);
                wrong.push(format!("{name} is set up as {is:?}, and was as {was:?}"));
            }
            if contents.len() != info.spec.partition_count as usize {
                wrong.push(format!("{name} has {} partitions", contents.len()));
            }
        }
        self.topics.retain(|name, topic| {
            let there = observed
                .topics
                .iter()
                .any(|(info, _)| info.spec.name == *name);
            let may_be_gone = matches!(topic.change, Some(Change::Create | Change::Delete));
            if !there && !may_be_gone {
                wrong.push(format!(
                    "{name} was made and never deleted, and is not there"
                ));
            }
            there
        });
        wrong
    }
}

impl Topic {
    /// Whether nothing is ever removed by itself.
    pub(crate) fn keeps_all(&self) -> bool {
        let spec = &self.spec;
        (spec.retention_ms, spec.retention_bytes) == (None, None) && !self.retention_changed
    }

    /// What retention has removed was too old or too much.
    fn hold_start(&mut self, content: &Content, latest_ms: i64) -> Vec<String> {
        let mut wrong = Vec::new();
        let keeps_all = self.keeps_all();
        let kept = Arc::make_mut(&mut self.records);
        let partition = content.info.partition as i32;
        let asked = kept.history.trim_asked(partition);
        if content.start <= asked || keeps_all {
            return wrong;
        }
        if !self.retention_changed {
            match (self.spec.retention_ms, self.spec.retention_bytes) {
                (Some(age_ms), None) => {
                    let young = kept.history.acknowledged_places().find(|(place, call)| {
                        place.partition == partition
                            && (asked..content.start).contains(&place.offset)
                            && kept
                                .sent_ms
                                .get(call)
                                .is_some_and(|&at| at >= latest_ms - age_ms)
                    });
                    if let Some((place, _)) = young {
                        wrong.push(format!("the record in {place} was removed before its time"));
                    }
                }
                (None, Some(bytes))
                    if content.info.size_bytes < bytes && self.spec.overflow == Overflow::Trim =>
                {
                    wrong.push(format!(
                        "partition {partition} keeps {} bytes, and retention was to leave {bytes}",
                        content.info.size_bytes
                    ));
                }
                _ => {}
            }
        }
        // Whole segments that were readable: nothing beyond the end.
        kept.history.trimming(partition, content.start);
        wrong
    }
}
