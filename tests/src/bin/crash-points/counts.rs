//! What was tried, counted.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use flowstone_disk::OpKind;

use crate::crash::Way;

/// How often what was tried.
#[derive(Clone, Debug, Default)]
pub(crate) struct Counts {
    pub(crate) lives: u64,
    /// I/O calls of the lives.
    pub(crate) calls: u64,
    pub(crate) ways: BTreeMap<Way, u64>,
    /// Points, by the I/O call that the crash came upon.
    pub(crate) kinds: BTreeMap<OpKind, u64>,
    /// Recoveries that came to their end, and what they held was checked.
    pub(crate) checked: u64,
    /// Recoveries that a crash has cut short.
    pub(crate) cut_short: u64,
    /// Recoveries in which one I/O call failed.
    pub(crate) failed: u64,
    /// Points by how many recoveries were cut short or failed.
    pub(crate) depths: BTreeMap<u64, u64>,
    /// Records that were acknowledged in the lives, and behind the points.
    pub(crate) acknowledged: u64,
    pub(crate) acknowledged_behind: u64,
    /// Requests of producers that were sent again in the lives, and behind the points.
    pub(crate) repeated: u64,
    pub(crate) repeated_behind: u64,
    /// I/O errors and full disks in the lives.
    pub(crate) io_errors: u64,
    pub(crate) full_disks: u64,
    /// Crashes from which the lives themselves went on.
    pub(crate) survived: u64,
}

impl Counts {
    pub(crate) fn points(&self) -> u64 {
        self.ways.values().sum()
    }

    pub(crate) fn add(&mut self, other: &Self) {
        self.lives += other.lives;
        self.calls += other.calls;
        for (way, count) in &other.ways {
            *self.ways.entry(*way).or_default() += count;
        }
        for (kind, count) in &other.kinds {
            *self.kinds.entry(*kind).or_default() += count;
        }
        for (depth, count) in &other.depths {
            *self.depths.entry(*depth).or_default() += count;
        }
        self.checked += other.checked;
        self.cut_short += other.cut_short;
        self.failed += other.failed;
        self.acknowledged += other.acknowledged;
        self.acknowledged_behind += other.acknowledged_behind;
        self.repeated += other.repeated;
        self.repeated_behind += other.repeated_behind;
        self.io_errors += other.io_errors;
        self.full_disks += other.full_disks;
        self.survived += other.survived;
    }

    pub(crate) fn summary(&self, elapsed: Duration) -> String {
        let mut lines = vec![format!(
            "{} crash points in {} lives ({} I/O calls), {:.0} s",
            self.points(),
            self.lives,
            self.calls,
            elapsed.as_secs_f64()
        )];
        let mut table = |what: &str, rows: Vec<(String, u64)>| {
            lines.push(format!("{what}:"));
            let rows = rows.into_iter();
            lines.extend(rows.map(|(name, count)| format!("  {count:>9}  {name}")));
        };
        let name = |name: &dyn fmt::Display, count: &u64| (name.to_string(), *count);
        table(
            "by kind of crash",
            self.ways.iter().map(|(way, n)| name(way, n)).collect(),
        );
        let kinds = self.kinds.iter().map(|(kind, n)| (format!("{kind:?}"), *n));
        table("by I/O call", kinds.collect());
        let depths = self
            .depths
            .iter()
            .map(|(depth, n)| (format!("{depth}"), *n));
        table(
            "by recoveries cut short or failed before the last",
            depths.collect(),
        );
        lines.push(format!(
            "{} recoveries held against the history, {} cut short by a further crash, {} with a failing I/O call",
            self.checked, self.cut_short, self.failed
        ));
        lines.push(format!(
            "{} requests of producers sent again in the lives, {} more after a recovery",
            self.repeated, self.repeated_behind
        ));
        lines.push(format!(
            "{} records acknowledged in the lives, {} more after a recovery; {} I/O errors and {} full disks on the way; the lives themselves went on after {} crashes",
            self.acknowledged,
            self.acknowledged_behind,
            self.io_errors,
            self.full_disks,
            self.survived
        ));
        lines.join("\n")
    }
}
