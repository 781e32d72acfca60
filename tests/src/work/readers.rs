//! Readers of their own, without a group.

use std::collections::BTreeMap;

use flowstone_proto::v1 as proto;
use flowstone_proto::v1::start_position::Position;

use super::{Work, is_the_end};
use crate::Stub;

/// How long a fetch waits at the end of the log.
const MAX_WAIT: prost_types::Duration = prost_types::Duration {
    seconds: 0,
    nanos: 50_000_000,
};

/// Fetches from one partition, from where the last check of it has ended on, until the broker is gone.
///
/// # Panics
/// When anything else goes wrong.
pub async fn fetch(work: Work, mut stub: Stub, partition: i32) {
    let mut from = work.history().read_up_to(partition);
    loop {
        let request = proto::FetchRequest {
            topic: work.topic.to_owned(),
            partition,
            start: Some(proto::StartPosition {
                position: Some(Position::Offset(from)),
            }),
            max_wait: Some(MAX_WAIT),
            ..proto::FetchRequest::default()
        };
        match work.in_time(stub.log.fetch(request)).await {
            Some(Ok(response)) => {
                let response = response.into_inner();
                work.read(partition, from, &response.records);
                from = response.next_offset;
            }
            Some(Err(status)) => {
                assert!(is_the_end(&status), "{status}");
                return;
            }
            None => {}
        }
    }
}

/// Reads the whole topic as it grows, from where the last check of it has ended on, until the broker
/// is gone.
///
/// # Panics
/// When anything else goes wrong.
pub async fn subscribe(work: Work, mut stub: Stub, partitions: i32) {
    let mut next: BTreeMap<i32, i64> = (0..partitions)
        .map(|partition| (partition, work.history().read_up_to(partition)))
        .collect();
    let cursors = next.iter().map(|(&partition, &offset)| proto::Cursor {
        topic: work.topic.to_owned(),
        partition,
        offset,
        ..proto::Cursor::default()
    });
    let request = proto::SubscribeRequest {
        topic: work.topic.to_owned(),
        resume_from: cursors.collect(),
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
    loop {
        match stream.message().await {
            Ok(Some(response)) => {
                assert_eq!(response.error, None, "every partition is sound");
                let Some(cursor) = response.cursor.filter(|_| !response.records.is_empty()) else {
                    continue;
                };
                let from = next.insert(cursor.partition, cursor.offset).unwrap_or(0);
                work.read(cursor.partition, from, &response.records);
            }
            Ok(None) => panic!("a stream without a stop position does not end well"),
            Err(status) => {
                assert!(is_the_end(&status), "{status}");
                return;
            }
        }
    }
}
