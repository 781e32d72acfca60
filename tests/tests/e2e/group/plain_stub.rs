//! A member without a client library: what every language has.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use flowstone_proto::v1 as proto;
use flowstone_tests::Stub;
use flowstone_tests::history::SharedHistory;
use tonic::{Code, Status, Streaming};

use super::{GROUP, TOPIC, WAIT, committed, produce, start};

/// The stream is the membership, and its end lets the next one in.
#[tokio::test]
async fn a_plain_stub_reads_again_what_it_did_not_commit() {
    let broker = start();
    produce(&broker, 0..3_000);
    let history = SharedHistory::new();
    let mut seen = BTreeSet::new();
    let mut told = BTreeMap::new();
    for life in 0..4 {
        let stub = Stub::connect(&broker.url()).await.unwrap();
        let mut stream = subscribe_again(&stub).await;
        let mut read = BTreeMap::new();
        for batch in 0..6 {
            let (cursor, records) = next_batch(&mut stream).await;
            let partition = cursor.partition;
            let begin = *read.entry(partition).or_insert(records[0].offset);
            if begin == records[0].offset {
                let expected = told.get(&partition).copied().unwrap_or(0);
                assert_eq!(begin, expected, "life {life}, partition {partition}");
            }
            seen.extend(records.iter().map(|record| (partition, record.offset)));
            // The first half of a life is committed, the rest is not.
            if batch < 3 {
                let offset = cursor.offset;
                commit(&stub, cursor).await.unwrap();
                told.insert(partition, offset);
                history.lock().committed(GROUP, partition, offset);
            }
        }
        drop(stream);
        for (partition, (offset, _)) in committed(&broker) {
            history.lock().committed(GROUP, partition, offset);
            assert_eq!(told.get(&partition), Some(&offset), "partition {partition}");
        }
    }
    assert!(!seen.is_empty());
    history.lock().assert_holds("in the end");
}

pub(super) async fn subscribe(stub: &Stub) -> Result<Streaming<proto::SubscribeResponse>, Status> {
    let request = proto::SubscribeRequest {
        topic: TOPIC.to_owned(),
        group: GROUP.to_owned(),
        max_batch_bytes: 2_000,
        ..proto::SubscribeRequest::default()
    };
    Ok(stub.log.clone().subscribe(request).await?.into_inner())
}

/// Joins once the stream before it has been noticed to be gone, which nothing tells.
async fn subscribe_again(stub: &Stub) -> Streaming<proto::SubscribeResponse> {
    let give_up_at = tokio::time::Instant::now() + WAIT;
    loop {
        match subscribe(stub).await {
            Ok(stream) => return stream,
            Err(status) => {
                assert_eq!(status.code(), Code::FailedPrecondition, "{status}");
                assert!(tokio::time::Instant::now() < give_up_at, "{status}");
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        }
    }
}

async fn next_batch(
    stream: &mut Streaming<proto::SubscribeResponse>,
) -> (proto::Cursor, Vec<proto::Record>) {
    loop {
        let message = tokio::time::timeout(WAIT, stream.message()).await.unwrap();
        let response = message.unwrap().expect("a stream of a group does not end");
        assert_eq!(response.error, None);
        if !response.records.is_empty() {
            return (response.cursor.unwrap(), response.records);
        }
    }
}

pub(super) async fn commit(stub: &Stub, cursor: proto::Cursor) -> Result<(), Status> {
    let request = proto::CommitOffsetsRequest {
        cursors: vec![cursor],
        released: Vec::new(),
    };
    let response = stub.log.clone().commit_offsets(request).await?;
    assert_eq!(response.get_ref().stale, []);
    Ok(())
}
