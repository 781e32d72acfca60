//! The ways in which a machine goes down.

use std::fmt;

use flowstone_disk::SimDisk;
use flowstone_tests::Dice;

use crate::ledger::Ledger;

/// How the machine, or the process on it, ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Crash {
    /// The power goes: what was not synced is there or not.
    PowerCut,
    /// The process dies, and the page cache survives.
    ProcessDeath,
    /// The system could not write pages back and took them for clean; then the process dies.
    LostPages,
}

impl Crash {
    pub(crate) fn any(dice: &Dice) -> Self {
        match dice.pick(0..5) {
            0..2 => Self::PowerCut,
            2 => Self::ProcessDeath,
            _ => Self::LostPages,
        }
    }

    pub(crate) fn happen(self, disk: &SimDisk) {
        match self {
            Self::PowerCut => disk.power_cut(),
            Self::ProcessDeath => disk.process_crash(),
            Self::LostPages => {
                disk.fail_writeback();
                disk.process_crash();
            }
        }
    }

    /// What was promised only for as long as the power is on is so no more.
    pub(crate) fn note(self, ledger: &mut Ledger) {
        if self == Self::PowerCut {
            ledger.power_cut();
        }
    }
}

/// What is tried at a point, before recoveries that are cut short are put in between.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Way {
    PowerCut,
    ProcessDeath,
    /// The process dies, the next one serves what it finds, and then the power goes.
    DeathServedPowerCut,
    /// The same, with pages that a failed sync has left clean and wrong.
    LostPagesServedPowerCut,
}

impl Way {
    pub(crate) fn any(dice: &Dice) -> Self {
        match dice.pick(0..100) {
            0..40 => Self::PowerCut,
            40..55 => Self::ProcessDeath,
            55..75 => Self::DeathServedPowerCut,
            _ => Self::LostPagesServedPowerCut,
        }
    }

    pub(crate) fn crash(self) -> Crash {
        match self {
            Self::PowerCut => Crash::PowerCut,
            Self::ProcessDeath | Self::DeathServedPowerCut => Crash::ProcessDeath,
            Self::LostPagesServedPowerCut => Crash::LostPages,
        }
    }

    pub(crate) fn serves_between(self) -> bool {
        matches!(
            self,
            Self::DeathServedPowerCut | Self::LostPagesServedPowerCut
        )
    }
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::PowerCut => "power cut",
            Self::ProcessDeath => "process death",
            Self::DeathServedPowerCut => "process death, served restart, power cut",
            Self::LostPagesServedPowerCut => {
                "failed writeback, process death, served restart, power cut"
            }
        })
    }
}
