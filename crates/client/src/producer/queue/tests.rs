//! How large requests grow.

use super::*;

const BATCH_BYTES: usize = 1_000;
const SPREAD_BATCH_BYTES: usize = 5_000;

fn queue(partition_count: u32) -> Queue {
    let bounds = Bounds {
        topic: "visits".to_owned(),
        record_bytes_max: 100,
        run_bytes_max: 1 << 20,
        batch_bytes: BATCH_BYTES,
        spread_batch_bytes: SPREAD_BATCH_BYTES,
        batch_records: u32::MAX,
        linger: Duration::ZERO,
    };
    Queue::new(bounds, 100 << 10, 0, Lanes::new(partition_count))
}

/// Adds records with this many keys until there is no room for more, and tells how large the requests are that are
/// ready then.
fn fill(queue: &Queue, keys: u32) -> Vec<usize> {
    let record = |key: u32| proto::Record {
        key: Some(format!("key {key}").into()),
        value: Some(vec![7; 50].into()),
        ..proto::Record::default()
    };
    for key in (0..keys).cycle() {
        let record = record(key);
        let mut pushed = Pushed::NotYet;
        while let Pushed::NotYet = pushed {
            pushed = queue.push_now(&Entry::new(&record), false).unwrap();
        }
        if let Pushed::NoRoom = pushed {
            break;
        }
    }
    let mut state = queue.lock();
    state.ready.drain(..).map(|batch| batch.run_bytes).collect()
}

fn largest_after_a_crowd(queue: &Queue) -> usize {
    assert!(fill(queue, 5).iter().all(|&bytes| bytes <= BATCH_BYTES));
    let mut state = queue.lock();
    assert!(state.lanes.is_empty());
    state.taken_bytes = 0;
    drop(state);
    fill(queue, 5).into_iter().max().unwrap()
}

#[tokio::test(start_paused = true)]
async fn requests_grow_larger_while_records_are_sorted_by_partition() {
    let sorted = largest_after_a_crowd(&queue(1_000));
    assert!(sorted > SPREAD_BATCH_BYTES / 2, "{sorted}");
    assert!(sorted <= SPREAD_BATCH_BYTES, "{sorted}");
    let mixed = largest_after_a_crowd(&queue(2));
    assert!(mixed <= BATCH_BYTES, "{mixed}");
}

/// What comes of records that are added.
#[derive(Debug, PartialEq)]
struct Outcome {
    /// How many batches are ready after each call.
    ready: Vec<usize>,
    /// Of all batches in the end: records, bytes, and room that is taken.
    batches: Vec<(u32, usize, usize)>,
    /// Why not more were added.
    why: String,
}

/// Calls `add` with the records that are left until one cannot be added.
fn add_all(
    queue: &Queue,
    records: &[proto::Record],
    add: impl Fn(&[proto::Record]) -> (usize, Result<bool>),
) -> Outcome {
    let (mut left, mut ready) = (records, Vec::new());
    let why = loop {
        if left.is_empty() {
            break "all were added".to_owned();
        }
        let (added, outcome) = add(left);
        left = &left[added..];
        ready.push(queue.lock().ready.len());
        match outcome {
            Ok(true) => {}
            Ok(false) => break format!("no room, {} left", left.len()),
            Err(error) => break format!("{error}, {} left", left.len()),
        }
    };
    let mut state = queue.lock();
    state.seal_all();
    let room: usize = state.ready.iter().map(|batch| batch.room).sum();
    assert_eq!(state.taken_bytes, room);
    let batches = state.ready.drain(..);
    let batches = batches.map(|batch| (batch.record_count, batch.run_bytes, batch.room));
    Outcome {
        ready,
        batches: batches.collect(),
        why,
    }
}

fn one_by_one(queue: &Queue, records: &[proto::Record]) -> Outcome {
    add_all(queue, records, |left| {
        let entry = Entry::new(&left[0]);
        let pushed = queue.bounds().check(&entry);
        match pushed.and_then(|()| queue.push_now(&entry, false)) {
            Ok(Pushed::Yes(_)) => (1, Ok(true)),
            other => (0, other.map(goes_on)),
        }
    })
}

fn at_once(queue: &Queue, records: &[proto::Record], most: usize) -> Outcome {
    add_all(queue, records, |left| {
        let (added, outcome) = queue.push_front(&left[..left.len().min(most)]);
        (added, outcome.map(goes_on))
    })
}

fn goes_on<T>(pushed: Pushed<T>) -> bool {
    !matches!(pushed, Pushed::NoRoom)
}

/// Most of many records go another way than one that comes alone.
#[tokio::test]
async fn many_at_once_are_batched_as_one_by_one() {
    let record = |key: bool, bytes: usize, timestamp_ms: i64| proto::Record {
        key: key.then(|| "key".into()),
        value: Some(vec![7; bytes].into()),
        timestamp_ms,
        ..proto::Record::default()
    };
    let mut seen = Vec::new();
    for batch_records in [1, 2, 7, u32::MAX] {
        // More than there is room for, and one that is too large.
        for (largest, count) in [(10, 900), (91, 900), (96, 900), (91, 3_000)] {
            let records: Vec<_> = (0..count)
                .map(|n| record(n % 3 == 0, n * 31 % (largest + 1), (n % 5) as i64))
                .collect();
            let make = || {
                let mut queue = queue(1);
                queue.bounds.batch_records = batch_records;
                queue
            };
            let expected = one_by_one(&make(), &records);
            assert_eq!(at_once(&make(), &records, 1), expected);
            let many = at_once(&make(), &records, usize::MAX);
            assert_eq!(many.batches, expected.batches);
            assert_eq!(many.why, expected.why);
            seen.push(expected.why);
        }
    }
    for wanted in ["all", "no room", "takes records of at most 100"] {
        let is_there = seen.iter().any(|why| why.contains(wanted));
        assert!(is_there, "{wanted}: {seen:?}");
    }
}

#[tokio::test]
async fn many_at_once_overtake_nobody_who_waits_and_end_with_the_producer() {
    let queue = queue(1);
    let record = [proto::Record::default()];
    let (added, _) = queue.push_front(&record);
    assert_eq!(added, 1);
    let waiting = Waiting::begin(&queue);
    let waits = queue.push_front(&record);
    assert!(matches!(waits, (0, Ok(Pushed::NoRoom))), "{waits:?}");
    drop(waiting);
    assert_eq!(queue.push_front(&record).0, 1);
    queue.end(std::iter::empty());
    let ended = queue.push_front(&record);
    assert!(matches!(ended, (0, Err(_))), "{ended:?}");
}
