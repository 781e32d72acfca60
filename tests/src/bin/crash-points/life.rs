//! One life: a machine on which brokers run one after the other. At every I/O call a copy of the
//! machine crashes.

use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use flowstone_disk::{Clock, ManualClock, Op, OpKind, SimDisk};
use flowstone_tests::Dice;

use crate::counts::Counts;
use crate::crash::{Crash, Way};
use crate::driven::Driven;
use crate::ledger::Ledger;
use crate::point::{Point, Violation, told};
use crate::producers::Repeat;
use crate::work::{Commit, Produce, Session};

const START_MS: i64 = 1_700_000_000_000;
/// Calls that change nothing are tried less often: the machine is as it was at the one before.
const READS_TRIED_ONCE_IN: u64 = 5;

/// Which points of a life are tried.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Points {
    /// Every call.
    All,
    /// One in so many.
    #[cfg_attr(not(test), expect(dead_code, reason = "the tests have little time"))]
    OneIn(u64),
    /// This one alone.
    Only(u64),
}

/// What a life came to.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) counts: Counts,
    /// At which I/O call of the life, and what. A violation of the life itself has the call that
    /// was the last before it.
    pub(crate) violation: Option<(u64, Violation)>,
}

/// The world as the driver and the hook of the disk share it.
#[derive(Clone)]
pub(crate) struct World(Arc<Mutex<State>>);

pub(crate) struct State {
    pub(crate) ledger: Ledger,
    pub(crate) produces: Vec<Produce>,
    pub(crate) repeats: Vec<Repeat>,
    pub(crate) commits: Vec<Commit>,
    pub(crate) counts: Counts,
    /// Whether the process of this session is dead.
    pub(crate) down: bool,
    /// Whether the disk had little space left.
    pub(crate) is_full: bool,
    pub(crate) had_io_error: bool,
    /// How many more steps the session may take.
    steps_left: u64,
    /// When the machine itself crashes, and how.
    crash: Option<(u64, Crash)>,
    /// From when on a call that writes fails.
    io_error: Option<u64>,
    /// I/O calls so far.
    call: u64,
    points: Points,
    seed: u64,
    violation: Option<(u64, Violation)>,
}

impl World {
    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Takes the answers that have come.
    pub(crate) fn look(&mut self) {
        if self.down {
            return;
        }
        let (ledger, counts) = (&mut self.ledger, &mut self.counts);
        self.produces
            .retain_mut(|produce| match produce.look(ledger) {
                std::task::Poll::Ready(records) => {
                    counts.acknowledged += records;
                    false
                }
                std::task::Poll::Pending => true,
            });
        self.repeats.retain_mut(|repeat| match repeat.look(ledger) {
            std::task::Poll::Ready(records) => {
                counts.acknowledged += records;
                false
            }
            std::task::Poll::Pending => true,
        });
        self.commits
            .retain_mut(|commit| commit.look(ledger).is_pending());
    }

    /// Ends the session soon.
    pub(crate) fn last_steps(&mut self, steps: u64) {
        self.steps_left = self.steps_left.min(steps);
    }

    fn crash_now(&mut self, disk: &SimDisk, crash: Crash) {
        crash.happen(disk);
        crash.note(&mut self.ledger);
        self.down = true;
        self.counts.survived += 1;
    }
}

/// What the disk asks before each of its calls.
fn at_call(world: &World, disk: &SimDisk, clock: &ManualClock, op: &Op) -> Option<std::io::Error> {
    let mut guard = world.0.try_lock().ok()?;
    let state = &mut *guard;
    if state.violation.is_some() {
        return None;
    }
    state.call += 1;
    state.counts.calls += 1;
    state.look();
    let now_ms = clock.now_ms();
    state.ledger.latest_ms = state.ledger.latest_ms.max(now_ms);
    try_point(state, disk, op, now_ms);
    match state.crash {
        Some((call, crash)) if call == state.call => {
            state.crash_now(disk, crash);
            return None;
        }
        _ => {}
    }
    let writes = matches!(
        op.kind,
        OpKind::Write
            | OpKind::Reserve
            | OpKind::SyncData
            | OpKind::SyncAll
            | OpKind::SyncDir
            | OpKind::Rename
            | OpKind::RemoveFile
            | OpKind::Punch
    );
    if writes && state.io_error.is_some_and(|call| call <= state.call) {
        state.io_error = None;
        state.had_io_error = true;
        state.counts.io_errors += 1;
        state.last_steps(8);
        return Some(std::io::Error::from_raw_os_error(5));
    }
    None
}

/// Lets a copy of the machine crash upon the call.
fn try_point(state: &mut State, disk: &SimDisk, op: &Op, now_ms: i64) {
    let dice = Dice::new(mix(state.seed, state.call));
    let reads = matches!(
        op.kind,
        OpKind::Open | OpKind::List | OpKind::Read | OpKind::Populate | OpKind::Map | OpKind::Lock
    );
    if reads && !dice.once_in(READS_TRIED_ONCE_IN) {
        return;
    }
    let wanted = match state.points {
        Points::All => true,
        Points::OneIn(times) => dice.once_in(times),
        Points::Only(call) => call == state.call,
    };
    if !wanted {
        return;
    }
    *state.counts.kinds.entry(op.kind).or_default() += 1;
    let fork = disk.fork(dice.pick(0..u64::MAX));
    let ledger = state.ledger.clone();
    let seed = dice.pick(0..u64::MAX);
    let point = Point::new(fork, ledger, now_ms, seed, &mut state.counts);
    let way = Way::any(&dice);
    if let Err(mut violation) = point.explore(way) {
        let (kind, path) = (op.kind, op.path.display());
        violation
            .story
            .insert(0, format!("{kind:?} of {path} at {}", op.at));
        state.violation = Some((state.call, violation));
    }
}

/// A seed that follows from two numbers.
pub(crate) fn mix(seed: u64, number: u64) -> u64 {
    let dice = Dice::new(seed ^ number.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    dice.pick(0..u64::MAX)
}

/// Lives one life.
pub(crate) fn live(seed: u64, points: Points) -> Outcome {
    let clock = ManualClock::new(START_MS);
    let disk = SimDisk::new(mix(seed, 1));
    let world = World(Arc::new(Mutex::new(State {
        ledger: Ledger::default(),
        produces: Vec::new(),
        repeats: Vec::new(),
        commits: Vec::new(),
        counts: Counts {
            lives: 1,
            ..Counts::default()
        },
        down: false,
        is_full: false,
        had_io_error: false,
        steps_left: 0,
        crash: None,
        io_error: None,
        call: 0,
        points,
        seed,
        violation: None,
    })));
    let (shared, machine, time) = (world.clone(), disk.clone(), clock.clone());
    disk.set_hook(move |op| at_call(&shared, &machine, &time, op));
    let dice = Dice::new(mix(seed, 2));
    disk.set_delays(
        &clock,
        Duration::from_millis(dice.pick(0..4)),
        dice.pick(0..u64::MAX),
    );
    for session in 0..dice.pick(2..7) {
        let lived = catch_unwind(AssertUnwindSafe(|| {
            run_session(&world, &disk, &clock, &dice, session)
        }));
        let wrong = match lived {
            Ok(Ok(())) => Vec::new(),
            Ok(Err(wrong)) => wrong,
            Err(panic) => vec![format!("the life panicked: {}", told(&*panic))],
        };
        let mut state = world.lock();
        if !wrong.is_empty() && state.violation.is_none() {
            let story = vec![format!("session {session} of the life itself")];
            state.violation = Some((state.call, Violation { wrong, story }));
        }
        if state.violation.is_some() {
            break;
        }
    }
    disk.clear_faults();
    let mut state = world.lock();
    Outcome {
        counts: std::mem::take(&mut state.counts),
        violation: state.violation.take(),
    }
}

fn run_session(
    world: &World,
    disk: &SimDisk,
    clock: &ManualClock,
    dice: &Dice,
    session: u64,
) -> Result<(), Vec<String>> {
    plan_session(&mut world.lock(), dice, session);
    disk.set_capacity(u64::MAX);
    let before = disk.count_all();
    let opened = Driven::open(disk, clock, dice.pick(0..u64::MAX));
    if world.lock().down {
        return Ok(());
    }
    let driven = opened.map_err(|error| vec![format!("the broker does not open: {error}")])?;
    {
        let mut state = world.lock();
        state.ledger.open_ops = disk.count_all() - before;
        state.ledger.opened = true;
    }
    let outcome = work(world, disk, clock, dice, &driven);
    end_session(world, disk, dice, driven);
    outcome
}

fn plan_session(state: &mut State, dice: &Dice, session: u64) {
    state.down = false;
    state.is_full = false;
    state.had_io_error = false;
    state.steps_left = dice.pick(10..60);
    state.crash = dice.once_in(2).then(|| {
        let most = if session == 0 { 400 } else { 250 };
        (state.call + dice.pick(1..most), Crash::any(dice))
    });
    state.io_error = None;
}

/// Checks what the directory holds, and goes on with it.
fn work(
    world: &World,
    disk: &SimDisk,
    clock: &ManualClock,
    dice: &Dice,
    driven: &Driven,
) -> Result<(), Vec<String>> {
    let observed = driven.observe(false);
    {
        let mut state = world.lock();
        if state.down {
            return Ok(());
        }
        let observed = observed.map_err(|wrong| vec![wrong])?;
        state.counts.checked += 1;
        state.ledger.latest_ms = state.ledger.latest_ms.max(clock.now_ms());
        let wrong = state.ledger.hold(&observed);
        if !wrong.is_empty() {
            return Err(wrong);
        }
        state.io_error = dice.once_in(2).then(|| state.call + dice.pick(1..250));
    }
    let session = Session {
        world,
        disk,
        clock,
        dice,
        driven,
        members: RefCell::default(),
    };
    loop {
        {
            let mut state = world.lock();
            if state.down || state.violation.is_some() || state.steps_left == 0 {
                break;
            }
            state.steps_left -= 1;
        }
        session.step().map_err(|wrong| vec![wrong])?;
    }
    if dice.once_in(2) {
        disk.set_capacity(u64::MAX);
        session.wait_for_all();
    }
    Ok(())
}

/// Ends the process, in order or not.
fn end_session(world: &World, disk: &SimDisk, dice: &Dice, driven: Driven) {
    let in_order = dice.once_in(3);
    if in_order && !world.lock().down {
        // What does not end cleanly was told to be unknown.
        let _ = driven.wait(driven.broker.shutdown());
        world.lock().look();
    }
    let unanswered = {
        let mut state = world.lock();
        if !state.down {
            let crash = Crash::any(dice);
            state.crash_now(disk, crash);
        }
        let produces = std::mem::take(&mut state.produces);
        let repeats = std::mem::take(&mut state.repeats);
        (produces, repeats, std::mem::take(&mut state.commits))
    };
    drop(unanswered);
    drop(driven);
}
