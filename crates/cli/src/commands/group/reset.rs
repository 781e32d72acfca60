//! `flowstone group reset-offsets`: where a group reads on, shown first and then set.

use std::collections::BTreeMap;

use anyhow::{Result, bail};
use flowstone_client::{Client, Cursor, ResetOffsets, ResetTarget, Start};
use serde::Serialize;

use super::args::ResetArgs;
use super::view::show_offset;
use crate::exit::Failure;
use crate::output::{Align, OutputFormat, Table, print_json};
use crate::units::show_many;

pub(super) async fn run(client: &Client, output: OutputFormat, args: ResetArgs) -> Result<()> {
    let executed = args.execute;
    let request = ResetOffsets {
        target: target(&args)?,
        group: args.name,
        topic: args.topic,
        partitions: args.partitions,
        validate_only: !executed,
        force: args.force,
    };
    let told = client.reset_offsets(request.clone()).await?;
    // What is left to read is counted up to the ends of now.
    let numbers: Vec<i32> = told.after.iter().map(|at| at.partition).collect();
    let ends = client
        .list_offsets(&request.topic, Start::Latest, &numbers, None)
        .await?;
    let ends: BTreeMap<i32, i64> = ends
        .partitions
        .iter()
        .map(|at| (at.partition, at.high_watermark))
        .collect();
    let before: BTreeMap<i32, i64> = told
        .before
        .iter()
        .map(|at| (at.partition, at.offset))
        .collect();
    let of = |after: &Cursor| Change {
        partition: after.partition,
        before: before.get(&after.partition).copied(),
        after: after.offset,
        lag: ends
            .get(&after.partition)
            .map_or(0, |end| end - after.offset),
    };
    let changes: Vec<Change> = told.after.iter().map(of).collect();
    let reset = Reset {
        group: &request.group,
        topic: &request.topic,
        executed,
        partitions: changes,
    };
    match output {
        OutputFormat::Json => print_json(&reset)?,
        OutputFormat::Table => reset.print()?,
    }
    Ok(())
}

fn target(args: &ResetArgs) -> Result<ResetTarget> {
    let places = [
        args.to_earliest.then_some(Start::Earliest),
        args.to_latest.then_some(Start::Latest),
        args.to_offset.map(Start::Offset),
        args.to_time.map(Start::TimeMs),
        args.last.map(Start::Last),
    ];
    let place = places.into_iter().flatten().next().map(ResetTarget::To);
    let shift = args.shift_by.map(ResetTarget::ShiftBy);
    let copy = args.copy_from.clone().map(ResetTarget::CopyFrom);
    match place.or(shift).or(copy) {
        Some(target) => Ok(target),
        // A switch that its variable has turned off.
        None => bail!(Failure::Usage(
            "name the place to reset to, as in --to-earliest".to_owned()
        )),
    }
}

/// What a reset does, or would do.
#[derive(Serialize)]
struct Reset<'a> {
    group: &'a str,
    topic: &'a str,
    executed: bool,
    partitions: Vec<Change>,
}

#[derive(Serialize)]
struct Change {
    partition: i32,
    before: Option<i64>,
    after: i64,
    lag: i64,
}

impl Reset<'_> {
    fn print(&self) -> Result<()> {
        let mut table = Table::new(&[
            ("PARTITION", Align::Right),
            ("BEFORE", Align::Right),
            ("AFTER", Align::Right),
            ("LAG", Align::Right),
        ]);
        for change in &self.partitions {
            table.row(vec![
                change.partition.to_string(),
                show_offset(change.before),
                change.after.to_string(),
                change.lag.to_string(),
            ]);
        }
        table.print()?;
        let (group, topic) = (self.group, self.topic);
        let many = show_many(self.partitions.len() as u64, "partition");
        if self.executed {
            eprintln!("group {group} reads on from there in {many} of topic {topic}");
        } else {
            eprintln!("nothing was changed; --execute does it in {many} of topic {topic}");
        }
        Ok(())
    }
}
