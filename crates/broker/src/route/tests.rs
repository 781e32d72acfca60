//! Routing against the definition, record by record.

use proptest::prelude::*;
use prost::Message;

use super::*;

#[derive(Clone, PartialEq, Message)]
struct Wire {
    #[prost(bytes = "vec", optional, tag = "1")]
    key: Option<Vec<u8>>,
    #[prost(bytes = "vec", optional, tag = "2")]
    value: Option<Vec<u8>>,
}

#[derive(Clone, PartialEq, Message)]
struct Run {
    #[prost(message, repeated, tag = "1")]
    records: Vec<Wire>,
}

fn run(keys: &[Option<&str>]) -> Vec<u8> {
    let records = keys
        .iter()
        .enumerate()
        .map(|(i, key)| Wire {
            key: key.map(|key| key.as_bytes().to_vec()),
            value: Some(i.to_string().into_bytes()),
        })
        .collect();
    Run { records }.encode_to_vec()
}

fn routed(request: &[u8], placement: Placement) -> Routed {
    route(request, None, &RecordLimits::default(), placement).expect("the records are well formed")
}

fn by_key(partition_count: u32, keyless: u32) -> Placement {
    Placement::ByKey {
        partition_count,
        keyless,
    }
}

#[test]
fn a_fixed_partition_takes_the_whole_request_as_one_run() {
    let request = run(&[Some("a"), None, Some("b")]);
    let routed = routed(&request, Placement::Fixed(7));
    assert_eq!(routed.parts.len(), 1);
    assert_eq!(routed.parts[0].partition, 7);
    assert_eq!(routed.parts[0].record_count, 3);
    assert_eq!(routed.parts[0].runs.len(), 1);
    assert_eq!(routed.parts[0].runs[0], 0..request.len());
    assert_eq!(routed.order, [(0, 3)]);
}

#[test]
fn an_empty_key_is_a_key_and_records_without_one_stay_together() {
    let empty = (murmur2(b"") & 0x7fff_ffff) % 8;
    let keyless = (empty + 1) % 8;
    let request = run(&[None, Some(""), None, None]);
    let routed = routed(&request, by_key(8, keyless));
    let targets: Vec<_> = routed
        .parts
        .iter()
        .map(|part| (part.partition, part.record_count))
        .collect();
    assert_eq!(targets, [(keyless, 3), (empty, 1)]);
    assert_eq!(routed.order, [(0, 1), (1, 1), (0, 2)]);
}

#[test]
fn where_there_is_one_partition_only_what_is_no_run_of_records_is_refused() {
    let unknown_field = [0x0a, 0x02, 0x58, 0x01];
    let limits = RecordLimits {
        max_records: 2,
        ..RecordLimits::default()
    };
    for placement in [Placement::Fixed(0), by_key(1, 0)] {
        let whole = routed(&unknown_field, placement);
        assert_eq!(whole.order, [(0, 1)], "its frame finds it out");
        let cut = [&unknown_field[..], &[0x0a, 0x05, 0x12]].concat();
        let error = route(&cut, None, &limits, placement).expect_err("it is cut off");
        assert_eq!(error.index, 0, "the first that is wrong");
        let many = route(&[0x0a, 0, 0x0a, 0, 0x0a, 0], None, &limits, placement);
        assert_eq!(many.expect_err("too many").index, 2);
    }
}

#[test]
fn what_was_counted_is_not_counted_again() {
    let request = run(&[None, None]);
    let limits = RecordLimits::default();
    let told = route(&request, Some(7), &limits, Placement::Fixed(3)).expect("not looked at");
    assert_eq!(told, Routed::whole(3, request.len(), 7));
    let sorted = route(&request, Some(7), &limits, by_key(4, 1)).expect("well formed");
    assert_eq!(
        sorted.order,
        [(0, 2)],
        "those that are sorted are looked at anyway"
    );
}

#[test]
fn the_first_bad_record_is_told_by_its_index() {
    let mut request = run(&[Some("a"), Some("b")]);
    request.extend_from_slice(&[0x0a, 0x02, 0x58, 0x01]);
    let limits = RecordLimits::default();
    let error = route(&request, None, &limits, by_key(4, 0)).expect_err("field 11 is unknown");
    assert_eq!(error.index, 2);
}

proptest! {
    #[test]
    fn every_record_goes_once_where_kafka_sends_it(
        keys in prop::collection::vec(prop::option::of("[a-e]{0,2}"), 1..60),
        partition_count in 1u32..9,
    ) {
        let keyless = 3 % partition_count;
        let keys: Vec<_> = keys.iter().map(|key| key.as_deref()).collect();
        let request = run(&keys);
        let routed = routed(&request, by_key(partition_count, keyless));
        let expected: Vec<u32> = keys
            .iter()
            .map(|key| key.map_or(keyless, |key| {
                (murmur2(key.as_bytes()) & 0x7fff_ffff) % partition_count
            }))
            .collect();

        // The order, spelled out record by record, names the partition of each.
        let spelled: Vec<u32> = routed
            .order
            .iter()
            .flat_map(|&(part, count)| {
                std::iter::repeat_n(routed.parts[part as usize].partition, count as usize)
            })
            .collect();
        prop_assert_eq!(&spelled, &expected);

        // Each part decodes to its records, in the order of the request.
        for part in &routed.parts {
            let bytes: Vec<u8> = part.runs.iter().flat_map(|run| request[run.clone()].to_vec()).collect();
            let values: Vec<_> = Run::decode(&bytes[..]).unwrap().records.into_iter()
                .map(|record| record.value.unwrap()).collect();
            let wanted: Vec<_> = expected.iter().enumerate()
                .filter(|&(_, partition)| *partition == part.partition)
                .map(|(i, _)| i.to_string().into_bytes()).collect();
            prop_assert_eq!(part.record_count as usize, wanted.len());
            prop_assert_eq!(values, wanted);
            prop_assert!(part.runs.windows(2).all(|pair| pair[0].end < pair[1].start));
        }
    }
}
