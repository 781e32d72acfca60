//! Reading one partition once.

use std::sync::Arc;

use bytes::Bytes;
use flowstone_log::{ReadBatch, ReadLimit};
use uuid::Uuid;

use crate::core::Core;
use crate::listeners::News;
use crate::names::invalid;
use crate::partition::Partition;
use crate::resolve::{check_range, resolve};
use crate::{Error, Limits, Start};

/// What to read.
#[derive(Clone, Debug, Default)]
pub struct FetchRequest {
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: u32,
    /// Where to start.
    pub start: Start,
    /// Most bytes of records, 0 for the broker's default. One record comes however large it is.
    pub max_bytes: u32,
    /// Most records, 0 for no limit.
    pub max_records: u32,
    /// The topic's id, checked if set.
    pub topic_id: Option<Uuid>,
}

/// What was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fetched {
    /// The records: runs of `0A len Record`, the bytes as they lie on disk. Empty when there is
    /// nothing to read yet.
    pub chunks: Vec<Bytes>,
    /// How many records these are.
    pub record_count: u32,
    /// Where the next fetch goes on.
    pub next_offset: u64,
    /// The end of what may be read, exclusive.
    pub high_watermark: u64,
    /// The first offset there is.
    pub log_start_offset: u64,
}

pub(crate) async fn fetch(core: &Arc<Core>, request: FetchRequest) -> Result<Fetched, Error> {
    core.check_alive()?;
    let topic = core.topics.get(&request.topic)?;
    topic.check_id(request.topic_id)?;
    let partition = topic.partition(request.partition)?;
    if request.start == Start::Committed {
        return Err(invalid(
            "start",
            "a fetch knows no group whose committed offset it could be",
        ));
    }
    let limit = ReadLimit {
        max_bytes: response_bytes(&core.config.limits, request.max_bytes),
        max_records: match request.max_records {
            0 => u32::MAX,
            most => most,
        },
        before: None,
    };
    let resident = match request.start {
        Start::Offset(from) => partition.read_resident(from, &limit),
        _ => None,
    };
    let batch = match resident {
        Some(batch) => batch,
        None => {
            let read = move || read(&request.start, &partition, &limit);
            core.pool.run(read).await??
        }
    };
    core.counters.read(&batch);
    Ok(Fetched {
        chunks: batch.chunks,
        record_count: batch.record_count,
        next_offset: batch.next_offset.get(),
        high_watermark: batch.high_watermark.get(),
        log_start_offset: batch.log_start_offset.get(),
    })
}

fn read(start: &Start, partition: &Partition, limit: &ReadLimit) -> Result<ReadBatch, Error> {
    loop {
        let from = resolve(start, partition, None)?;
        let read = check_range(partition, from).and_then(|()| partition.read(from, limit));
        match read {
            // The log start has moved on since it was looked up.
            Err(Error::OffsetTrimmed { .. }) if !matches!(start, Start::Offset(_)) => {}
            read => return read,
        }
    }
}

/// Resolves when there is something to read from an offset on, or never will be.
pub(crate) async fn wait_for_data(core: &Core, topic: &str, partition: u32, from: u64) {
    let Ok(topic) = core.topics.get(topic) else {
        return;
    };
    let Ok(partition) = topic.partition(partition) else {
        return;
    };
    let listener = Arc::default();
    let _topic = topic.listeners().add(&listener, News::Topic);
    let listening = partition.listen(&listener);
    loop {
        listener.take_topic();
        listener.take_partition();
        listening.begin_look();
        let over = core.is_stopping() || topic.is_deleted();
        if over || partition.high_watermark() > from || partition.damage_at(from).is_some() {
            return;
        }
        listener.heard().await;
    }
}

/// How many bytes a response may have.
pub(crate) fn response_bytes(limits: &Limits, wanted: u32) -> usize {
    let bytes = match wanted {
        0 => limits.default_response_bytes,
        wanted => wanted.min(limits.max_response_bytes),
    };
    bytes as usize
}
