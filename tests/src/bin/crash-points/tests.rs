//! A slice of the explorer that runs with the tests.

use std::time::Instant;

use crate::counts::Counts;
use crate::life::{Points, live, mix};

const SEED: u64 = 1;
const LIVES: u64 = 4;

#[test]
fn no_crash_loses_or_changes_what_was_acknowledged() {
    let (mut counts, started) = (Counts::default(), Instant::now());
    for life in 0..LIVES {
        let outcome = live(mix(SEED, life), Points::OneIn(16));
        assert!(
            outcome.violation.is_none(),
            "life {life} of seed {SEED}: {:?}",
            outcome.violation
        );
        counts.add(&outcome.counts);
    }
    let summary = counts.summary(started.elapsed());
    let enough = counts.points() > 50 && counts.acknowledged > 100 && counts.cut_short > 20;
    assert!(enough, "too little to show anything: {summary}");
}

#[test]
fn a_life_is_the_same_each_time_and_one_of_its_points_can_be_tried_alone() {
    let whole = live(mix(SEED, 7), Points::OneIn(40)).counts;
    let alone = live(mix(SEED, 7), Points::Only(40)).counts;
    assert_eq!(whole.calls, alone.calls);
    assert_eq!(whole.acknowledged, alone.acknowledged);
    assert!(whole.points() > 1 && alone.points() <= 1);
    let again = live(mix(SEED, 7), Points::OneIn(40)).counts;
    assert_eq!(format!("{whole:?}"), format!("{again:?}"));
}
