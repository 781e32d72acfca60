//! Each rule of the grammar by its bytes, and what is said when it is broken.

use super::*;

fn records(run: &[u8]) -> Result<Vec<Record<'_>>, RecordError> {
    let records = Records::new(run, &RecordLimits::default());
    records.map(|next| next.map(|(_, record)| record)).collect()
}

/// The only record of a run with this body.
fn accepted(body: &[u8]) -> Record<'_> {
    let (record, _) = scan_record(body).unwrap();
    assert_eq!(record.body, body);
    record
}

/// What is said about a record with this body.
#[track_caller]
fn assert_refused(body: &[u8], message: &str) {
    let mut run = vec![RECORD_TAG, body.len() as u8];
    run.extend(body);
    let error = records(&run).unwrap_err();
    assert_eq!(error.index, 0);
    assert_eq!(error.kind.to_string(), message);
}

#[test]
fn all_fields_at_once() {
    let body = [
        0x0A, 0x01, b'k', // key
        0x12, 0x02, b'v', b'w', // value
        0x1A, 0x06, 0x0A, 0x01, b'a', 0x12, 0x01, 0xFF, // a header
        0x1A, 0x00, // an empty header
        0x20, 0x96, 0x01, // timestamp_ms
        0x28, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0x01, // deliver_at_ms
        0x30, 0x09, // priority
        0x78, 0x00, // offset
    ];
    let record = accepted(&body);
    assert_eq!(record.head, &body[..17]);
    assert_eq!(record.key, Some(&b"k"[..]));
    assert_eq!(record.value, Some(&b"vw"[..]));
    assert_eq!(record.timestamp_ms, 150);
    assert_eq!(record.deliver_at_ms, -1);
    assert_eq!(record.priority, 9);
    assert_eq!(record.offset, Some(0));
    let headers: Vec<_> = record.headers().collect();
    assert_eq!(headers, [("a", &[0xFF][..]), ("", &[][..])]);
}

#[test]
fn nothing_at_all_is_a_record() {
    let record = accepted(&[]);
    assert_eq!(
        (record.key, record.value, record.offset),
        (None, None, None)
    );
    assert_eq!(record.headers().count(), 0);
    assert_eq!(records(&[0x0A, 0x00, 0x0A, 0x00]).unwrap().len(), 2);
    assert_eq!(records(&[]).unwrap().len(), 0);
}

#[test]
fn an_empty_key_or_value_is_not_an_absent_one() {
    let record = accepted(&[0x0A, 0x00, 0x12, 0x00]);
    assert_eq!(record.key, Some(&[][..]));
    assert_eq!(record.value, Some(&[][..]));
    assert_eq!(record.head, [0x0A, 0x00, 0x12, 0x00]);
}

#[test]
fn zeros_of_clients_are_accepted() {
    let record = accepted(&[0x20, 0x00, 0x28, 0x00, 0x30, 0x00, 0x78, 0x00]);
    assert_eq!(
        (record.timestamp_ms, record.deliver_at_ms, record.priority),
        (0, 0, 0)
    );
}

#[test]
fn ranges_are_those_of_whole_records() {
    let run = [0x0A, 0x00, 0x0A, 0x03, 0x12, 0x01, b'v', 0x0A, 0x00];
    let records = Records::new(&run, &RecordLimits::default());
    let ranges: Vec<_> = records.map(|next| next.unwrap().0).collect();
    assert_eq!(ranges, [0..2, 2..7, 7..9]);
}

#[test]
fn unknown_fields_are_named() {
    assert_refused(&[0x38, 0x01], "field 7 is unknown");
    assert_refused(&[0x12, 0x00, 0x5A, 0x00], "field 11 is unknown");
    assert_refused(&[0x80, 0x01, 0x01], "field 16 is unknown");
    assert_refused(
        &[0xF8, 0xFF, 0xFF, 0xFF, 0x0F, 0x00],
        "field 536870911 is unknown",
    );
    assert_refused(
        &[0x1A, 0x02, 0x18, 0x00],
        "field 3 of a header (field 3) is unknown",
    );
    let error = records(&[0x0A, 0x02, 0x38, 0x01]).unwrap_err();
    assert_eq!(error.to_string(), "record 0: field 7 is unknown");
    assert_eq!(error.kind.field(), Some(7));
}

#[test]
fn fields_stand_once_and_ascend() {
    assert_refused(
        &[0x0A, 0x00, 0x0A, 0x00],
        "field 1: it stands more than once",
    );
    assert_refused(
        &[0x12, 0x00, 0x12, 0x00],
        "field 2: it stands more than once",
    );
    assert_refused(
        &[0x20, 0x01, 0x20, 0x01],
        "field 4: it stands more than once",
    );
    assert_refused(
        &[0x30, 0x01, 0x30, 0x01],
        "field 6: it stands more than once",
    );
    assert_refused(
        &[0x78, 0x01, 0x78, 0x01],
        "field 15: it stands more than once",
    );
    assert_refused(
        &[0x12, 0x00, 0x0A, 0x00],
        "field 1: it stands after field 2; fields must ascend",
    );
    assert_refused(
        &[0x1A, 0x00, 0x20, 0x01, 0x1A, 0x00],
        "field 3: it stands after field 4; fields must ascend",
    );
    assert_refused(
        &[0x78, 0x01, 0x30, 0x01],
        "field 6: it stands after field 15; fields must ascend",
    );
}

#[test]
fn fields_of_headers_stand_once_and_ascend() {
    assert_refused(
        &[0x1A, 0x04, 0x0A, 0x00, 0x0A, 0x00],
        "field 1 of a header (field 3): it stands more than once",
    );
    assert_refused(
        &[0x1A, 0x04, 0x12, 0x00, 0x12, 0x00],
        "field 2 of a header (field 3): it stands more than once",
    );
    assert_refused(
        &[0x1A, 0x04, 0x12, 0x00, 0x0A, 0x00],
        "field 1 of a header (field 3): it stands after field 2; fields must ascend",
    );
}

#[test]
fn varints_are_minimal_everywhere() {
    let long = "a varint is longer than it needs to be";
    assert_refused(&[0x8A, 0x00, 0x00], &format!("a field's tag: {long}"));
    assert_refused(&[0x0A, 0x80, 0x00], &format!("field 1: {long}"));
    assert_refused(&[0x1A, 0x80, 0x00], &format!("field 3: {long}"));
    assert_refused(&[0x20, 0x81, 0x00], &format!("field 4: {long}"));
    assert_refused(&[0x30, 0x85, 0x00], &format!("field 6: {long}"));
    assert_refused(&[0x78, 0x81, 0x80, 0x00], &format!("field 15: {long}"));
    assert_refused(
        &[0x1A, 0x03, 0x8A, 0x00, 0x00],
        &format!("a tag in a header (field 3): {long}"),
    );
    assert_refused(
        &[0x1A, 0x03, 0x0A, 0x80, 0x00],
        &format!("field 1 of a header (field 3): {long}"),
    );
    let error = records(&[0x0A, 0x80, 0x00]).unwrap_err();
    assert_eq!(
        error.to_string(),
        format!("record 0: the tag and length before it: {long}")
    );
}

#[test]
fn varints_have_at_most_64_bits() {
    let mut body = [0xFF; 11];
    body[0] = 0x78;
    body[10] = 0x02;
    assert_refused(&body, "field 15: a varint has more than 64 bits");
    body[10] = 0x01;
    assert_eq!(accepted(&body).offset, Some(u64::MAX));
}

#[test]
fn groups_are_refused() {
    assert_refused(&[0x0B, 0x0C], "a field's tag: groups are not allowed");
    assert_refused(&[0x3C], "a field's tag: groups are not allowed");
    assert_refused(
        &[0x1A, 0x02, 0x0B, 0x0C],
        "a tag in a header (field 3): groups are not allowed",
    );
}

#[test]
fn wire_types_are_exact() {
    assert_refused(&[0x08, 0x01], "field 1: wire type 0 instead of 2");
    assert_refused(&[0x15, 0, 0, 0, 0], "field 2: wire type 5 instead of 2");
    assert_refused(&[0x18, 0x01], "field 3: wire type 0 instead of 2");
    assert_refused(&[0x22, 0x01, 0x01], "field 4: wire type 2 instead of 0");
    assert_refused(
        &[0x29, 0, 0, 0, 0, 0, 0, 0, 0],
        "field 5: wire type 1 instead of 0",
    );
    assert_refused(&[0x32, 0x00], "field 6: wire type 2 instead of 0");
    assert_refused(&[0x7A, 0x00], "field 15: wire type 2 instead of 0");
    assert_refused(
        &[0x1A, 0x02, 0x08, 0x01],
        "field 1 of a header (field 3): wire type 0 instead of 2",
    );
}

#[test]
fn tags_that_no_field_has_are_refused() {
    assert_refused(&[0x00, 0x00], "a field's tag: 0 is not a valid tag");
    assert_refused(&[0x02, 0x00], "a field's tag: 2 is not a valid tag");
    assert_refused(&[0x0E, 0x00], "a field's tag: 14 is not a valid tag");
    assert_refused(
        &[0x80, 0x80, 0x80, 0x80, 0x10],
        "a field's tag: 4294967296 is not a valid tag",
    );
}

#[test]
fn lengths_stay_inside() {
    let cut = "the bytes end inside it";
    assert_refused(&[0x0A], &format!("field 1: {cut}"));
    assert_refused(&[0x0A, 0x01], &format!("field 1: {cut}"));
    assert_refused(&[0x12, 0xFF], &format!("field 2: {cut}"));
    assert_refused(
        &[0x12, 0xFF, 0xFF, 0xFF, 0xFF, 0x0F],
        &format!("field 2: {cut}"),
    );
    assert_refused(&[0x1A, 0x02, 0x0A], &format!("field 3: {cut}"));
    assert_refused(
        &[0x1A, 0x02, 0x0A, 0x01],
        &format!("field 1 of a header (field 3): {cut}"),
    );
    assert_refused(&[0x20], &format!("field 4: {cut}"));
    assert_refused(&[0x78, 0x80], &format!("field 15: {cut}"));
    for run in [
        &[0x0A][..],
        &[0x0A, 0x01],
        &[0x0A, 0x80],
        &[0x0A, 0x05, 0x12, 0x01, b'v'],
    ] {
        let error = records(run).unwrap_err();
        let expected = format!("record 0: the tag and length before it: {cut}");
        assert_eq!(error.to_string(), expected);
    }
}

#[test]
fn a_run_holds_nothing_but_records() {
    let error = records(&[0x0A, 0x00, 0x12, 0x00]).unwrap_err();
    let place = "the tag and length before it";
    assert_eq!(
        error.to_string(),
        format!("record 1: {place}: a record begins with byte 0A, not 12")
    );
    assert_eq!(error.kind.field(), None);
}

#[test]
fn priorities_are_0_to_9() {
    assert_refused(&[0x30, 0x0A], "field 6: priority 10 is not one of 0 to 9");
    assert_refused(
        &[
            0x30, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0x01,
        ],
        "field 6: priority -1 is not one of 0 to 9",
    );
}

#[test]
fn keys_of_headers_are_text() {
    assert_refused(
        &[0x1A, 0x03, 0x0A, 0x01, 0xFF],
        "field 1 of a header (field 3): a header's key is not UTF-8",
    );
    let utf8 = [0x1A, 0x04, 0x0A, 0x02, 0xC3, 0xA4];
    let headers: Vec<_> = accepted(&utf8).headers().collect();
    assert_eq!(headers, [("ä", &[][..])]);
}

#[test]
fn a_record_has_at_most_its_limit_of_bytes() {
    let limits = RecordLimits {
        max_record_bytes: 4,
        max_records: 9,
        ..RecordLimits::default()
    };
    let kind = |run: &[u8]| {
        Records::new(run, &limits)
            .find_map(|next| next.err())
            .map(|e| e.kind)
    };
    assert_eq!(kind(&[0x0A, 0x04, 0x12, 0x02, 1, 2]), None);
    let too_large = |bytes| Some(RecordErrorKind::TooLarge { bytes, limit: 4 });
    assert_eq!(kind(&[0x0A, 0x05, 0x12, 0x03, 1, 2, 3]), too_large(5));
    // Timestamp and offset are the broker's, and are not counted; deliver_at is.
    assert_eq!(
        kind(&[0x0A, 0x08, 0x12, 0x02, 1, 2, 0x20, 1, 0x78, 2]),
        None
    );
    assert_eq!(
        kind(&[0x0A, 0x0A, 0x12, 0x02, 1, 2, 0x20, 1, 0x28, 1, 0x78, 2]),
        too_large(6)
    );
    // A length far beyond is refused without a look at what follows.
    assert_eq!(
        kind(&[0x0A, 0xFF, 0xFF, 0xFF, 0xFF, 0x7F]),
        too_large(34_359_738_367)
    );
    assert_eq!(
        too_large(5).unwrap().to_string(),
        "5 bytes are more than the limit of 4 bytes a record"
    );
}

#[test]
fn a_run_has_at_most_its_limit_of_records() {
    let limits = RecordLimits {
        max_record_bytes: 9,
        max_records: 2,
        ..RecordLimits::default()
    };
    let mut records = Records::new(&[0x0A, 0x00, 0x0A, 0x00, 0x0A, 0x00], &limits).skip(2);
    let error = records.next().unwrap().unwrap_err();
    assert_eq!(
        error.to_string(),
        "record 2: more than 2 records in one batch"
    );
    assert!(records.next().is_none(), "the first error is the last item");
    assert_eq!(Records::new(&[0x0A, 0x00, 0x0A, 0x00], &limits).count(), 2);
}

#[test]
fn a_timestamp_may_be_as_late_as_the_limit() {
    let limits = RecordLimits {
        max_timestamp_ms: 300,
        ..RecordLimits::default()
    };
    let found = |run: &'static [u8]| Records::new(run, &limits).last().unwrap();
    assert!(found(&[0x0A, 0x03, 0x20, 0xAC, 0x02]).is_ok());
    let error = found(&[0x0A, 0x00, 0x0A, 0x03, 0x20, 0xAD, 0x02]).unwrap_err();
    assert_eq!((error.index, error.kind), (1, RecordErrorKind::TooLate));
    assert_eq!(error.kind.field(), Some(4));
}
