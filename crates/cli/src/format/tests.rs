//! Templates and what they print.

use flowstone_client::{Header, Record, Records};

use super::*;

fn record() -> Record {
    Record {
        key: Some("stand".into()),
        value: Some(vec![b'a', 0xff, b'\n'].into()),
        headers: vec![
            Header {
                key: "a".into(),
                value: "1".into(),
            },
            Header {
                key: "b".into(),
                value: "".into(),
            },
        ],
        timestamp_ms: 1_431_857_103_000,
        offset: 42,
        ..Record::default()
    }
}

#[track_caller]
fn print(template: &str, record: &Record) -> Vec<u8> {
    let mut out = Vec::new();
    let template: Template = template.parse().unwrap();
    let records: Records = [record.clone()].into_iter().collect();
    for record in &records {
        template.write(&mut out, "visits", 3, &record).unwrap();
    }
    out
}

#[test]
fn every_letter_prints_its_part_of_the_record() {
    let record = record();
    assert_eq!(print("%t", &record), b"visits");
    assert_eq!(print("%p", &record), b"3");
    assert_eq!(print("%o", &record), b"42");
    assert_eq!(print("%k", &record), b"stand");
    assert_eq!(print("%K", &record), b"5");
    assert_eq!(print("%s", &record), b"a\xff\n");
    assert_eq!(print("%S", &record), b"3");
    assert_eq!(print("%T", &record), b"1431857103000");
    assert_eq!(print("%h", &record), b"a=1,b=");
}

#[test]
fn text_and_escapes_stand_for_themselves() {
    let record = record();
    assert_eq!(print("", &record), b"");
    assert_eq!(print("100%%|%o\\t%p\\r\\n", &record), b"100%|42\t3\r\n");
    assert_eq!(print("\\x00\\xFf\\\\n", &record), b"\x00\xff\\n");
    assert_eq!(print("ö%oß", &record), "ö42ß".as_bytes());
}

#[test]
fn what_is_not_there_prints_nothing_and_has_length_minus_one() {
    let tombstone = Record::default();
    assert_eq!(print("[%k][%s][%h]", &tombstone), b"[][][]");
    assert_eq!(print("%K %S", &tombstone), b"-1 -1");
    let empty = Record {
        key: Some("".into()),
        value: Some("".into()),
        ..Record::default()
    };
    assert_eq!(print("%K %S", &empty), b"0 0");
}

#[test]
fn what_is_unknown_is_refused_by_name() {
    for (template, told) in [
        ("%x", "%x"),
        ("%ö", "%ö"),
        ("abc%", "%%"),
        ("\\q", "\\\\q"),
        ("\\ö", "ö"),
        ("tail\\", "\\"),
        ("\\x1", "\\x"),
        ("\\xgg", "\\x"),
        ("\\x+1", "\\x"),
        ("\\xöö", "\\x"),
    ] {
        let error = template.parse::<Template>().unwrap_err();
        assert!(error.contains(told), "{template}: {error}");
    }
}

#[test]
fn delimiters_take_the_same_escapes() {
    assert_eq!(unescape("\\t").unwrap(), b"\t");
    assert_eq!(unescape("::").unwrap(), b"::");
    assert_eq!(unescape("a\\x3Ab").unwrap(), b"a:b");
    assert!(unescape("\\d").is_err());
}
