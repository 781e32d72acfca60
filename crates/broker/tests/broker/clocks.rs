//! The wall clock jumps by an hour, back and forth: nothing goes early, offsets grow, nobody is
//! put out.

use std::time::Duration;

use flowstone_broker::{SubscribeRequest, TopicSpec};
use flowstone_disk::{Clock, Random, SeededRandom};

use crate::harness::{Driven, Machine, START_MS, read};

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);
const HOUR_MS: i64 = 3_600_000;
const RETENTION: Duration = Duration::from_secs(2 * 3600);

/// A broker with one partition that keeps records for two hours, and when each was appended.
struct Life {
    machine: Machine,
    broker: Option<Driven>,
    /// When each record was appended, in time that never jumps.
    appended: Vec<Duration>,
    start: u64,
    /// The lowest that the wall clock stood against true time while something was appended.
    lowest_ms: i64,
}

impl Life {
    fn new(seed: u64) -> Self {
        let machine = Machine::new(seed);
        let broker = machine.open();
        let spec = TopicSpec {
            retention_ms: Some(2 * HOUR_MS),
            ..TopicSpec::new("visits", 1)
        };
        broker
            .wait(broker.broker.create_topic(spec, false))
            .unwrap();
        Self {
            machine,
            broker: Some(broker),
            appended: Vec::new(),
            start: 0,
            lowest_ms: 0,
        }
    }

    fn broker(&self) -> &Driven {
        self.broker.as_ref().unwrap()
    }

    fn true_ms(&self) -> i64 {
        START_MS + self.machine.clock.monotonic().as_millis() as i64
    }

    /// Sets the wall clock so far from true time.
    fn set_off_by(&self, ms: i64) {
        self.machine.clock.set(self.true_ms() + ms);
    }

    fn put(&mut self) {
        let offset = self.broker().put("visits", 0, &"x".repeat(3000));
        assert_eq!(offset, self.appended.len() as u64, "offsets grow by one");
        self.appended.push(self.machine.clock.monotonic());
        let off_by = self.machine.clock.now_ms() - self.true_ms();
        self.lowest_ms = self.lowest_ms.min(off_by);
    }

    /// Applies retention and holds what it removed against true time.
    fn retain(&mut self) {
        self.broker().broker.run_retention();
        let info = self.broker().broker.describe_topic("visits").unwrap().1[0].clone();
        assert_eq!(info.high_watermark, self.appended.len() as u64);
        let now = self.machine.clock.monotonic();
        for gone in self.start..info.log_start_offset {
            let age = now - self.appended[gone as usize];
            assert!(age >= RETENTION, "record {gone} went {age:?} old");
        }
        self.start = info.log_start_offset;
    }

    /// The broker starts anew. How the clock stood before is not known to it, so that it stands
    /// as low as it ever did: the page on durability says what happens otherwise.
    fn reopen(&mut self) {
        self.broker.take().unwrap().shutdown();
        self.set_off_by(self.lowest_ms);
        self.broker = Some(self.machine.open());
    }
}

#[test]
fn a_jump_forward_removes_nothing_early() {
    let mut life = Life::new(1);
    for _ in 0..10 {
        life.put();
        life.machine.clock.advance(6 * MINUTE);
    }
    life.set_off_by(HOUR_MS);
    life.machine.clock.advance(30 * MINUTE);
    life.retain();
    assert_eq!(life.start, 0, "the oldest record is 90 minutes old");
    life.machine.clock.advance(HOUR);
    life.retain();
    assert!(life.start > 0, "and now 150 minutes");
}

#[test]
fn what_was_appended_while_the_clock_was_back_is_not_removed_early_when_it_is_set_right() {
    let mut life = Life::new(2);
    life.machine.clock.advance(HOUR);
    life.set_off_by(-HOUR_MS);
    for _ in 0..10 {
        life.put();
    }
    life.set_off_by(0);
    life.machine.clock.advance(HOUR + 30 * MINUTE);
    life.retain();
    assert_eq!(life.start, 0, "all are 90 minutes old");
    life.machine.clock.advance(HOUR);
    life.retain();
    assert_eq!(life.start, 10);
}

#[test]
fn what_was_appended_while_the_clock_was_ahead_goes_late_and_goes() {
    let mut life = Life::new(3);
    life.set_off_by(HOUR_MS);
    for _ in 0..10 {
        life.put();
    }
    life.set_off_by(0);
    life.put();
    life.machine.clock.advance(RETENTION + MINUTE);
    life.retain();
    assert_eq!(life.start, 0, "their stamps say that they are an hour old");
    life.machine.clock.advance(HOUR);
    life.retain();
    assert_eq!(life.start, 11);
}

#[test]
fn a_clock_that_was_set_right_only_after_the_start_delays_nothing_for_ever() {
    let mut life = Life::new(4);
    life.machine.clock.set(0);
    life.broker.take().unwrap().shutdown();
    life.broker = Some(life.machine.open());
    life.set_off_by(0);
    for _ in 0..10 {
        life.put();
    }
    life.machine.clock.advance(RETENTION + MINUTE);
    life.retain();
    assert_eq!(life.start, 10);
}

#[test]
fn random_jumps_remove_nothing_early_and_everything_in_the_end() {
    for seed in 0..40 {
        let mut life = Life::new(seed);
        let random = SeededRandom::new(seed);
        let below = |n: u64| random.u64() % n;
        for _ in 0..200 {
            match below(8) {
                0 => life.set_off_by((below(3) as i64 - 1) * HOUR_MS),
                1 if below(4) == 0 => life.reopen(),
                1 | 2 => life.retain(),
                3 => life
                    .machine
                    .clock
                    .advance(Duration::from_millis(below(40 * 60_000))),
                _ => life.put(),
            }
        }
        life.set_off_by(0);
        life.machine.clock.advance(2 * RETENTION);
        life.retain();
        assert_eq!(life.start, life.appended.len() as u64, "seed {seed}");
        life.put();
    }
}

#[test]
fn nobody_is_put_out_by_a_jump() {
    let life = Life::new(5);
    let broker = life.broker();
    broker.put("visits", 0, "a");
    let mut member = broker.subscribe(SubscribeRequest {
        group: Some("readers".to_owned()),
        ..read("visits")
    });
    member.assignment();
    let cursor = member.cursor();
    for off_by in [HOUR_MS, -HOUR_MS, 0] {
        life.set_off_by(off_by);
        broker.broker.run_retention();
        while broker.broker.run_pending() {}
        assert!(member.is_waiting());
        assert_eq!(broker.commit(std::slice::from_ref(&cursor)), Ok(Vec::new()));
    }
    broker.put("visits", 0, "b");
    assert_eq!(member.batch().2, ["b"]);
}
