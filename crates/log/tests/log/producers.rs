//! A request of a producer is appended once: repeated, reordered, reopened.

use std::io::ErrorKind;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use flowstone_disk::{Clock, Env, OpKind};
use flowstone_format::{Offset, ProducerId, RecordLimits};
use flowstone_log::{Appended, Batch, Log, LogError, ProducerBatch, ProducerBudget};

use crate::harness::{PARTITION, Rig, START_MS, publish, read_all, record, strings};

/// Stages one batch of a producer.
pub(crate) fn send(
    rig: &Rig,
    log: &mut Log,
    id: &str,
    sequence: i64,
    values: &[&str],
) -> Result<Appended, LogError> {
    send_at(rig, log, Some((id, sequence)), None, values)
}

/// Stages one batch, perhaps of a producer, perhaps only at an offset.
pub(crate) fn send_at(
    rig: &Rig,
    log: &mut Log,
    producer: Option<(&str, i64)>,
    expected: Option<u64>,
    values: &[&str],
) -> Result<Appended, LogError> {
    let request: Vec<u8> = values
        .iter()
        .flat_map(|value| record(value.as_bytes(), 0))
        .collect();
    let producer = producer.map(|(id, sequence)| ProducerBatch {
        id: ProducerId::of(id),
        epoch: 1,
        sequence,
    });
    let whole = 0..request.len();
    log.append(&Batch {
        runs: std::slice::from_ref(&whole),
        record_count: u32::try_from(values.len()).unwrap(),
        append_ms: rig.clock.now_ms(),
        expected_offset: expected.map(Offset::new),
        ..batch_of(&request, producer)
    })
}

/// A batch without records, to be filled.
pub(crate) fn batch_of(request: &[u8], producer: Option<ProducerBatch>) -> Batch<'_> {
    Batch {
        request,
        runs: &[],
        record_count: 0,
        append_ms: 0,
        routing_count: 3,
        limits: &RecordLimits::NONE,
        producer,
        expected_offset: None,
    }
}

#[test]
fn a_repeat_is_a_duplicate_before_and_after_its_sync_and_after_a_restart() {
    let rig = Rig::new(1);
    let (mut log, _) = rig.open().unwrap();
    send_at(&rig, &mut log, None, None, &["plain"]).unwrap();
    let first = send(&rig, &mut log, "a", 1, &["x", "y"]).unwrap();
    assert!(!first.duplicate);
    let staged = send(&rig, &mut log, "a", 1, &["x", "y"]).unwrap();
    publish(&mut log).unwrap();
    let synced = send(&rig, &mut log, "a", 1, &["x", "y"]).unwrap();
    drop(log);
    let mut log = rig.open_log();
    let reopened = send(&rig, &mut log, "a", 1, &["x", "y"]).unwrap();
    for again in [staged, synced, reopened] {
        assert!(again.duplicate);
        assert_eq!(
            (again.base_offset, again.record_count),
            (first.base_offset, 2)
        );
    }
    assert_eq!(log.log_end_offset(), Offset::new(3));
    assert!(!send(&rig, &mut log, "b", 1, &["x", "y"]).unwrap().duplicate);
}

#[test]
fn a_sequence_with_other_records_is_refused_and_leaves_nothing() {
    let rig = Rig::new(2);
    let mut log = rig.open_log();
    send(&rig, &mut log, "a", 7, &["x"]).unwrap();
    for other in [&["y"][..], &["x", "x"]] {
        let refused = send(&rig, &mut log, "a", 7, other).unwrap_err();
        assert!(matches!(refused, LogError::SequenceReused { sequence: 7 }));
    }
    publish(&mut log).unwrap();
    assert_eq!(strings(read_all(&log)), [(0, "x".to_owned())]);
    let id = ProducerId::of("a");
    assert_eq!(log.last_sequence(id).unwrap(), Some(7));
    let entry = log.producer_entry(id, 7).unwrap().unwrap();
    assert_eq!((entry.routing_count, entry.record_count), (3, 1));
    assert_eq!(log.producer_entry(id, 8).unwrap(), None);
    assert_eq!(log.routed_otherwise(3).count(), 0);
    assert_eq!(log.routed_otherwise(4).collect::<Vec<_>>(), [(id, 7, 3)]);
}

#[test]
fn an_expected_offset_is_held_after_the_producer_is_looked_at() {
    let rig = Rig::new(3);
    let mut log = rig.open_log();
    let a1 = Some(("a", 1));
    send_at(&rig, &mut log, a1, Some(0), &["x"]).unwrap();
    assert!(
        send_at(&rig, &mut log, a1, Some(0), &["x"])
            .unwrap()
            .duplicate
    );
    let refused = send_at(&rig, &mut log, None, Some(0), &["y"]).unwrap_err();
    assert!(
        matches!(refused, LogError::OffsetMismatch { end, .. } if end == Offset::new(1)),
        "{refused}"
    );
    send_at(&rig, &mut log, None, Some(1), &["y"]).unwrap();
    publish(&mut log).unwrap();
    assert_eq!(read_all(&log).len(), 2);
}

/// One sealed segment with all of what two producers sent, and what they send then.
pub(crate) fn two_segments(rig: &Rig) -> Log {
    let mut log = rig.open_log();
    for sequence in 1..=3 {
        send(rig, &mut log, "a", sequence, &["x", "y"]).unwrap();
    }
    send(rig, &mut log, "b", 9, &["z"]).unwrap();
    publish(&mut log).unwrap();
    log.roll().unwrap();
    log
}

/// The producer snapshots in the partition's directory.
pub(crate) fn snapshots(rig: &Rig) -> Vec<PathBuf> {
    let of_producers = |path: &PathBuf| path.extension().is_some_and(|end| end == "producers");
    rig.files().into_iter().filter(of_producers).collect()
}

/// All that the two of `two_segments` sent is known: nothing is appended.
pub(crate) fn assert_known(rig: &Rig, log: &mut Log) {
    let end = log.log_end_offset();
    for (sequence, base) in [(1, 0), (3, 4), (2, 2)] {
        let again = send(rig, log, "a", sequence, &["x", "y"]).unwrap();
        assert!(again.duplicate, "sequence {sequence} is appended again");
        assert_eq!(again.base_offset, Offset::new(base));
    }
    assert!(send(rig, log, "b", 9, &["z"]).unwrap().duplicate);
    assert_eq!(log.log_end_offset(), end);
}

#[test]
fn a_truncation_forgets_what_it_cuts_off() {
    let rig = Rig::new(10);
    let mut log = two_segments(&rig);
    // Staged, rolled, and never visible.
    send(&rig, &mut log, "a", 4, &["x"]).unwrap();
    send(&rig, &mut log, "a", 5, &["x"]).unwrap();
    log.roll().unwrap();
    send(&rig, &mut log, "a", 6, &["x"]).unwrap();
    assert_eq!(snapshots(&rig).len(), 2);
    log.truncate(Offset::new(8)).unwrap();
    assert_known(&rig, &mut log);
    let id = ProducerId::of("a");
    assert_eq!(log.last_sequence(id).unwrap(), Some(4));
    assert_eq!(snapshots(&rig).len(), 1, "that of the cut is moved aside");
    drop(log);
    let mut log = rig.open_log();
    assert_known(&rig, &mut log);
    assert_eq!(log.last_sequence(id).unwrap(), Some(4));
    let again = send(&rig, &mut log, "a", 5, &["other"]).unwrap();
    assert_eq!(
        (again.duplicate, again.base_offset),
        (false, Offset::new(8))
    );
    publish(&mut log).unwrap();
    log.truncate(log.log_end_offset()).unwrap();
    assert_eq!(log.last_sequence(id).unwrap(), Some(5));
}

#[test]
fn what_a_failed_write_lost_is_appended_by_the_repeat_and_what_it_left_is_not() {
    let mut kept = [0, 0];
    for seed in 0..40 {
        let rig = Rig::new(seed);
        let mut log = two_segments(&rig);
        send(&rig, &mut log, "a", 4, &["x"]).unwrap();
        rig.disk.fail_nth(OpKind::Write, 1, ErrorKind::Other);
        log.write().unwrap_err();
        rig.disk.clear_faults();
        let id = ProducerId::of("a");
        let told = log.last_sequence(id);
        assert!(told.is_err(), "a poisoned log tells nothing");
        log.reopen(None).unwrap();
        assert_known(&rig, &mut log);
        let is_there = log.log_end_offset() == Offset::new(8);
        let last = if is_there { 4 } else { 3 };
        assert_eq!(
            log.last_sequence(id).unwrap(),
            Some(last),
            "as the frames tell"
        );
        let again = send(&rig, &mut log, "a", 4, &["x"]).unwrap();
        assert_eq!(again.duplicate, is_there);
        kept[usize::from(is_there)] += 1;
        publish(&mut log).unwrap();
        assert_eq!(read_all(&log).len(), 8);
        drop(log);
        rig.disk.power_cut();
        let mut log = rig.open_log();
        assert!(send(&rig, &mut log, "a", 4, &["x"]).unwrap().duplicate);
    }
    assert!(kept.iter().all(|count| *count > 3), "{kept:?}");
}

#[test]
fn a_roll_that_finds_no_space_for_the_snapshot_leaves_the_log_as_it_was() {
    for kind in [
        OpKind::Open,
        OpKind::Write,
        OpKind::SyncAll,
        OpKind::Reserve,
        OpKind::Rename,
    ] {
        for nth in 1..4 {
            let rig = Rig::new(12);
            let mut log = two_segments(&rig);
            send(&rig, &mut log, "a", 4, &["x"]).unwrap();
            publish(&mut log).unwrap();
            let before = rig.files();
            rig.disk.fail_nth(kind, nth, ErrorKind::StorageFull);
            let rolled = log.roll();
            rig.disk.clear_faults();
            if let Err(error) = rolled {
                assert!(
                    matches!(error, LogError::DiskFull { .. }),
                    "{kind:?} {nth}: {error}"
                );
                assert_eq!(rig.files(), before, "{kind:?} {nth}");
            }
            assert_known(&rig, &mut log);
            send(&rig, &mut log, "a", 5, &["x"]).unwrap();
            publish(&mut log).unwrap();
            drop(log);
            rig.disk.power_cut();
            let mut log = rig.open_log();
            assert_known(&rig, &mut log);
            for sequence in [4, 5] {
                assert!(
                    send(&rig, &mut log, "a", sequence, &["x"])
                        .unwrap()
                        .duplicate
                );
            }
        }
    }
}

#[test]
fn a_producer_that_was_forgotten_and_returns_begins_anew_for_good() {
    for frames_before in [true, false] {
        let rig = Rig::new(13);
        let mut log = two_segments(&rig);
        if frames_before {
            send_at(&rig, &mut log, None, None, &["plain"]).unwrap();
            publish(&mut log).unwrap();
        }
        rig.clock.advance(Duration::from_secs(60));
        assert_eq!(log.expire_producers(rig.clock.now_ms(), 59_999), 2);
        let segments = rig.segment_files().len() + usize::from(frames_before);
        // The same number, for other records: nobody knows better.
        let anew = send(&rig, &mut log, "a", 1, &["anew"]).unwrap();
        assert!(!anew.duplicate);
        send(&rig, &mut log, "a", 2, &["anew"]).unwrap();
        publish(&mut log).unwrap();
        assert_eq!(
            rig.segment_files().len(),
            segments,
            "an empty segment is replaced"
        );
        for restart in 0..2 {
            if restart == 1 {
                drop(log);
                rig.disk.power_cut();
                log = rig.open_log();
            }
            let id = ProducerId::of("a");
            assert_eq!(log.last_sequence(id).unwrap(), Some(2), "as it sent since");
            assert!(send(&rig, &mut log, "a", 1, &["anew"]).unwrap().duplicate);
            assert_eq!(log.last_sequence(ProducerId::of("b")).unwrap(), None);
        }
        let expected = if frames_before { 10 } else { 9 };
        assert_eq!(read_all(&log).len(), expected);
    }
}

#[test]
fn logs_share_one_budget_and_give_back_what_they_had() {
    let rig = Rig::new(14);
    let budget = Arc::new(ProducerBudget::new(40));
    let open = || {
        let env = Env::simulated(&rig.disk, &rig.clock, 1);
        Log::open_within(
            &env,
            &rig.dir(),
            PARTITION,
            None,
            rig.config,
            &budget,
            &Arc::default(),
        )
        .unwrap()
    };
    let mut log = open();
    send(&rig, &mut log, "a", 1, &["x"]).unwrap();
    send(&rig, &mut log, "b", 1, &["x"]).unwrap();
    let refused = send(&rig, &mut log, "c", 1, &["x"]).unwrap_err();
    assert!(matches!(refused, LogError::TooManyProducers { limit: 40 }));
    publish(&mut log).unwrap();
    assert_eq!(budget.used(), 32);
    log.reopen(None).unwrap();
    assert_eq!(budget.used(), 32);
    drop(log);
    assert_eq!(budget.used(), 0);
    budget.set_limit(10);
    let mut log = open();
    assert_eq!(budget.used(), 32, "those that are known stay known");
    assert!(send(&rig, &mut log, "a", 1, &["x"]).unwrap().duplicate);
    log.expire_producers(i64::MAX, 1);
    log.roll().unwrap();
    assert_eq!(budget.used(), 0);
}

#[test]
fn a_look_ahead_tells_what_an_append_would() {
    let rig = Rig::new(1);
    let mut log = rig.open_log();
    let request = record(b"a", 0);
    let whole = 0..request.len();
    let batch = |sequence| Batch {
        runs: std::slice::from_ref(&whole),
        record_count: 1,
        append_ms: START_MS,
        ..batch_of(
            &request,
            Some(ProducerBatch {
                id: ProducerId::of("p"),
                epoch: 1,
                sequence,
            }),
        )
    };
    assert_eq!(log.check(&batch(1)).unwrap(), None);
    assert_eq!(log.producer_budget().used(), 0);
    let appended = log.append(&batch(1)).unwrap();
    assert!(log.producer_budget().used() > 0, "it counts there");
    let expected = Appended {
        append_ms: START_MS,
        duplicate: true,
        ..appended
    };
    assert_eq!(log.check(&batch(1)).unwrap(), Some(expected));
    assert_eq!(log.check(&batch(2)).unwrap(), None);
}
