//! What the commands of the metadata log add up to.

use std::collections::BTreeMap;

use flowstone_format::PartitionId;
use prost::Message;
use uuid::Uuid;

use crate::internal::StateMachine;
use crate::metadata::command::{
    CreateTopic, DeleteTopic, ForgetProducers, Kind, MetadataCommand, OpenProducer, TopicSettings,
    UpdateTopic, topic_id,
};
use crate::metadata::producers::{OpenedProducers, ProducersSnapshot};
use crate::{TopicInfo, TopicSpec};

/// Ids below are those of internal logs.
pub(crate) const FIRST_TOPIC_PARTITION: u64 = 16;

/// All topics, and the ids that were given out.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct MetadataState {
    /// The next partition's id; all below were given out and are never given out again.
    next_partition: u64,
    topics: BTreeMap<Uuid, TopicState>,
    by_name: BTreeMap<String, Uuid>,
    /// Of the topics that have or had opened producers.
    producers: BTreeMap<Uuid, OpenedProducers>,
}

impl Default for MetadataState {
    fn default() -> Self {
        Self {
            next_partition: FIRST_TOPIC_PARTITION,
            topics: BTreeMap::new(),
            by_name: BTreeMap::new(),
            producers: BTreeMap::new(),
        }
    }
}

/// A topic.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct TopicState {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(bytes = "vec", tag = "2")]
    id: Vec<u8>,
    #[prost(int64, tag = "3")]
    created_ms: i64,
    #[prost(message, required, tag = "4")]
    settings: TopicSettings,
    /// The ids of its partitions, in the order of the partitions.
    #[prost(message, repeated, tag = "5")]
    partitions: Vec<IdRange>,
}

#[derive(Clone, Copy, PartialEq, Message)]
pub(crate) struct IdRange {
    #[prost(uint64, tag = "1")]
    first: u64,
    #[prost(uint32, tag = "2")]
    count: u32,
}

/// The state as it is stored.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct MetadataSnapshot {
    #[prost(uint64, tag = "1")]
    next_partition: u64,
    #[prost(message, repeated, tag = "2")]
    topics: Vec<TopicState>,
    #[prost(message, repeated, tag = "3")]
    producers: Vec<ProducersSnapshot>,
}

impl TopicState {
    /// The topic as it is seen from outside.
    pub(crate) fn info(&self) -> TopicInfo {
        TopicInfo {
            spec: TopicSpec {
                name: self.name.clone(),
                partition_count: self.partition_count(),
                retention_ms: self.settings.retention_ms,
                retention_bytes: self.settings.retention_bytes,
                segment_bytes: self.settings.segment_bytes,
                max_record_bytes: self.settings.max_record_bytes,
                default_acks: self
                    .settings
                    .default_acks()
                    .expect("settings are checked when they are applied"),
                overflow: self
                    .settings
                    .overflow()
                    .expect("settings are checked when they are applied"),
                labels: self.settings.labels.clone(),
            },
            id: topic_id(&self.id).expect("ids are checked when they are applied"),
            created_ms: self.created_ms,
        }
    }

    /// The ids of its partitions, in the order of the partitions.
    pub(crate) fn partition_ids(&self) -> impl Iterator<Item = PartitionId> + '_ {
        self.partitions
            .iter()
            .flat_map(|range| range.first..range.first + u64::from(range.count))
            .map(PartitionId::new)
    }

    fn partition_count(&self) -> u32 {
        self.partitions.iter().map(|range| range.count).sum()
    }
}

impl MetadataState {
    /// The id that the next partition will get.
    pub(crate) fn next_partition(&self) -> PartitionId {
        PartitionId::new(self.next_partition)
    }

    /// The topics, by id.
    pub(crate) fn topics(&self) -> impl Iterator<Item = &TopicState> {
        self.topics.values()
    }

    pub(crate) fn topic_count(&self) -> usize {
        self.topics.len()
    }

    /// Partitions of all topics.
    pub(crate) fn partition_count(&self) -> u64 {
        self.topics
            .values()
            .map(|topic| u64::from(topic.partition_count()))
            .sum()
    }

    pub(crate) fn is_named(&self, name: &str) -> bool {
        self.by_name.contains_key(name)
    }

    /// The producers of a topic that were opened, if it ever had any.
    pub(crate) fn producers(&self, topic: Uuid) -> Option<&OpenedProducers> {
        self.producers.get(&topic)
    }

    /// Opened producers of all topics.
    pub(crate) fn producer_count(&self) -> usize {
        self.producers.values().map(OpenedProducers::len).sum()
    }

    /// No id below is given out any more, though the commands that gave them out are lost.
    pub(crate) fn skip_partitions(&mut self, below: u64) {
        self.next_partition = self.next_partition.max(below);
    }

    fn create(&mut self, command: &CreateTopic) -> Result<(), String> {
        let id = topic_id(&command.id)?;
        self.check_first(command.first_partition)?;
        command.settings.check()?;
        if command.partition_count == 0 {
            return Err(format!("topic {:?} without partitions", command.name));
        }
        if self.topics.contains_key(&id) || self.by_name.contains_key(&command.name) {
            return Err(format!("topic {:?} is made a second time", command.name));
        }
        let ids = self.give_out(command.partition_count)?;
        let topic = TopicState {
            name: command.name.clone(),
            id: command.id.clone(),
            created_ms: command.created_ms,
            settings: command.settings.clone(),
            partitions: vec![ids],
        };
        self.by_name.insert(command.name.clone(), id);
        self.topics.insert(id, topic);
        Ok(())
    }

    fn update(&mut self, command: &UpdateTopic) -> Result<(), String> {
        let id = topic_id(&command.id)?;
        command.settings.check()?;
        let have = self.known(id)?.partition_count();
        let more = command
            .partition_count
            .checked_sub(have)
            .ok_or_else(|| format!("{} of {have} partitions", command.partition_count))?;
        self.check_first(command.first_partition)?;
        let added = (more > 0).then(|| self.give_out(more)).transpose()?;
        let topic = self.topics.get_mut(&id).expect("it was found above");
        topic.settings = command.settings.clone();
        topic.partitions.extend(added);
        Ok(())
    }

    fn delete(&mut self, command: &DeleteTopic) -> Result<(), String> {
        let id = topic_id(&command.id)?;
        let name = self.known(id)?.name.clone();
        self.by_name.remove(&name);
        self.remove(id);
        Ok(())
    }

    fn remove(&mut self, id: Uuid) {
        self.topics.remove(&id);
        self.producers.remove(&id);
    }

    fn open_producer(&mut self, command: &OpenProducer) -> Result<(), String> {
        let id = topic_id(&command.topic)?;
        self.known(id)?;
        self.producers.entry(id).or_default().open(command)
    }

    fn forget_producers(&mut self, command: &ForgetProducers) -> Result<(), String> {
        let id = topic_id(&command.topic)?;
        self.known(id)?;
        self.producers.entry(id).or_default().forget(command)
    }

    fn check_first(&self, first: u64) -> Result<(), String> {
        if first == 0 || first == self.next_partition {
            return Ok(());
        }
        let next = self.next_partition;
        Err(format!(
            "partition {first} is given out where {next} is next"
        ))
    }

    /// A topic that was made where commands may be lost before. It says itself which ids it got, and
    /// a topic that had its name must have been deleted.
    fn create_after_loss(&mut self, command: &CreateTopic) -> Result<(), String> {
        let first = command.first_partition;
        if first < self.next_partition {
            let name = &command.name;
            return Err(format!("the partitions of topic {name:?} are not known"));
        }
        let id = topic_id(&command.id)?;
        command.settings.check()?;
        if command.partition_count == 0 || self.topics.contains_key(&id) {
            return Err(format!("topic {:?} cannot be made", command.name));
        }
        if let Some(deleted) = self.by_name.remove(&command.name) {
            self.remove(deleted);
        }
        self.skip_partitions(first);
        self.create(command)
    }

    /// Growth after a loss is believed only if it follows from what is known: part of what was added
    /// before may be lost, and the partitions' numbers would be others.
    fn update_after_loss(&mut self, command: &UpdateTopic) -> Result<(), String> {
        let have = self.known(topic_id(&command.id)?)?.partition_count();
        if command.partition_count > have && command.first_partition != self.next_partition {
            return Err("the partitions that were added are not known".to_owned());
        }
        self.update(command)
    }

    fn known(&self, id: Uuid) -> Result<&TopicState, String> {
        self.topics
            .get(&id)
            .ok_or_else(|| format!("topic {id} is not there"))
    }

    fn give_out(&mut self, count: u32) -> Result<IdRange, String> {
        let first = self.next_partition;
        self.next_partition = first
            .checked_add(u64::from(count))
            .ok_or("there are no partition ids left")?;
        Ok(IdRange { first, count })
    }
}

impl StateMachine for MetadataState {
    type Command = MetadataCommand;
    type Snapshot = MetadataSnapshot;

    fn apply(&mut self, command: &MetadataCommand) -> Result<(), String> {
        match &command.kind {
            Some(Kind::Create(command)) => self.create(command),
            Some(Kind::Update(command)) => self.update(command),
            Some(Kind::Delete(command)) => self.delete(command),
            Some(Kind::OpenProducer(command)) => self.open_producer(command),
            Some(Kind::ForgetProducers(command)) => self.forget_producers(command),
            None => Err("a command that says nothing".to_owned()),
        }
    }

    fn apply_after_loss(&mut self, command: &MetadataCommand) -> Result<(), String> {
        match &command.kind {
            Some(Kind::Create(command)) => self.create_after_loss(command),
            Some(Kind::Update(command)) => self.update_after_loss(command),
            _ => self.apply(command),
        }
    }

    fn snapshot(&self) -> MetadataSnapshot {
        MetadataSnapshot {
            next_partition: self.next_partition,
            topics: self.topics.values().cloned().collect(),
            producers: self
                .producers
                .iter()
                .map(|(topic, opened)| opened.snapshot(*topic))
                .collect(),
        }
    }

    fn restore(snapshot: MetadataSnapshot) -> Result<Self, String> {
        let mut state = Self {
            next_partition: snapshot.next_partition,
            ..Self::default()
        };
        for topic in snapshot.topics {
            let id = topic_id(&topic.id)?;
            topic.settings.check()?;
            let below = |range: &IdRange| {
                range
                    .first
                    .checked_add(u64::from(range.count))
                    .is_some_and(|end| end <= snapshot.next_partition)
            };
            if topic.partitions.is_empty() || !topic.partitions.iter().all(below) {
                return Err(format!("topic {:?} has partitions of no one's", topic.name));
            }
            if state.by_name.insert(topic.name.clone(), id).is_some()
                || state.topics.insert(id, topic).is_some()
            {
                return Err("a topic stands twice in a snapshot".to_owned());
            }
        }
        for producers in snapshot.producers {
            let (topic, opened) = OpenedProducers::restore(producers)?;
            state.known(topic)?;
            if state.producers.insert(topic, opened).is_some() {
                return Err("the producers of a topic stand twice in a snapshot".to_owned());
            }
        }
        Ok(state)
    }
}

#[cfg(test)]
mod tests;
