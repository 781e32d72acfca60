//! The flags of `flowstone group`.

use std::time::Duration;

use clap::{ArgGroup, Args, Subcommand};

use crate::args::Switch;
use crate::position::parse_time;
use crate::units::parse_duration;

/// List groups of readers, show how far they are, and set where they read on
#[derive(Debug, Subcommand)]
pub(crate) enum GroupCommand {
    List(ListArgs),
    Describe(DescribeArgs),
    Lag(LagArgs),
    ResetOffsets(ResetArgs),
    Delete(DeleteArgs),
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
    pub(super) name: String,
}

/// Show how far a group is behind, by partition and in all
///
/// With --watch and --output json it prints one object a line.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  flowstone group lag billing
  flowstone group lag billing --watch
  flowstone group lag billing --watch --interval 10s --output json")]
pub(crate) struct LagArgs {
    /// The group
    pub(super) name: String,

    /// Show it again and again until interrupted
    #[arg(short, long, env = "FLOWSTONE_WATCH", value_parser = Switch::new())]
    pub(super) watch: bool,

    /// How often
    #[arg(
        long,
        env = "FLOWSTONE_INTERVAL",
        value_name = "DURATION",
        default_value = "2s",
        value_parser = parse_interval
    )]
    pub(super) interval: Duration,
}

fn parse_interval(text: &str) -> Result<Duration, String> {
    let interval = parse_duration(text)?;
    if interval.is_zero() {
        return Err("write a time above 0, such as 2s".to_owned());
    }
    Ok(interval)
}

/// Set where a group reads on in a topic
///
/// Shows what would be done; only --execute does it. The group must not have members, since they would
/// go on from where they are: stop them first, or end their sessions with --force. A group that is not
/// there yet can be set up with it before its first member comes.
#[derive(Debug, Args)]
#[command(
    group = ArgGroup::new("target").required(true).multiple(false),
    after_help = "\
TIME is as in `consume`, with or without its @: 2015-05-17T10:05:03Z, 2015-05-17 10:05, 2015-05-17
(UTC where no zone is named), -1h (ago), now, or milliseconds since 1970.

Examples:
  flowstone group reset-offsets billing visits --to-earliest
  flowstone group reset-offsets billing visits --to-earliest --execute
  flowstone group reset-offsets billing visits --to-time -1h --execute
  flowstone group reset-offsets billing visits --to-offset 1200 -p 3
  flowstone group reset-offsets billing visits --shift-by -100
  flowstone group reset-offsets audit visits --copy-from billing"
)]
pub(crate) struct ResetArgs {
    /// The group
    pub(super) name: String,

    /// The topic
    pub(super) topic: String,

    /// To the oldest record that is kept
    #[arg(long, env = "FLOWSTONE_TO_EARLIEST", group = "target", value_parser = Switch::new())]
    pub(super) to_earliest: bool,

    /// To the end: only what comes from now on
    #[arg(long, env = "FLOWSTONE_TO_LATEST", group = "target", value_parser = Switch::new())]
    pub(super) to_latest: bool,

    /// To this offset, which each of the partitions must have
    #[arg(
        long,
        env = "FLOWSTONE_TO_OFFSET",
        group = "target",
        value_name = "N",
        value_parser = clap::value_parser!(i64).range(0..)
    )]
    pub(super) to_offset: Option<i64>,

    /// To the first record of this time or later, else to the end
    #[arg(
        long,
        env = "FLOWSTONE_TO_TIME",
        group = "target",
        value_name = "TIME",
        allow_hyphen_values = true,
        value_parser = parse_time
    )]
    pub(super) to_time: Option<i64>,

    /// To the last N records of each partition
    #[arg(
        long,
        env = "FLOWSTONE_LAST",
        group = "target",
        value_name = "N",
        value_parser = clap::value_parser!(i64).range(0..)
    )]
    pub(super) last: Option<i64>,

    /// So many offsets on from what is committed, or back if negative, as far as there are records
    #[arg(
        long,
        env = "FLOWSTONE_SHIFT_BY",
        group = "target",
        value_name = "N",
        allow_hyphen_values = true
    )]
    pub(super) shift_by: Option<i64>,

    /// To where this group has read to
    #[arg(
        long,
        env = "FLOWSTONE_COPY_FROM",
        group = "target",
        value_name = "GROUP"
    )]
    pub(super) copy_from: Option<String>,

    /// Only this partition; may be given several times, or as 0,3,5
    #[arg(
        short,
        long = "partition",
        visible_alias = "partitions",
        env = "FLOWSTONE_PARTITION",
        value_name = "N",
        value_delimiter = ',',
        value_parser = clap::value_parser!(i32).range(0..)
    )]
    pub(super) partitions: Vec<i32>,

    /// Also while the group has members: their sessions end
    #[arg(long, env = "FLOWSTONE_FORCE", value_parser = Switch::new())]
    pub(super) force: bool,

    /// Do it; otherwise nothing is changed
    #[arg(long, env = "FLOWSTONE_EXECUTE", value_parser = Switch::new())]
    pub(super) execute: bool,
}

/// Delete a group with all its committed offsets
///
/// Asks first when standard input is a terminal. The group must not have members.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  flowstone group delete billing
  flowstone group delete billing --yes")]
pub(crate) struct DeleteArgs {
    /// The group
    pub(super) name: String,

    /// Do not ask
    #[arg(short, long, env = "FLOWSTONE_YES", value_parser = Switch::new())]
    pub(super) yes: bool,
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::args::{Cli, Command};

    fn parse(words: &[&str]) -> Result<ResetArgs, clap::Error> {
        let command = ["flowstone", "group", "reset-offsets", "billing", "visits"];
        match Cli::try_parse_from(command.iter().chain(words))?.command {
            Command::Group(GroupCommand::ResetOffsets(args)) => Ok(args),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_reset_names_one_place() {
        for words in [
            &[][..],
            &["--to-earliest", "--to-latest"],
            &["--last", "3", "--shift-by", "1"],
            &["--to-offset", "-1"],
            &["--to-time", "soon"],
            &["--execute"],
        ] {
            assert_eq!(parse(words).unwrap_err().exit_code(), 2, "{words:?}");
        }
    }

    #[test]
    fn what_begins_with_a_dash_is_a_value() {
        assert_eq!(parse(&["--shift-by", "-100"]).unwrap().shift_by, Some(-100));
        let hour_ago = parse(&["--to-time", "-1h"]).unwrap().to_time;
        assert_eq!(
            parse(&["--to-time", "@-1h", "-p", "0,3", "--partitions", "5"])
                .unwrap()
                .partitions,
            [0, 3, 5]
        );
        assert!(hour_ago.is_some());
        let time = parse(&["--to-time", "2015-05-17"]).unwrap().to_time;
        assert_eq!(time, Some(1_431_820_800_000));
    }
}
