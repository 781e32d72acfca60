//! By how many partitions the requests of a producer were routed before its topic grew.
//!
//! While a topic grows no request with a producer is under way. So there is one sequence for each
//! producer and growth up to which everything was routed by the old number: all that any partition
//! remembers then. A repeat of what lies below goes where the first try went.

use std::collections::HashMap;

use flowstone_format::ProducerId;

/// For each producer that began before the last growth: up to which sequence (inclusive) which
/// number of partitions counts, both ascending.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct RoutedBefore(HashMap<ProducerId, Vec<(i64, u32)>>);

impl RoutedBefore {
    /// Takes note of a sequence that a partition remembers.
    pub(crate) fn note(&mut self, producer: ProducerId, sequence: i64, routing_count: u32) {
        let steps = self.0.entry(producer).or_default();
        match steps.binary_search_by_key(&routing_count, |&(_, count)| count) {
            Ok(at) => steps[at].0 = steps[at].0.max(sequence),
            Err(at) => steps.insert(at, (sequence, routing_count)),
        }
    }

    /// By how many partitions a request is routed, where the topic has `now` of them.
    pub(crate) fn routing_count(&self, producer: ProducerId, sequence: i64, now: u32) -> u32 {
        if self.0.is_empty() {
            return now;
        }
        let steps = self.0.get(&producer).map_or(&[][..], Vec::as_slice);
        let step = steps.iter().find(|&&(upto, _)| sequence <= upto);
        step.map_or(now, |&(_, count)| count)
    }

    /// The producers that are known here.
    pub(crate) fn producers(&self) -> impl Iterator<Item = ProducerId> + '_ {
        self.0.keys().copied()
    }

    /// Without these.
    pub(crate) fn without(&self, producers: &[ProducerId]) -> Self {
        let mut left = self.clone();
        for producer in producers {
            left.0.remove(producer);
        }
        left
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_sent_before_a_growth_is_routed_as_it_was() {
        let (old, new) = (ProducerId::of("old"), ProducerId::of("new"));
        let mut routed = RoutedBefore::default();
        assert_eq!(routed.routing_count(old, 1, 8), 8);
        for (sequence, count) in [(5, 2), (30, 4), (3, 2), (12, 4)] {
            routed.note(old, sequence, count);
        }
        let count = |sequence| routed.routing_count(old, sequence, 8);
        assert_eq!(count(1), 2);
        assert_eq!(count(5), 2);
        assert_eq!(count(6), 4, "also one that nobody remembers");
        assert_eq!(count(30), 4);
        assert_eq!(count(31), 8);
        assert_eq!(routed.routing_count(new, 1, 8), 8);
        assert_eq!(routed.without(&[old]), RoutedBefore::default());
    }
}
