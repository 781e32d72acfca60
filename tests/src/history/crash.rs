//! What a crash may take, what a trim removes, and what is known once all has been read.

use flowstone_proto::v1::Record;

use super::{Answer, Call, History, Place, Violation};

impl History {
    /// The record was acknowledged as written: it outlasts the process, and not the power unless a
    /// reader saw it or a later one of the partition was synced.
    ///
    /// # Panics
    /// When it was answered before.
    pub fn acknowledged_written(&mut self, call: Call, partition: i32, offset: i64) {
        self.acknowledged(call, partition, offset);
        let of = self.partitions.entry(partition).or_default();
        of.written.insert(offset, call);
    }

    /// A request of a producer is sent, perhaps again: what is not there may come now, once.
    pub fn repeating(&mut self, call: Call) {
        let produced = &mut self.calls[call.0];
        if produced.answer == Answer::Refused && produced.seen.is_none() {
            produced.answer = Answer::Unknown;
        }
    }

    /// Whether the record was acknowledged, and not taken back since.
    pub fn is_acknowledged(&self, call: Call) -> bool {
        matches!(self.calls[call.0].answer, Answer::Acknowledged(_))
    }

    /// The record was acknowledged, perhaps not for the first time: then it has to be where it was.
    /// Unless `durable`, a power cut may take it back.
    pub fn acknowledged_again(&mut self, call: Call, place: Place, durable: bool) {
        let Place { partition, offset } = place;
        match self.calls[call.0].answer {
            Answer::Acknowledged(before) if before != place => {
                self.violations.push(Violation::Misplaced {
                    told: place,
                    seen: before,
                });
            }
            Answer::Acknowledged(_) => {
                if durable {
                    let of = self.partitions.entry(partition).or_default();
                    of.written.remove(&offset);
                }
            }
            _ => {
                self.repeating(call);
                if durable {
                    self.acknowledged(call, partition, offset);
                } else {
                    self.acknowledged_written(call, partition, offset);
                }
            }
        }
    }

    /// The power was cut: records that were only written may be there or not.
    pub fn power_cut(&mut self) {
        for of in self.partitions.values_mut() {
            let written = std::mem::take(&mut of.written);
            let durable = of
                .acknowledged
                .keys()
                .rfind(|offset| !written.contains_key(offset))
                .map_or(0, |offset| offset + 1);
            let durable = durable.max(of.end);
            for (offset, call) in written {
                if offset >= durable {
                    of.acknowledged.remove(&offset);
                    self.calls[call.0].answer = Answer::Unknown;
                }
            }
        }
    }

    /// All has been read while nothing was on its way: what was not answered and not read by now
    /// must never come.
    pub fn settle(&mut self) {
        for produced in &mut self.calls {
            if produced.answer == Answer::Unknown && produced.seen.is_none() {
                produced.answer = Answer::Refused;
            }
        }
    }

    /// A reader saw all of a partition, from its start to the end that it was told, while no record
    /// was on its way.
    pub fn read_from_start(&mut self, partition: i32, start: i64, end: i64, records: &[Record]) {
        self.starts_at(partition, start);
        self.read_to_end(partition, start, end, records);
    }

    /// How far trims may have gone in a partition.
    pub fn trim_asked(&self, partition: i32) -> i64 {
        let of = self.partitions.get(&partition);
        of.map_or(0, |of| of.trim_asked)
    }

    /// The places of all records that were acknowledged and not taken back since.
    pub fn acknowledged_places(&self) -> impl Iterator<Item = (Place, Call)> {
        self.partitions.iter().flat_map(|(&partition, of)| {
            of.acknowledged
                .iter()
                .map(move |(&offset, &call)| (Place { partition, offset }, call))
        })
    }

    /// A group is about to commit an offset.
    pub fn committing(&mut self, group: &str, partition: i32, offset: i64) {
        self.committing
            .entry((group.to_owned(), partition))
            .or_default()
            .insert(offset);
    }

    /// The greatest offset that a group was about to commit; 0 for none.
    pub fn greatest_committing(&self, group: &str, partition: i32) -> i64 {
        let asked = self.committing.get(&(group.to_owned(), partition));
        asked.and_then(|asked| asked.last()).copied().unwrap_or(0)
    }

    /// A commit was answered. One below what is committed already changes nothing.
    pub fn commit_answered(&mut self, group: &str, partition: i32, offset: i64) {
        let known = self
            .committed
            .entry((group.to_owned(), partition))
            .or_default();
        *known = offset.max(*known);
    }

    /// The broker told what groups have committed of this topic, all of it.
    pub fn found_committed(&mut self, found: &[(String, i32, i64)]) {
        let there = |group: &str, partition| {
            let mut found = found.iter();
            found.any(|(g, p, _)| g == group && *p == partition)
        };
        let gone: Vec<_> = self
            .committed
            .iter()
            .filter(|((group, partition), _)| !there(group, *partition))
            .map(|((group, partition), &before)| Violation::CommitWentBack {
                group: group.clone(),
                partition: *partition,
                before,
                offset: 0,
            })
            .collect();
        self.violations.extend(gone);
        for (group, partition, offset) in found {
            let asked = self.committing.get(&(group.clone(), *partition));
            if !asked.is_some_and(|asked| asked.contains(offset)) {
                self.violations.push(Violation::CommitUnasked {
                    group: group.clone(),
                    partition: *partition,
                    offset: *offset,
                });
            }
            self.committed(group, *partition, *offset);
        }
    }
}

#[cfg(test)]
mod tests;
