//! The topics as they run: by name, each with its partitions.

pub(crate) mod admin;

use std::collections::BTreeMap;
use std::ops::Bound::{Excluded, Included, Unbounded};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, RwLock, RwLockReadGuard, RwLockWriteGuard};

use uuid::Uuid;

use crate::listeners::Listeners;
use crate::partition::{Label, Partition};
use crate::producers::{Epochs, Gate, RoutedBefore};
use crate::{Error, TopicInfo};

/// A topic.
#[derive(Debug)]
pub(crate) struct Topic {
    name: Arc<str>,
    id: Uuid,
    now: RwLock<Arc<TopicNow>>,
    /// Hear of what changes of the topic itself, and of its end or the broker's.
    listeners: Listeners,
    deleted: AtomicBool,
    next_keyless: AtomicU32,
    epochs: Arc<Epochs>,
    gate: Arc<Gate>,
}

/// What can change of a topic. Whoever holds one sees settings and partitions that belong together.
#[derive(Debug)]
pub(crate) struct TopicNow {
    pub(crate) info: TopicInfo,
    pub(crate) partitions: Vec<Arc<Partition>>,
    /// What was routed by fewer partitions.
    pub(crate) routed_before: Arc<RoutedBefore>,
}

impl Topic {
    /// A topic that has its partitions still to come.
    pub(crate) fn new(info: TopicInfo) -> Self {
        Self::with_epochs(info, Epochs::default())
    }

    /// The same, where producers were opened.
    pub(crate) fn with_epochs(info: TopicInfo, epochs: Epochs) -> Self {
        Self {
            name: info.spec.name.as_str().into(),
            id: info.id,
            now: RwLock::new(Arc::new(TopicNow {
                info,
                partitions: Vec::new(),
                routed_before: Arc::default(),
            })),
            listeners: Listeners::default(),
            deleted: AtomicBool::new(false),
            next_keyless: AtomicU32::new(0),
            epochs: Arc::new(epochs),
            gate: Arc::default(),
        }
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn id(&self) -> Uuid {
        self.id
    }

    /// What a partition of this topic is called.
    pub(crate) fn label(&self, partition: u32) -> Label {
        Label {
            topic: Arc::clone(&self.name),
            partition,
            internal: false,
        }
    }

    /// Settings and partitions as they are now.
    pub(crate) fn now(&self) -> Arc<TopicNow> {
        Arc::clone(&self.now.read().expect(NO_PANIC))
    }

    /// Settings and partitions as they are from now on.
    pub(crate) fn replace(&self, now: TopicNow) {
        *self.now.write().expect(NO_PANIC) = Arc::new(now);
        self.wake();
    }

    /// How many partitions it has now.
    pub(crate) fn partition_count(&self) -> u32 {
        self.now.read().expect(NO_PANIC).partitions.len() as u32
    }

    /// The epochs of its producers.
    pub(crate) fn epochs(&self) -> &Arc<Epochs> {
        &self.epochs
    }

    /// Where requests with a producer go in.
    pub(crate) fn gate(&self) -> &Arc<Gate> {
        &self.gate
    }

    /// One of its partitions.
    pub(crate) fn partition(&self, partition: u32) -> Result<Arc<Partition>, Error> {
        let now = self.now();
        let found = now.partitions.get(partition as usize);
        found
            .cloned()
            .ok_or_else(|| self.no_partition(partition, &now))
    }

    /// The error of a partition that there is not.
    pub(crate) fn no_partition(&self, partition: u32, now: &TopicNow) -> Error {
        Error::PartitionNotFound {
            topic: self.name.to_string(),
            partition,
            partition_count: now.info.spec.partition_count,
        }
    }

    /// Fails if the caller means an earlier topic of the same name.
    pub(crate) fn check_id(&self, id: Option<Uuid>) -> Result<(), Error> {
        if id.is_some_and(|id| id != self.id) {
            return Err(Error::TopicRecreated {
                topic: self.name.to_string(),
            });
        }
        Ok(())
    }

    /// The partition for the records without a key of the next request: one after the other, past
    /// those that take nothing, or nothing for now.
    pub(crate) fn next_keyless(&self, now: &TopicNow) -> u32 {
        let count = now.partitions.len() as u32;
        let first = self.next_keyless.fetch_add(1, Ordering::Relaxed);
        let takes = |at: &u32| {
            let partition = &now.partitions[*at as usize];
            partition.refusal().is_none() && partition.full().is_none()
        };
        (0..count)
            .map(|step| first.wrapping_add(step) % count)
            .find(takes)
            .unwrap_or(first % count)
    }

    /// Tells readers that this topic is no more.
    pub(crate) fn delete(&self) {
        self.deleted.store(true, Ordering::Release);
        self.wake();
    }

    pub(crate) fn is_deleted(&self) -> bool {
        self.deleted.load(Ordering::Acquire)
    }

    pub(crate) fn not_found(&self) -> Error {
        not_found(&self.name)
    }

    /// Tells those who listen to the topic that it is to be looked at.
    pub(crate) fn wake(&self) {
        self.listeners.tell();
    }

    /// Those who hear of it. They hear of its partitions apart.
    pub(crate) fn listeners(&self) -> &Listeners {
        &self.listeners
    }
}

/// All topics.
#[derive(Debug, Default)]
pub(crate) struct Topics(RwLock<Maps>);

#[derive(Debug, Default)]
struct Maps {
    by_name: BTreeMap<String, Arc<Topic>>,
    by_id: BTreeMap<Uuid, Arc<Topic>>,
}

impl Topics {
    pub(crate) fn get(&self, name: &str) -> Result<Arc<Topic>, Error> {
        let maps = self.read();
        maps.by_name
            .get(name)
            .cloned()
            .ok_or_else(|| not_found(name))
    }

    pub(crate) fn get_by_id(&self, id: Uuid) -> Option<Arc<Topic>> {
        self.read().by_id.get(&id).cloned()
    }

    /// At most `limit` topics whose names begin with `prefix` and come after `after`, by name.
    pub(crate) fn list(&self, prefix: &str, after: Option<&str>, limit: usize) -> Vec<Arc<Topic>> {
        let from = match after {
            Some(after) if after >= prefix => Excluded(after),
            _ => Included(prefix),
        };
        self.read()
            .by_name
            .range::<str, _>((from, Unbounded))
            .take_while(|(name, _)| name.starts_with(prefix))
            .take(limit)
            .map(|(_, topic)| Arc::clone(topic))
            .collect()
    }

    /// All topics, by name.
    pub(crate) fn all(&self) -> Vec<Arc<Topic>> {
        self.list("", None, usize::MAX)
    }

    pub(crate) fn insert(&self, topic: Arc<Topic>) {
        let mut maps = self.write();
        maps.by_name
            .insert(topic.name().to_owned(), Arc::clone(&topic));
        maps.by_id.insert(topic.id(), topic);
    }

    pub(crate) fn remove(&self, topic: &Topic) {
        let mut maps = self.write();
        maps.by_name.remove(topic.name());
        maps.by_id.remove(&topic.id());
    }

    fn read(&self) -> RwLockReadGuard<'_, Maps> {
        self.0.read().expect(NO_PANIC)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Maps> {
        self.0.write().expect(NO_PANIC)
    }
}

const NO_PANIC: &str = "nothing panics with topics in hand";

fn not_found(name: &str) -> Error {
    Error::TopicNotFound {
        topic: name.to_owned(),
    }
}
