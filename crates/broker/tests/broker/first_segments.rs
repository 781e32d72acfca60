//! The first segments of many partitions are begun together: a crash at any moment takes nothing away that was
//! acknowledged, and a partition that finds no space fails alone.

use std::io::ErrorKind;
use std::sync::atomic::Ordering::Relaxed;

use bytes::Bytes;
use flowstone_broker::Error;
use flowstone_disk::OpKind;

use crate::harness::{Driven, FIRST_PARTITION, Machine, keyed, partition_dir};

const PARTITIONS: u32 = 8;
const RECORDS: usize = 64;

/// Some records for each of the partitions, in one request.
fn records() -> Bytes {
    let keys: Vec<_> = (0..RECORDS).map(|n| format!("stand {n}")).collect();
    let records: Vec<_> = keys
        .iter()
        .map(|key| (key.as_str(), key.as_str()))
        .collect();
    keyed(&records)
}

/// How many records each partition has. None may be damaged.
fn counts(broker: &Driven) -> Vec<usize> {
    let (_, partitions) = broker.broker.describe_topic("visits").unwrap();
    for partition in &partitions {
        assert_eq!(partition.offline_reason, None, "{partition:?}");
    }
    (0..PARTITIONS)
        .map(|partition| broker.all("visits", partition).len())
        .collect()
}

/// How many records each partition gets of a request.
fn expected() -> Vec<usize> {
    let machine = Machine::new(1);
    let broker = machine.open();
    broker.create("visits", PARTITIONS);
    broker.produce("visits", None, records()).unwrap();
    let counts = counts(&broker);
    assert_eq!(counts.iter().sum::<usize>(), RECORDS);
    assert!(counts.iter().all(|&count| count > 0), "{counts:?}");
    counts
}

#[test]
fn they_share_their_syncs() {
    let machine = Machine::new(1);
    let broker = machine.open();
    broker.create("visits", PARTITIONS);
    let of_files = || {
        let kinds = [OpKind::SyncDir, OpKind::SyncAll, OpKind::SyncData];
        kinds.map(|kind| machine.disk.count(kind))
    };
    let (before, disks) = (of_files(), machine.disk.count(OpKind::SyncDisk));
    broker.produce("visits", None, records()).unwrap();
    assert_eq!(of_files(), before, "no file has a sync of its own");
    let disks = machine.disk.count(OpKind::SyncDisk) - disks;
    assert_eq!(disks, 3, "two for the files, and one for the records");
    drop(broker);
    machine.disk.power_cut();
    let broker = machine.open();
    assert_eq!(counts(&broker), expected());
}

#[test]
fn a_crash_between_any_two_steps_leaves_each_partition_whole() {
    let expected = expected();
    for power in [true, false] {
        for nth in 0.. {
            let machine = Machine::new(1);
            let broker = machine.open();
            broker.create("visits", PARTITIONS);
            let failed = machine.fail_behind(nth);
            let produced = broker.produce("visits", None, records());
            // Nothing that the process still does reaches the disk.
            drop(broker);
            machine.disk.clear_faults();
            if power {
                machine.disk.power_cut();
            } else {
                machine.disk.process_crash();
            }
            let broker = machine.open();
            for (partition, (count, expected)) in counts(&broker).iter().zip(&expected).enumerate()
            {
                let whole = count == expected || *count == 0 && produced.is_err();
                assert!(whole, "cut at {nth}: {partition} has {count}, {produced:?}");
                let partition = u32::try_from(partition).unwrap();
                let offset = broker.put("visits", partition, "next");
                assert_eq!(offset, *count as u64, "cut at {nth}");
            }
            if !failed.load(Relaxed) {
                assert!(produced.is_ok() && nth > 40, "{nth} operations");
                break;
            }
        }
    }
}

#[test]
fn one_that_finds_no_space_fails_alone() {
    let machine = Machine::new(1);
    let broker = machine.open();
    broker.create("visits", PARTITIONS);
    for kind in [OpKind::Open, OpKind::Reserve, OpKind::Rename] {
        let dir = partition_dir(FIRST_PARTITION + 3);
        machine.disk.set_hook(move |op| {
            let fails = op.kind == kind && op.path.starts_with(&dir);
            fails.then(|| ErrorKind::StorageFull.into())
        });
        let refused = broker.produce("visits", None, records());
        assert_eq!(refused, Err(Error::DiskFull), "{kind:?}");
        machine.disk.clear_faults();
        assert_eq!(counts(&broker)[3], 0, "{kind:?}");
    }
    let expected = expected();
    let others = counts(&broker);
    for partition in [0, 1, 2, 4, 5, 6, 7] {
        assert_eq!(others[partition], 3 * expected[partition]);
    }
    broker.produce("visits", None, records()).unwrap();
    drop(broker);
    machine.disk.power_cut();
    assert_eq!(counts(&machine.open())[3], expected[3]);
}
