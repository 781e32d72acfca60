//! Operations of the simulated disk, counted and traced, and the faults put into them.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::{ManualClock, Random, SeededRandom};

/// What is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[allow(
    missing_docs,
    reason = "each is named for the method of Disk, File or Map that it is"
)]
pub enum OpKind {
    Open,
    Rename,
    RemoveFile,
    RemoveDirAll,
    CreateDirAll,
    SyncDir,
    SyncDisk,
    List,
    Lock,
    Read,
    Write,
    Reserve,
    Punch,
    SyncData,
    SyncAll,
    Map,
    Populate,
}

/// One operation, before it is done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Op {
    /// What is done.
    pub kind: OpKind,
    /// To which file or directory, by the name it was opened under.
    pub path: PathBuf,
    /// Where a rename goes.
    pub to: Option<PathBuf>,
    /// Position of the first byte concerned; 0 where there is none.
    pub at: u64,
    /// How many bytes; 0 where there are none.
    pub len: u64,
}

/// Decides whether an operation fails, and how.
pub(super) type Hook = Arc<dyn Fn(&Op) -> Option<io::Error> + Send + Sync>;

#[derive(Default)]
pub(super) struct Faults {
    planned: Vec<Planned>,
    pub(super) hook: Option<Hook>,
    pub(super) delays: Option<Delays>,
    pub(super) counts: BTreeMap<OpKind, u64>,
    pub(super) trace: Option<Vec<Op>>,
}

/// How long operations take.
pub(super) struct Delays {
    pub(super) clock: ManualClock,
    pub(super) most: Duration,
    pub(super) random: SeededRandom,
}

impl Delays {
    fn pass(&self) {
        let most = u64::try_from(self.most.as_nanos()).unwrap_or(u64::MAX);
        if most > 0 {
            let nanos = self.random.u64() % most;
            self.clock.advance(Duration::from_nanos(nanos));
        }
    }
}

struct Planned {
    kind: OpKind,
    /// How many operations of this kind still pass.
    passing: u64,
    error: io::ErrorKind,
}

impl Faults {
    pub(super) fn plan(&mut self, kind: OpKind, nth: u64, error: io::ErrorKind) {
        let passing = nth.checked_sub(1).expect("operations are counted from 1");
        self.planned.push(Planned {
            kind,
            passing,
            error,
        });
    }

    pub(super) fn clear(&mut self) {
        self.planned.clear();
        self.hook = None;
    }

    /// Counts an operation, writes it down, and says whether it was planned to fail.
    pub(super) fn note(&mut self, op: &Op) -> Option<io::Error> {
        *self.counts.entry(op.kind).or_default() += 1;
        if let Some(delays) = &self.delays {
            delays.pass();
        }
        if let Some(trace) = &mut self.trace {
            trace.push(op.clone());
        }
        let mut error = None;
        self.planned.retain_mut(|planned| {
            if planned.kind != op.kind {
                return true;
            }
            if planned.passing == 0 {
                error.get_or_insert(planned.error);
                return false;
            }
            planned.passing -= 1;
            true
        });
        error.map(|kind| io::Error::new(kind, format!("a planned failure of {:?}", op.kind)))
    }
}

impl fmt::Debug for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Faults")
            .field("planned", &self.planned.len())
            .field("hook", &self.hook.is_some())
            .finish_non_exhaustive()
    }
}
