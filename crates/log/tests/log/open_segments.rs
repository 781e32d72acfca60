//! Logs that share a bound on what is open: cold files, maps and indexes are closed, and nobody notices.

use std::io::Error as IoError;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use flowstone_disk::{Env, OpKind};
use flowstone_format::{Offset, PartitionId};
use flowstone_log::{Log, LogConfig, LogError, OpenSegments, ProducerBudget, ReadLimit};

use crate::harness::{DATA_DIR, Rig, append, publish, read_all, strings, values};

const EMFILE: i32 = 24;

/// Some logs on one disk.
struct Logs {
    rig: Rig,
    open: Arc<OpenSegments>,
    logs: Vec<Log>,
}

impl Logs {
    fn new(count: u64, open: OpenSegments) -> Self {
        let mut logs = Self {
            rig: Rig::new(1),
            open: Arc::new(open),
            logs: Vec::new(),
        };
        logs.reopen(count);
        logs
    }

    fn reopen(&mut self, count: u64) {
        let seed = self.rig.disk.count_all();
        let env = Env::simulated(&self.rig.disk, &self.rig.clock, seed);
        let budget = Arc::new(ProducerBudget::unlimited());
        let open = |number| {
            let dir = Path::new(DATA_DIR).join(format!("partitions/{number}"));
            let (id, config) = (
                PartitionId::new(10 + number),
                LogConfig {
                    segment_bytes: 8 << 10,
                    ..LogConfig::default()
                },
            );
            Log::open_within(&env, &dir, id, None, config, &budget, &self.open).unwrap()
        };
        self.logs = (0..count).map(open).collect();
    }

    fn put(&mut self, log: usize, value: &str) {
        append(&mut self.logs[log], &values([value]), 1).unwrap();
        publish(&mut self.logs[log]).unwrap();
    }

    /// Counts how often files with such a name are opened from now on.
    fn count_opens(&self, name_ends: &'static str) -> Arc<AtomicU64> {
        let opens = Arc::new(AtomicU64::new(0));
        let counts = Arc::clone(&opens);
        self.rig.disk.set_hook(move |op| {
            if op.kind == OpKind::Open && op.path.to_str().unwrap().ends_with(name_ends) {
                counts.fetch_add(1, Ordering::Relaxed);
            }
            None
        });
        opens
    }
}

fn values_of(log: usize, count: usize) -> Vec<String> {
    (0..count).map(|n| format!("{log}-{n}")).collect()
}

#[test]
fn files_of_idle_logs_are_closed_and_opened_again_by_the_next_append() {
    for (limit, expected) in [(1, 12), (2, 12), (4, 0)] {
        let mut logs = Logs::new(4, OpenSegments::new(limit, 10, 1 << 20));
        for log in 0..4 {
            logs.put(log, &format!("{log}-0"));
        }
        let opens = logs.count_opens(".segment");
        for n in 1..4 {
            for log in 0..4 {
                logs.put(log, &format!("{log}-{n}"));
            }
        }
        assert_eq!(opens.load(Ordering::Relaxed), expected, "limit {limit}");
        logs.rig.disk.clear_faults();
        logs.rig.disk.power_cut();
        logs.reopen(4);
        for log in 0..4 {
            let read = read_all(&logs.logs[log]);
            let read = strings(read).into_iter().map(|(_, value)| value);
            assert_eq!(read.collect::<Vec<_>>(), values_of(log, 4));
        }
    }
}

#[test]
fn a_file_with_bytes_that_are_not_synced_stays_open_and_tells_of_its_sync() {
    let mut logs = Logs::new(4, OpenSegments::new(1, 10, 1 << 20));
    for log in 0..4 {
        logs.put(log, "first");
    }
    append(&mut logs.logs[0], &values(["staged"]), 1).unwrap();
    append(&mut logs.logs[1], &values(["written"]), 1).unwrap();
    logs.logs[1].write().unwrap();
    for n in 0..5 {
        logs.put(2 + n % 2, "others");
    }
    let opens = logs.count_opens(".segment");
    logs.logs[0].sync().unwrap();
    assert_eq!(opens.load(Ordering::Relaxed), 0);
    logs.rig
        .disk
        .set_hook(|op| (op.kind == OpKind::SyncData).then(|| IoError::other("lost")));
    let failed = logs.logs[1].sync().unwrap_err();
    assert!(matches!(failed, LogError::SyncFailed { .. }), "{failed}");
}

#[test]
fn an_append_to_a_closed_file_that_cannot_be_opened_leaves_the_log_as_it_was() {
    let mut logs = Logs::new(3, OpenSegments::new(1, 10, 1 << 20));
    for log in 0..3 {
        logs.put(log, "first");
    }
    logs.rig.disk.set_hook(|op| {
        let opens = op.kind == OpKind::Open;
        opens.then(|| IoError::from_raw_os_error(EMFILE))
    });
    let refused = append(&mut logs.logs[0], &values(["second"]), 1).unwrap_err();
    assert!(
        matches!(refused, LogError::TooManyOpenFiles { .. }),
        "{refused}"
    );
    assert!(!logs.logs[0].is_poisoned());
    assert_eq!(logs.logs[0].log_end_offset(), Offset::new(1));
    logs.rig.disk.clear_faults();
    logs.put(0, "second");
    assert_eq!(strings(read_all(&logs.logs[0])).len(), 2);
}

#[test]
fn maps_and_indexes_of_cold_segments_go_and_what_was_read_stays() {
    let mut logs = Logs::new(1, OpenSegments::new(1, 2, 1));
    let value = |n: usize| format!("{n}-{}", "x".repeat(1000));
    for n in 0..60 {
        logs.put(0, &value(n));
    }
    let reader = logs.logs[0].reader();
    let segments = reader.segment_count() as u64;
    assert!(segments > 5);
    // One record a read, from the end to the beginning: each segment is left before the next.
    let maps = logs.rig.disk.count(OpKind::Map);
    let indexes = logs.count_opens(".index");
    let limit = ReadLimit {
        max_records: 1,
        ..ReadLimit::default()
    };
    for _ in 0..2 {
        let read: Vec<_> = (0..60)
            .rev()
            .map(|n| reader.read(Offset::new(n), &limit).unwrap())
            .collect();
        for (read, n) in read.iter().zip((0..60).rev()) {
            let bytes = &read.chunks[0];
            let wanted = value(n);
            let found = bytes.windows(wanted.len()).any(|w| w == wanted.as_bytes());
            assert!(found, "record {n}");
        }
    }
    let maps = logs.rig.disk.count(OpKind::Map) - maps;
    assert!(
        (2 * segments - 2..=2 * segments).contains(&maps),
        "{maps} maps"
    );
    let indexes = indexes.load(Ordering::Relaxed);
    assert!(
        (2 * segments - 4..=2 * segments).contains(&indexes),
        "{indexes} indexes"
    );
    assert_eq!(strings(read_all(&logs.logs[0])).len(), 60);
}
