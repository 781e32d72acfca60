//! What commands answer: tables for people, JSON for programs.

use std::fmt::Display;
use std::io::{self, Write};

use clap::ValueEnum;
use serde::Serialize;

/// How answers are printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum OutputFormat {
    /// Columns, for people.
    #[default]
    Table,
    /// JSON, for programs.
    Json,
}

/// Prints a value as JSON, with a newline.
pub(crate) fn print_json(value: &impl Serialize) -> io::Result<()> {
    let mut out = io::stdout().lock();
    serde_json::to_writer_pretty(&mut out, value)?;
    out.write_all(b"\n")?;
    out.flush()
}

/// Prints a line.
pub(crate) fn print_line(line: impl Display) -> io::Result<()> {
    writeln!(io::stdout(), "{line}")
}

/// On which side of its column a text stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Align {
    Left,
    Right,
}

/// Rows of columns under a line of headings.
#[derive(Debug)]
pub(crate) struct Table {
    columns: Vec<(&'static str, Align)>,
    rows: Vec<Vec<String>>,
}

impl Table {
    pub(crate) fn new(columns: &[(&'static str, Align)]) -> Self {
        Self {
            columns: columns.to_vec(),
            rows: Vec::new(),
        }
    }

    pub(crate) fn row(&mut self, cells: Vec<String>) {
        assert_eq!(cells.len(), self.columns.len(), "a cell for each column");
        self.rows.push(cells);
    }

    pub(crate) fn print(&self) -> io::Result<()> {
        let mut out = io::BufWriter::new(io::stdout().lock());
        self.write(&mut out)?;
        out.flush()
    }

    pub(crate) fn write(&self, out: &mut impl Write) -> io::Result<()> {
        let widths: Vec<usize> = self
            .columns
            .iter()
            .enumerate()
            .map(|(number, (heading, _))| {
                let cells = self.rows.iter().map(|row| row[number].chars().count());
                cells.max().unwrap_or(0).max(heading.len())
            })
            .collect();
        let headings: Vec<String> = self
            .columns
            .iter()
            .map(|(name, _)| (*name).to_owned())
            .collect();
        for row in std::iter::once(&headings).chain(&self.rows) {
            let mut line = String::new();
            for ((cell, width), (_, align)) in row.iter().zip(&widths).zip(&self.columns) {
                // What `format!` fills is not wider than 65,535.
                let filling = " ".repeat(width - cell.chars().count());
                match align {
                    Align::Left => line.extend([cell, &filling, "  "]),
                    Align::Right => line.extend([&filling, cell, "  "]),
                }
            }
            writeln!(out, "{}", line.trim_end())?;
        }
        Ok(())
    }
}

/// Names and what they are, one a line: for a single thing.
pub(crate) fn print_facts(facts: &[(&str, String)]) -> io::Result<()> {
    let width = facts.iter().map(|(name, _)| name.len()).max().unwrap_or(0) + 1;
    let mut out = io::BufWriter::new(io::stdout().lock());
    for (name, fact) in facts {
        writeln!(out, "{:<width$} {fact}", format!("{name}:"))?;
    }
    out.flush()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let mut table = Table::new(&[("TOPIC", Align::Left), ("LAG", Align::Right)]);
        table.row(vec!["access-log".into(), "7".into()]);
        table.row(vec!["ö".into(), "1200".into()]);
        let mut out = Vec::new();
        table.write(&mut out).unwrap();
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "TOPIC        LAG\naccess-log     7\nö           1200\n"
        );
    }

    #[test]
    fn a_column_may_be_very_wide() {
        let wide = "x".repeat(100_000);
        let mut table = Table::new(&[("MEMBER", Align::Left), ("PARTITIONS", Align::Right)]);
        table.row(vec!["1".into(), wide.clone()]);
        let mut out = Vec::new();
        table.write(&mut out).unwrap();
        let text = String::from_utf8(out).unwrap();
        assert_eq!(text.lines().nth(1), Some(&*format!("1       {wide}")));
    }
}
