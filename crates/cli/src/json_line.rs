//! A record as one line of JSON, with the names that kcat gives.
//!
//! JSON has no bytes. Text that is UTF-8 stands under `key` and `payload`; other bytes stand in
//! base64 under `key_base64` and `payload_base64` instead. A tombstone has the payload `null`.
//! Headers are a flat list of names and values; a value that is not UTF-8 is an object
//! `{"base64": "…"}` in it.

use std::io::{self, Write};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use flowstone_client::{Headers, RecordRef};
use serde::Serialize;
use serde::ser::{SerializeMap, SerializeSeq, Serializer};

/// Prints one record and a newline.
pub(crate) fn write(
    out: &mut impl Write,
    topic: &str,
    partition: i32,
    record: &RecordRef<'_>,
) -> io::Result<()> {
    let line = Line {
        topic,
        partition,
        record,
    };
    serde_json::to_writer(&mut *out, &line)?;
    out.write_all(b"\n")
}

struct Line<'a> {
    topic: &'a str,
    partition: i32,
    record: &'a RecordRef<'a>,
}

impl Serialize for Line<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let record = self.record;
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("topic", self.topic)?;
        map.serialize_entry("partition", &self.partition)?;
        map.serialize_entry("offset", &record.offset)?;
        map.serialize_entry("ts", &record.timestamp_ms)?;
        if !record.headers.is_empty() {
            map.serialize_entry("headers", &HeaderList(record.headers))?;
        }
        bytes_entry(&mut map, ["key", "key_base64"], record.key)?;
        bytes_entry(&mut map, ["payload", "payload_base64"], record.value)?;
        map.end()
    }
}

fn bytes_entry<M: SerializeMap>(
    map: &mut M,
    [as_text, as_base64]: [&'static str; 2],
    bytes: Option<&[u8]>,
) -> Result<(), M::Error> {
    match bytes.map(|bytes| (std::str::from_utf8(bytes), bytes)) {
        None => map.serialize_entry(as_text, &None::<&str>),
        Some((Ok(text), _)) => map.serialize_entry(as_text, text),
        Some((Err(_), bytes)) => map.serialize_entry(as_base64, &STANDARD.encode(bytes)),
    }
}

struct HeaderList<'a>(Headers<'a>);

impl Serialize for HeaderList<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut seq = serializer.serialize_seq(None)?;
        for header in self.0 {
            seq.serialize_element(header.key)?;
            match std::str::from_utf8(header.value) {
                Ok(text) => seq.serialize_element(text)?,
                Err(_) => seq.serialize_element(&Base64 {
                    base64: STANDARD.encode(header.value),
                })?,
            }
        }
        seq.end()
    }
}

#[derive(Serialize)]
struct Base64 {
    base64: String,
}

#[cfg(test)]
mod tests {
    use flowstone_client::{Header, Record, Records};

    use super::*;

    fn line(record: &Record) -> String {
        let mut out = Vec::new();
        let records: Records = [record.clone()].into_iter().collect();
        for record in &records {
            write(&mut out, "visits", 3, &record).unwrap();
        }
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn text_stands_as_text() {
        let record = Record {
            key: Some("k\"1".into()),
            value: Some("two\nlines".into()),
            timestamp_ms: 5,
            offset: 42,
            ..Record::default()
        };
        assert_eq!(
            line(&record),
            "{\"topic\":\"visits\",\"partition\":3,\"offset\":42,\"ts\":5,\
             \"key\":\"k\\\"1\",\"payload\":\"two\\nlines\"}\n"
        );
    }

    #[test]
    fn other_bytes_stand_in_base64_under_another_name() {
        let record = Record {
            key: Some(vec![0xff].into()),
            value: Some(vec![0x00, 0xfe].into()),
            headers: vec![
                Header {
                    key: "plain".into(),
                    value: "text".into(),
                },
                Header {
                    key: "raw".into(),
                    value: vec![0xff, 0xff].into(),
                },
            ],
            ..Record::default()
        };
        let line = line(&record);
        assert!(
            line.contains(r#""key_base64":"/w==","payload_base64":"AP4=""#),
            "{line}"
        );
        assert!(
            line.contains(r#""headers":["plain","text","raw",{"base64":"//8="}]"#),
            "{line}"
        );
        assert!(!line.contains(r#""key":"#), "{line}");
    }

    #[test]
    fn a_tombstone_has_no_payload_and_an_empty_value_has_an_empty_one() {
        assert!(line(&Record::default()).contains(r#""key":null,"payload":null"#));
        let empty = Record {
            value: Some("".into()),
            ..Record::default()
        };
        assert!(line(&empty).contains(r#""payload":"""#));
    }
}
