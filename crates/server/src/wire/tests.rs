//! What prost encodes is split into the same, and what is spliced prost decodes to the same.

use super::*;
use crate::wire::v1::{Acks, Header, Producer, Record};

fn records(count: usize) -> Vec<Record> {
    (0..count)
        .map(|n| Record {
            key: (n % 3 != 0).then(|| Bytes::from(format!("key {n}"))),
            value: (n % 5 != 0).then(|| Bytes::from(vec![b'v'; n * 7])),
            headers: vec![Header {
                key: "n".to_owned(),
                value: Bytes::from(vec![0x0A; n % 4]),
            }],
            timestamp_ms: n as i64,
            offset: n as i64,
            ..Record::default()
        })
        .collect()
}

fn run_of(records: &[Record]) -> Bytes {
    let whole = v1::FetchResponse {
        records: records.to_vec(),
        ..v1::FetchResponse::default()
    };
    Bytes::from(whole.encode_to_vec())
}

fn request(count: usize) -> v1::ProduceRequest {
    v1::ProduceRequest {
        records: records(count),
        topic: "visits".to_owned(),
        partition: Some(3),
        acks: Acks::Written.into(),
        producer: Some(Producer {
            id: "p".to_owned(),
            epoch: 1,
            sequence: 2,
        }),
        expected_offset: Some(0),
    }
}

fn without_records(mut request: v1::ProduceRequest) -> v1::ProduceRequest {
    request.records.clear();
    request
}

/// What a message without a field is.
fn nothing() -> ProduceRequest {
    ProduceRequest {
        record_count: Some(0),
        ..ProduceRequest::default()
    }
}

fn invalid_field(error: Error) -> (String, String) {
    match error {
        Error::InvalidField { field, detail } => (field, detail),
        other => panic!("expected InvalidField, got {other:?}"),
    }
}

#[test]
fn a_request_that_prost_encoded_is_split_without_a_copy() {
    for count in [0, 1, 2, 100] {
        let whole = request(count);
        let message = Bytes::from(whole.encode_to_vec());
        let parsed = ProduceRequest::from_wire(message.clone()).expect("valid");
        assert_eq!(parsed.records, run_of(&whole.records));
        assert_eq!(parsed.record_count, Some(count as u32));
        assert_eq!(parsed.fields, without_records(whole));
        if count > 0 {
            assert_eq!(parsed.records.as_ptr(), message.as_ptr(), "a slice of it");
        }
    }
    assert_eq!(
        ProduceRequest::from_wire(Bytes::new()).expect("an empty message is one"),
        nothing()
    );
}

#[test]
fn absent_and_zero_are_told_apart() {
    let absent = ProduceRequest::from_wire(Bytes::from_static(b"\x12\x01t")).expect("valid");
    assert_eq!(absent.fields.partition, None);
    assert_eq!(absent.fields.expected_offset, None);
    let zero =
        ProduceRequest::from_wire(Bytes::from_static(b"\x12\x01t\x18\x00\x30\x00")).expect("valid");
    assert_eq!(zero.fields.partition, Some(0));
    assert_eq!(zero.fields.expected_offset, Some(0));
}

#[test]
fn scattered_records_come_together_in_order_and_unknown_fields_are_ignored() {
    let mut message = Vec::new();
    message.extend(b"\x0A\x03\x0A\x01a"); // a record
    message.extend(b"\x12\x03one"); // topic
    message.extend(b"\xA0\x06\x07"); // field 100, a varint
    message.extend(b"\x0A\x03\x0A\x01b");
    message.extend(b"\xAB\x06\x0A\x01x\xAC\x06"); // field 101, a group that holds a field 1
    message.extend(b"\x0A\x00\x0A\x03\x0A\x01c");
    message.extend(b"\x12\x03two"); // the last one wins
    let parsed = ProduceRequest::from_wire(Bytes::from(message)).expect("valid");
    assert_eq!(
        &parsed.records[..],
        b"\x0A\x03\x0A\x01a\x0A\x03\x0A\x01b\x0A\x00\x0A\x03\x0A\x01c"
    );
    assert_eq!(parsed.record_count, None);
    assert_eq!(parsed.fields.topic, "two");
}

#[test]
fn the_records_region_stays_as_it_was_sent_however_odd() {
    let odd = b"\x8A\x00\x83\x00\x0A\x01a"; // tag and length longer than they need to be
    let parsed =
        ProduceRequest::from_wire(Bytes::from_static(odd)).expect("for the scanner to refuse");
    assert_eq!(&parsed.records[..], odd);
    assert_eq!(parsed.record_count, None);
}

#[test]
fn what_is_no_message_is_refused_with_its_field() {
    for (bytes, field, what) in [
        (&b"\x12\x02\xC3\x28"[..], "topic", "UTF-8"),
        (b"\x2A\x04\x0A\x02\xC3\x28", "producer.id", "UTF-8"),
        (b"\x1A\x01a", "partition", "wire type"),
        (b"\x08\x01", "records", "wire type"),
        (b"\x0A\x05\x0A", "request", "underflow"),
        (
            b"\x0A\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\x7F",
            "request",
            "varint",
        ),
        (
            b"\x0A\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\x7F",
            "request",
            "underflow",
        ),
        (b"\x0F", "request", "wire type"),
        (b"\x00", "request", "tag"),
        (b"\x0C", "request", "group"),
        (b"\xAB\x06\x0A\x01x", "request", ""),
    ] {
        let (found, detail) = invalid_field(
            ProduceRequest::from_wire(Bytes::copy_from_slice(bytes)).expect_err("malformed"),
        );
        assert_eq!(found, field, "{bytes:x?}: {detail}");
        assert!(detail.contains(what), "{bytes:x?}: {detail}");
    }
}

#[test]
fn a_stream_request_holds_a_produce_request() {
    let whole = request(5);
    let message = v1::ProduceStreamRequest {
        produce: Some(whole.clone()),
    };
    let message = Bytes::from(message.encode_to_vec());
    let parsed = ProduceStreamRequest::from_wire(message.clone()).expect("valid");
    let produce = parsed.produce.expect("present");
    assert_eq!(produce.records, run_of(&whole.records));
    assert!(
        message.as_ptr_range().contains(&produce.records.as_ptr()),
        "a slice of it"
    );
    assert_eq!(produce.fields, without_records(whole));

    assert_eq!(
        ProduceStreamRequest::from_wire(Bytes::new()).expect("valid"),
        ProduceStreamRequest { produce: None }
    );
    let empty = ProduceStreamRequest::from_wire(Bytes::from_static(b"\x0A\x00")).expect("valid");
    assert_eq!(empty.produce, Some(nothing()));
}

#[test]
fn several_produce_fields_of_a_stream_request_are_merged() {
    let message = b"\x0A\x05\x12\x03one\x10\x01\x0A\x05\x0A\x03\x0A\x01a\x0A\x05\x0A\x03\x0A\x01b";
    let merged = ProduceStreamRequest::from_wire(Bytes::from_static(message))
        .expect("valid")
        .produce
        .expect("present");
    assert_eq!(merged.fields.topic, "one");
    assert_eq!(&merged.records[..], b"\x0A\x03\x0A\x01a\x0A\x03\x0A\x01b");
    let (field, _) = invalid_field(
        ProduceStreamRequest::from_wire(Bytes::from_static(b"\x08\x01")).expect_err("no message"),
    );
    assert_eq!(field, "request");
}

#[test]
fn a_spliced_response_is_what_prost_decodes_and_holds_the_chunks_verbatim() {
    let all = records(50);
    let run = run_of(&all);
    let cut = run_of(&all[..20]).len();
    let response = Spliced {
        records: vec![run.slice(..cut), run.slice(cut..)],
        fields: v1::FetchResponse {
            next_offset: 50,
            high_watermark: 60,
            log_start_offset: 7,
            ..v1::FetchResponse::default()
        },
    };
    let mut splices = Splices::default();
    response.to_wire(&mut splices);
    splices.close();
    let mut out = BytesMut::new();
    while let Some(piece) = splices.take() {
        out.extend_from_slice(&piece);
    }
    assert_eq!(out.len(), response.wire_len());
    assert_eq!(out[..run.len()], run[..]);
    let decoded = v1::FetchResponse::decode(out.freeze()).expect("valid");
    assert_eq!(decoded.records, all);
    assert_eq!(
        (
            decoded.next_offset,
            decoded.high_watermark,
            decoded.log_start_offset
        ),
        (50, 60, 7)
    );
}
