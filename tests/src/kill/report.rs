//! What came of it.

use std::fmt;
use std::time::{Duration, Instant};

use super::check::{Checker, Checks};
use crate::Broker;
use crate::history::Counts;
use crate::work::Work;

/// Figures of a run.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Brokers that were ended under load, each checked after its successor's start.
    pub cycles: u64,
    pub(super) kills: u64,
    pub(super) kills_at_start: u64,
    pub(super) stops: u64,
    /// Of the stops: those after which the broker went on.
    pub(super) went_on: u64,
    pub(super) terminations: u64,
    pub(super) restarts: u64,
    pub(super) verified: u64,
    pub(super) torn_tails: usize,
    pub(super) checks: Checks,
    /// How many records came to what.
    pub counts: Counts,
    pub(super) records_read: u64,
    pub(super) took: Duration,
}

impl Report {
    pub(super) fn note(&mut self, work: &Work, broker: &Broker, checker: &Checker, begun: Instant) {
        self.checks = checker.checks();
        self.counts = work.history().counts();
        self.records_read = work.records_read();
        self.torn_tails = broker.log().matches("a torn tail is sealed off").count();
        self.took = begun.elapsed();
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let counts = self.counts;
        write!(
            f,
            "{} cycles: {} SIGKILL under load and {} more while starting, {} SIGSTOP ({} of them went on), {} SIGTERM, {} restarts, {} torn tails sealed off; ",
            self.cycles,
            self.kills,
            self.kills_at_start,
            self.stops,
            self.went_on,
            self.terminations,
            self.restarts,
            self.torn_tails,
        )?;
        write!(
            f,
            "{} records acknowledged, {} of unknown outcome ({} of them there), {} refused; {} records read, {} checks of what was new and {} of everything, files verified {} times; 0 violations; {} s",
            counts.acknowledged,
            counts.unanswered_and_read + counts.unanswered_and_absent,
            counts.unanswered_and_read,
            counts.refused,
            self.records_read,
            self.checks.new,
            self.checks.whole,
            self.verified,
            self.took.as_secs()
        )
    }
}
