//! Each kind of what a crash or a trim must not do is planted and found.

use super::*;

fn record(value: &str, offset: i64) -> Record {
    Record {
        value: Some(value.to_owned().into()),
        timestamp_ms: 1_000,
        offset,
        ..Record::default()
    }
}

fn records(values: &[&str], from: i64) -> Vec<Record> {
    let records = values.iter().zip(from..);
    records.map(|(value, at)| record(value, at)).collect()
}

fn unsent(value: &str) -> Record {
    Record {
        timestamp_ms: 0,
        ..record(value, 0)
    }
}

/// Of a to d, a was acknowledged as durable, b and c as written, d not at all.
fn history() -> History {
    let mut history = History::new();
    let [a, b, c, _] = ["a", "b", "c", "d"].map(|value| history.invoke(0, &unsent(value)));
    history.acknowledged(a, 0, 0);
    history.acknowledged_written(b, 0, 1);
    history.acknowledged_written(c, 0, 2);
    history
}

fn lost(offset: i64, end: i64) -> Violation {
    let place = Place {
        partition: 0,
        offset,
    };
    Violation::Lost { place, end }
}

#[test]
fn what_was_only_written_outlasts_the_process_and_not_the_power() {
    let mut after_a_kill = history();
    after_a_kill.read_from_start(0, 0, 2, &records(&["a", "b"], 0));
    assert_eq!(after_a_kill.violations(), [lost(2, 2)]);

    let mut after_a_power_cut = history();
    after_a_power_cut.power_cut();
    after_a_power_cut.read_from_start(0, 0, 2, &records(&["a", "d"], 0));
    assert_eq!(after_a_power_cut.violations(), []);
}

#[test]
fn what_a_reader_saw_or_a_later_ack_covers_outlasts_the_power_too() {
    let mut seen = history();
    seen.read(0, 0, &records(&["a", "b"], 0));
    seen.power_cut();
    seen.read_from_start(0, 0, 1, &records(&["a"], 0));
    assert!(seen.violations().contains(&lost(1, 1)));
    assert!(!seen.violations().contains(&lost(2, 1)));

    let mut covered = history();
    let later = covered.invoke(0, &unsent("e"));
    covered.acknowledged(later, 0, 3);
    covered.power_cut();
    covered.read_from_start(0, 0, 1, &records(&["a"], 0));
    assert_eq!(covered.violations(), [lost(1, 1), lost(2, 1), lost(3, 1)]);
}

#[test]
fn what_is_not_there_when_all_is_read_must_not_come_later() {
    let mut history = history();
    history.read_from_start(0, 0, 3, &records(&["a", "b", "c"], 0));
    history.settle();
    assert_eq!(history.violations(), []);
    history.read_from_start(0, 0, 4, &records(&["a", "b", "c", "d"], 0));
    let place = Place {
        partition: 0,
        offset: 3,
    };
    assert_eq!(history.violations(), [Violation::Refused { place }]);
}

#[test]
fn a_start_moves_forward_and_no_further_than_was_asked() {
    let mut history = history();
    history.trimming(0, 1);
    let bc = records(&["b", "c"], 1);
    history.read_from_start(0, 1, 3, &bc);
    assert_eq!(history.violations(), []);
    assert_eq!(history.trim_asked(0), 1);

    let mut back = history.clone();
    back.read_from_start(0, 0, 3, &records(&["a", "b", "c"], 0));
    let went_back = Violation::StartWentBack {
        partition: 0,
        before: 1,
        start: 0,
    };
    assert_eq!(back.violations(), [went_back]);

    history.read_from_start(0, 2, 3, &bc[1..]);
    let too_far = Violation::TrimmedTooFar {
        partition: 0,
        asked: 1,
        start: 2,
    };
    assert_eq!(history.violations(), [too_far]);
}

#[test]
fn a_commit_is_one_that_was_asked_for_and_stays() {
    let commit = |offset| ("group".to_owned(), 0, offset);
    let mut history = History::new();
    for offset in [3, 5] {
        history.committing("group", 0, offset);
    }
    history.commit_answered("group", 0, 3);
    history.commit_answered("group", 0, 3);
    history.found_committed(&[commit(3)]);
    history.found_committed(&[commit(5)]);
    assert_eq!(history.violations(), []);

    let mut back = history.clone();
    back.found_committed(&[commit(3)]);
    back.found_committed(&[]);
    let went_back = |offset| Violation::CommitWentBack {
        group: "group".to_owned(),
        partition: 0,
        before: 5,
        offset,
    };
    assert_eq!(back.violations(), [went_back(3), went_back(0)]);

    history.found_committed(&[commit(6)]);
    let unasked = Violation::CommitUnasked {
        group: "group".to_owned(),
        partition: 0,
        offset: 6,
    };
    assert_eq!(history.violations(), [unasked]);
}

#[test]
fn acknowledged_places_are_those_that_still_count() {
    let mut history = history();
    assert_eq!(history.acknowledged_places().count(), 3);
    history.power_cut();
    let left: Vec<i64> = history
        .acknowledged_places()
        .map(|(place, _)| place.offset)
        .collect();
    assert_eq!(left, [0]);
}
