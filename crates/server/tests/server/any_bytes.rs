//! Any bytes in place of requests, as the fuzz targets try them.

use flowstone_proto::v1::{Acks, Header, ProduceRequest, Producer, Record};
use proptest::collection::vec;
use proptest::prelude::{ProptestConfig, any, prop_oneof, proptest};
use proptest::strategy::{Just, Strategy};
use prost::Message;

use crate::fuzz_wire;

/// A request with so many records and all else that it can have.
fn request(records: usize) -> Vec<u8> {
    let record = |n: usize| Record {
        key: (!n.is_multiple_of(3)).then(|| format!("key {n}").into()),
        value: (!n.is_multiple_of(5)).then(|| vec![b'v'; n * 7].into()),
        headers: vec![Header {
            key: "n".to_owned(),
            value: vec![0x0A; n % 4].into(),
        }],
        timestamp_ms: n as i64,
        ..Record::default()
    };
    let request = ProduceRequest {
        records: (0..records).map(record).collect(),
        topic: "visits".to_owned(),
        partition: Some(3),
        acks: Acks::Written.into(),
        producer: Some(Producer {
            id: "p".to_owned(),
            epoch: 1,
            sequence: 2,
        }),
        expected_offset: Some(0),
    };
    request.encode_to_vec()
}

/// A request as it is sent, with a few bytes of it changed, or any bytes at all.
fn any_message() -> impl Strategy<Value = Vec<u8>> {
    let damaged =
        (0..5_usize, vec((any::<u16>(), any::<u8>()), 0..6)).prop_map(|(count, edits)| {
            let mut message = request(count);
            for (at, byte) in edits {
                let at = usize::from(at) % message.len();
                message[at] = byte;
            }
            message
        });
    let in_stream = damaged.prop_flat_map(|inner| {
        let outer = [vec![0x0A, inner.len() as u8], inner.clone()].concat();
        prop_oneof![Just(inner), Just(outer)]
    });
    prop_oneof![4 => in_stream, 1 => vec(any::<u8>(), 0..64)]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4096, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_are_taken_for_what_prost_takes_them_for(message in any_message()) {
        fuzz_wire::requests(&message);
    }

    #[test]
    fn any_bytes_of_a_call_are_the_same_messages_however_they_are_cut(
        cuts in vec(any::<u8>(), 0..8),
        sizes in vec(0..600_u32, 0..4),
        edits in vec((any::<u16>(), any::<u8>()), 0..2),
    ) {
        let mut data = vec![u8::try_from(cuts.len()).expect("few")];
        data.extend(cuts);
        for size in sizes {
            data.extend([&[0], &size.to_be_bytes()[..], &vec![7; size as usize]].concat());
        }
        for (at, byte) in edits {
            let at = usize::from(at) % data.len();
            data[at] = byte;
        }
        fuzz_wire::messages(&data);
    }
}
