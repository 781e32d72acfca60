//! How a broker is made to end.

use std::time::Duration;

use super::{Report, WAIT};
use crate::work::Work;
use crate::{Broker, Dice};

/// The longest that a process is kept from running, in milliseconds.
const STOP_MS: u64 = 700;

/// A way to end a process. Whatever it is, the process is gone after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Blow {
    /// SIGKILL.
    Kill,
    /// SIGSTOP, and SIGKILL after some time.
    StopAndKill,
    /// SIGSTOP, SIGCONT after some time, and SIGKILL once it serves again.
    StopAndGoOn,
    /// SIGTERM, which has to end well.
    Terminate,
    /// SIGTERM, and SIGKILL before that has ended, or just after.
    TerminateAndKill,
}

impl Blow {
    pub(super) fn choose(dice: &Dice) -> Self {
        match dice.pick(0..20) {
            0 | 1 => Self::StopAndKill,
            2..5 => Self::StopAndGoOn,
            5 => Self::Terminate,
            6 | 7 => Self::TerminateAndKill,
            _ => Self::Kill,
        }
    }

    pub(super) async fn strike(
        self,
        broker: &mut Broker,
        work: &Work,
        dice: &Dice,
        report: &mut Report,
    ) {
        match self {
            Self::Kill => {}
            Self::StopAndKill => {
                report.stops += 1;
                broker.process().stop();
                pause(dice, STOP_MS).await;
            }
            Self::StopAndGoOn => {
                report.stops += 1;
                report.went_on += 1;
                broker.process().stop();
                pause(dice, STOP_MS).await;
                broker.process().go_on();
                tokio::time::timeout(WAIT, work.acknowledged_beyond(dice.pick(1..200)))
                    .await
                    .expect("a broker that goes on after a stop serves again");
            }
            Self::Terminate => {
                report.terminations += 1;
                let status = broker.terminate().status;
                assert!(status.success(), "after SIGTERM it ends with {status}");
                return;
            }
            Self::TerminateAndKill => {
                report.terminations += 1;
                broker.process().terminate();
                pause(dice, 20).await;
                // It may have ended by itself.
                broker.process().kill9();
                report.kills += 1;
                return;
            }
        }
        broker.kill9();
        report.kills += 1;
    }
}

async fn pause(dice: &Dice, most_ms: u64) {
    tokio::time::sleep(Duration::from_micros(dice.pick(0..most_ms * 1_000))).await;
}
