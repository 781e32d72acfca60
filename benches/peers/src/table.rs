//! The result as Markdown.

use std::fmt::Write;

use crate::report::Report;
use crate::sample::Sample;
use crate::work::Work;

/// Figures are compared with this one, and it with the ceiling.
const OURS: &str = "flowstone";
const OURS_OPAQUE: &str = "flowstone-opaque";
const CEILING: &str = "raw";

/// All of it.
pub(crate) fn markdown(report: &Report) -> String {
    let mut text = String::new();
    put(&mut text, &format!("{}.\n", report.machine.line()));
    put(
        &mut text,
        &format!(
            "Medians of {} runs, servers in turn, on the same cores as their clients. MB are a million bytes of values. \
             Server CPU is in seconds per GB of values.\n",
            report.runs
        ),
    );
    for work in &report.works {
        let rows = rows(report, *work);
        if rows.is_empty() {
            continue;
        }
        put(&mut text, &format!("### {}\n", work.title()));
        put(&mut text, heading(*work));
        for row in rows {
            put(&mut text, &row);
        }
        put(&mut text, "");
    }
    notes(&mut text, report);
    text
}

fn put(text: &mut String, line: &str) {
    writeln!(text, "{line}").expect("a string grows as needed");
}

fn heading(work: Work) -> &'static str {
    if work.is_latency() {
        "| who | an ack means | p50 | p99 | p50, as a multiple of Flowstone's |\n|---|---|--:|--:|--:|"
    } else {
        "| who | an ack means | MB/s | from – to | Flowstone is ahead | of the ceiling | server CPU | memory |\n\
         |---|---|--:|--:|--:|--:|--:|--:|"
    }
}

fn rows(report: &Report, work: Work) -> Vec<String> {
    let samples = &report.samples;
    let row = |peer: &crate::report::Told| {
        samples.of(&peer.name, work).next()?;
        let median = |number| samples.median(&peer.name, work, number);
        let acks = peer.acks(work);
        if work.is_latency() {
            let p50 = median(|sample: &Sample| sample.latency.map(|latency| latency.p50_us))?;
            let p99 = median(|sample: &Sample| sample.latency.map(|latency| latency.p99_us))?;
            let ours = samples.median(OURS, work, |sample| {
                sample.latency.map(|latency| latency.p50_us)
            });
            let times = times(ours.map(|ours| p50 / ours), &peer.name);
            return Some(format!(
                "| {} | {acks} | {} | {} | {times} |",
                peer.title,
                millis(p50),
                millis(p99)
            ));
        }
        let rate = median(|sample| sample.mb_per_second)?;
        let all = samples.numbers(&peer.name, work, |sample| sample.mb_per_second);
        let least = all.iter().copied().fold(f64::INFINITY, f64::min);
        let most = all.iter().copied().fold(0.0, f64::max);
        let ours = samples.median(OURS, work, |sample| sample.mb_per_second);
        let ceiling = samples.median(CEILING, work, |sample| sample.mb_per_second);
        let times = times(ours.map(|ours| ours / rate), &peer.name);
        let of_ceiling = ceiling
            .filter(|_| [OURS, OURS_OPAQUE].contains(&peer.name.as_str()))
            .map_or(String::new(), |ceiling| {
                format!("{:.0}%", rate / ceiling * 100.0)
            });
        let cpu = median(|sample| sample.server_cpu_s_per_gb)
            .map_or(String::new(), |cpu| format!("{cpu:.2}"));
        let memory = median(|sample| sample.server_anonymous_mib)
            .map_or(String::new(), |mib| format!("{mib:.0} MiB"));
        Some(format!(
            "| {} | {acks} | {rate:.0} | {least:.0} – {most:.0} | {times} | {of_ceiling} | {cpu} | {memory} |",
            peer.title
        ))
    };
    report.peers.iter().filter_map(row).collect()
}

/// A ratio to Flowstone, for those who are not Flowstone.
fn times(ratio: Option<f64>, peer: &str) -> String {
    match ratio {
        Some(ratio) if ![OURS, OURS_OPAQUE, CEILING].contains(&peer) => format!("{ratio:.1} ×"),
        _ => String::new(),
    }
}

fn millis(micros: f64) -> String {
    format!("{:.2} ms", micros / 1e3)
}

/// What is not in the tables, and why.
fn notes(text: &mut String, report: &Report) {
    let mut lines = Vec::new();
    for peer in &report.peers {
        for (why, works) in peer.not_offered() {
            let works: Vec<String> = works.into_iter().map(Work::name).collect();
            lines.push(format!("- {} ({}): {why}.", peer.title, works.join(", ")));
        }
    }
    for skipped in &report.skipped {
        lines.push(format!(
            "- {} was skipped: {}.",
            skipped.title, skipped.missing
        ));
    }
    for failure in &report.samples.failures {
        let works: Vec<String> = failure.works.iter().map(|work| work.name()).collect();
        lines.push(format!(
            "- {} failed at {}: {}.",
            failure.peer,
            works.join(", "),
            failure.error
        ));
    }
    if !lines.is_empty() {
        put(text, "Not measured:\n");
        put(text, &lines.join("\n"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::example;

    #[test]
    fn a_row_tells_how_far_flowstone_is_ahead() {
        let text = markdown(&example());
        assert!(
            text.contains("| kafka by title | page cache | 250 | 250 – 250 | 4.0 × |"),
            "{text}"
        );
        assert!(
            text.contains("| flowstone by title | page cache | 1000 | 1000 – 1000 |  |"),
            "{text}"
        );
    }

    #[test]
    fn who_was_skipped_is_told() {
        assert!(markdown(&example()).contains("- Some peer was skipped: bring it."));
    }
}
