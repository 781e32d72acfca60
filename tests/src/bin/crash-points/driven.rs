//! A broker without threads on a simulated machine, and what can be seen of it.

use std::path::Path;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use flowstone_broker::{
    Broker, BrokerConfig, Env, Error, FetchRequest, GroupOffset, OpenLimits, PartitionInfo, Start,
    TopicInfo,
};
use flowstone_disk::{ManualClock, SimDisk};
use flowstone_proto::v1::Record;
use prost::Message;

const DATA_DIR: &str = "/data";
/// What a broker without threads does before it must have come to an end.
const STEPS_MAX: u32 = 10_000;

/// A run of records, as it is produced and read.
#[derive(Clone, PartialEq, Message)]
struct Run {
    #[prost(message, repeated, tag = "1")]
    records: Vec<Record>,
}

pub(crate) fn encode(records: &[Record]) -> Bytes {
    let records = records.to_vec();
    Run { records }.encode_to_vec().into()
}

/// A broker whose work is done while one waits for it.
#[derive(Debug)]
pub(crate) struct Driven {
    pub(crate) broker: Broker,
}

/// All that a broker tells of what it holds.
#[derive(Debug)]
pub(crate) struct Observed {
    pub(crate) topics: Vec<(TopicInfo, Vec<Content>)>,
    /// By group.
    pub(crate) commits: Vec<(String, GroupOffset)>,
}

/// A partition with all that it holds.
#[derive(Debug)]
pub(crate) struct Content {
    pub(crate) info: PartitionInfo,
    pub(crate) start: i64,
    pub(crate) records: Vec<Record>,
}

impl Driven {
    /// Starts a process.
    pub(crate) fn open(disk: &SimDisk, clock: &ManualClock, seed: u64) -> Result<Self, Error> {
        let env = Env::simulated(disk, clock, seed);
        Broker::open(config(), env).map(|broker| Self { broker })
    }

    /// Does all that there is to do.
    pub(crate) fn drain(&self) {
        for _ in 0..STEPS_MAX {
            if !self.broker.run_pending() {
                return;
            }
        }
        panic!("the broker has something to do for ever");
    }

    /// Waits for a future and does the broker's work meanwhile.
    pub(crate) fn wait<T>(&self, future: impl Future<Output = T>) -> T {
        let mut future = pin!(future);
        for _ in 0..100 {
            if let Poll::Ready(ready) = poll(future.as_mut()) {
                return ready;
            }
            self.drain();
        }
        panic!("it waits for something that never happens");
    }

    /// Reads everything. With `offline_too` partitions that cannot be read are left out.
    pub(crate) fn observe(&self, offline_too: bool) -> Result<Observed, String> {
        let mut observed = Observed {
            topics: Vec::new(),
            commits: Vec::new(),
        };
        for topic in self.broker.list_topics("", None, usize::MAX) {
            let name = topic.spec.name.clone();
            let (info, partitions) = self
                .broker
                .describe_topic(&name)
                .map_err(|error| format!("{name} is listed, and: {error}"))?;
            let mut contents = Vec::new();
            for partition in partitions {
                match self.content(&name, partition) {
                    Ok(content) => contents.push(content),
                    Err(_) if offline_too => {}
                    Err(wrong) => return Err(wrong),
                }
            }
            observed.topics.push((info, contents));
        }
        for group in self.broker.list_groups(None, usize::MAX) {
            let described = self.wait(self.broker.describe_group(&group.name));
            match described {
                Ok(found) => {
                    let of = |offset| (group.name.clone(), offset);
                    observed.commits.extend(found.offsets.into_iter().map(of));
                }
                Err(_) if offline_too => {}
                Err(error) => {
                    return Err(format!("group {} cannot be described: {error}", group.name));
                }
            }
        }
        Ok(observed)
    }

    fn content(&self, topic: &str, info: PartitionInfo) -> Result<Content, String> {
        let partition = info.partition;
        if let Some(why) = info.offline_reason {
            return Err(format!("{topic}, partition {partition} is offline: {why}"));
        }
        let (mut next, mut records) = (info.log_start_offset, Vec::new());
        while next < info.high_watermark {
            let (more, after) = self.fetch(topic, partition, Start::Offset(next))?;
            if after <= next {
                return Err(format!("{topic}, partition {partition}: stuck at {next}"));
            }
            records.extend(more);
            next = after;
        }
        Ok(Content {
            start: info.log_start_offset as i64,
            records,
            info,
        })
    }

    /// The records from a start on that one fetch brings, and where the next goes on.
    pub(crate) fn fetch(
        &self,
        topic: &str,
        partition: u32,
        start: Start,
    ) -> Result<(Vec<Record>, u64), String> {
        let request = FetchRequest {
            topic: topic.to_owned(),
            partition,
            start: start.clone(),
            ..FetchRequest::default()
        };
        let cannot = |why: &dyn std::fmt::Display| {
            format!("{topic}, partition {partition} cannot be read from {start:?}: {why}")
        };
        let fetched = self
            .wait(self.broker.fetch(request))
            .map_err(|error| cannot(&error))?;
        let run = Run::decode(&*fetched.chunks.concat()).map_err(|error| cannot(&error))?;
        Ok((run.records, fetched.next_offset))
    }
}

/// Looks once whether a future is there.
pub(crate) fn poll<F: Future + ?Sized>(future: Pin<&mut F>) -> Poll<F::Output> {
    future.poll(&mut Context::from_waker(Waker::noop()))
}

/// Small segments and requests, so that a few records roll, and frequent snapshots.
fn config() -> BrokerConfig {
    let mut config = BrokerConfig::new(Path::new(DATA_DIR));
    config.append_threads = 0;
    config.read_threads = 0;
    config.limits.max_record_bytes = 1 << 10;
    config.limits.max_request_bytes = 2 << 10;
    config.limits.max_records_per_request = 16;
    config.limits.min_segment_bytes = 1;
    config.default_segment_bytes = 12 << 10;
    config.snapshot_interval_bytes = 4 << 10;
    config.disk_reserve_bytes = 128 << 10;
    // Whatever can be closed is, and opened again.
    config.open = OpenLimits {
        files: 1,
        maps: 2,
        index_bytes: 1,
    };
    config.on_fatal = Arc::new(|_| {});
    config
}
