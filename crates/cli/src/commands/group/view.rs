//! How groups are shown.

use anyhow::Result;
use flowstone_client::{Group, GroupOffset, GroupState, Member, TopicPartition, timestamp_to_ms};
use serde::Serialize;

use crate::output::{Align, Table, print_line};
use crate::units::show_time;

/// Groups in columns, for people.
pub(super) fn list(groups: &[Group]) -> Table {
    let mut table = Table::new(&[
        ("GROUP", Align::Left),
        ("STATE", Align::Left),
        ("MEMBERS", Align::Right),
    ]);
    for group in groups {
        table.row(vec![
            group.name.clone(),
            state(group).to_owned(),
            group.members.len().to_string(),
        ]);
    }
    table
}

/// One group with its members and offsets, for people.
pub(super) fn print_details(group: &Group) -> Result<()> {
    print_line(format_args!("group {}: {}", group.name, state(group)))?;
    if !group.members.is_empty() {
        print_line("")?;
        let mut members = Table::new(&[
            ("MEMBER", Align::Left),
            ("ADDRESS", Align::Left),
            ("PARTITIONS", Align::Left),
        ]);
        for member in &group.members {
            members.row(vec![
                name_of(member).to_owned(),
                member.peer.clone(),
                partitions(member),
            ]);
        }
        members.print()?;
    }
    if !group.offsets.is_empty() {
        print_line("")?;
        offsets(&group.offsets).print()?;
    }
    Ok(())
}

/// How far a group is, by partition, for people.
pub(super) fn offsets(offsets: &[GroupOffset]) -> Table {
    let mut table = Table::new(&[
        ("TOPIC", Align::Left),
        ("PARTITION", Align::Right),
        ("COMMITTED", Align::Right),
        ("END", Align::Right),
        ("LAG", Align::Right),
        ("OLDEST UNREAD", Align::Left),
    ]);
    for offset in offsets {
        table.row(vec![
            offset.topic.clone(),
            offset.partition.to_string(),
            show_offset(offset.committed_offset),
            offset.high_watermark.to_string(),
            offset.lag.to_string(),
            oldest(offset).unwrap_or_default(),
        ]);
    }
    table
}

/// A committed offset, or that there is none.
pub(super) fn show_offset(committed: Option<i64>) -> String {
    committed.map_or_else(|| "-".to_owned(), |offset| offset.to_string())
}

/// What a member holds, neighbours together: `visits/0-3 visits/7`.
fn partitions(member: &Member) -> String {
    let same = |a: &TopicPartition, b: &TopicPartition| {
        a.topic == b.topic && i64::from(a.partition) + 1 == i64::from(b.partition)
    };
    let runs = member.partitions.chunk_by(same).map(|run| {
        let (first, last) = (&run[0], &run[run.len() - 1]);
        match run.len() {
            1 => format!("{}/{}", first.topic, first.partition),
            _ => format!("{}/{}-{}", first.topic, first.partition, last.partition),
        }
    });
    runs.collect::<Vec<_>>().join(" ")
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
        _ => json_state(group),
    }
}

fn oldest(offset: &GroupOffset) -> Option<String> {
    let time = offset.oldest_uncommitted_time.as_ref()?;
    Some(show_time(timestamp_to_ms(time)))
}

/// A group in a list, for programs.
#[derive(Serialize)]
pub(super) struct Summary<'a> {
    name: &'a str,
    state: &'static str,
    members: usize,
}

/// A group, for programs.
#[derive(Serialize)]
pub(super) struct Details<'a> {
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

/// How far a group is in one partition, for programs: no committed offset is `null`.
#[derive(Serialize)]
pub(super) struct OffsetDetails<'a> {
    #[serde(flatten)]
    partition: Partition<'a>,
    committed_offset: Option<i64>,
    high_watermark: i64,
    lag: i64,
    oldest_uncommitted_time: Option<String>,
}

impl<'a> Summary<'a> {
    pub(super) fn new(group: &'a Group) -> Self {
        Self {
            name: &group.name,
            state: json_state(group),
            members: group.members.len(),
        }
    }
}

impl<'a> Details<'a> {
    pub(super) fn new(group: &'a Group) -> Self {
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
        Self {
            name: &group.name,
            state: json_state(group),
            members: members.collect(),
            offsets: group.offsets.iter().map(OffsetDetails::new).collect(),
        }
    }
}

impl<'a> OffsetDetails<'a> {
    pub(super) fn new(offset: &'a GroupOffset) -> Self {
        Self {
            partition: Partition {
                topic: &offset.topic,
                partition: offset.partition,
            },
            committed_offset: offset.committed_offset,
            high_watermark: offset.high_watermark,
            lag: offset.lag,
            oldest_uncommitted_time: oldest(offset),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_are_shown_together() {
        let held = |topic: &str, partition| TopicPartition {
            topic: topic.to_owned(),
            partition,
        };
        let of = |held| Member {
            partitions: held,
            ..Member::default()
        };
        assert_eq!(partitions(&of(Vec::new())), "");
        assert_eq!(partitions(&of(vec![held("visits", 4)])), "visits/4");
        let member = of([0, 1, 2, 4, 6, 7].map(|it| held("visits", it)).to_vec());
        assert_eq!(partitions(&member), "visits/0-2 visits/4 visits/6-7");
        let member = of(vec![held("a", 1), held("b", 2), held("b", 3)]);
        assert_eq!(partitions(&member), "a/1 b/2-3");
    }
}
