//! Strategies for everything around the records that is on disk.

use flowstone_format::{
    Codec, FRAME_HEADER_LEN, FloorSlot, FrameHeader, FrameKind, Generation, Identity, IndexEntry,
    Location, MAX_PAYLOAD_LEN, MAX_UNCOMPRESSED_LEN, Manifest, Offset, PartitionId, Position,
    ProducerEntry, ProducerId, ProducerSequence, ProducerSnapshot, SegmentEntry, SegmentHeader,
    SegmentIndex, SegmentState,
};
use proptest::collection::{btree_map, vec};
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use uuid::Uuid;

/// One value, the same in every run.
pub(crate) fn sample<S: Strategy>(runner: &mut TestRunner, strategy: S) -> S::Value {
    strategy.new_tree(runner).unwrap().current()
}

/// Puts the checksum in the last four bytes right.
pub(crate) fn reseal(bytes: &mut [u8]) {
    let end = bytes.len() - 4;
    let crc = crc32fast::hash(&bytes[..end]).to_le_bytes();
    bytes[end..].copy_from_slice(&crc);
}

pub(crate) fn uuid() -> impl Strategy<Value = Uuid> {
    any::<[u8; 16]>().prop_map(Uuid::from_bytes)
}

/// Offsets that leave room for any span.
fn offset() -> impl Strategy<Value = Offset> {
    prop_oneof![Just(0), 0..1_000_000u64, 0..1u64 << 62].prop_map(Offset::new)
}

prop_compose! {
    fn shape()(
        kind in prop::sample::select(vec![
            FrameKind::Data, FrameKind::Control, FrameKind::Raft, FrameKind::Empty, FrameKind::Gap,
        ]),
        codec in prop::sample::select(vec![Codec::None, Codec::Lz4, Codec::Zstd]),
        record_count in 1..=65_536u32,
        dropped in 0..100u32,
        room in any::<prop::sample::Index>(),
        payload_len in 1..=MAX_PAYLOAD_LEN,
    )(
        record_count in Just(record_count),
        kind in Just(kind),
        codec in Just(codec),
        span in Just(record_count + dropped),
        payload_len in Just(payload_len.max(2 * record_count)),
        uncompressed_len in Just(2 * record_count
            + room.index((MAX_UNCOMPRESSED_LEN - 2 * record_count) as usize) as u32),
    ) -> (FrameKind, Codec, u32, u32, u32, u32) {
        match (kind, codec) {
            (FrameKind::Raft, _) => (kind, Codec::None, 0, 0, 0, 0),
            (FrameKind::Empty | FrameKind::Gap, _) => (kind, Codec::None, span, 0, 0, 0),
            (_, Codec::None) => (kind, codec, span, record_count, payload_len, payload_len),
            _ => (kind, codec, span, record_count, payload_len, uncompressed_len),
        }
    }
}

prop_compose! {
    pub(crate) fn frame_header()(
        (kind, codec, offset_span, record_count, payload_len, uncompressed_len) in shape(),
        transactional in any::<bool>(),
        base_offset in offset(),
        (payload_crc, client_crc, prev_header_crc) in any::<(u32, u32, u32)>(),
        (leader_epoch, entry_index) in any::<(u64, u64)>(),
        (append_ms, max_timestamp_ms, sequence) in any::<(i64, i64, i64)>(),
        producer_id in any::<[u8; 16]>(),
        (producer_epoch, routing_count) in any::<(i32, u32)>(),
        durable_upto in any::<u64>(),
    ) -> FrameHeader {
        FrameHeader {
            kind, codec, transactional, header_len: FRAME_HEADER_LEN as u16, payload_len,
            payload_crc, base_offset, offset_span, record_count, leader_epoch, entry_index,
            append_ms, max_timestamp_ms, producer_id, sequence, producer_epoch, routing_count,
            uncompressed_len, client_crc, durable_upto: Position::new(durable_upto),
            prev_header_crc,
        }
    }
}

prop_compose! {
    pub(crate) fn segment_header()(
        (partition, generation, salt) in any::<(u64, u64, u64)>(),
        id in uuid(),
        base_offset in offset(),
        capacity in 4097..=u64::MAX,
        created_ms in any::<i64>(),
    ) -> SegmentHeader {
        SegmentHeader {
            partition: PartitionId::new(partition), id, generation: Generation::new(generation),
            base_offset, salt, capacity, created_ms,
        }
    }
}

prop_compose! {
    fn segment_entry()(
        id in uuid(),
        generations in 1..4u64,
        (gap, hidden, len) in (0..3u64, 0..3u64, 0..1000u64),
        (end_position, first_epoch, last_epoch) in any::<(u64, u64, u64)>(),
        (first_index, last_index, salt) in any::<(u64, u64, u64)>(),
        (header_crc, last_header_crc, producers_crc) in any::<(u32, u32, u32)>(),
        (max_timestamp_ms, last_append_ms) in any::<(i64, i64)>(),
    ) -> SegmentEntry {
        SegmentEntry {
            id, generation: Generation::new(generations), base_offset: Offset::new(gap),
            start_offset: Offset::new(gap + hidden), end_offset: Offset::new(gap + hidden + len),
            end_position: Position::new(end_position), first_epoch, last_epoch, first_index,
            last_index, salt, header_crc, last_header_crc, max_timestamp_ms, last_append_ms,
            location: Location::Local, state: SegmentState::Sealed, producers_crc,
        }
    }
}

prop_compose! {
    /// Segments that follow each other; the generated numbers are distances.
    pub(crate) fn manifest()(
        (partition, log_start_offset) in any::<(u64, u64)>(),
        mut segments in vec(segment_entry(), 0..6),
        active in any::<bool>(),
        closing in any::<Option<prop::sample::Index>>(),
        spare in 0..3u64,
    ) -> Manifest {
        let (mut generation, mut end) = (Generation::ZERO, Offset::ZERO);
        for segment in &mut segments {
            segment.generation = Generation::new(generation.get() + segment.generation.get());
            for offset in [
                &mut segment.base_offset, &mut segment.start_offset, &mut segment.end_offset,
            ] {
                *offset += end.get();
            }
            (generation, end) = (segment.generation, segment.end_offset);
        }
        if let Some(last) = segments.last_mut().filter(|_| active) {
            last.state = SegmentState::Active;
            last.end_offset = Offset::ZERO;
        }
        if let (Some(closing), [ended @ .., _]) = (closing, segments.as_mut_slice())
            && !ended.is_empty()
        {
            closing.get_mut(ended).state = SegmentState::Closing;
        }
        Manifest {
            partition: PartitionId::new(partition),
            generation: Generation::new(generation.get() + spare),
            log_start_offset: Offset::new(log_start_offset),
            segments,
        }
    }
}

prop_compose! {
    pub(crate) fn floor_slot()(
        (partition, generation, counter) in any::<(u64, u64, u64)>(),
        offset in offset(),
        position in any::<u64>(),
    ) -> FloorSlot {
        FloorSlot {
            partition: PartitionId::new(partition), generation: Generation::new(generation),
            offset, position: Position::new(position), counter,
        }
    }
}

prop_compose! {
    /// Entries that ascend; the generated numbers are distances.
    pub(crate) fn index()(
        steps in vec((1..1000u64, 1..100_000u64, 0..1000i64), 0..40),
        no_time in 0..3usize,
    ) -> SegmentIndex {
        let mut index = SegmentIndex::new();
        let (mut offset, mut position, mut time) = (Offset::ZERO, Position::ZERO, 0);
        for (i, (offsets, bytes, millis)) in steps.into_iter().enumerate() {
            offset += offsets;
            position += bytes;
            time += millis;
            let max_timestamp_before_ms = if i < no_time { i64::MIN } else { time };
            index.push(IndexEntry { offset, position, max_timestamp_before_ms });
        }
        index
    }
}

prop_compose! {
    /// Ids and sequences ascend; some of the generated numbers are distances.
    pub(crate) fn producers()(
        (partition, lost_upto_ms) in any::<(u64, Option<i64>)>(),
        segment in uuid(),
        windows in btree_map(1..u128::MAX, (any::<i32>(), any::<i64>(), 1..9i64, vec(
            (1..9i64, 0..900u64, 1..90u32, any::<(u32, u32)>()), 1..20,
        )), 0..6),
    ) -> ProducerSnapshot {
        let producers = windows.into_iter().map(|(id, (epoch, last_append_ms, behind, steps))| {
            let mut sequence = behind - 1;
            ProducerEntry {
                id: ProducerId::from_bytes(id.to_be_bytes()).unwrap(),
                epoch, last_append_ms, dropped: behind - 1,
                sequences: steps.into_iter().map(|(step, offset, record_count, (crc, routing_count))| {
                    sequence += step;
                    ProducerSequence {
                        sequence, base_offset: Offset::new(offset), record_count,
                        client_crc: crc, routing_count,
                    }
                }).collect(),
            }
        }).collect();
        ProducerSnapshot {
            partition: PartitionId::new(partition), segment, base_offset: Offset::new(1000),
            lost_upto_ms: lost_upto_ms.filter(|ms| *ms != i64::MIN), producers,
        }
    }
}

prop_compose! {
    pub(crate) fn identity()(
        cluster_id in uuid(),
        directory_id in uuid(),
        created_ms in any::<i64>(),
    ) -> Identity {
        Identity { cluster_id, directory_id, created_ms }
    }
}
