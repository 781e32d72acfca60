//! How the files of a partition are shown.

use std::fmt;
use std::io::{self, Write};

use flowstone_broker::OfflinePartition;
use flowstone_log::Damage;
use flowstone_log::inspect::{FrameReport, PartitionReport, SegmentReport, SnapshotFault};
use serde::Serialize;

use crate::output::{Align, Table, print_line};
use crate::units::{show_count, show_many, show_size, show_time};

/// A partition's segments, and what is wrong with them.
#[derive(Debug, Serialize)]
pub(super) struct Partition {
    partition: u64,
    /// The topic, if the log of metadata knows it.
    topic: Option<String>,
    /// The partition's number in its topic.
    topic_partition: Option<u32>,
    log_start_offset: u64,
    end_offset: u64,
    segments: Vec<Segment>,
    damages: Vec<DamageView>,
    /// The producer snapshots that are not as they were written.
    producer_snapshots: Vec<SnapshotView>,
}

#[derive(Debug, Serialize)]
struct Segment {
    file: String,
    state: String,
    base_offset: u64,
    end_offset: u64,
    batch_count: u64,
    record_count: u64,
    bytes: u64,
    /// A write that a crash cut short lies at its end. It was never acknowledged as durable.
    torn_tail: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    batches: Option<Vec<Batch>>,
}

/// A batch that has passed its checks.
#[derive(Debug, Serialize)]
pub(super) struct Batch {
    position: u64,
    kind: String,
    base_offset: u64,
    record_count: u32,
    bytes: u64,
    append_time: String,
    payload_crc: String,
}

/// Where something is wrong, and what.
#[derive(Debug, Serialize)]
pub(super) struct DamageView {
    /// The first offset that cannot be served.
    offset: u64,
    file: String,
    position: u64,
    detail: String,
}

/// A producer snapshot that is wrong, and how.
#[derive(Debug, Serialize)]
pub(super) struct SnapshotView {
    file: String,
    detail: String,
}

impl SnapshotView {
    pub(super) fn new(fault: &SnapshotFault) -> Self {
        Self {
            file: fault.path.display().to_string(),
            detail: fault.detail.clone(),
        }
    }
}

impl fmt::Display for SnapshotView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { file, detail } = self;
        write!(
            f,
            "{file}: {detail}; requests with a producer may be refused"
        )
    }
}

impl Batch {
    pub(super) fn new(frame: &FrameReport) -> Self {
        let header = &frame.header;
        Self {
            position: frame.position.get(),
            kind: format!("{:?}", header.kind).to_lowercase(),
            base_offset: header.base_offset.get(),
            record_count: header.record_count,
            bytes: header.frame_len(),
            append_time: show_time(header.append_ms),
            payload_crc: format!("{:08x}", header.payload_crc),
        }
    }
}

impl Segment {
    fn new(report: &SegmentReport, batches: Option<Vec<Batch>>) -> Self {
        let file = report.path.file_name().unwrap_or_default();
        Self {
            file: file.to_string_lossy().into_owned(),
            state: format!("{:?}", report.entry.state).to_lowercase(),
            base_offset: report.entry.base_offset.get(),
            end_offset: report.end_offset.get(),
            batch_count: report.frame_count,
            record_count: report.record_count,
            bytes: report.end_position.get(),
            torn_tail: report.torn_tail,
            batches,
        }
    }
}

impl Partition {
    /// `batches` stand in order, each with the base offset of its segment; none: they are not
    /// shown.
    pub(super) fn new(
        report: &PartitionReport,
        own: Option<&OfflinePartition>,
        batches: Option<Vec<(u64, Batch)>>,
    ) -> Self {
        let mut batches = batches.map(|batches| batches.into_iter().peekable());
        let segments = report.segments.iter().map(|segment| {
            let base = segment.entry.base_offset.get();
            let own = batches.as_mut().map(|batches| {
                std::iter::from_fn(|| batches.next_if(|(of, _)| *of == base))
                    .map(|(_, batch)| batch)
                    .collect()
            });
            Segment::new(segment, own)
        });
        Self {
            partition: report.partition.get(),
            topic: own.map(|own| own.topic.clone()),
            topic_partition: own.filter(|own| !own.internal).map(|own| own.number),
            log_start_offset: report.log_start_offset.get(),
            end_offset: report.end_offset().get(),
            segments: segments.collect(),
            damages: report.damages.iter().map(DamageView::new).collect(),
            producer_snapshots: report.snapshots.iter().map(SnapshotView::new).collect(),
        }
    }

    pub(super) fn record_count(&self) -> u64 {
        self.segments.iter().map(|one| one.record_count).sum()
    }

    pub(super) fn batch_count(&self) -> u64 {
        self.segments.iter().map(|one| one.batch_count).sum()
    }

    pub(super) fn bytes(&self) -> u64 {
        self.segments.iter().map(|one| one.bytes).sum()
    }

    pub(super) fn segment_count(&self) -> u64 {
        self.segments.len() as u64
    }

    /// Everything, for people.
    pub(super) fn print(&self) -> io::Result<()> {
        print_line(format_args!(
            "partition {}{}: offsets {} to {}, {}, {}",
            self.partition,
            self.label(),
            self.log_start_offset,
            self.end_offset,
            show_many(self.segment_count(), "segment"),
            show_size(self.bytes()),
        ))?;
        if !self.segments.is_empty() {
            self.segments().print()?;
        }
        for segment in &self.segments {
            if let Some(batches) = &segment.batches {
                print_line(format_args!("\n{}", segment.file))?;
                table_of(batches).print()?;
            }
        }
        self.print_damages()
    }

    /// A line if it is sound, or what is wrong with it.
    pub(super) fn print_verdict(&self) -> io::Result<()> {
        let verdict = if self.faults().next().is_none() {
            "sound"
        } else {
            "DAMAGED"
        };
        let torn = if self.segments.iter().any(|one| one.torn_tail) {
            ", with a write at its end that a crash cut short before it was acknowledged"
        } else {
            ""
        };
        print_line(format_args!(
            "partition {}{}: {verdict}, {}, offsets {} to {}{torn}",
            self.partition,
            self.label(),
            show_many(self.record_count(), "record"),
            self.log_start_offset,
            self.end_offset,
        ))?;
        self.print_damages()
    }

    fn label(&self) -> String {
        label(self.topic.as_deref(), self.topic_partition)
    }

    fn print_damages(&self) -> io::Result<()> {
        let mut out = io::stdout().lock();
        for fault in self.faults() {
            writeln!(out, "  {fault}")?;
        }
        Ok(())
    }

    /// All that is wrong with it.
    pub(super) fn faults(&self) -> impl Iterator<Item = String> {
        let damages = self.damages.iter().map(ToString::to_string);
        let snapshots = self.producer_snapshots.iter().map(ToString::to_string);
        damages.chain(snapshots)
    }

    fn segments(&self) -> Table {
        let mut table = Table::new(&[
            ("SEGMENT", Align::Left),
            ("STATE", Align::Left),
            ("OFFSETS", Align::Right),
            ("", Align::Left),
            ("BATCHES", Align::Right),
            ("RECORDS", Align::Right),
            ("SIZE", Align::Right),
            ("TAIL", Align::Left),
        ]);
        for segment in &self.segments {
            table.row(vec![
                segment.file.clone(),
                segment.state.clone(),
                segment.base_offset.to_string(),
                format!("to {}", segment.end_offset),
                show_count(segment.batch_count),
                show_count(segment.record_count),
                show_size(segment.bytes),
                if segment.torn_tail { "torn" } else { "clean" }.to_owned(),
            ]);
        }
        table
    }
}

fn table_of(batches: &[Batch]) -> Table {
    let mut table = Table::new(&[
        ("BYTE", Align::Right),
        ("KIND", Align::Left),
        ("OFFSET", Align::Right),
        ("RECORDS", Align::Right),
        ("LENGTH", Align::Right),
        ("APPENDED", Align::Left),
        ("CRC", Align::Left),
    ]);
    for batch in batches {
        table.row(vec![
            batch.position.to_string(),
            batch.kind.clone(),
            batch.base_offset.to_string(),
            batch.record_count.to_string(),
            batch.bytes.to_string(),
            batch.append_time.clone(),
            batch.payload_crc.clone(),
        ]);
    }
    table
}

impl fmt::Display for DamageView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "damaged from offset {} on: {}, byte {}: {}",
            self.offset, self.file, self.position, self.detail
        )
    }
}

/// Whose a partition is, behind its id.
pub(super) fn label(topic: Option<&str>, number: Option<u32>) -> String {
    match (topic, number) {
        (Some(topic), Some(number)) => format!(" ({topic} {number})"),
        (Some(topic), None) => format!(" ({topic}, internal)"),
        (None, _) => String::new(),
    }
}

impl DamageView {
    pub(super) fn new(damage: &Damage) -> Self {
        Self {
            offset: damage.offset.get(),
            file: damage.path.display().to_string(),
            position: damage.position.get(),
            detail: damage.detail.clone(),
        }
    }
}
