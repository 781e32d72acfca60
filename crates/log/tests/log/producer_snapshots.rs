//! Producer snapshots: what they tell, and what becomes of a partition whose snapshots are lost.

use std::path::{Path, PathBuf};
use std::time::Duration;

use flowstone_disk::{Clock, Disk, OpenMode};
use flowstone_format::{Offset, ProducerId, ProducerSnapshot};
use flowstone_log::{LogError, inspect};

use crate::harness::{DATA_DIR, PARTITION, Rig, crc32, publish};
use crate::producers::{assert_known, batch_of, send, send_at, snapshots, two_segments};
use crate::repair::frames;

#[test]
fn a_snapshot_tells_what_the_segments_that_were_dropped_held() {
    let rig = Rig::new(4);
    let mut log = two_segments(&rig);
    send(&rig, &mut log, "a", 4, &["x"]).unwrap();
    publish(&mut log).unwrap();
    log.trim(Offset::new(7)).unwrap();
    assert_eq!((rig.segment_files().len(), snapshots(&rig).len()), (1, 1));
    assert_known(&rig, &mut log);
    drop(log);
    rig.disk.power_cut();
    let mut log = rig.open_log();
    assert_known(&rig, &mut log);
    assert!(send(&rig, &mut log, "a", 4, &["x"]).unwrap().duplicate);

    // Its own segment goes, and it with it; the next one is the evidence.
    log.roll().unwrap();
    send(&rig, &mut log, "a", 5, &["x"]).unwrap();
    publish(&mut log).unwrap();
    assert_eq!(snapshots(&rig).len(), 2);
    log.trim(Offset::new(8)).unwrap();
    assert_eq!((rig.segment_files().len(), snapshots(&rig).len()), (1, 1));
    drop(log);
    assert_known(&rig, &mut rig.open_log());
}

#[test]
fn plain_partitions_have_no_snapshots() {
    let rig = Rig::new(5);
    let mut log = rig.open_log();
    for _ in 0..3 {
        send_at(&rig, &mut log, None, None, &["x"]).unwrap();
        publish(&mut log).unwrap();
        log.roll().unwrap();
    }
    assert_eq!(snapshots(&rig), [] as [PathBuf; 0]);
    // Nor have those whose producers have all expired.
    send(&rig, &mut log, "a", 1, &["x"]).unwrap();
    publish(&mut log).unwrap();
    rig.clock.advance(Duration::from_millis(11));
    assert_eq!(log.expire_producers(rig.clock.now_ms(), 10), 1);
    log.roll().unwrap();
    assert_eq!(snapshots(&rig), [] as [PathBuf; 0]);
}

#[test]
fn a_snapshot_that_nothing_lists_is_moved_aside_and_never_read() {
    let rig = Rig::new(15);
    drop(two_segments(&rig));
    let listed = snapshots(&rig).remove(0);
    let bytes = rig.bytes_of(&listed);
    // Of a roll that a crash cut short, and beside a segment that had nothing to tell at its base.
    let first = rig.segment_files().remove(0).with_extension("producers");
    let stray = rig.dir().join("00000000000000000007-0a1b2c3d.producers");
    for path in [&first, &stray] {
        let file = rig.disk.open(path, OpenMode::CreateNew).unwrap();
        file.write_all_at(&bytes, 0).unwrap();
    }
    assert_known(&rig, &mut rig.open_log());
    assert_eq!(snapshots(&rig), [listed]);
    let aside = rig.disk.list(&rig.dir().join("aside")).unwrap();
    assert_eq!(aside.len(), 2, "{aside:?}");
}

type Harm = fn(&Rig, &Path);

/// What may happen to a snapshot.
const HARMS: [(&str, Harm); 5] = [
    ("gone", |rig, path| rig.disk.remove_file(path).unwrap()),
    ("a byte flipped", |rig, path| {
        let at = rig.bytes_of(path).len() as u64 / 2;
        let byte = rig.bytes_of(path)[usize::try_from(at).unwrap()];
        rig.overwrite(path, at, &[byte ^ 1]);
    }),
    ("cut short", |rig, path| {
        let bytes = rig.bytes_of(path);
        rig.disk.remove_file(path).unwrap();
        let file = rig.disk.open(path, OpenMode::CreateNew).unwrap();
        file.write_all_at(&bytes[..bytes.len() - 1], 0).unwrap();
    }),
    // It is whole and of this segment, and is not the one that is listed.
    ("one that tells less", |rig, path| {
        let (mut snapshot, _) = ProducerSnapshot::decode(&rig.bytes_of(path)).unwrap();
        snapshot.producers.remove(0);
        rig.disk.remove_file(path).unwrap();
        let file = rig.disk.open(path, OpenMode::CreateNew).unwrap();
        file.write_all_at(&snapshot.encode().0, 0).unwrap();
    }),
    // It is whole, and of another segment.
    ("another one", |rig, path| {
        let other = Rig::new(77);
        drop(two_segments(&other));
        let bytes = other.bytes_of(&snapshots(&other)[0]);
        rig.disk.remove_file(path).unwrap();
        let file = rig.disk.open(path, OpenMode::CreateNew).unwrap();
        file.write_all_at(&bytes, 0).unwrap();
    }),
];

#[test]
fn a_snapshot_that_is_lost_is_made_up_for_by_older_files() {
    for (what, harm) in HARMS {
        let rig = Rig::new(6);
        drop(two_segments(&rig));
        harm(&rig, &snapshots(&rig)[0]);
        let disk = rig.disk.disk();
        let report = inspect::inspect(&disk, Path::new(DATA_DIR), PARTITION, |_, _| {}).unwrap();
        assert_eq!(report.damages, [], "{what}");
        assert_eq!(report.snapshots.len(), 1, "{what}");
        let mut log = rig.open_log();
        assert_known(&rig, &mut log);
        // The next one is good again.
        send(&rig, &mut log, "a", 4, &["x"]).unwrap();
        publish(&mut log).unwrap();
        log.roll().unwrap();
        log.trim(Offset::new(8)).unwrap();
        drop(log);
        assert_known(&rig, &mut rig.open_log());
    }
}

/// A partition whose older segments are dropped, with the snapshot that told of them lost.
fn without_evidence(rig: &Rig, harm: Harm) -> i64 {
    let mut log = two_segments(rig);
    let lost_upto_ms = rig.clock.now_ms();
    rig.clock.advance(Duration::from_millis(5));
    send_at(rig, &mut log, None, None, &["plain"]).unwrap();
    publish(&mut log).unwrap();
    log.trim(Offset::new(7)).unwrap();
    drop(log);
    harm(rig, &snapshots(rig)[0]);
    lost_upto_ms
}

#[test]
fn without_evidence_producers_are_refused_until_all_that_is_lost_would_have_expired() {
    for (what, harm) in HARMS {
        let rig = Rig::new(7);
        let lost = without_evidence(&rig, harm);
        let mut log = rig.open_log();
        let refused = send(&rig, &mut log, "a", 1, &["x", "y"]).unwrap_err();
        assert!(
            matches!(refused, LogError::ProducersUnknown { lost_upto_ms } if lost_upto_ms == lost),
            "{what}: {refused}"
        );
        let id = ProducerId::of("a");
        assert!(log.last_sequence(id).is_err() && log.producer_entry(id, 1).is_err());
        assert!(log.check(&batch_of(&[], None)).is_ok());
        send_at(&rig, &mut log, None, None, &["goes on"]).unwrap();
        publish(&mut log).unwrap();
        // It stays so over rolls and restarts,
        log.roll().unwrap();
        send_at(&rig, &mut log, None, None, &["goes on"]).unwrap();
        publish(&mut log).unwrap();
        drop(log);
        let mut log = rig.open_log();
        log.expire_producers(lost + 1000, 1000);
        assert!(send(&rig, &mut log, "a", 1, &["x", "y"]).is_err());
        // until its time is over.
        log.expire_producers(lost + 1001, 1000);
        assert!(!send(&rig, &mut log, "a", 1, &["x", "y"]).unwrap().duplicate);
        publish(&mut log).unwrap();
        log.roll().unwrap();
        drop(log);
        let mut log = rig.open_log();
        assert!(send(&rig, &mut log, "a", 1, &["x", "y"]).unwrap().duplicate);
        assert!(!send(&rig, &mut log, "a", 2, &["x"]).unwrap().duplicate);
    }
}

#[test]
fn frames_that_cannot_be_walked_leave_producers_unknown() {
    let rig = Rig::new(8);
    drop(two_segments(&rig));
    HARMS[0].1(&rig, &snapshots(&rig)[0]);
    // The header of the second frame of the sealed segment.
    let sealed = rig.segment_files().remove(0);
    let second = frames(&rig)[1].2.start;
    rig.overwrite(&sealed, second + 90, &[0xFF]);
    let mut log = rig.open_log();
    assert_eq!(log.damage(), None, "nobody has looked there");
    let refused = send(&rig, &mut log, "a", 2, &["x", "y"]).unwrap_err();
    assert!(matches!(refused, LogError::ProducersUnknown { .. }));
    // What lies before is known.
    assert!(send(&rig, &mut log, "a", 1, &["x", "y"]).unwrap().duplicate);
    send_at(&rig, &mut log, None, None, &["plain"]).unwrap();
}

#[test]
fn a_newer_snapshot_is_refused_untouched() {
    let rig = Rig::new(9);
    drop(two_segments(&rig));
    let path = snapshots(&rig).remove(0);
    let mut bytes = rig.bytes_of(&path);
    bytes[4] = 9;
    let end = bytes.len() - 4;
    let crc = crc32(&bytes[..end]).to_le_bytes();
    bytes[end..].copy_from_slice(&crc);
    rig.overwrite(&path, 0, &bytes);
    let error = rig.open().map(drop).unwrap_err();
    assert!(matches!(error, LogError::Header { .. }), "{error}");
    assert_eq!(rig.bytes_of(&path), bytes);
}
