//! The producers of a topic that were opened: which epoch each has.

use std::collections::BTreeMap;

use flowstone_format::ProducerId;
use prost::Message;
use uuid::Uuid;

use crate::metadata::command::{ForgetProducers, OpenProducer, topic_id};

/// The opened producers of one topic.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct OpenedProducers {
    opened: BTreeMap<ProducerId, Opened>,
    /// The greatest epoch of any that was forgotten: none up to it is given out again, so that a
    /// process that slept for days does not pass for one that was opened since.
    forgotten_epoch: i32,
}

#[derive(Clone, Copy, Debug, PartialEq)]
struct Opened {
    epoch: i32,
    opened_ms: i64,
}

/// As they are stored.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct ProducersSnapshot {
    #[prost(bytes = "vec", tag = "1")]
    topic: Vec<u8>,
    #[prost(int32, tag = "2")]
    forgotten_epoch: i32,
    #[prost(message, repeated, tag = "3")]
    opened: Vec<OpenedSnapshot>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct OpenedSnapshot {
    #[prost(bytes = "vec", tag = "1")]
    producer: Vec<u8>,
    #[prost(int32, tag = "2")]
    epoch: i32,
    #[prost(int64, tag = "3")]
    opened_ms: i64,
}

/// The epoch that a producer gets when it is opened next; `None` when all are used up.
pub(crate) fn next_epoch(of_topic: Option<&OpenedProducers>, producer: ProducerId) -> Option<i32> {
    let of = |producers: &OpenedProducers| match producers.opened.get(&producer) {
        Some(opened) => opened.epoch,
        None => producers.forgotten_epoch,
    };
    of_topic.map_or(0_i32, of).checked_add(1)
}

impl OpenedProducers {
    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.opened.len()
    }

    /// Each with its epoch.
    pub(crate) fn epochs(&self) -> impl Iterator<Item = (ProducerId, i32)> + '_ {
        self.opened.iter().map(|(id, opened)| (*id, opened.epoch))
    }

    pub(crate) fn is_opened(&self, producer: ProducerId) -> bool {
        self.opened.contains_key(&producer)
    }

    /// Those that were opened last at `until_ms` or before.
    pub(crate) fn opened_until(&self, until_ms: i64) -> impl Iterator<Item = ProducerId> + '_ {
        let old = move |(_, opened): &(&ProducerId, &Opened)| opened.opened_ms <= until_ms;
        self.opened.iter().filter(old).map(|(id, _)| *id)
    }

    /// The others.
    pub(crate) fn opened_after(&self, until_ms: i64) -> impl Iterator<Item = ProducerId> + '_ {
        let lately = move |(_, opened): &(&ProducerId, &Opened)| opened.opened_ms > until_ms;
        self.opened.iter().filter(lately).map(|(id, _)| *id)
    }

    pub(super) fn open(&mut self, command: &OpenProducer) -> Result<(), String> {
        let producer = producer_id(&command.producer)?;
        // Not only the next one: commands before it may be lost.
        let least = next_epoch(Some(self), producer).ok_or("there are no epochs left")?;
        if command.epoch < least {
            let epoch = command.epoch;
            return Err(format!("epoch {epoch} is given out where {least} is next"));
        }
        let opened = Opened {
            epoch: command.epoch,
            opened_ms: command.opened_ms,
        };
        self.opened.insert(producer, opened);
        Ok(())
    }

    /// One that is not there was opened by a command that is lost.
    pub(super) fn forget(&mut self, command: &ForgetProducers) -> Result<(), String> {
        let ids: Result<Vec<_>, _> = command.producers.iter().map(|id| producer_id(id)).collect();
        for producer in ids? {
            if let Some(opened) = self.opened.remove(&producer) {
                self.forgotten_epoch = self.forgotten_epoch.max(opened.epoch);
            }
        }
        Ok(())
    }

    pub(super) fn snapshot(&self, topic: Uuid) -> ProducersSnapshot {
        let stored = |(id, opened): (&ProducerId, &Opened)| OpenedSnapshot {
            producer: id.into_bytes().to_vec(),
            epoch: opened.epoch,
            opened_ms: opened.opened_ms,
        };
        ProducersSnapshot {
            topic: topic.as_bytes().to_vec(),
            forgotten_epoch: self.forgotten_epoch,
            opened: self.opened.iter().map(stored).collect(),
        }
    }

    pub(super) fn restore(snapshot: ProducersSnapshot) -> Result<(Uuid, Self), String> {
        let mut producers = Self {
            forgotten_epoch: snapshot.forgotten_epoch,
            ..Self::default()
        };
        for stored in snapshot.opened {
            let opened = Opened {
                epoch: stored.epoch,
                opened_ms: stored.opened_ms,
            };
            let id = producer_id(&stored.producer)?;
            if producers.opened.insert(id, opened).is_some() {
                return Err("a producer stands twice in a snapshot".to_owned());
            }
        }
        Ok((topic_id(&snapshot.topic)?, producers))
    }
}

fn producer_id(bytes: &[u8]) -> Result<ProducerId, String> {
    let id = bytes.try_into().ok().and_then(ProducerId::from_bytes);
    id.ok_or_else(|| format!("{bytes:02x?} is no producer's id"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOPIC: Uuid = Uuid::from_u128(1);

    fn id(number: u8) -> ProducerId {
        ProducerId::from_bytes([number; 16]).unwrap()
    }

    fn open(producers: &mut OpenedProducers, number: u8, opened_ms: i64) -> i32 {
        let epoch = next_epoch(Some(producers), id(number)).unwrap();
        let command = OpenProducer {
            topic: TOPIC.as_bytes().to_vec(),
            producer: id(number).into_bytes().to_vec(),
            epoch,
            opened_ms,
        };
        producers.open(&command).unwrap();
        assert!(producers.open(&command).is_err(), "no epoch is given twice");
        epoch
    }

    fn forget(producers: &mut OpenedProducers, number: u8) {
        let command = ForgetProducers {
            topic: TOPIC.as_bytes().to_vec(),
            producers: vec![id(number).into_bytes().to_vec()],
        };
        producers.forget(&command).unwrap();
    }

    #[test]
    fn each_opening_raises_the_epoch_and_a_forgotten_one_never_comes_again() {
        assert_eq!(next_epoch(None, id(1)), Some(1));
        let mut producers = OpenedProducers::default();
        assert_eq!(open(&mut producers, 1, 10), 1);
        assert_eq!(open(&mut producers, 1, 20), 2);
        assert_eq!(open(&mut producers, 2, 15), 1);
        assert_eq!(producers.opened_until(15).collect::<Vec<_>>(), [id(2)]);
        forget(&mut producers, 1);
        forget(&mut producers, 1);
        assert_eq!(producers.epochs().collect::<Vec<_>>(), [(id(2), 1)]);
        assert_eq!(open(&mut producers, 1, 30), 3);
        assert_eq!(
            open(&mut producers, 3, 30),
            3,
            "whoever is new begins there"
        );
        assert_eq!(
            open(&mut producers, 2, 30),
            2,
            "who was not forgotten goes on"
        );
    }

    #[test]
    fn a_snapshot_holds_all_of_it() {
        let mut producers = OpenedProducers::default();
        open(&mut producers, 1, 10);
        open(&mut producers, 2, 20);
        forget(&mut producers, 2);
        let snapshot = producers.snapshot(TOPIC);
        assert_eq!(
            OpenedProducers::restore(snapshot.clone()),
            Ok((TOPIC, producers))
        );
        let mut twice = snapshot;
        twice.opened.push(twice.opened[0].clone());
        assert!(OpenedProducers::restore(twice).is_err());
    }
}
