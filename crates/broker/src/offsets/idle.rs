//! Groups that nobody uses any more, and how long that has been so.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

/// Since when groups have been idle: without members, and without a commit. It is looked at now and
/// then; what a look does not see, such as a member that comes and goes between two, is told by
/// [`touch`](Self::touch). So a group counts as idle from the first look that finds it so, and for no
/// longer than it was. Nothing of it is stored: after a start all begins anew.
#[derive(Debug)]
pub(crate) struct Idle {
    /// How long a group may be idle; `None` for ever.
    retention: Option<Duration>,
    since: Mutex<HashMap<String, Duration>>,
}

impl Idle {
    /// With 0 milliseconds groups are kept for ever.
    pub(crate) fn new(retention_ms: u64) -> Self {
        Self {
            retention: (retention_ms > 0).then(|| Duration::from_millis(retention_ms)),
            since: Mutex::default(),
        }
    }

    /// Whether groups are given up at all.
    pub(crate) fn is_on(&self) -> bool {
        self.retention.is_some()
    }

    /// Takes note that a group is in use.
    pub(crate) fn touch(&self, group: &str) {
        if self.is_on() {
            self.since().remove(group);
        }
    }

    /// Looks at all groups that have committed and have no members, at a steady time. Tells those that
    /// have been idle for too long.
    pub(crate) fn look(&self, now: Duration, unused: Vec<String>) -> Vec<String> {
        let mut since = self.since();
        // Those that are gone or in use are not among them any more.
        let mut before = std::mem::take(&mut *since);
        for name in unused {
            let from = before.remove(&name).unwrap_or(now);
            since.insert(name, from);
        }
        let since = since.iter();
        since
            .filter(|(_, from)| self.is_over(now, **from))
            .map(|(name, _)| name.clone())
            .collect()
    }

    /// Whether a group has been idle for too long, still.
    pub(crate) fn is_due(&self, now: Duration, group: &str) -> bool {
        let from = self.since().get(group).copied();
        from.is_some_and(|from| self.is_over(now, from))
    }

    fn is_over(&self, now: Duration, from: Duration) -> bool {
        self.retention
            .is_some_and(|retention| now.saturating_sub(from) >= retention)
    }

    fn since(&self) -> MutexGuard<'_, HashMap<String, Duration>> {
        self.since
            .lock()
            .expect("nothing panics with the idle groups in hand")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|&name| name.to_owned()).collect()
    }

    #[test]
    fn a_group_is_due_once_it_was_idle_at_every_look_for_the_whole_time() {
        let idle = Idle::new(10_000);
        assert_eq!(idle.look(seconds(100), names(&["a", "b", "c"])), names(&[]));
        idle.touch("b");
        assert_eq!(idle.look(seconds(105), names(&["a", "b"])), names(&[]));
        assert_eq!(idle.look(seconds(109), names(&["a", "b", "c"])), names(&[]));
        assert_eq!(
            idle.look(seconds(110), names(&["a", "b", "c"])),
            names(&["a"])
        );
        assert!(idle.is_due(seconds(110), "a"));
        idle.touch("a");
        assert!(!idle.is_due(seconds(110), "a"), "it was used since");
        assert_eq!(
            idle.look(seconds(115), names(&["a", "b", "c"])),
            names(&["b"])
        );
    }

    #[test]
    fn without_a_time_nothing_is_ever_due() {
        let idle = Idle::new(0);
        assert!(!idle.is_on());
        assert_eq!(idle.look(seconds(0), names(&["a"])), names(&[]));
        assert_eq!(idle.look(seconds(1 << 40), names(&["a"])), names(&[]));
    }
}
