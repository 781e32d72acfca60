//! The messages of many streams of one connection, handed to the operating system together.
//!
//! HTTP/2's library sends each message with a call of its own where it is too large to be copied (256 bytes), and the
//! runtime lets a connection run as soon as the first of its streams has a message. With a thousand readers at the end of
//! one partition that is a call of the system for every second message, a third of what the broker does.
//! So what is small is gathered here until the connection was polled, and a connection with many streams lets these run
//! before it. What is large is written as it is, from where it is.

use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, BufWriter, ReadBuf};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};

/// What is gathered of one connection at most, and the size from which on a write is passed on as it is.
const GATHERED_BYTES: usize = 16 << 10;

/// From so many streams on a connection waits for its turn before it sends what the first of them has.
const MANY_STREAMS: usize = 8;

/// Counts the streams of a connection that may have something to send: each keeps a clone for as long as it is open.
#[derive(Clone, Debug, Default)]
pub(crate) struct OpenStreams(Arc<()>);

impl OpenStreams {
    fn are_many(&self) -> bool {
        // Two are the connection's own: one to ask, and one for the streams to clone.
        Arc::strong_count(&self.0) >= MANY_STREAMS + 2
    }
}

/// A socket whose writes wait until [`ToSend`] sends them.
pub(super) struct Gathering {
    read: OwnedReadHalf,
    written: ToSend,
}

/// What was written to a [`Gathering`].
#[derive(Clone)]
pub(super) struct ToSend(Arc<Mutex<BufWriter<OwnedWriteHalf>>>);

impl ToSend {
    /// Only one task works with a connection, so nobody ever waits for this.
    fn writer(&self) -> MutexGuard<'_, BufWriter<OwnedWriteHalf>> {
        self.0.lock().expect("nothing panics with a writer in hand")
    }

    fn poll_send(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.writer()).poll_flush(context)
    }
}

/// A socket for a connection that is [driven](drive).
pub(super) fn gathering(stream: TcpStream) -> (Gathering, ToSend) {
    let (read, write) = stream.into_split();
    let writer = BufWriter::with_capacity(GATHERED_BYTES, write);
    let written = ToSend(Arc::new(Mutex::new(writer)));
    let to_send = written.clone();
    (Gathering { read, written }, to_send)
}

impl AsyncRead for Gathering {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.read).poll_read(context, buffer)
    }
}

impl AsyncWrite for Gathering {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut *self.written.writer()).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut *self.written.writer()).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    /// Left to [`drive`]: HTTP/2's library asks for it after each message.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.written.writer()).poll_shutdown(context)
    }
}

/// Polls a connection to its end, and sends what it has written after each poll.
///
/// # Errors
/// Those of the connection, and of the socket.
pub(super) async fn drive<C, E>(
    mut connection: Pin<&mut C>,
    to_send: &ToSend,
    streams: &OpenStreams,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>>
where
    C: Future<Output = Result<(), E>>,
    E: std::error::Error + Send + Sync + 'static,
{
    let mut let_others_run = false;
    poll_fn(|context| {
        let_others_run = !let_others_run && streams.are_many();
        if let_others_run {
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        let served = connection.as_mut().poll(context);
        let sent = to_send.poll_send(context);
        match (served, sent) {
            (Poll::Pending, Poll::Ready(Err(error))) => Poll::Ready(Err(error.into())),
            (served, _) => served.map_err(Into::into),
        }
    })
    .await
}

#[cfg(test)]
mod tests;
