//! Messages are taken as they were sent, however they come, and what is none is told.

use std::collections::VecDeque;
use std::convert::Infallible;

use futures_util::FutureExt;
use http::HeaderValue;
use hyper::body::Frame;
use proptest::collection::vec;
use proptest::prelude::{ProptestConfig, any, proptest};

use super::*;
use crate::prefix;
use crate::splices::SPLICE_BYTES_MIN;

/// A body that has come in these pieces.
struct Received(VecDeque<Bytes>);

impl hyper::body::Body for Received {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(self.0.pop_front().map(|data| Ok(Frame::data(data))))
    }
}

fn messages(pieces: impl IntoIterator<Item = Bytes>, max_bytes: usize) -> Messages {
    let body = Body::new(Received(pieces.into_iter().collect()));
    Messages::new(&HeaderMap::new(), body, max_bytes).expect("not compressed")
}

fn framed(message: &[u8]) -> Vec<u8> {
    [&prefix(message.len()), message].concat()
}

fn next(messages: &mut Messages) -> Result<Option<Bytes>, Status> {
    messages.next().now_or_never().expect("all of it is here")
}

#[test]
fn a_large_message_that_comes_in_one_piece_is_not_copied() {
    let message = vec![7; SPLICE_BYTES_MIN];
    let piece = Bytes::from(framed(&message));
    let mut messages = messages([piece.clone()], 1 << 20);
    let taken = next(&mut messages).expect("valid").expect("one message");
    assert_eq!(taken, message);
    assert!(piece.as_ptr_range().contains(&taken.as_ptr()), "a slice");
    assert_eq!(next(&mut messages).expect("valid"), None);
}

#[test]
fn a_small_message_does_not_keep_what_it_came_in() {
    let piece = Bytes::from([framed(b"small"), framed(&[7; 1000])].concat());
    let mut messages = messages([piece.clone()], 1 << 20);
    let taken = next(&mut messages).expect("valid").expect("a message");
    assert_eq!(taken, "small");
    assert!(!piece.as_ptr_range().contains(&taken.as_ptr()), "a copy");
}

#[test]
fn what_is_no_message_is_told() {
    let cut = framed(b"message");
    for len in 1..cut.len() {
        let mut messages = messages([Bytes::copy_from_slice(&cut[..len])], 1 << 20);
        let status = next(&mut messages).expect_err("it is cut off");
        assert_eq!(status.code(), Code::Internal, "{len} bytes");
    }
    let mut large = messages([Bytes::from(framed(&[0; 101]))], 100);
    assert_eq!(
        next(&mut large).expect_err("too large").code(),
        Code::OutOfRange
    );
    let mut compressed = framed(b"message");
    compressed[0] = 1;
    let mut compressed = messages([Bytes::from(compressed)], 100);
    assert_eq!(
        next(&mut compressed).expect_err("compressed").code(),
        Code::Internal
    );

    let mut headers = HeaderMap::new();
    headers.insert("grpc-encoding", HeaderValue::from_static("identity"));
    Messages::new(&headers, Body::empty(), 100).expect("not compressed");
    headers.insert("grpc-encoding", HeaderValue::from_static("gzip"));
    let status = Messages::new(&headers, Body::empty(), 100).expect_err("compressed");
    assert_eq!(status.code(), Code::Unimplemented);
    let taken = status.metadata().get("grpc-accept-encoding");
    assert_eq!(taken.expect("told"), "identity");
}

#[test]
fn the_only_message_of_a_request_is_there() {
    let only = |pieces: Vec<Bytes>| messages(pieces, 100).only().now_or_never().expect("here");
    assert_eq!(
        only(vec![Bytes::from(framed(b"one"))]).expect("valid"),
        "one"
    );
    assert_eq!(only(vec![]).expect_err("none").code(), Code::Internal);
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn messages_are_the_same_however_they_are_cut(
        sizes in vec(0..40_000_usize, 0..6),
        cuts in vec(any::<u16>(), 0..12),
    ) {
        let sent: Vec<Vec<u8>> = (0..).zip(&sizes).map(|(n, &size)| vec![n; size]).collect();
        let mut whole = Bytes::from(sent.iter().flat_map(|message| framed(message)).collect::<Vec<_>>());
        let mut pieces = Vec::new();
        for cut in cuts {
            pieces.push(whole.split_to(usize::from(cut).min(whole.len())));
        }
        pieces.push(whole);
        let mut messages = messages(pieces, 1 << 20);
        for message in sent {
            assert_eq!(next(&mut messages).expect("valid").expect("a message"), message);
        }
        assert_eq!(next(&mut messages).expect("valid"), None);
    }
}
