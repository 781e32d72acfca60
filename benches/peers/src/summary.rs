//! The whole result in one table of ratios.

use crate::report::{Report, Told};
use crate::sample::{Sample, Samples};
use crate::work::Work;

/// Figures are compared with this one.
pub(crate) const OURS: &str = "flowstone";
/// The same server behind the client of the ceiling.
pub(crate) const OURS_OPAQUE: &str = "flowstone-opaque";
/// What carries messages and does nothing else.
pub(crate) const CEILING: &str = "raw";
/// What carries messages and keeps them, and does nothing else.
pub(crate) const CEILING_KEPT: &str = "raw-kept";
/// Neither a peer nor a limit of the disk.
const NO_PEERS: [&str; 4] = [OURS, OURS_OPAQUE, CEILING, CEILING_KEPT];

/// Lines of a Markdown table: how many times Flowstone is ahead of each, and how near it comes to the ceiling.
pub(crate) fn table(report: &Report) -> Vec<String> {
    let works: Vec<Work> = report
        .works
        .iter()
        .copied()
        .filter(|work| is_there(report, *work))
        .collect();
    let names: Vec<String> = works.iter().map(|work| work.name()).collect();
    let mut lines = vec![
        format!("| | {} |", names.join(" | ")),
        format!("|---|{}", "--:|".repeat(works.len())),
    ];
    let others = report.peers.iter().filter(|peer| is_compared(&peer.name));
    lines.extend(others.filter_map(|peer| {
        let cells = works
            .iter()
            .map(|work| ahead(&report.samples, &peer.name, *work));
        row(
            &format!("Flowstone, as a multiple of {}", short(peer)),
            cells,
            |ratio| format!("{ratio:.1} ×"),
        )
    }));
    for (ceiling, name) in [
        (CEILING, "the ceiling"),
        (CEILING_KEPT, "raw streams that are kept"),
    ] {
        let cells = works
            .iter()
            .map(|work| share(&report.samples, OURS_OPAQUE, ceiling, *work));
        lines.extend(row(
            &format!("Flowstone with an opaque client, of {name}"),
            cells,
            |share| format!("{:.0}%", share * 100.0),
        ));
    }
    if lines.len() == 2 { Vec::new() } else { lines }
}

/// How many times Flowstone is ahead of a peer: its rate by the other's, or the other's time by its own.
pub(crate) fn ahead(samples: &Samples, peer: &str, work: Work) -> Option<f64> {
    let (ours, theirs) = (figure(samples, OURS, work)?, figure(samples, peer, work)?);
    Some(if work.is_latency() {
        theirs / ours
    } else {
        ours / theirs
    })
}

/// Whether Flowstone is compared with this as with a peer.
pub(crate) fn is_compared(peer: &str) -> bool {
    !NO_PEERS.contains(&peer)
}

/// Which part of a limit's rate this is, or the limit's time of this one's. What keeps nothing is no limit of the time
/// to a durable ack.
pub(crate) fn share(samples: &Samples, peer: &str, limit: &str, work: Work) -> Option<f64> {
    if work.is_latency() && limit == CEILING {
        return None;
    }
    let (reached, limit) = (figure(samples, peer, work)?, figure(samples, limit, work)?);
    Some(if work.is_latency() {
        limit / reached
    } else {
        reached / limit
    })
}

/// The median that stands for a piece of work: a rate, or the time of half of the appends.
fn figure(samples: &Samples, peer: &str, work: Work) -> Option<f64> {
    let p50: fn(&Sample) -> Option<f64> = |sample| sample.latency.map(|latency| latency.p50_us);
    let rate: fn(&Sample) -> Option<f64> = |sample| sample.mb_per_second;
    samples.median(peer, work, if work.is_latency() { p50 } else { rate })
}

fn is_there(report: &Report, work: Work) -> bool {
    report
        .peers
        .iter()
        .any(|peer| report.samples.of(&peer.name, work).next().is_some())
}

/// A title without what stands in parentheses behind it.
fn short(peer: &Told) -> &str {
    match peer.name.as_str() {
        "nats-fast" => "NATS JetStream, fast ingest",
        "rabbitmq-rust" => "RabbitMQ streams, their Rust client",
        _ => peer.title.split(" (").next().unwrap_or(&peer.title),
    }
}

fn row(
    title: &str,
    cells: impl Iterator<Item = Option<f64>>,
    told: impl Fn(f64) -> String,
) -> Option<String> {
    let cells: Vec<String> = cells
        .map(|cell| cell.map_or(String::new(), &told))
        .collect();
    let is_empty = cells.iter().all(String::is_empty);
    (!is_empty).then(|| format!("| {title} | {} |", cells.join(" | ")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::example;

    #[test]
    fn a_ratio_is_that_of_the_medians() {
        let report = example();
        assert_eq!(ahead(&report.samples, "kafka", Work::Produce1k), Some(4.0));
        assert_eq!(ahead(&report.samples, "redis", Work::Produce1k), None);
        let lines = table(&report);
        assert_eq!(lines.len(), 3, "{lines:?}");
        assert_eq!(
            lines[2],
            "| Flowstone, as a multiple of kafka by title | 4.0 × |"
        );
    }
}
