//! The wire is the log: what a fetch sends is what lies on disk.

use std::fs;

use flowstone_proto::v1 as proto;
use flowstone_tests::{Broker, Stub, raw_call};
use prost::Message;

/// The bytes of all fields 1, which hold the records, and how many there are.
fn records_region(mut response: &[u8]) -> (&[u8], usize) {
    let whole = response;
    let mut count = 0;
    while let [0x0a, rest @ ..] = response {
        let mut body = rest;
        let len = prost::decode_length_delimiter(&mut body).unwrap();
        response = &body[len..];
        count += 1;
    }
    (&whole[..whole.len() - response.len()], count)
}

#[tokio::test]
async fn the_records_of_a_fetch_are_the_bytes_of_the_segment() {
    let mut broker = Broker::start();
    broker.flowstone(["topic", "create", "visits"]).run().ok();
    let lines: String = (0..500)
        .map(|n| format!("stand-{} visit {n}\n", n % 7))
        .collect();
    let produce = ["produce", "visits", "-K", " ", "-H", "till=2"];
    broker.flowstone(produce).stdin(lines).run().ok();

    let stub = Stub::connect(&broker.url()).await.unwrap();
    let read_segments = || {
        let partitions = fs::read_dir(broker.data_dir().join("partitions")).unwrap();
        let files =
            partitions.flat_map(|partition| fs::read_dir(partition.unwrap().path()).unwrap());
        let paths = files.map(|file| file.unwrap().path());
        let segments = paths.filter(|path| path.extension().is_some_and(|end| end == "segment"));
        segments
            .map(|path| fs::read(path).unwrap())
            .collect::<Vec<_>>()
    };
    let segments = read_segments();
    let mut offset = 0;
    while offset < 500 {
        let request = proto::FetchRequest {
            topic: "visits".to_owned(),
            start: Some(proto::StartPosition {
                position: Some(proto::start_position::Position::Offset(offset)),
            }),
            // Batches are cut at records, too.
            max_records: 77,
            ..proto::FetchRequest::default()
        };
        let method = "/flowstone.v1.LogService/Fetch";
        let request = request.encode_to_vec().into();
        let response = raw_call(stub.channel.clone(), method, request)
            .await
            .unwrap();
        let (region, count) = records_region(&response);
        // What a plain stub makes of the same bytes.
        let decoded = proto::FetchResponse::decode(response.clone()).unwrap();
        assert_eq!(decoded.records.len(), count);
        assert_eq!(decoded.records[0].offset, offset);
        assert_eq!(decoded.next_offset, offset + count as i64);
        // One batch lies in one piece; a frame's header stands between two.
        let in_one_file = segments
            .iter()
            .any(|segment| holds_in_pieces(segment, region));
        assert!(
            in_one_file,
            "the bytes from offset {offset} on are in no segment"
        );
        offset = decoded.next_offset;
    }
    assert!(broker.process().is_running());
}

/// Whether a file holds these records in order, with nothing but frame headers between them.
fn holds_in_pieces(file: &[u8], mut region: &[u8]) -> bool {
    const FRAME_HEADER_BYTES: usize = 128;
    let mut body = &region[1..];
    let len = prost::decode_length_delimiter(&mut body).unwrap();
    let first = region.len() - body.len() + len;
    let Some(mut at) = file
        .windows(first)
        .position(|window| window == &region[..first])
    else {
        return false;
    };
    while !region.is_empty() {
        let same = region
            .iter()
            .zip(&file[at..])
            .take_while(|(a, b)| a == b)
            .count();
        if same == 0 {
            return false;
        }
        region = &region[same..];
        at += same + FRAME_HEADER_BYTES;
    }
    true
}
