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
