//! What a process and its descendants have cost, as `/proc` tells it.

use std::collections::BTreeMap;
use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

/// Clock ticks a second in `/proc/PID/stat`: the same on every Linux.
const TICKS_PER_SECOND: f64 = 100.0;
const SAMPLE_EVERY: Duration = Duration::from_millis(100);

/// What is read of `/proc/PID/stat`.
#[derive(Clone, Copy, Debug)]
struct Stat {
    parent: u32,
    ticks: u64,
    /// Of children that have ended and were waited for.
    ticks_of_ended: u64,
}

fn stat(pid: u32) -> Option<Stat> {
    parse_stat(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

fn parse_stat(line: &str) -> Option<Stat> {
    // The command's name stands in parentheses and may hold anything, also spaces and parentheses.
    let (_, behind_name) = line.rsplit_once(") ")?;
    let fields: Vec<&str> = behind_name.split(' ').collect();
    let number = |index: usize| fields.get(index)?.parse::<u64>().ok();
    Some(Stat {
        parent: u32::try_from(number(1)?).ok()?,
        ticks: number(11)? + number(12)?,
        ticks_of_ended: number(13)? + number(14)?,
    })
}

/// The process and all that descend from it.
pub(crate) fn tree(root: u32) -> Vec<u32> {
    let mut children: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
    let names = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = names.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    for pid in pids {
        if let Some(stat) = stat(pid) {
            children.entry(stat.parent).or_default().push(pid);
        }
    }
    let mut found = vec![root];
    let mut next = 0;
    while let Some(pid) = found.get(next) {
        found.extend(children.remove(pid).unwrap_or_default());
        next += 1;
    }
    found
}

/// Whether the process lives and its parent does not, so that it was given to another one.
pub(crate) fn is_orphan(pid: u32) -> bool {
    stat(pid).is_some_and(|stat| stat.parent <= 1)
}

/// CPU time of a process and its descendants so far.
pub(crate) fn cpu_seconds(root: u32) -> f64 {
    let stats = tree(root).into_iter().filter_map(stat);
    let ticks: u64 = stats.map(|stat| stat.ticks + stat.ticks_of_ended).sum();
    ticks as f64 / TICKS_PER_SECOND
}

/// Memory of a process and its descendants, without mapped files.
fn anonymous_bytes(root: u32) -> u64 {
    tree(root).into_iter().filter_map(anonymous_bytes_of).sum()
}

fn anonymous_bytes_of(pid: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("RssAnon:"))?;
    let kib: u64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
    Some(kib << 10)
}

/// What a server costs from now on.
#[derive(Debug)]
pub(crate) struct Watch {
    pid: u32,
    cpu_seconds_before: f64,
    most_anonymous: Arc<AtomicU64>,
    over: Arc<AtomicBool>,
    sampler: Option<JoinHandle<()>>,
}

/// What a server has cost.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cost {
    /// CPU time of all its processes.
    pub(crate) cpu_seconds: f64,
    /// The most memory that was seen, without mapped files.
    pub(crate) anonymous_bytes_max: u64,
}

impl Watch {
    /// Begins to watch a process and its descendants.
    pub(crate) fn begin(pid: u32) -> Self {
        let most_anonymous = Arc::new(AtomicU64::new(anonymous_bytes(pid)));
        let over = Arc::new(AtomicBool::new(false));
        let (most, ended) = (Arc::clone(&most_anonymous), Arc::clone(&over));
        let sampler = std::thread::spawn(move || {
            while !ended.load(Ordering::Relaxed) {
                most.fetch_max(anonymous_bytes(pid), Ordering::Relaxed);
                std::thread::park_timeout(SAMPLE_EVERY);
            }
        });
        Self {
            pid,
            cpu_seconds_before: cpu_seconds(pid),
            most_anonymous,
            over,
            sampler: Some(sampler),
        }
    }

    /// What it has cost until now.
    pub(crate) fn cost(&self) -> Cost {
        let now = anonymous_bytes(self.pid);
        Cost {
            cpu_seconds: cpu_seconds(self.pid) - self.cpu_seconds_before,
            anonymous_bytes_max: self
                .most_anonymous
                .fetch_max(now, Ordering::Relaxed)
                .max(now),
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        if let Some(sampler) = self.sampler.take() {
            sampler.thread().unpark();
            // It only reads; had it panicked, the memory told would be too small and nothing else.
            let _ = sampler.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_parentheses_does_not_shift_the_fields() {
        let line = "7 (a) b (c)) S 3 7 7 0 -1 4194304 100 0 0 0 11 22 33 44 20 0 1 0 5 6 7";
        let stat = parse_stat(line).unwrap();
        assert_eq!(stat.parent, 3);
        assert_eq!(stat.ticks, 33);
        assert_eq!(stat.ticks_of_ended, 77);
    }

    #[test]
    fn this_process_has_cost_something_and_holds_its_child() {
        let me = std::process::id();
        assert!(anonymous_bytes(me) > 0);
        let mut child = std::process::Command::new("sleep")
            .arg("5")
            .spawn()
            .unwrap();
        assert!(tree(me).contains(&child.id()));
        child.kill().unwrap();
        child.wait().unwrap();
    }
}
