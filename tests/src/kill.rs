//! The kill rig: the real binary under load, killed, stopped and asked to end at any time, over and
//! over, also while it starts. After each time all that is new is read and held against the history,
//! with a sample of what is old; every so often all of it. What a cycle costs does not grow.

mod blow;
mod check;
mod load;
mod report;

use std::time::{Duration, Instant};

use crate::work::{Endless, Maker, Work};
use crate::{Broker, Dice, Proxy, Stub};

use blow::Blow;
use check::Checker;
use load::Lanes;

pub use report::Report;

/// The topic that is produced to.
const TOPIC: &str = "kills";
/// Its partitions.
const PARTITIONS: i32 = 8;
/// Segments roll every few cycles: a kill may come in the middle of that, too.
const CONFIG: &str = "[limits]\nmin_segment_bytes = 524_288\nmax_record_bytes = 65_536\n\
                      max_request_bytes = 262_144\nmax_records_per_request = 1_024\n";
const SEGMENT_BYTES: &str = "512KiB";
/// Nothing that has to come takes anywhere near this.
const WAIT: Duration = Duration::from_secs(60);
/// A call that is not answered for so long is given up. Some stops last longer.
const PATIENCE: Duration = Duration::from_millis(250);
/// So often the files are verified while no broker runs.
const CYCLES_PER_VERIFY: u64 = 10;

/// Ends the broker so many times and checks it each time. `progress` is told of each cycle.
///
/// # Panics
/// When a promise is broken, or anything else goes wrong. The data directory is kept then.
pub async fn run(cycles: u64, dice: Dice, mut progress: impl FnMut(u64, &Report)) -> Report {
    let work = Work::with_patience(TOPIC, PATIENCE);
    let mut broker = Broker::with_config(CONFIG).kept_after_failure();
    // The binary may have been built for it.
    let begun = Instant::now();
    let partitions = PARTITIONS.to_string();
    let create = ["topic", "create", TOPIC, "-p", &partitions];
    let sized = ["--segment-bytes", SEGMENT_BYTES];
    broker.flowstone(create.iter().chain(&sized)).run().ok();

    // One producer lives through all of it and connects again by itself; all others end with each
    // broker.
    let proxy = Proxy::start().await;
    proxy.point_to(Some(broker.address()));
    let endless = Endless::start(&work, &proxy, Maker::new(0, &dice)).await;
    let mut lanes = Lanes::new(&dice);
    let mut checker = Checker::new(&work, &dice);
    let mut report = Report::default();

    for cycle in 1..=cycles {
        let when = format!("cycle {cycle}");
        proxy.point_to(Some(broker.address()));
        let running = lanes.start(&work, &broker, &dice).await;
        let more = dice.pick(50..700);
        // It takes its time to connect again. Most brokers end before it, or while it is at it.
        let of_endless = if dice.once_in(3) { dice.pick(1..40) } else { 0 };
        let reached = tokio::time::timeout(WAIT, async {
            endless.acknowledged_beyond(of_endless).await;
            work.acknowledged_beyond(more).await;
        });
        let counts = || work.history().counts();
        assert!(
            reached.await.is_ok(),
            "{when}: producing stalled: {:?}",
            counts()
        );
        // An ack comes right after a sync. The end is to come anywhere.
        tokio::time::sleep(Duration::from_millis(dice.pick(0..12))).await;
        let blow = Blow::choose(&dice);
        blow.strike(&mut broker, &work, &dice, &mut report).await;
        proxy.point_to(None);
        tokio::time::timeout(WAIT, lanes.join(running))
            .await
            .unwrap_or_else(|_| panic!("{when}: a call neither ends nor fails"));

        // Sometimes it is killed again before or while it recovers.
        while dice.once_in(3) {
            let ms = if dice.once_in(2) { 6 } else { 80 };
            let delay = Duration::from_micros(dice.pick(0..ms * 1_000));
            broker.restart_and_kill9(delay);
            report.kills_at_start += 1;
        }
        if cycle.is_multiple_of(CYCLES_PER_VERIFY) {
            verify(&broker);
            report.verified += 1;
        }
        broker.restart();
        report.restarts += 1;
        checker.check(&broker, &when).await;
        report.cycles = cycle;
        report.note(&work, &broker, &checker, begun);
        progress(cycle, &report);
    }

    proxy.point_to(Some(broker.address()));
    tokio::time::timeout(WAIT, endless.end())
        .await
        .expect("the last records are answered");
    checker.check_all(&broker, "in the end").await;
    assert!(broker.terminate().status.success(), "it ends well");
    verify(&broker);
    report.verified += 1;
    broker.restart();
    checker.check_all(&broker, "after the last restart").await;

    report.note(&work, &broker, &checker, begun);
    let counts = report.counts;
    let unanswered = counts.unanswered_and_read + counts.unanswered_and_absent;
    assert!(
        unanswered as u64 >= cycles / 2,
        "a kill interrupts something: {counts:?}"
    );
    let stub = connect(&broker).await;
    let committed = crate::work::committed(&stub).await;
    assert!(
        cycles < 5 || !committed.is_empty(),
        "the reader has committed"
    );
    report
}

async fn connect(broker: &Broker) -> Stub {
    Stub::connect(&broker.url())
        .await
        .expect("a broker that is ready takes connections")
}

/// The files of a broker that is not running are sound; a torn tail is not damage.
fn verify(broker: &Broker) {
    let data_dir = broker.data_dir().into_os_string();
    let args = ["log".as_ref(), "verify".as_ref(), data_dir.as_os_str()];
    broker.flowstone(args).run().ok();
}
