//! A partition on a simulated machine, and records to put into it.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use flowstone_disk::{Disk, Env, ManualClock, OpenMode, SimDisk};
use flowstone_format::{
    Offset, PartitionId, RecordLimits, Records, parse_segment_name, partition_dir_name,
};
use flowstone_log::{
    Appended, Batch, Floor, Log, LogConfig, LogError, LogReader, OpenSegments, ProducerBudget,
    ReadError, ReadLimit,
};

pub(crate) const DATA_DIR: &str = "/data";
pub(crate) const START_MS: i64 = 1_700_000_000_000;
pub(crate) const PARTITION: PartitionId = PartitionId::new(7);

/// A machine with one data directory.
pub(crate) struct Rig {
    pub(crate) disk: SimDisk,
    pub(crate) clock: ManualClock,
    pub(crate) config: LogConfig,
    seed: u64,
}

impl Rig {
    /// Small segments, so that a few records roll.
    pub(crate) fn new(seed: u64) -> Self {
        let disk = SimDisk::new(seed);
        disk.create_dir_all(&Path::new(DATA_DIR).join("partitions"))
            .unwrap();
        disk.sync_all(Path::new(DATA_DIR)).unwrap();
        Self {
            disk,
            clock: ManualClock::new(START_MS),
            config: LogConfig {
                segment_bytes: 16 << 10,
                index_interval_bytes: 512,
                // Every roll leaves its sync to the next one.
                roll_unsynced_bytes: 0,
                ..LogConfig::default()
            },
            seed,
        }
    }

    /// The same machine once more: what is done to one shows nothing in the other.
    pub(crate) fn fork(&self) -> Self {
        self.fork_with(self.seed)
    }

    /// The same, with power cuts by another seed.
    pub(crate) fn fork_with(&self, seed: u64) -> Self {
        Self {
            disk: self.disk.fork(seed),
            clock: self.clock.clone(),
            config: self.config,
            seed,
        }
    }

    pub(crate) fn dir(&self) -> PathBuf {
        Path::new(DATA_DIR)
            .join("partitions")
            .join(partition_dir_name(PARTITION))
    }

    /// A process starts: what a broker does at its start, for one partition.
    pub(crate) fn open(&self) -> Result<(Log, Floor), LogError> {
        let env = Env::simulated(&self.disk, &self.clock, self.seed ^ self.disk.count_all());
        let data_dir = Path::new(DATA_DIR);
        env.disk
            .sync_all(data_dir)
            .map_err(|source| LogError::SyncFailed {
                path: data_dir.into(),
                source,
            })?;
        let (floor, _) = Floor::open(&env.disk, data_dir)?;
        let slot = floor.get(PARTITION)?;
        let dir = self.dir();
        let budget = Arc::new(ProducerBudget::unlimited());
        // Nobody may notice what is closed, so that every second machine closes all it can.
        let open = if self.seed.is_multiple_of(2) {
            OpenSegments::unlimited()
        } else {
            OpenSegments::new(1, 1, 1)
        };
        let open = Arc::new(open);
        let log = Log::open_within(&env, &dir, PARTITION, slot, self.config, &budget, &open)?;
        Ok((log, floor))
    }

    pub(crate) fn open_log(&self) -> Log {
        self.open().expect("the partition opens").0
    }

    pub(crate) fn append(&self, log: &mut Log, records: &[Vec<u8>]) -> Result<Appended, LogError> {
        use flowstone_disk::Clock;
        append(log, records, self.clock.now_ms())
    }

    /// Appends and makes durable and visible.
    pub(crate) fn put(&self, log: &mut Log, records: &[Vec<u8>]) -> Result<Appended, LogError> {
        let appended = self.append(log, records)?;
        publish(log)?;
        Ok(appended)
    }

    /// Names of the segment files in the partition's directory.
    pub(crate) fn segment_files(&self) -> Vec<PathBuf> {
        self.files()
            .into_iter()
            .filter(|path| {
                let name = path.file_name().unwrap().to_str().unwrap();
                parse_segment_name(name).is_some()
            })
            .collect()
    }

    pub(crate) fn files(&self) -> Vec<PathBuf> {
        let dir = self.dir();
        let entries = self.disk.list(&dir).unwrap();
        entries
            .into_iter()
            .filter(|entry| !entry.is_dir)
            .map(|entry| dir.join(entry.name))
            .collect()
    }

    pub(crate) fn bytes_of(&self, path: &Path) -> Vec<u8> {
        let file = self.disk.open(path, OpenMode::Read).unwrap();
        let mut bytes = vec![0; usize::try_from(file.len().unwrap()).unwrap()];
        file.read_exact_at(&mut bytes, 0).unwrap();
        bytes
    }

    /// Changes bytes of a file behind the log's back.
    pub(crate) fn overwrite(&self, path: &Path, at: u64, bytes: &[u8]) {
        let file = self.disk.open(path, OpenMode::ReadWrite).unwrap();
        file.write_all_at(bytes, at).unwrap();
    }
}

pub(crate) fn publish(log: &mut Log) -> Result<(), LogError> {
    let durable = log.sync()?;
    log.set_high_watermark(durable.offset);
    Ok(())
}

pub(crate) fn append(
    log: &mut Log,
    records: &[Vec<u8>],
    now_ms: i64,
) -> Result<Appended, LogError> {
    let request = records.concat();
    let whole = std::iter::once(0..request.len()).collect::<Vec<Range<usize>>>();
    log.append(&Batch {
        request: &request,
        runs: &whole,
        record_count: u32::try_from(records.len()).unwrap(),
        append_ms: now_ms,
        routing_count: 1,
        limits: &RecordLimits::default(),
        producer: None,
        expected_offset: None,
    })
}

fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(u8::try_from(value & 0x7f).unwrap() | 0x80);
        value >>= 7;
    }
    out.push(u8::try_from(value).unwrap());
}

/// `0A len Record` with a value, and a timestamp unless it is 0.
pub(crate) fn record(value: &[u8], timestamp_ms: i64) -> Vec<u8> {
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

/// Plain records with these values.
pub(crate) fn values<const N: usize>(values: [&str; N]) -> Vec<Vec<u8>> {
    values.map(|value| record(value.as_bytes(), 0)).to_vec()
}

/// Offset, timestamp and value.
pub(crate) type Found = (u64, i64, Vec<u8>);

/// Every record from `from` to the high watermark, read in responses of at most `max_bytes`.
pub(crate) fn try_read_from(
    reader: &LogReader,
    from: Offset,
    max_bytes: usize,
) -> Result<Vec<Found>, ReadError> {
    let mut found = Vec::new();
    let mut at = from;
    while at < reader.high_watermark() {
        let limit = ReadLimit {
            max_bytes,
            ..ReadLimit::default()
        };
        let batch = reader.read(at, &limit)?;
        let mut count = 0;
        for chunk in &batch.chunks {
            for record in Records::new(chunk, &RecordLimits::NONE) {
                let (_, record) = record.expect("a stored record");
                found.push((
                    record.offset.expect("stored records carry their offset"),
                    record.timestamp_ms,
                    record.value.unwrap_or_default().to_vec(),
                ));
                count += 1;
            }
        }
        assert_eq!(count, batch.record_count);
        assert!(batch.next_offset > at, "every read moves on");
        at = batch.next_offset;
    }
    Ok(found)
}

/// The same where nothing may go wrong.
pub(crate) fn read_from(reader: &LogReader, from: Offset, max_bytes: usize) -> Vec<Found> {
    try_read_from(reader, from, max_bytes).expect("sound records are read")
}

pub(crate) fn read_all(log: &Log) -> Vec<(u64, Vec<u8>)> {
    let reader = log.reader();
    read_from(&reader, reader.log_start_offset(), 1 << 20)
        .into_iter()
        .map(|(offset, _, value)| (offset, value))
        .collect()
}

pub(crate) fn strings(records: Vec<(u64, Vec<u8>)>) -> Vec<(u64, String)> {
    records
        .into_iter()
        .map(|(offset, value)| (offset, String::from_utf8(value).unwrap()))
        .collect()
}

/// CRC-32 of IEEE, by the bit: the log itself has no checksums in it.
pub(crate) fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |crc: u32, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
            if crc & 1 == 1 {
                crc >> 1 ^ 0xEDB8_8320
            } else {
                crc >> 1
            }
        })
    })
}
