//! What a request holds: it follows from the producer and the sequence alone, so that a process that
//! starts anew can send it again.

use flowstone_proto::v1 as proto;
use flowstone_tests::Dice;

use crate::TOPIC;

/// Whose request it is.
#[derive(Clone, Debug)]
pub(crate) struct Who {
    pub(crate) number: u32,
    pub(crate) epoch: i32,
}

impl Who {
    pub(crate) fn new(number: u32) -> Self {
        Self { number, epoch: 0 }
    }

    /// The name that the broker knows it by.
    pub(crate) fn id(&self) -> String {
        format!("producer {}", self.number)
    }

    /// The request of a sequence: some go to several partitions, some without a key to one.
    pub(crate) fn request(&self, sequence: i64) -> proto::ProduceRequest {
        let dice = Dice::new(u64::from(self.number) << 40 | sequence as u64);
        let keyless = dice.once_in(3);
        let records = (0..dice.pick(1..6)).map(|index| proto::Record {
            key: (!keyless).then(|| format!("key {}", dice.pick(0..60)).into()),
            value: Some(value(self.number, sequence, index).into()),
            ..proto::Record::default()
        });
        proto::ProduceRequest {
            records: records.collect(),
            topic: TOPIC.to_owned(),
            producer: Some(self.producer(sequence)),
            ..proto::ProduceRequest::default()
        }
    }

    /// A request that must never be appended.
    pub(crate) fn forged(&self, sequence: i64) -> proto::ProduceRequest {
        proto::ProduceRequest {
            records: vec![proto::Record {
                value: Some(format!("forged by {}", self.number).into()),
                ..proto::Record::default()
            }],
            topic: TOPIC.to_owned(),
            producer: Some(self.producer(sequence)),
            ..proto::ProduceRequest::default()
        }
    }

    fn producer(&self, sequence: i64) -> proto::Producer {
        proto::Producer {
            id: self.id(),
            epoch: self.epoch,
            sequence,
        }
    }
}

/// Names a record.
pub(crate) fn value(number: u32, sequence: i64, index: u64) -> String {
    format!("{number}/{sequence}/{index}")
}
