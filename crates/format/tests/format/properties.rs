//! Round trips, and that this crate and a generated protobuf stub agree.

use std::ops::Range;

use flowstone_format::{
    BatchMeta, FRAME_HEADER_LEN, FloorSlot, FrameHeader, Identity, Manifest, Offset, Position,
    ProducerSnapshot, RecordLimits, Records, SegmentHeader, SegmentIndex, build_batch,
    parse_index_name, parse_partition_dir_name, parse_segment_name, partition_dir_name,
    segment_name, skip_records,
};
use proptest::prelude::*;
use prost::Message;

use crate::message::{self, Record};
use crate::{samples, targets};

fn meta(base_offset: u64, append_ms: i64) -> BatchMeta {
    BatchMeta {
        base_offset: Offset::new(base_offset),
        leader_epoch: 1,
        entry_index: 2,
        append_ms,
        producer_id: [3; 16],
        sequence: 4,
        producer_epoch: 5,
        routing_count: 6,
        client_crc: 7,
    }
}

/// What a reader is to get for what was sent.
fn stored(sent: &message::Records, meta: &BatchMeta) -> message::Records {
    let records = sent.records.iter().enumerate().map(|(i, record)| Record {
        timestamp_ms: match record.timestamp_ms {
            0 => meta.append_ms,
            client_ms => client_ms,
        },
        offset: meta.base_offset.get() as i64 + i as i64,
        ..record.clone()
    });
    message::Records {
        records: records.collect(),
    }
}

fn build(request: &[u8], runs: &[Range<usize>], meta: &BatchMeta) -> (FrameHeader, Vec<u8>) {
    let mut out = Vec::new();
    let header = build_batch(&mut out, request, runs, meta, &RecordLimits::default()).unwrap();
    (header, out.split_off(FRAME_HEADER_LEN))
}

/// The byte range of each record.
fn ranges(run: &[u8]) -> Vec<Range<usize>> {
    let records = Records::new(run, &RecordLimits::default());
    records.map(|next| next.unwrap().0).collect()
}

proptest! {
    /// What a generated stub encodes is accepted, and borrowed as what it was.
    #[test]
    fn the_scanner_accepts_what_prost_encodes(sent in message::records()) {
        let run = sent.encode_to_vec();
        let scanned = Records::new(&run, &RecordLimits::default());
        let records = scanned.map(|next| Record::from(&next.unwrap().1)).collect();
        prop_assert_eq!(message::Records { records }, sent);
    }

    /// What is stored is what a generated stub reads, with timestamp and offset filled in.
    #[test]
    fn prost_decodes_what_was_stored(
        sent in message::records(),
        base_offset in 0..1u64 << 62,
        append_ms in 1..2_000_000_000_000i64,
    ) {
        let meta = meta(base_offset, append_ms);
        let run = sent.encode_to_vec();
        let (header, payload) = build(&run, &ranges(&run), &meta);
        let expected = stored(&sent, &meta);
        let latest = expected.records.iter().map(|r| r.timestamp_ms).max();
        prop_assert_eq!(message::Records::decode(&payload[..]).unwrap(), expected);
        prop_assert_eq!(header.record_count as usize, sent.records.len());
        prop_assert_eq!(Some(header.max_timestamp_ms), latest);
        prop_assert_eq!(header.check_payload(&payload), Ok(()));
    }

    /// Records that were read can be produced again, to another place.
    #[test]
    fn what_was_read_can_be_produced_again(
        sent in message::records(),
        places in any::<(u32, u32)>(),
    ) {
        let run = sent.encode_to_vec();
        let (_, payload) = build(&run, &ranges(&run), &meta(places.0.into(), 1));
        let again = meta(places.1.into(), 2);
        let (_, repeated) = build(&payload, &ranges(&payload), &again);
        let first = message::Records::decode(&payload[..]).unwrap();
        let second = message::Records::decode(&repeated[..]).unwrap();
        prop_assert_eq!(second, stored(&first, &again));
    }

    /// A record of the greatest size can be produced again too, although the
    /// broker's fields have made it longer.
    #[test]
    fn the_size_limit_does_not_count_the_brokers_fields(sent in message::record(), offset in 0..1u64 << 62) {
        let sent = Record { timestamp_ms: 0, offset: 0, ..sent };
        let limits = RecordLimits { max_record_bytes: sent.encoded_len() as u32, max_records: 1, ..RecordLimits::default() };
        let run = message::Records { records: vec![sent] }.encode_to_vec();
        let mut out = Vec::new();
        for append_ms in [1, -1] {
            let whole = [ranges(&run)[0].clone()];
            build_batch(&mut out, &run, &whole, &meta(offset, append_ms), &limits).unwrap();
            let payload = out.split_off(FRAME_HEADER_LEN);
            out.clear();
            prop_assert!(Records::new(&payload, &limits).all(|next| next.is_ok()));
        }
        if let Some(max_record_bytes) = limits.max_record_bytes.checked_sub(1) {
            let less = RecordLimits { max_record_bytes, ..limits };
            prop_assert!(Records::new(&run, &less).any(|next| next.is_err()));
        }
    }

    /// A partition's records may be spread over a request in any way.
    #[test]
    fn runs_are_gathered_in_order(sent in message::records(), picks in any::<u16>()) {
        let run = sent.encode_to_vec();
        let all = ranges(&run);
        let picked = |i: &usize| picks >> i & 1 == 1 || *i == 0;
        let runs: Vec<_> = (0..all.len()).filter(picked).map(|i| all[i].clone()).collect();
        let records = (0..all.len()).filter(picked).map(|i| sent.records[i].clone());
        let sent = message::Records { records: records.collect() };
        let meta = meta(9, 9);
        let (_, payload) = build(&run, &runs, &meta);
        prop_assert_eq!(message::Records::decode(&payload[..]).unwrap(), stored(&sent, &meta));
    }

    /// A payload can be cut before any of its records.
    #[test]
    fn a_payload_is_cut_at_records(sent in message::records(), offset in any::<u32>()) {
        let run = sent.encode_to_vec();
        let (header, payload) = build(&run, &ranges(&run), &meta(offset.into(), 1));
        for n in 0..header.record_count {
            let at = skip_records(&payload, n).unwrap();
            let (range, record) = Records::new(&payload[at..], &RecordLimits::NONE).next().unwrap().unwrap();
            prop_assert_eq!(range.start, 0);
            prop_assert_eq!(record.offset, Some(u64::from(offset) + u64::from(n)));
        }
        prop_assert_eq!(skip_records(&payload, header.record_count), Some(payload.len()));
        prop_assert_eq!(skip_records(&payload, header.record_count + 1), None);
    }

    /// The scanner is stricter than protobuf and never reads anything else into
    /// the bytes: what it accepts, a generated stub decodes to the same.
    #[test]
    fn what_the_scanner_accepts_prost_decodes_to_the_same(
        sent in message::records(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..3),
    ) {
        let mut run = sent.encode_to_vec();
        for (at, byte) in changes {
            if !run.is_empty() {
                let at = at.index(run.len());
                run[at] = byte;
            }
        }
        let scanned: Result<Vec<_>, _> = Records::new(&run, &RecordLimits::default()).collect();
        if let Ok(scanned) = scanned {
            let records = scanned.iter().map(|(_, record)| Record::from(record)).collect();
            let decoded = message::Records::decode(&run[..]).unwrap();
            prop_assert_eq!(message::Records { records }, decoded);
        }
        targets::records(&run);
        targets::stored_round_trip(&run);
    }

    #[test]
    fn frame_headers_come_back(header in samples::frame_header(), salt: u64, at: u64, more in 0..9usize) {
        let at = Position::new(at);
        let mut bytes = vec![0xEE; FRAME_HEADER_LEN + more];
        let crc = header.encode(salt, at, &mut bytes);
        prop_assert!(bytes[FRAME_HEADER_LEN..].iter().all(|&byte| byte == 0xEE));
        prop_assert_eq!(FrameHeader::decode(&bytes, salt, at), Ok((header, crc)));
    }

    #[test]
    fn segment_headers_come_back(header in samples::segment_header()) {
        let bytes = header.encode();
        let crc = u32::from_le_bytes(*bytes.last_chunk().unwrap());
        prop_assert_eq!(SegmentHeader::decode(&bytes), Ok((header, crc)));
    }

    #[test]
    fn manifests_come_back(manifest in samples::manifest()) {
        prop_assert_eq!(Manifest::decode(&manifest.encode()), Ok(manifest));
    }

    #[test]
    fn floor_slots_come_back(slot in samples::floor_slot()) {
        prop_assert_eq!(FloorSlot::decode(&slot.encode(), slot.partition), Ok(Some(slot)));
    }

    #[test]
    fn indexes_come_back(index in samples::index(), segment in samples::uuid()) {
        prop_assert_eq!(SegmentIndex::decode(&index.encode(segment), segment), Ok(index));
    }

    #[test]
    fn producer_snapshots_come_back(snapshot in samples::producers()) {
        let (bytes, crc) = snapshot.encode();
        prop_assert_eq!(crc, u32::from_le_bytes(*bytes.last_chunk().unwrap()));
        prop_assert_eq!(ProducerSnapshot::decode(&bytes), Ok((snapshot, crc)));
    }

    #[test]
    fn identities_come_back(identity in samples::identity()) {
        prop_assert_eq!(Identity::decode(&identity.encode()), Ok(identity));
    }

    /// The two searches find what a walk over all entries finds.
    #[test]
    fn index_searches_find_the_last_entry_that_fits(
        index in samples::index(),
        offset in 0..50_000u64,
        time in prop_oneof![Just(i64::MIN), Just(i64::MAX), -1..50_000i64],
    ) {
        let entries = index.entries();
        let offset = Offset::new(offset);
        let by_offset = entries.iter().rev().find(|e| e.offset <= offset).copied();
        prop_assert_eq!(index.position_for_offset(offset), by_offset);
        let by_time = entries.iter().rev().find(|e| e.max_timestamp_before_ms < time).copied();
        prop_assert_eq!(index.position_for_time(time), by_time);
    }

    #[test]
    fn names_come_back(base: u64, partition: u64, id in samples::uuid()) {
        let base = Offset::new(base);
        let name = segment_name(base, id);
        let short: [u8; 4] = id.as_bytes()[..4].try_into().unwrap();
        prop_assert_eq!(parse_segment_name(&name), Some((base, short)));
        prop_assert_eq!(parse_index_name(&name), None);
        let partition = flowstone_format::PartitionId::new(partition);
        prop_assert_eq!(parse_partition_dir_name(&partition_dir_name(partition)), Some(partition));
    }

    #[test]
    fn only_the_names_that_are_built_are_parsed(name in "\\+?[01]?[0-9]{18,19}-[0-9a-f]{7}[0-9a-fA-F]{1,2}\\.segment") {
        if let Some((base, [a, b, c, d])) = parse_segment_name(&name) {
            let mut id = [0; 16];
            id[..4].copy_from_slice(&[a, b, c, d]);
            prop_assert_eq!(segment_name(base, uuid::Uuid::from_bytes(id)), name);
        }
    }
}
