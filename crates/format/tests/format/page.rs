//! docs/format.md says what the code does: constants, places of fields, values.

use std::fmt::Write;

use flowstone_format as format;
use flowstone_format::{
    Codec, Field, FloorSlot, FrameHeader, FrameKind, Identity, IndexEntry, Location, Manifest,
    Offset, PartitionId, Position, ProducerEntry, ProducerSequence, ProducerSnapshot, SegmentEntry,
    SegmentHeader, SegmentIndex, SegmentState, floor_slot_positions,
};

/// The cells of the first table with this first column below this heading.
fn table(heading: &str, column: &str) -> Vec<Vec<String>> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/format.md");
    let page = std::fs::read_to_string(path).unwrap();
    let begin = format!("\n{heading}\n");
    let (_, section) = page.split_once(&begin).expect("the page has the heading");
    let section = section.split("\n#").next().unwrap();
    let head = format!("| {column} |");
    let rows: Vec<_> = section
        .lines()
        .skip_while(|line| !line.starts_with(&head))
        .skip(2)
        .take_while(|line| line.starts_with('|'))
        .map(|line| {
            let cells = line.trim_matches('|').split('|');
            cells.map(|cell| cell.trim().to_owned()).collect()
        })
        .collect();
    assert!(!rows.is_empty(), "{heading} has a table of {column}");
    rows
}

fn type_len(name: &str) -> usize {
    match name {
        "u8" => 1,
        "u16" => 2,
        "u32" | "i32" => 4,
        "u64" | "i64" => 8,
        _ => {
            let len = name
                .strip_prefix("bytes[")
                .and_then(|n| n.strip_suffix(']'));
            len.and_then(|n| n.parse().ok())
                .unwrap_or_else(|| panic!("type {name}"))
        }
    }
}

#[test]
fn fields_stand_where_the_page_says() {
    let (frame_end, local_len) = (
        format::FRAME_HEADER_LEN - format::LOCAL_LEN,
        format::LOCAL_LEN,
    );
    let slot_len = format::FLOOR_SLOT_LEN;
    let structures: [(&str, &[Field], usize); 13] = [
        ("## Frame header", FrameHeader::LAYOUT, frame_end),
        ("### Local part", FrameHeader::LOCAL_LAYOUT, local_len),
        (
            "## Segment header",
            SegmentHeader::LAYOUT,
            format::SEGMENT_HEADER_LEN as usize,
        ),
        ("## MANIFEST", Manifest::LAYOUT, format::MANIFEST_HEADER_LEN),
        (
            "### MANIFEST entry",
            SegmentEntry::LAYOUT,
            format::MANIFEST_ENTRY_LEN,
        ),
        (
            "## FLOOR",
            FloorSlot::HEADER_LAYOUT,
            format::FLOOR_HEADER_LEN as usize,
        ),
        ("### FLOOR slot", FloorSlot::LAYOUT, slot_len),
        ("## Index", SegmentIndex::LAYOUT, format::INDEX_HEADER_LEN),
        (
            "### Index entry",
            IndexEntry::LAYOUT,
            format::INDEX_ENTRY_LEN,
        ),
        (
            "## Producer snapshot",
            ProducerSnapshot::LAYOUT,
            format::PRODUCERS_HEADER_LEN,
        ),
        (
            "### Producer",
            ProducerEntry::LAYOUT,
            format::PRODUCER_ENTRY_LEN,
        ),
        (
            "### Producer sequence",
            ProducerSequence::LAYOUT,
            format::PRODUCER_SEQUENCE_LEN,
        ),
        ("## IDENTITY", Identity::LAYOUT, format::IDENTITY_LEN),
    ];
    for (heading, layout, len) in structures {
        let told: Vec<_> = table(heading, "at")
            .into_iter()
            .map(|row| (row[1].clone(), row[0].parse().unwrap(), type_len(&row[2])))
            .collect();
        let real: Vec<_> = layout
            .iter()
            .map(|field| (field.name.to_lowercase(), field.at, field.len))
            .collect();
        assert_eq!(told, real, "{heading}");

        let mut end = 0;
        for field in layout {
            assert_eq!(field.at, end, "{heading}: no hole before {}", field.name);
            end += field.len;
        }
        assert_eq!(end, len, "{heading} is filled");
    }
}

fn magic(bytes: [u8; 4]) -> String {
    let mut hex = String::new();
    for byte in bytes {
        write!(hex, "{byte:02X} ").unwrap();
    }
    format!("`{}` ({})", hex.trim_end(), String::from_utf8_lossy(&bytes))
}

#[test]
fn constants_have_the_values_of_the_page() {
    macro_rules! constants {
        ($($name:ident $show:expr),* $(,)?) => {
            vec![$((format!("`{}`", stringify!($name)), $show(format::$name))),*]
        };
    }
    let short = |n: u16| n.to_string();
    let size = |n: usize| n.to_string();
    let word = |n: u32| n.to_string();
    let long = |n: u64| n.to_string();
    let real = constants![
        FRAME_MAGIC magic,
        FRAME_VERSION short,
        FRAME_HEADER_LEN size,
        MAX_HEADER_LEN short,
        LOCAL_LEN size,
        MAX_PAYLOAD_LEN word,
        MAX_UNCOMPRESSED_LEN word,
        MAX_BROKER_BYTES word,
        SEGMENT_MAGIC magic,
        SEGMENT_VERSION short,
        SEGMENT_HEADER_LEN long,
        MANIFEST_MAGIC magic,
        MANIFEST_VERSION short,
        MANIFEST_HEADER_LEN size,
        MANIFEST_ENTRY_LEN size,
        FLOOR_HEADER_MAGIC magic,
        FLOOR_SLOT_MAGIC magic,
        FLOOR_VERSION short,
        FLOOR_HEADER_LEN long,
        FLOOR_SLOT_LEN size,
        FLOOR_SLOTS_PER_BLOCK long,
        FLOOR_BLOCK_LEN long,
        INDEX_MAGIC magic,
        INDEX_VERSION short,
        INDEX_HEADER_LEN size,
        INDEX_ENTRY_LEN size,
        PRODUCERS_MAGIC magic,
        PRODUCERS_VERSION short,
        PRODUCERS_HEADER_LEN size,
        PRODUCER_ENTRY_LEN size,
        PRODUCER_SEQUENCE_LEN size,
        PRODUCER_WINDOW size,
        IDENTITY_MAGIC magic,
        IDENTITY_VERSION short,
        IDENTITY_LEN size,
    ];
    let told: Vec<_> = table("## Constants", "constant")
        .into_iter()
        .map(|row| (row[0].clone(), row[1].replace(',', "")))
        .collect();
    assert_eq!(told, real);
}

#[test]
fn values_of_kinds_codecs_locations_and_states_are_those_of_the_page() {
    macro_rules! values {
        ($type:ident: $($name:ident)*) => {
            vec![$((format!("{:?}", $type::$name), ($type::$name as u32).to_string())),*]
        };
    }
    let real = [
        (
            "### Attributes",
            "kind",
            values!(FrameKind: Data Control Raft Empty Gap),
        ),
        ("### Attributes", "codec", values!(Codec: None Lz4 Zstd)),
        ("### MANIFEST entry", "location", values!(Location: Local)),
        (
            "### MANIFEST entry",
            "state",
            values!(SegmentState: Active Sealed Closing),
        ),
    ];
    for (heading, column, real) in real {
        let rows = table(heading, column).into_iter();
        let told: Vec<_> = rows.map(|row| (row[0].clone(), row[1].clone())).collect();
        assert_eq!(told, real, "{column}");
    }
}

#[test]
fn a_gap_frame_is_as_the_page_says() {
    let offsets = Offset::new(7)..Offset::new(12);
    let gap = FrameHeader::gap(offsets, 3, 41, 1_700_000_000_000);
    let mut bytes = [0; format::FRAME_HEADER_LEN];
    let place = Position::new(4096);
    let crc = gap.encode(99, place, &mut bytes);
    assert_eq!(
        FrameHeader::decode(&bytes, 99, place),
        Ok((gap.clone(), crc))
    );
    assert_eq!(gap.check_payload(&[]), Ok(()));
    for row in table("### Gap frame", "field") {
        let says = &row[1];
        let holds = match row[0].as_str() {
            "payload_len" => (gap.payload_len, says.as_str()) == (0, "0"),
            "payload_crc" => (gap.payload_crc, says.as_str()) == (0, "0"),
            "offset_span" => gap.offset_span == 5 && says.ends_with("at least 1"),
            "record_count" => (gap.record_count, says.as_str()) == (0, "0"),
            "leader_epoch" => gap.leader_epoch == 3,
            "entry_index" => gap.entry_index == 41 && says.ends_with("may skip"),
            "append_ms" => gap.append_ms == 1_700_000_000_000,
            "max_timestamp_ms" => gap.max_timestamp_ms == gap.append_ms && says == "append_ms",
            "producer_id" => gap.producer_id == [0; 16] && says == "zero",
            "routing_count" => (gap.routing_count, says.as_str()) == (0, "0"),
            "uncompressed_len" => (gap.uncompressed_len, says.as_str()) == (0, "0"),
            other => panic!("no field is called {other}"),
        };
        assert!(holds, "{row:?}");
    }
}

#[test]
fn a_frame_that_is_stamped_anew_is_the_same_in_another_place() {
    let gap = FrameHeader::gap(Offset::new(1)..Offset::new(2), 1, 1, 5);
    let mut bytes = [0; format::FRAME_HEADER_LEN];
    gap.encode(1, Position::new(4096), &mut bytes);
    let place = Position::new(9000);
    let crc = FrameHeader::restamp(&mut bytes, 2, place, Position::new(8000), 77);
    let (moved, found) = FrameHeader::decode(&bytes, 2, place).unwrap();
    assert_eq!(found, crc);
    let expected = FrameHeader {
        durable_upto: Position::new(8000),
        prev_header_crc: 77,
        ..gap
    };
    assert_eq!(moved, expected);
}

#[test]
fn floor_slots_lie_where_the_page_says() {
    for (partition, first) in [
        (0, 4096),
        (1, 4608),
        (63, 36_352),
        (64, 69_632),
        (129, 135_680),
    ] {
        let places = floor_slot_positions(PartitionId::new(partition));
        assert_eq!(places, [first, first + 32_768]);
    }
}
