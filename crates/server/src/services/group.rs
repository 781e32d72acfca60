//! GroupService: who reads, and how far.

use flowstone_broker::{Error, GroupInfo};
use flowstone_proto::v1;
use tonic::{Request, Response, Status};
use v1::group_service_server::GroupService;

use super::{Services, told};
use crate::fields::{number, timestamp, topic_partitions};
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
        _: Request<v1::ResetOffsetsRequest>,
    ) -> Result<Response<v1::ResetOffsetsResponse>, Status> {
        Err(told(Error::Unimplemented {
            what: "ResetOffsets",
        }))
    }

    async fn delete_group(
        &self,
        _: Request<v1::DeleteGroupRequest>,
    ) -> Result<Response<v1::DeleteGroupResponse>, Status> {
        Err(told(Error::Unimplemented {
            what: "DeleteGroup",
        }))
    }
}

fn group(info: GroupInfo) -> v1::Group {
    let state = match info.members.is_empty() {
        true => v1::GroupState::Empty,
        false => v1::GroupState::Stable,
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
        committed_offset: number(offset.committed_offset),
        high_watermark: number(offset.high_watermark),
        lag: number(
            offset
                .high_watermark
                .saturating_sub(offset.committed_offset),
        ),
        oldest_uncommitted_time: offset.oldest_uncommitted_ms.map(timestamp),
    });
    v1::Group {
        name: info.name,
        state: state.into(),
        members: members.collect(),
        offsets: offsets.collect(),
    }
}
