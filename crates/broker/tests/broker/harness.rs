//! A machine with one data directory, records, and what drives a broker that has no threads.

use std::path::{Path, PathBuf};
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};

use bytes::Bytes;
use flowstone_broker::{
    AppendedRun, Broker, BrokerConfig, Cursor, Delivery, Env, Error, FetchRequest, Fetched,
    OpenLimits, ProduceRequest, Start, SubscribeRequest, Subscription, TopicSpec,
};
use flowstone_disk::{Disk, ManualClock, OpKind, OpenMode, SimDisk};
use prost::Message;

pub(crate) const DATA_DIR: &str = "/data";
pub(crate) const START_MS: i64 = 1_700_000_000_000;

/// A record as every protobuf library sees it.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Record {
    #[prost(bytes = "vec", optional, tag = "1")]
    pub(crate) key: Option<Vec<u8>>,
    #[prost(bytes = "vec", optional, tag = "2")]
    pub(crate) value: Option<Vec<u8>>,
    #[prost(int64, tag = "4")]
    pub(crate) timestamp_ms: i64,
    #[prost(uint64, optional, tag = "15")]
    pub(crate) offset: Option<u64>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Run {
    #[prost(message, repeated, tag = "1")]
    pub(crate) records: Vec<Record>,
}

/// Records without keys.
pub(crate) fn values<V: AsRef<[u8]>>(values: impl IntoIterator<Item = V>) -> Bytes {
    run(values.into_iter().map(|value| Record {
        value: Some(value.as_ref().to_vec()),
        ..Record::default()
    }))
}

/// Records with keys.
pub(crate) fn keyed(records: &[(&str, &str)]) -> Bytes {
    run(records.iter().map(|(key, value)| Record {
        key: Some(key.as_bytes().to_vec()),
        value: Some(value.as_bytes().to_vec()),
        ..Record::default()
    }))
}

pub(crate) fn run(records: impl IntoIterator<Item = Record>) -> Bytes {
    Run {
        records: records.into_iter().collect(),
    }
    .encode_to_vec()
    .into()
}

pub(crate) fn decode(chunks: &[Bytes]) -> Vec<Record> {
    Run::decode(&*chunks.concat())
        .expect("stored records decode")
        .records
}

/// The values in chunks, as text.
pub(crate) fn texts(chunks: &[Bytes]) -> Vec<String> {
    let text = |record: Record| String::from_utf8(record.value.unwrap_or_default()).unwrap();
    decode(chunks).into_iter().map(text).collect()
}

/// Lets every log line be put together, as it is where somebody reads them.
pub(crate) fn log_everything() {
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| {
        tracing_subscriber::fmt()
            .with_max_level(tracing_subscriber::filter::LevelFilter::TRACE)
            .with_writer(std::io::sink)
            .init();
    });
}

/// A machine on which brokers run one after the other, without threads.
pub(crate) struct Machine {
    pub(crate) disk: SimDisk,
    pub(crate) clock: ManualClock,
    /// Why brokers had to end.
    pub(crate) fatal: Arc<Mutex<Vec<String>>>,
    seed: u64,
}

impl Machine {
    pub(crate) fn new(seed: u64) -> Self {
        log_everything();
        Self {
            disk: SimDisk::new(seed),
            clock: ManualClock::new(START_MS),
            fatal: Arc::default(),
            seed,
        }
    }

    /// Lets every operation of the disk fail behind the first `count`. Tells whether one has.
    pub(crate) fn fail_behind(&self, count: u64) -> Arc<AtomicBool> {
        let (left, failed) = (AtomicU64::new(count), Arc::new(AtomicBool::new(false)));
        let fails = Arc::clone(&failed);
        self.disk.set_hook(move |_| {
            let over = left
                .fetch_update(Relaxed, Relaxed, |left| left.checked_sub(1))
                .is_err();
            fails.fetch_or(over, Relaxed);
            over.then(|| std::io::ErrorKind::Other.into())
        });
        failed
    }

    /// Small segments and requests, so that a few records roll.
    pub(crate) fn config(&self) -> BrokerConfig {
        let mut config = BrokerConfig::new(DATA_DIR);
        config.append_threads = 0;
        config.read_threads = 0;
        config.limits.max_record_bytes = 4 << 10;
        config.limits.max_request_bytes = 8 << 10;
        config.limits.max_records_per_request = 100;
        config.limits.min_segment_bytes = 1;
        config.default_segment_bytes = 16 << 10;
        config.disk_reserve_bytes = 0;
        if !self.seed.is_multiple_of(2) {
            // Nobody may notice what is closed.
            config.open = OpenLimits {
                files: 1,
                maps: 1,
                index_bytes: 1,
            };
        }
        let fatal = Arc::clone(&self.fatal);
        config.on_fatal = Arc::new(move |reason| fatal.lock().unwrap().push(reason.to_owned()));
        config
    }

    pub(crate) fn env(&self) -> Env {
        Env::simulated(&self.disk, &self.clock, self.seed ^ self.disk.count_all())
    }

    /// A process starts.
    pub(crate) fn try_open(&self) -> Result<Driven, Error> {
        self.open_with(self.config())
    }

    pub(crate) fn open_with(&self, config: BrokerConfig) -> Result<Driven, Error> {
        Broker::open(config, self.env()).map(|broker| Driven { broker })
    }

    pub(crate) fn open(&self) -> Driven {
        self.try_open().expect("the directory opens")
    }

    /// How often a file was synced.
    pub(crate) fn syncs(&self) -> u64 {
        self.disk.count(OpKind::SyncData)
    }

    pub(crate) fn path(&self, partition: u64, name_ends: &str) -> PathBuf {
        let dir = partition_dir(partition);
        let entries = self.disk.list(&dir).expect("the partition has files");
        let found = entries
            .into_iter()
            .rfind(|entry| entry.name.ends_with(name_ends));
        dir.join(found.expect("there is such a file").name)
    }

    /// Changes a byte of a file behind the broker's back.
    pub(crate) fn flip(&self, path: &Path, at: u64) {
        let file = self.disk.open(path, OpenMode::ReadWrite).unwrap();
        let mut byte = [0];
        file.read_exact_at(&mut byte, at).unwrap();
        file.write_all_at(&[byte[0] ^ 0x40], at).unwrap();
    }
}

/// Where the partition with an id lies.
pub(crate) fn partition_dir(id: u64) -> PathBuf {
    Path::new(DATA_DIR)
        .join("partitions")
        .join(format!("{id:010}"))
}

/// The id of the first partition of the first topic.
pub(crate) const FIRST_PARTITION: u64 = 16;

/// A broker without threads, whose work is done while one waits.
#[derive(Clone, Debug)]
pub(crate) struct Driven {
    pub(crate) broker: Broker,
}

impl Driven {
    /// Waits for a future and does the broker's work meanwhile.
    pub(crate) fn wait<T>(&self, future: impl Future<Output = T>) -> T {
        let mut future = pin!(future);
        for _ in 0..100 {
            if let Some(ready) = poll(future.as_mut()) {
                return ready;
            }
            while self.broker.run_pending() {}
        }
        panic!("it waits for something that never happens");
    }

    pub(crate) fn create(&self, name: &str, partition_count: u32) -> flowstone_broker::TopicInfo {
        self.wait(
            self.broker
                .create_topic(TopicSpec::new(name, partition_count), false),
        )
        .expect("the topic can be made")
    }

    pub(crate) fn produce(
        &self,
        topic: &str,
        partition: Option<u32>,
        records: Bytes,
    ) -> Result<Vec<AppendedRun>, Error> {
        let request = ProduceRequest {
            topic: topic.to_owned(),
            partition,
            records,
            ..ProduceRequest::default()
        };
        Ok(self.wait(self.broker.produce(request))?.runs)
    }

    /// Appends one value to a partition and returns its offset.
    pub(crate) fn put(&self, topic: &str, partition: u32, value: &str) -> u64 {
        let runs = self.produce(topic, Some(partition), values([value]));
        runs.expect("it can be appended")[0].base_offset
    }

    pub(crate) fn fetch(
        &self,
        topic: &str,
        partition: u32,
        start: Start,
    ) -> Result<Fetched, Error> {
        self.wait(self.broker.fetch(FetchRequest {
            topic: topic.to_owned(),
            partition,
            start,
            ..FetchRequest::default()
        }))
    }

    /// All values of a partition.
    pub(crate) fn all(&self, topic: &str, partition: u32) -> Vec<String> {
        let (mut found, mut start) = (Vec::new(), Start::Earliest);
        loop {
            let fetched = self.fetch(topic, partition, start).expect("it can be read");
            if fetched.record_count == 0 {
                return found;
            }
            found.extend(texts(&fetched.chunks));
            start = Start::Offset(fetched.next_offset);
        }
    }

    pub(crate) fn try_subscribe(&self, request: SubscribeRequest) -> Result<Reader, Error> {
        let subscription = self.wait(self.broker.subscribe(request))?;
        Ok(Reader {
            driven: self.clone(),
            subscription,
        })
    }

    pub(crate) fn subscribe(&self, request: SubscribeRequest) -> Reader {
        self.try_subscribe(request)
            .expect("it can be subscribed to")
    }

    /// Commits, and tells which cursors were stale.
    pub(crate) fn commit(&self, cursors: &[Cursor]) -> Result<Vec<Cursor>, Error> {
        let commit = self.broker.commit_offsets(cursors.to_vec(), Vec::new());
        self.wait(commit).map(|committed| committed.stale)
    }

    pub(crate) fn shutdown(self) {
        self.wait(self.broker.shutdown()).expect("it stops cleanly");
    }
}

/// A subscription.
#[derive(Debug)]
pub(crate) struct Reader {
    driven: Driven,
    subscription: Subscription,
}

/// Records that were delivered: partition, offset to go on at, values.
pub(crate) type Batch = (u32, u64, Vec<String>);

impl Reader {
    /// The next delivery. It must come without anything else happening.
    pub(crate) fn next(&mut self) -> Option<Result<Delivery, Error>> {
        self.driven.wait(self.subscription.next())
    }

    /// Whether it waits for something to happen.
    pub(crate) fn is_waiting(&mut self) -> bool {
        // Dropped after one step each time, as a caller with a timer drops it.
        (0..3).all(|_| poll(pin!(self.subscription.next())).is_none())
    }

    /// How often it is woken by something that is done while it waits.
    pub(crate) fn woken_by(&mut self, work: impl FnOnce()) -> usize {
        woken_by(pin!(self.subscription.next()), work)
    }

    /// The next records.
    pub(crate) fn batch(&mut self) -> Batch {
        match self.next() {
            Some(Ok(Delivery::Records { cursor, chunks, .. })) => {
                (cursor.partition, cursor.offset, texts(&chunks))
            }
            other => panic!("records should come next, not {other:?}"),
        }
    }

    pub(crate) fn cursor(&mut self) -> Cursor {
        match self.next() {
            Some(Ok(Delivery::Records { cursor, .. })) => cursor,
            other => panic!("records should come next, not {other:?}"),
        }
    }

    /// The partitions that the member is told to read.
    pub(crate) fn assignment(&mut self) -> Vec<(String, u32)> {
        match self.next() {
            Some(Ok(Delivery::Assignment { partitions, .. })) => partitions,
            other => panic!("an assignment should come next, not {other:?}"),
        }
    }

    /// The partition and the reason of an error that concerns one partition.
    pub(crate) fn partition_error(&mut self) -> (Cursor, Error) {
        match self.next() {
            Some(Ok(Delivery::PartitionError { cursor, error })) => (cursor, error),
            other => panic!("an error of a partition should come next, not {other:?}"),
        }
    }

    /// All values up to the end, by partition.
    pub(crate) fn rest(&mut self) -> Vec<(u32, String)> {
        let mut found = Vec::new();
        while let Some(delivery) = self.next() {
            match delivery {
                Ok(Delivery::Records { cursor, chunks, .. }) => {
                    found.extend(
                        texts(&chunks)
                            .into_iter()
                            .map(|text| (cursor.partition, text)),
                    );
                }
                other => panic!("only records should come, not {other:?}"),
            }
        }
        found.sort();
        found
    }
}

fn poll<F: Future>(future: Pin<&mut F>) -> Option<F::Output> {
    match future.poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(ready) => Some(ready),
        Poll::Pending => None,
    }
}

/// How often a future is woken by something that is done while it waits.
pub(crate) fn woken_by<F: Future>(future: Pin<&mut F>, work: impl FnOnce()) -> usize {
    struct Wakes(AtomicUsize);
    impl Wake for Wakes {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Relaxed);
        }
    }
    let wakes = Arc::new(Wakes(AtomicUsize::new(0)));
    let waker = Arc::clone(&wakes).into();
    assert!(future.poll(&mut Context::from_waker(&waker)).is_pending());
    work();
    wakes.0.load(Relaxed)
}

/// A broker with this topic.
pub(crate) fn visits(partition_count: u32) -> (Machine, Driven) {
    let machine = Machine::new(1);
    let broker = machine.open();
    broker.create("visits", partition_count);
    (machine, broker)
}

/// Reading it as a member of a group.
pub(crate) fn billing() -> SubscribeRequest {
    SubscribeRequest {
        group: Some("billing".to_owned()),
        ..read("visits")
    }
}

/// A request for one topic from the start on.
pub(crate) fn read(topic: &str) -> SubscribeRequest {
    SubscribeRequest {
        topic: topic.to_owned(),
        ..SubscribeRequest::default()
    }
}

/// A cursor without a group.
pub(crate) fn at(topic: &str, partition: u32, offset: u64) -> Cursor {
    Cursor {
        topic: topic.to_owned(),
        partition,
        offset,
        ..Cursor::default()
    }
}
