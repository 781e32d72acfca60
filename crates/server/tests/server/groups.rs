//! GroupService.

use flowstone_proto::v1;
use tonic::Code;

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
    assert_eq!(group.offsets.len(), 1);
    let offset = &group.offsets[0];
    assert_eq!(
        (offset.committed_offset, offset.high_watermark, offset.lag),
        (1, 3, 2)
    );
    assert!(offset.oldest_uncommitted_time.is_some());

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
    let status = groups
        .reset_offsets(v1::ResetOffsetsRequest::default())
        .await
        .expect_err("not yet");
    assert_refused(
        &status,
        Code::Unimplemented,
        "UNIMPLEMENTED",
        &[("what", "ResetOffsets")],
    );
    let status = groups
        .delete_group(v1::DeleteGroupRequest::default())
        .await
        .expect_err("not yet");
    assert_refused(
        &status,
        Code::Unimplemented,
        "UNIMPLEMENTED",
        &[("what", "DeleteGroup")],
    );
    server.stop().await;
}
