//! GroupService.

use flowstone_proto::v1;
use tonic::Code;
use v1::reset_offsets_request::Target;
use v1::start_position::Position;

use crate::harness::{TestServer, assert_refused};

fn cursor(group: &str, partition: i32, offset: i64) -> v1::Cursor {
    v1::Cursor {
        group: group.to_owned(),
        topic: "visits".to_owned(),
        partition,
        offset,
        ..v1::Cursor::default()
    }
}

async fn commit(server: &TestServer, cursors: Vec<v1::Cursor>) {
    let request = v1::CommitOffsetsRequest {
        cursors,
        released: Vec::new(),
    };
    server
        .log()
        .commit_offsets(request)
        .await
        .expect("committed");
}

async fn get(server: &TestServer, group: &str) -> v1::Group {
    let request = v1::GetGroupRequest {
        group: group.to_owned(),
    };
    let told = server.groups().get_group(request).await.expect("there");
    told.into_inner().group.expect("told")
}

#[tokio::test]
async fn a_group_tells_who_is_in_and_how_far_it_is() {
    let server = TestServer::start().await;
    server.create_topic("visits", 2).await;
    server.append("visits", 0, &["a", "b", "c"]).await;
    commit(&server, vec![cursor("g", 0, 1)]).await;

    let group = get(&server, "g").await;
    assert_eq!(group.state(), v1::GroupState::Empty);
    assert_eq!(group.offsets.len(), 2);
    let offset = &group.offsets[0];
    assert_eq!(
        (offset.committed_offset, offset.high_watermark, offset.lag),
        (Some(1), 3, 2)
    );
    assert!(offset.oldest_uncommitted_time.is_some());
    let other = &group.offsets[1];
    assert_eq!(
        (other.partition, other.committed_offset, other.lag),
        (1, None, 0)
    );

    let request = v1::SubscribeRequest {
        topic: "visits".to_owned(),
        group: "g".to_owned(),
        member: "m".to_owned(),
        ..v1::SubscribeRequest::default()
    };
    let mut stream = server
        .log()
        .subscribe(request)
        .await
        .expect("joined")
        .into_inner();
    stream
        .message()
        .await
        .expect("no failure")
        .expect("assigned");
    let group = get(&server, "g").await;
    assert_eq!(group.state(), v1::GroupState::Stable);
    let member = &group.members[0];
    assert_eq!((member.member.as_str(), member.partitions.len()), ("m", 2));
    assert!(member.peer.starts_with("127.0.0.1:"), "{}", member.peer);
    assert!(!member.session.is_empty());

    let bare = v1::CommitOffsetsRequest {
        cursors: vec![cursor("g", 0, 2)],
        released: Vec::new(),
    };
    let status = server
        .log()
        .commit_offsets(bare)
        .await
        .expect_err("it has a member");
    assert_refused(
        &status,
        Code::FailedPrecondition,
        "GROUP_ACTIVE",
        &[("group", "g")],
    );
    drop(stream);
    server.stop().await;
}

#[tokio::test]
async fn groups_are_listed_in_pages_without_offsets() {
    let server = TestServer::start().await;
    server.create_topic("visits", 1).await;
    server.append("visits", 0, &["a"]).await;
    for group in ["c", "a", "b"] {
        commit(&server, vec![cursor(group, 0, 1)]).await;
    }
    let mut groups = server.groups();
    let mut request = v1::ListGroupsRequest {
        page_size: 2,
        page_token: String::new(),
    };
    let mut seen = Vec::new();
    loop {
        let page = groups
            .list_groups(request.clone())
            .await
            .expect("listed")
            .into_inner();
        assert!(page.groups.len() <= 2);
        assert!(page.groups.iter().all(|group| group.offsets.is_empty()));
        seen.extend(page.groups.into_iter().map(|group| group.name));
        if page.next_page_token.is_empty() {
            break;
        }
        request.page_token = page.next_page_token;
    }
    assert_eq!(seen, ["a", "b", "c"]);
    request.page_token = "77".to_owned();
    let status = groups
        .list_groups(request)
        .await
        .expect_err("nobody's token");
    assert_refused(
        &status,
        Code::InvalidArgument,
        "INVALID_FIELD",
        &[("field", "page_token")],
    );
    server.stop().await;
}

#[tokio::test]
async fn what_groups_cannot_do_is_said() {
    let server = TestServer::start().await;
    let mut groups = server.groups();
    let absent = v1::GetGroupRequest {
        group: "absent".to_owned(),
    };
    let status = groups.get_group(absent).await.expect_err("absent");
    assert_refused(
        &status,
        Code::NotFound,
        "GROUP_NOT_FOUND",
        &[("group", "absent")],
    );
    let nowhere = |target| v1::ResetOffsetsRequest {
        group: "g".to_owned(),
        topic: "visits".to_owned(),
        target,
        ..v1::ResetOffsetsRequest::default()
    };
    for (target, field) in [
        (None, "target"),
        (Some(Target::To(v1::StartPosition::default())), "to"),
        (
            Some(Target::To(position(Position::Offset(-1)))),
            "to.offset",
        ),
        (Some(Target::To(position(Position::Anchor(3)))), "to.anchor"),
        (
            Some(Target::CopyFromGroup("g".to_owned())),
            "copy_from_group",
        ),
    ] {
        let status = groups.reset_offsets(nowhere(target)).await;
        assert_refused(
            &status.expect_err("refused"),
            Code::InvalidArgument,
            "INVALID_FIELD",
            &[("field", field)],
        );
    }
    let request = v1::DeleteGroupRequest {
        group: "absent".to_owned(),
    };
    let status = groups.delete_group(request).await.expect_err("absent");
    assert_refused(
        &status,
        Code::NotFound,
        "GROUP_NOT_FOUND",
        &[("group", "absent")],
    );
    server.stop().await;
}

fn position(position: Position) -> v1::StartPosition {
    v1::StartPosition {
        position: Some(position),
    }
}

#[tokio::test]
async fn a_reset_tells_before_and_after_and_a_deleted_group_is_gone() {
    let server = TestServer::start().await;
    server.create_topic("visits", 2).await;
    server.append("visits", 0, &["a", "b", "c"]).await;
    commit(&server, vec![cursor("g", 0, 3)]).await;
    let mut groups = server.groups();
    let mut reset = async |target, partitions: &[i32]| {
        let request = v1::ResetOffsetsRequest {
            group: "g".to_owned(),
            topic: "visits".to_owned(),
            partitions: partitions.to_vec(),
            target: Some(target),
            ..v1::ResetOffsetsRequest::default()
        };
        let told = groups.reset_offsets(request).await.expect("reset");
        let told = told.into_inner();
        let place = |at: v1::Cursor| (at.partition, at.offset);
        let before: Vec<_> = told.before.into_iter().map(place).collect();
        (
            before,
            told.after.into_iter().map(place).collect::<Vec<_>>(),
        )
    };
    let earliest = Target::To(position(Position::Anchor(1)));
    assert_eq!(
        reset(earliest, &[]).await,
        (vec![(0, 3)], vec![(0, 0), (1, 0)])
    );
    let last = Target::To(position(Position::Last(1)));
    assert_eq!(reset(last, &[0]).await, (vec![(0, 0)], vec![(0, 2)]));
    let shift = Target::ShiftBy(-1);
    assert_eq!(reset(shift, &[0]).await, (vec![(0, 2)], vec![(0, 1)]));
    assert_eq!(get(&server, "g").await.offsets[0].committed_offset, Some(1));

    let request = v1::DeleteGroupRequest {
        group: "g".to_owned(),
    };
    groups.delete_group(request).await.expect("deleted");
    let request = v1::GetGroupRequest {
        group: "g".to_owned(),
    };
    let status = groups.get_group(request).await.expect_err("gone");
    assert_refused(
        &status,
        Code::NotFound,
        "GROUP_NOT_FOUND",
        &[("group", "g")],
    );
    server.stop().await;
}
