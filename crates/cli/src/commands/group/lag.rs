//! `flowstone group lag`: how far behind, once or again and again.

use std::io::{self, IsTerminal, Write};

use anyhow::Result;
use flowstone_client::Group;
use jiff::Timestamp;
use serde::Serialize;

use super::args::LagArgs;
use super::view::{OffsetDetails, offsets};
use crate::args::Global;
use crate::connection::{connect, connect_for_long};
use crate::output::{OutputFormat, print_json};
use crate::signals::Stop;
use crate::units::{show_many, show_time};

/// Clears a terminal and goes to its top.
const CLEAR: &str = "\x1b[2J\x1b[H";

pub(super) async fn run(global: &Global, args: &LagArgs) -> Result<()> {
    if !args.watch {
        let group = connect(global)?.get_group(&args.name).await?;
        match global.output {
            OutputFormat::Json => print_json(&Lag::new(&group))?,
            OutputFormat::Table => io::stdout().lock().write_all(&table(&group)?)?,
        }
        return Ok(());
    }
    let mut stop = Stop::listen()?;
    let client = connect_for_long(global)?;
    let clears = io::stdout().is_terminal();
    while !stop.is_asked() {
        let group = tokio::select! {
            group = client.get_group(&args.name) => group?,
            () = stop.asked() => break,
        };
        let shown = match global.output {
            OutputFormat::Json => line(&group)?,
            OutputFormat::Table => screen(&group, clears)?,
        };
        let mut out = io::stdout().lock();
        out.write_all(&shown)?;
        out.flush()?;
        drop(out);
        tokio::select! {
            () = tokio::time::sleep(args.interval) => {}
            () = stop.asked() => break,
        }
    }
    Ok(())
}

/// How far a group is behind, for programs.
#[derive(Serialize)]
struct Lag<'a> {
    name: &'a str,
    time: String,
    lag: i64,
    offsets: Vec<OffsetDetails<'a>>,
}

impl<'a> Lag<'a> {
    fn new(group: &'a Group) -> Self {
        Self {
            name: &group.name,
            time: now(),
            lag: total(group),
            offsets: group.offsets.iter().map(OffsetDetails::new).collect(),
        }
    }
}

fn line(group: &Group) -> Result<Vec<u8>> {
    let mut line = serde_json::to_vec(&Lag::new(group))?;
    line.push(b'\n');
    Ok(line)
}

/// A whole picture: in place of the last one on a terminal, else behind it.
fn screen(group: &Group, clears: bool) -> Result<Vec<u8>> {
    let mut out = Vec::new();
    if clears {
        out.extend_from_slice(CLEAR.as_bytes());
    }
    writeln!(out, "{}", now())?;
    out.extend(table(group)?);
    if !clears {
        out.push(b'\n');
    }
    Ok(out)
}

fn table(group: &Group) -> Result<Vec<u8>> {
    let mut out = Vec::new();
    if !group.offsets.is_empty() {
        offsets(&group.offsets).write(&mut out)?;
    }
    writeln!(
        out,
        "group {} is {} behind",
        group.name,
        show_many(total(group).unsigned_abs(), "record")
    )?;
    Ok(out)
}

fn total(group: &Group) -> i64 {
    let lags = group.offsets.iter().map(|offset| offset.lag);
    lags.fold(0, i64::saturating_add)
}

fn now() -> String {
    show_time(Timestamp::now().as_millisecond())
}
