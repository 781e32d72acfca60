//! A reader that commits what it has read.

use std::collections::BTreeMap;

use flowstone_proto::v1 as proto;
use tonic::Code;

use super::{Work, is_stale, is_the_end};
use crate::Stub;

/// The group that reads along.
pub const GROUP: &str = "followers";

/// Reads along as a member of a group and commits each batch, until the broker is gone.
///
/// # Panics
/// When anything else goes wrong.
pub async fn follow(work: Work, mut stub: Stub) {
    let Some(committed) = work.in_time(committed(&stub)).await else {
        return;
    };
    let request = proto::SubscribeRequest {
        topic: work.topic.to_owned(),
        group: GROUP.to_owned(),
        ..proto::SubscribeRequest::default()
    };
    let mut stream = match work.in_time(stub.log.subscribe(request)).await {
        Some(Ok(response)) => response.into_inner(),
        Some(Err(status)) => {
            assert!(is_the_end(&status), "{status}");
            return;
        }
        None => return,
    };
    let mut next: BTreeMap<i32, i64> = committed;
    loop {
        let response = match stream.message().await {
            Ok(Some(response)) => response,
            Ok(None) => return,
            Err(status) => {
                assert!(is_the_end(&status), "{status}");
                return;
            }
        };
        assert_eq!(response.error, None, "every partition is sound");
        let Some(cursor) = response.cursor.filter(|_| !response.records.is_empty()) else {
            continue;
        };
        let partition = cursor.partition;
        let from = next.insert(partition, cursor.offset).unwrap_or(0);
        work.read(partition, from, &response.records);
        let offset = cursor.offset;
        let commit = proto::CommitOffsetsRequest {
            cursors: vec![cursor],
            released: Vec::new(),
        };
        let Some(answer) = work.in_time(stub.log.commit_offsets(commit)).await else {
            continue;
        };
        match answer {
            Ok(response) => {
                assert_eq!(response.get_ref().stale, [], "nobody else reads");
                work.history().committed(GROUP, partition, offset);
            }
            // The stream was the membership: once the broker has ended it, a commit comes too late.
            Err(status) if is_stale(&status) => {
                let ended = loop {
                    match stream.message().await {
                        Ok(Some(_)) => {}
                        Ok(None) => panic!("a stream of a group does not end well"),
                        Err(ended) => break ended,
                    }
                };
                assert!(is_the_end(&ended), "{status}, and the stream: {ended}");
                return;
            }
            Err(status) => {
                assert!(is_the_end(&status), "{status}");
                return;
            }
        }
    }
}

/// What the group has committed, by partition; nothing when the broker is gone.
///
/// # Panics
/// When anything else goes wrong.
pub async fn committed(stub: &Stub) -> BTreeMap<i32, i64> {
    let request = proto::GetGroupRequest {
        group: GROUP.to_owned(),
    };
    match stub.groups.clone().get_group(request).await {
        Ok(response) => {
            let group = response.into_inner().group.expect("the answer has a group");
            let offsets = group.offsets.iter();
            offsets
                .filter_map(|offset| Some((offset.partition, offset.committed_offset?)))
                .collect()
        }
        Err(status) => {
            assert!(
                status.code() == Code::NotFound || is_the_end(&status),
                "{status}"
            );
            BTreeMap::new()
        }
    }
}
