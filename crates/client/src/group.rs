//! Looking after groups: where they read on, and whether they are there at all.

use flowstone_proto::v1 as proto;
use proto::reset_offsets_request::Target;

use crate::{Client, Result, Start};

/// Which offsets of a group to set, and to what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResetOffsets {
    /// The group; it may be one that has committed nothing yet.
    pub group: String,
    /// The topic.
    pub topic: String,
    /// These partitions only; all when there are none.
    pub partitions: Vec<i32>,
    /// Where they are read from.
    pub target: ResetTarget,
    /// Only says what would be.
    pub validate_only: bool,
    /// Also while the group has members, whose sessions end.
    pub force: bool,
}

/// Where a group is to read on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ResetTarget {
    /// At this position, in each partition. [`Start::Committed`] is refused.
    To(Start),
    /// So many offsets behind the committed one, or before it if negative, as far as there are
    /// records. Partitions that are not committed stay so.
    ShiftBy(i64),
    /// Where this group has read to; partitions that it has not committed stay as they are.
    CopyFrom(String),
}

impl From<ResetOffsets> for proto::ResetOffsetsRequest {
    fn from(reset: ResetOffsets) -> Self {
        Self {
            group: reset.group,
            topic: reset.topic,
            partitions: reset.partitions,
            validate_only: reset.validate_only,
            force: reset.force,
            target: Some(match reset.target {
                ResetTarget::To(start) => Target::To(start.into()),
                ResetTarget::ShiftBy(by) => Target::ShiftBy(by),
                ResetTarget::CopyFrom(group) => Target::CopyFromGroup(group),
            }),
        }
    }
}

impl Client {
    /// Sets how far a group has read, also back, and tells from where to where.
    ///
    /// With [`ResetTarget::ShiftBy`] the call is not repeated after a failure: it might shift twice.
    ///
    /// # Errors
    /// `GROUP_ACTIVE` while the group has members and `force` is not set, `GROUP_NOT_FOUND`,
    /// `TOPIC_NOT_FOUND`, `INVALID_FIELD`, or what the connection said.
    pub async fn reset_offsets(&self, reset: ResetOffsets) -> Result<proto::ResetOffsetsResponse> {
        let only_once = matches!(reset.target, ResetTarget::ShiftBy(_)) && !reset.validate_only;
        let request = proto::ResetOffsetsRequest::from(reset);
        if only_once {
            let mut groups = self.groups();
            let sent = groups.reset_offsets(request);
            return self.once(self.call_timeout(), sent).await;
        }
        self.call(|client| {
            let request = request.clone();
            async move { client.groups().reset_offsets(request).await }
        })
        .await
    }

    /// Forgets a group and all that it has committed.
    ///
    /// # Errors
    /// `GROUP_NOT_FOUND`, `GROUP_ACTIVE` while it has members, or what the connection said.
    pub async fn delete_group(&self, name: &str) -> Result<()> {
        self.call(|client| {
            let group = name.to_owned();
            async move {
                let request = proto::DeleteGroupRequest { group };
                client.groups().delete_group(request).await
            }
        })
        .await?;
        Ok(())
    }
}
