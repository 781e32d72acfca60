//! Requests out on one thread and answers in on another, for the clients that are plain sockets.

use std::net::{Ipv4Addr, TcpStream};
use std::sync::mpsc::{channel, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};

use crate::latency::{Latencies, Pace};
use crate::peer::Probe;

/// A server that says nothing for so long has failed.
const SILENCE_MAX: Duration = Duration::from_secs(60);

/// A connection to a port of loopback.
///
/// # Errors
/// When nobody accepts it.
pub(crate) fn connect(port: u16) -> Result<TcpStream> {
    let connect = || -> std::io::Result<TcpStream> {
        let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(SILENCE_MAX))?;
        stream.set_write_timeout(Some(SILENCE_MAX))?;
        Ok(stream)
    };
    connect().with_context(|| format!("cannot connect to port {port}"))
}

/// How many requests are sent.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Requests {
    /// At most so many.
    pub(crate) most: u64,
    /// For so long at most.
    pub(crate) time: Duration,
    /// So many without an answer.
    pub(crate) in_flight: usize,
}

/// Sends and receives until all that was sent is answered. Answers with how many there were.
///
/// # Errors
/// What `send` or `receive` say.
pub(crate) fn pipeline(
    requests: Requests,
    mut send: impl FnMut() -> Result<()> + Send,
    mut receive: impl FnMut() -> Result<()>,
) -> Result<u64> {
    // The answer that is waited for has left the channel already.
    let (sent, unanswered) = sync_channel(requests.in_flight.saturating_sub(2));
    thread::scope(|scope| {
        let sending = scope.spawn(move || -> Result<()> {
            let begun = Instant::now();
            for _ in 0..requests.most {
                if begun.elapsed() >= requests.time {
                    break;
                }
                send()?;
                if sent.send(()).is_err() {
                    // The receiver has failed, and says why.
                    break;
                }
            }
            Ok(())
        });
        let mut count = 0;
        let received = unanswered.iter().try_for_each(|()| {
            count += 1;
            receive()
        });
        drop(unanswered);
        joined(sending.join())?;
        received.map(|()| count)
    })
}

/// Measures latency with one request after the other, or at a rate.
///
/// # Errors
/// What `send` or `receive` say.
pub(crate) fn probe(
    probe: &Probe,
    mut send: impl FnMut() -> Result<()> + Send,
    mut receive: impl FnMut() -> Result<()>,
) -> Result<Latencies> {
    let mut latencies = Latencies::default();
    let Some(rate) = probe.per_second else {
        let begun = Instant::now();
        while begun.elapsed() < probe.time {
            let sent = Instant::now();
            send()?;
            receive()?;
            latencies.record(sent.elapsed());
        }
        return Ok(latencies);
    };
    let count = (probe.time.as_secs_f64() * f64::from(rate)) as u32;
    let (sender, sent) = channel();
    thread::scope(|scope| {
        let sending = scope.spawn(move || -> Result<()> {
            let pace = Pace::new(rate);
            for number in 0..count {
                let due = pace.wait_for(number);
                send()?;
                if sender.send(due).is_err() {
                    break;
                }
            }
            Ok(())
        });
        let received: Result<()> = sent.iter().try_for_each(|due| {
            receive()?;
            latencies.record(due.elapsed());
            Ok(())
        });
        drop(sent);
        joined(sending.join())?;
        received
    })?;
    Ok(latencies)
}

/// Does the same with several numbers at a time, a thread each, and adds up what comes of it.
///
/// # Errors
/// The first failure.
pub(crate) fn in_parallel(count: usize, one: impl Fn(usize) -> Result<u64> + Sync) -> Result<u64> {
    thread::scope(|scope| {
        let one = &one;
        let threads: Vec<_> = (0..count)
            .map(|number| scope.spawn(move || one(number)))
            .collect();
        threads
            .into_iter()
            .map(|thread| joined(thread.join()))
            .sum()
    })
}

fn joined<T>(outcome: thread::Result<Result<T>>) -> Result<T> {
    outcome.map_err(|_| anyhow!("a thread has panicked"))?
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use anyhow::bail;

    use super::*;

    fn requests(most: u64) -> Requests {
        Requests {
            most,
            time: Duration::from_secs(10),
            in_flight: 4,
        }
    }

    #[test]
    fn no_more_are_in_flight_than_wanted() {
        let (sent, received) = (AtomicU64::new(0), AtomicU64::new(0));
        let send = || {
            let ahead = sent.fetch_add(1, Ordering::SeqCst) + 1 - received.load(Ordering::SeqCst);
            assert!(ahead <= 4, "{ahead}");
            Ok(())
        };
        let receive = || {
            thread::sleep(Duration::from_millis(1));
            received.fetch_add(1, Ordering::SeqCst);
            Ok(())
        };
        assert_eq!(pipeline(requests(50), send, receive).unwrap(), 50);
    }

    #[test]
    fn a_failure_of_either_side_ends_both() {
        let failed = pipeline(requests(50), || Ok(()), || bail!("refused"));
        assert_eq!(failed.unwrap_err().to_string(), "refused");
        let failed = pipeline(requests(50), || bail!("cut"), || Ok(()));
        assert_eq!(failed.unwrap_err().to_string(), "cut");
    }

    #[test]
    fn a_rate_is_held() {
        let wanted = Probe {
            topic: String::new(),
            value_bytes: 1,
            per_second: Some(1_000),
            time: Duration::from_millis(50),
        };
        let latencies = probe(&wanted, || Ok(()), || Ok(())).unwrap();
        assert_eq!(latencies.percentiles().count, 50);
    }
}
