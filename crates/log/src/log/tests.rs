//! What a log holds in memory.

use flowstone_disk::{ManualClock, SimDisk};

use super::*;

#[test]
fn a_log_keeps_no_memory_of_what_was_staged() {
    let env = Env::simulated(&SimDisk::new(1), &ManualClock::new(0), 1);
    let dir = Path::new("/data/partitions");
    env.disk.create_dir_all(dir).unwrap();
    let open = |n: u64| {
        let (path, id) = (dir.join(n.to_string()), PartitionId::new(n));
        Log::open(&env, &path, id, None, LogConfig::default()).unwrap()
    };
    let request = [&[0x0a, 102, 0x12, 100][..], &[7; 100]].concat();
    let whole = std::slice::from_ref(&(0..104));
    let batch = |request| Batch {
        request,
        runs: whole,
        record_count: 1,
        append_ms: 0,
        routing_count: 1,
        limits: &RecordLimits::NONE,
        producer: None,
        expected_offset: None,
    };
    let malformed = [0x0b; 104];
    let mut logs = [open(1), open(2)];
    for log in &mut logs {
        log.append(&batch(&request)).unwrap();
        assert!(log.staged.capacity() > 0, "it is not written yet");
        log.write().unwrap();
        assert_eq!(log.staged.capacity(), 0);
        // What is refused leaves nothing either.
        log.append(&batch(&malformed)).unwrap_err();
        assert_eq!(log.staged.capacity(), 0);
    }
    assert!(spare::take().capacity() > 0, "the thread keeps one");
}
