//! What the commands of the offsets log add up to.

use std::collections::BTreeMap;

use uuid::Uuid;

use crate::internal::StateMachine;
use crate::offsets::command::{CommitSet, OffsetsCommand, PartitionOffset};

/// All committed offsets, by group.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct OffsetsState {
    groups: BTreeMap<String, GroupOffsets>,
    count: usize,
}

/// Committed offsets of one group. There may be a million of them in all, so they lie side by side: a
/// few topics, ordered by id, and in each the partitions in their order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct GroupOffsets(Vec<(Uuid, Vec<PartitionOffset>)>);

impl GroupOffsets {
    /// What the group has committed in a topic, by partition.
    pub(crate) fn topic(&self, id: Uuid) -> &[PartitionOffset] {
        match self.place(id) {
            Ok(at) => &self.0[at].1,
            Err(_) => &[],
        }
    }

    /// What the group has committed of one partition.
    pub(crate) fn get(&self, topic: Uuid, partition: u32) -> Option<u64> {
        let offsets = self.topic(topic);
        let at = offsets
            .binary_search_by_key(&partition, |at| at.partition)
            .ok()?;
        Some(offsets[at].offset)
    }

    /// All that the group has committed, by topic.
    pub(crate) fn topics(&self) -> impl Iterator<Item = (Uuid, &[PartitionOffset])> {
        self.0.iter().map(|(id, offsets)| (*id, offsets.as_slice()))
    }

    fn place(&self, id: Uuid) -> Result<usize, usize> {
        self.0.binary_search_by_key(&id, |(topic, _)| *topic)
    }

    /// Puts offsets in; `merge` makes one of what is there and what comes. Tells how many are new.
    fn put(&mut self, id: Uuid, offsets: &[PartitionOffset], merge: fn(u64, u64) -> u64) -> usize {
        let at = self.place(id).unwrap_or_else(|at| {
            self.0.insert(at, (id, Vec::new()));
            at
        });
        let kept = &mut self.0[at].1;
        let before = kept.len();
        for new in offsets {
            match kept[..before].binary_search_by_key(&new.partition, |at| at.partition) {
                Ok(at) => kept[at].offset = merge(kept[at].offset, new.offset),
                Err(_) => kept.push(*new),
            }
        }
        if kept.len() > before {
            // Runs that are in order are merged in linear time.
            kept.sort_by_key(|at| at.partition);
            kept.dedup_by(|next, first| {
                let is_same = next.partition == first.partition;
                if is_same {
                    first.offset = merge(first.offset, next.offset);
                }
                is_same
            });
        }
        kept.len() - before
    }

    fn len(&self) -> usize {
        self.0.iter().map(|(_, offsets)| offsets.len()).sum()
    }
}

impl OffsetsState {
    /// What a group has committed.
    pub(crate) fn committed(&self, group: &str, topic: Uuid, partition: u32) -> Option<u64> {
        self.groups.get(group)?.get(topic, partition)
    }

    /// All that a group has committed.
    pub(crate) fn group(&self, group: &str) -> Option<&GroupOffsets> {
        self.groups.get(group)
    }

    /// Topic, partition and offset of all that any group has committed.
    pub(crate) fn all(&self) -> impl Iterator<Item = (Uuid, u32, u64)> {
        self.groups
            .values()
            .flat_map(GroupOffsets::topics)
            .flat_map(|(topic, offsets)| {
                offsets
                    .iter()
                    .map(move |at| (topic, at.partition, at.offset))
            })
    }

    /// How far all groups that have committed anything in a topic have read one of its partitions;
    /// `None` if there is no such group.
    pub(crate) fn read_by_all(&self, topic: Uuid, partition: u32) -> Option<u64> {
        let of_topic = self
            .groups
            .values()
            .filter(|group| group.place(topic).is_ok());
        of_topic
            .map(|group| group.get(topic, partition).unwrap_or(0))
            .min()
    }

    /// Names of groups that have committed anything, from the first after `after` on.
    pub(crate) fn names_after<'a>(
        &'a self,
        after: Option<&'a str>,
    ) -> impl Iterator<Item = &'a str> {
        use std::ops::Bound::{Excluded, Unbounded};
        let from = after.map_or(Unbounded, Excluded);
        self.groups
            .range::<str, _>((from, Unbounded))
            .map(|(name, _)| name.as_str())
    }

    /// How many offsets are committed, of all groups.
    pub(crate) fn count(&self) -> usize {
        self.count
    }

    /// Whether any group has committed in a topic.
    pub(crate) fn has_topic(&self, id: Uuid) -> bool {
        self.groups.values().any(|group| group.place(id).is_ok())
    }

    /// Forgets the topics that are no more.
    pub(crate) fn retain_topics(&mut self, exists: impl Fn(Uuid) -> bool) {
        for group in self.groups.values_mut() {
            group.0.retain(|(topic, _)| exists(*topic));
        }
        self.groups.retain(|_, group| !group.0.is_empty());
        self.count = self.groups.values().map(GroupOffsets::len).sum();
    }

    fn put(&mut self, sets: &[CommitSet], ids: &[Uuid], merge: fn(u64, u64) -> u64) {
        for (set, &topic) in sets.iter().zip(ids) {
            if set.offsets.is_empty() {
                continue;
            }
            if !self.groups.contains_key(&set.group) {
                self.groups
                    .insert(set.group.clone(), GroupOffsets::default());
            }
            let group = self.groups.get_mut(&set.group);
            let group = group.expect("it is there or was put there");
            self.count += group.put(topic, &set.offsets, merge);
        }
    }
}

impl StateMachine for OffsetsState {
    type Command = OffsetsCommand;
    type Snapshot = OffsetsCommand;

    fn apply(&mut self, command: &OffsetsCommand) -> Result<(), String> {
        let deleted_topics = topic_ids(command.deleted_topics.iter())?;
        let reset_topics = topic_ids(command.resets.iter().map(|set| &set.topic_id))?;
        let topics = topic_ids(command.commits.iter().map(|set| &set.topic_id))?;
        if !deleted_topics.is_empty() {
            self.retain_topics(|id| !deleted_topics.contains(&id));
        }
        for name in &command.deleted_groups {
            let gone = self.groups.remove(name);
            self.count -= gone.map_or(0, |group| group.len());
        }
        self.put(&command.resets, &reset_topics, |_, new| new);
        self.put(&command.commits, &topics, u64::max);
        Ok(())
    }

    fn snapshot(&self) -> OffsetsCommand {
        let mut commits = Vec::new();
        for (group, topics) in &self.groups {
            for (topic, offsets) in topics.topics() {
                commits.push(CommitSet {
                    group: group.clone(),
                    topic_id: topic.as_bytes().to_vec(),
                    offsets: offsets.to_vec(),
                });
            }
        }
        OffsetsCommand {
            commits,
            ..OffsetsCommand::default()
        }
    }

    fn restore(snapshot: OffsetsCommand) -> Result<Self, String> {
        let mut state = Self::default();
        state.apply(&snapshot)?;
        Ok(state)
    }
}

fn topic_ids<'a>(bytes: impl Iterator<Item = &'a Vec<u8>>) -> Result<Vec<Uuid>, String> {
    bytes
        .map(|bytes| {
            Uuid::from_slice(bytes).map_err(|_| format!("a topic id of {} bytes", bytes.len()))
        })
        .collect()
}

#[cfg(test)]
mod tests;
