//! A server that keeps nothing: what is produced goes to all streams that are open.

use std::convert::Infallible;
use std::io::Read;

use bytes::Bytes;
use flowstone_grpc::{PREFIX_BYTES, prefix};
use flowstone_proto::v1;
use futures_util::stream::unfold;
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use prost::Message;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio::sync::broadcast;

use crate::Outcome;
use crate::readers::TOPIC;

type Body = BoxBody<Bytes, Infallible>;

/// Messages that a stream may be behind.
const BEHIND_MAX: usize = 1_024;

/// Serves on a port that is free, which it prints, until standard input ends.
pub(crate) fn serve() -> Outcome<()> {
    Runtime::new()?.block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        println!("{}", listener.local_addr()?);
        tokio::spawn(accept(listener));
        tokio::task::spawn_blocking(|| std::io::stdin().read_to_end(&mut Vec::new())).await??;
        Ok(())
    })
}

async fn accept(listener: TcpListener) {
    let (sender, _) = broadcast::channel(BEHIND_MAX);
    while let Ok((stream, _)) = listener.accept().await {
        // Where it fails, the figures are worse, and that is all.
        let _ = stream.set_nodelay(true);
        let sender = sender.clone();
        let calls = service_fn(move |request| answer(request, sender.clone()));
        let connection = http2::Builder::new(TokioExecutor::new())
            .max_concurrent_streams(100_000)
            .serve_connection(TokioIo::new(stream), calls);
        tokio::spawn(connection);
    }
}

async fn answer(
    request: Request<Incoming>,
    sender: broadcast::Sender<Bytes>,
) -> Outcome<Response<Body>> {
    let produces = request.uri().path().ends_with("/Produce");
    let receiver = (!produces).then(|| sender.subscribe());
    let sent = request.into_body().collect().await?.to_bytes();
    let body = match receiver {
        Some(receiver) => BodyExt::boxed(StreamBody::new(messages(receiver))),
        None => {
            // Nobody may be reading.
            let _ = sender.send(response(sent.slice(PREFIX_BYTES..))?);
            let mut trailers = HeaderMap::new();
            trailers.insert("grpc-status", HeaderValue::from_static("0"));
            let empty = message(&v1::ProduceResponse::default());
            Full::new(empty)
                .with_trailers(async { Some(Ok(trailers)) })
                .boxed()
        }
    };
    let mut response = Response::new(body);
    let grpc = HeaderValue::from_static("application/grpc");
    response.headers_mut().insert("content-type", grpc);
    Ok(response)
}

/// Each message as it comes; a stream that is too far behind ends.
fn messages(
    receiver: broadcast::Receiver<Bytes>,
) -> impl futures_util::Stream<Item = Result<Frame<Bytes>, Infallible>> {
    unfold(receiver, |mut receiver| async {
        let message = receiver.recv().await.ok()?;
        Some((Ok(Frame::data(message)), receiver))
    })
}

/// What Flowstone would send of these records.
fn response(produced: Bytes) -> Outcome<Bytes> {
    let produced = v1::ProduceRequest::decode(produced)?;
    Ok(message(&v1::SubscribeResponse {
        records: produced.records,
        cursor: Some(v1::Cursor {
            topic: TOPIC.to_owned(),
            offset: 1_000,
            topic_id: "00000000-0000-0000-0000-000000000000".to_owned(),
            ..v1::Cursor::default()
        }),
        high_watermark: 1_000,
        ..v1::SubscribeResponse::default()
    }))
}

fn message(message: &impl Message) -> Bytes {
    [&prefix(message.encoded_len())[..], &message.encode_to_vec()]
        .concat()
        .into()
}
