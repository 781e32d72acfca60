//! Threads for what blocks but does not append: reads that fault pages in, trims, the opening of
//! partitions.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::{Condvar, Mutex, MutexGuard};
use std::task::{Context, Poll};

use tokio::sync::oneshot;

use crate::Error;

type Job = Box<dyn FnOnce() + Send>;

/// A queue of blocking work and the threads that do it, or the caller's thread.
pub(crate) struct Pool {
    inline: bool,
    state: Mutex<State>,
    wake: Condvar,
}

#[derive(Default)]
struct State {
    jobs: VecDeque<Job>,
    stopped: bool,
}

impl Pool {
    /// With `inline` there are no threads: work is done at once by whoever asks for it.
    pub(crate) fn new(inline: bool) -> Self {
        Self {
            inline,
            state: Mutex::default(),
            wake: Condvar::new(),
        }
    }

    pub(crate) fn is_inline(&self) -> bool {
        self.inline
    }

    /// Starts a piece of work, which goes on also when the answer is dropped.
    pub(crate) fn start<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> PoolAnswer<T> {
        let (sender, receiver) = oneshot::channel();
        let job = move || {
            // Nobody may be waiting any more.
            let _ = sender.send(work());
        };
        let mut state = self.state();
        if state.stopped {
            return PoolAnswer(receiver);
        }
        if self.inline {
            drop(state);
            job();
        } else {
            state.jobs.push_back(Box::new(job));
            drop(state);
            self.wake.notify_one();
        }
        PoolAnswer(receiver)
    }

    /// Starts a piece of work and waits for it.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Error> {
        self.start(work).get().await
    }

    /// Works until the pool is stopped and drained.
    pub(crate) fn work(&self) {
        loop {
            let job = {
                let mut state = self.state();
                loop {
                    if let Some(job) = state.jobs.pop_front() {
                        break job;
                    }
                    if state.stopped {
                        return;
                    }
                    state = self
                        .wake
                        .wait(state)
                        .expect("nothing panics with the pool's queue in hand");
                }
            };
            job();
        }
    }

    /// Takes nothing new; threads end once all is drained.
    pub(crate) fn stop(&self) {
        self.state().stopped = true;
        self.wake.notify_all();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state
            .lock()
            .expect("nothing panics with the pool's queue in hand")
    }
}

impl std::fmt::Debug for Pool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pool")
            .field("inline", &self.inline)
            .finish_non_exhaustive()
    }
}

/// The result of a piece of work, once it is done.
#[derive(Debug)]
pub(crate) struct PoolAnswer<T>(oneshot::Receiver<T>);

impl<T> PoolAnswer<T> {
    /// Looks whether it is there, and is woken when it is.
    pub(crate) fn poll(&mut self, context: &mut Context<'_>) -> Poll<Result<T, Error>> {
        let answer = Pin::new(&mut self.0).poll(context);
        answer.map(|answer| answer.map_err(|_| Error::ShuttingDown))
    }

    /// Waits for it. May be dropped and called again.
    pub(crate) async fn get(&mut self) -> Result<T, Error> {
        (&mut self.0).await.map_err(|_| Error::ShuttingDown)
    }
}
