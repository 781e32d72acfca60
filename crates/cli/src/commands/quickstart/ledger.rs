//! What was sent, what was acknowledged, and whether what is read back agrees.

use std::collections::{BTreeMap, HashMap};

use anyhow::{Result, bail, ensure};
use bytes::Bytes;
use flowstone_client::{Appended, Record};

/// Records by where they are.
pub(super) type Read = BTreeMap<Appended, Record>;

/// The bytes of a record that are the client's own.
type Content = (Option<Bytes>, Option<Bytes>);

/// The account of everything that was sent.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    acknowledged: BTreeMap<Appended, Record>,
    /// Sent without an answer: there or not there.
    unanswered: Vec<Record>,
    /// In the order in which they were sent.
    order: Vec<Appended>,
}

impl Ledger {
    /// Notes an acknowledgement. Two records cannot have the same place.
    pub(super) fn acknowledge(&mut self, record: Record, at: Appended) -> Result<()> {
        self.order.push(at);
        if let Some(other) = self.acknowledged.insert(at, record) {
            bail!("{at:?} was acknowledged twice, for {other:?} too");
        }
        Ok(())
    }

    /// Notes a record that nobody answered for.
    pub(super) fn leave_open(&mut self, record: Record) {
        self.unanswered.push(record);
    }

    pub(super) fn acknowledged_count(&self) -> usize {
        self.acknowledged.len()
    }

    /// Holds everything that can be read against the account: each acknowledged record is at its
    /// place with its bytes, anything else was sent, offsets have no gaps. Answers with how many
    /// of the unanswered records are there.
    pub(super) fn check(&self, read: &Read) -> Result<usize> {
        for (at, sent) in &self.acknowledged {
            let Some(found) = read.get(at) else {
                bail!("an acknowledged record is missing: {at:?}");
            };
            ensure!(
                content(found) == content(sent),
                "an acknowledged record has other bytes: {at:?}"
            );
            ensure!(
                sent.timestamp_ms == 0 || found.timestamp_ms == sent.timestamp_ms,
                "an acknowledged record has another time: {at:?}"
            );
        }
        let mut open: HashMap<Content, usize> = HashMap::new();
        for record in &self.unanswered {
            *open.entry(content(record)).or_default() += 1;
        }
        let mut appended = 0;
        for (at, found) in read {
            if self.acknowledged.contains_key(at) {
                continue;
            }
            match open.get_mut(&content(found)) {
                Some(count) if *count > 0 => *count -= 1,
                _ => bail!("a record was read that was never sent, or is there twice: {at:?}"),
            }
            appended += 1;
        }
        check_gaps(read)?;
        Ok(appended)
    }

    /// Records of a key are in one partition, in the order in which they were sent.
    pub(super) fn check_order(&self) -> Result<()> {
        let mut last: HashMap<&Bytes, Appended> = HashMap::new();
        for at in &self.order {
            let Some(key) = &self.acknowledged[at].key else {
                continue;
            };
            if let Some(before) = last.insert(key, *at) {
                ensure!(
                    before.partition == at.partition,
                    "records of key {key:?} are in two partitions"
                );
                ensure!(
                    before.offset < at.offset,
                    "records of key {key:?} are out of order at {at:?}"
                );
            }
        }
        Ok(())
    }
}

fn content(record: &Record) -> Content {
    (record.key.clone(), record.value.clone())
}

/// Offsets of each partition count up from 0.
fn check_gaps(read: &Read) -> Result<()> {
    let mut next: HashMap<i32, i64> = HashMap::new();
    for at in read.keys() {
        let expected = next.entry(at.partition).or_default();
        ensure!(
            at.offset == *expected,
            "partition {} has a gap at offset {expected}",
            at.partition
        );
        *expected += 1;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(partition: i32, offset: i64) -> Appended {
        Appended { partition, offset }
    }

    fn record(value: &'static str) -> Record {
        Record {
            key: Some("k".into()),
            value: Some(value.into()),
            ..Record::default()
        }
    }

    fn ledger() -> Ledger {
        let mut ledger = Ledger::default();
        ledger.acknowledge(record("a"), at(0, 0)).unwrap();
        ledger.acknowledge(record("b"), at(0, 1)).unwrap();
        ledger.leave_open(record("c"));
        ledger
    }

    fn read(records: &[(i64, &'static str)]) -> Read {
        records
            .iter()
            .map(|&(offset, value)| (at(0, offset), record(value)))
            .collect()
    }

    #[test]
    fn an_unanswered_record_may_be_there_or_not() {
        assert_eq!(ledger().check(&read(&[(0, "a"), (1, "b")])).unwrap(), 0);
        assert_eq!(
            ledger()
                .check(&read(&[(0, "a"), (1, "b"), (2, "c")]))
                .unwrap(),
            1
        );
    }

    #[test]
    fn everything_else_is_found_out() {
        for (wrong, told) in [
            (&[(0, "a")][..], "missing"),
            (&[(0, "b"), (1, "a")], "other bytes"),
            (&[(0, "a"), (1, "b"), (2, "d")], "never sent"),
            (&[(0, "a"), (1, "b"), (2, "c"), (3, "c")], "twice"),
            (&[(0, "a"), (1, "b"), (3, "c")], "gap"),
        ] {
            let error = ledger().check(&read(wrong)).unwrap_err().to_string();
            assert!(error.contains(told), "{wrong:?}: {error}");
        }
    }

    #[test]
    fn a_place_is_given_once() {
        assert!(ledger().acknowledge(record("x"), at(0, 1)).is_err());
    }

    #[test]
    fn keys_keep_their_partition_and_their_order() {
        assert!(ledger().check_order().is_ok());
        let mut moved = ledger();
        moved.acknowledge(record("d"), at(1, 0)).unwrap();
        assert!(moved.check_order().is_err());
        let mut turned = Ledger::default();
        turned.acknowledge(record("a"), at(0, 1)).unwrap();
        turned.acknowledge(record("b"), at(0, 0)).unwrap();
        assert!(turned.check_order().is_err());
    }
}
