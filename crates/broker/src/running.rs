//! The threads of a broker, from the first to the last.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};

use tokio::sync::{Mutex, oneshot};

use crate::Error;
use crate::append::{run_worker, work_once};
use crate::core::Core;

/// A broker with its threads. Dropping it stops them.
#[derive(Debug)]
pub(crate) struct Running {
    core: Arc<Core>,
    threaded: bool,
    threads: Mutex<Threads>,
    stopped: AtomicBool,
}

#[derive(Debug, Default)]
struct Threads {
    append: Vec<Thread>,
    pool: Vec<Thread>,
    housekeeping: Vec<Thread>,
    scrub: Vec<Thread>,
    floor: Vec<Thread>,
    groups: Vec<Thread>,
}

#[derive(Debug)]
struct Thread {
    handle: Option<JoinHandle<()>>,
    ended: oneshot::Receiver<()>,
}

impl Running {
    /// Starts what the configuration asks for.
    pub(crate) fn start(core: Arc<Core>) -> std::io::Result<Self> {
        core.metadata.snapshot_if_due(&core);
        if let Ok(offsets) = core.offsets.log() {
            offsets.snapshot_if_due(&core);
        }
        let running = Self {
            threaded: core.config.append_threads > 0,
            core,
            threads: Mutex::default(),
            stopped: AtomicBool::new(false),
        };
        if running.threaded {
            let started = running.start_threads()?;
            *running.threads.try_lock().expect("nobody else has it yet") = started;
        }
        Ok(running)
    }

    fn start_threads(&self) -> std::io::Result<Threads> {
        let mut threads = Threads::default();
        let core = &self.core;
        let config = &core.config;
        // Should one fail to start, those before it end with the broker.
        let started = (|| {
            for _ in 0..config.append_threads {
                threads
                    .append
                    .push(spawn("append", core, |core| run_worker(core))?);
            }
            if !core.pool.is_inline() {
                for _ in 0..config.read_threads {
                    threads
                        .pool
                        .push(spawn("read", core, |core| core.pool.work())?);
                }
            }
            threads
                .housekeeping
                .push(spawn("housekeeping", core, |core| {
                    core.housekeeping.run(core)
                })?);
            if core.scrubber.is_on() {
                threads
                    .scrub
                    .push(spawn("scrub", core, |core| core.scrubber.run(core))?);
            }
            threads
                .floor
                .push(spawn("floor", core, |core| core.floor.run(core))?);
            threads
                .groups
                .push(spawn("groups", core, |core| core.groups.run_timers())?);
            Ok(())
        })();
        if started.is_err() {
            core.scrubber.stop();
            core.housekeeping.stop();
            core.appends.stop();
            core.floor.stop();
            core.groups.stop();
            core.pool.stop();
        }
        started.map(|()| threads)
    }

    pub(crate) fn core(&self) -> &Arc<Core> {
        &self.core
    }

    /// Does what the threads would do now.
    pub(crate) fn run_pending(&self) -> bool {
        if self.threaded {
            return false;
        }
        let mut worked = false;
        while work_once(&self.core) {
            worked = true;
        }
        worked |= self.core.housekeeping.run_once(&self.core);
        worked |= self.core.groups.run_due();
        // What a chore has queued is part of what is to be done now.
        while work_once(&self.core) {
            worked = true;
        }
        worked || self.core.floor.run_once(&self.core)
    }

    /// Stops everything, each part after those that give it work.
    pub(crate) async fn shutdown(&self) -> Result<(), Error> {
        let core = &self.core;
        core.stop_accepting();
        let mut threads = self.threads.lock().await;
        if !self.stopped.load(Ordering::Acquire) {
            while self.run_pending() {}
            core.groups.stop();
            join_all(&mut threads.groups).await;
            core.scrubber.stop();
            join_all(&mut threads.scrub).await;
            core.housekeeping.stop();
            join_all(&mut threads.housekeeping).await;
            core.appends.stop();
            join_all(&mut threads.append).await;
            core.floor.stop();
            join_all(&mut threads.floor).await;
            if !self.threaded {
                core.floor.finish(core);
            }
            core.pool.stop();
            join_all(&mut threads.pool).await;
            core.release();
            self.stopped.store(true, Ordering::Release);
        }
        match core.dead.get() {
            None => Ok(()),
            Some(reason) => Err(Error::OutcomeUnknown {
                detail: reason.clone(),
            }),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Err(error) = pollster::block_on(self.shutdown()) {
            tracing::error!(%error, "the broker did not stop cleanly");
        }
    }
}

fn spawn(
    name: &str,
    core: &Arc<Core>,
    work: impl FnOnce(&Arc<Core>) + Send + 'static,
) -> std::io::Result<Thread> {
    let (sender, ended) = oneshot::channel();
    let core = Arc::clone(core);
    let handle = thread::Builder::new()
        .name(format!("flowstone-{name}"))
        .spawn(move || {
            let end = End { core, sender };
            work(&end.core);
        })?;
    Ok(Thread {
        handle: Some(handle),
        ended,
    })
}

/// The end of a thread. One that panics has left work half done, which nobody else will do.
struct End {
    core: Arc<Core>,
    #[expect(dead_code, reason = "dropping it tells that the thread has ended")]
    sender: oneshot::Sender<()>,
}

impl Drop for End {
    fn drop(&mut self) {
        if thread::panicking() {
            self.core.die("a thread of the broker has panicked");
        }
    }
}

async fn join_all(threads: &mut Vec<Thread>) {
    for thread in threads.iter_mut() {
        // The sender is dropped, never used.
        let _ = (&mut thread.ended).await;
        if let Some(handle) = thread.handle.take() {
            // A panic was told when it happened.
            let _ = handle.join();
        }
    }
    threads.clear();
}
