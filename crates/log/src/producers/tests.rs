//! The state machine by itself: stories, and a model that forgets nothing.

mod model;
mod transcripts;

use std::sync::Arc;

use flowstone_format::{
    Codec, FrameHeader, FrameKind, Offset, PartitionId, Position, ProducerId, ProducerSnapshot,
};

use super::*;

/// A machine and the end of the log that it belongs to.
struct Machine {
    state: ProducerState,
    next_offset: u64,
}

/// One request to append.
#[derive(Clone, Copy, Debug)]
struct Request {
    id: ProducerId,
    epoch: i32,
    sequence: i64,
    count: u32,
    crc: u32,
    routing_count: u32,
    append_ms: i64,
}

impl Request {
    fn new(id: &str, sequence: i64) -> Self {
        Self {
            id: ProducerId::of(id),
            epoch: 0,
            sequence,
            count: 1,
            crc: 1,
            routing_count: 1,
            append_ms: 0,
        }
    }
}

impl Machine {
    fn new(budget: ProducerBudget) -> Self {
        Self {
            state: ProducerState::new(&Arc::new(budget)),
            next_offset: 0,
        }
    }

    /// What a log does: looks first, and takes note of the frame.
    fn append(&mut self, request: &Request) -> Result<Option<ProducerSequence>, LogError> {
        let batch = ProducerBatch {
            id: request.id,
            epoch: request.epoch,
            sequence: request.sequence,
        };
        let known = self.state.check(&batch, request.count, request.crc)?;
        if known.is_none() {
            self.state.apply(&frame(request, self.next_offset));
            self.next_offset += u64::from(request.count);
        }
        Ok(known)
    }

    /// The state as it comes back from a snapshot.
    fn restart(&mut self) {
        let budget = Arc::clone(self.state.budget());
        let end = Offset::new(self.next_offset);
        let snapshot = self.state.snapshot(PartitionId::new(1), SEGMENT, end);
        self.state = ProducerState::new(&budget);
        if let Some(snapshot) = snapshot {
            let (bytes, crc) = snapshot.encode();
            let (read, read_crc) = ProducerSnapshot::decode(&bytes).unwrap();
            assert_eq!((&read, read_crc), (&snapshot, crc));
            self.state = ProducerState::of_snapshot(read, &budget);
        }
        self.check_budget();
    }

    /// Room is taken for what is remembered, and for no more.
    fn check_budget(&self) {
        let cost: usize = self.state.producers.values().map(Producer::cost).sum();
        let used = self.state.budget.used();
        assert_eq!(used, cost + self.state.forgotten.len());
    }
}

const SEGMENT: uuid::Uuid = uuid::Uuid::from_bytes([1; 16]);

fn frame(request: &Request, base_offset: u64) -> FrameHeader {
    FrameHeader {
        kind: FrameKind::Data,
        codec: Codec::None,
        transactional: false,
        header_len: 128,
        payload_len: 2,
        payload_crc: 0,
        base_offset: Offset::new(base_offset),
        offset_span: request.count,
        record_count: request.count,
        leader_epoch: 1,
        entry_index: 1,
        append_ms: request.append_ms,
        max_timestamp_ms: request.append_ms,
        producer_id: request.id.into_bytes(),
        sequence: request.sequence,
        producer_epoch: request.epoch,
        routing_count: request.routing_count,
        uncompressed_len: 2,
        client_crc: request.crc,
        durable_upto: Position::ZERO,
        prev_header_crc: 0,
    }
}

#[test]
fn frames_without_a_producer_and_gaps_change_nothing() {
    let mut machine = Machine::new(ProducerBudget::unlimited());
    let sent = frame(&Request::new("a", 1), 0);
    let others = [
        FrameHeader {
            producer_id: [0; 16],
            ..sent.clone()
        },
        FrameHeader {
            sequence: 0,
            ..sent.clone()
        },
        FrameHeader {
            kind: FrameKind::Control,
            ..sent.clone()
        },
        FrameHeader::gap(Offset::ZERO..Offset::new(5), 1, 1, 1),
    ];
    for other in others {
        machine.state.apply(&other);
    }
    assert!(machine.state.producers.is_empty());

    // Its records were compacted away, and it is a duplicate all the same.
    machine.state.apply(&FrameHeader {
        kind: FrameKind::Empty,
        record_count: 0,
        ..sent
    });
    let again = machine.append(&Request::new("a", 1)).unwrap();
    assert_eq!(again.map(|known| known.record_count), Some(1));
}

#[test]
fn what_is_told_of_a_producer_is_all_that_a_partition_holds_for_it() {
    let mut machine = Machine::new(ProducerBudget::unlimited());
    for sequence in 1..=PRODUCER_WINDOW as i64 + 500 {
        machine.append(&Request::new("a", sequence)).unwrap();
    }
    let window = &machine.state.producers[&ProducerId::of("a")].window;
    assert_eq!(window.len(), PRODUCER_WINDOW);
    assert_eq!(window.capacity(), PRODUCER_WINDOW, "it never grew beyond");
    assert_eq!(size_of::<ProducerSequence>(), 32);
    machine.check_budget();
}
