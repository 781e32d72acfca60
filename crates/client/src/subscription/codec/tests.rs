//! Records in front, between and behind the other fields, and messages that are none.

use prost::encoding::encode_varint;

use super::*;

fn record(offset: i64) -> proto::Record {
    proto::Record {
        value: Some(format!("visit {offset}").into()),
        offset,
        ..proto::Record::default()
    }
}

fn response(offsets: std::ops::Range<i64>) -> proto::SubscribeResponse {
    proto::SubscribeResponse {
        cursor: Some(proto::Cursor {
            topic: "visits".into(),
            offset: offsets.end,
            ..proto::Cursor::default()
        }),
        high_watermark: 300,
        records: offsets.map(record).collect(),
        ..proto::SubscribeResponse::default()
    }
}

fn offsets(decoded: &SubscribeResponse) -> Vec<i64> {
    decoded.records.iter().map(|record| record.offset).collect()
}

#[test]
fn records_in_front_stay_the_bytes_that_came() {
    let message = Bytes::from(response(5..105).encode_to_vec());
    let decoded = SubscribeResponse::decode(vec![message.clone()]).unwrap();
    assert_eq!(offsets(&decoded), (5..105).collect::<Vec<_>>());
    assert_eq!(decoded.fields.cursor.as_ref().unwrap().offset, 105);
    assert_eq!(decoded.fields.high_watermark, 300);
    let first = decoded.records.iter().next().unwrap().value.unwrap();
    assert!(message.as_ptr_range().contains(&first.as_ptr()), "no copy");
}

#[test]
fn a_message_is_the_same_in_whatever_pieces_it_comes() {
    let message = Bytes::from(response(5..25).encode_to_vec());
    let whole = SubscribeResponse::decode(vec![message.clone()]).unwrap();
    for first in 0..=message.len() {
        for second in [first, first + 7, first + 40] {
            let second = second.min(message.len());
            let pieces = vec![
                message.slice(..first),
                message.slice(first..second),
                message.slice(second..),
            ];
            assert_eq!(SubscribeResponse::decode(pieces).unwrap(), whole);
        }
    }
}

#[test]
fn pieces_that_end_where_a_record_ends_are_not_copied() {
    let records = |offsets| {
        let only = proto::SubscribeResponse {
            records: Vec::from_iter(response(offsets).records),
            ..proto::SubscribeResponse::default()
        };
        Bytes::from(only.encode_to_vec())
    };
    let pieces = vec![records(5..9), records(9..20), {
        let last = response(20..21);
        Bytes::from(last.encode_to_vec())
    }];
    let decoded = SubscribeResponse::decode(pieces.clone()).unwrap();
    assert_eq!(offsets(&decoded), (5..21).collect::<Vec<_>>());
    assert_eq!(decoded.fields.cursor.as_ref().unwrap().offset, 21);
    for record in &decoded.records {
        let value = record.value.unwrap().as_ptr();
        assert!(
            pieces
                .iter()
                .any(|piece| piece.as_ptr_range().contains(&value))
        );
    }
}

#[test]
fn records_may_lie_anywhere_between_the_other_fields() {
    let fields = proto::SubscribeResponse {
        records: Vec::new(),
        ..response(0..3)
    };
    let of = |offset| {
        let records = vec![record(offset)];
        let alone = proto::SubscribeResponse {
            records,
            ..proto::SubscribeResponse::default()
        };
        alone.encode_to_vec()
    };
    let rest = fields.encode_to_vec();
    for message in [
        [rest.clone(), of(0), of(1), of(2)].concat(),
        [of(0), rest.clone(), of(1), of(2)].concat(),
        [of(0), of(1), rest, of(2)].concat(),
    ] {
        let decoded = SubscribeResponse::decode(vec![message.into()]).unwrap();
        assert_eq!(offsets(&decoded), [0, 1, 2]);
        assert_eq!(decoded.fields, fields);
    }
}

#[test]
fn a_tag_may_be_longer_than_it_need_be() {
    // The offset's, inside a record, and that of the record itself.
    for message in [
        &[0x0a, 3, 0x80 | 15 << 3, 0, 5][..],
        &[0x8a, 0, 2, 15 << 3, 5],
    ] {
        let decoded = SubscribeResponse::decode(vec![Bytes::copy_from_slice(message)]).unwrap();
        assert_eq!(offsets(&decoded), [5]);
    }
}

#[test]
fn fields_of_a_later_broker_are_left_out() {
    let mut message = response(0..2).encode_to_vec();
    encode_varint(99 << 3, &mut message);
    encode_varint(7, &mut message);
    let decoded = SubscribeResponse::decode(vec![message.into()]).unwrap();
    assert_eq!(offsets(&decoded), [0, 1]);
}

#[test]
fn a_heartbeat_has_no_records() {
    let decoded = SubscribeResponse::decode(Vec::new()).unwrap();
    assert_eq!(decoded, SubscribeResponse::default());
}

#[test]
fn a_message_that_is_cut_or_malformed_is_an_error() {
    let whole = response(0..2).encode_to_vec();
    for len in 0..whole.len() {
        let cut = Bytes::copy_from_slice(&whole[..len]);
        let by_prost = proto::SubscribeResponse::decode(cut.clone());
        assert_eq!(
            SubscribeResponse::decode(vec![cut]).is_ok(),
            by_prost.is_ok(),
            "{len}"
        );
    }
    // A record whose key is a number.
    let error =
        SubscribeResponse::decode(vec![Bytes::from_static(&[0x0a, 2, 0x08, 1])]).unwrap_err();
    assert!(error.to_string().contains("key"), "{error}");
}
