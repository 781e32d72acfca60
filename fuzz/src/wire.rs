//! What the fuzz targets of requests do with their bytes: as `lib.rs`, for what comes over the wire. The
//! tests of flowstone-server include this file.

use std::convert::Infallible;

use bytes::{Buf, Bytes};
use flowstone_grpc::{Messages, PREFIX_BYTES};
use flowstone_proto::v1;
use flowstone_server::wire::{FromWire, ProduceRequest, ProduceStreamRequest};
use futures_util::{FutureExt, stream};
use http::HeaderMap;
use http_body_util::StreamBody;
use hyper::body::Frame;
use prost::Message;
use tonic::body::Body;

/// The longest message that [`messages`] lets in.
const MAX_MESSAGE_BYTES: usize = 1 << 10;

/// Any bytes as a request: they are taken for what prost takes them for, and only malformed records, which
/// are the scanner's to find, are let through where prost refuses.
pub(crate) fn requests(data: &[u8]) {
    let taken = ProduceRequest::from_wire(Bytes::copy_from_slice(data));
    if let Ok(decoded) = v1::ProduceRequest::decode(data) {
        assert_same(taken.expect("what prost takes is taken"), decoded);
    } else if let Ok(taken) = taken {
        assert!(v1::ProduceRequest::decode(&*taken.records).is_err());
    }
    let taken = ProduceStreamRequest::from_wire(Bytes::copy_from_slice(data));
    if let Ok(decoded) = v1::ProduceStreamRequest::decode(data) {
        let taken = taken.expect("what prost takes is taken");
        match (taken.produce, decoded.produce) {
            (Some(taken), Some(decoded)) => assert_same(taken, decoded),
            (taken, decoded) => assert_eq!(taken.is_some(), decoded.is_some()),
        }
    }
}

fn assert_same(taken: ProduceRequest, mut decoded: v1::ProduceRequest) {
    let records = std::mem::take(&mut decoded.records);
    let again = v1::ProduceRequest::decode(&*taken.records).expect("they decoded before");
    assert_eq!(again.records, records);
    if let Some(count) = taken.record_count {
        assert_eq!(count as usize, records.len());
    }
    assert_eq!(taken.fields, decoded);
}

/// Any bytes as what comes on a call, cut into pieces: the same messages, and the same end, as without cuts.
pub(crate) fn messages(data: &[u8]) {
    let Some((&count, data)) = data.split_first() else {
        return;
    };
    let (cuts, data) = data.split_at(data.len().min(usize::from(count % 16)));
    let mut rest = Bytes::copy_from_slice(data);
    let mut pieces = Vec::new();
    for &cut in cuts {
        pieces.push(rest.split_to(rest.len().min(cut.into())));
    }
    pieces.push(rest);
    let pieces = pieces.into_iter().map(Frame::data);
    let body = Body::new(StreamBody::new(stream::iter(
        pieces.map(Ok::<_, Infallible>),
    )));
    let found = Messages::new(&HeaderMap::new(), body, MAX_MESSAGE_BYTES);
    let mut found = found.expect("not compressed");

    let mut data = data;
    while !data.is_empty() {
        let next = found.next().now_or_never().expect("all of it is here");
        let Some(message) = whole_message(&mut data) else {
            next.expect_err("cut off, compressed, or too long");
            return;
        };
        assert_eq!(next.expect("a message").as_deref(), Some(message));
    }
    let next = found.next().now_or_never().expect("all of it is here");
    assert_eq!(next.expect("the end"), None);
}

/// Takes the first message off, if it is one.
fn whole_message<'a>(data: &mut &'a [u8]) -> Option<&'a [u8]> {
    let (mut prefix, rest) = data.split_at_checked(PREFIX_BYTES)?;
    let compressed = prefix.get_u8() != 0;
    let len = prefix.get_u32() as usize;
    if compressed || len > MAX_MESSAGE_BYTES {
        return None;
    }
    let (message, rest) = rest.split_at_checked(len)?;
    *data = rest;
    Some(message)
}
