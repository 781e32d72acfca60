//! The flags of `flowstone topic`, and the settings of a topic among them.

use std::time::Duration;

use anyhow::Result;
use clap::{Args, Subcommand, ValueEnum};
use flowstone_client::{Acks, Overflow, ProtoDuration, Topic};

use crate::args::Switch;
use crate::exit::Failure;
use crate::units::{Setting, parse_duration_setting, parse_pair, parse_size_setting};

/// Create, list, describe, alter, delete and trim topics
#[derive(Debug, Subcommand)]
pub(crate) enum TopicCommand {
    Create(CreateArgs),
    List(ListArgs),
    Describe(DescribeArgs),
    Alter(AlterArgs),
    Delete(DeleteArgs),
    Trim(TrimArgs),
}

/// When a produce call is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum AcksArg {
    /// After the records are synced to disk.
    Durable,
    /// After the operating system has them; a power cut may take them away again.
    Written,
}

impl From<AcksArg> for Acks {
    fn from(acks: AcksArg) -> Self {
        match acks {
            AcksArg::Durable => Self::Durable,
            AcksArg::Written => Self::Written,
        }
    }
}

/// What happens in a partition that holds --retention-bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum OverflowArg {
    /// The oldest segments go.
    Trim,
    /// Records are refused until every group has committed past the oldest segments, or a trim.
    Reject,
}

impl From<OverflowArg> for Overflow {
    fn from(overflow: OverflowArg) -> Self {
        match overflow {
            OverflowArg::Trim => Self::Trim,
            OverflowArg::Reject => Self::Reject,
        }
    }
}

/// What can be set when a topic is created, and later.
#[derive(Debug, Args)]
pub(super) struct SettingArgs {
    /// How long records are kept, such as 7d; none: for ever
    #[arg(long, env = "FLOWSTONE_RETENTION", value_name = "DURATION", value_parser = parse_duration_setting)]
    retention: Option<Setting<Duration>>,

    /// How many bytes a partition keeps, such as 10GiB; none: no limit
    #[arg(long, env = "FLOWSTONE_RETENTION_BYTES", value_name = "SIZE", value_parser = parse_size_setting)]
    retention_bytes: Option<Setting<i64>>,

    /// What happens to a partition that holds --retention-bytes
    #[arg(long, env = "FLOWSTONE_OVERFLOW", value_enum)]
    overflow: Option<OverflowArg>,

    /// How large a segment file grows; none: as the broker is set up, or an eighth of --retention-bytes
    #[arg(long, env = "FLOWSTONE_SEGMENT_BYTES", value_name = "SIZE", value_parser = parse_size_setting)]
    segment_bytes: Option<Setting<i64>>,

    /// How large a record may be; none: as the broker is set up
    #[arg(long, env = "FLOWSTONE_MAX_RECORD_BYTES", value_name = "SIZE", value_parser = parse_size_setting)]
    max_record_bytes: Option<Setting<i64>>,

    /// When a produce call is answered, unless it asks for something else itself
    #[arg(long, env = "FLOWSTONE_ACKS", value_enum)]
    acks: Option<AcksArg>,

    /// A label, for your own use; may be given several times
    #[arg(long = "label", env = "FLOWSTONE_LABEL", value_name = "NAME=VALUE", value_parser = parse_pair)]
    labels: Vec<(String, String)>,
}

/// Create a topic
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  flowstone topic create visits
  flowstone topic create visits -p 8 --retention 7d --retention-bytes 10GiB
  flowstone topic create orders --retention-bytes 1GiB --overflow reject
  flowstone topic create metrics --acks written --label team=stand")]
pub(crate) struct CreateArgs {
    /// Its name: up to 249 letters, digits, dots, dashes and underscores
    pub(super) name: String,

    /// How many partitions it has; more can be added later
    #[arg(
        short,
        long,
        env = "FLOWSTONE_PARTITIONS",
        value_name = "N",
        default_value_t = 1,
        value_parser = clap::value_parser!(i32).range(1..)
    )]
    pub(super) partitions: i32,

    #[command(flatten)]
    pub(super) settings: SettingArgs,
}

/// List the topics
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  flowstone topic list
  flowstone topic list vis                    only those that begin with vis
  flowstone topic list --output json")]
pub(crate) struct ListArgs {
    /// Only topics whose names begin with this
    #[arg(default_value = "")]
    pub(super) prefix: String,
}

/// Show a topic's settings and where its partitions begin and end
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  flowstone topic describe visits")]
pub(crate) struct DescribeArgs {
    /// The topic
    pub(super) name: String,
}

/// Change a topic's settings, or add partitions
///
/// What is not named stays as it is. Labels are replaced by those that are given. Records of a key may
/// go to another partition once there are more.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  flowstone topic alter visits --retention 30d
  flowstone topic alter visits --retention none
  flowstone topic alter visits -p 16")]
pub(crate) struct AlterArgs {
    /// The topic
    pub(super) name: String,

    /// How many partitions it is to have; never fewer than now
    #[arg(
        short,
        long,
        env = "FLOWSTONE_PARTITIONS",
        value_name = "N",
        value_parser = clap::value_parser!(i32).range(1..)
    )]
    pub(super) partitions: Option<i32>,

    #[command(flatten)]
    pub(super) settings: SettingArgs,
}

/// Delete a topic with all its records
///
/// Asks first when standard input is a terminal.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  flowstone topic delete visits
  flowstone topic delete visits --yes")]
pub(crate) struct DeleteArgs {
    /// The topic
    pub(super) name: String,

    /// Do not ask
    #[arg(short, long, env = "FLOWSTONE_YES", value_parser = Switch::new())]
    pub(super) yes: bool,
}

/// Drop the records of a partition before an offset
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  flowstone topic trim visits -p 0 --before 1000")]
pub(crate) struct TrimArgs {
    /// The topic
    pub(super) name: String,

    /// The partition
    #[arg(
        short,
        long,
        env = "FLOWSTONE_PARTITION",
        value_name = "N",
        value_parser = clap::value_parser!(i32).range(0..)
    )]
    pub(super) partition: i32,

    /// The offset of the first record that stays
    #[arg(
        long,
        env = "FLOWSTONE_BEFORE",
        value_name = "OFFSET",
        value_parser = clap::value_parser!(i64).range(0..)
    )]
    pub(super) before: i64,
}

impl SettingArgs {
    /// Puts what was given into the topic and answers with the names of these fields.
    pub(super) fn apply(self, topic: &mut Topic) -> Result<Vec<&'static str>> {
        let mut paths = Vec::new();
        if let Some(retention) = self.retention {
            topic.retention = retention
                .value()
                .map(ProtoDuration::try_from)
                .transpose()
                .map_err(|_| Failure::Usage("--retention is too long".to_owned()))?;
            paths.push("retention");
        }
        if let Some(bytes) = self.retention_bytes {
            topic.retention_bytes = bytes.value();
            paths.push("retention_bytes");
        }
        if let Some(overflow) = self.overflow {
            topic.overflow = Overflow::from(overflow).into();
            paths.push("overflow");
        }
        if let Some(bytes) = self.segment_bytes {
            topic.segment_bytes = bytes.value();
            paths.push("segment_bytes");
        }
        if let Some(bytes) = self.max_record_bytes {
            topic.max_record_bytes =
                bytes.value().map(i32::try_from).transpose().map_err(|_| {
                    Failure::Usage("--max-record-bytes is at most 2 GiB".to_owned())
                })?;
            paths.push("max_record_bytes");
        }
        if let Some(acks) = self.acks {
            topic.default_acks = Acks::from(acks).into();
            paths.push("default_acks");
        }
        if !self.labels.is_empty() {
            topic.labels = self.labels.into_iter().collect();
            paths.push("labels");
        }
        Ok(paths)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings() -> SettingArgs {
        SettingArgs {
            retention: None,
            retention_bytes: None,
            overflow: None,
            segment_bytes: None,
            max_record_bytes: None,
            acks: None,
            labels: Vec::new(),
        }
    }

    #[test]
    fn only_what_was_given_is_named() {
        let mut topic = Topic::default();
        assert_eq!(settings().apply(&mut topic).unwrap(), [""; 0]);
        assert_eq!(topic, Topic::default());

        let given = SettingArgs {
            retention: Some(Setting::Unset),
            overflow: Some(OverflowArg::Reject),
            segment_bytes: Some(Setting::Value(1 << 20)),
            acks: Some(AcksArg::Written),
            labels: vec![("team".into(), "stand".into())],
            ..settings()
        };
        let paths = given.apply(&mut topic).unwrap();
        assert_eq!(
            paths,
            [
                "retention",
                "overflow",
                "segment_bytes",
                "default_acks",
                "labels"
            ]
        );
        assert_eq!(topic.overflow(), Overflow::Reject);
        assert_eq!(topic.retention, None);
        assert_eq!(topic.segment_bytes, Some(1 << 20));
        assert_eq!(topic.default_acks(), Acks::Written);
        assert_eq!(topic.labels["team"], "stand");
    }

    #[test]
    fn a_record_size_beyond_the_field_is_wrong_usage() {
        let given = SettingArgs {
            max_record_bytes: Some(Setting::Value(1 << 31)),
            ..settings()
        };
        assert!(given.apply(&mut Topic::default()).is_err());
    }
}
