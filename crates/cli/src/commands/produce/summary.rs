//! What a produce command ends with.

use std::time::Duration;

use flowstone_client::Producer;
use serde::Serialize;

use crate::output::OutputFormat;
use crate::units::{show_count, show_many, show_size};

/// How many records were acknowledged, and how fast.
#[derive(Debug, Serialize)]
pub(super) struct Summary {
    /// Acknowledged.
    records: u64,
    /// Of their lines without newlines; of the encoded records where not all were acknowledged.
    bytes: u64,
    seconds: f64,
    records_per_second: u64,
    /// Surely not in the log.
    failed: u64,
    /// Perhaps in the log.
    unknown: u64,
}

impl Summary {
    pub(super) fn new(
        producer: &Producer,
        records: u64,
        value_bytes: u64,
        elapsed: Duration,
    ) -> Self {
        let totals = producer.totals();
        let seconds = elapsed.as_secs_f64();
        let acknowledged = totals.acknowledged_records;
        let bytes = if acknowledged == records {
            value_bytes
        } else {
            totals.acknowledged_bytes
        };
        Self {
            records: acknowledged,
            bytes,
            seconds,
            records_per_second: (acknowledged as f64 / seconds.max(1e-9)) as u64,
            failed: totals.failed_records,
            unknown: totals.unknown_records,
        }
    }

    /// Tells people or programs how it went, on standard error.
    pub(super) fn print(&self, output: OutputFormat, went_well: bool) {
        if output == OutputFormat::Json
            && let Ok(json) = serde_json::to_string(self)
        {
            eprintln!("{json}");
            return;
        }
        let acknowledged = format!(
            "{}, {} in {:.2} s, {} records/s",
            show_many(self.records, "record"),
            show_size(self.bytes),
            self.seconds,
            show_count(self.records_per_second)
        );
        if went_well {
            eprintln!("produced {acknowledged}");
            return;
        }
        eprintln!("acknowledged before the failure: {acknowledged}");
        if self.unknown > 0 {
            eprintln!(
                "may or may not be appended: {}",
                show_many(self.unknown, "record")
            );
        }
        if self.failed > 0 {
            eprintln!("surely not appended: {}", show_many(self.failed, "record"));
        }
    }
}
