//! Connections: accepted, counted, bounded, served, and closed or cut off at a stop.

mod together;

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use flowstone_disk::open_files_limit;
use http::Request;
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::body::Body;

use crate::config::{Http2Config, ServerConfig};
use crate::front::Front;
use crate::windows::{Window, Windows};
pub(crate) use together::OpenStreams;
use together::{drive, gathering};

/// How long to wait after an accept that failed for want of file descriptors or memory. Without a pause
/// it would fail again at once, over and over.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// So many files can be opened when connections have taken all they may: without them no segment rolls
/// and nothing cold is read.
const FILES_KEPT: u64 = 64;

/// What a call comes by; among the extensions of its request.
#[derive(Clone, Debug)]
pub(crate) struct Peer {
    /// Where the client is.
    pub(crate) address: SocketAddr,
    /// Kept by a call until its last message is sent.
    pub(crate) streams: OpenStreams,
}

/// All connections of a server.
#[derive(Debug)]
pub(crate) struct Connections {
    front: Front,
    http2: Http2Config,
    room: Arc<Semaphore>,
    windows: Arc<Windows>,
    tasks: TaskTracker,
    /// They finish their calls, and take no more.
    closing: CancellationToken,
    /// They end at once.
    cut: CancellationToken,
}

impl Connections {
    pub(crate) fn new(front: Front, config: &ServerConfig) -> Self {
        Self {
            front,
            http2: config.http2.clone(),
            room: Arc::new(Semaphore::new(config.max_connections)),
            windows: Arc::new(Windows::new(config.http2.total_window_bytes)),
            tasks: TaskTracker::new(),
            closing: CancellationToken::new(),
            cut: CancellationToken::new(),
        }
    }

    /// Accepts and serves for as long as it is polled.
    pub(crate) async fn accept(&self, listener: &TcpListener) -> Infallible {
        let mut told = false;
        loop {
            match listener.accept().await {
                Ok((stream, peer)) => {
                    told = false;
                    self.take(stream, peer);
                }
                Err(error) if is_of_one_connection(&error) => {}
                Err(error) => {
                    if !std::mem::replace(&mut told, true) {
                        tracing::warn!(%error, "cannot accept connections for now");
                    }
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    /// Lets every connection finish the calls that it has; returns when all are closed.
    pub(crate) async fn close(&self) {
        self.closing.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }

    /// Ends every connection that is still open.
    pub(crate) fn cut(&self) {
        self.cut.cancel();
    }

    fn take(&self, stream: TcpStream, peer: SocketAddr) {
        // Descriptors are given out from the lowest free number on.
        let left = open_files_limit().saturating_sub(stream.as_raw_fd() as u64 + 1);
        if left < FILES_KEPT.min(open_files_limit() / 4) {
            tracing::warn!(%peer, left, "connection closed: the last open files are for the broker's data");
            return;
        }
        let Ok(counted) = Arc::clone(&self.room).try_acquire_owned() else {
            tracing::warn!(%peer, "connection closed: server.max_connections are open");
            return;
        };
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%peer, %error, "cannot set TCP_NODELAY");
        }
        let window = self.windows.share();
        self.tasks.spawn(self.serve(stream, peer, counted, window));
    }

    /// Serves one connection to its end.
    fn serve(
        &self,
        stream: TcpStream,
        peer: SocketAddr,
        counted: OwnedSemaphorePermit,
        window: Window,
    ) -> impl Future<Output = ()> + use<> {
        let front = self.front.clone();
        let streams = OpenStreams::default();
        let from = Peer {
            address: peer,
            streams: streams.clone(),
        };
        let calls = service_fn(move |request: Request<Incoming>| {
            let mut request = request.map(Body::new);
            request.extensions_mut().insert(from.clone());
            let answer = front.clone().answer(request);
            async move { Ok::<_, Infallible>(answer.await) }
        });
        let (stream, to_send) = gathering(stream);
        let connection =
            transport(&self.http2, &window).serve_connection(TokioIo::new(stream), calls);
        let (closing, cut) = (self.closing.clone(), self.cut.clone());
        async move {
            // Both belong to it until it is over.
            let (_counted, _window) = (counted, window);
            let mut connection = pin!(connection);
            let served = tokio::select! {
                () = cut.cancelled() => return,
                served = drive(connection.as_mut(), &to_send, &streams) => served,
                () = closing.cancelled() => {
                    connection.as_mut().graceful_shutdown();
                    tokio::select! {
                        () = cut.cancelled() => return,
                        served = drive(connection, &to_send, &streams) => served,
                    }
                }
            };
            if let Err(error) = served {
                tracing::debug!(%peer, %error, "a connection ended badly");
            }
        }
    }
}

fn transport(http2: &Http2Config, window: &Window) -> http2::Builder<TokioExecutor> {
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder
        .timer(TokioTimer::new())
        .keep_alive_interval(Duration::from_millis(http2.keepalive_interval_ms))
        .keep_alive_timeout(Duration::from_millis(http2.keepalive_timeout_ms))
        .max_concurrent_streams(http2.max_concurrent_streams)
        .initial_stream_window_size(window.stream_bytes())
        .initial_connection_window_size(window.bytes())
        .max_frame_size(http2.max_frame_bytes.min(window.stream_bytes()));
    builder
}

/// The peer was gone before it was accepted; the next one is no worse for it.
fn is_of_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionRefused
    )
}
