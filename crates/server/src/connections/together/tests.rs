//! Connections that write when they are polled, and what has come at the other end by then.

use std::convert::Infallible;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Wake, Waker};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::*;

/// Too large to be gathered.
const LARGE: usize = 2 * GATHERED_BYTES;

async fn sockets() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let connecting = TcpStream::connect(listener.local_addr().unwrap());
    let (ours, theirs) = tokio::join!(listener.accept(), connecting);
    (ours.unwrap().0, theirs.unwrap())
}

/// Writes pieces with a flush behind each, as HTTP/2's library does, and tells which of them were taken.
fn write_all(
    io: &mut Gathering,
    context: &mut Context<'_>,
    pieces: &[&[u8]],
) -> Vec<io::Result<usize>> {
    let mut taken = Vec::new();
    for piece in pieces {
        match Pin::new(&mut *io).poll_write_vectored(context, &[IoSlice::new(piece)]) {
            Poll::Ready(count) => taken.push(count),
            Poll::Pending => break,
        }
        assert!(Pin::new(&mut *io).poll_flush(context).is_ready());
    }
    taken
}

/// Nothing of what was sent has arrived. Asked of the system, as the runtime learns of it only between polls.
fn has_nothing(theirs: &std::net::TcpStream) -> bool {
    let nothing = theirs.peek(&mut [0]);
    nothing.is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock)
}

#[tokio::test]
async fn what_one_poll_writes_is_sent_when_it_is_over() {
    let (ours, theirs) = sockets().await;
    let theirs = theirs.into_std().unwrap();
    let (mut io, to_send) = gathering(ours);
    let mut polls = 0;
    {
        let connection = pin!(poll_fn(|context| {
            polls += 1;
            write_all(&mut io, context, &[b"one ", b"two ", b"three"]);
            assert!(has_nothing(&theirs), "a write of its own for a piece");
            Poll::<Result<(), Infallible>>::Pending
        }));
        let streams = OpenStreams::default();
        let mut driven = pin!(drive(connection, &to_send, &streams));
        let first = poll_fn(|context| Poll::Ready(driven.as_mut().poll(context))).await;
        assert!(first.is_pending());
    }
    let mut received = [0; 13];
    let mut theirs = TcpStream::from_std(theirs).unwrap();
    theirs.read_exact(&mut received).await.unwrap();
    assert_eq!(&received, b"one two three");
    assert_eq!(polls, 1);
}

#[tokio::test]
async fn the_order_stays_whatever_the_sizes_and_however_slow_the_reader() {
    let (ours, mut theirs) = sockets().await;
    let (mut io, to_send) = gathering(ours);
    let large = vec![7; LARGE];
    let pieces: Vec<Vec<u8>> = (0..4_000_u32)
        .map(|number| match number % 40 {
            0 => large.clone(),
            _ => number.to_le_bytes().repeat(100),
        })
        .collect();
    let mut unsent = pieces.concat();
    let all = unsent.clone();
    let mut sizes = pieces.iter().map(Vec::len).cycle();
    let connection = poll_fn(|context| {
        while !unsent.is_empty() {
            let piece = sizes.next().unwrap().min(unsent.len());
            let taken = write_all(&mut io, context, &[&unsent[..piece]]);
            match taken.first() {
                Some(count) => drop(unsent.drain(..*count.as_ref().unwrap())),
                None => return Poll::Pending,
            }
        }
        Pin::new(&mut io).poll_shutdown(context)
    });
    let streams = OpenStreams::default();
    let driving = async {
        drive(pin!(connection), &to_send, &streams).await.unwrap();
    };
    let reading = async {
        let mut received = Vec::new();
        theirs.read_to_end(&mut received).await.unwrap();
        received
    };
    let ((), received) = tokio::join!(driving, reading);
    assert!(received == all, "{} of {} bytes", received.len(), all.len());
}

#[tokio::test]
async fn with_many_streams_others_run_before_each_poll() {
    let (ours, _theirs) = sockets().await;
    let (_io, to_send) = gathering(ours);
    let streams = OpenStreams::default();
    let for_calls = streams.clone();
    let mut polls = 0;
    // Streams open, and whether it was woken at once after a poll, as it was not its turn.
    let mut gave_way = Vec::new();
    {
        let connection = pin!(poll_fn(|_| {
            polls += 1;
            Poll::<Result<(), Infallible>>::Pending
        }));
        let mut driven = pin!(drive(connection, &to_send, &streams));
        let woken = Arc::new(Woken::default());
        let waker = Waker::from(Arc::clone(&woken));
        let mut context = Context::from_waker(&waker);
        let mut open = Vec::new();
        for count in [0, MANY_STREAMS - 1, MANY_STREAMS] {
            open.resize_with(count, || for_calls.clone());
            for _ in 0..4 {
                assert!(driven.as_mut().poll(&mut context).is_pending());
                gave_way.push((count, woken.0.swap(false, Ordering::Relaxed)));
            }
        }
    }
    let few = |count| [(count, false); 4];
    let many = [(MANY_STREAMS, true), (MANY_STREAMS, false)].repeat(2);
    let expected = [&few(0)[..], &few(MANY_STREAMS - 1), &many].concat();
    assert_eq!(gave_way, expected);
    assert_eq!(polls, 4 + 4 + 2);
}

/// Whether a task was woken.
#[derive(Default)]
struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[tokio::test]
async fn a_socket_that_fails_ends_the_connection() {
    let (ours, theirs) = sockets().await;
    let (mut io, to_send) = gathering(ours);
    // What it has not read makes its end a reset.
    theirs.set_zero_linger().unwrap();
    drop(theirs);
    let connection = poll_fn(|context| {
        // It does not look at what became of it, as one that has nothing more to write.
        write_all(&mut io, context, &[b"lost"]);
        context.waker().wake_by_ref();
        Poll::<Result<(), Infallible>>::Pending
    });
    let streams = OpenStreams::default();
    let ended = drive(pin!(connection), &to_send, &streams).await;
    let error = ended.unwrap_err().downcast::<io::Error>().unwrap();
    let kinds = [io::ErrorKind::ConnectionReset, io::ErrorKind::BrokenPipe];
    assert!(kinds.contains(&error.kind()), "{error}");
}

#[tokio::test]
async fn a_connection_that_ends_sends_what_is_left() {
    let (ours, mut theirs) = sockets().await;
    let (mut io, to_send) = gathering(ours);
    let connection = poll_fn(|context| {
        write_all(&mut io, context, &[b"the end"]);
        Poll::Ready(Ok::<_, Infallible>(()))
    });
    let streams = OpenStreams::default();
    drive(pin!(connection), &to_send, &streams).await.unwrap();
    io.shutdown().await.unwrap();
    let mut received = String::new();
    theirs.read_to_string(&mut received).await.unwrap();
    assert_eq!(received, "the end");
}
