//! Damaged, cut and foreign bytes are errors, never panics and never other values.

use flowstone_format::{
    FRAME_HEADER_LEN, Field, FloorSlot, Generation, HeaderError, Identity, Manifest, Offset,
    PartitionId, Position, ProducerSnapshot, SegmentEntry, SegmentHeader, SegmentIndex,
    check_floor_header, floor_header,
};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use uuid::Uuid;

use crate::samples::{reseal, sample};
use crate::{samples, targets};

type Check = Box<dyn Fn(&[u8]) -> Option<HeaderError>>;

/// One of each structure, and what decoding it says.
fn structures() -> Vec<(&'static str, Vec<u8>, Check)> {
    let mut runner = TestRunner::deterministic();
    let segment = sample(&mut runner, samples::segment_header());
    let slot = sample(&mut runner, samples::floor_slot());
    let identity = sample(&mut runner, samples::identity());
    let full = samples::manifest().prop_filter("has segments", |m| m.segments.len() > 2);
    let manifest = sample(&mut runner, full);
    let full = samples::index().prop_filter("has entries", |i| i.entries().len() > 2);
    let index = sample(&mut runner, full);
    let full = samples::producers().prop_filter("has producers", |p| p.producers.len() > 2);
    let producers = sample(&mut runner, full);
    let id = Uuid::from_bytes([1; 16]);
    let partition = slot.partition;
    vec![
        (
            "segment header",
            segment.encode(),
            Box::new(|b| SegmentHeader::decode(b).err()),
        ),
        (
            "MANIFEST",
            manifest.encode(),
            Box::new(|b| Manifest::decode(b).err()),
        ),
        (
            "FLOOR header",
            floor_header(),
            Box::new(|b| check_floor_header(b).err()),
        ),
        (
            "FLOOR slot",
            slot.encode().to_vec(),
            Box::new(move |b| FloorSlot::decode(b, partition).err()),
        ),
        (
            "index",
            index.encode(id),
            Box::new(move |b| SegmentIndex::decode(b, id).err()),
        ),
        (
            "producer snapshot",
            producers.encode().0,
            Box::new(|b| ProducerSnapshot::decode(b).err()),
        ),
        (
            "IDENTITY",
            identity.encode(),
            Box::new(|b| Identity::decode(b).err()),
        ),
    ]
}

#[test]
fn every_flipped_byte_is_noticed() {
    for (name, bytes, check) in structures() {
        assert_eq!(check(&bytes), None, "{name} as it is");
        for at in 0..bytes.len() {
            for bits in [0x01, 0x80, 0xFF] {
                let mut flipped = bytes.clone();
                flipped[at] ^= bits;
                let expected = match at {
                    0..4 => HeaderError::BadMagic { what: name },
                    _ => HeaderError::BadCrc { what: name },
                };
                assert_eq!(check(&flipped), Some(expected), "{name}, byte {at}");
            }
        }
    }
}

#[test]
fn every_cut_is_noticed() {
    for (name, bytes, check) in structures() {
        for len in 0..bytes.len() {
            let cut = check(&bytes[..len]);
            assert!(
                matches!(
                    cut,
                    Some(HeaderError::Truncated { what, .. } | HeaderError::BadCrc { what }) if what == name
                ),
                "{name}, {len} bytes: {cut:?}"
            );
        }
    }
}

/// What has one length says so, whatever else is wrong with the part that is there.
#[test]
fn a_cut_of_what_has_one_length_tells_how_long_it_should_be() {
    let of_one_length = ["segment header", "FLOOR header", "FLOOR slot", "IDENTITY"];
    let structures = structures().into_iter();
    for (what, bytes, check) in structures.filter(|(what, ..)| of_one_length.contains(what)) {
        for len in 20..bytes.len() {
            let need = bytes.len().min(if what == "IDENTITY" { 64 } else { 4096 });
            let expected = HeaderError::Truncated { what, len, need };
            assert_eq!(check(&bytes[..len]), Some(expected));
        }
    }
}

/// A checksum that fits what is left of a structure does not make it whole.
#[test]
fn a_cut_with_a_checksum_of_its_own_is_refused() {
    for (name, bytes, check) in structures() {
        for len in 20..bytes.len() {
            let mut cut = bytes[..len].to_vec();
            reseal(&mut cut);
            assert_ne!(check(&cut), None, "{name}, {len} bytes");
        }
    }
}

#[test]
fn a_newer_version_and_unknown_features_are_told_as_such() {
    for (what, bytes, check) in structures() {
        let mut newer = bytes.clone();
        newer[4] = 2;
        reseal(&mut newer);
        let (found, known) = (2, 1);
        let expected = HeaderError::NewerVersion { what, found, known };
        assert_eq!(check(&newer), Some(expected));

        let mut features = bytes.clone();
        features[9] = 0x80;
        reseal(&mut features);
        let bits = 0x8000;
        let expected = HeaderError::UnknownFeatures { what, bits };
        assert_eq!(check(&features), Some(expected));
    }
}

#[test]
fn reserved_space_is_zero() {
    for (what, bytes, check) in structures() {
        let layout = match what {
            "segment header" => SegmentHeader::LAYOUT,
            "MANIFEST" => Manifest::LAYOUT,
            "FLOOR header" => FloorSlot::HEADER_LAYOUT,
            "FLOOR slot" => FloorSlot::LAYOUT,
            "index" => SegmentIndex::LAYOUT,
            "producer snapshot" => ProducerSnapshot::LAYOUT,
            _ => Identity::LAYOUT,
        };
        let reserved = layout.iter().filter(|f| f.name.starts_with("RESERVED"));
        let mut places: Vec<_> = reserved.map(|f| (f.at, f.at, f.len)).collect();
        let expected = if what == "producer snapshot" { 1 } else { 2 };
        assert_eq!(places.len(), expected, "{what}");
        if what == "MANIFEST" {
            let named = |field: &&Field| field.name == "RESERVED";
            let field = SegmentEntry::LAYOUT.iter().find(named).unwrap();
            places.push((64 + field.at, field.at, field.len));
        }
        for (at, told, len) in places {
            let (first, last) = (at, at + len - 1);
            for used_at in [vec![first], vec![last], vec![first, last]] {
                let mut used = bytes.clone();
                for at in used_at {
                    used[at] = 1;
                }
                reseal(&mut used);
                let error = check(&used).unwrap().to_string();
                let place = format!("reserved bytes at {told} are not zero");
                assert_eq!(error, format!("{what}: {place}"));
            }
        }
    }
}

#[test]
fn a_count_that_the_bytes_do_not_hold_is_refused() {
    for (name, count_at) in [("MANIFEST", 40), ("index", 32)] {
        let (_, mut bytes, check) = structures().into_iter().find(|s| s.0 == name).unwrap();
        bytes[count_at..count_at + 4].copy_from_slice(&u32::MAX.to_le_bytes());
        reseal(&mut bytes);
        let error = check(&bytes).unwrap().to_string();
        assert!(error.contains("for 4294967295 entries"), "{error}");
    }
    let (_, bytes, check) = structures().remove(5);
    for (count_at, told) in [
        (56, "for 4294967295 producers"),
        (100, "has 4294967295 sequences"),
    ] {
        let mut bytes = bytes.clone();
        bytes[count_at..count_at + 4].copy_from_slice(&u32::MAX.to_le_bytes());
        reseal(&mut bytes);
        let error = check(&bytes).unwrap().to_string();
        assert!(error.contains(told), "{error}");
    }
}

#[test]
fn a_slot_of_another_partition_is_refused_and_an_empty_one_is_none() {
    let slot = FloorSlot {
        partition: PartitionId::new(3),
        generation: Generation::new(1),
        offset: Offset::new(2),
        position: Position::new(4096),
        counter: 5,
    };
    let error = FloorSlot::decode(&slot.encode(), PartitionId::new(4)).unwrap_err();
    assert_eq!(error.to_string(), "FLOOR slot: partition 3 where 4 belongs");
    assert_eq!(FloorSlot::decode(&[0; 512], PartitionId::new(4)), Ok(None));
}

#[test]
fn bytes_behind_the_end_are_refused_in_whole_files_only() {
    for (name, mut bytes, check) in structures() {
        let end = bytes.len();
        bytes.extend([0; 4]);
        let followed = check(&bytes);
        reseal(&mut bytes);
        let longer = check(&bytes).map(|error| error.to_string());
        match name {
            "producer snapshot" => assert!(longer.unwrap().ends_with("behind the last producer")),
            "MANIFEST" | "index" => assert!(longer.unwrap().contains(" bytes for ")),
            "IDENTITY" => assert_eq!(longer.unwrap(), "IDENTITY: 68 bytes instead of 64"),
            _ => assert_eq!((followed, end % 512), (None, 0), "{name}"),
        }
    }
}

proptest! {
    /// Every decoder survives every input, and accepts only what it would write.
    #[test]
    fn arbitrary_bytes_never_panic(data in vec(any::<u8>(), 0..600)) {
        for target in targets::ALL {
            target(&data);
        }
    }

    /// The same for bytes that are nearly right.
    #[test]
    fn changed_structures_never_panic(
        manifest in samples::manifest(),
        index in samples::index(),
        producers in samples::producers(),
        header in samples::frame_header(),
        changes in vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
    ) {
        let mut frame = vec![0; 16 + FRAME_HEADER_LEN];
        header.encode(0, Position::ZERO, &mut frame[16..]);
        for (bytes, target) in [
            (manifest.encode(), targets::manifest as fn(&[u8])),
            (index.encode(Uuid::from_bytes([7; 16])), targets::index),
            (producers.encode().0, targets::producers),
            (frame, targets::frame),
        ] {
            let mut bytes = bytes;
            for (at, byte) in &changes {
                let at = at.index(bytes.len());
                bytes[at] = *byte;
            }
            target(&bytes);
        }
    }
}
