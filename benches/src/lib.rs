//! What all benchmarks share: record runs as a client sends them, and how they come into a log.

mod process;
mod serve;
mod touch;

use std::ops::Range;

use flowstone_format::RecordLimits;
use flowstone_log::{Batch, Log};
use flowstone_proto::v1::{ProduceRequest, Record};
use prost::Message;

pub use process::{anonymous_bytes, cpu_seconds};
pub use serve::serve;
pub use touch::touch;

/// One request's records, in the wire form that is appended.
#[derive(Clone, Debug)]
pub struct Run {
    /// The run of `0A len Record`.
    pub bytes: Vec<u8>,
    /// How many records it has.
    pub record_count: u32,
    /// What it is held against.
    pub limits: RecordLimits,
}

impl Run {
    /// Records with a key of 16 bytes and a value of `value_bytes`, encoded as a plain stub does.
    #[must_use]
    pub fn new(record_count: u32, value_bytes: usize) -> Self {
        let record = |number: u32| Record {
            key: Some(format!("visitor-{number:08}").into()),
            value: Some(vec![b'l'; value_bytes].into()),
            ..Record::default()
        };
        let records = (0..record_count).map(record).collect();
        let request = ProduceRequest {
            records,
            ..ProduceRequest::default()
        };
        Run {
            bytes: request.encode_to_vec(),
            record_count,
            limits: RecordLimits::default(),
        }
    }

    /// All of it, as the one range that goes to one partition.
    #[must_use]
    pub fn ranges(&self) -> [Range<usize>; 1] {
        std::array::from_fn(|_| 0..self.bytes.len())
    }
}

/// Appends a run to a log, as one request.
///
/// # Panics
/// When the disk does not take it.
pub fn append(log: &mut Log, run: &Run) {
    let batch = Batch {
        request: &run.bytes,
        runs: &run.ranges(),
        record_count: run.record_count,
        append_ms: 1_700_000_000_000,
        routing_count: 1,
        limits: &run.limits,
        producer: None,
        expected_offset: None,
    };
    log.append(&batch).expect("the disk takes it");
}

/// The value in the middle; of an even number of them the upper of the two.
///
/// # Panics
/// When there is none.
#[must_use]
pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
