//! A request of a producer is appended once: repeated, reordered, reopened.

use flowstone_disk::Clock;
use flowstone_format::{Offset, ProducerId, RecordLimits};
use flowstone_log::{Appended, Batch, Log, LogError, ProducerBatch};

use crate::harness::{Rig, publish, read_all, record, strings};

/// Stages one batch of a producer.
fn send(
    rig: &Rig,
    log: &mut Log,
    id: &str,
    sequence: i64,
    values: &[&str],
) -> Result<Appended, LogError> {
    send_at(rig, log, Some((id, sequence)), None, values)
}

fn send_at(
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
    log.append(&Batch {
        request: &request,
        runs: std::slice::from_ref(&(0..request.len())),
        record_count: u32::try_from(values.len()).unwrap(),
        append_ms: rig.clock.now_ms(),
        routing_count: 3,
        limits: &RecordLimits::default(),
        producer: producer.map(|(id, sequence)| ProducerBatch {
            id: ProducerId::of(id),
            epoch: 1,
            sequence,
        }),
        expected_offset: expected.map(Offset::new),
    })
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
