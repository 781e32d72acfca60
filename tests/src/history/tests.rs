//! A checker that cannot fail is worth nothing: every kind of violation is planted and found.

use bytes::Bytes;

use super::*;

fn record(value: &str, offset: i64) -> Record {
    Record {
        key: Some("k".into()),
        value: Some(Bytes::copy_from_slice(value.as_bytes())),
        timestamp_ms: 1_000 + offset,
        offset,
        ..Record::default()
    }
}

/// A record as it is sent.
fn unsent(value: &str) -> Record {
    Record {
        timestamp_ms: 0,
        offset: 0,
        ..record(value, 0)
    }
}

/// Two producers have sent a0, b0, a1, b1, a2. All but b1 and a2 were acknowledged in partition 0, in
/// this order.
fn history() -> (History, BTreeMap<&'static str, Call>) {
    let mut history = History::new();
    let mut calls = BTreeMap::new();
    for (producer, value) in [(0, "a0"), (1, "b0"), (0, "a1"), (1, "b1"), (0, "a2")] {
        calls.insert(value, history.invoke(producer, &unsent(value)));
    }
    for (offset, value) in [(0, "a0"), (1, "b0"), (2, "a1")] {
        history.acknowledged(calls[value], 0, offset);
    }
    (history, calls)
}

fn records(values: &[&str]) -> Vec<Record> {
    values
        .iter()
        .zip(0..)
        .map(|(value, offset)| record(value, offset))
        .collect()
}

fn at(offset: i64) -> Place {
    Place {
        partition: 0,
        offset,
    }
}

/// Reads partition 0 whole and tells what is off.
fn read_whole(values: &[&str]) -> Vec<Violation> {
    let (mut history, _) = history();
    history.read_whole(0, values.len() as i64, &records(values));
    history.violations().to_vec()
}

#[test]
fn what_is_as_promised_is_left_alone() {
    let (mut history, calls) = history();
    let first = records(&["a0", "b0", "a1"]);
    history.read_whole(0, 3, &first);
    // A crash; of the two that were not answered one is there.
    let second = records(&["a0", "b0", "a1", "a2"]);
    history.read_whole(0, 4, &second);
    history.read(0, 2, &second[2..]);
    history.read_whole(1, 0, &[]);
    history.refused(calls["b1"]);
    for offset in [2, 2, 3] {
        history.committed("readers", 0, offset);
    }
    history.committed("others", 0, 1);
    assert_eq!(history.violations(), []);
    history.assert_holds("in the end");
    assert_eq!(
        history.counts(),
        Counts {
            acknowledged: 3,
            refused: 1,
            unanswered_and_read: 1,
            unanswered_and_absent: 0,
        }
    );
}

#[test]
fn an_unanswered_record_may_be_there_or_not() {
    assert_eq!(read_whole(&["a0", "b0", "a1"]), []);
    assert_eq!(read_whole(&["a0", "b0", "a1", "b1"]), []);
    assert_eq!(read_whole(&["a0", "b0", "a1", "b1", "a2"]), []);
    assert_eq!(read_whole(&["a0", "b0", "a1", "a2", "b1"]), []);
}

#[test]
fn a_lost_record_is_found() {
    let lost = Violation::Lost {
        place: at(2),
        end: 2,
    };
    assert_eq!(read_whole(&["a0", "b0"]), [lost]);
}

#[test]
fn a_lost_record_is_found_also_when_all_are_lost() {
    assert_eq!(read_whole(&[]).len(), 3);
}

#[test]
fn a_record_in_the_middle_that_was_lost_is_found() {
    let found = read_whole(&["a0", "a1"]);
    assert!(found.contains(&Violation::OtherRecord { place: at(1) }));
    assert!(found.contains(&Violation::Misplaced {
        told: at(2),
        seen: at(1)
    }));
}

#[test]
fn a_record_that_is_there_twice_is_found() {
    let twice = Violation::Twice {
        first: at(3),
        second: at(4),
    };
    assert_eq!(read_whole(&["a0", "b0", "a1", "b1", "b1"]), [twice]);
    let found = read_whole(&["a0", "b0", "a1", "b0"]);
    assert!(found.contains(&Violation::Twice {
        first: at(1),
        second: at(3)
    }));
}

#[test]
fn a_record_that_is_in_two_partitions_is_found() {
    let (mut history, _) = history();
    history.read_whole(0, 4, &records(&["a0", "b0", "a1", "a2"]));
    history.read_whole(1, 1, &records(&["a2"]));
    let second = Place {
        partition: 1,
        offset: 0,
    };
    assert_eq!(
        history.violations(),
        [Violation::Twice {
            first: at(3),
            second
        }]
    );
}

#[test]
fn bytes_that_nobody_produced_are_found() {
    let foreign = Violation::Foreign { place: at(3) };
    assert_eq!(read_whole(&["a0", "b0", "a1", "a"]), [foreign]);
}

#[test]
fn a_key_or_a_header_that_nobody_produced_is_found() {
    let (mut history, _) = history();
    let mut all = records(&["a0", "b0", "a1", "b1", "a2"]);
    all[3].key = None;
    all[4].headers.push(flowstone_proto::v1::Header::default());
    history.read_whole(0, 5, &all);
    let foreign = |offset| Violation::Foreign { place: at(offset) };
    assert_eq!(history.violations(), [foreign(3), foreign(4)]);
}

#[test]
fn a_place_that_changes_between_two_reads_is_found() {
    let (mut history, _) = history();
    history.read_whole(0, 4, &records(&["a0", "b0", "a1", "b1"]));
    history.read_whole(0, 4, &records(&["a0", "b0", "a1", "a2"]));
    assert_eq!(history.violations(), [Violation::Changed { place: at(3) }]);
}

#[test]
fn a_timestamp_that_changes_is_found() {
    let (mut history, _) = history();
    let mut all = records(&["a0", "b0", "a1"]);
    history.read_whole(0, 3, &all);
    all[1].timestamp_ms += 1;
    history.read_whole(0, 3, &all);
    assert_eq!(history.violations(), [Violation::Changed { place: at(1) }]);
}

#[test]
fn a_timestamp_that_was_not_kept_is_found() {
    let mut history = History::new();
    let with_time = record("a0", 0);
    history.invoke(0, &with_time);
    let later = Record {
        timestamp_ms: with_time.timestamp_ms + 1,
        ..with_time
    };
    history.read_whole(0, 1, &[later]);
    assert_eq!(
        history.violations(),
        [Violation::OtherTime { place: at(0) }]
    );
}

#[test]
fn an_end_that_goes_back_is_found() {
    let (mut history, _) = history();
    history.read_whole(0, 4, &records(&["a0", "b0", "a1", "b1"]));
    history.read_whole(0, 3, &records(&["a0", "b0", "a1"]));
    let back = Violation::EndWentBack {
        partition: 0,
        before: 4,
        end: 3,
    };
    assert_eq!(history.violations(), [back]);
}

#[test]
fn what_one_reader_saw_must_be_there_for_the_next() {
    let (mut history, _) = history();
    history.read(0, 3, &[record("b1", 3)]);
    history.read_whole(0, 3, &records(&["a0", "b0", "a1"]));
    let back = Violation::EndWentBack {
        partition: 0,
        before: 4,
        end: 3,
    };
    assert_eq!(history.violations(), [back]);
}

#[test]
fn offsets_that_do_not_follow_each_other_are_found() {
    let gap = |expected, found| Violation::Gap {
        partition: 0,
        expected,
        found,
    };
    let (mut between, _) = history();
    let mut all = records(&["a0", "b0", "a1", "b1"]);
    all[3].offset = 4;
    between.read_whole(0, 5, &all);
    assert_eq!(between.violations(), [gap(3, 4)]);

    let (mut at_the_start, _) = history();
    at_the_start.read(0, 0, &all[1..3]);
    assert_eq!(at_the_start.violations(), [gap(0, 1)]);

    let (mut at_the_end, _) = history();
    at_the_end.read_whole(0, 9, &all[..3]);
    assert_eq!(at_the_end.violations(), [gap(3, 9)]);

    let (mut beyond_the_end, _) = history();
    beyond_the_end.read_whole(0, 2, &all[..3]);
    assert_eq!(beyond_the_end.violations(), [gap(3, 2)]);

    let (mut back, _) = history();
    back.read(0, 1, &[all[1].clone(), all[0].clone()]);
    assert!(back.violations().contains(&gap(2, 0)));
}

#[test]
fn a_producer_whose_order_is_lost_is_found() {
    let mut history = History::new();
    for value in ["a0", "a1", "a2"] {
        history.invoke(0, &unsent(value));
    }
    history.read_whole(0, 3, &records(&["a0", "a2", "a1"]));
    assert_eq!(
        history.violations(),
        [Violation::OutOfOrder { place: at(2) }]
    );
}

#[test]
fn order_holds_within_a_partition_and_a_producer_only() {
    let (mut history, _) = history();
    history.read_whole(0, 4, &records(&["a0", "b0", "a1", "b1"]));
    history.read_whole(1, 1, &records(&["a2"]));
    assert_eq!(history.violations(), []);
}

#[test]
fn two_records_in_one_place_are_found_before_they_are_read() {
    let (mut history, calls) = history();
    history.acknowledged(calls["a2"], 0, 2);
    assert_eq!(
        history.violations(),
        [Violation::ToldTwice { place: at(2) }]
    );
}

#[test]
fn an_answer_is_held_against_what_was_read_before_it() {
    let (mut elsewhere, calls) = history();
    elsewhere.read(0, 3, &[record("b1", 3)]);
    elsewhere.acknowledged(calls["b1"], 0, 4);
    assert_eq!(
        elsewhere.violations(),
        [Violation::Misplaced {
            told: at(4),
            seen: at(3)
        }]
    );

    let (mut taken, calls) = history();
    taken.read(0, 3, &[record("b1", 3)]);
    taken.acknowledged(calls["a2"], 0, 3);
    assert_eq!(
        taken.violations(),
        [Violation::OtherRecord { place: at(3) }]
    );
}

#[test]
fn a_refused_record_that_is_there_is_found() {
    let refused = [Violation::Refused { place: at(3) }];
    let (mut before, calls) = history();
    before.refused(calls["b1"]);
    before.read(0, 3, &[record("b1", 3)]);
    assert_eq!(before.violations(), refused);

    let (mut after, calls) = history();
    after.read(0, 3, &[record("b1", 3)]);
    after.refused(calls["b1"]);
    assert_eq!(after.violations(), refused);
}

#[test]
fn a_commit_that_goes_back_is_found() {
    let (mut history, _) = history();
    for offset in [1, 3] {
        history.committed("readers", 0, offset);
    }
    history.committed("readers", 1, 1);
    history.committed("readers", 0, 2);
    let back = Violation::CommitWentBack {
        group: "readers".to_owned(),
        partition: 0,
        before: 3,
        offset: 2,
    };
    assert_eq!(history.violations(), [back]);
}

#[test]
#[should_panic(expected = "in the end: 1 of the broker's promises are broken")]
fn a_broken_promise_ends_the_test() {
    let (mut history, _) = history();
    history.read_whole(0, 2, &records(&["a0", "b0"]));
    history.assert_holds("in the end");
}

#[test]
#[should_panic(expected = "each record must differ")]
fn a_record_that_is_produced_twice_is_no_test() {
    let (mut history, _) = history();
    history.invoke(5, &unsent("a0"));
}

#[test]
fn one_who_reads_on_finds_what_is_lost_behind_the_place_where_it_was() {
    let (mut history, _) = history();
    history.read_on(0, 1, &records(&["a0"]));
    assert_eq!(history.read_up_to(0), 1);
    history.read_on(0, 2, &records(&["a0", "b0"])[1..]);
    let lost = |offset, end| Violation::Lost {
        place: at(offset),
        end,
    };
    assert_eq!(
        history.violations(),
        [lost(1, 1), lost(2, 1), lost(2, 2)],
        "what is missing is told each time"
    );
}

#[test]
fn one_who_reads_on_keeps_the_order_of_producers_in_mind() {
    let mut history = History::new();
    for value in ["a0", "a1", "a2"] {
        history.invoke(0, &unsent(value));
    }
    let all = records(&["a0", "a2", "a1"]);
    history.read_on(0, 2, &all[..2]);
    history.read_on(0, 3, &all[2..]);
    let out_of_order = Violation::OutOfOrder { place: at(2) };
    assert_eq!(history.violations(), std::slice::from_ref(&out_of_order));

    let mut at_once = History::new();
    for value in ["a0", "a1", "a2"] {
        at_once.invoke(0, &unsent(value));
    }
    at_once.read_on(0, 3, &all);
    assert_eq!(at_once.violations(), [out_of_order], "and once only");
}

#[test]
fn what_was_trimmed_need_not_be_there_and_may_not_come_elsewhere() {
    let (mut history, _) = history();
    let all = records(&["a0", "b0", "a1", "b1"]);
    history.read_on(0, 4, &all);
    history.trimming(0, 2);
    history.starts_at(0, 2);
    history.read_to_end(0, 2, 4, &all[2..]);
    // A slow reader.
    history.read(0, 0, &all[..2]);
    assert_eq!(history.violations(), []);
    history.read(0, 4, &[record("b0", 4)]);
    let twice = Violation::Twice {
        first: at(1),
        second: at(4),
    };
    assert!(history.violations().contains(&twice));
}

#[test]
fn a_start_that_goes_back_or_too_far_is_found() {
    let (mut history, _) = history();
    history.trimming(0, 2);
    // Asked for, and not answered.
    history.starts_at(0, 0);
    history.starts_at(0, 2);
    assert_eq!(history.violations(), []);
    history.starts_at(0, 1);
    history.starts_at(0, 3);
    let back = Violation::StartWentBack {
        partition: 0,
        before: 2,
        start: 1,
    };
    let too_far = Violation::TrimmedTooFar {
        partition: 0,
        asked: 2,
        start: 3,
    };
    assert_eq!(history.violations(), [back, too_far]);
}

#[test]
fn a_repeat_is_told_the_place_of_the_first_try_or_comes_late() {
    let (mut history, calls) = history();
    history.acknowledged_again(calls["a0"], at(0), true);
    assert!(history.is_acknowledged(calls["a0"]));
    // Nobody has read it, and nothing is under way any more; then it is sent again.
    history.settle();
    history.repeating(calls["b1"]);
    history.acknowledged_again(calls["b1"], at(3), true);
    history.read(0, 0, &records(&["a0", "b0", "a1", "b1"]));
    assert_eq!(history.violations(), []);

    history.acknowledged_again(calls["a0"], at(9), true);
    let (told, seen) = (at(9), at(0));
    assert_eq!(history.violations(), [Violation::Misplaced { told, seen }]);
}

#[test]
fn what_a_repeat_was_told_to_be_durable_a_power_cut_may_not_take() {
    let lost = |durable: bool| {
        let mut history = History::new();
        let call = history.invoke(0, &unsent("a0"));
        history.acknowledged_written(call, 0, 0);
        history.acknowledged_again(call, at(0), durable);
        history.power_cut();
        history.read_whole(0, 0, &[]);
        !history.violations().is_empty()
    };
    assert!(lost(true));
    assert!(!lost(false));
}
