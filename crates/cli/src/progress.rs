//! A bar on standard error for long work, when that is a terminal.

use std::io::{self, IsTerminal};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

const REDRAW: Duration = Duration::from_millis(100);
const BYTES: &str = "{wide_bar} {bytes} of {total_bytes}, {bytes_per_sec}, {eta} left";
const RECORDS: &str = "{wide_bar} {human_pos} of {human_len} records, {per_sec}, {eta} left";
const BATCHES_SO_FAR: &str = "{spinner} {human_pos} batches, {per_sec}";
const RECORDS_SO_FAR: &str = "{spinner} {human_pos} records, {per_sec}";

/// Work that is done bit by bit. Shows nothing when nobody would see it.
#[derive(Debug)]
pub(crate) struct Progress {
    bar: ProgressBar,
}

impl Progress {
    /// Nothing to show.
    pub(crate) fn hidden() -> Self {
        Self {
            bar: ProgressBar::hidden(),
        }
    }

    /// Of so many bytes.
    pub(crate) fn bytes(total: u64) -> Self {
        Self::new(Some(total), BYTES)
    }

    /// Of so many records, if that is known. Records that are printed to the same terminal are
    /// progress enough.
    pub(crate) fn records(total: Option<u64>) -> Self {
        if io::stdout().is_terminal() {
            return Self::hidden();
        }
        Self::silent_records(total)
    }

    /// Of records that are not printed, if their number is known.
    pub(crate) fn silent_records(total: Option<u64>) -> Self {
        let template = if total.is_some() {
            RECORDS
        } else {
            RECORDS_SO_FAR
        };
        Self::new(total, template)
    }

    /// Of batches, nobody knows how many.
    pub(crate) fn batches() -> Self {
        Self::new(None, BATCHES_SO_FAR)
    }

    fn new(total: Option<u64>, template: &str) -> Self {
        if !io::stderr().is_terminal() {
            return Self::hidden();
        }
        let style = ProgressStyle::with_template(template).expect("the templates are constants");
        let bar = ProgressBar::with_draw_target(total, ProgressDrawTarget::stderr());
        bar.set_style(style);
        bar.enable_steady_tick(REDRAW);
        Self { bar }
    }

    pub(crate) fn advance(&self, by: u64) {
        self.bar.inc(by);
    }

    /// Prints a line above the bar.
    pub(crate) fn say(&self, line: &str) {
        self.bar.suspend(|| eprintln!("{line}"));
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
