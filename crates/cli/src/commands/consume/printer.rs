//! Records to standard output.

use std::io::{self, BufWriter, Write};

use anyhow::{Context, Result};
use flowstone_client::{Batch, RecordRef};

use crate::format::Template;
use crate::json_line;

const BUFFER_BYTES: usize = 256 << 10;

/// How a record looks.
#[derive(Debug)]
pub(super) enum Shape {
    Template(Template),
    Json,
}

/// What was printed of some records.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Printed {
    pub(super) records: usize,
    pub(super) last_offset: Option<i64>,
}

/// Prints records until it has printed as many as are wanted.
pub(super) struct Printer {
    out: BufWriter<io::StdoutLock<'static>>,
    topic: String,
    shape: Shape,
    /// How many more are wanted; none: all.
    wanted: Option<u64>,
}

impl Printer {
    pub(super) fn new(topic: &str, shape: Shape, wanted: Option<u64>) -> Self {
        Self {
            out: BufWriter::with_capacity(BUFFER_BYTES, io::stdout().lock()),
            topic: topic.to_owned(),
            shape,
            wanted,
        }
    }

    /// Prints a batch, or as much of it as is wanted.
    pub(super) fn print(&mut self, batch: &Batch) -> Result<()> {
        self.print_some(batch.partition(), &batch.records)?;
        Ok(())
    }

    /// Prints records, or as many of them as are wanted.
    pub(super) fn print_some<'a>(
        &mut self,
        partition: i32,
        records: impl IntoIterator<Item = RecordRef<'a>>,
    ) -> Result<Printed> {
        let wanted = self.wanted.map_or(usize::MAX, |wanted| {
            usize::try_from(wanted).unwrap_or(usize::MAX)
        });
        let mut printed = Printed::default();
        for record in records.into_iter().take(wanted) {
            self.print_one(partition, &record)
                .context("cannot write to standard output")?;
            printed.records += 1;
            printed.last_offset = Some(record.offset);
        }
        if let Some(wanted) = &mut self.wanted {
            *wanted -= printed.records as u64;
        }
        Ok(printed)
    }

    fn print_one(&mut self, partition: i32, record: &RecordRef<'_>) -> io::Result<()> {
        match &self.shape {
            Shape::Template(template) => {
                template.write(&mut self.out, &self.topic, partition, record)
            }
            Shape::Json => json_line::write(&mut self.out, &self.topic, partition, record),
        }
    }

    /// Whether as many records were printed as were wanted.
    pub(super) fn is_done(&self) -> bool {
        self.wanted == Some(0)
    }

    /// Hands everything that was printed to whoever reads it.
    pub(super) fn flush(&mut self) -> Result<()> {
        self.out.flush().context("cannot write to standard output")
    }
}
