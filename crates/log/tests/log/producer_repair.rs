//! What a repaired partition knows of its producers: all that snapshots and frames still tell, and
//! where they do not, that it does not know.

#![allow(
    clippy::single_range_in_vec_init,
    reason = "what is lost is a list of ranges"
)]

use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use flowstone_disk::{Clock, Disk, OpKind, OpenMode};
use flowstone_format::{Offset, ProducerId, ProducerSnapshot};
use flowstone_log::{Log, LogError};

use crate::harness::{Rig, START_MS, publish};
use crate::producers::{send, send_at, snapshots};
use crate::repair::{env, flip, frames, plan, repaired};

type Harm = fn(&Rig);

/// Three segments of four requests each, with sequences from 1 on at offsets from 0 on.
fn fill(rig: &Rig) {
    let (mut log, floor) = rig.open().unwrap();
    for sequence in 1..=12 {
        rig.clock.advance(Duration::from_millis(10));
        send(rig, &mut log, "a", sequence, &["x"]).unwrap();
        publish(&mut log).unwrap();
        if sequence == 4 || sequence == 8 {
            log.roll().unwrap();
        }
    }
    floor.put(log.floor().unwrap()).unwrap();
    floor.sync().unwrap();
}

/// The same, and the first two segments are dropped.
fn fill_and_trim(rig: &Rig) {
    fill(rig);
    rig.open_log().trim(Offset::new(8)).unwrap();
}

/// Every request but `lost` is known, also after a restart, and these are appended anew.
fn check(rig: &Rig, lost: &[i64]) {
    for restart in 0..2 {
        let mut log = rig.open_log();
        for sequence in 1..=12 {
            let again = send(rig, &mut log, "a", sequence, &["x"]).unwrap();
            let known = restart == 1 || !lost.contains(&sequence);
            assert_eq!(again.duplicate, known, "sequence {sequence}");
        }
        publish(&mut log).unwrap();
        log.roll().unwrap();
    }
}

fn assert_unknown(rig: &Rig, log: &mut Log) {
    let refused = send(rig, log, "a", 1, &["x"]).unwrap_err();
    assert!(
        matches!(refused, LogError::ProducersUnknown { lost_upto_ms } if lost_upto_ms <= rig.clock.now_ms()),
        "{refused}"
    );
    send_at(rig, log, None, None, &["plain"]).unwrap();
    publish(log).unwrap();
}

#[test]
fn requests_whose_records_are_lost_are_appended_anew_and_no_others() {
    // Offset, and which sequences are lost when its frame is damaged, as the active segment is the
    // only one whose frames no later snapshot tells of.
    for (frame, lost) in [(8, &[9][..]), (9, &[10]), (11, &[12]), (5, &[])] {
        let rig = Rig::new(1);
        fill(&rig);
        let (_, offsets, bytes, path) = frames(&rig).remove(frame);
        flip(&rig, &path, bytes.start + 20);
        assert_eq!(repaired(&rig, 0), [offsets]);
        check(&rig, lost);
    }
}

#[test]
fn a_new_segment_in_the_place_of_a_damaged_one_has_its_own_snapshot() {
    let rig = Rig::new(1);
    fill(&rig);
    let (_, _, bytes, path) = frames(&rig).remove(9);
    flip(&rig, &path, bytes.start + 20);
    repaired(&rig, 0);
    // Only what stands in the place of the last segment is left, and tells of all before it.
    let mut log = rig.open_log();
    log.trim(Offset::new(11)).unwrap();
    drop(log);
    assert_eq!((rig.segment_files().len(), snapshots(&rig).len()), (1, 1));
    check(&rig, &[10]);
}

#[test]
fn a_manifest_that_is_made_anew_lists_the_snapshots_that_are_there() {
    let rig = Rig::new(1);
    fill(&rig);
    rig.disk.remove_file(&rig.dir().join("MANIFEST")).unwrap();
    assert_eq!(repaired(&rig, 0), []);
    check(&rig, &[]);

    // Without them, the frames tell it.
    let rig = Rig::new(1);
    fill(&rig);
    for path in snapshots(&rig) {
        rig.disk.remove_file(&path).unwrap();
    }
    rig.disk.remove_file(&rig.dir().join("MANIFEST")).unwrap();
    assert_eq!(repaired(&rig, 0), []);
    check(&rig, &[]);
    // Nothing is missing, so that who is not known has never been there.
    let mut log = rig.open_log();
    send(&rig, &mut log, "b", 1, &["x"]).unwrap();
    publish(&mut log).unwrap();
    drop(log);

    // Where the first segments are dropped, the snapshot is all there is.
    let rig = Rig::new(1);
    fill_and_trim(&rig);
    rig.disk.remove_file(&rig.dir().join("MANIFEST")).unwrap();
    assert_eq!(repaired(&rig, 0), []);
    check(&rig, &[]);
}

#[test]
fn where_nothing_tells_of_them_producers_are_refused_until_they_would_have_expired() {
    let harms: [Harm; 3] = [
        // Without a MANIFEST that lists it, only what it says of itself tells whose it is.
        |rig| {
            let path = snapshots(rig).remove(0);
            let (mut snapshot, _) = ProducerSnapshot::decode(&rig.bytes_of(&path)).unwrap();
            snapshot.segment = uuid::Uuid::from_bytes([1; 16]);
            rig.disk.remove_file(&path).unwrap();
            let file = rig.disk.open(&path, OpenMode::CreateNew).unwrap();
            file.write_all_at(&snapshot.encode().0, 0).unwrap();
            rig.disk.remove_file(&rig.dir().join("MANIFEST")).unwrap();
        },
        |rig| {
            for path in snapshots(rig) {
                rig.disk.remove_file(&path).unwrap();
            }
            rig.disk.remove_file(&rig.dir().join("MANIFEST")).unwrap();
        },
        |rig| flip(rig, &snapshots(rig)[0], 90),
    ];
    for harm in harms {
        let rig = Rig::new(1);
        fill_and_trim(&rig);
        harm(&rig);
        assert_eq!(repaired(&rig, 0), []);
        let mut log = rig.open_log();
        assert_unknown(&rig, &mut log);
        drop(log);
        let mut log = rig.open_log();
        assert_unknown(&rig, &mut log);
        rig.clock.advance(Duration::from_secs(2));
        log.expire_producers(rig.clock.now_ms(), 1000);
        let anew = send(&rig, &mut log, "a", 1, &["x"]).unwrap();
        assert!(!anew.duplicate);
        let id = ProducerId::of("a");
        assert_eq!(log.last_sequence(id).unwrap(), Some(1));
    }
}

/// Where the first segments are gone with all snapshots, nobody is forgotten who may have been there, and
/// nobody is refused for longer than that.
#[test]
fn what_is_not_known_is_no_later_than_the_first_frame_that_is_left() {
    let lost_upto_ms = |rig: &Rig| {
        for path in snapshots(rig) {
            flip(rig, &path, 90);
        }
        let mut log = rig.open_log();
        match send(rig, &mut log, "a", 1, &["x"]) {
            Err(LogError::ProducersUnknown { lost_upto_ms }) => lost_upto_ms - START_MS,
            other => panic!("it should be refused: {other:?}"),
        }
    };
    // An active segment is listed with the time of the frame before it.
    let rig = Rig::new(1);
    fill_and_trim(&rig);
    let sealed = rig.fork();
    assert_eq!(lost_upto_ms(&rig), 80);
    // Of a sealed one the first frame tells the next best.
    let mut log = sealed.open_log();
    log.roll().unwrap();
    send(&sealed, &mut log, "a", 13, &["x"]).unwrap();
    publish(&mut log).unwrap();
    drop(log);
    assert_eq!(lost_upto_ms(&sealed), 90);
}

/// An older segment has to be read where a snapshot is bad. What is not read of it is not known.
#[test]
fn older_frames_tell_what_a_bad_snapshot_does_not_or_nobody_does() {
    let base = Rig::new(1);
    fill(&base);
    for path in snapshots(&base) {
        flip(&base, &path, 90);
    }
    check(&base.fork(), &[]);
    let middle = base.segment_files().remove(1);
    // How often it is opened before it is walked for this is not the test's to know.
    let mut found = [0; 3];
    for nth in 0..4 {
        // EIO, and EMFILE.
        for (error, is_limit) in [(5, false), (24, true)] {
            let (rig, middle) = (base.fork(), middle.clone());
            let opened = AtomicU64::new(0);
            rig.disk.set_hook(move |op| {
                let fails = op.kind == OpKind::Open
                    && op.path == middle
                    && opened.fetch_add(1, Ordering::Relaxed) == nth;
                fails.then(|| io::Error::from_raw_os_error(error))
            });
            let opened = rig.open();
            rig.disk.clear_faults();
            match opened {
                Err(LogError::TooManyOpenFiles { .. }) => {
                    assert!(is_limit);
                    found[0] += 1;
                }
                // The partition is offline then.
                Err(LogError::Io { .. }) => assert!(!is_limit),
                Err(other) => panic!("{other}"),
                Ok((log, _)) if log.damage().is_some() => assert!(!is_limit),
                Ok((mut log, _)) => match send(&rig, &mut log, "a", 5, &["x"]) {
                    Ok(again) => {
                        assert!(again.duplicate);
                        found[1] += 1;
                    }
                    Err(LogError::ProducersUnknown { .. }) => {
                        assert!(!is_limit);
                        found[2] += 1;
                    }
                    Err(other) => panic!("{other}"),
                },
            }
        }
    }
    assert!(found.iter().all(|&count| count > 0), "{found:?}");
}

#[test]
fn a_snapshot_that_is_damaged_is_written_anew_and_costs_no_record() {
    let rig = Rig::new(1);
    fill(&rig);
    let old: PathBuf = snapshots(&rig).pop().unwrap();
    let good = rig.bytes_of(&old);
    flip(&rig, &old, 90);
    let bad = rig.bytes_of(&old);
    let planned = plan(&rig, 0).unwrap();
    assert_eq!((planned.lost_offsets(), planned.snapshots.len()), (0, 1));
    assert_eq!(planned.snapshots[0].path, old);
    assert_eq!(repaired(&rig, 0), []);
    assert_eq!(
        rig.bytes_of(&old),
        good,
        "from the frames of the segments before"
    );
    let aside = rig.dir().join("aside").join(old.file_name().unwrap());
    assert_eq!(rig.bytes_of(&aside), bad);
    check(&rig, &[]);
}

#[test]
fn a_crash_at_every_operation_of_a_repair_forgets_no_producer() {
    let harms: [(Harm, &[i64]); 3] = [
        (|rig| flip(rig, &snapshots(rig)[1], 90), &[]),
        (
            |rig| {
                let (_, _, bytes, path) = frames(rig).remove(9);
                flip(rig, &path, bytes.start + 20);
            },
            &[10],
        ),
        (
            |rig| rig.disk.remove_file(&rig.dir().join("MANIFEST")).unwrap(),
            &[],
        ),
    ];
    let mut points = 0;
    for (harm, lost) in harms {
        let damaged = Rig::new(1);
        fill(&damaged);
        harm(&damaged);
        damaged.disk.sync_all("/".as_ref()).unwrap();
        for nth in 1.. {
            let rig = damaged.fork_with(nth);
            let planned = plan(&rig, 0).unwrap();
            let env = env(&rig);
            let (disk, before) = (rig.disk.clone(), rig.disk.count_all());
            rig.disk.set_hook(move |_| {
                if disk.count_all() - before == nth {
                    disk.power_cut();
                }
                None
            });
            let done = planned.execute(&env);
            rig.disk.clear_faults();
            if done.is_ok() {
                break;
            }
            points += 1;
            if !plan(&rig, 0).unwrap().is_sound() {
                plan(&rig, 0).unwrap().execute(&self::env(&rig)).unwrap();
            }
            check(&rig, lost);
        }
    }
    assert!(points > 30, "only {points} points");
}
