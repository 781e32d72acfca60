//! The one client of a broker that meets an error, and what it knows.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use flowstone_proto::v1 as proto;
use flowstone_proto::v1::start_position::{Anchor, Position};
use flowstone_tests::{Dice, History, Stub};
use tonic::{Code, Status};

/// No call takes anywhere near this.
const CALL_LIMIT: Duration = Duration::from_secs(10);
const GROUP: &str = "readers";
/// Topics with their partitions, in the order of their creation.
pub(crate) const OLD: (&str, i32) = ("old", 3);
pub(crate) const GONE: (&str, i32) = ("gone", 1);
pub(crate) const NEW: (&str, i32) = ("new", 1);
/// The id of the first partition that a topic is given.
pub(crate) const FIRST_ID: u64 = 16;
const SEGMENT_BYTES: i64 = 65_536;
/// Four of them fill a segment.
const VALUE_BYTES: usize = 14_000;

/// A call that has ended.
#[derive(Clone, Debug)]
pub(crate) struct Done {
    pub(crate) what: String,
    /// The directory of the partition that it was about.
    pub(crate) partition: Option<u64>,
    /// Unix time in seconds.
    pub(crate) begun: f64,
    pub(crate) ended: f64,
    pub(crate) failed: Option<String>,
    /// It failed without a word of the broker's.
    pub(crate) is_cut_off: bool,
}

/// A topic and what is known of it.
#[derive(Clone, Debug, Default)]
struct Topic {
    history: History,
    /// None when a call about it has failed: it may be there or not.
    exists: Option<bool>,
    committed: BTreeMap<i32, i64>,
}

/// What a client knows. A clone of it knows the same.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    topics: BTreeMap<&'static str, Topic>,
    made: u32,
    pub(crate) calls: Vec<Done>,
    pub(crate) wrong: Vec<String>,
}

/// Unix time in seconds, as strace tells it.
pub(crate) fn now() -> f64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0.0, |since| since.as_secs_f64())
}

/// The directories of a topic's partitions, where no topic was refused before.
fn first_id(topic: &str) -> u64 {
    let before = [OLD, GONE, NEW];
    let before = before.iter().take_while(|(name, _)| *name != topic);
    FIRST_ID
        + before
            .map(|(_, partitions)| *partitions as u64)
            .sum::<u64>()
}

impl Client {
    pub(crate) fn new() -> Self {
        let topics = [OLD, GONE, NEW].map(|(name, _)| {
            let topic = Topic {
                exists: Some(false),
                ..Topic::default()
            };
            (name, topic)
        });
        Self {
            topics: topics.into(),
            made: 0,
            calls: Vec::new(),
            wrong: Vec::new(),
        }
    }

    fn topic(&mut self, name: &str) -> &mut Topic {
        self.topics.get_mut(name).expect("it is one of the three")
    }

    async fn call<T>(
        &mut self,
        what: String,
        partition: Option<u64>,
        call: impl Future<Output = Result<T, Status>>,
    ) -> Result<T, Status> {
        let begun = now();
        let answer = tokio::time::timeout(CALL_LIMIT, call).await;
        let answer = answer.unwrap_or_else(|_| {
            self.wrong
                .push(format!("{what} is not answered within {CALL_LIMIT:?}"));
            Err(Status::deadline_exceeded("no answer came"))
        });
        let failed = answer.as_ref().err();
        let is_told = |status: &Status| status.metadata().get("flowstone-reason").is_some();
        self.calls.push(Done {
            what,
            partition,
            begun,
            ended: now(),
            failed: failed.map(ToString::to_string),
            is_cut_off: failed.is_some_and(|status| !is_told(status)),
        });
        answer
    }

    /// Creates a topic that was never there.
    pub(crate) async fn create(&mut self, stub: &Stub, (name, partitions): (&'static str, i32)) {
        if self.topic(name).exists != Some(false) {
            return;
        }
        let topic = proto::Topic {
            name: name.to_owned(),
            partition_count: partitions,
            segment_bytes: Some(SEGMENT_BYTES),
            ..proto::Topic::default()
        };
        let request = proto::CreateTopicRequest {
            topic: Some(topic),
            validate_only: false,
        };
        let mut topics = stub.topics.clone();
        let what = format!("the creation of {name}");
        let answer = self.call(what, None, topics.create_topic(request)).await;
        self.topic(name).exists = answer.ok().map(|_| true);
    }

    pub(crate) async fn delete(&mut self, stub: &Stub, name: &'static str) {
        let request = proto::DeleteTopicRequest {
            topic: name.to_owned(),
        };
        let mut topics = stub.topics.clone();
        let what = format!("the deletion of {name}");
        let answer = self.call(what, None, topics.delete_topic(request)).await;
        self.topic(name).exists = answer.ok().map(|_| false);
    }

    /// Produces one record, durably, and tells whether it was acknowledged.
    pub(crate) async fn produce(
        &mut self,
        stub: &Stub,
        name: &'static str,
        partition: i32,
    ) -> bool {
        self.made += 1;
        let mut value = format!("{}-", self.made).into_bytes();
        value.extend(Dice::new(u64::from(self.made)).bytes(VALUE_BYTES));
        let record = proto::Record {
            value: Some(value.into()),
            ..proto::Record::default()
        };
        let call = self.topic(name).history.invoke(0, &record);
        let request = proto::ProduceRequest {
            records: vec![record],
            topic: name.to_owned(),
            partition: Some(partition),
            acks: proto::Acks::Durable.into(),
            ..proto::ProduceRequest::default()
        };
        let mut log = stub.log.clone();
        let id = first_id(name) + partition as u64;
        let what = format!("produce to {name} {partition}");
        match self.call(what, Some(id), log.produce(request)).await {
            Ok(response) => {
                let offset = response.get_ref().runs.first().map(|run| run.base_offset);
                let history = &mut self.topic(name).history;
                history.acknowledged(call, partition, offset.unwrap_or(-1));
                true
            }
            Err(status) => {
                // A status with a reason of the broker's that leaves nothing open: nothing is there.
                let reason = status.metadata().get("flowstone-reason");
                if reason.is_some_and(|reason| reason != "OUTCOME_UNKNOWN") {
                    self.topic(name).history.refused(call);
                }
                false
            }
        }
    }

    pub(crate) async fn commit(
        &mut self,
        stub: &Stub,
        name: &'static str,
        partition: i32,
        at: i64,
    ) {
        let cursor = proto::Cursor {
            group: GROUP.to_owned(),
            topic: name.to_owned(),
            partition,
            offset: at,
            ..proto::Cursor::default()
        };
        let request = proto::CommitOffsetsRequest {
            cursors: vec![cursor],
            released: Vec::new(),
        };
        let mut log = stub.log.clone();
        let what = format!("the commit of {name} {partition}");
        let answer = self.call(what, None, log.commit_offsets(request)).await;
        if answer.is_ok() {
            self.topic(name).committed.insert(partition, at);
        }
    }

    pub(crate) async fn trim(&mut self, stub: &Stub, name: &'static str, partition: i32, to: i64) {
        self.topic(name).history.trimming(partition, to);
        let request = proto::TrimPartitionRequest {
            topic: name.to_owned(),
            partition,
            before_offset: to,
        };
        let mut topics = stub.topics.clone();
        let id = first_id(name) + partition as u64;
        let what = format!("the trim of {name} {partition}");
        let answer = self
            .call(what, Some(id), topics.trim_partition(request))
            .await;
        if let Ok(response) = answer {
            let start = response.get_ref().log_start_offset;
            self.topic(name).history.starts_at(partition, start);
        }
    }

    /// Reads a whole partition, and tells whether that went well.
    pub(crate) async fn read(&mut self, stub: &Stub, name: &'static str, partition: i32) -> bool {
        let earliest = Position::Anchor(Anchor::Earliest.into());
        let id = first_id(name) + partition as u64;
        let what = format!("reading {name} {partition}");
        let read = stub.read_from(name, partition, earliest);
        match self.call(what, Some(id), read).await {
            Ok(read) => {
                let history = &mut self.topic(name).history;
                history.starts_at(partition, read.start);
                history.read_to_end(partition, read.start, read.end, &read.records);
                true
            }
            Err(_) => false,
        }
    }

    /// Produces to every partition and reads all of them. Tells which could not be used, by their
    /// directories.
    pub(crate) async fn use_all(&mut self, stub: &Stub) -> BTreeSet<u64> {
        let mut unusable = BTreeSet::new();
        for (name, partitions) in [OLD, GONE, NEW] {
            if self.topic(name).exists != Some(true) {
                continue;
            }
            for partition in 0..partitions {
                let served = self.produce(stub, name, partition).await
                    & self.read(stub, name, partition).await;
                if !served {
                    unusable.insert(first_id(name) + partition as u64);
                }
            }
        }
        unusable
    }

    /// Nothing may be amiss any more: all that was ever promised is there.
    pub(crate) async fn check(&mut self, stub: &Stub) {
        for (name, partitions) in [OLD, GONE, NEW] {
            let request = proto::GetTopicRequest {
                topic: name.to_owned(),
            };
            let mut topics = stub.topics.clone();
            let what = format!("asking for {name}");
            let info = match self.call(what, None, topics.get_topic(request)).await {
                Ok(info) => info.into_inner(),
                Err(status) if status.code() == Code::NotFound => {
                    if self.topic(name).exists == Some(true) {
                        self.wrong.push(format!("{name} is not there any more"));
                    }
                    self.topic(name).exists = Some(false);
                    continue;
                }
                Err(status) => {
                    self.wrong.push(format!("{name}: {status}"));
                    continue;
                }
            };
            if self.topic(name).exists == Some(false) {
                self.wrong.push(format!("{name} is there again"));
            }
            self.topic(name).exists = Some(true);
            for partition in info.partitions.iter().filter(|partition| partition.offline) {
                let number = partition.partition;
                self.wrong.push(format!("{name} {number} is still offline"));
            }
            for partition in 0..partitions {
                // What is there is read, before and after more is appended.
                let served = self.read(stub, name, partition).await
                    && self.produce(stub, name, partition).await
                    && self.read(stub, name, partition).await;
                if !served {
                    let why = self.calls.last().and_then(|call| call.failed.clone());
                    let why = why.unwrap_or_default();
                    self.wrong
                        .push(format!("{name} {partition} is not served: {why}"));
                }
            }
        }
        self.check_commits(stub).await;
        for (name, topic) in &self.topics {
            let broken = topic.history.violations().iter();
            self.wrong
                .extend(broken.map(|violation| format!("{name}: {violation}")));
        }
    }

    async fn check_commits(&mut self, stub: &Stub) {
        let request = proto::GetGroupRequest {
            group: GROUP.to_owned(),
        };
        let mut groups = stub.groups.clone();
        let what = "asking for the group".to_owned();
        let answer = self.call(what, None, groups.get_group(request)).await;
        let group = answer.map(|response| response.into_inner().group.unwrap_or_default());
        let offsets = group.map(|group| group.offsets).unwrap_or_default();
        for (name, topic) in &self.topics {
            if topic.exists != Some(true) {
                continue;
            }
            for (&partition, &at) in &topic.committed {
                let found = offsets
                    .iter()
                    .find(|offset| offset.topic == *name && offset.partition == partition);
                let found = found.and_then(|offset| offset.committed_offset);
                if found.is_none_or(|found| found < at) {
                    self.wrong.push(format!(
                        "{name} {partition}: {at} was committed, and {found:?} is told"
                    ));
                }
            }
        }
    }
}
