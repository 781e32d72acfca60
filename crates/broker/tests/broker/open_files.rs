//! A process that has as many files open as it may: what needs another one is refused by name, and
//! everything works again as soon as there is one.

use std::io::{Error as IoError, ErrorKind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

use flowstone_broker::{Cursor, Error, OpenError, OpenLimits, Start, TopicSpec};
use flowstone_disk::OpKind;

use crate::harness::{Driven, Machine, at, values};

const EMFILE: i32 = 24;

/// While it is set, nothing more can be opened.
fn switch(machine: &Machine) -> Arc<AtomicBool> {
    let out = Arc::new(AtomicBool::new(false));
    let is_out = Arc::clone(&out);
    machine.disk.set_hook(move |op| {
        let opens = matches!(op.kind, OpKind::Open | OpKind::List | OpKind::RemoveDirAll);
        (opens && is_out.load(Ordering::Relaxed)).then(|| IoError::from_raw_os_error(EMFILE))
    });
    out
}

fn put(broker: &Driven, partition: u32) -> Result<u64, Error> {
    let records = values(["x".repeat(2000)]);
    let runs = broker.produce("visits", Some(partition), records)?;
    Ok(runs[0].base_offset)
}

fn is_online(machine: &Machine, broker: &Driven) -> bool {
    let partitions = broker.broker.describe_topic("visits").unwrap().1;
    let online = partitions.iter().all(|info| info.offline_reason.is_none());
    online && machine.fatal.lock().unwrap().is_empty()
}

#[test]
fn an_append_that_needs_a_file_is_refused_until_there_is_one() {
    let machine = Machine::new(1);
    let broker = machine.open();
    broker.create("visits", 2);
    assert_eq!(put(&broker, 0), Ok(0));
    let out = switch(&machine);
    out.store(true, Ordering::Relaxed);
    let mut taken = 1;
    let refused = loop {
        match put(&broker, 0) {
            Ok(_) => taken += 1,
            Err(error) => break error,
        }
        assert!(taken < 100, "the segment never rolls");
    };
    assert!(taken > 1, "what fits into open files is taken");
    assert_eq!(refused, Error::TooManyOpenFiles);
    assert_eq!(put(&broker, 1), Err(Error::TooManyOpenFiles));
    let cursor = Cursor {
        group: "billing".to_owned(),
        ..at("visits", 0, 1)
    };
    let commit = || broker.commit(std::slice::from_ref(&cursor));
    assert_eq!(commit(), Err(Error::TooManyOpenFiles));
    let create = |name| {
        let topic = TopicSpec::new(name, 1);
        broker
            .wait(broker.broker.create_topic(topic, false))
            .map(drop)
    };
    assert_eq!(create("orders"), Err(Error::TooManyOpenFiles));
    assert!(is_online(&machine, &broker));

    out.store(false, Ordering::Relaxed);
    assert_eq!(put(&broker, 0), Ok(taken));
    assert_eq!(put(&broker, 1), Ok(0));
    assert_eq!(commit(), Ok(vec![]));
    assert_eq!(create("orders"), Ok(()));
    broker.shutdown();
    let broker = machine.open();
    assert_eq!(broker.all("visits", 0).len() as u64, taken + 1);
}

#[test]
fn a_read_that_needs_a_file_says_so_and_takes_nothing_offline() {
    let machine = Machine::new(1);
    let broker = machine.open();
    broker.create("visits", 1);
    for offset in 0..20 {
        assert_eq!(put(&broker, 0), Ok(offset));
    }
    broker.shutdown();
    let broker = machine.open();
    let out = switch(&machine);
    out.store(true, Ordering::Relaxed);
    let read = broker.fetch("visits", 0, Start::Earliest);
    assert_eq!(read.map(drop), Err(Error::TooManyOpenFiles));
    let found = broker.fetch("visits", 0, Start::TimeMs(0));
    assert_eq!(found.map(drop), Err(Error::TooManyOpenFiles));
    assert!(is_online(&machine, &broker));
    out.store(false, Ordering::Relaxed);
    assert_eq!(broker.all("visits", 0).len(), 20);
}

#[test]
fn a_partition_that_finds_no_file_to_recover_with_waits_for_one() {
    let machine = Machine::new(1);
    let broker = machine.open();
    broker.create("visits", 1);
    assert_eq!(put(&broker, 0), Ok(0));
    let out = switch(&machine);
    out.store(true, Ordering::Relaxed);
    machine.disk.fail_nth(OpKind::Write, 1, ErrorKind::Other);
    let lost = put(&broker, 0);
    assert!(matches!(lost, Err(Error::OutcomeUnknown { .. })));
    for _ in 0..3 {
        assert_eq!(put(&broker, 0), Err(Error::TooManyOpenFiles));
    }
    assert!(is_online(&machine, &broker));
    out.store(false, Ordering::Relaxed);
    assert_eq!(put(&broker, 0), Ok(1));
    assert_eq!(broker.all("visits", 0).len(), 2);
}

#[test]
fn a_start_without_enough_files_is_refused_whichever_is_missing() {
    let machine = Machine::new(1);
    let broker = machine.open();
    broker.create("visits", 3);
    for partition in [0, 1, 2, 0, 1, 2] {
        put(&broker, partition).unwrap();
    }
    let cursor = Cursor {
        group: "billing".to_owned(),
        ..at("visits", 0, 1)
    };
    broker.commit(&[cursor]).unwrap();
    broker.shutdown();
    let mut refused = 0;
    for nth in 1.. {
        let left = AtomicI64::new(nth);
        machine.disk.set_hook(move |op| {
            let opens = matches!(op.kind, OpKind::Open | OpKind::List);
            let now = opens && left.fetch_sub(1, Ordering::Relaxed) <= 1;
            now.then(|| IoError::from_raw_os_error(EMFILE))
        });
        let opened = machine.try_open();
        machine.disk.clear_faults();
        match opened {
            Ok(_) => break,
            Err(Error::Open(OpenError::TooManyOpenFiles { .. })) => refused += 1,
            Err(error) => panic!("at file {nth}: {error}"),
        }
    }
    assert!(refused > 10, "only {refused} files are opened");
    let broker = machine.open();
    for partition in 0..3 {
        assert_eq!(broker.all("visits", partition).len(), 2);
        assert_eq!(put(&broker, partition), Ok(2));
    }
}

#[test]
fn many_partitions_make_do_with_few_files_and_maps() {
    let machine = Machine::new(2);
    let config = |files, maps| {
        let mut config = machine.config();
        config.open = OpenLimits {
            files,
            maps,
            index_bytes: 1,
        };
        config
    };
    let mut opened = Vec::new();
    for (files, maps) in [(3, 5), (1, 1), (1000, 1000)] {
        let broker = machine.open_with(config(files, maps)).unwrap();
        if files == 3 {
            broker.create("visits", 20);
        }
        let opens = machine.disk.count(OpKind::Open);
        let mut offset = 0;
        for _ in 0..10 {
            for partition in 0..20 {
                offset = put(&broker, partition).unwrap();
            }
        }
        opened.push(machine.disk.count(OpKind::Open) - opens);
        assert_eq!(offset % 10, 9);
        for partition in 0..20 {
            assert_eq!(
                broker.all("visits", partition).len() as u64,
                offset + 1,
                "partition {partition} with {files} files"
            );
        }
        assert!(is_online(&machine, &broker));
        broker.shutdown();
    }
    let [_, few, many] = opened[..] else {
        panic!("three lives")
    };
    assert!(few > many + 120, "{opened:?}: each append opened its file");
}
