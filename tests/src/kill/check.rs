//! Reads what is there after a restart, and holds it against the history.

use flowstone_proto::v1::start_position::{Anchor, Position};

use super::{PARTITIONS, TOPIC, WAIT, connect};
use crate::work::{GROUP, Work, committed};
use crate::{Broker, Dice, Stub};

/// So often everything is read.
const CHECKS_PER_WHOLE: u64 = 25;
/// How many places are read of what was checked before, and how many records in each.
const SAMPLES: u64 = 4;
const SAMPLE_RECORDS: i32 = 50;

/// How many checks there were.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Checks {
    /// Of what is new, with a sample of the rest.
    pub(super) new: u64,
    /// Of everything.
    pub(super) whole: u64,
}

/// Checks while no record is on its way.
#[derive(Debug)]
pub(super) struct Checker {
    work: Work,
    dice: Dice,
    checks: Checks,
}

impl Checker {
    pub(super) fn new(work: &Work, dice: &Dice) -> Self {
        Self {
            work: work.clone(),
            dice: dice.fork(),
            checks: Checks::default(),
        }
    }

    pub(super) fn checks(&self) -> Checks {
        self.checks
    }

    /// Reads all that is new and a sample of what is old, every so often everything.
    pub(super) async fn check(&mut self, broker: &Broker, when: &str) {
        self.checks.new += 1;
        let stub = connect(broker).await;
        for partition in 0..PARTITIONS {
            let from = self.work.history().read_up_to(partition);
            let read = self
                .read(&stub, partition, Position::Offset(from), when)
                .await;
            self.work
                .history()
                .read_on(partition, read.end, &read.records);
        }
        for _ in 0..SAMPLES {
            self.sample(&stub, when).await;
        }
        if self.checks.new.is_multiple_of(CHECKS_PER_WHOLE) {
            self.whole(&stub, when).await;
        }
        self.commits(&stub).await;
        self.work.history().assert_holds(when);
    }

    /// Reads everything.
    pub(super) async fn check_all(&mut self, broker: &Broker, when: &str) {
        let stub = connect(broker).await;
        self.whole(&stub, when).await;
        self.commits(&stub).await;
        self.work.history().assert_holds(when);
    }

    async fn whole(&mut self, stub: &Stub, when: &str) {
        self.checks.whole += 1;
        for partition in 0..PARTITIONS {
            let earliest = Position::Anchor(Anchor::Earliest.into());
            let read = self.read(stub, partition, earliest, when).await;
            let mut history = self.work.history();
            history.read_to_end(partition, read.start, read.end, &read.records);
        }
    }

    async fn read(
        &self,
        stub: &Stub,
        partition: i32,
        from: Position,
        when: &str,
    ) -> crate::stub::Partition {
        let read = tokio::time::timeout(WAIT, stub.read_from(TOPIC, partition, from)).await;
        let read = read
            .unwrap_or_else(|_| panic!("{when}: reading partition {partition} does not end"))
            .unwrap_or_else(|status| panic!("{when}: partition {partition}: {status}"));
        self.work.history().starts_at(partition, read.start);
        self.work.count_read(&read.records);
        read
    }

    async fn sample(&self, stub: &Stub, when: &str) {
        let partition = self.dice.pick(0..PARTITIONS as u64) as i32;
        let (start, end) = self.work.history().bounds(partition);
        if start >= end {
            return;
        }
        let from = self.dice.pick(start as u64..end as u64) as i64;
        let read = stub.fetch(TOPIC, partition, Position::Offset(from), SAMPLE_RECORDS);
        let read = tokio::time::timeout(WAIT, read)
            .await
            .unwrap_or_else(|_| panic!("{when}: reading partition {partition} does not end"))
            .unwrap_or_else(|status| panic!("{when}: partition {partition}: {status}"));
        self.work.read(partition, from, &read.records);
    }

    async fn commits(&self, stub: &Stub) {
        for (partition, offset) in committed(stub).await {
            self.work.history().committed(GROUP, partition, offset);
        }
    }
}
