//! The text of a scrape, and the reference page of all metrics.

use std::fmt;

use flowstone_broker::Distribution;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder, text};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::exemplar::Exemplar;
use prometheus_client::registry::Registry;

use super::Look;
use super::families::{FAMILIES, Family, Kind};

/// What an encoder takes where there is no exemplar.
const NO_EXEMPLAR: Option<&Exemplar<[(&str, &str); 0], f64>> = None;

/// One look in the OpenMetrics text format.
pub(super) fn text(look: Look) -> String {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(look));
    let mut out = String::new();
    text::encode(&mut out, &registry).expect("a string takes what is written");
    out
}

impl Collector for Look {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        for family in FAMILIES {
            let kind = family.metric_type();
            let metric = encoder.encode_descriptor(family.name, family.help, None, kind)?;
            encode(self, &family.kind, metric)?;
        }
        Ok(())
    }
}

fn encode(look: &Look, kind: &Kind, mut metric: MetricEncoder<'_>) -> Result<(), fmt::Error> {
    match kind {
        Kind::Version => metric
            .encode_family(&[("version", env!("CARGO_PKG_VERSION"))])?
            .encode_gauge(&1_u64),
        Kind::Counter(value) => metric.encode_counter(&value(&look.broker), NO_EXEMPLAR),
        Kind::ProduceRequests => {
            for (reason, count) in &look.produce_requests {
                metric
                    .encode_family(&[("reason", *reason)])?
                    .encode_counter(count, NO_EXEMPLAR)?;
            }
            Ok(())
        }
        Kind::Gauge(value) => match value(look) {
            Some(value) => metric.encode_gauge(&value),
            None => Ok(()),
        },
        Kind::TopicGauge(value) => {
            for topic in &look.broker.topics {
                metric
                    .encode_family(&[("topic", topic.topic.as_str())])?
                    .encode_gauge(&value(topic))?;
            }
            Ok(())
        }
        Kind::Histogram(value, scale) => {
            let (sum, count, buckets) = buckets(value(&look.broker), *scale);
            metric.encode_histogram::<[(&str, &str); 0]>(sum, count, &buckets, None)
        }
    }
}

/// The sum, the count and the classes of a histogram, as the encoder takes them: the classes are
/// not yet added up.
fn buckets(distribution: &Distribution, scale: f64) -> (f64, u64, Vec<(f64, u64)>) {
    let classes = distribution.classes.iter();
    let mut buckets: Vec<_> = classes
        .map(|&(bound, count)| (bound as f64 / scale, count))
        .collect();
    buckets.push((f64::INFINITY, distribution.above));
    let count = buckets.iter().map(|(_, count)| count).sum();
    (distribution.sum as f64 / scale, count, buckets)
}

impl Family {
    fn metric_type(&self) -> MetricType {
        match self.kind {
            Kind::Version | Kind::Gauge(_) | Kind::TopicGauge(_) => MetricType::Gauge,
            Kind::Counter(_) | Kind::ProduceRequests => MetricType::Counter,
            Kind::Histogram(..) => MetricType::Histogram,
        }
    }

    /// The name as it stands in a query, and what it is.
    #[cfg(test)]
    pub(super) fn shown(&self) -> (String, &'static str) {
        let label = match self.kind {
            Kind::Version => "{version}",
            Kind::ProduceRequests => "{reason}",
            Kind::TopicGauge(_) => "{topic}",
            Kind::Counter(_) | Kind::Gauge(_) | Kind::Histogram(..) => "",
        };
        match self.metric_type() {
            MetricType::Counter => (format!("{}_total{label}", self.name), "counter"),
            MetricType::Histogram => (format!("{}{label}", self.name), "histogram"),
            _ => (format!("{}{label}", self.name), "gauge"),
        }
    }
}
