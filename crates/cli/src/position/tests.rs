//! Every way to write a position, and those that are refused.

use super::*;

const NOW_MS: i64 = 1_700_000_000_000;
const MAY_17: i64 = 1_431_820_800_000;
const TEN_O_FIVE: i64 = MAY_17 + (10 * 60 + 5) * 60_000;

fn parse(text: &str) -> Result<Span, String> {
    Span::parse(text, Timestamp::from_millisecond(NOW_MS).unwrap())
}

fn span(from: Option<Position>, to: Option<Position>) -> Span {
    Span { from, to }
}

#[track_caller]
fn single(text: &str, position: Position) {
    assert_eq!(parse(text), Ok(span(Some(position), None)), "{text}");
}

#[track_caller]
fn range(text: &str, from: Option<Position>, to: Option<Position>) {
    assert_eq!(parse(text), Ok(span(from, to)), "{text}");
}

#[test]
fn a_position_alone_is_where_reading_begins() {
    single("start", Position::Start);
    single("end", Position::End);
    single("0", Position::Offset(0));
    single("42", Position::Offset(42));
    single("-100", Position::Last(100));
    single("@1431857103000", Position::TimeMs(1_431_857_103_000));
    single("@now", Position::TimeMs(NOW_MS));
    single("@-1h", Position::TimeMs(NOW_MS - 3_600_000));
    single("@-1h 30m", Position::TimeMs(NOW_MS - 5_400_000));
}

#[test]
fn times_may_leave_out_the_zone_the_seconds_and_the_time_of_day() {
    single("@2015-05-17", Position::TimeMs(MAY_17));
    single("@2015-05-17T10:05", Position::TimeMs(TEN_O_FIVE));
    single("@2015-05-17 10:05", Position::TimeMs(TEN_O_FIVE));
    single("@2015-05-17T10:05:03", Position::TimeMs(TEN_O_FIVE + 3000));
    single("@2015-05-17T10:05:03Z", Position::TimeMs(TEN_O_FIVE + 3000));
    single(
        "@2015-05-17T10:05:03.25Z",
        Position::TimeMs(TEN_O_FIVE + 3250),
    );
    single(
        "@2015-05-17T12:05:03+02:00",
        Position::TimeMs(TEN_O_FIVE + 3000),
    );
}

#[test]
fn a_colon_makes_a_range_and_either_side_may_be_empty() {
    let five = Some(Position::Offset(5));
    let nine = Some(Position::Offset(9));
    range("5:9", five, nine);
    range("5:", five, None);
    range(":9", None, nine);
    range(":", None, None);
    range("start:end", Some(Position::Start), Some(Position::End));
    range("-10:-3", Some(Position::Last(10)), Some(Position::Last(3)));
    range(
        "@-1h:end",
        Some(Position::TimeMs(NOW_MS - 3_600_000)),
        Some(Position::End),
    );
}

#[test]
fn colons_of_times_do_not_split() {
    let from = Some(Position::TimeMs(TEN_O_FIVE));
    let to = Some(Position::TimeMs(TEN_O_FIVE + 60_000));
    let end = Some(Position::End);
    range("@2015-05-17T10:05:@2015-05-17T10:06", from, to);
    range("@2015-05-17T10:05:00Z:@2015-05-17T10:06:00Z", from, to);
    range(
        "@2015-05-17T12:05:00+02:00:@2015-05-17T12:06:00+02:00",
        from,
        to,
    );
    range("@2015-05-17T10:05:end", from, end);
    range("@2015-05-17T10:05:00Z:end", from, end);
    range("@2015-05-17T10:05:00Z:", from, None);
    range("@2015-05-17T10:05:", from, None);
    range(":@2015-05-17T10:05", None, from);
    range(":@2015-05-17T10:05:00Z", None, from);
    range("7:@2015-05-17T10:05:00Z", Some(Position::Offset(7)), from);
    range("@2015-05-17T10:05Z:-3", from, Some(Position::Last(3)));
    range("@2015-05-17T10:05:00Z:3", from, Some(Position::Offset(3)));
    range("@2015-05-17T10:05:300", from, Some(Position::Offset(300)));
    range(
        "@2015-05-17:3",
        Some(Position::TimeMs(MAY_17)),
        Some(Position::Offset(3)),
    );
}

#[test]
fn an_offset_that_could_be_seconds_is_refused_with_the_way_out() {
    for text in ["@2015-05-17T10:05:3", "@2015-05-17T10:05:03:7"] {
        let error = parse(text).unwrap_err();
        assert!(error.contains("zone"), "{text}: {error}");
    }
}

#[test]
fn what_is_no_position_is_refused_with_what_would_be() {
    for text in [
        "",
        "begin",
        "+5",
        "--5",
        "-",
        "5-9",
        "5:9:11",
        "a:b",
        "1.5",
        "99999999999999999999",
        "Start",
        "-x:5",
    ] {
        let error = parse(text).unwrap_err();
        let helps = ["start", "more than any offset"]
            .iter()
            .any(|hint| error.contains(hint));
        assert!(helps, "{text:?}: {error}");
    }
    for text in [
        "@",
        "@yesterday",
        "@-soon",
        "@2015-13-01",
        "@2015-05-17T10",
        "@10:05:03",
    ] {
        let error = parse(text).unwrap_err();
        assert!(error.contains('@'), "{text:?}: {error}");
    }
}

#[test]
fn a_range_that_ends_before_it_begins_is_refused_with_the_other_way_round() {
    for (wrong, right) in [
        ("5:1", "1:5"),
        ("-2:-5", "-5:-2"),
        ("end:start", "start:end"),
        ("@2015-05-18:@2015-05-17", "@2015-05-17:@2015-05-18"),
        ("@-1h:@-2h", "@-2h:@-1h"),
    ] {
        let refused = parse(wrong).unwrap_err();
        assert!(refused.contains(&format!("mean {right}?")), "{refused}");
        assert!(parse(right).is_ok(), "{right}");
    }
    for empty in ["5:5", "start:start", "-3:-3", "5:-1", "end:7"] {
        assert!(parse(empty).is_ok(), "{empty}");
    }
}
