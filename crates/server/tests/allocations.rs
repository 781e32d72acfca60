//! Serving records allocates nothing for each of them, and requests take no more than twice their bytes.

use bytes::Bytes;
use flowstone_broker::{Acks, Broker, BrokerConfig, FetchRequest, ProduceRequest, TopicSpec};
use flowstone_disk::Env;
use flowstone_proto::v1;
use flowstone_server::wire::{
    FetchResponse, FromWire, ProduceRequest as WireRequest, ProduceStreamRequest, Splices, ToWire,
};

const RECORDS: u32 = 10_000;

/// What one fetch with its encoding took: allocations, and records of the response.
async fn fetch_and_encode(broker: &Broker, max_records: u32, out: &mut Splices) -> u32 {
    let request = FetchRequest {
        topic: "visits".to_owned(),
        max_bytes: 2 << 20,
        max_records,
        ..FetchRequest::default()
    };
    let fetched = broker.fetch(request).await.expect("fetched");
    let response = FetchResponse {
        records: fetched.chunks,
        fields: v1::FetchResponse {
            next_offset: 1,
            high_watermark: 1,
            ..v1::FetchResponse::default()
        },
    };
    response.to_wire(out);
    out.close();
    let mut bytes = 0;
    while let Some(piece) = out.take() {
        bytes += piece.len();
    }
    assert_eq!(bytes, response.wire_len());
    fetched.record_count
}

/// Drives a future on this thread, on which the broker without threads does all its work.
fn run<T>(broker: &Broker, future: impl Future<Output = T>) -> T {
    let mut future = std::pin::pin!(future);
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    for _ in 0..1_000 {
        if let std::task::Poll::Ready(value) = future.as_mut().poll(&mut context) {
            return value;
        }
        broker.run_pending();
    }
    panic!("the broker never answered");
}

fn broker_with(requests: u32, dir: &std::path::Path) -> Broker {
    let config = BrokerConfig {
        append_threads: 0,
        read_threads: 0,
        default_segment_bytes: 16 << 20,
        ..BrokerConfig::new(dir.join(format!("data-{requests}")))
    };
    let broker = Broker::open(config, Env::real()).expect("opened");
    run(
        &broker,
        broker.create_topic(TopicSpec::new("visits", 1), false),
    )
    .expect("created");
    let each = RECORDS / requests;
    let records = v1::ProduceRequest {
        records: vec![
            v1::Record {
                value: Some(Bytes::from_static(b"a record of some length")),
                ..v1::Record::default()
            };
            each as usize
        ],
        ..v1::ProduceRequest::default()
    };
    let records = Bytes::from(prost::Message::encode_to_vec(&records));
    for _ in 0..requests {
        let request = ProduceRequest {
            topic: "visits".to_owned(),
            partition: Some(0),
            acks: Some(Acks::Written),
            records: records.clone(),
            ..ProduceRequest::default()
        };
        run(&broker, broker.produce(request)).expect("appended");
    }
    broker
}

#[test]
fn a_fetch_of_ten_thousand_records_allocates_as_often_as_one_of_ten() {
    let dir = tempfile::tempdir().expect("a directory");
    for requests in [1, 100] {
        let broker = broker_with(requests, dir.path());
        let mut out = Splices::default();
        out.gathered().reserve(4 << 20);
        let mut measure = |max_records| {
            let mut served = 0;
            // The first of each maps files and warms caches.
            for _ in 0..2 {
                served = run(&broker, fetch_and_encode(&broker, max_records, &mut out));
            }
            let counted = allocation_counter::measure(|| {
                run(&broker, fetch_and_encode(&broker, max_records, &mut out));
            });
            assert_eq!(served, max_records.min(RECORDS));
            counted.count_total
        };
        let few = measure(10);
        let many = measure(RECORDS);
        // A chunk for each batch, in a vector that grows by doubling; nothing for each record.
        let batches_grow = u64::from(requests.ilog2()) + 2;
        assert!(
            many <= few + batches_grow,
            "{requests} batches: {few} allocations for 10 records, {many} for {RECORDS}"
        );
    }
}

/// The most bytes that a request in one message, or in the stream, held at one time.
fn most_held(message: &[u8]) -> u64 {
    let held = |decode: fn(Bytes)| {
        let message = Bytes::copy_from_slice(message);
        allocation_counter::measure(|| decode(message)).bytes_max
    };
    let alone = held(|message| drop(WireRequest::from_wire(message)));
    alone.max(held(|message| {
        drop(ProduceStreamRequest::from_wire(message))
    }))
}

#[test]
fn requests_take_at_most_twice_their_bytes_however_they_are_made() {
    /// Room for the text of an error.
    const ERROR_BYTES: u64 = 512;
    let in_stream = |request: &[u8]| {
        let inner = v1::ProduceStreamRequest {
            produce: Some(prost::Message::decode(request).expect("a request")),
        };
        prost::Message::encode_to_vec(&inner)
    };
    let scattered = b"\x0A\x03\x0A\x01a\x12\x01t".repeat(10_000);
    let mut merged = b"\x0A\x05\x0A\x03\x0A\x01a".repeat(10_000);
    merged.extend(b"\x0A\x03\x12\x01t\xA0\x06\x07".repeat(10_000));
    // Three large parts, each with a record and a field behind it.
    let mut part = vec![0x0A, 0xC0, 0xB8, 0x02];
    part.resize(4 + 40_000, 0);
    part.extend(b"\x12\x01t");
    let field = [&[0x0A, 0xC7, 0xB8, 0x02], &part[..]].concat();
    let large_parts = field.repeat(3);
    let mut long_topic = vec![0x12, 0xA0, 0x8D, 0x06];
    long_topic.resize(4 + 100_000, b't');
    let mut claims_more = scattered.clone();
    claims_more.extend(b"\x0A\xFF\xFF\xFF\x7F");
    let scattered_in_stream = in_stream(&scattered);
    for message in [
        scattered,
        scattered_in_stream,
        large_parts,
        merged,
        long_topic,
        claims_more,
    ] {
        let (held, allowed) = (most_held(&message), 2 * message.len() as u64 + ERROR_BYTES);
        assert!(held <= allowed, "{} bytes took {held}", message.len());
    }
}
