//! Requests of one group on both sides of a segment's end, which is not synced when the next one begins.

use std::io::ErrorKind;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use flowstone_broker::{Acks, Error, PendingProduce, ProduceRequest, Produced};
use flowstone_disk::OpKind;
use flowstone_format::MANIFEST_TEMP_NAME;

use crate::harness::{Driven, Machine, values};

const REQUESTS: u64 = 4;

/// Of 4,000 bytes each, so that two fit into a segment.
fn value(number: u64) -> String {
    format!("{number:04000}")
}

fn submit(broker: &Driven, acks: Option<Acks>) -> Vec<PendingProduce> {
    let one = |number| {
        let records = values([value(number)]);
        let permit = broker.wait(broker.broker.admit(records.len())).unwrap();
        let request = ProduceRequest {
            topic: "visits".to_owned(),
            partition: Some(0),
            records,
            acks,
            ..ProduceRequest::default()
        };
        broker.broker.submit(request, permit).unwrap()
    };
    (0..REQUESTS).map(one).collect()
}

fn answers(broker: &Driven, acks: Option<Acks>) -> Vec<Result<Produced, Error>> {
    let pending = submit(broker, acks);
    pending.into_iter().map(|one| broker.wait(one)).collect()
}

/// Lets there be no space for any MANIFEST behind the first `count`.
fn no_manifest_behind(machine: &Machine, count: u64) -> Arc<AtomicU64> {
    let seen = Arc::new(AtomicU64::new(0));
    let counter = Arc::clone(&seen);
    machine.disk.set_hook(move |op| {
        let is_made = op.kind == OpKind::Write && op.path.ends_with(MANIFEST_TEMP_NAME);
        let fails = is_made && counter.fetch_add(1, Relaxed) >= count;
        fails.then(|| ErrorKind::StorageFull.into())
    });
    seen
}

fn visits() -> (Machine, Driven) {
    let machine = Machine::new(1);
    let broker = machine.open();
    broker.create("visits", 1);
    (machine, broker)
}

#[test]
fn a_group_over_a_segments_end_is_on_disk_when_it_is_answered() {
    let (machine, broker) = visits();
    for (offset, answer) in (0..).zip(answers(&broker, None)) {
        assert_eq!(answer.unwrap().runs[0].base_offset, offset);
    }
    drop(broker);
    machine.disk.power_cut();
    let expected: Vec<_> = (0..REQUESTS).map(value).collect();
    assert_eq!(machine.open().all("visits", 0), expected);
}

#[test]
fn what_was_answered_before_the_sync_survives_the_process() {
    let (machine, broker) = visits();
    let written = answers(&broker, Some(Acks::Written));
    assert!(written.iter().all(Result::is_ok));
    drop(broker);
    machine.disk.process_crash();
    assert_eq!(machine.open().all("visits", 0).len() as u64, REQUESTS);
}

#[test]
fn without_space_for_the_seal_nothing_behind_it_is_said_to_be_durable() {
    for power_cut in [false, true] {
        without_space_for_the_seal(power_cut);
    }
}

fn without_space_for_the_seal(power_cut: bool) {
    let (machine, broker) = visits();
    // The first segment's, and that of the roll.
    let seen = no_manifest_behind(&machine, 2);
    let told = answers(&broker, None);
    assert!(seen.load(Relaxed) > 2, "there was no seal");
    let durable = told.iter().take_while(|answer| answer.is_ok()).count();
    assert!(0 < durable && durable < told.len(), "{told:?}");
    for answer in &told[durable..] {
        assert!(
            matches!(answer, Err(Error::OutcomeUnknown { detail }) if detail.contains("MANIFEST")),
            "{answer:?}"
        );
    }
    assert_eq!(broker.all("visits", 0).len(), durable, "no more is shown");
    assert_eq!(machine.fatal.lock().unwrap().len(), 0);

    machine.disk.clear_faults();
    if power_cut {
        drop(broker);
        machine.disk.power_cut();
        let left = machine.open().all("visits", 0);
        let expected: Vec<_> = (0..REQUESTS).map(value).collect();
        assert!(left.len() >= durable && expected.starts_with(&left));
        return;
    }
    let more = broker.put("visits", 0, "more");
    assert_eq!(more, REQUESTS, "they were appended");
    assert_eq!(broker.all("visits", 0).len() as u64, REQUESTS + 1);
}
