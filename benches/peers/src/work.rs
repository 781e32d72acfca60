//! What is measured: the pieces of work, and what one of them is made of.

use std::time::Duration;

use clap::ValueEnum;
use serde::{Serialize, Serializer};

/// So many bytes of values go into one request, where a peer has requests.
pub(crate) const REQUEST_VALUE_BYTES: usize = 256 << 10;
/// So many requests may be unanswered.
pub(crate) const REQUESTS_IN_FLIGHT: usize = 64;
/// Values of the measurements of latency.
pub(crate) const LATENCY_VALUE_BYTES: usize = 1 << 10;
/// How many appends a second the open loop makes.
pub(crate) const PACED_PER_SECOND: u32 = 1_000;

/// A piece of work, and a column of the result.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, ValueEnum)]
pub(crate) enum Work {
    /// Records of 1 KiB, acknowledged before they are synced
    #[value(name = "produce-1k")]
    Produce1k,
    /// Reading back every record of 1 KiB
    #[value(name = "replay-1k")]
    Replay1k,
    /// Records of 100 bytes, acknowledged before they are synced
    #[value(name = "produce-100")]
    Produce100,
    /// Reading back every record of 100 bytes
    #[value(name = "replay-100")]
    Replay100,
    /// Records of 1 KiB from four producers to four partitions, acknowledged before they are synced
    #[value(name = "four-1k")]
    Four1k,
    /// Records of 1 KiB, acknowledged after they are synced
    #[value(name = "durable-1k")]
    Durable1k,
    /// Records of 100 bytes, acknowledged after they are synced
    #[value(name = "durable-100")]
    Durable100,
    /// The time from an append to its ack after the sync, one at a time
    Latency,
    /// The same at 1,000 appends a second, open loop
    Paced,
}

/// When a peer may acknowledge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Durability {
    /// Once the records are in the page cache, or where the peer keeps them by default.
    Written,
    /// Once they are synced to disk.
    Synced,
}

/// Work that one start of a server serves, one after the other.
#[derive(Clone, Debug)]
pub(crate) struct Unit {
    /// What the server is started for.
    pub(crate) durability: Durability,
    /// What is measured, in this order.
    pub(crate) works: Vec<Work>,
}

/// Until when something is done: whichever comes first.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bound {
    /// Bytes of values.
    pub(crate) bytes: u64,
    /// Time for sending; the acks of what was sent are waited for beyond it.
    pub(crate) time: Duration,
}

/// Records to produce.
#[derive(Clone, Debug)]
pub(crate) struct Load {
    /// The topic, stream or key they go to; a name that was not used before.
    pub(crate) topic: String,
    /// Bytes of each value; there are no keys.
    pub(crate) value_bytes: usize,
    /// Producers, each with a partition and a connection of its own.
    pub(crate) producers: usize,
    /// When they are acknowledged.
    pub(crate) durability: Durability,
    /// How many there are, over all producers.
    pub(crate) bound: Bound,
}

impl Load {
    /// Records in a request of about [`REQUEST_VALUE_BYTES`].
    pub(crate) fn records_per_request(&self) -> usize {
        (REQUEST_VALUE_BYTES / self.value_bytes).max(1)
    }

    /// As [`Load::bound`], for one of the producers.
    pub(crate) fn bound_of_one(&self) -> Bound {
        Bound {
            bytes: self.bound.bytes / self.producers.max(1) as u64,
            time: self.bound.time,
        }
    }
}

impl Work {
    /// Each piece of work, in the order of the result.
    pub(crate) fn all() -> Vec<Self> {
        Self::value_variants().to_vec()
    }

    /// The name on the command line.
    pub(crate) fn name(self) -> String {
        self.to_possible_value()
            .map(|value| value.get_name().to_owned())
            .expect("no piece of work is hidden")
    }

    /// One line for the heading of a table.
    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::Produce1k => "Produce, records of 1 KiB, acknowledged before the sync",
            Self::Replay1k => "Replay, records of 1 KiB",
            Self::Produce100 => "Produce, records of 100 B, acknowledged before the sync",
            Self::Replay100 => "Replay, records of 100 B",
            Self::Four1k => {
                "Produce, records of 1 KiB, four producers and partitions, acknowledged before the sync"
            }
            Self::Durable1k => "Produce, records of 1 KiB, acknowledged after the sync",
            Self::Durable100 => "Produce, records of 100 B, acknowledged after the sync",
            Self::Latency => "Time to a durable ack, one append of 1 KiB at a time",
            Self::Paced => "Time to a durable ack at 1,000 appends of 1 KiB a second, open loop",
        }
    }

    /// Bytes of each value.
    pub(crate) fn value_bytes(self) -> usize {
        match self {
            Self::Produce100 | Self::Replay100 | Self::Durable100 => 100,
            Self::Produce1k | Self::Replay1k | Self::Four1k | Self::Durable1k => 1 << 10,
            Self::Latency | Self::Paced => LATENCY_VALUE_BYTES,
        }
    }

    /// Producers and partitions.
    pub(crate) fn producers(self) -> usize {
        if self == Self::Four1k { 4 } else { 1 }
    }

    /// Whether it reads what a produce before it has left.
    pub(crate) fn is_replay(self) -> bool {
        matches!(self, Self::Replay1k | Self::Replay100)
    }

    /// Whether its result is a time and not a rate.
    pub(crate) fn is_latency(self) -> bool {
        matches!(self, Self::Latency | Self::Paced)
    }

    /// When acks are sent.
    pub(crate) fn durability(self) -> Durability {
        match self {
            Self::Produce1k
            | Self::Replay1k
            | Self::Produce100
            | Self::Replay100
            | Self::Four1k => Durability::Written,
            Self::Durable1k | Self::Durable100 | Self::Latency | Self::Paced => Durability::Synced,
        }
    }

    /// The units that hold this work, each a fresh start of a server.
    pub(crate) fn units(works: &[Self]) -> Vec<Unit> {
        let groups: [&[Self]; 6] = [
            &[Self::Produce1k, Self::Replay1k],
            &[Self::Produce100, Self::Replay100],
            &[Self::Four1k],
            &[Self::Durable1k],
            &[Self::Durable100],
            &[Self::Latency, Self::Paced],
        ];
        let wanted = groups.into_iter().filter_map(|group| {
            let works: Vec<Self> = group
                .iter()
                .copied()
                .filter(|work| works.contains(work))
                .collect();
            let durability = works.first()?.durability();
            Some(Unit { durability, works })
        });
        wanted.collect()
    }
}

/// By the name on the command line.
impl Serialize for Work {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.name())
    }
}

/// Bytes without a pattern, the same every time (xorshift, G. Marsaglia, 2003).
pub(crate) fn noise(len: usize) -> Vec<u8> {
    let mut state: u64 = 0x9e37_79b9_7f4a_7c15;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    (0..len).map(|_| next()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_piece_of_work_is_in_one_unit() {
        let mut in_units: Vec<Work> = Work::units(&Work::all())
            .into_iter()
            .flat_map(|unit| unit.works)
            .collect();
        in_units.sort();
        let mut all = Work::all();
        all.sort();
        assert_eq!(in_units, all);
    }

    #[test]
    fn the_work_of_a_unit_has_one_durability_and_one_size() {
        for unit in Work::units(&Work::all()) {
            assert!(
                unit.works
                    .iter()
                    .all(|work| work.durability() == unit.durability)
            );
            let size = unit.works[0].value_bytes();
            assert!(unit.works.iter().all(|work| work.value_bytes() == size));
        }
    }
}
