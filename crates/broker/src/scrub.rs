//! Looks for rot where nobody reads: walks through the sealed segments of all partitions, round and
//! round, as slowly as it is told to.

use std::io::ErrorKind;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use flowstone_log::{Checked, Damage, Log, LogError, SealedSegment};

use crate::BrokerConfig;
use crate::core::Core;
use crate::partition::Partition;

/// A start has other things to do than to scrub.
const FIRST_ROUND_AFTER: Duration = Duration::from_secs(60);
/// So much is read between two pauses.
const STEP_BYTES: u64 = 256 << 10;

/// When the scrub works, and how fast.
#[derive(Debug)]
pub(crate) struct Scrubber {
    bytes_per_second: u64,
    interval: Duration,
    stopped: AtomicBool,
    /// Held by who waits, so that no stop is missed.
    pause: Mutex<()>,
    wake: Condvar,
}

impl Scrubber {
    pub(crate) fn new(config: &BrokerConfig) -> Self {
        Self {
            bytes_per_second: config.scrub_bytes_per_second,
            interval: Duration::from_millis(config.scrub_interval_ms),
            stopped: AtomicBool::new(false),
            pause: Mutex::new(()),
            wake: Condvar::new(),
        }
    }

    /// Whether it is to run at all.
    pub(crate) fn is_on(&self) -> bool {
        self.bytes_per_second > 0
    }

    /// Works until it is stopped.
    pub(crate) fn run(&self, core: &Arc<Core>) {
        if self.wait(self.interval.min(FIRST_ROUND_AFTER)).is_break() {
            return;
        }
        // Begun at another place each time: a broker that is often restarted comes to the end too.
        let mut first = core.env.random.u64();
        loop {
            let began = core.env.clock.monotonic();
            let mut unpaid = 0;
            let round = round(core, first, |bytes| {
                unpaid += bytes;
                if unpaid < STEP_BYTES {
                    return self.go_on();
                }
                let step = Duration::from_secs_f64(unpaid as f64 / self.bytes_per_second as f64);
                unpaid = 0;
                self.wait(step)
            });
            let took = core.env.clock.monotonic() - began;
            if round.is_break() || self.wait(self.interval.saturating_sub(took)).is_break() {
                return;
            }
            first = 0;
        }
    }

    /// Ends [`run`](Self::run) after the step in hand.
    pub(crate) fn stop(&self) {
        let pause = self.pause.lock().expect("nothing panics in a pause");
        self.stopped.store(true, Ordering::Release);
        drop(pause);
        self.wake.notify_all();
    }

    fn go_on(&self) -> ControlFlow<()> {
        if self.stopped.load(Ordering::Acquire) {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    }

    fn wait(&self, time: Duration) -> ControlFlow<()> {
        let pause = self.pause.lock().expect("nothing panics in a pause");
        let waiting = |_: &mut ()| !self.stopped.load(Ordering::Acquire);
        let waited = self.wake.wait_timeout_while(pause, time, waiting);
        drop(waited.expect("nothing panics in a pause"));
        self.go_on()
    }
}

/// Checks every sealed segment once. `read` hears how many bytes each step has taken, and may break
/// the round off.
pub(crate) fn round(
    core: &Arc<Core>,
    first: u64,
    mut read: impl FnMut(u64) -> ControlFlow<()>,
) -> ControlFlow<()> {
    let mut partitions = partitions(core);
    let count = partitions.len() as u64;
    partitions.rotate_left(usize::try_from(first % count.max(1)).expect("below a length"));
    for partition in partitions {
        let sealed = partition.log().as_ref().map(Log::sealed_segments);
        for segment in sealed.into_iter().flatten() {
            if core.is_dead() {
                return ControlFlow::Break(());
            }
            let checked = segment.check(|bytes| {
                core.counters.scrub_bytes.add(bytes);
                read(bytes)
            });
            match checked {
                Ok(Checked::Sound) => {}
                Ok(Checked::Damaged(damage)) => found(core, &partition, &segment, &damage),
                Ok(Checked::BrokenOff) => return ControlFlow::Break(()),
                Err(error) if is_gone(&error) => {
                    if is_listed(&partition, &segment) {
                        found(core, &partition, &segment, &segment.missing());
                    }
                    continue;
                }
                Err(error) => {
                    let path = segment.path().display();
                    tracing::warn!(%path, %error, "a segment could not be scrubbed in this round");
                    continue;
                }
            }
            core.counters.scrub_segments.add(1);
        }
    }
    core.counters.scrub_rounds.add(1);
    let ended = &core.counters.scrub_round_ended_ms;
    ended.store(core.env.clock.now_ms(), Ordering::Relaxed);
    ControlFlow::Continue(())
}

/// All partitions, the broker's own logs first.
fn partitions(core: &Core) -> Vec<Arc<Partition>> {
    let mut all = vec![Arc::clone(core.metadata.partition())];
    all.extend(
        core.offsets
            .log()
            .ok()
            .map(|log| Arc::clone(log.partition())),
    );
    for topic in core.topics.all() {
        all.extend(topic.now().partitions.iter().cloned());
    }
    all
}

fn is_gone(error: &LogError) -> bool {
    matches!(error, LogError::Io { source, .. } if source.kind() == ErrorKind::NotFound)
}

/// Whether a segment is still a part of its log: retention, or the end of its topic, may have come
/// before the scrub.
fn is_listed(partition: &Partition, segment: &SealedSegment) -> bool {
    let sealed = partition.log().as_ref().map(Log::sealed_segments);
    let mut sealed = sealed.into_iter().flatten();
    sealed.any(|listed| listed.path() == segment.path())
}

fn found(core: &Arc<Core>, partition: &Partition, segment: &SealedSegment, damage: &Damage) {
    if !is_listed(partition, segment) {
        return;
    }
    core.counters.scrub_damages.add(1);
    if partition.is_internal() {
        // All that the log says is in memory, and was read whole at the start.
        tracing::error!(%damage, "one of the broker's own logs is damaged, and is written anew");
        core.metadata.renew(core, partition);
        if let Ok(offsets) = core.offsets.log() {
            offsets.renew(core, partition);
        }
    } else if damage.offset.get() < partition.log_start_offset() {
        tracing::warn!(%damage, "damage below the log start, where nobody reads");
    } else {
        partition.note_damage(damage);
    }
}
