//! What the broker's own logs may hold: any records, whole and with the right checksums, in the log of the
//! metadata or of the offsets. A broker opens over them or refuses, and works with what it opened.
#![no_main]

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use flowstone_broker::{Broker, BrokerConfig, Env, TopicSpec};
use flowstone_disk::{ManualClock, SimDisk};
use flowstone_format::{PARTITIONS_DIR, PartitionId, RecordLimits, partition_dir_name};
use flowstone_log::{Batch, Log, LogConfig};

const DATA_DIR: &str = "/data";
const NOW_MS: i64 = 1_700_000_000_000;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let Some((&log, entries)) = data.split_first() else {
        return;
    };
    let disk = directory().fork(0);
    append(&disk, PartitionId::new(u64::from(log % 2)), entries);
    let Ok(broker) = open(&disk) else {
        return;
    };
    for topic in broker.list_topics("", None, 100) {
        let described = broker.describe_topic(&topic.spec.name);
        described.expect("a topic that is listed is there");
    }
    broker.list_groups(None, 100);
    broker.run_retention();
    while broker.run_pending() {}
});

/// A directory with a topic, as a broker leaves it.
fn directory() -> &'static SimDisk {
    static DIRECTORY: OnceLock<SimDisk> = OnceLock::new();
    DIRECTORY.get_or_init(|| {
        let disk = SimDisk::new(0);
        let broker = open(&disk).expect("a new directory opens");
        drive(&broker, broker.create_topic(TopicSpec::new("visits", 2), false));
        drive(&broker, broker.shutdown());
        disk
    })
}

fn open(disk: &SimDisk) -> Result<Broker, flowstone_broker::Error> {
    let mut config = BrokerConfig::new(DATA_DIR);
    config.append_threads = 0;
    config.read_threads = 0;
    Broker::open(config, env(disk))
}

fn env(disk: &SimDisk) -> Env {
    Env::simulated(disk, &ManualClock::new(NOW_MS), disk.count_all())
}

/// Waits for a call of a broker that has no threads.
fn drive<T, E: std::fmt::Debug>(broker: &Broker, call: impl Future<Output = Result<T, E>>) -> T {
    let mut call = std::pin::pin!(call);
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    loop {
        if let std::task::Poll::Ready(outcome) = call.as_mut().poll(&mut context) {
            return outcome.expect("the simulated disk does not fail");
        }
        broker.run_pending();
    }
}

/// Appends one record for each piece of `entries`: a length and as many bytes.
fn append(disk: &SimDisk, id: PartitionId, mut entries: &[u8]) {
    let dir: PathBuf = Path::new(DATA_DIR)
        .join(PARTITIONS_DIR)
        .join(partition_dir_name(id));
    let config = LogConfig {
        segment_bytes: 16 << 20,
        ..LogConfig::default()
    };
    let mut log = Log::open(&env(disk), &dir, id, None, config).expect("the log opens");
    while let Some((&len, rest)) = entries.split_first() {
        let (value, rest) = rest.split_at(rest.len().min(usize::from(len)));
        entries = rest;
        let request = one_record(value);
        let whole = 0..request.len();
        let batch = Batch {
            request: &request,
            runs: std::slice::from_ref(&whole),
            record_count: 1,
            append_ms: NOW_MS,
            routing_count: 1,
            limits: &RecordLimits::NONE,
            producer: None,
            expected_offset: None,
        };
        log.append(&batch).expect("the record is sound");
    }
    log.write().expect("the simulated disk does not fail");
    log.sync().expect("the simulated disk does not fail");
}

/// A run of one record that holds nothing but a value of less than 256 bytes.
fn one_record(value: &[u8]) -> Vec<u8> {
    let mut record = vec![0x12];
    varint(&mut record, value.len());
    record.extend_from_slice(value);
    let mut run = vec![0x0A];
    varint(&mut run, record.len());
    run.append(&mut record);
    run
}

fn varint(out: &mut Vec<u8>, mut value: usize) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}
