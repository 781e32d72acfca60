//! The result as a chart: bars in SVG, drawn here, readable on a light and on a dark page.

use std::fmt::Write;

use crate::report::{Report, Told};
use crate::sample::Sample;
use crate::work::Work;

const WIDTH: f64 = 860.0;
const MARGIN: f64 = 16.0;
const LABEL_WIDTH: f64 = 330.0;
const VALUE_WIDTH: f64 = 130.0;
const TITLE_HEIGHT: f64 = 34.0;
const BAR_HEIGHT: f64 = 15.0;
const ROW_HEIGHT: f64 = 21.0;
const PANEL_GAP: f64 = 16.0;
/// A bar that stands for next to nothing can still be seen.
const BAR_LEAST: f64 = 1.5;

const STYLE: &str = "\
text{font:12px system-ui,sans-serif;fill:#24292f}\
.title{font-size:13.5px;font-weight:600}\
.note{fill:#57606a;font-size:11px}\
.ours{fill:#0f766e}.limit{fill:#b6bec8}.peer{fill:#5b7fb5}\
@media(prefers-color-scheme:dark){\
text{fill:#e6edf3}.note{fill:#9198a1}\
.ours{fill:#2dd4bf}.limit{fill:#59636e}.peer{fill:#7ea3dc}}";

/// One bar.
struct Bar {
    label: String,
    kind: &'static str,
    length: f64,
    value: String,
}

/// The medians of all work, a panel each.
pub(crate) fn svg(report: &Report) -> String {
    let panels = report.works.iter().map(|work| (*work, bars(report, *work)));
    let panels: Vec<_> = panels.filter(|(_, bars)| !bars.is_empty()).collect();
    let mut body = String::new();
    let mut y = MARGIN;
    for (work, bars) in &panels {
        y = panel(&mut body, *work, bars, y) + PANEL_GAP;
    }
    put(
        &mut body,
        &text(MARGIN, y + 4.0, "note", &report.machine.line()),
    );
    let height = y + MARGIN;
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height:.0}\" width=\"{WIDTH}\" role=\"img\" \
         aria-label=\"Flowstone and its peers, medians\">\n<style>{STYLE}</style>\n{body}</svg>\n"
    )
}

fn bars(report: &Report, work: Work) -> Vec<Bar> {
    let bar = |peer: &Told| {
        let median = |number| report.samples.median(&peer.name, work, number);
        let (length, value) = if work.is_latency() {
            let p50 = median(|sample: &Sample| sample.latency.map(|latency| latency.p50_us))?;
            let p99 = median(|sample: &Sample| sample.latency.map(|latency| latency.p99_us))?;
            (p50, format!("{:.2} ms, p99 {:.2}", p50 / 1e3, p99 / 1e3))
        } else {
            let rate = median(|sample| sample.mb_per_second)?;
            (rate, format!("{rate:.0} MB/s"))
        };
        Some(Bar {
            label: peer.title.clone(),
            kind: kind(&peer.name),
            length,
            value,
        })
    };
    report.peers.iter().filter_map(bar).collect()
}

fn kind(peer: &str) -> &'static str {
    match peer {
        "flowstone" | "flowstone-opaque" => "ours",
        "raw" | "raw-kept" | "disk" | "disk-256k" => "limit",
        _ => "peer",
    }
}

/// Draws a panel from `top` on; answers with where it ends.
fn panel(body: &mut String, work: Work, bars: &[Bar], top: f64) -> f64 {
    let what = if work.is_latency() {
        "half of the appends, shorter is better"
    } else {
        "longer is better"
    };
    let title = format!("{} ({what})", work.title());
    put(body, &text(MARGIN, top + 14.0, "title", &title));
    let longest = bars
        .iter()
        .map(|bar| bar.length)
        .fold(f64::MIN_POSITIVE, f64::max);
    let room = WIDTH - 2.0 * MARGIN - LABEL_WIDTH - VALUE_WIDTH;
    let mut y = top + TITLE_HEIGHT - 8.0;
    for bar in bars {
        let length = (bar.length / longest * room).max(BAR_LEAST);
        let (x, baseline) = (MARGIN + LABEL_WIDTH, y + BAR_HEIGHT - 3.5);
        put(body, &text(MARGIN, baseline, "", &bar.label));
        let rect = format!(
            "<rect class=\"{}\" x=\"{x}\" y=\"{y:.1}\" width=\"{length:.1}\" height=\"{BAR_HEIGHT}\" rx=\"2\"/>",
            bar.kind
        );
        put(body, &rect);
        put(body, &text(x + length + 6.0, baseline, "", &bar.value));
        y += ROW_HEIGHT;
    }
    y
}

fn text(x: f64, y: f64, class: &str, content: &str) -> String {
    let class = match class {
        "" => String::new(),
        class => format!(" class=\"{class}\""),
    };
    format!(
        "<text{class} x=\"{x:.1}\" y=\"{y:.1}\">{}</text>",
        escaped(content)
    )
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

fn put(body: &mut String, line: &str) {
    writeln!(body, "{line}").expect("a string grows as needed");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::example;

    #[test]
    fn a_bar_is_as_long_as_its_figure() {
        let svg = svg(&example());
        let room = WIDTH - 2.0 * MARGIN - LABEL_WIDTH - VALUE_WIDTH;
        assert!(svg.contains(&format!("width=\"{room:.1}\"")), "{svg}");
        assert!(
            svg.contains(&format!("width=\"{:.1}\"", room / 4.0)),
            "{svg}"
        );
        assert!(svg.contains("1000 MB/s") && svg.contains("250 MB/s"));
    }

    #[test]
    fn what_would_end_a_text_is_escaped() {
        assert_eq!(escaped("a<b & c"), "a&lt;b &amp; c");
    }
}
