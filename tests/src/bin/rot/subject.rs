//! The partitions that are damaged, and what they hold.

use std::ops::Range;
use std::path::{Path, PathBuf};

use flowstone_disk::{Clock, Disk, Env, ManualClock, OpenMode, SimDisk};
use flowstone_format::{
    FLOOR_NAME, FRAME_HEADER_LEN, MANIFEST_NAME, MAX_BROKER_BYTES, Offset, PARTITIONS_DIR,
    PartitionId, RecordLimits, SEGMENT_HEADER_LEN, partition_dir_name,
};
use flowstone_log::{Batch, Floor, Log, LogConfig, ReadLimit, inspect};
use flowstone_tests::Dice;

use crate::damage::Kind;

pub(crate) const DATA_DIR: &str = "/data";
pub(crate) const PARTITION: PartitionId = PartitionId::new(7);
const START_MS: i64 = 1_700_000_000_000;

/// A partition, with everything synced and nobody at work.
#[derive(Debug)]
pub(crate) struct Subject {
    pub(crate) name: String,
    pub(crate) disk: SimDisk,
    pub(crate) config: LogConfig,
    /// The file that is damaged.
    pub(crate) target: PathBuf,
    pub(crate) target_bytes: Vec<u8>,
    target_kind: Target,
    /// Whether FLOOR knows how far the partition was durable.
    pub(crate) has_floor: bool,
    /// All frames, in order.
    pub(crate) frames: Vec<Frame>,
    /// All records as they are stored, one after the other.
    stored: Vec<u8>,
    /// Where each record ends in `stored`.
    ends: Vec<usize>,
    /// The timestamp of each record.
    pub(crate) timestamps: Vec<i64>,
}

/// A frame as it was written.
#[derive(Clone, Debug)]
pub(crate) struct Frame {
    pub(crate) offsets: Range<u64>,
    /// Where it lies in the target; `None` in another file.
    pub(crate) bytes: Option<Range<u64>>,
    pub(crate) durable_upto: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Target {
    /// The segment that is appended to.
    Active,
    /// The first segment, which is sealed.
    Sealed,
    Manifest,
    Floor,
    Index,
}

/// All subjects, with contents by seed.
pub(crate) fn all(seed: u64) -> impl Iterator<Item = Subject> {
    use Target::{Active, Floor, Index, Manifest, Sealed};
    let (small, large) = (64 << 10, 1 << 20);
    [
        ("active segment of 64 KiB, FLOOR known", small, Active, true),
        ("active segment of 64 KiB, FLOOR lost", small, Active, false),
        ("sealed segment of 64 KiB", small, Sealed, true),
        ("MANIFEST", small, Manifest, true),
        ("MANIFEST, FLOOR lost", small, Manifest, false),
        ("FLOOR", small, Floor, true),
        ("index", small, Index, true),
        ("active segment of 1 MiB, FLOOR known", large, Active, true),
        ("active segment of 1 MiB, FLOOR lost", large, Active, false),
        ("sealed segment of 1 MiB", large, Sealed, true),
    ]
    .into_iter()
    .map(move |(name, bytes, target, has_floor)| {
        Subject::make(name, bytes, target, has_floor, &Dice::new(seed))
    })
}

impl Subject {
    fn make(name: &str, bytes: u64, target: Target, has_floor: bool, dice: &Dice) -> Self {
        let disk = SimDisk::new(1);
        let clock = ManualClock::new(START_MS);
        let data_dir = Path::new(DATA_DIR);
        disk.create_dir_all(&data_dir.join(PARTITIONS_DIR))
            .expect("a new disk takes directories");
        let config = LogConfig {
            segment_bytes: bytes,
            index_interval_bytes: 2048,
            ..LogConfig::default()
        };
        let env = Env::simulated(&disk, &clock, dice.pick(0..u64::MAX));
        let (floor, _) = Floor::open(&env.disk, data_dir).expect("a new FLOOR is made");
        let mut log = Log::open(&env, &dir(), PARTITION, None, config).expect("a new log is made");
        let end = bytes - 4000;
        fill(&mut log, &clock, end, dice);
        if target != Target::Active {
            log.roll().expect("a new segment is begun");
            fill(&mut log, &clock, 6000, dice);
        }
        if target == Target::Manifest {
            log.roll().expect("a new segment is begun");
            fill(&mut log, &clock, 5000, dice);
        }
        if has_floor {
            let slot = log.floor().expect("there is an active segment");
            // Both slots are written, as in the life of a broker.
            floor.put(slot).expect("FLOOR is written");
            floor.put(slot).expect("FLOOR is written");
        }
        let (stored, ends, timestamps) = read_stored(&log);
        drop(log);
        disk.sync_all(data_dir).expect("all is synced");
        // The next open finds all as a broker that was stopped has left it.
        disk.process_crash();
        let mut subject = Self {
            name: name.to_owned(),
            target: target_path(&disk, target),
            disk,
            config,
            target_bytes: Vec::new(),
            target_kind: target,
            has_floor,
            frames: Vec::new(),
            stored,
            ends,
            timestamps,
        };
        subject.target_bytes = subject.contents();
        subject.frames = subject.frames_now();
        subject
    }

    /// The kinds of damage that are done to it.
    pub(crate) fn kinds(&self) -> Vec<Kind> {
        let large = self.target_bytes.len() > 100 << 10;
        match self.target_kind {
            _ if large => vec![Kind::Bytes, Kind::Zeros, Kind::Lengths],
            Target::Index => vec![Kind::Bits, Kind::Bytes, Kind::Lengths, Kind::Zeros],
            _ => vec![Kind::Bits, Kind::Lengths, Kind::Zeros],
        }
    }

    /// The offset behind the last record; all were acknowledged.
    pub(crate) fn end(&self) -> u64 {
        self.ends.len() as u64
    }

    /// Whether every single offset is read by itself, as an index is asked.
    pub(crate) fn reads_every_offset(&self) -> bool {
        self.target_kind == Target::Index
    }

    /// The records of these offsets as they are stored.
    pub(crate) fn stored(&self, offsets: Range<u64>) -> &[u8] {
        let end = |offset: u64| match offset {
            0 => 0,
            _ => self.ends[usize::try_from(offset - 1).expect("few records")],
        };
        &self.stored[end(offsets.start)..end(offsets.end)]
    }

    fn contents(&self) -> Vec<u8> {
        let file = self
            .disk
            .open(&self.target, OpenMode::Read)
            .expect("the file is there");
        let len = file.len().expect("it has a length");
        let mut bytes = vec![0; usize::try_from(len).expect("it is small")];
        file.read_exact_at(&mut bytes, 0).expect("it can be read");
        bytes
    }

    fn frames_now(&self) -> Vec<Frame> {
        let mut frames = Vec::new();
        let report = inspect::inspect(
            &self.disk.disk(),
            Path::new(DATA_DIR),
            PARTITION,
            |segment, frame| {
                let path = dir().join(flowstone_format::segment_name(
                    segment.base_offset,
                    segment.id,
                ));
                let (from, len) = (frame.position.get(), frame.header.frame_len());
                frames.push(Frame {
                    offsets: frame.header.base_offset.get()..frame.header.next_offset().get(),
                    bytes: (path == self.target).then_some(from..from + len),
                    durable_upto: frame.header.durable_upto.get(),
                });
            },
        );
        let report = report.expect("it can be inspected");
        assert!(report.damages.is_empty(), "{:?}", report.damages);
        frames
    }
}

pub(crate) fn dir() -> PathBuf {
    Path::new(DATA_DIR)
        .join(PARTITIONS_DIR)
        .join(partition_dir_name(PARTITION))
}

fn target_path(disk: &SimDisk, target: Target) -> PathBuf {
    let first = |suffix: &str| {
        let mut names = disk
            .list(&dir())
            .expect("the directory is there")
            .into_iter();
        let found = names.find(|entry| entry.name.ends_with(suffix));
        dir().join(found.expect("there is one").name)
    };
    match target {
        Target::Active | Target::Sealed => first(".segment"),
        Target::Index => first(".index"),
        Target::Manifest => dir().join(MANIFEST_NAME),
        Target::Floor => Path::new(DATA_DIR).join(FLOOR_NAME),
    }
}

/// Appends batches of many shapes, in groups that share a sync, until the segment ends behind `end`.
fn fill(log: &mut Log, clock: &ManualClock, end: u64, dice: &Dice) {
    let scale = end / 6000;
    // Never less than where the next frame goes.
    let mut at = log
        .floor()
        .map_or(SEGMENT_HEADER_LEN, |slot| slot.position.get());
    loop {
        clock.advance(std::time::Duration::from_millis(dice.pick(1..50)));
        let records = batch(dice, scale, clock.now_ms());
        let most = |records: &[Vec<u8>]| -> u64 {
            let added = records.len() * usize::try_from(MAX_BROKER_BYTES).expect("it is small");
            (FRAME_HEADER_LEN + records.concat().len() + added) as u64
        };
        at += most(&records);
        if at > end {
            break;
        }
        append(log, &records, clock.now_ms());
        if dice.once_in(3) {
            publish(log);
        }
    }
    publish(log);
    // The last group: several small frames, and one of zeros.
    for _ in 0..4 {
        append(log, &[record(&noise(dice, 60), 0)], clock.now_ms());
    }
    append(log, &[record(&[0; 1100], 0)], clock.now_ms());
    append(log, &[record(b"last", 0)], clock.now_ms());
    publish(log);
}

/// One request's records: one or many, small or large, some with zeros in them.
fn batch(dice: &Dice, scale: u64, now_ms: i64) -> Vec<Vec<u8>> {
    let ms = |dice: &Dice| match dice.pick(0..3) {
        0 => 0,
        back => now_ms - i64::try_from(back * 20).expect("a small number"),
    };
    match dice.pick(0..6) {
        0 => vec![record(&[], 0)],
        1 => (0..dice.pick(5..40))
            .map(|_| record(&noise(dice, dice.pick(0..60)), ms(dice)))
            .collect(),
        2 => vec![record(
            &noise(dice, dice.pick(1000..2000) * scale.clamp(1, 16)),
            ms(dice),
        )],
        3 => vec![record(&[0; 1300], ms(dice))],
        _ => vec![record(
            &noise(dice, dice.pick(1..400) * scale.clamp(1, 8)),
            ms(dice),
        )],
    }
}

fn noise(dice: &Dice, len: u64) -> Vec<u8> {
    (0..len)
        .map(|_| u8::try_from(dice.pick(0..256)).expect("less than 256"))
        .collect()
}

fn append(log: &mut Log, records: &[Vec<u8>], now_ms: i64) {
    let request = records.concat();
    let whole = std::iter::once(0..request.len()).collect::<Vec<_>>();
    log.append(&Batch {
        request: &request,
        runs: &whole,
        record_count: u32::try_from(records.len()).expect("few records"),
        append_ms: now_ms,
        routing_count: 1,
        limits: &RecordLimits::NONE,
        producer: None,
        expected_offset: None,
    })
    .expect("there is room");
}

fn publish(log: &mut Log) {
    let durable = log.sync().expect("the disk is sound");
    log.set_high_watermark(durable.offset);
}

/// `0A len Record` with a value, and a timestamp unless it is 0.
fn record(value: &[u8], timestamp_ms: i64) -> Vec<u8> {
    let mut body = vec![0x12];
    varint(&mut body, value.len() as u64);
    body.extend_from_slice(value);
    if timestamp_ms != 0 {
        body.push(0x20);
        varint(&mut body, timestamp_ms.cast_unsigned());
    }
    let mut out = vec![0x0a];
    varint(&mut out, body.len() as u64);
    out.extend(body);
    out
}

fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(u8::try_from(value & 0x7f).expect("seven bits") | 0x80);
        value >>= 7;
    }
    out.push(u8::try_from(value).expect("seven bits"));
}

/// All records of a sound log as they are stored, where each ends, and their timestamps.
fn read_stored(log: &Log) -> (Vec<u8>, Vec<usize>, Vec<i64>) {
    let reader = log.reader();
    let (mut stored, mut ends, mut timestamps) = (Vec::new(), Vec::new(), Vec::new());
    let mut at = Offset::ZERO;
    while at < reader.high_watermark() {
        let batch = reader
            .read(at, &ReadLimit::default())
            .expect("a sound log is read");
        for chunk in &batch.chunks {
            for record in flowstone_format::Records::new(chunk, &RecordLimits::NONE) {
                let (bytes, record) = record.expect("a stored record");
                assert_eq!(record.offset, Some(ends.len() as u64));
                timestamps.push(record.timestamp_ms);
                ends.push(stored.len() + bytes.end);
            }
            stored.extend_from_slice(chunk);
        }
        at = batch.next_offset;
    }
    (stored, ends, timestamps)
}
