//! The data directory: made, and opened to see what that costs.

use std::fs;
use std::path::Path;
use std::time::Instant;

use bytes::Bytes;
use flowstone_benches::{Run, anonymous_bytes};
use flowstone_broker::{Broker, BrokerConfig, Env, ProduceRequest, TopicSpec};
use pollster::block_on;

use crate::{Args, Outcome};

/// The topic that all groups read.
pub(crate) const TOPIC: &str = "visits";
/// Records of each partition, so that there is something to commit.
pub(crate) const RECORDS: u32 = 100;

/// Makes the topic with some records in each partition.
pub(crate) fn prepare(args: &Args, dir: &Path) -> Outcome<()> {
    let broker = open(dir)?;
    block_on(broker.create_topic(TopicSpec::new(TOPIC, args.partitions), false))?;
    let records = Bytes::from(Run::new(RECORDS, 10).bytes);
    for partition in 0..args.partitions {
        block_on(broker.produce(ProduceRequest {
            topic: TOPIC.to_owned(),
            partition: Some(partition),
            records: records.clone(),
            ..ProduceRequest::default()
        }))?;
    }
    Ok(block_on(broker.shutdown())?)
}

pub(crate) fn open(dir: &Path) -> Outcome<Broker> {
    Ok(Broker::open(BrokerConfig::new(dir), Env::real())?)
}

/// Opens the directory and tells how long that took, and the memory of this process then.
pub(crate) fn open_and_tell(dir: &Path) -> Outcome<()> {
    let log_bytes = size_of(&dir.join("partitions/0000000001")).unwrap_or(0);
    let began = Instant::now();
    let broker = open(dir)?;
    let took = began.elapsed();
    println!(
        "{:.3} s, {:.1} MiB of anonymous memory, an offsets log of {:.1} MiB",
        took.as_secs_f64(),
        mib(anonymous_bytes()?),
        mib(log_bytes)
    );
    Ok(block_on(broker.shutdown())?)
}

/// Bytes on disk of all files of a directory.
fn size_of(dir: &Path) -> std::io::Result<u64> {
    use std::os::unix::fs::MetadataExt;
    let mut bytes = 0;
    for entry in fs::read_dir(dir)? {
        bytes += entry?.metadata()?.blocks() * 512;
    }
    Ok(bytes)
}

pub(crate) fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}
