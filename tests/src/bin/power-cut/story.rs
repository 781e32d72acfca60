//! What the clients of a broker did and saw, each with the point of the disk's recording by then.

use std::sync::{Mutex, MutexGuard, PoisonError};

use flowstone_proto::v1 as proto;
use flowstone_tests::Dice;
use flowstone_tests::recorder::Recorder;
use serde::{Deserialize, Serialize};

/// Which record: the n-th of a producer. What it holds follows from this and the seed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub(crate) struct Id {
    pub(crate) producer: u32,
    pub(crate) number: u32,
}

impl Id {
    /// The record as it is sent, of this seed.
    pub(crate) fn record(self, seed: u64) -> proto::Record {
        let own = u64::from(self.producer) << 32 | u64::from(self.number);
        let dice = Dice::new(seed ^ own.wrapping_mul(0xD6E8_FEB8_6659_FD93)).fork();
        let mut value = format!("{}-{}-", self.producer, self.number).into_bytes();
        let filler = match dice.pick(0..40) {
            0 => 12_000,
            1..4 => 4_000,
            _ => 300,
        };
        let len = dice.pick(0..filler) as usize;
        if dice.once_in(10) {
            // Zeros in a record are not to be taken for sectors that were never written.
            value.resize(value.len() + len, 0);
        } else {
            value.extend(dice.bytes(len));
        }
        let mut record = proto::Record {
            value: Some(value.into()),
            ..proto::Record::default()
        };
        if !dice.once_in(8) {
            record.key = Some(format!("key-{}", dice.pick(0..64)).into());
        }
        if dice.once_in(4) {
            record.timestamp_ms = dice.pick(1..1_000_000_000_000) as i64;
        }
        record
    }

    /// Which record this is, if it is one of this seed, byte for byte.
    pub(crate) fn of(record: &proto::Record, seed: u64) -> Option<Self> {
        let value = record.value.as_ref()?;
        let mut parts = value.splitn(3, |&byte| byte == b'-');
        let mut next = || std::str::from_utf8(parts.next()?).ok()?.parse().ok();
        let id = Self {
            producer: next()?,
            number: next()?,
        };
        let sent = id.record(seed);
        (sent.value == record.value && sent.key == record.key && record.headers.is_empty())
            .then_some(id)
    }
}

/// A record as it was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Seen {
    pub(crate) id: Id,
    pub(crate) timestamp_ms: i64,
}

impl Seen {
    /// The record, read at an offset.
    pub(crate) fn record(self, seed: u64, offset: i64) -> proto::Record {
        proto::Record {
            timestamp_ms: self.timestamp_ms,
            offset,
            ..self.id.record(seed)
        }
    }
}

/// Something that happened.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Event {
    /// A topic is about to be created.
    Creating { topic: String, partitions: i32 },
    /// It was.
    Created { topic: String },
    /// A topic is about to be deleted.
    Deleting { topic: String },
    /// It was.
    Deleted { topic: String },
    /// A record is about to be sent.
    Sending { topic: String, id: Id },
    /// It was acknowledged.
    Acknowledged {
        topic: String,
        id: Id,
        partition: i32,
        offset: i64,
        durable: bool,
    },
    /// Records were read.
    Read {
        topic: String,
        partition: i32,
        from: i64,
        records: Vec<Seen>,
    },
    /// The group's offset was committed.
    Committed {
        topic: String,
        partition: i32,
        offset: i64,
    },
    /// A partition is about to be trimmed.
    Trimming {
        topic: String,
        partition: i32,
        before: i64,
    },
    /// It was.
    Trimmed {
        topic: String,
        partition: i32,
        start: i64,
    },
}

/// An event, and how many operations the disk had seen.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Noted {
    pub(crate) point: u64,
    pub(crate) event: Event,
}

/// Takes down what happens.
#[derive(Debug)]
pub(crate) struct Story {
    pub(crate) seed: u64,
    disk: Recorder,
    events: Mutex<Vec<Noted>>,
    /// What is wrong already while the power is on.
    wrong: Mutex<Vec<String>>,
}

impl Story {
    /// A story of nothing, about a broker on this disk.
    pub(crate) fn new(seed: u64, disk: Recorder) -> Self {
        Self {
            seed,
            disk,
            events: Mutex::default(),
            wrong: Mutex::default(),
        }
    }

    /// Something happened before this call, or will only happen after it.
    pub(crate) fn note(&self, event: Event) {
        let point = self.disk.point();
        lock(&self.events).push(Noted { point, event });
    }

    /// Something is wrong.
    pub(crate) fn wrong(&self, what: String) {
        lock(&self.wrong).push(what);
    }

    /// All of it.
    pub(crate) fn end(self) -> (Vec<Noted>, Vec<String>) {
        let inner = PoisonError::into_inner;
        (
            self.events.into_inner().unwrap_or_else(inner),
            self.wrong
                .into_inner()
                .unwrap_or_else(PoisonError::into_inner),
        )
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
