//! The result as Markdown.

use std::fmt::Write;

use crate::report::{Report, Told};
use crate::sample::Sample;
use crate::summary::{CEILING, ahead, is_compared, share, table};
use crate::work::Work;

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
    let summary = table(report);
    if !summary.is_empty() {
        put(&mut text, &format!("{}\n", summary.join("\n")));
    }
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
    let row = if work.is_latency() {
        latency_row
    } else {
        rate_row
    };
    let rows = report
        .peers
        .iter()
        .filter_map(|peer| row(report, peer, work));
    rows.collect()
}

fn latency_row(report: &Report, peer: &Told, work: Work) -> Option<String> {
    let samples = &report.samples;
    let median = |number| samples.median(&peer.name, work, number);
    let p50 = median(|sample: &Sample| sample.latency.map(|latency| latency.p50_us))?;
    let p99 = median(|sample: &Sample| sample.latency.map(|latency| latency.p99_us))?;
    Some(format!(
        "| {} | {} | {} | {} | {} |",
        peer.title,
        peer.acks(work),
        millis(p50),
        millis(p99),
        times(ahead(samples, &peer.name, work), &peer.name),
    ))
}

fn rate_row(report: &Report, peer: &Told, work: Work) -> Option<String> {
    let samples = &report.samples;
    let median = |number| samples.median(&peer.name, work, number);
    let rate = median(|sample: &Sample| sample.mb_per_second)?;
    let all = samples.numbers(&peer.name, work, |sample| sample.mb_per_second);
    let least = all.iter().copied().fold(f64::INFINITY, f64::min);
    let most = all.iter().copied().fold(0.0, f64::max);
    let of_ceiling = share(samples, &peer.name, CEILING, work)
        .filter(|_| !is_compared(&peer.name) && peer.name != CEILING)
        .map_or(String::new(), |share| format!("{:.0}%", share * 100.0));
    let cpu = median(|sample: &Sample| sample.server_cpu_s_per_gb);
    let memory = median(|sample: &Sample| sample.server_anonymous_mib);
    Some(format!(
        "| {} | {} | {rate:.0} | {least:.0} – {most:.0} | {} | {of_ceiling} | {} | {} |",
        peer.title,
        peer.acks(work),
        times(ahead(samples, &peer.name, work), &peer.name),
        cpu.map_or(String::new(), |cpu| format!("{cpu:.2}")),
        memory.map_or(String::new(), |mib| format!("{mib:.0} MiB")),
    ))
}

/// A ratio to Flowstone, for those who are not Flowstone.
fn times(ratio: Option<f64>, peer: &str) -> String {
    match ratio {
        Some(ratio) if is_compared(peer) => format!("{ratio:.1} ×"),
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
