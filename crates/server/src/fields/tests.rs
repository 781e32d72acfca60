//! Fields are read as their comments in the protos say, and refused by name.

use super::*;

fn refused<T: std::fmt::Debug>(result: Result<T, Error>) -> String {
    match result.expect_err("refused") {
        Error::InvalidField { field, .. } => field,
        other => panic!("expected InvalidField, got {other:?}"),
    }
}

fn at(position: StartAt) -> Option<v1::StartPosition> {
    Some(v1::StartPosition {
        position: Some(position),
    })
}

fn until(position: StopAt) -> Option<v1::StopPosition> {
    Some(v1::StopPosition {
        position: Some(position),
    })
}

fn time(seconds: i64, nanos: i32) -> prost_types::Timestamp {
    prost_types::Timestamp { seconds, nanos }
}

#[test]
fn times_are_rounded_up_to_milliseconds() {
    for (seconds, nanos, ms) in [
        (0, 0, 0),
        (1, 1, 1_001),
        (1, 999_999_999, 2_000),
        (-1, 0, -1_000),
        (-1, 1, -999),
        (-1, 500_000_000, -500),
    ] {
        assert_eq!(timestamp_ms("t", &time(seconds, nanos)).expect("valid"), ms);
    }
    assert_eq!(timestamp(-1), time(-1, 999_000_000));
    assert_eq!(timestamp(1_234), time(1, 234_000_000));
    assert_eq!(refused(timestamp_ms("t", &time(0, -1))), "t");
    assert_eq!(refused(timestamp_ms("t", &time(i64::MAX, 0))), "t");

    let length = |seconds, nanos| duration_ms("d", &prost_types::Duration { seconds, nanos });
    assert_eq!(length(0, 1).expect("valid"), 1);
    assert_eq!(length(2, 3_000_000).expect("valid"), 2_003);
    assert_eq!(refused(length(-1, 0)), "d");
    assert_eq!(refused(length(0, -1)), "d");
    assert_eq!(
        length(1, 0).expect("valid"),
        duration(1_000).seconds as u64 * 1_000
    );
}

#[test]
fn every_start_and_stop_position_is_read() {
    let read = |position| start("start", at(position).as_ref());
    assert_eq!(start("start", None), Ok(Start::Earliest));
    assert_eq!(
        start("start", Some(&v1::StartPosition::default())),
        Ok(Start::Earliest)
    );
    for (anchor, expected) in [
        (Anchor::Unspecified, Start::Earliest),
        (Anchor::Earliest, Start::Earliest),
        (Anchor::Latest, Start::Latest),
        (Anchor::Committed, Start::Committed),
    ] {
        assert_eq!(read(StartAt::Anchor(anchor.into())), Ok(expected));
    }
    assert_eq!(read(StartAt::Offset(7)), Ok(Start::Offset(7)));
    assert_eq!(read(StartAt::Time(time(1, 0))), Ok(Start::TimeMs(1_000)));
    assert_eq!(read(StartAt::Last(0)), Ok(Start::Last(0)));
    assert_eq!(refused(read(StartAt::Anchor(9))), "start.anchor");
    assert_eq!(refused(read(StartAt::Offset(-1))), "start.offset");
    assert_eq!(refused(read(StartAt::Last(-1))), "start.last");
    assert_eq!(refused(read(StartAt::Time(time(0, -5)))), "start.time");

    let read = |position| stop("stop", until(position).as_ref());
    assert_eq!(stop("stop", None), Ok(None));
    assert_eq!(read(StopAt::CurrentEnd(true)), Ok(Some(Stop::CurrentEnd)));
    assert_eq!(read(StopAt::Offset(7)), Ok(Some(Stop::Offset(7))));
    assert_eq!(
        read(StopAt::Time(time(1, 0))),
        Ok(Some(Stop::TimeMs(1_000)))
    );
    assert_eq!(read(StopAt::Count(3)), Ok(Some(Stop::Count(3))));
    assert_eq!(refused(read(StopAt::CurrentEnd(false))), "stop.current_end");
    assert_eq!(refused(read(StopAt::Count(-3))), "stop.count");
    assert_eq!(
        refused(stop("stop", Some(&v1::StopPosition::default()))),
        "stop"
    );
}

#[test]
fn a_cursor_goes_out_and_comes_back_the_same() {
    let sent = Cursor {
        group: "g".to_owned(),
        session: "s".to_owned(),
        topic: "t".to_owned(),
        partition: 3,
        offset: 9,
        topic_id: Some(Uuid::from_u128(5)),
    };
    let told = cursor(sent.clone());
    assert_eq!(cursors("cursors", vec![told.clone()]), Ok(vec![sent]));

    let broken = |change: fn(&mut v1::Cursor)| {
        let mut wrong = told.clone();
        change(&mut wrong);
        refused(cursors("cursors", vec![told.clone(), wrong]))
    };
    assert_eq!(
        broken(|cursor| cursor.partition = -1),
        "cursors[1].partition"
    );
    assert_eq!(broken(|cursor| cursor.offset = -1), "cursors[1].offset");
    assert_eq!(
        broken(|cursor| cursor.topic_id.push('x')),
        "cursors[1].topic_id"
    );
}

#[test]
fn numbers_below_their_range_are_refused() {
    assert_eq!(count::<i32, u32>("n", 0), Ok(0));
    assert_eq!(refused(count::<i32, u32>("n", -1)), "n");
    assert_eq!(positive::<i64, u64>("n", 1, "to keep all"), Ok(1));
    assert_eq!(refused(positive::<i64, u64>("n", 0, "to keep all")), "n");
    assert_eq!(refused(positive::<i64, u64>("n", -1, "to keep all")), "n");
    assert_eq!(acks("acks", 0), Ok(None));
    assert_eq!(acks("acks", 2), Ok(Some(Acks::Written)));
    assert_eq!(acks_number(Some(Acks::Written)), 2);
    assert_eq!(refused(acks("acks", 3)), "acks");
    assert_eq!(refused(partitions("partitions", &[0, -2])), "partitions");
}
