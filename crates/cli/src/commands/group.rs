//! `flowstone group`: who reads, and how far behind.

use anyhow::Result;
use clap::{Args, Subcommand};
use flowstone_client::{Client, Group, GroupOffset, GroupState, Member, timestamp_to_ms};
use serde::Serialize;

use crate::args::Global;
use crate::connection::connect;
use crate::output::{Align, OutputFormat, Table, print_json};
use crate::units::show_time;

/// List groups of readers and show how far they are
#[derive(Debug, Subcommand)]
pub(crate) enum GroupCommand {
    List(ListArgs),
    Describe(DescribeArgs),
}

/// List the groups
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  flowstone group list")]
pub(crate) struct ListArgs {}

/// Show a group's members, and per partition its committed offset, the end, and the lag
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  flowstone group describe billing
  flowstone group describe billing --output json")]
pub(crate) struct DescribeArgs {
    /// The group
    name: String,
}

pub(crate) async fn run(global: &Global, command: GroupCommand) -> Result<()> {
    let client = connect(global)?;
    match command {
        GroupCommand::List(ListArgs {}) => list(&client, global.output).await,
        GroupCommand::Describe(args) => describe(&client, global.output, &args).await,
    }
}

async fn list(client: &Client, output: OutputFormat) -> Result<()> {
    let groups = client.list_groups().await?;
    if output == OutputFormat::Json {
        print_json(&groups.iter().map(Summary::new).collect::<Vec<_>>())?;
        return Ok(());
    }
    if groups.is_empty() {
        eprintln!("there are no groups");
        return Ok(());
    }
    let mut table = Table::new(&[
        ("GROUP", Align::Left),
        ("STATE", Align::Left),
        ("MEMBERS", Align::Right),
    ]);
    for group in &groups {
        table.row(vec![
            group.name.clone(),
            state(group).to_owned(),
            group.members.len().to_string(),
        ]);
    }
    table.print()?;
    Ok(())
}

async fn describe(client: &Client, output: OutputFormat, args: &DescribeArgs) -> Result<()> {
    let group = client.get_group(&args.name).await?;
    match output {
        OutputFormat::Json => print_json(&Details::new(&group))?,
        OutputFormat::Table => print_details(&group)?,
    }
    Ok(())
}

fn print_details(group: &Group) -> Result<()> {
    println!("group {}: {}", group.name, state(group));
    if !group.members.is_empty() {
        println!();
        let mut members = Table::new(&[
            ("MEMBER", Align::Left),
            ("ADDRESS", Align::Left),
            ("PARTITIONS", Align::Left),
        ]);
        for member in &group.members {
            let partitions: Vec<String> = member
                .partitions
                .iter()
                .map(|held| format!("{}/{}", held.topic, held.partition))
                .collect();
            members.row(vec![
                name_of(member).to_owned(),
                member.peer.clone(),
                partitions.join(" "),
            ]);
        }
        members.print()?;
    }
    if !group.offsets.is_empty() {
        println!();
        let mut offsets = Table::new(&[
            ("TOPIC", Align::Left),
            ("PARTITION", Align::Right),
            ("COMMITTED", Align::Right),
            ("END", Align::Right),
            ("LAG", Align::Right),
            ("OLDEST UNREAD", Align::Left),
        ]);
        for offset in &group.offsets {
            offsets.row(vec![
                offset.topic.clone(),
                offset.partition.to_string(),
                committed(offset),
                offset.high_watermark.to_string(),
                offset.lag.to_string(),
                oldest(offset).unwrap_or_default(),
            ]);
        }
        offsets.print()?;
    }
    Ok(())
}

/// The committed offset, or that there is none.
fn committed(offset: &GroupOffset) -> String {
    match offset.committed_offset {
        Some(offset) => offset.to_string(),
        None => "-".to_owned(),
    }
}

fn name_of(member: &Member) -> &str {
    match member.member.as_str() {
        "" => "(no name)",
        name => name,
    }
}

fn state(group: &Group) -> &'static str {
    match group.state() {
        GroupState::Empty => "no members",
        GroupState::Stable => "stable",
        GroupState::Rebalancing => "rebalancing",
        GroupState::Unspecified => "unknown",
    }
}

fn oldest(offset: &GroupOffset) -> Option<String> {
    let time = offset.oldest_uncommitted_time.as_ref()?;
    Some(show_time(timestamp_to_ms(time)))
}

#[derive(Serialize)]
struct Summary<'a> {
    name: &'a str,
    state: &'static str,
    members: usize,
}

#[derive(Serialize)]
struct Details<'a> {
    name: &'a str,
    state: &'static str,
    members: Vec<MemberDetails<'a>>,
    offsets: Vec<OffsetDetails<'a>>,
}

#[derive(Serialize)]
struct MemberDetails<'a> {
    member: &'a str,
    peer: &'a str,
    partitions: Vec<Partition<'a>>,
}

#[derive(Serialize)]
struct Partition<'a> {
    topic: &'a str,
    partition: i32,
}

#[derive(Serialize)]
struct OffsetDetails<'a> {
    #[serde(flatten)]
    partition: Partition<'a>,
    committed_offset: Option<i64>,
    high_watermark: i64,
    lag: i64,
    oldest_uncommitted_time: Option<String>,
}

impl<'a> Summary<'a> {
    fn new(group: &'a Group) -> Self {
        Self {
            name: &group.name,
            state: json_state(group),
            members: group.members.len(),
        }
    }
}

impl<'a> Details<'a> {
    fn new(group: &'a Group) -> Self {
        let members = group.members.iter().map(|member| MemberDetails {
            member: &member.member,
            peer: &member.peer,
            partitions: member
                .partitions
                .iter()
                .map(|held| Partition {
                    topic: &held.topic,
                    partition: held.partition,
                })
                .collect(),
        });
        let offsets = group.offsets.iter().map(|offset| OffsetDetails {
            partition: Partition {
                topic: &offset.topic,
                partition: offset.partition,
            },
            committed_offset: offset.committed_offset,
            high_watermark: offset.high_watermark,
            lag: offset.lag,
            oldest_uncommitted_time: oldest(offset),
        });
        Self {
            name: &group.name,
            state: json_state(group),
            members: members.collect(),
            offsets: offsets.collect(),
        }
    }
}

fn json_state(group: &Group) -> &'static str {
    match group.state() {
        GroupState::Empty => "empty",
        GroupState::Stable => "stable",
        GroupState::Rebalancing => "rebalancing",
        GroupState::Unspecified => "unknown",
    }
}
