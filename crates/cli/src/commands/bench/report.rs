//! The result of a measurement, for people and for programs.

use anyhow::Result;
use flowstone_client::Acks;
use serde::Serialize;

use super::args::Shape;
use super::broker_process::Cost;
use super::latency::{Latencies, Quantiles};
use super::target::Target;
use crate::output::{OutputFormat, print_facts, print_json};
use crate::units::{show_count, show_many, show_size};

/// What was measured and what came out.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    measured: &'static str,
    topic: String,
    partitions: i32,
    /// The durability that the figures were had with.
    durability: &'static str,
    /// Of a value. None: of whatever the topic holds.
    #[serde(skip_serializing_if = "Option::is_none")]
    record_bytes: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    producing: Option<Producing>,
    #[serde(skip_serializing_if = "Option::is_none")]
    consumers: Option<u32>,
    records: u64,
    /// Of keys and values.
    bytes: u64,
    seconds: f64,
    records_per_second: f64,
    /// In millions of bytes.
    megabytes_per_second: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    latency: Option<Latency>,
    #[serde(skip_serializing_if = "Option::is_none")]
    broker: Option<BrokerCost>,
}

/// How records were sent.
#[derive(Debug, Serialize)]
struct Producing {
    producers: u32,
    keys: u32,
    /// None: as the client is set up.
    batch_bytes: Option<i64>,
    in_flight_requests: Option<u32>,
    /// Records a second that were due; none for as fast as it goes.
    rate: Option<f64>,
    /// Records that were due when the time was over, and were not sent: the broker, or this client, does
    /// not keep up with the rate.
    not_sent: u64,
}

#[derive(Debug, Serialize)]
struct Latency {
    what: &'static str,
    ms: Quantiles,
}

#[derive(Debug, Serialize)]
struct BrokerCost {
    #[serde(flatten)]
    cost: Cost,
    cpu_seconds_per_gb: f64,
}

impl Report {
    pub(super) fn new(measured: &'static str, target: &Target, shape: &Shape) -> Self {
        let durability = match measured {
            "consume" => "durable (only what is synced is served)",
            _ => target.durability(shape.acks.map_or(Acks::Unspecified, Into::into)),
        };
        Self {
            measured,
            topic: target.topic.clone(),
            partitions: target.partitions,
            durability,
            record_bytes: Some(shape.size),
            producing: None,
            consumers: None,
            records: 0,
            bytes: 0,
            seconds: 0.0,
            records_per_second: 0.0,
            megabytes_per_second: 0.0,
            latency: None,
            broker: None,
        }
    }

    pub(super) fn producing(self, shape: &Shape) -> Self {
        Self {
            producing: Some(Producing {
                producers: shape.producers,
                keys: shape.keys,
                batch_bytes: shape.requests().map(|(batch, _)| batch),
                in_flight_requests: shape.requests().map(|(_, in_flight)| in_flight),
                rate: shape.rate,
                not_sent: 0,
            }),
            ..self
        }
    }

    pub(super) fn consuming(self, consumers: u32, filled: bool) -> Self {
        Self {
            record_bytes: self.record_bytes.filter(|_| filled),
            consumers: Some(consumers),
            ..self
        }
    }

    pub(super) fn records(self, records: u64, bytes: u64, seconds: f64) -> Self {
        let seconds = seconds.max(1e-9);
        Self {
            records,
            bytes,
            seconds,
            records_per_second: records as f64 / seconds,
            megabytes_per_second: bytes as f64 / 1e6 / seconds,
            ..self
        }
    }

    /// Comes after [`producing`](Self::producing).
    pub(super) fn not_sent(mut self, records: u64) -> Self {
        if let Some(producing) = &mut self.producing {
            producing.not_sent = records;
        }
        self
    }

    pub(super) fn latency(self, what: &'static str, latencies: &Latencies) -> Self {
        Self {
            latency: Some(Latency {
                what,
                ms: latencies.quantiles(),
            }),
            ..self
        }
    }

    /// Comes after [`records`](Self::records), whose bytes the cost is divided by.
    pub(super) fn broker(self, cost: Option<Cost>) -> Self {
        let gigabytes = (self.bytes as f64 / 1e9).max(1e-9);
        let broker = cost.map(|cost| BrokerCost {
            cost,
            cpu_seconds_per_gb: cost.cpu_seconds / gigabytes,
        });
        Self { broker, ..self }
    }

    pub(super) fn print(&self, output: OutputFormat) -> Result<()> {
        match output {
            OutputFormat::Json => print_json(self)?,
            OutputFormat::Table => print_facts(&self.facts())?,
        }
        Ok(())
    }

    fn facts(&self) -> Vec<(&'static str, String)> {
        let mut facts = vec![
            ("measured", self.measured.to_owned()),
            (
                "topic",
                format!(
                    "{}, {}",
                    self.topic,
                    show_many(self.partitions.unsigned_abs().into(), "partition")
                ),
            ),
            ("durability", self.durability.to_owned()),
        ];
        if let Some(producing) = &self.producing {
            facts.push((
                "load",
                producing.describe(self.record_bytes.unwrap_or_default()),
            ));
        }
        if let Some(consumers) = self.consumers {
            facts.push(("consumers", consumers.to_string()));
        }
        facts.push((
            "records",
            format!(
                "{}, {} in {:.2} s",
                show_count(self.records),
                show_size(self.bytes),
                self.seconds
            ),
        ));
        facts.push((
            "rate",
            format!(
                "{} records/s, {:.1} MB/s",
                show_count(self.records_per_second as u64),
                self.megabytes_per_second
            ),
        ));
        if let Some(&Producing {
            not_sent: behind @ 1..,
            ..
        }) = self.producing.as_ref()
        {
            facts.push((
                "behind",
                format!(
                    "{} more were due and not sent when the time was over",
                    show_many(behind, "record")
                ),
            ));
        }
        if let Some(latency) = &self.latency {
            let ms = &latency.ms;
            facts.push((
                "latency",
                format!(
                    "p50 {:.2} ms, p90 {:.2} ms, p99 {:.2} ms, p99.9 {:.2} ms, max {:.2} ms ({})",
                    ms.p50, ms.p90, ms.p99, ms.p999, ms.max, latency.what
                ),
            ));
        }
        facts.push((
            "broker",
            self.broker.as_ref().map_or_else(
                || "not on this machine, or not to be looked at: no CPU time or memory".to_owned(),
                |broker| {
                    format!(
                        "{:.2} s of CPU, {:.2} s/GB; at most {} of anonymous memory",
                        broker.cost.cpu_seconds,
                        broker.cpu_seconds_per_gb,
                        show_size(broker.cost.anonymous_bytes_max)
                    )
                },
            ),
        ));
        facts
    }
}

impl Producing {
    fn describe(&self, record_bytes: i64) -> String {
        let keys = match self.keys {
            0 => "without keys".to_owned(),
            keys => format!("of {} keys", show_count(keys.into())),
        };
        let pace = match self.rate {
            None => "as fast as it goes (closed loop)".to_owned(),
            Some(rate) => format!("{rate} a second as they are due (open loop)"),
        };
        let requests = match (self.batch_bytes, self.in_flight_requests) {
            (Some(batch), Some(in_flight)) => format!(
                "requests of {}, {in_flight} of each in flight",
                show_size(batch.unsigned_abs())
            ),
            _ => "requests as the client is set up".to_owned(),
        };
        format!(
            "records of {} {keys}, {pace}; producers: {}, {requests}",
            show_size(record_bytes.unsigned_abs()),
            self.producers,
        )
    }
}
