//! What the commands of the offsets log add up to.

use std::collections::BTreeMap;

use uuid::Uuid;

use crate::internal::StateMachine;
use crate::offsets::command::{CommitSet, OffsetsCommand, PartitionOffset};

/// Committed offsets of one group, by topic and partition.
pub(crate) type GroupOffsets = BTreeMap<Uuid, BTreeMap<u32, u64>>;

/// All committed offsets, by group.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct OffsetsState {
    groups: BTreeMap<String, GroupOffsets>,
    count: usize,
}

impl OffsetsState {
    /// What a group has committed.
    pub(crate) fn committed(&self, group: &str, topic: Uuid, partition: u32) -> Option<u64> {
        self.groups
            .get(group)?
            .get(&topic)?
            .get(&partition)
            .copied()
    }

    /// All that a group has committed.
    pub(crate) fn group(&self, group: &str) -> Option<&GroupOffsets> {
        self.groups.get(group)
    }

    /// Topic, partition and offset of all that any group has committed.
    pub(crate) fn all(&self) -> impl Iterator<Item = (Uuid, u32, u64)> {
        self.groups
            .values()
            .flatten()
            .flat_map(|(topic, partitions)| {
                partitions
                    .iter()
                    .map(|(&partition, &offset)| (*topic, partition, offset))
            })
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

    /// Forgets the topics that are no more. They come back with a replay until the next snapshot,
    /// and are forgotten again.
    pub(crate) fn retain_topics(&mut self, exists: impl Fn(Uuid) -> bool) {
        for offsets in self.groups.values_mut() {
            offsets.retain(|topic, _| exists(*topic));
        }
        self.groups.retain(|_, offsets| !offsets.is_empty());
        self.count = self
            .groups
            .values()
            .flat_map(BTreeMap::values)
            .map(BTreeMap::len)
            .sum();
    }

    fn raise(&mut self, group: &str, topic: Uuid, commits: &[PartitionOffset]) {
        if commits.is_empty() {
            return;
        }
        if !self.groups.contains_key(group) {
            self.groups.insert(group.to_owned(), BTreeMap::new());
        }
        let offsets = self
            .groups
            .get_mut(group)
            .expect("it is there or was put there")
            .entry(topic)
            .or_default();
        let before = offsets.len();
        for commit in commits {
            let offset = offsets.entry(commit.partition).or_default();
            *offset = commit.offset.max(*offset);
        }
        self.count += offsets.len() - before;
    }
}

impl StateMachine for OffsetsState {
    type Command = OffsetsCommand;
    type Snapshot = OffsetsCommand;

    fn apply(&mut self, command: &OffsetsCommand) -> Result<(), String> {
        let ids: Vec<Uuid> = command
            .commits
            .iter()
            .map(|set| {
                Uuid::from_slice(&set.topic_id)
                    .map_err(|_| format!("a topic id of {} bytes", set.topic_id.len()))
            })
            .collect::<Result<_, _>>()?;
        for (set, topic) in command.commits.iter().zip(ids) {
            self.raise(&set.group, topic, &set.offsets);
        }
        Ok(())
    }

    fn snapshot(&self) -> OffsetsCommand {
        let mut commits = Vec::new();
        for (group, topics) in &self.groups {
            for (topic, offsets) in topics {
                commits.push(CommitSet {
                    group: group.clone(),
                    topic_id: topic.as_bytes().to_vec(),
                    offsets: offsets
                        .iter()
                        .map(|(&partition, &offset)| PartitionOffset { partition, offset })
                        .collect(),
                });
            }
        }
        OffsetsCommand { commits }
    }

    fn restore(snapshot: OffsetsCommand) -> Result<Self, String> {
        let mut state = Self::default();
        state.apply(&snapshot)?;
        Ok(state)
    }
}

#[cfg(test)]
mod tests;
