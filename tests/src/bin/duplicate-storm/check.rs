//! What was sent, what was answered, and whether it is there once.

use std::collections::BTreeMap;

use flowstone_proto::v1 as proto;
use flowstone_tests::{Broker, Stub};

use crate::TOPIC;
use crate::content::{Who, value};

/// A place in the topic.
type Place = (i32, i64);

/// What one producer has sent.
#[derive(Debug)]
pub(crate) struct Sent {
    number: u32,
    in_order: bool,
    /// By sequence, where the records are as every answer said; `None` until there is one.
    requests: BTreeMap<i64, Option<Vec<proto::AppendedRun>>>,
    pub(crate) openings: u64,
    pub(crate) refusals: u64,
}

impl Sent {
    pub(crate) fn in_any_order(number: u32) -> Self {
        Self {
            number,
            in_order: false,
            requests: BTreeMap::new(),
            openings: 0,
            refusals: 0,
        }
    }

    pub(crate) fn in_order(number: u32) -> Self {
        Self {
            in_order: true,
            ..Self::in_any_order(number)
        }
    }

    /// It may be appended from now on.
    pub(crate) fn began(&mut self, sequence: i64) {
        self.requests.entry(sequence).or_default();
    }

    /// The highest sequence that was begun.
    pub(crate) fn highest(&self) -> i64 {
        self.requests.last_key_value().map_or(0, |(last, _)| *last)
    }

    /// All answers for one sequence are the same.
    pub(crate) fn answered(&mut self, sequence: i64, runs: Vec<proto::AppendedRun>) {
        let told = self.requests.entry(sequence).or_default();
        if let Some(before) = told {
            let number = self.number;
            assert_eq!(
                *before, runs,
                "sequence {sequence} of {number} is told to be in two places"
            );
        }
        *told = Some(runs);
    }

    /// The places of a request's records as the answers told them.
    fn places(&self, sequence: i64) -> Vec<Place> {
        let runs = self.requests[&sequence].iter().flatten();
        runs.flat_map(|run| {
            let offsets = (run.base_offset..).take(run.record_count as usize);
            offsets.map(|offset| (run.partition, offset))
        })
        .collect()
    }
}

/// What has to be there.
#[derive(Debug, Default)]
pub(crate) struct Expected(Vec<Sent>);

/// What is there, by place.
pub(crate) type Found = BTreeMap<Place, String>;

/// Reads the whole topic.
pub(crate) async fn read(broker: &Broker, partitions: i32) -> Found {
    let stub = Stub::connect(&broker.url()).await.expect("it is ready");
    let mut found = Found::new();
    for partition in 0..partitions {
        let read = stub.read_partition(TOPIC, partition).await;
        let read = read.unwrap_or_else(|status| panic!("partition {partition}: {status}"));
        for record in read.records {
            let text = String::from_utf8_lossy(&record.value.unwrap_or_default()).into_owned();
            found.insert((partition, record.offset), text);
        }
    }
    found
}

impl Expected {
    pub(crate) fn add(&mut self, sent: Sent) {
        self.0.push(sent);
    }

    pub(crate) fn requests(&self) -> usize {
        self.0.iter().map(|sent| sent.requests.len()).sum()
    }

    pub(crate) fn openings(&self) -> u64 {
        self.0.iter().map(|sent| sent.openings).sum()
    }

    pub(crate) fn refusals(&self) -> u64 {
        self.0.iter().map(|sent| sent.refusals).sum()
    }

    /// Each record is there once, where it was told to be, and there is no other.
    pub(crate) fn check(&self, found: &Found) {
        let mut left = found.clone();
        for sent in &self.0 {
            let who = Who::new(sent.number);
            let mut last_of: BTreeMap<i32, (i64, i64)> = BTreeMap::new();
            for &sequence in sent.requests.keys() {
                let records = who.request(sequence).records.len();
                let places = sent.places(sequence);
                let name = format!("sequence {sequence} of {}", sent.number);
                assert_eq!(places.len(), records, "{name} was not answered for whole");
                for (index, place) in (0..).zip(places) {
                    let there = left.remove(&place);
                    let expected = value(sent.number, sequence, index);
                    assert_eq!(
                        there,
                        Some(expected),
                        "{name}, record {index}, at {place:?}"
                    );
                    let (partition, offset) = place;
                    let last = last_of.insert(partition, (sequence, offset));
                    let behind = last.is_none_or(|(_, before)| before < offset);
                    assert!(
                        !sent.in_order || behind,
                        "{name} lies before sequence {last:?} in partition {partition}"
                    );
                }
            }
        }
        let more: Vec<_> = left.iter().take(5).collect();
        assert!(
            left.is_empty(),
            "{} more than were sent: {more:?}",
            left.len()
        );
    }
}
