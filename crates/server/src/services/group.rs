//! GroupService: who reads, and how far.

use flowstone_broker::{Error, GroupInfo, GroupState, ResetOffsets, ResetTarget, ResetTo};
use flowstone_proto::v1;
use tonic::{Request, Response, Status};
use v1::group_service_server::GroupService;
use v1::reset_offsets_request::Target;

use super::{Services, told};
use crate::fields::{self, invalid, number, timestamp, topic_partitions};
use crate::page::Page;

#[tonic::async_trait]
impl GroupService for Services {
    async fn list_groups(
        &self,
        request: Request<v1::ListGroupsRequest>,
    ) -> Result<Response<v1::ListGroupsResponse>, Status> {
        let request = request.into_inner();
        let page = Page::new(
            "ListGroups".to_owned(),
            request.page_size,
            &request.page_token,
        )
        .map_err(told)?;
        let mut found = self.broker.list_groups(page.after.as_deref(), page.limit());
        let next_page_token = page.cut(&mut found, |group| &group.name);
        Ok(Response::new(v1::ListGroupsResponse {
            groups: found.into_iter().map(group).collect(),
            next_page_token,
        }))
    }

    async fn get_group(
        &self,
        request: Request<v1::GetGroupRequest>,
    ) -> Result<Response<v1::GetGroupResponse>, Status> {
        let name = request.into_inner().group;
        let found = self.broker.describe_group(&name).await.map_err(told)?;
        Ok(Response::new(v1::GetGroupResponse {
            group: Some(group(found)),
        }))
    }

    async fn reset_offsets(
        &self,
        request: Request<v1::ResetOffsetsRequest>,
    ) -> Result<Response<v1::ResetOffsetsResponse>, Status> {
        let request = reset(request.into_inner()).map_err(told)?;
        let ResetTo { before, after } = self.broker.reset_offsets(request).await.map_err(told)?;
        Ok(Response::new(v1::ResetOffsetsResponse {
            before: before.into_iter().map(fields::cursor).collect(),
            after: after.into_iter().map(fields::cursor).collect(),
        }))
    }

    async fn delete_group(
        &self,
        request: Request<v1::DeleteGroupRequest>,
    ) -> Result<Response<v1::DeleteGroupResponse>, Status> {
        let name = request.into_inner().group;
        self.broker.delete_group(&name).await.map_err(told)?;
        Ok(Response::new(v1::DeleteGroupResponse {}))
    }
}

/// The request as the broker takes it.
fn reset(request: v1::ResetOffsetsRequest) -> Result<ResetOffsets, Error> {
    let target = match request.target {
        // Elsewhere it would stand for the first offset, which is too much to set by mistake.
        Some(Target::To(start)) if start.position.is_none() => {
            return Err(invalid("to", "it names no position"));
        }
        Some(Target::To(start)) => ResetTarget::To(fields::start("to", Some(&start))?),
        Some(Target::ShiftBy(by)) => ResetTarget::ShiftBy(by),
        Some(Target::CopyFromGroup(group)) => ResetTarget::CopyFrom(group),
        None => {
            return Err(invalid(
                "target",
                "it is missing: set one of to, shift_by and copy_from_group",
            ));
        }
    };
    Ok(ResetOffsets {
        partitions: fields::partitions("partitions", &request.partitions)?,
        group: request.group,
        topic: request.topic,
        target,
        validate_only: request.validate_only,
        force: request.force,
    })
}

fn group(info: GroupInfo) -> v1::Group {
    let state = match info.state {
        GroupState::Empty => v1::GroupState::Empty,
        GroupState::Stable => v1::GroupState::Stable,
        GroupState::Rebalancing => v1::GroupState::Rebalancing,
    };
    let members = info.members.into_iter().map(|member| v1::Member {
        member: member.member,
        session: member.session,
        peer: member.peer,
        partitions: topic_partitions(member.partitions),
    });
    let offsets = info.offsets.into_iter().map(|offset| v1::GroupOffset {
        topic: offset.topic,
        partition: number(offset.partition),
        committed_offset: offset.committed_offset.map(number),
        high_watermark: number(offset.high_watermark),
        lag: number(offset.lag),
        oldest_uncommitted_time: offset.oldest_uncommitted_ms.map(timestamp),
    });
    v1::Group {
        name: info.name,
        state: state.into(),
        members: members.collect(),
        offsets: offsets.collect(),
    }
}
