//! What a walk finds, held against what prost decodes.

use proptest::collection::vec;
use proptest::prelude::*;
use prost::Message;

use super::*;

/// A field as it may stand in a record, with what no encoder of ours would write among them.
fn field() -> impl Strategy<Value = Vec<u8>> {
    let number = prop_oneof![0..=300u64, any::<u64>()];
    prop_oneof![
        (prop_oneof![Just(1u64), Just(2)], vec(any::<u8>(), 0..200))
            .prop_map(|(field, bytes)| delimited(field, &bytes)),
        (vec(header_field(), 0..4)).prop_map(|fields| delimited(3, &fields.concat())),
        (prop_oneof![4..=6u64, Just(15)], number).prop_map(|(field, number)| [
            varint(field << 3),
            varint(number)
        ]
        .concat()),
        // A number that is longer than it need be.
        Just(vec![15 << 3, 0x85, 0x80, 0]),
        unknown(),
    ]
}

fn header_field() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        4 => "[a-zé]{0,9}".prop_map(|key| delimited(1, key.as_bytes())),
        4 => vec(any::<u8>(), 0..9).prop_map(|value| delimited(2, &value)),
        1 => unknown(),
    ]
}

/// A field that a later broker may send.
fn unknown() -> impl Strategy<Value = Vec<u8>> {
    (16..5000u64, 0..5u64, vec(any::<u8>(), 8)).prop_map(|(field, wire_type, bytes)| {
        let body = match wire_type {
            0 => varint(u64::from(bytes[0]) << 9),
            1 => bytes,
            2 => return delimited(field, &bytes),
            3 => [delimited(1, &bytes), varint(field << 3 | 4)].concat(),
            _ => return [varint(field << 3 | 5), bytes[..4].to_vec()].concat(),
        };
        [varint(field << 3 | wire_type), body].concat()
    })
}

fn delimited(field: u64, bytes: &[u8]) -> Vec<u8> {
    let len = varint(bytes.len() as u64);
    [varint(field << 3 | 2), len, bytes.to_vec()].concat()
}

fn varint(number: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    encode_varint(number, &mut bytes);
    bytes
}

/// A record as the broker stores it, or nearly so: its end is mostly written as that of the one before, and else often
/// as long. The numbers are about as large as the least that take a byte more.
fn stored() -> impl Strategy<Value = Vec<Vec<u8>>> {
    let timestamp = (1u64 << 35) - 3..(1 << 35) + 3;
    let offset = (1u64 << 14) - 3..(1 << 14) + 3;
    let tags = (
        prop_oneof![8 => Just(4u64), 1 => Just(5)],
        prop_oneof![8 => Just(15u64), 1 => Just(6)],
    );
    (vec(field(), 0..2), 0..40usize, tags, timestamp, offset).prop_map(
        |(mut fields, len, tags, timestamp, offset)| {
            fields.push(delimited(2, &vec![7; len]));
            fields.push([varint(tags.0 << 3), varint(timestamp)].concat());
            fields.push([varint(tags.1 << 3), varint(offset)].concat());
            fields
        },
    )
}

/// Records as bytes, one after the other.
fn run() -> impl Strategy<Value = Vec<u8>> {
    let record = prop_oneof![vec(field(), 0..8), stored()];
    vec(record, 0..9).prop_map(|records| {
        let entries = records.into_iter();
        entries
            .flat_map(|fields| delimited(1, &fields.concat()))
            .collect()
    })
}

/// What prost makes of a run, or that it refuses it.
fn by_prost(run: &[u8]) -> Option<Vec<proto::Record>> {
    let response = proto::FetchResponse::decode(run).ok()?;
    Some(response.records)
}

fn by_walk(run: &[u8]) -> Option<Vec<proto::Record>> {
    let message = Bytes::copy_from_slice(run);
    let (records, rest) = Records::at_the_front(&[message])?;
    assert_eq!(rest, "");
    assert_eq!(records.iter().len(), records.len());
    let copies: Vec<_> = records.iter().map(|record| record.to_record()).collect();
    assert_eq!(copies.len(), records.len());
    Some(copies)
}

proptest! {
    #[test]
    fn a_walk_finds_what_prost_decodes(run in run()) {
        let expected = by_prost(&run);
        prop_assert!(expected.is_some());
        prop_assert_eq!(by_walk(&run), expected);
    }

    #[test]
    fn records_that_are_put_together_are_found_again(run in run()) {
        let records = by_prost(&run).unwrap();
        let together: Records = records.iter().cloned().collect();
        let found: Vec<_> = together.iter().map(|record| record.to_record()).collect();
        prop_assert_eq!(found, records);
    }

    /// A walk ends at the first byte that begins no record, where prost goes on to other fields.
    #[test]
    fn damaged_bytes_are_refused_or_read_as_prost_does(
        run in run(),
        damage in vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
        keep in any::<prop::sample::Index>(),
    ) {
        let mut run = run;
        for (at, byte) in damage {
            if !run.is_empty() {
                let at = at.index(run.len());
                run[at] = byte;
            }
        }
        run.truncate(keep.index(run.len() + 1));
        let message = Bytes::from(run);
        let Some((records, rest)) = Records::at_the_front(std::slice::from_ref(&message)) else {
            // A message is given to prost then; few of these are more than malformed.
            return Ok(());
        };
        let found: Vec<_> = records.iter().map(|record| record.to_record()).collect();
        prop_assert_eq!(Some(found), by_prost(&message[..message.len() - rest.len()]));
    }
}

#[test]
fn what_is_malformed_inside_a_record_is_refused_on_arrival() {
    let cases: [(&str, Vec<u8>); 6] = [
        ("a key as a number", vec![0x0a, 2, 0x08, 1]),
        ("an offset as bytes", vec![0x0a, 3, 0x7a, 1, 1]),
        ("a value that is cut", vec![0x0a, 2, 0x12, 5]),
        ("a length beyond the message", vec![0x0a, 9, 0x12]),
        (
            "a header that is no UTF-8",
            vec![0x0a, 5, 0x1a, 3, 0x0a, 1, 0xff],
        ),
        ("the end of a group that never began", vec![0x0a, 1, 0x3c]),
    ];
    for (what, run) in cases {
        assert_eq!(by_walk(&run), None, "{what}");
        assert_eq!(by_prost(&run), None, "{what}");
    }
}

#[test]
fn every_flipped_bit_is_refused_or_read_as_prost_does() {
    let record = |offset| proto::Record {
        value: Some("two lemonades".into()),
        timestamp_ms: 1_790_000_000_000,
        offset,
        ..proto::Record::default()
    };
    let records: Records = [16_384, 16_385, 16_386].map(record).into_iter().collect();
    let run = records.runs[0].to_vec();
    for bit in 0..run.len() * 8 {
        let mut flipped = run.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        let message = Bytes::from(flipped);
        let Some((records, rest)) = Records::at_the_front(std::slice::from_ref(&message)) else {
            continue;
        };
        let found: Vec<_> = records.iter().map(|record| record.to_record()).collect();
        let expected = by_prost(&message[..message.len() - rest.len()]);
        assert_eq!(Some(found), expected, "bit {bit}");
    }
}

#[test]
fn an_empty_record_is_a_record() {
    let records: Records = vec![proto::Record::default(); 3].into_iter().collect();
    assert_eq!(&records.runs[0][..], [0x0a, 0, 0x0a, 0, 0x0a, 0]);
    assert_eq!(records.iter().count(), 3);
    assert!(records.iter().all(|record| record.value.is_none()));
    assert!(Records::default().is_empty());
}

#[test]
fn records_show_what_is_in_them() {
    let record = proto::Record {
        key: Some("k".into()),
        headers: vec![proto::Header {
            key: "source".into(),
            value: "till".into(),
        }],
        offset: 42,
        ..proto::Record::default()
    };
    let records: Records = [record].into_iter().collect();
    let shown = format!("{records:?}");
    assert!(shown.contains("offset: 42"), "{shown}");
    assert!(shown.contains("\"source\""), "{shown}");
}
