//! How much memory bytes from outside can take: counted, not argued.

use std::slice::from_ref;

use allocation_counter::measure;
use flowstone_format::{
    BatchMeta, FRAME_HEADER_LEN, FloorSlot, FrameHeader, Identity, Manifest, Offset, PartitionId,
    Position, ProducerSnapshot, RecordLimits, Records, SegmentHeader, SegmentIndex, build_batch,
    check_floor_header, skip_records,
};
use proptest::collection::vec;
use proptest::prelude::*;
use prost::Message;
use uuid::Uuid;

use crate::{message, samples, targets};

/// Room for the text of an error.
const ERROR_BYTES: u64 = 512;

const SEGMENT: Uuid = Uuid::from_bytes([7; 16]);

const META: BatchMeta = BatchMeta {
    base_offset: Offset::ZERO,
    leader_epoch: 1,
    entry_index: 1,
    append_ms: 1_700_000_000_000,
    producer_id: [0; 16],
    sequence: 0,
    producer_epoch: 0,
    routing_count: 1,
    client_crc: 0,
};

/// The most bytes that decoding `bytes` as anything at all held at one time.
fn most_held(bytes: &[u8]) -> u64 {
    let decoders: [fn(&[u8]); 8] = [
        |b| drop(FrameHeader::decode(b, 0, Position::ZERO)),
        |b| drop(SegmentHeader::decode(b)),
        |b| drop(Manifest::decode(b)),
        |b| drop(FloorSlot::decode(b, PartitionId::new(7))),
        |b| drop(check_floor_header(b)),
        |b| drop(SegmentIndex::decode(b, SEGMENT)),
        |b| drop(ProducerSnapshot::decode(b)),
        |b| drop(Identity::decode(b)),
    ];
    let held = decoders.map(|decode| measure(|| decode(bytes)).bytes_max);
    held.into_iter().max().unwrap()
}

fn assert_bounded(bytes: &[u8]) {
    let (held, allowed) = (most_held(bytes), 2 * bytes.len() as u64 + ERROR_BYTES);
    assert!(held <= allowed, "{} bytes took {held}", bytes.len());
}

#[test]
fn the_counter_counts() {
    let info = measure(|| drop(std::hint::black_box(vec![0u8; 1000])));
    assert_eq!((info.count_total, info.bytes_max), (1, 1000));
}

proptest! {
    #[test]
    fn decoding_holds_at_most_twice_its_input(
        data in vec(any::<u8>(), 0..3000),
        manifest in samples::manifest(),
        producers in samples::producers(),
    ) {
        assert_bounded(&manifest.encode());
        assert_bounded(&producers.encode().0);
        assert_bounded(&data);
        assert_bounded(&targets::sealed_manifest(&data));
        assert_bounded(&targets::sealed_index(&data, SEGMENT));
    }

    #[test]
    fn scanning_allocates_nothing(sent in message::records(), data in vec(any::<u8>(), 0..300)) {
        for run in [sent.encode_to_vec(), data] {
            let info = measure(|| {
                let mut headers = 0;
                for (_, record) in Records::new(&run, &RecordLimits::default()).flatten() {
                    headers += record.headers().count();
                }
                std::hint::black_box((headers, skip_records(&run, 3)));
            });
            prop_assert_eq!(info.count_total, 0);
        }
    }
}

#[test]
fn large_structures_hold_at_most_twice_their_bytes() {
    assert_bounded(&targets::sealed_manifest(&vec![0; 1 << 20]));
    let mut index = SegmentIndex::new();
    for i in 1..40_000 {
        index.push(flowstone_format::IndexEntry {
            offset: Offset::new(i),
            position: Position::new(i),
            max_timestamp_before_ms: 0,
        });
    }
    let bytes = index.encode(SEGMENT);
    assert_eq!(SegmentIndex::decode(&bytes, SEGMENT), Ok(index));
    assert_bounded(&bytes);
}

/// The shortest records there are, as many as a batch takes, cost their bytes only.
#[test]
fn building_a_batch_allocates_nothing_per_record() {
    let limits = RecordLimits::default();
    let request = [0x0A, 0x00].repeat(limits.max_records as usize);
    let run = 0..request.len();
    let mut out = Vec::with_capacity(FRAME_HEADER_LEN + request.len() * 10);
    let info = measure(|| {
        let header = build_batch(&mut out, &request, from_ref(&run), &META, &limits).unwrap();
        assert_eq!(header.record_count, limits.max_records);
        assert_eq!(header.check_payload(&out[FRAME_HEADER_LEN..]), Ok(()));
    });
    assert_eq!(info.count_total, 0);
}
