//! Repair where the MANIFEST itself is lost, rotten, old or new.

#![allow(
    clippy::single_range_in_vec_init,
    reason = "what is lost is a list of ranges"
)]

use std::collections::BTreeMap;
use std::path::PathBuf;

use flowstone_disk::{Disk, OpenMode};
use flowstone_format::{
    FrameHeader, FrameKind, Generation, HeaderError, Manifest, Offset, PartitionId, Position,
    SEGMENT_HEADER_LEN, SegmentHeader,
};
use flowstone_log::LogError;

use crate::harness::{PARTITION, Rig, crc32, values};
use crate::repair::{check, fill, flip, frames, listing, plan, repaired};

#[test]
fn a_lost_manifest_is_made_anew_from_the_headers() {
    let base = Rig::new(1);
    let written = fill(&base);
    let end = written.len() as u64;
    let manifest = base.dir().join("MANIFEST");

    let rig = base.fork();
    rig.disk.remove_file(&manifest).unwrap();
    let plan = plan(&rig, 0).unwrap();
    assert_eq!(plan.manifest_rebuilt.as_deref(), Some("it is missing"));
    assert_eq!(repaired(&rig, 0), []);
    check(&rig, &written, &[], end);

    let rig = base.fork();
    flip(&rig, &manifest, 70);
    let rotten = rig.bytes_of(&manifest);
    assert_eq!(repaired(&rig, 0), []);
    let aside = rig.disk.list(&rig.dir().join("aside")).unwrap();
    assert!(aside[0].name.starts_with("MANIFEST-"), "{aside:?}");
    assert_eq!(
        rig.bytes_of(&rig.dir().join("aside").join(&aside[0].name)),
        rotten
    );
    check(&rig, &written, &[], end);

    // With a segment in the middle gone, too.
    let rig = base.fork();
    rig.disk.remove_file(&manifest).unwrap();
    let middle = rig.segment_files().remove(1);
    rig.disk.remove_file(&middle).unwrap();
    let own: Vec<_> = frames(&base)
        .into_iter()
        .filter(|frame| frame.3 == middle)
        .collect();
    let lost = repaired(&rig, 0);
    assert_eq!(lost, [own[0].1.start..own.last().unwrap().1.end]);
    check(&rig, &written, &lost, end);

    // All gone: what FLOOR knows is a gap.
    let rig = base.fork();
    rig.disk.remove_dir_all(&rig.dir()).unwrap();
    let lost = repaired(&rig, 0);
    assert_eq!(lost, [0..end]);
    check(&rig, &written, &lost, end);
}

#[test]
fn what_was_cut_off_stays_cut_off_when_the_manifest_is_made_anew() {
    let rig = Rig::new(1);
    let written = fill(&rig);
    let end = written.len() as u64;
    let mut log = rig.open_log();
    // Three frames that are never acknowledged, and others in their place.
    for n in 0..3 {
        rig.append(&mut log, &values([["a", "b", "c"][n]])).unwrap();
    }
    log.truncate(Offset::new(end)).unwrap();
    rig.put(&mut log, &values(["in their place"])).unwrap();
    drop(log);
    rig.disk.remove_file(&rig.dir().join("MANIFEST")).unwrap();
    assert_eq!(repaired(&rig, 0), []);
    let mut written = written;
    written.insert(end, b"in their place".to_vec());
    check(&rig, &written, &[], end + 1);
}

#[test]
fn an_older_manifest_is_brought_up_to_date() {
    let rig = Rig::new(1);
    let mut written = fill(&rig);
    let end = written.len() as u64;
    let manifest = rig.dir().join("MANIFEST");
    let older = rig.bytes_of(&manifest);
    let mut log = rig.open_log();
    log.roll().unwrap();
    rig.put(&mut log, &values(["in a later segment"])).unwrap();
    drop(log);
    rig.disk.remove_file(&manifest).unwrap();
    let file = rig.disk.open(&manifest, OpenMode::CreateNew).unwrap();
    file.write_all_at(&older, 0).unwrap();
    assert_eq!(repaired(&rig, 0), []);
    written.insert(end, b"in a later segment".to_vec());
    check(&rig, &written, &[], end + 1);
}

#[test]
fn a_partition_is_repaired_again_and_again_and_still_made_anew_from_its_headers() {
    let rig = Rig::new(1);
    let written = fill(&rig);
    let end = written.len() as u64;
    let mut lost = Vec::new();
    // Every time a frame of the first segment, from behind to before, then in what repair has written.
    for number in [4, 2, 1, 5] {
        let (kind, _, bytes, path) = frames(&rig).remove(number);
        flip(&rig, &path, bytes.start + 20);
        let again = repaired(&rig, 0);
        if kind == FrameKind::Data {
            lost.extend(again);
        }
    }
    let rig_without = rig.fork();
    check(&rig, &written, &lost, end);
    rig_without
        .disk
        .remove_file(&rig.dir().join("MANIFEST"))
        .unwrap();
    assert_eq!(repaired(&rig_without, 0), []);
    check(&rig_without, &written, &lost, end);
}

#[test]
fn a_newer_manifest_is_refused_untouched() {
    let rig = Rig::new(1);
    fill(&rig);
    let path = rig.dir().join("MANIFEST");
    let mut bytes = rig.bytes_of(&path);
    bytes[4] = 9;
    let end = bytes.len() - 4;
    let crc = crc32(&bytes[..end]);
    bytes[end..].copy_from_slice(&crc.to_le_bytes());
    rig.overwrite(&path, 0, &bytes);
    let error = plan(&rig, 0).unwrap_err();
    assert!(matches!(error, LogError::Header { .. }), "{error}");
}

/// Whatever is damaged besides.
#[test]
fn a_newer_frame_is_refused_untouched() {
    let base = Rig::new(1);
    fill(&base);
    for number in [1, 4] {
        let rig = base.fork();
        let (_, _, bytes, path) = frames(&rig).remove(number);
        let header = listing(&rig)[0].1[number].clone();
        let salt = listing(&rig)[0].0.entry.salt;
        let whole = usize::try_from(bytes.start).unwrap()..usize::try_from(bytes.end).unwrap();
        let mut frame = rig.bytes_of(&path)[whole].to_vec();
        // A kind that this version does not know.
        frame[8] |= 0x0F;
        let at = Position::new(bytes.start);
        FrameHeader::restamp(
            &mut frame,
            salt,
            at,
            header.durable_upto,
            header.prev_header_crc,
        );
        rig.overwrite(&path, bytes.start, &frame);
        let (_, _, bytes, path) = frames(&base).remove(2);
        flip(&rig, &path, bytes.start + 20);
        let before: Vec<_> = rig.files().iter().map(|file| rig.bytes_of(file)).collect();
        let error = plan(&rig, 0).unwrap_err();
        let told = "a newer version wrote this, nothing was changed";
        assert!(error.to_string().contains(told), "{error}");
        let after: Vec<_> = rig.files().iter().map(|file| rig.bytes_of(file)).collect();
        assert_eq!(before, after);
    }
}

fn put_manifest(rig: &Rig, manifest: &Manifest) {
    let path = rig.dir().join("MANIFEST");
    // There may be none.
    let _ = rig.disk.remove_file(&path);
    rig.disk.create_dir_all(&rig.dir()).unwrap();
    let file = rig.disk.open(&path, OpenMode::CreateNew).unwrap();
    file.write_all_at(&manifest.encode(), 0).unwrap();
}

#[test]
fn an_empty_partition_is_empty_after_its_repair() {
    let rig = Rig::new(1);
    let empty = Manifest {
        partition: PARTITION,
        generation: Generation::ZERO,
        log_start_offset: Offset::ZERO,
        segments: Vec::new(),
    };
    put_manifest(&rig, &empty);
    flip(&rig, &rig.dir().join("MANIFEST"), 30);
    assert_eq!(repaired(&rig, 0), []);
    assert_eq!(rig.segment_files(), Vec::<PathBuf>::new());
    check(&rig, &BTreeMap::new(), &[], 0);
}

/// A segment that lies wholly below the log start goes if it is damaged, whatever it holds, and stays if
/// it is sound.
#[test]
fn a_damaged_segment_that_nobody_reads_is_moved_aside() {
    let base = Rig::new(1);
    let written = fill(&base);
    let end = written.len() as u64;
    let mut manifest = Manifest::decode(&base.bytes_of(&base.dir().join("MANIFEST"))).unwrap();
    let start = manifest.segments[1].base_offset;
    manifest.log_start_offset = start;
    put_manifest(&base, &manifest);
    let written = written.range(start.get()..);
    let written: BTreeMap<_, _> = written.map(|(k, v)| (*k, v.clone())).collect();
    let first = base.segment_files().remove(0);

    let rig = base.fork();
    flip(&rig, &first, 5_000);
    let plan = plan(&rig, 0).unwrap();
    assert_eq!((plan.segments.len(), plan.aside), (0, vec![first.clone()]));
    assert_eq!(repaired(&rig, 0), []);
    check(&rig, &written, &[], end);

    let (_, offsets, bytes, path) = frames(&base).remove(6);
    assert_ne!(path, first);
    flip(&base, &path, bytes.start + 40);
    let plan = crate::repair::plan(&base, 0).unwrap();
    assert_eq!(plan.aside, Vec::<PathBuf>::new());
    assert_eq!(plan.kept_records + offsets.end - offsets.start, end);
}

#[test]
fn a_manifest_of_another_partition_is_made_anew() {
    let rig = Rig::new(1);
    let written = fill(&rig);
    let mut manifest = Manifest::decode(&rig.bytes_of(&rig.dir().join("MANIFEST"))).unwrap();
    manifest.partition = PartitionId::new(8);
    put_manifest(&rig, &manifest);
    let rebuilt = plan(&rig, 0).unwrap().manifest_rebuilt;
    assert_eq!(rebuilt.as_deref(), Some("it is of partition 8"));
    assert_eq!(repaired(&rig, 0), []);
    check(&rig, &written, &[], written.len() as u64);
}

#[test]
fn a_segment_of_a_newer_version_is_refused_untouched() {
    for is_listed in [true, false] {
        let rig = Rig::new(1);
        fill(&rig);
        let rotten = frames(&rig).remove(2);
        let path = rig.segment_files().remove(1);
        let len = usize::try_from(SEGMENT_HEADER_LEN).unwrap();
        let mut header = rig.bytes_of(&path)[..len].to_vec();
        header[4] = 9;
        let crc = crc32(&header[..len - 4]);
        header[len - 4..].copy_from_slice(&crc.to_le_bytes());
        rig.overwrite(&path, 0, &header);
        if is_listed {
            flip(&rig, &rotten.3, rotten.2.start + 20);
        } else {
            rig.disk.remove_file(&rig.dir().join("MANIFEST")).unwrap();
        }
        let before: Vec<_> = rig.files().iter().map(|file| rig.bytes_of(file)).collect();
        let error = plan(&rig, 0).unwrap_err();
        assert!(
            matches!(
                &error,
                LogError::Header {
                    source: HeaderError::NewerVersion { .. },
                    ..
                }
            ),
            "{error}"
        );
        let after: Vec<_> = rig.files().iter().map(|file| rig.bytes_of(file)).collect();
        assert_eq!(before, after);
    }
}

/// Only what its header says of itself makes a file a part of a log whose MANIFEST is lost.
#[test]
fn a_segment_of_another_partition_or_name_is_none_of_the_log() {
    type Change = fn(&mut SegmentHeader);
    let changes: [Change; 2] = [
        |header| header.partition = PartitionId::new(8),
        |header| header.base_offset = Offset::new(1),
    ];
    for change in changes {
        let rig = Rig::new(1);
        let written = fill(&rig);
        let path = rig.segment_files().remove(1);
        let own: Vec<_> = frames(&rig)
            .into_iter()
            .filter(|frame| frame.3 == path)
            .collect();
        let (mut header, _) = SegmentHeader::decode(&rig.bytes_of(&path)).unwrap();
        change(&mut header);
        rig.overwrite(&path, 0, &header.encode());
        rig.disk.remove_file(&rig.dir().join("MANIFEST")).unwrap();
        let lost = repaired(&rig, 0);
        assert_eq!(lost, [own[0].1.start..own.last().unwrap().1.end]);
        check(&rig, &written, &lost, written.len() as u64);
    }
}
