//! Accepted connections: counted, bounded, and cut off when a stop takes too long.

use std::io;
use std::os::fd::AsRawFd;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use flowstone_disk::open_files_limit;
use futures_util::Stream;
use futures_util::stream::unfold;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tonic::transport::server::{Connected, TcpConnectInfo};

/// How long to wait after an accept that failed for want of file descriptors or memory. Without a pause
/// it would fail again at once, over and over.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// So many files can be opened when connections have taken all they may: without them no segment rolls
/// and nothing cold is read.
const FILES_KEPT: u64 = 64;

/// The connections of a listener, at most `connections_max` at a time. All are cut when `cut` is cancelled.
pub(crate) fn incoming(
    listener: TcpListener,
    connections_max: usize,
    cut: CancellationToken,
) -> impl Stream<Item = io::Result<Connection>> {
    let room = Arc::new(Semaphore::new(connections_max));
    unfold((listener, room, cut), |(listener, room, cut)| async move {
        let connection = accept(&listener, &room, &cut).await;
        Some((Ok(connection), (listener, room, cut)))
    })
}

async fn accept(
    listener: &TcpListener,
    room: &Arc<Semaphore>,
    cut: &CancellationToken,
) -> Connection {
    let mut told = false;
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => {
                told = false;
                // Descriptors are given out from the lowest free number on.
                let left = open_files_limit().saturating_sub(stream.as_raw_fd() as u64 + 1);
                if left < FILES_KEPT.min(open_files_limit() / 4) {
                    tracing::warn!(%peer, left, "connection closed: the last open files are for the broker's data");
                    continue;
                }
                let Ok(counted) = Arc::clone(room).try_acquire_owned() else {
                    tracing::warn!(%peer, "connection closed: server.max_connections are open");
                    continue;
                };
                if let Err(error) = stream.set_nodelay(true) {
                    tracing::debug!(%peer, %error, "cannot set TCP_NODELAY");
                }
                return Connection {
                    stream,
                    cut: Box::pin(cut.child_token().cancelled_owned()),
                    _counted: counted,
                };
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

/// The peer was gone before it was accepted; the next one is no worse for it.
fn is_of_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionRefused
    )
}

/// A client's connection.
pub(crate) struct Connection {
    stream: TcpStream,
    cut: Pin<Box<WaitForCancellationFutureOwned>>,
    _counted: OwnedSemaphorePermit,
}

impl Connected for Connection {
    type ConnectInfo = TcpConnectInfo;

    fn connect_info(&self) -> TcpConnectInfo {
        self.stream.connect_info()
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.cut.as_mut().poll(context).is_ready() {
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        }
        Pin::new(&mut self.stream).poll_read(context, into)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        from: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, from)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        from: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, from)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
