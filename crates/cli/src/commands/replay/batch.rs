//! Records gathered into one request.

use std::ops::Range;

use bytes::Bytes;
use flowstone_client::Record;
use tokio::time::Instant;

use super::pace::Pace;
use super::plan::{RequestLimits, SPAN_MAX};

/// Consecutive records of one partition.
#[derive(Debug, Default)]
pub(super) struct Gathered {
    records: Vec<Record>,
    bytes: usize,
}

impl Gathered {
    /// Whether a record belongs into this request too.
    pub(super) fn takes(&self, record: &Record, limits: &RequestLimits, pace: &Pace) -> bool {
        let Some(first) = self.records.first() else {
            return true;
        };
        self.bytes + weight(record) <= limits.bytes
            && self.records.len() < limits.records.min(pace.records_max())
            && record.offset - first.offset < SPAN_MAX
            && pace.goes_with(first.timestamp_ms, record.timestamp_ms, Instant::now())
    }

    pub(super) fn push(&mut self, record: Record) {
        self.bytes += weight(&record);
        self.records.push(record);
    }

    /// The offsets from the first record to the last.
    pub(super) fn offsets(&self) -> Option<Range<i64>> {
        let (first, last) = (self.records.first()?, self.records.last()?);
        Some(first.offset..last.offset + 1)
    }

    pub(super) fn first_time_ms(&self) -> Option<i64> {
        self.records.first().map(|record| record.timestamp_ms)
    }

    /// The records, which leaves none.
    pub(super) fn take(&mut self) -> Vec<Record> {
        self.bytes = 0;
        std::mem::take(&mut self.records)
    }
}

/// Not less than what a record takes in a request.
fn weight(record: &Record) -> usize {
    const FIELDS: usize = 64;
    const HEADER: usize = 16;
    let len = |bytes: &Option<Bytes>| bytes.as_ref().map_or(0, Bytes::len);
    let headers = record.headers.iter();
    let headers: usize = headers.map(|h| HEADER + h.key.len() + h.value.len()).sum();
    FIELDS + len(&record.key) + len(&record.value) + headers
}
