//! Processes that die, forks, time, and what is counted.

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::path::Path;
use std::time::Duration;

use super::{SECTOR, create, create_durable, read};
use crate::{Clock, Disk, ManualClock, OpKind, OpenMode, SimDisk};

#[test]
fn a_crash_of_the_process_keeps_what_was_written_and_kills_every_handle() {
    let sim = SimDisk::new(1);
    let disk = sim.disk();
    let file = create(&*disk, "f");
    file.write_all_at(b"x", 0).unwrap();
    let map = file.map(4096).unwrap();
    let lock = disk.lock(Path::new("LOCK")).unwrap();
    sim.process_crash();

    assert_eq!(read(&sim, "f").unwrap(), b"x");
    let next = sim.disk();
    let held = next.lock(Path::new("LOCK")).unwrap();
    drop(lock);
    assert_eq!(
        sim.lock(Path::new("LOCK")).unwrap_err().kind(),
        ErrorKind::WouldBlock,
        "a dead lock frees nothing"
    );
    drop(held);

    file.len().unwrap_err();
    file.write_all_at(b"y", 0).unwrap_err();
    file.sync_data().unwrap_err();
    map.populate(0..1).unwrap_err();
    disk.list(Path::new("/")).unwrap_err();
    assert_eq!(read(&*next, "f").unwrap(), b"x");
}

#[test]
fn operations_are_counted_and_traced() {
    let sim = SimDisk::new(1);
    let file = create(&sim, "f");
    sim.start_trace();
    file.reserve(0, 4096).unwrap();
    file.write_all_at(b"abc", 7).unwrap();
    sim.rename(Path::new("f"), Path::new("g")).unwrap();
    let trace = sim.take_trace();
    let kinds: Vec<OpKind> = trace.iter().map(|op| op.kind).collect();
    assert_eq!(kinds, [OpKind::Reserve, OpKind::Write, OpKind::Rename]);
    assert_eq!(
        (trace[1].at, trace[1].len, &*trace[1].path),
        (7, 3, Path::new("f"))
    );
    assert_eq!(trace[2].to.as_deref(), Some(Path::new("g")));
    assert_eq!(sim.count_all(), 4);
    assert!(sim.take_trace().is_empty(), "the trace has ended");
}

#[test]
fn a_fork_is_a_machine_of_its_own() {
    let sim = SimDisk::new(1);
    let disk = sim.disk();
    let file = disk.open(Path::new("f"), OpenMode::CreateNew).unwrap();
    file.write_all_at(b"old", 0).unwrap();
    let _lock = disk.lock(Path::new("LOCK")).unwrap();
    let fork = sim.fork(7);

    file.write_all_at(b"new", 0).unwrap();
    assert_eq!(read(&fork, "f").unwrap(), b"old");
    let forked = fork.open(Path::new("f"), OpenMode::ReadWrite).unwrap();
    forked.write_all_at(b"two", 0).unwrap();
    fork.remove_file(Path::new("LOCK")).unwrap();
    fork.process_crash();
    assert_eq!(read(&fork, "f").unwrap(), b"two");

    assert_eq!(read(&*disk, "f").unwrap(), b"new", "its process goes on");
    assert_eq!(sim.list(Path::new("/")).unwrap().len(), 2);
    file.sync_all().unwrap();
    sim.power_cut();
}

#[test]
fn forks_lose_what_is_not_synced_each_in_its_own_way() {
    let sim = SimDisk::new(1);
    let file = create_durable(&sim, "f", &[1; 4 * SECTOR]);
    file.write_all_at(&[2; 4 * SECTOR], 0).unwrap();
    let after = |seed| {
        let fork = sim.fork(seed);
        fork.power_cut();
        read(&fork, "f").unwrap()
    };
    assert_eq!(after(3), after(3));
    let kept: BTreeSet<_> = (0..64).map(after).collect();
    assert_eq!(kept.len(), 16, "every subset of four sectors");
}

#[test]
fn every_operation_takes_time_by_seed() {
    let passed = |seed| {
        let (sim, clock) = (SimDisk::new(1), ManualClock::new(0));
        sim.set_delays(&clock, Duration::from_millis(10), seed);
        let file = create(&sim, "f");
        let mut times = vec![clock.monotonic()];
        for _ in 0..20 {
            file.write_all_at(b"x", 0).unwrap();
            times.push(clock.monotonic());
        }
        times
    };
    let times = passed(1);
    assert!(times.is_sorted());
    assert!(times[20] > Duration::from_millis(20) && times[20] < Duration::from_millis(210));
    assert_eq!(times, passed(1));
    assert_ne!(times, passed(2));
}
