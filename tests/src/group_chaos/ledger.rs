//! What members saw and did, and whether it is as groups promise.
//!
//! All is told in the order in which it happens here, under one lock: what a member has seen before it is
//! told, what it does after. So whoever is told of a partition had it before at the broker, and a commit
//! that is told only then to begin is a late one.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use flowstone_proto::v1 as proto;

const SHOWN: usize = 20;

/// A session's holding of one partition. Of two the later one is the greater one.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Holding {
    pub(super) partition: i32,
    /// Which broker it is of, by how many were killed before.
    pub(super) life: u64,
    /// Of the holding, which rises.
    pub(super) number: u64,
    /// As the cursors name it.
    pub(super) session: String,
}

impl Holding {
    /// The holding of a cursor that came from this broker.
    pub(super) fn of(cursor: &proto::Cursor, life: u64) -> Self {
        let number = cursor
            .session
            .rsplit_once('.')
            .map(|(_, number)| number.parse());
        Self {
            partition: cursor.partition,
            life,
            number: number
                .expect("a session ends with a number")
                .expect("a number"),
            session: cursor.session.clone(),
        }
    }
}

/// How much of what there was.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Streams that were opened.
    pub lives: u64,
    /// Of them: those that were cut off, with their connection.
    pub cut: u64,
    /// Pauses that were longer than members may take.
    pub pauses: u64,
    /// Streams that ended since the member did nothing, or another had its name.
    pub timed_out: u64,
    /// See `timed_out`.
    pub replaced: u64,
    /// Holdings that were seen, those that were revoked, and those that were lost.
    pub holdings: u64,
    /// See `holdings`.
    pub revoked: u64,
    /// See `holdings`.
    pub lost: u64,
    /// Records that were handed out.
    pub delivered: u64,
    /// Commits that were stored.
    pub stored: u64,
    /// Cursors that were refused as stale.
    pub stale: u64,
    /// Commits that nobody knows of.
    pub unknown: u64,
    /// Partitions that were released.
    pub released: u64,
    /// Records that were acknowledged to producers.
    pub acknowledged: u64,
    /// Kills of the broker.
    pub kills: u64,
}

#[derive(Debug, Default)]
struct Seen {
    /// The first offset handed out, and the one behind the last.
    from: i64,
    next: i64,
    /// The greatest commit that was stored.
    stored: i64,
    revoked: bool,
}

/// A commit that has set out.
#[derive(Debug)]
pub(super) struct Committing {
    holding: Holding,
    offset: i64,
    /// Whether somebody else was handed out records of the partition before it set out.
    late: bool,
}

/// All that happened.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    holdings: BTreeMap<Holding, Seen>,
    /// Of each partition all offsets below this are processed, and those behind it.
    processed: BTreeMap<i32, (i64, BTreeSet<i64>)>,
    /// The greatest offset that is known to be committed.
    committed: BTreeMap<i32, i64>,
    /// The value at each place, as the producer was told or a member saw it.
    values: HashMap<(i32, i64), Vec<u8>>,
    violations: Vec<String>,
    counts: Counts,
}

impl Ledger {
    pub(super) fn counts(&self) -> Counts {
        self.counts
    }

    pub(super) fn count(&mut self, what: fn(&mut Counts) -> &mut u64) {
        *what(&mut self.counts) += 1;
    }

    pub(super) fn broker_killed(&mut self) {
        self.counts.kills += 1;
    }

    /// Which broker there is, by how many were killed before.
    pub(super) fn life(&self) -> u64 {
        self.counts.kills
    }

    /// A record was acknowledged.
    pub(super) fn acknowledged(&mut self, partition: i32, offset: i64, value: &[u8]) {
        self.counts.acknowledged += 1;
        self.value(partition, offset, value);
    }

    fn value(&mut self, partition: i32, offset: i64, value: &[u8]) {
        let there = self
            .values
            .entry((partition, offset))
            .or_insert_with(|| value.to_vec());
        if there != value {
            self.violation(format!(
                "partition {partition}, offset {offset}: two records"
            ));
        }
    }

    /// A member was handed out records, at these offsets.
    pub(super) fn delivered(&mut self, holding: &Holding, records: &[(i64, Vec<u8>)]) {
        let partition = holding.partition;
        let (first, last) = (records[0].0, records[records.len() - 1].0);
        self.counts.delivered += records.len() as u64;
        for (offset, value) in records {
            self.value(partition, *offset, value);
        }
        if !self.holdings.contains_key(holding) {
            self.begin(holding, first);
        }
        let seen = self.holdings.get_mut(holding).expect("it is there");
        let (expected, revoked) = (seen.next, seen.revoked);
        seen.next = last + 1;
        let dense = records.windows(2).all(|pair| pair[1].0 == pair[0].0 + 1);
        if first != expected || !dense {
            self.violation(format!(
                "{holding}: {first} to {last} came where {expected} was next"
            ));
        }
        if revoked {
            self.violation(format!("{holding}: {first} came after it was revoked"));
        }
    }

    /// A holding is seen for the first time, by the first records of it.
    fn begin(&mut self, holding: &Holding, from: i64) {
        self.counts.holdings += 1;
        let before: Vec<String> = self
            .of_partition(holding.partition)
            .filter(|(other, seen)| *other < holding && seen.stored > from)
            .map(|(other, seen)| {
                format!(
                    "{holding} begins at {from}, but {other} has committed {}",
                    seen.stored
                )
            })
            .collect();
        before.into_iter().for_each(|it| self.violation(it));
        let seen = Seen {
            from,
            next: from,
            stored: i64::MIN,
            revoked: false,
        };
        self.holdings.insert(holding.clone(), seen);
    }

    fn of_partition(&self, partition: i32) -> impl Iterator<Item = (&Holding, &Seen)> {
        self.holdings
            .iter()
            .filter(move |(holding, _)| holding.partition == partition)
    }

    /// A member was told that it is to give a partition up.
    pub(super) fn revoked(&mut self, holding: &Holding) {
        if let Some(seen) = self.holdings.get_mut(holding) {
            seen.revoked = true;
            self.counts.revoked += 1;
        }
    }

    /// A member has processed records of a partition, up to an offset, exclusive.
    pub(super) fn processed(&mut self, holding: &Holding, from: i64, end: i64) {
        let (low, behind) = self.processed.entry(holding.partition).or_default();
        behind.extend((from..end).filter(|offset| *offset >= *low));
        while behind.remove(low) {
            *low += 1;
        }
    }

    /// A member is about to commit.
    pub(super) fn committing(&mut self, holding: &Holding, offset: i64) -> Committing {
        let late = self
            .of_partition(holding.partition)
            .any(|(other, _)| other > holding);
        Committing {
            holding: holding.clone(),
            offset,
            late,
        }
    }

    /// It was stored, says the broker.
    pub(super) fn stored(&mut self, commit: &Committing) {
        self.counts.stored += 1;
        let (holding, offset) = (&commit.holding, commit.offset);
        if commit.late {
            self.violation(format!(
                "{holding}: the commit of {offset} was stored although another had the partition before it set out"
            ));
        }
        let later: Vec<String> = self
            .of_partition(holding.partition)
            .filter(|(other, seen)| *other > holding && seen.from < offset)
            .map(|(other, seen)| {
                format!(
                    "{holding} has committed {offset}, but {other} began at {}",
                    seen.from
                )
            })
            .collect();
        later.into_iter().for_each(|it| self.violation(it));
        if let Some(seen) = self.holdings.get_mut(holding) {
            seen.stored = seen.stored.max(offset);
        }
        self.raised(holding.partition, offset);
    }

    /// The greatest offsets that are known to be committed, to be asked for before the broker is.
    pub(super) fn known(&self) -> BTreeMap<i32, i64> {
        self.committed.clone()
    }

    /// What the group is told to have committed, when so much was known before the question.
    pub(super) fn committed(&mut self, known: &BTreeMap<i32, i64>, partition: i32, offset: i64) {
        let known = known.get(&partition).copied().unwrap_or(0);
        if offset < known {
            self.violation(format!(
                "partition {partition}: the commit went back from {known} to {offset}"
            ));
        }
        self.raised(partition, offset);
    }

    fn raised(&mut self, partition: i32, offset: i64) {
        let known = self.committed.entry(partition).or_default();
        *known = offset.max(*known);
        let (low, _) = self.processed.get(&partition).cloned().unwrap_or_default();
        if offset > low {
            self.violation(format!(
                "partition {partition}: {offset} is committed, but nobody has processed {low}"
            ));
        }
    }

    /// All that is there was processed, and all that was acknowledged is there.
    pub(super) fn check_all_processed(&mut self, ends: &[(i32, i64)]) {
        for &(partition, end) in ends {
            let (low, _) = self.processed.get(&partition).cloned().unwrap_or_default();
            if low < end {
                self.violation(format!(
                    "partition {partition}: nobody has processed {low}, of {end}"
                ));
            }
            let beyond = self
                .values
                .keys()
                .find(|(of, offset)| *of == partition && *offset >= end);
            if let Some((_, offset)) = beyond.copied() {
                self.violation(format!("partition {partition}: {offset} is gone"));
            }
        }
    }

    fn violation(&mut self, what: String) {
        self.violations.push(what);
    }

    #[track_caller]
    pub(super) fn assert_holds(&self, when: &str) {
        let shown = &self.violations[..self.violations.len().min(SHOWN)];
        assert!(
            shown.is_empty(),
            "{when}: {} of the promises to groups are broken:\n  {}\n{}",
            self.violations.len(),
            shown.join("\n  "),
            self.counts
        );
    }
}

/// A ledger that all tell of. Clones share it.
#[derive(Clone, Debug, Default)]
pub(super) struct SharedLedger(Arc<Mutex<Ledger>>);

impl SharedLedger {
    pub(super) fn lock(&self) -> MutexGuard<'_, Ledger> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Display for Holding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "partition {} of {}", self.partition, self.session)
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} lives of members ({} cut off, {} put out for doing nothing, {} replaced), {} pauses, {} kills of \
             the broker; {} holdings, {} revoked, {} lost; {} records acknowledged, {} handed out; {} commits \
             stored, {} stale, {} unknown, {} releases",
            self.lives,
            self.cut,
            self.timed_out,
            self.replaced,
            self.pauses,
            self.kills,
            self.holdings,
            self.revoked,
            self.lost,
            self.acknowledged,
            self.delivered,
            self.stored,
            self.stale,
            self.unknown,
            self.released
        )
    }
}
