//! How topics are shown.

use std::collections::BTreeMap;
use std::io;
use std::time::Duration;

use flowstone_client::{Acks, Overflow, PartitionInfo, Topic, timestamp_to_ms};
use serde::Serialize;

use crate::output::{Align, Table, print_facts, print_line};
use crate::units::{show_count, show_duration, show_size, show_time};

/// A topic's settings, for programs: `null` where the broker's default holds.
#[derive(Debug, Serialize)]
pub(super) struct Settings<'a> {
    name: &'a str,
    id: &'a str,
    partitions: i32,
    created: Option<String>,
    retention_ms: Option<u64>,
    retention_bytes: Option<i64>,
    overflow: &'static str,
    segment_bytes: Option<i64>,
    max_record_bytes: Option<i32>,
    acks: &'static str,
    labels: BTreeMap<&'a str, &'a str>,
}

/// A topic with its partitions, for programs.
#[derive(Debug, Serialize)]
pub(super) struct Description<'a> {
    #[serde(flatten)]
    settings: Settings<'a>,
    partition_details: Vec<Partition>,
}

#[derive(Debug, Serialize)]
struct Partition {
    partition: i32,
    log_start_offset: i64,
    high_watermark: i64,
    size_bytes: i64,
    segments: i32,
    offline: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    offline_reason: Option<String>,
}

impl<'a> Settings<'a> {
    pub(super) fn new(topic: &'a Topic) -> Self {
        Self {
            name: &topic.name,
            id: &topic.id,
            partitions: topic.partition_count,
            created: created(topic),
            retention_ms: retention(topic).map(|time| time.as_millis() as u64),
            retention_bytes: topic.retention_bytes,
            overflow: overflow(topic),
            segment_bytes: topic.segment_bytes,
            max_record_bytes: topic.max_record_bytes,
            acks: acks(topic),
            labels: labels(topic),
        }
    }
}

impl<'a> Description<'a> {
    pub(super) fn new(topic: &'a Topic, partitions: &[PartitionInfo]) -> Self {
        let partition_details = partitions
            .iter()
            .map(|info| Partition {
                partition: info.partition,
                log_start_offset: info.log_start_offset,
                high_watermark: info.high_watermark,
                size_bytes: info.size_bytes,
                segments: info.segment_count,
                offline: info.offline,
                offline_reason: Some(info.offline_reason.clone())
                    .filter(|reason| !reason.is_empty()),
            })
            .collect();
        Self {
            settings: Settings::new(topic),
            partition_details,
        }
    }
}

/// Topics in columns, for people.
pub(super) fn list(topics: &[Topic]) -> Table {
    let mut table = Table::new(&[
        ("TOPIC", Align::Left),
        ("PARTITIONS", Align::Right),
        ("RETENTION", Align::Left),
        ("ACKS", Align::Left),
        ("CREATED", Align::Left),
    ]);
    for topic in topics {
        table.row(vec![
            topic.name.clone(),
            topic.partition_count.to_string(),
            show_retention(topic),
            acks(topic).to_owned(),
            created(topic).unwrap_or_default(),
        ]);
    }
    table
}

/// One topic and its partitions, for people.
pub(super) fn print_description(topic: &Topic, partitions: &[PartitionInfo]) -> io::Result<()> {
    let default = || "as the broker is set up".to_owned();
    let labels: Vec<String> = labels(topic)
        .iter()
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    let mut facts = vec![
        ("topic", topic.name.clone()),
        ("id", topic.id.clone()),
        ("created", created(topic).unwrap_or_default()),
        ("partitions", topic.partition_count.to_string()),
        ("retention", show_retention(topic)),
        (
            "segments",
            match (topic.segment_bytes, topic.retention_bytes) {
                (Some(bytes), _) => show_signed_size(bytes),
                (None, Some(_)) => "an eighth of that, or as the broker is set up".to_owned(),
                (None, None) => default(),
            },
        ),
        (
            "largest record",
            topic
                .max_record_bytes
                .map_or_else(default, |bytes| show_signed_size(bytes.into())),
        ),
        ("acks", acks(topic).to_owned()),
    ];
    if !labels.is_empty() {
        facts.push(("labels", labels.join(", ")));
    }
    print_facts(&facts)?;

    let mut table = Table::new(&[
        ("PARTITION", Align::Right),
        ("START", Align::Right),
        ("END", Align::Right),
        ("RECORDS", Align::Right),
        ("SIZE", Align::Right),
        ("SEGMENTS", Align::Right),
        ("STATE", Align::Left),
    ]);
    for info in partitions {
        let records = info.high_watermark - info.log_start_offset;
        table.row(vec![
            info.partition.to_string(),
            info.log_start_offset.to_string(),
            info.high_watermark.to_string(),
            show_count(u64::try_from(records).unwrap_or_default()),
            show_signed_size(info.size_bytes),
            info.segment_count.to_string(),
            if info.offline { "offline" } else { "online" }.to_owned(),
        ]);
    }
    print_line("")?;
    table.print()?;
    let reasons = partitions.iter().map(|info| info.offline_reason.as_str());
    for reason in reasons.filter(|reason| !reason.is_empty()) {
        print_line(format_args!("\n{reason}"))?;
    }
    Ok(())
}

fn retention(topic: &Topic) -> Option<Duration> {
    Duration::try_from(topic.retention?).ok()
}

fn show_retention(topic: &Topic) -> String {
    let limits: Vec<String> = [
        retention(topic).map(show_duration),
        topic
            .retention_bytes
            .map(|bytes| format!("{} a partition", show_signed_size(bytes))),
        (topic.overflow() == Overflow::Reject).then(|| "refuses records when full".to_owned()),
    ]
    .into_iter()
    .flatten()
    .collect();
    if limits.is_empty() {
        "for ever".to_owned()
    } else {
        limits.join(", ")
    }
}

fn acks(topic: &Topic) -> &'static str {
    match topic.default_acks() {
        Acks::Written => "written",
        Acks::Durable | Acks::Unspecified => "durable",
    }
}

fn overflow(topic: &Topic) -> &'static str {
    match topic.overflow() {
        Overflow::Reject => "reject",
        Overflow::Trim | Overflow::Unspecified => "trim",
    }
}

fn created(topic: &Topic) -> Option<String> {
    let time = topic.create_time.as_ref()?;
    Some(show_time(timestamp_to_ms(time)))
}

fn labels(topic: &Topic) -> BTreeMap<&str, &str> {
    topic
        .labels
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .collect()
}

fn show_signed_size(bytes: i64) -> String {
    show_size(u64::try_from(bytes).unwrap_or_default())
}
