//! A crash at every operation of a repair: the partition is as damaged as it was, or repaired, and a
//! repair that is begun again ends well.

#![allow(
    clippy::single_range_in_vec_init,
    reason = "what is lost is a list of ranges"
)]

use std::collections::BTreeMap;
use std::ops::Range;

use flowstone_disk::{Disk, OpKind};
use flowstone_log::LogError;

use crate::harness::Rig;
use crate::repair::{check, env, fill, plan, repaired};

/// What is wrong before the repair, and what that costs.
struct Case {
    rig: Rig,
    written: BTreeMap<u64, Vec<u8>>,
    lost: Vec<Range<u64>>,
    end: u64,
}

fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    let mut add = |damage: fn(&Rig)| {
        let rig = Rig::new(1);
        let written = fill(&rig);
        damage(&rig);
        rig.disk.sync_all("/".as_ref()).unwrap();
        let whole = rig.fork();
        let lost = repaired(&whole, 0);
        let end = whole.open_log().log_end_offset().get();
        cases.push(Case {
            rig,
            written,
            lost,
            end,
        });
    };
    add(|rig| flip_byte(rig, 0, 5000));
    add(|rig| flip_byte(rig, 1, 4100));
    add(|rig| flip_byte(rig, 2, 5000));
    add(|rig| flip_byte(rig, 2, 100));
    add(|rig| {
        flip_byte(rig, 1, 6000);
        rig.disk.remove_file(&rig.dir().join("MANIFEST")).unwrap();
    });
    add(|rig| {
        flip_byte(rig, 0, 6000);
        flip_byte(rig, 2, 6000);
        let path = rig.dir().join("MANIFEST");
        let byte = rig.bytes_of(&path)[80];
        rig.overwrite(&path, 80, &[byte ^ 4]);
    });
    cases
}

fn flip_byte(rig: &Rig, file: usize, at: u64) {
    let path = rig.segment_files().remove(file);
    let byte = rig.bytes_of(&path)[usize::try_from(at).unwrap()];
    rig.overwrite(&path, at, &[byte ^ 4]);
}

/// Runs a repair that is cut short at its `nth` operation; false when there were fewer.
fn cut_short(rig: &Rig, nth: u64, power: bool) -> bool {
    let planned = plan(rig, 0).unwrap();
    let env = env(rig);
    let before = rig.disk.count_all();
    let disk = rig.disk.clone();
    rig.disk.set_hook(move |_| {
        if disk.count_all() - before == nth {
            if power {
                disk.power_cut();
            } else {
                disk.process_crash();
            }
        }
        None
    });
    let done = planned.execute(&env);
    rig.disk.clear_faults();
    done.is_err()
}

#[test]
fn a_crash_at_every_operation_of_a_repair_leaves_it_to_be_begun_again() {
    let mut points = 0;
    for case in cases() {
        for power in [true, false] {
            for nth in 1.. {
                let rig = case.rig.fork_with(nth);
                if !cut_short(&rig, nth, power) {
                    break;
                }
                points += 1;
                if plan(&rig, 0).unwrap().is_sound() {
                    check(&rig, &case.written, &case.lost, case.end);
                    continue;
                }
                // An open in between, as an operator may try one, serves what is right or errors.
                drop(rig.open());
                if !plan(&rig, 0).unwrap().is_sound() {
                    cut_short(&rig, nth / 2 + 1, !power);
                }
                if !plan(&rig, 0).unwrap().is_sound() {
                    plan(&rig, 0).unwrap().execute(&env(&rig)).unwrap();
                }
                check(&rig, &case.written, &case.lost, case.end);
            }
        }
    }
    assert!(points > 200, "only {points} points");
}

#[test]
fn a_full_disk_and_every_failed_operation_leave_it_to_be_begun_again() {
    let kinds = [
        OpKind::Open,
        OpKind::Write,
        OpKind::Reserve,
        OpKind::SyncAll,
        OpKind::SyncDir,
        OpKind::Rename,
        OpKind::CreateDirAll,
    ];
    for case in cases() {
        for (kind, error) in kinds.into_iter().flat_map(|kind| {
            [std::io::ErrorKind::Other, std::io::ErrorKind::StorageFull].map(|error| (kind, error))
        }) {
            for nth in 1.. {
                let rig = case.rig.fork_with(nth);
                let planned = plan(&rig, 0).unwrap();
                let env = env(&rig);
                rig.disk.fail_nth(kind, nth, error);
                let done = planned.execute(&env);
                rig.disk.clear_faults();
                let Err(failed) = done else { break };
                if let LogError::DiskFull { .. } = failed {
                    let names = rig.disk.list(&rig.dir()).unwrap();
                    assert!(
                        names
                            .iter()
                            .all(|entry| !entry.name.ends_with(".segment.tmp"))
                    );
                }
                rig.disk.power_cut();
                if !plan(&rig, 0).unwrap().is_sound() {
                    plan(&rig, 0).unwrap().execute(&self::env(&rig)).unwrap();
                }
                check(&rig, &case.written, &case.lost, case.end);
            }
        }
    }
}
