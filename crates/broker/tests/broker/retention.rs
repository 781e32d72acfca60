//! What topics do not keep goes by whole segments, by age and by size.

use std::time::Duration;

use flowstone_broker::{Error, Start, SubscribeRequest, TopicChange, TopicSpec};

use crate::harness::{Driven, Machine, read};

/// Ten records of a kilobyte and more, a minute apart, in segments of four or so.
fn filled(spec: TopicSpec) -> (Machine, Driven) {
    let machine = Machine::new(1);
    let broker = machine.open();
    broker
        .wait(broker.broker.create_topic(spec, false))
        .unwrap();
    for _ in 0..10 {
        broker.put("visits", 0, &"x".repeat(3000));
        machine.clock.advance(Duration::from_secs(60));
    }
    (machine, broker)
}

fn start_of(broker: &Driven) -> u64 {
    broker.broker.describe_topic("visits").unwrap().1[0].log_start_offset
}

#[test]
fn what_is_too_old_goes_and_what_is_not_stays() {
    let spec = TopicSpec {
        retention_ms: Some(300_000),
        ..TopicSpec::new("visits", 1)
    };
    let (machine, broker) = filled(spec);
    assert!(broker.broker.run_retention());
    let start = start_of(&broker);
    assert!(
        (1..=5).contains(&start),
        "records 0 to 4 are older than five minutes, not {start}"
    );
    assert!(
        !broker.broker.run_retention(),
        "there is nothing more to do"
    );
    assert!(matches!(
        broker.fetch("visits", 0, Start::Offset(0)),
        Err(Error::OffsetTrimmed { requested: 0, .. })
    ));
    machine.clock.advance(Duration::from_secs(3600));
    assert!(broker.broker.run_retention());
    assert_eq!(start_of(&broker), 10, "a quiet partition is emptied too");
    assert_eq!(broker.put("visits", 0, "new"), 10);
    broker.shutdown();
    assert_eq!(machine.open().all("visits", 0), ["new"]);
}

#[test]
fn a_partition_shrinks_to_its_size() {
    let (_machine, broker) = filled(TopicSpec::new("visits", 1));
    assert!(
        !broker.broker.run_retention(),
        "without retention everything stays"
    );
    let small = TopicChange {
        retention_bytes: Some(Some(8 << 10)),
        ..TopicChange::default()
    };
    broker
        .wait(broker.broker.update_topic("visits", small))
        .unwrap();
    assert!(broker.broker.run_retention());
    let info = &broker.broker.describe_topic("visits").unwrap().1[0];
    assert!(info.log_start_offset > 0);
    assert!(
        info.size_bytes < (8 << 10) + (16 << 10),
        "what is kept is the size and one segment"
    );
    assert!(info.size_bytes >= 8 << 10, "never less than the size");
}

#[test]
fn a_topic_that_says_what_it_keeps_gets_segments_of_an_eighth_of_it() {
    let machine = Machine::new(1);
    let mut config = machine.config();
    config.default_segment_bytes = 64 << 10;
    let broker = machine.open_with(config).unwrap();
    let segments_of = |name: &str, spec: TopicSpec| {
        broker
            .wait(broker.broker.create_topic(spec, false))
            .unwrap();
        for _ in 0..64 {
            broker.put(name, 0, &"x".repeat(4000));
        }
        broker.broker.describe_topic(name).unwrap().1[0].segment_count
    };
    let all = segments_of("all", TopicSpec::new("all", 1));
    let keeps = |name: &str, bytes| TopicSpec {
        retention_bytes: Some(bytes),
        ..TopicSpec::new(name, 1)
    };
    // Much is kept in segments as the broker is set up, less in smaller ones.
    assert_eq!(segments_of("much", keeps("much", 8 << 20)), all);
    let some = segments_of("some", keeps("some", 256 << 10));
    assert!(
        (2 * all - 1..=2 * all + 2).contains(&some),
        "{some} of {all}"
    );
    // A capacity that is named is taken.
    let named = TopicSpec {
        segment_bytes: Some(64 << 10),
        ..keeps("named", 256 << 10)
    };
    assert_eq!(segments_of("named", named), all);
}

#[test]
fn a_reader_that_retention_has_overtaken_hears_so() {
    let spec = TopicSpec {
        retention_ms: Some(1),
        ..TopicSpec::new("visits", 1)
    };
    let (_machine, broker) = filled(spec);
    let mut reader = broker.subscribe(SubscribeRequest {
        max_batch_bytes: 1,
        ..read("visits")
    });
    reader.batch();
    broker.broker.run_retention();
    let (cursor, error) = reader.partition_error();
    assert_eq!(cursor.offset, 1);
    assert!(matches!(
        error,
        Error::OffsetTrimmed {
            log_start_offset: 10,
            ..
        }
    ));
    assert!(reader.is_waiting());
    broker.put("visits", 0, "new");
    assert_eq!(reader.batch().2, ["new"]);
}
