//! A scrub sees every byte of the sealed segments as it lies on the medium.

use std::io::ErrorKind;
use std::ops::{ControlFlow, Range};

use flowstone_disk::{Disk, OpKind, OpenMode};
use flowstone_log::{Checked, Log, LogError};

use crate::harness::{Rig, record};

fn filled(rig: &Rig) -> Log {
    let mut log = rig.open_log();
    for n in 0..40 {
        rig.put(&mut log, &[record(format!("{n:0600}").as_bytes(), 0)])
            .unwrap();
    }
    log
}

fn check(log: &Log) -> Vec<Checked> {
    let sealed = log.sealed_segments();
    let check = |segment: &flowstone_log::SealedSegment| {
        segment.check(|_| ControlFlow::Continue(())).unwrap()
    };
    sealed.iter().map(check).collect()
}

#[test]
fn every_byte_of_a_sealed_segment_counts() {
    let rig = Rig::new(1);
    let log = filled(&rig);
    assert_eq!(check(&log), [Checked::Sound, Checked::Sound]);
    let end = 16 << 10;
    let file = rig.segment_files().remove(0);
    let bytes = rig.bytes_of(&file);
    let last = bytes.iter().rposition(|&byte| byte != 0).unwrap();
    for at in (0..end).step_by(37).chain([last as u64, 0, 4095, 4096]) {
        rig.disk.rot(&file, at, 0x04).unwrap();
        let found = check(&log);
        assert_eq!(found[1], Checked::Sound);
        match &found[0] {
            Checked::Damaged(damage) => {
                assert_eq!(damage.path, file);
                assert!(damage.position.get() <= at && at <= last as u64);
                assert!(damage.offset.get() < 16);
            }
            Checked::Sound => assert!(at > last as u64, "byte {at} is not looked at"),
            Checked::BrokenOff => panic!("nobody broke it off"),
        }
        rig.disk.rot(&file, at, 0x04).unwrap();
    }
    assert_eq!(check(&log), [Checked::Sound, Checked::Sound]);
}

#[test]
fn a_check_can_be_broken_off_at_any_frame_and_counts_what_it_reads() {
    let rig = Rig::new(1);
    let log = filled(&rig);
    let segment = &log.sealed_segments()[0];
    let (mut steps, mut bytes) = (0, 0);
    let whole = segment.check(|read| {
        steps += 1;
        bytes += read;
        ControlFlow::Continue(())
    });
    assert_eq!(whole.unwrap(), Checked::Sound);
    let file = rig.segment_files().remove(0);
    let stored = rig.bytes_of(&file);
    let last = stored.iter().rposition(|&byte| byte != 0).unwrap() as u64;
    assert_eq!(bytes, last + 1);
    for most in 1..steps {
        let mut left = most;
        let checked = segment.check(|_| {
            left -= 1;
            if left == 0 {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            }
        });
        assert_eq!(checked.unwrap(), Checked::BrokenOff);
    }
}

#[test]
fn what_was_trimmed_is_not_looked_at() {
    let rig = Rig::new(1);
    let mut log = filled(&rig);
    let end = log.sealed_segments()[0].end_offset();
    log.trim(end).unwrap();
    assert_eq!(log.sealed_segments().len(), 1);
    // The last one stays listed, since it knows where the log goes on.
    let end = log.log_end_offset();
    rig.append(&mut log, &[record(b"cut off", 0)]).unwrap();
    log.truncate(end).unwrap();
    assert_eq!(log.sealed_segments().len(), 2);
    log.trim(end).unwrap();
    assert!(log.sealed_segments().is_empty(), "none holds a record");
}

#[test]
fn a_segment_needs_no_byte_behind_its_last_frame_and_every_one_before() {
    let rig = Rig::new(1);
    let log = filled(&rig);
    let file = rig.segment_files().remove(0);
    let bytes = rig.bytes_of(&file);
    let end = bytes.iter().rposition(|&byte| byte != 0).unwrap() + 1;
    let cut_to = |len: usize| {
        rig.disk.remove_file(&file).unwrap();
        let short = rig.disk.open(&file, OpenMode::CreateNew).unwrap();
        short.write_all_at(&bytes[..len], 0).unwrap();
        check(&log).remove(0)
    };
    assert_eq!(cut_to(end), Checked::Sound);
    match cut_to(end - 1) {
        Checked::Damaged(damage) => {
            let told = format!("it has {} bytes, and {end} were synced", end - 1);
            assert_eq!(damage.detail, told);
        }
        other => panic!("it is not damaged: {other:?}"),
    }
}

/// An error that says nothing of the medium is one of the check; all others are damage.
#[test]
fn a_failed_read_is_damage_unless_it_may_succeed_later() {
    let rig = Rig::new(1);
    let log = filled(&rig);
    let segment = &log.sealed_segments()[0];
    let check = |kind: ErrorKind, from: Range<u64>| {
        rig.disk.set_hook(move |op| {
            let fails = op.kind == OpKind::Read && from.contains(&op.at);
            fails.then(|| kind.into())
        });
        let checked = segment.check(|_| ControlFlow::Continue(()));
        rig.disk.clear_faults();
        checked
    };
    for from in [0..1, 1..u64::MAX] {
        let passing = check(ErrorKind::OutOfMemory, from.clone());
        assert!(matches!(passing, Err(LogError::Io { .. })), "{passing:?}");
        match check(ErrorKind::Other, from.clone()).unwrap() {
            Checked::Damaged(damage) => {
                let position = if from.start == 0 { 0 } else { 4096 };
                assert_eq!(damage.position.get(), position);
                let told = damage.detail.starts_with("it could not be read");
                assert!(told, "{}", damage.detail);
            }
            other => panic!("it is not damaged: {other:?}"),
        }
    }
    assert_eq!(check(ErrorKind::Other, 0..0).unwrap(), Checked::Sound);
}
