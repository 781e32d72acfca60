//! What the fuzz targets do with their bytes.
//!
//! Plain functions that panic when a property does not hold. The property tests of
//! flowstone-format include this file and call the same functions.

use std::slice::from_ref;

use flowstone_format::{
    BatchMeta, FLOOR_HEADER_MAGIC, FLOOR_SLOT_LEN, FLOOR_SLOT_MAGIC, FRAME_HEADER_LEN, Field,
    FloorSlot, FrameHeader, IDENTITY_LEN, IDENTITY_MAGIC, INDEX_ENTRY_LEN, INDEX_HEADER_LEN,
    INDEX_MAGIC, Identity, MANIFEST_ENTRY_LEN, MANIFEST_HEADER_LEN, MANIFEST_MAGIC,
    MAX_BROKER_BYTES, MAX_HEADER_LEN, Manifest, Offset, PRODUCER_ENTRY_LEN, PRODUCER_SEQUENCE_LEN,
    PRODUCERS_HEADER_LEN, PRODUCERS_MAGIC, PartitionId, Position, ProducerEntry, ProducerSnapshot,
    Record, RecordLimits, Records, SEGMENT_HEADER_LEN, SEGMENT_MAGIC, SegmentEntry, SegmentHeader,
    SegmentIndex, build_batch, check_floor_header, floor_header, skip_records,
};
use uuid::Uuid;

/// Any bytes as a run of records: each accepted record lies where its range says,
/// its parts lie inside it, and skipping by lengths finds the same places.
pub fn records(data: &[u8]) {
    let mut end = 0;
    let mut count = 0;
    for next in Records::new(data, &RecordLimits::default()) {
        let Ok((range, record)) = next else {
            return;
        };
        assert_eq!(range.start, end, "records follow each other");
        assert!(data[range.clone()].ends_with(record.body));
        assert!(record.body.starts_with(record.head));
        assert!(record.priority <= 9);
        let parts = record.headers().map(|(key, value)| key.len() + value.len());
        assert!(parts.sum::<usize>() <= record.head.len());
        assert_eq!(skip_records(data, count), Some(range.start));
        end = range.end;
        count += 1;
    }
    assert_eq!(end, data.len(), "a run ends with a record or an error");
    assert_eq!(skip_records(data, count), Some(end));
    assert_eq!(skip_records(data, count + 1), None);
}

/// An accepted run is stored with its contents unchanged, and what was stored can
/// be produced again: it is accepted, and stored as the same bytes.
pub fn stored_round_trip(data: &[u8]) {
    let limits = RecordLimits::default();
    let Ok(sent) = Records::new(data, &limits).collect::<Result<Vec<_>, _>>() else {
        return;
    };
    if sent.is_empty() {
        return;
    }
    let meta = BatchMeta {
        base_offset: Offset::new(data.len() as u64),
        leader_epoch: 1,
        entry_index: 1,
        append_ms: 1_700_000_000_000,
        producer_id: [0; 16],
        sequence: 0,
        producer_epoch: 0,
        routing_count: 1,
        client_crc: 0,
    };
    let (header, payload) = build(data, &meta);
    assert_eq!(header.record_count as usize, sent.len());
    assert_eq!(header.check_payload(&payload), Ok(()));
    let growth = sent.len() * (MAX_BROKER_BYTES as usize + 1);
    assert!(payload.len() <= data.len() + growth);

    let kept = Records::new(&payload, &RecordLimits::NONE).map(|next| next.expect("stored").1);
    let mut offset = meta.base_offset;
    let mut max_timestamp_ms = i64::MIN;
    for ((_, sent), kept) in sent.iter().zip(kept) {
        let timestamp_ms = match sent.timestamp_ms {
            0 => meta.append_ms,
            client_ms => client_ms,
        };
        let expected = Record {
            body: kept.body,
            timestamp_ms,
            offset: Some(offset.get()),
            ..*sent
        };
        assert_eq!(kept, expected);
        offset += 1;
        max_timestamp_ms = max_timestamp_ms.max(timestamp_ms);
    }
    assert_eq!(offset, header.next_offset());
    assert_eq!(max_timestamp_ms, header.max_timestamp_ms);

    let (again, repeated) = build(&payload, &meta);
    assert_eq!(again, header);
    assert_eq!(repeated, payload);
}

fn build(run: &[u8], meta: &BatchMeta) -> (FrameHeader, Vec<u8>) {
    let mut out = Vec::new();
    let whole = 0..run.len();
    let header = build_batch(
        &mut out,
        run,
        from_ref(&whole),
        meta,
        &RecordLimits::default(),
    )
    .expect("the run was accepted before");
    (header, out.split_off(FRAME_HEADER_LEN))
}

/// Any bytes as a salt, a position and a frame header, as they are and with the
/// checksum put right.
pub fn frame(data: &[u8]) {
    let Some((place, frame)) = data.split_at_checked(16) else {
        return;
    };
    let mut words = place
        .chunks_exact(8)
        .map(|word| u64::from_le_bytes(word.try_into().expect("chunks of eight bytes")));
    let salt = words.next().unwrap_or_default();
    let at = Position::new(words.next().unwrap_or_default());
    frame_header(frame, salt, at);
    let mut stamped = frame.to_vec();
    if stamp_frame(&mut stamped, salt, at) {
        frame_header(&stamped, salt, at);
    }
}

/// Puts the checksum of the frame header in `frame` right, if its length allows.
pub fn stamp_frame(frame: &mut [u8], salt: u64, at: Position) -> bool {
    let Some(&[low, high]) = frame.get(6..8) else {
        return false;
    };
    let header_len = usize::from(u16::from_le_bytes([low, high]));
    let allowed = FRAME_HEADER_LEN..=usize::from(MAX_HEADER_LEN);
    if !allowed.contains(&header_len) || frame.len() < header_len {
        return false;
    }
    let mut covered = salt.to_le_bytes().to_vec();
    covered.extend(at.get().to_le_bytes());
    covered.extend(&frame[..header_len - 4]);
    let crc = crc32fast::hash(&covered).to_le_bytes();
    frame[header_len - 4..header_len].copy_from_slice(&crc);
    true
}

/// Whatever is accepted is encoded to the same bytes, but for an extension.
fn frame_header(frame: &[u8], salt: u64, at: Position) {
    let Ok((header, crc)) = FrameHeader::decode(frame, salt, at) else {
        return;
    };
    let (header_len, plain) = (usize::from(header.header_len), FRAME_HEADER_LEN);
    let stored = &frame[header_len - 4..header_len];
    assert_eq!(stored, crc.to_le_bytes());
    assert!(header.next_offset() <= Offset::MAX);
    if header_len == plain {
        let mut encoded = [0; FRAME_HEADER_LEN];
        assert_eq!(header.encode(salt, at, &mut encoded), crc);
        assert_eq!(encoded, frame[..plain]);
    }
}

/// Any bytes as a segment header.
pub fn segment_header(data: &[u8]) {
    let check = |bytes: &[u8]| {
        if let Ok((header, _)) = SegmentHeader::decode(bytes) {
            assert_eq!(header.encode(), bytes[..SEGMENT_HEADER_LEN as usize]);
        }
    };
    check(data);
    let len = SEGMENT_HEADER_LEN as usize;
    check(&sealed(
        resized(data, len),
        SEGMENT_MAGIC,
        SegmentHeader::LAYOUT,
    ));
}

/// Any bytes as a MANIFEST.
pub fn manifest(data: &[u8]) {
    let check = |bytes: &[u8]| {
        if let Ok(manifest) = Manifest::decode(bytes) {
            assert_eq!(manifest.encode(), bytes);
        }
    };
    check(data);
    check(&sealed_manifest(data));
}

/// `data` made into what a MANIFEST of its length may look like, checksum and all.
pub fn sealed_manifest(data: &[u8]) -> Vec<u8> {
    let (header, entry) = (MANIFEST_HEADER_LEN, MANIFEST_ENTRY_LEN);
    let mut bytes = with_entries(data, header, entry, Manifest::LAYOUT, "SEGMENT_COUNT");
    for slot in bytes[header..].chunks_exact_mut(entry) {
        clear_reserved(slot, SegmentEntry::LAYOUT);
    }
    sealed(bytes, MANIFEST_MAGIC, Manifest::LAYOUT)
}

/// Any bytes as FLOOR's header, and as a slot of a partition.
pub fn floor(data: &[u8]) {
    let check = |bytes: &[u8]| {
        if check_floor_header(bytes).is_ok() {
            assert_eq!(bytes[..floor_header().len()], floor_header());
        }
        let partition = PartitionId::new(7);
        if let Ok(slot) = FloorSlot::decode(bytes, partition) {
            let encoded = slot.map_or([0; FLOOR_SLOT_LEN], |slot| slot.encode());
            assert_eq!(encoded, bytes[..FLOOR_SLOT_LEN]);
        }
    };
    check(data);
    let mut slot = resized(data, FLOOR_SLOT_LEN);
    put(
        &mut slot,
        FloorSlot::LAYOUT,
        "PARTITION",
        &7u64.to_le_bytes(),
    );
    check(&sealed(slot, FLOOR_SLOT_MAGIC, FloorSlot::LAYOUT));
    let header = resized(data, floor_header().len());
    check(&sealed(
        header,
        FLOOR_HEADER_MAGIC,
        FloorSlot::HEADER_LAYOUT,
    ));
}

/// Any bytes as an index.
pub fn index(data: &[u8]) {
    let segment = Uuid::from_bytes([7; 16]);
    let check = |bytes: &[u8]| {
        let Ok(index) = SegmentIndex::decode(bytes, segment) else {
            return;
        };
        assert_eq!(index.encode(segment), bytes);
        for entry in index.entries() {
            assert_eq!(index.position_for_offset(entry.offset), Some(*entry));
        }
    };
    check(data);
    check(&sealed_index(data, segment));
}

/// `data` made into what an index of its length may look like, checksum and all.
pub fn sealed_index(data: &[u8], segment: Uuid) -> Vec<u8> {
    let (header, entry) = (INDEX_HEADER_LEN, INDEX_ENTRY_LEN);
    let mut bytes = with_entries(data, header, entry, SegmentIndex::LAYOUT, "ENTRY_COUNT");
    put(
        &mut bytes,
        SegmentIndex::LAYOUT,
        "SEGMENT",
        segment.as_bytes(),
    );
    sealed(bytes, INDEX_MAGIC, SegmentIndex::LAYOUT)
}

/// Any bytes as a producer snapshot.
pub fn producers(data: &[u8]) {
    let check = |bytes: &[u8]| {
        if let Ok((snapshot, crc)) = ProducerSnapshot::decode(bytes) {
            assert_ne!(crc, 0);
            assert_eq!(snapshot.encode(), (bytes.to_vec(), crc));
        }
    };
    check(data);
    check(&sealed_producers(data));
}

/// `data` made into a snapshot whose counts and order are right as far as its length allows: the low
/// bits of each producer's count say how many sequences it has.
pub fn sealed_producers(data: &[u8]) -> Vec<u8> {
    let mut bytes = resized(data, data.len().max(PRODUCERS_HEADER_LEN + 4));
    let (mut at, end) = (PRODUCERS_HEADER_LEN, bytes.len() - 4);
    let mut count = 0u32;
    while at + PRODUCER_ENTRY_LEN + PRODUCER_SEQUENCE_LEN <= end {
        let (entry, behind) = bytes[at..end].split_at_mut(PRODUCER_ENTRY_LEN);
        let room = behind.len() / PRODUCER_SEQUENCE_LEN;
        let sequences = (usize::from(entry[36] % 4) + 1).min(room);
        entry[..4].copy_from_slice(&(count + 1).to_be_bytes());
        let told = (sequences as u32).to_le_bytes();
        put(entry, ProducerEntry::LAYOUT, "SEQUENCE_COUNT", &told);
        for (number, slot) in behind
            .chunks_exact_mut(PRODUCER_SEQUENCE_LEN)
            .take(sequences)
            .enumerate()
        {
            // Mostly ascending, by what the bytes say.
            slot[7] = number as u8;
        }
        at += PRODUCER_ENTRY_LEN + sequences * PRODUCER_SEQUENCE_LEN;
        count += 1;
    }
    bytes.truncate(at + 4);
    let layout = ProducerSnapshot::LAYOUT;
    put(&mut bytes, layout, "PRODUCER_COUNT", &count.to_le_bytes());
    put(&mut bytes, layout, "FILLER", &[0; 4]);
    sealed(bytes, PRODUCERS_MAGIC, layout)
}

/// Any bytes as IDENTITY.
pub fn identity(data: &[u8]) {
    let check = |bytes: &[u8]| {
        if let Ok(identity) = Identity::decode(bytes) {
            assert_eq!(identity.encode(), bytes);
        }
    };
    check(data);
    check(&sealed(
        resized(data, IDENTITY_LEN),
        IDENTITY_MAGIC,
        Identity::LAYOUT,
    ));
}

/// All targets, for tests that have no fuzzer.
pub const ALL: &[fn(&[u8])] = &[
    records,
    stored_round_trip,
    frame,
    segment_header,
    manifest,
    floor,
    index,
    producers,
    identity,
];

/// Makes `bytes` pass the checks of magic, version, features, reserved space and
/// checksum, so that the fields behind them are reached.
pub fn sealed(mut bytes: Vec<u8>, magic: [u8; 4], layout: &[Field]) -> Vec<u8> {
    put(&mut bytes, layout, "MAGIC", &magic);
    put(&mut bytes, layout, "VERSION", &1u16.to_le_bytes());
    put(&mut bytes, layout, "FEATURES", &[0; 8]);
    clear_reserved(&mut bytes, layout);
    let end = bytes.len() - 4;
    let crc = crc32fast::hash(&bytes[..end]).to_le_bytes();
    bytes[end..].copy_from_slice(&crc);
    bytes
}

fn resized(data: &[u8], len: usize) -> Vec<u8> {
    let mut bytes = data.to_vec();
    bytes.resize(len, 0);
    bytes
}

fn with_entries(
    data: &[u8],
    header: usize,
    entry: usize,
    layout: &[Field],
    count_name: &str,
) -> Vec<u8> {
    let count = data.len().saturating_sub(header + 4) / entry;
    let mut bytes = resized(data, header + count * entry + 4);
    put(
        &mut bytes,
        layout,
        count_name,
        &(count as u32).to_le_bytes(),
    );
    bytes
}

fn put(bytes: &mut [u8], layout: &[Field], name: &str, value: &[u8]) {
    let field = layout
        .iter()
        .find(|field| field.name == name)
        .expect("the layout has the field");
    bytes[field.at..field.at + field.len].copy_from_slice(value);
}

fn clear_reserved(bytes: &mut [u8], layout: &[Field]) {
    for field in layout.iter().filter(|f| f.name.starts_with("RESERVED")) {
        bytes[field.at..field.at + field.len].fill(0);
    }
}
