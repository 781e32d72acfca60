//! Records of all kinds, no two alike.

use flowstone_proto::v1 as proto;

use crate::Dice;

const RECORDS_PER_REQUEST: u64 = 20;
/// From a producer's number to that of its heir.
const HEIR: u32 = 1_000;

/// Makes records, no two alike.
#[derive(Debug)]
pub struct Maker {
    producer: u32,
    made: u64,
    dice: Dice,
}

impl Maker {
    /// Makes the records of a producer, whose number is below 1,000.
    pub fn new(producer: u32, dice: &Dice) -> Self {
        Self {
            producer,
            made: 0,
            dice: dice.fork(),
        }
    }

    /// The number of the producer.
    pub fn producer(&self) -> u32 {
        self.producer
    }

    /// The same under another number: a producer that has given up a call cannot say in which order
    /// its records come from then on.
    #[must_use]
    pub fn heir(self) -> Self {
        Self {
            producer: self.producer + HEIR,
            ..self
        }
    }

    /// What one request carries.
    pub(super) fn records(&mut self) -> Vec<proto::Record> {
        (0..self.dice.pick(1..RECORDS_PER_REQUEST))
            .map(|_| self.record())
            .collect()
    }

    /// Keys, headers, times and sizes of all kinds.
    pub(super) fn record(&mut self) -> proto::Record {
        let dice = &self.dice;
        self.made += 1;
        let mut value = format!("{}-{}-", self.producer, self.made).into_bytes();
        let filler = if dice.once_in(50) { 8_000 } else { 300 };
        value.extend(dice.bytes(dice.pick(0..filler) as usize));
        let mut record = proto::Record {
            value: Some(value.into()),
            ..proto::Record::default()
        };
        if !dice.once_in(8) {
            record.key = Some(format!("key-{}", dice.pick(0..64)).into());
        }
        if dice.once_in(8) {
            record.timestamp_ms = dice.pick(1..1_000_000_000_000) as i64;
        }
        for number in 0..dice.pick(0..3) {
            record.headers.push(proto::Header {
                key: format!("h{number}"),
                value: dice.bytes(dice.pick(0..9) as usize).into(),
            });
        }
        record
    }
}
