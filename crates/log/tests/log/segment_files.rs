//! Segment files and their indexes are held against what the MANIFEST and FLOOR say of them.

use std::path::{Path, PathBuf};
use std::time::Duration;

use flowstone_disk::{Disk, OpKind, OpenMode};
use flowstone_format::{
    FrameHeader, IndexEntry, Manifest, Offset, PartitionId, Position, SEGMENT_HEADER_LEN,
    SegmentEntry, SegmentHeader, SegmentIndex,
};
use flowstone_log::inspect;

use crate::harness::{
    DATA_DIR, PARTITION, Rig, crc32, read_all, read_from, record, strings, values,
};

fn manifest(rig: &Rig) -> Manifest {
    Manifest::decode(&rig.bytes_of(&rig.dir().join("MANIFEST"))).unwrap()
}

fn file_of(rig: &Rig, entry: &SegmentEntry) -> PathBuf {
    let name = flowstone_format::segment_name(entry.base_offset, entry.id);
    rig.dir().join(name)
}

/// Puts a file in the place of another.
fn put_file(rig: &Rig, path: &Path, bytes: &[u8]) {
    // There may be none.
    let _ = rig.disk.remove_file(path);
    let file = rig.disk.open(path, OpenMode::CreateNew).unwrap();
    file.write_all_at(bytes, 0).unwrap();
}

/// A sealed segment of two records, and an active one of one.
fn sealed_and_active(rig: &Rig) {
    let mut log = rig.open_log();
    rig.put(&mut log, &values(["a", "b"])).unwrap();
    log.roll().unwrap();
    rig.put(&mut log, &values(["c"])).unwrap();
}

/// Also where all that the MANIFEST names is right, and only the header's checksum tells.
#[test]
fn a_sealed_segment_has_the_header_that_is_listed() {
    type Change = fn(&mut SegmentHeader);
    let changes: [Change; 5] = [
        |header| header.created_ms += 1,
        |header| header.salt += 1,
        |header| header.base_offset = Offset::new(1),
        |header| header.partition = PartitionId::new(8),
        |header| header.capacity += 4_096,
    ];
    for change in changes {
        let rig = Rig::new(1);
        sealed_and_active(&rig);
        let file = file_of(&rig, &manifest(&rig).segments[0]);
        let (mut header, _) =
            SegmentHeader::decode(&rig.bytes_of(&file)[..SEGMENT_HEADER_LEN as usize]).unwrap();
        change(&mut header);
        rig.overwrite(&file, 0, &header.encode());
        let log = rig.open_log();
        let damage = log.damage().unwrap();
        assert_eq!(
            damage.detail,
            "its header is not the one that the MANIFEST lists"
        );
        assert_eq!((damage.offset, read_all(&log)), (Offset::ZERO, Vec::new()));
    }
}

#[test]
fn a_sealed_segment_is_there_to_its_last_byte() {
    let rig = Rig::new(1);
    sealed_and_active(&rig);
    let entry = manifest(&rig).segments.remove(0);
    let (file, end) = (file_of(&rig, &entry), entry.end_position.get());
    let bytes = rig.bytes_of(&file);
    for (len, is_whole) in [
        (end + 1, true),
        (end, true),
        (end - 1, false),
        (end - 40, false),
    ] {
        put_file(&rig, &file, &bytes[..usize::try_from(len).unwrap()]);
        let log = rig.open_log();
        assert_eq!(log.damage().is_none(), is_whole, "{len} of {end} bytes");
    }
}

/// Forty records in a sealed segment whose index has these entries instead of its own: all are read, from
/// wherever one begins.
fn assert_read_with_index(bend: impl Fn(&[IndexEntry]) -> Vec<IndexEntry>) {
    let mut rig = Rig::new(2);
    rig.config.segment_bytes = 64 << 10;
    let mut log = rig.open_log();
    for n in 0..40 {
        rig.put(&mut log, &[record(&[n; 700], 0)]).unwrap();
    }
    log.roll().unwrap();
    let written = read_all(&log);
    drop(log);
    let listed = manifest(&rig).segments.remove(0);
    let name = flowstone_format::index_name(listed.base_offset, listed.id);
    let path = rig.dir().join(name);
    let sound = SegmentIndex::decode(&rig.bytes_of(&path), listed.id).unwrap();
    let mut bent = SegmentIndex::new();
    for entry in bend(sound.entries()) {
        bent.push(entry);
    }
    for offset in 0..40_u64 {
        put_file(&rig, &path, &bent.encode(listed.id));
        let reader = rig.open_log().reader();
        let found = read_from(&reader, Offset::new(offset), 10);
        let found: Vec<_> = found
            .into_iter()
            .map(|(at, _, value)| (at, value))
            .collect();
        assert_eq!(found, &written[usize::try_from(offset).unwrap()..]);
    }
}

/// An index only says where to look: one that leads astray costs time, and no record.
#[test]
fn an_index_that_leads_astray_is_not_believed() {
    for shift in [-128_i64, -1, 1, 128, 700, 100_000] {
        assert_read_with_index(|sound| {
            let shifted = sound.iter().map(|entry| IndexEntry {
                position: Position::new(entry.position.get().saturating_add_signed(shift)),
                ..*entry
            });
            shifted.collect()
        });
    }
}

/// Entries that name a frame's place, but another offset than it has.
#[test]
fn an_index_with_other_offsets_is_not_believed() {
    assert_read_with_index(|sound| {
        let renamed = sound.iter().skip(1).map(|entry| IndexEntry {
            offset: Offset::new(entry.offset.get() - 1),
            ..*entry
        });
        renamed.collect()
    });
}

#[test]
fn floor_that_knows_of_more_records_than_there_are_tells_of_damage() {
    let rig = Rig::new(1);
    let (mut log, floor) = rig.open().unwrap();
    rig.put(&mut log, &values(["a"])).unwrap();
    let mut slot = log.floor().unwrap();
    slot.offset = Offset::new(2);
    floor.put(slot).unwrap();
    floor.sync().unwrap();
    drop((log, floor));
    let log = rig.open_log();
    assert_eq!(
        log.damage().unwrap().detail,
        "FLOOR knows of records up to offset 2, and they end at 1"
    );
}

/// What is wrong with a frame is told; that it is missing only where it reads as never written.
#[test]
fn damage_below_the_floor_says_what_it_is() {
    let missing = "were acknowledged and are not there";
    for (zeroed, told_missing) in [(false, false), (true, true)] {
        let rig = Rig::new(1);
        let (mut log, floor) = rig.open().unwrap();
        rig.put(&mut log, &[record(&[7; 3_000], 0)]).unwrap();
        floor.put(log.floor().unwrap()).unwrap();
        drop((log, floor));
        let file = file_of(&rig, &manifest(&rig).segments[0]);
        let len = rig.bytes_of(&file).len();
        let first = SEGMENT_HEADER_LEN;
        if zeroed {
            let len = len - usize::try_from(first).unwrap();
            rig.overwrite(&file, first, &vec![0; len]);
        } else {
            rig.overwrite(&file, first + 1_000, &[8]);
        }
        let log = rig.open_log();
        let detail = &log.damage().unwrap().detail;
        assert_eq!(detail.contains(missing), told_missing, "{detail}");
    }
}

/// The bytes above the floor, more of them than are copied at a time, are all written again.
#[test]
fn an_opening_writes_all_above_the_floor_again() {
    let mut rig = Rig::new(1);
    rig.config.segment_bytes = 8 << 20;
    let mut log = rig.open_log();
    for _ in 0..5 {
        rig.append(&mut log, &[record(&[7; 600_000], 0)]).unwrap();
    }
    log.write().unwrap();
    drop(log);
    rig.disk.process_crash();
    rig.disk.start_trace();
    let log = rig.open_log();
    let end = log.reader().size_bytes();
    assert!(end > 3_000_000);
    let trace = rig.disk.take_trace();
    let file = file_of(&rig, &manifest(&rig).segments[0]);
    let mut at = SEGMENT_HEADER_LEN;
    for op in &trace {
        if op.kind == OpKind::Write && op.path == file {
            assert_eq!(op.at, at, "one behind the other");
            at += op.len;
        }
    }
    assert_eq!(at, end);
}

/// A file that was taken off the list, and that a crash has left, says nothing of a newer MANIFEST.
#[test]
fn a_segment_that_was_cut_off_is_no_proof_and_a_later_one_is() {
    let rig = Rig::new(1);
    sealed_and_active(&rig);
    let mut log = rig.open_log();
    log.roll().unwrap();
    let listed = manifest(&rig).segments.remove(1);
    let (file, bytes) = (
        file_of(&rig, &listed),
        rig.bytes_of(&file_of(&rig, &listed)),
    );
    drop(log);
    // As a truncation to offset 2 would list them.
    let mut cut = manifest(&rig);
    cut.segments.truncate(1);
    cut.generation = listed.generation;
    put_file(&rig, &rig.dir().join("MANIFEST"), &cut.encode());
    put_file(&rig, &file, &bytes);
    let log = rig.open_log();
    assert_eq!(log.damage(), None);
    assert_eq!(strings(read_all(&log)), [(0, "a".into()), (1, "b".into())]);
}

/// Where its header cannot be read, its place in the log decides.
#[test]
fn an_unlisted_file_with_a_bad_header_is_judged_by_its_base() {
    for (base, is_proof) in [(1, false), (2, true), (9, true)] {
        let rig = Rig::new(1);
        sealed_and_active(&rig);
        let id = uuid::Uuid::from_bytes([9; 16]);
        let name = flowstone_format::segment_name(Offset::new(base), id);
        put_file(&rig, &rig.dir().join(name), &[0xEE; 5_000]);
        let log = rig.open_log();
        assert_eq!(log.damage().is_some(), is_proof, "base {base}");
    }
}

#[test]
fn inspection_counts_frames_and_records_and_knows_a_foreign_manifest() {
    let rig = Rig::new(1);
    sealed_and_active(&rig);
    let disk = rig.disk.disk();
    let inspect = || inspect::inspect(&disk, Path::new(DATA_DIR), PARTITION, |_, _| {}).unwrap();
    let report = inspect();
    let counts = |segment: &inspect::SegmentReport| (segment.frame_count, segment.record_count);
    let found: Vec<_> = report.segments.iter().map(counts).collect();
    assert_eq!(found, [(1, 2), (1, 1)]);
    assert_eq!(report.damages, []);

    let mut foreign = manifest(&rig);
    foreign.partition = PartitionId::new(8);
    put_file(&rig, &rig.dir().join("MANIFEST"), &foreign.encode());
    let damages = inspect().damages;
    assert_eq!(damages[0].detail, "the MANIFEST is of partition 8");
}

#[test]
fn sizes_count_what_is_not_synced_and_settings_hold_for_segments_to_come() {
    let rig = Rig::new(1);
    let mut log = rig.open_log();
    rig.put(&mut log, &values(["a"])).unwrap();
    let before = log.size_bytes();
    assert_eq!(before, log.reader().size_bytes());
    rig.append(&mut log, &values(["b"])).unwrap();
    let staged = log.size_bytes();
    assert!(
        staged > before && staged < before + 300,
        "{before}, {staged}"
    );
    log.sync().unwrap();
    assert_eq!(
        (log.size_bytes(), log.reader().size_bytes()),
        (staged, staged)
    );

    let capacity = || {
        let last = manifest(&rig).segments.pop().unwrap();
        let header = &rig.bytes_of(&file_of(&rig, &last))[..SEGMENT_HEADER_LEN as usize];
        SegmentHeader::decode(header).unwrap().0.capacity
    };
    assert_eq!(capacity(), rig.config.segment_bytes);
    let mut config = rig.config;
    config.segment_bytes *= 2;
    log.set_config(config);
    log.roll().unwrap();
    assert_eq!(capacity(), config.segment_bytes);
}

#[test]
fn a_manifest_of_another_partition_is_damage() {
    let rig = Rig::new(1);
    sealed_and_active(&rig);
    let mut other = manifest(&rig);
    other.partition = PartitionId::new(8);
    put_file(&rig, &rig.dir().join("MANIFEST"), &other.encode());
    let log = rig.open_log();
    let damage = log.damage().unwrap();
    assert_eq!(damage.detail, "the MANIFEST is of partition 8");
    assert_eq!((damage.offset, read_all(&log)), (Offset::ZERO, Vec::new()));
}

/// The last segment stays listed when all of it is trimmed: it knows where the log goes on.
#[test]
fn damage_below_the_log_start_takes_nothing_offline() {
    let rig = Rig::new(1);
    let mut log = rig.open_log();
    rig.put(&mut log, &values(["a", "b"])).unwrap();
    rig.append(&mut log, &values(["cut off"])).unwrap();
    log.truncate(Offset::new(2)).unwrap();
    log.trim(Offset::new(2)).unwrap();
    drop(log);
    let [entry] = &manifest(&rig).segments[..] else {
        panic!("one is left")
    };
    rig.overwrite(&file_of(&rig, entry), 40, b"rot");
    let mut log = rig.open_log();
    assert_eq!(log.damage(), None);
    rig.put(&mut log, &values(["c"])).unwrap();
    assert_eq!(strings(read_all(&log)), [(2, "c".into())]);
}

/// What the MANIFEST says of a segment that a truncation has sealed is what is left in it.
#[test]
fn a_truncated_segment_is_listed_as_it_ends_now() {
    let rig = Rig::new(1);
    let mut log = rig.open_log();
    rig.put(&mut log, &values(["a"])).unwrap();
    rig.clock.advance(Duration::from_secs(1));
    rig.put(&mut log, &values(["b"])).unwrap();
    let whole = rig.fork();
    whole.open_log().roll().unwrap();
    rig.clock.advance(Duration::from_secs(1));
    rig.append(&mut log, &values(["cut off"])).unwrap();
    log.truncate(Offset::new(2)).unwrap();
    let listed = |rig: &Rig| manifest(rig).segments.remove(0);
    assert_eq!(listed(&rig), listed(&whole));
}

#[test]
fn a_segment_without_records_is_not_sealed() {
    let rig = Rig::new(1);
    sealed_and_active(&rig);
    let mut log = rig.open_log();
    log.roll().unwrap();
    let files = rig.segment_files();
    log.roll().unwrap();
    assert_eq!(rig.segment_files(), files);
}

/// Checksums alone do not make a payload a run of records with the offsets and times of its header.
#[test]
fn inspection_holds_records_against_their_header() {
    type Change = fn(&mut FrameHeader, &mut Vec<u8>);
    let changes: [(Change, &str); 3] = [
        (|header, _| header.max_timestamp_ms += 1, "timestamp"),
        (|header, _| header.record_count = 1, "holds 2 records"),
        (|_, payload| payload[0] = 0, "record"),
    ];
    for (change, told) in changes {
        let rig = Rig::new(1);
        let mut log = rig.open_log();
        rig.put(&mut log, &values(["a", "b"])).unwrap();
        drop(log);
        let entry = manifest(&rig).segments.remove(0);
        let file = file_of(&rig, &entry);
        let at = Position::new(SEGMENT_HEADER_LEN);
        let bytes = rig.bytes_of(&file).split_off(index(at));
        let (mut header, _) = FrameHeader::decode(&bytes, entry.salt, at).unwrap();
        let len = usize::from(header.header_len);
        let mut payload = bytes[len..len + header.payload_len as usize].to_vec();
        change(&mut header, &mut payload);
        header.payload_crc = crc32(&payload);
        let mut frame = vec![0; len];
        header.encode(entry.salt, at, &mut frame);
        frame.extend(payload);
        rig.overwrite(&file, at.get(), &frame);
        let report = inspect::inspect(&rig.disk.disk(), Path::new(DATA_DIR), PARTITION, |_, _| {});
        let damages = report.unwrap().damages;
        assert!(!damages.is_empty(), "{told}");
        assert!(damages[0].detail.contains(told), "{}", damages[0].detail);
    }
}

fn index(position: Position) -> usize {
    usize::try_from(position.get()).unwrap()
}
