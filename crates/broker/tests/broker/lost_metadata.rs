//! Internal logs that a repair has left a gap in: the broker starts, says so, and deletes nothing that it
//! does not know.

use std::path::Path;

use flowstone_broker::{Cursor, Env, Offline};
use flowstone_disk::Disk;
use flowstone_format::{Offset, PartitionId};
use flowstone_log::repair;

use crate::harness::{DATA_DIR, FIRST_PARTITION, Machine, at, partition_dir};

/// Flips a byte of the `nth` frame of an internal log and repairs it. Frames of a command are small.
fn lose(machine: &Machine, id: u64, nth: usize) {
    let mut frames = Vec::new();
    let data_dir = Path::new(DATA_DIR);
    let id = PartitionId::new(id);
    flowstone_log::inspect::inspect(&machine.disk.disk(), data_dir, id, |_, frame| {
        frames.push(frame.position.get());
    })
    .unwrap();
    let path = machine.path(id.get(), ".segment");
    machine.flip(&path, frames[nth] + 20);
    let env: Env = machine.env();
    let plan = repair::plan(&env.disk, data_dir, id, Offset::ZERO).unwrap();
    assert_eq!(plan.lost_offsets(), 1);
    plan.execute(&env).unwrap();
}

const GROUP: &str = "readers";

fn of_group(topic: &str, offset: u64) -> Cursor {
    Cursor {
        group: GROUP.to_owned(),
        ..at(topic, 0, offset)
    }
}

/// Three topics with a record each.
fn filled() -> Machine {
    let machine = Machine::new(1);
    let broker = machine.open();
    for (name, count) in [("first", 2), ("second", 1), ("third", 2)] {
        broker.create(name, count);
        broker.put(name, 0, name);
    }
    broker.commit(&[of_group("third", 1)]).unwrap();
    broker.shutdown();
    machine
}

#[test]
fn a_topic_whose_making_is_lost_keeps_its_files_and_no_other_gets_its_ids() {
    let machine = filled();
    lose(&machine, 0, 1);
    for start in 0..2 {
        let broker = machine.open();
        assert_eq!(broker.all("first", 0), ["first"], "start {start}");
        assert_eq!(broker.all("third", 0), ["third"], "start {start}");
        assert!(broker.broker.describe_topic("second").is_err());
        broker.shutdown();
    }
    let second = FIRST_PARTITION + 2;
    let kept = Path::new(DATA_DIR)
        .join("aside")
        .join(format!("{second:010}"));
    let names = machine.disk.list(&kept).unwrap();
    assert!(
        names.iter().any(|entry| entry.name.ends_with(".segment")),
        "{names:?}"
    );
    assert!(machine.disk.list(&partition_dir(second)).is_err());

    // It is made anew, with other ids, and so on at the next start.
    let broker = machine.open();
    broker.create("second", 1);
    broker.put("second", 0, "anew");
    broker.shutdown();
    let broker = machine.open();
    assert_eq!(broker.all("second", 0), ["anew"]);
    assert_eq!(broker.all("third", 0), ["third"]);
    assert!(
        machine
            .disk
            .list(&partition_dir(FIRST_PARTITION + 5))
            .is_ok()
    );
}

#[test]
fn the_last_topic_lost_is_no_reason_to_give_its_ids_to_another() {
    let machine = filled();
    lose(&machine, 0, 2);
    let broker = machine.open();
    assert!(broker.broker.describe_topic("third").is_err());
    broker.create("fourth", 1);
    broker.put("fourth", 0, "fourth");
    broker.shutdown();
    let broker = machine.open();
    assert_eq!(broker.all("fourth", 0), ["fourth"]);
    assert_eq!(broker.all("first", 0), ["first"]);
    // The files of `third` are where they were kept, and ids behind them went to `fourth`.
    let third = FIRST_PARTITION + 3;
    let kept = Path::new(DATA_DIR)
        .join("aside")
        .join(format!("{third:010}"));
    assert!(machine.disk.list(&kept).is_ok());
    assert!(
        machine
            .disk
            .list(&partition_dir(FIRST_PARTITION + 4))
            .is_ok()
    );
}

#[test]
fn commits_that_are_lost_are_read_again_from_earlier_ones() {
    let machine = Machine::new(1);
    let broker = machine.open();
    broker.create("visits", 1);
    for n in 0..3 {
        broker.put("visits", 0, "x");
        broker.commit(&[of_group("visits", n + 1)]).unwrap();
    }
    broker.shutdown();
    lose(&machine, 1, 2);
    let broker = machine.open();
    let found = broker.wait(broker.broker.describe_group(GROUP)).unwrap();
    assert_eq!(found.offsets[0].committed_offset, Some(2));
    broker.commit(&[of_group("visits", 3)]).unwrap();
    broker.shutdown();
    let broker = machine.open();
    let found = broker.wait(broker.broker.describe_group(GROUP)).unwrap();
    assert_eq!(found.offsets[0].committed_offset, Some(3));
}

#[test]
fn tools_know_whose_a_partition_is_and_how_far_groups_have_read() {
    let machine = filled();
    let read = || Offline::read(&machine.disk.disk(), Path::new(DATA_DIR));
    let offline = read();
    assert_eq!(offline.doubts, Vec::<String>::new());
    let third = offline.find("third", 0).unwrap();
    assert_eq!(third.get(), FIRST_PARTITION + 3);
    assert_eq!(offline.committed(third).get(), 1);
    assert_eq!(offline.find("third", 2), None);
    assert_eq!(
        offline.find("metadata", 0),
        None,
        "internal logs are no topics"
    );
    assert_eq!(offline.partitions[&PartitionId::new(1)].topic, "offsets");

    lose(&machine, 0, 1);
    let offline = read();
    assert_eq!(offline.doubts.len(), 1, "{:?}", offline.doubts);
    assert_eq!(offline.find("second", 0), None);
    assert_eq!(offline.find("third", 0), Some(third));
}
