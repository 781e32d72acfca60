//! A child process, everything that it prints, and a bound on every wait for it.

use std::io::{Read, Write};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// How often the end of a process is looked for once it has closed its outputs. A process has no
/// event that can be awaited with a limit.
const POLL: Duration = Duration::from_millis(2);
const PIECE_BYTES: usize = 64 << 10;
/// How much of an output is shown when a test fails.
const SHOWN_BYTES: usize = 6_000;

/// A running child process. Dropping it kills it, by its own id.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    stdout: Capture,
    stderr: Capture,
}

impl Process {
    /// Starts a process. `stdin` is what it reads; without it, it reads nothing.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn spawn(name: impl Into<String>, command: &mut Command, stdin: Option<Vec<u8>>) -> Self {
        let name = name.into();
        let input = if stdin.is_some() {
            Stdio::piped()
        } else {
            Stdio::null()
        };
        let mut child = command
            .stdin(input)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("cannot start {name}: {error}"));
        if let Some((mut pipe, bytes)) = child.stdin.take().zip(stdin) {
            // A process that ends without reading all of its input may do so.
            thread::spawn(move || drop(pipe.write_all(&bytes)));
        }
        let stdout = Capture::of(child.stdout.take().expect("it was asked for"));
        let stderr = Capture::of(child.stderr.take().expect("it was asked for"));
        Self {
            name,
            child,
            stdout,
            stderr,
        }
    }

    /// The process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it has printed to standard output.
    pub fn stdout(&self) -> &Capture {
        &self.stdout
    }

    /// What it has printed to standard error.
    pub fn stderr(&self) -> &Capture {
        &self.stderr
    }

    /// Whether it has not ended yet.
    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Whether it can print no more within this time: it has ended then, or is about to.
    pub fn closes_its_outputs(&self, limit: Duration) -> bool {
        self.stdout.wait_for_end(limit) && self.stderr.wait_for_end(limit)
    }

    /// Waits for its end and for all that it prints.
    ///
    /// # Panics
    /// When that takes longer than `limit`; the process is killed then.
    pub fn wait(&mut self, limit: Duration) -> ExitStatus {
        let give_up_at = Instant::now() + limit;
        let left = || give_up_at.saturating_duration_since(Instant::now());
        let closed = self.stdout.wait_for_end(left()) && self.stderr.wait_for_end(left());
        while closed && Instant::now() < give_up_at {
            match self.child.try_wait() {
                Ok(Some(status)) => return status,
                Ok(None) => thread::sleep(POLL),
                Err(error) => panic!("cannot wait for {}: {error}", self.name),
            }
        }
        self.kill9();
        panic!(
            "{} did not end within {limit:?}\n{}",
            self.name,
            self.printed()
        );
    }

    /// kill -9; returns once the process is gone.
    pub fn kill9(&mut self) {
        // It may have ended by itself a moment ago.
        let _ = self.child.kill();
        let _ = self.child.wait();
        self.stderr.wait_for_end(Duration::from_secs(10));
    }

    /// Asks it to end, with SIGTERM.
    pub fn terminate(&self) {
        self.signal(Signal::TERM);
    }

    /// Asks it to end, with SIGINT, as Ctrl-C does.
    pub fn interrupt(&self) {
        self.signal(Signal::INT);
    }

    /// Keeps it from running, with SIGSTOP, until it is told to go on.
    pub fn stop(&self) {
        self.signal(Signal::STOP);
    }

    /// Lets it run again, with SIGCONT.
    pub fn go_on(&self) {
        self.signal(Signal::CONT);
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal)
            .unwrap_or_else(|error| panic!("cannot send a signal to {}: {error}", self.name));
    }

    /// The end of all that it printed, to be shown when a test fails.
    pub fn printed(&self) -> String {
        format!(
            "{} printed to standard output:\n{}\nand to standard error:\n{}",
            self.name,
            tail(&self.stdout.text()),
            tail(&self.stderr.text())
        )
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.is_running() {
            self.kill9();
        }
    }
}

fn tail(text: &str) -> &str {
    let from = text.len().saturating_sub(SHOWN_BYTES);
    &text[text.ceil_char_boundary(from)..]
}

/// What a process has printed to one of its outputs so far.
#[derive(Clone, Debug)]
pub struct Capture(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    bytes: Vec<u8>,
    ended: bool,
}

impl Capture {
    fn of(mut pipe: impl Read + Send + 'static) -> Self {
        let capture = Self(Arc::default());
        let shared = Arc::clone(&capture.0);
        thread::spawn(move || {
            let mut piece = vec![0; PIECE_BYTES];
            loop {
                let read = pipe.read(&mut piece).unwrap_or(0);
                let mut state = shared.lock();
                state.bytes.extend_from_slice(&piece[..read]);
                state.ended = read == 0;
                let ended = state.ended;
                drop(state);
                shared.changed.notify_all();
                if ended {
                    return;
                }
            }
        });
        capture
    }

    /// All of it so far.
    pub fn bytes(&self) -> Vec<u8> {
        self.0.lock().bytes.clone()
    }

    /// All of it so far, as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes()).into_owned()
    }

    /// Waits until `find` finds what it looks for. None when the output ends without it, or when
    /// `limit` has passed.
    pub fn wait_for<T>(
        &self,
        limit: Duration,
        mut find: impl FnMut(&[u8]) -> Option<T>,
    ) -> Option<T> {
        let give_up_at = Instant::now() + limit;
        let mut state = self.0.lock();
        loop {
            if let Some(found) = find(&state.bytes) {
                return Some(found);
            }
            let left = give_up_at.saturating_duration_since(Instant::now());
            if state.ended || left.is_zero() {
                return None;
            }
            state = self.0.wait(state, left);
        }
    }

    fn wait_for_end(&self, limit: Duration) -> bool {
        let give_up_at = Instant::now() + limit;
        let mut state = self.0.lock();
        while !state.ended {
            let left = give_up_at.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            state = self.0.wait(state, left);
        }
        true
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'a>(&self, state: MutexGuard<'a, State>, limit: Duration) -> MutexGuard<'a, State> {
        self.changed
            .wait_timeout(state, limit)
            .unwrap_or_else(PoisonError::into_inner)
            .0
    }
}
