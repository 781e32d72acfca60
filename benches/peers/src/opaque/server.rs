//! The server of the ceiling: takes opaque messages and acknowledges each, or sends as many as are asked
//! for. Nothing is kept, unless a [`Keeper`] does.

use std::convert::Infallible;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::task::{Context as TaskContext, Poll};
use std::time::Duration;

use anyhow::{Context, Result};
use bytes::{Buf, Bytes};
use futures_util::{Stream, StreamExt, stream};
use http::Request;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::body::Body;
use tonic::codegen::Service;
use tonic::server::{Grpc, NamedService, ServerStreamingService, StreamingService};
use tonic::{Response, Status, Streaming};

use super::codec::OpaqueCodec;
use super::keeper::Keeper;
use crate::runtime;
use crate::work::{REQUESTS_IN_FLIGHT, noise};

/// Messages up, an ack each.
pub(crate) const UP: &str = "/flowstone.peers.Raw/Up";
/// One request, messages down.
pub(crate) const DOWN: &str = "/flowstone.peers.Raw/Down";

/// As many bytes as an answer of Flowstone has.
const ACK: &[u8] = &[0; 10];
const MESSAGE_BYTES_MAX: usize = 16 << 20;

/// The HTTP/2 settings that Flowstone's server has by default (`crates/server/src/config.rs`). Windows are what the first
/// connection gets there (`crates/server/src/windows.rs`).
const KEEPALIVE: Duration = Duration::from_secs(10);
const STREAMS_MAX: u32 = 256;
const STREAM_WINDOW_BYTES: u32 = 1 << 20;
const CONNECTION_WINDOW_BYTES: u32 = 2 << 20;
const FRAME_BYTES_MAX: u32 = 1 << 20;

/// What is asked for with [`DOWN`]: so many messages of so many bytes.
pub(crate) fn order(messages: u64, message_bytes: usize) -> Bytes {
    let mut order = Vec::with_capacity(16);
    order.extend(messages.to_be_bytes());
    order.extend((message_bytes as u64).to_be_bytes());
    order.into()
}

/// Serves until the process is ended; what comes up is acknowledged once the keeper has it, if there is one.
///
/// # Errors
/// When the port is taken.
pub(crate) fn serve(port: u16, keeper: Option<Keeper>) -> Result<()> {
    runtime::new()?.block_on(async {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let listener = tokio::net::TcpListener::bind(address)
            .await
            .with_context(|| format!("cannot listen on {address}"))?;
        let incoming = TcpListenerStream::new(listener).map(|accepted| {
            accepted.and_then(|connection| connection.set_nodelay(true).map(|()| connection))
        });
        tonic::transport::Server::builder()
            .http2_keepalive_interval(Some(KEEPALIVE))
            .http2_keepalive_timeout(Some(KEEPALIVE))
            .max_concurrent_streams(STREAMS_MAX)
            .initial_stream_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
            .max_frame_size(FRAME_BYTES_MAX)
            .add_service(Raw { keeper })
            .serve_with_incoming(incoming)
            .await
            .context("the raw server has failed")
    })
}

type Messages = Pin<Box<dyn Stream<Item = Result<Bytes, Status>> + Send>>;
type Answer<T> = Pin<Box<dyn Future<Output = Result<T, Status>> + Send>>;

#[derive(Clone, Debug)]
struct Raw {
    keeper: Option<Keeper>,
}

impl NamedService for Raw {
    const NAME: &'static str = "flowstone.peers.Raw";
}

impl Service<Request<Body>> for Raw {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut TaskContext<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let keeper = self.keeper.clone();
        Box::pin(async move {
            let mut grpc = Grpc::new(OpaqueCodec).max_decoding_message_size(MESSAGE_BYTES_MAX);
            Ok(match request.uri().path() {
                UP => grpc.streaming(Up { keeper }, request).await,
                DOWN => grpc.server_streaming(Down, request).await,
                _ => Status::unimplemented("there is only Up and Down").into_http(),
            })
        })
    }
}

struct Up {
    keeper: Option<Keeper>,
}

impl StreamingService<Bytes> for Up {
    type Response = Bytes;
    type ResponseStream = Messages;
    type Future = Answer<Response<Messages>>;

    fn call(&mut self, request: tonic::Request<Streaming<Bytes>>) -> Self::Future {
        let messages = request.into_inner();
        let acks = match &self.keeper {
            None => Ok(acks_at_once(messages)),
            Some(keeper) => acks_of_kept(messages, keeper),
        };
        Box::pin(async move { acks.map(Response::new) })
    }
}

fn acks_at_once(messages: Streaming<Bytes>) -> Messages {
    Box::pin(messages.map(|message| message.map(|_| Bytes::from_static(ACK))))
}

fn acks_of_kept(messages: Streaming<Bytes>, keeper: &Keeper) -> Result<Messages, Status> {
    let failed = |error: io::Error| Status::internal(error.to_string());
    let mut kept = keeper.open().map_err(failed)?;
    let acks = messages.map(move |message| {
        let keeping = message.map(|message| kept.keep(message));
        async move {
            keeping?.await.map_err(failed)?;
            Ok(Bytes::from_static(ACK))
        }
    });
    Ok(Box::pin(acks.buffered(REQUESTS_IN_FLIGHT)))
}

struct Down;

impl ServerStreamingService<Bytes> for Down {
    type Response = Bytes;
    type ResponseStream = Messages;
    type Future = Answer<Response<Messages>>;

    fn call(&mut self, request: tonic::Request<Bytes>) -> Self::Future {
        Box::pin(async move {
            let mut order = request.into_inner();
            if order.len() != 16 {
                return Err(Status::invalid_argument("an order has 16 bytes"));
            }
            let (count, bytes) = (order.get_u64(), order.get_u64());
            let bytes = usize::try_from(bytes)
                .ok()
                .filter(|bytes| *bytes <= MESSAGE_BYTES_MAX)
                .ok_or_else(|| Status::invalid_argument("such messages are too large"))?;
            let message = Bytes::from(noise(bytes));
            let count = usize::try_from(count).unwrap_or(usize::MAX);
            let messages: Messages =
                Box::pin(stream::iter((0..count).map(move |_| Ok(message.clone()))));
            Ok(Response::new(messages))
        })
    }
}
