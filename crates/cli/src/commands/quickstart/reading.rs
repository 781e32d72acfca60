//! How the story reads: as a member of the group, and from anywhere to the end.

use anyhow::{Result, ensure};
use flowstone_client::{Appended, Batch, Client, Event, RecordRef, Start, Stop, SubscribeBuilder};

use super::ledger::Read;
use super::story::{GROUP, TOPIC};

/// So small that half of the records are several batches.
const SMALL_BATCH_BYTES: i32 = 16 << 10;

/// A reader of the group.
pub(super) fn member(client: &Client) -> SubscribeBuilder {
    client
        .subscribe(TOPIC)
        .group(GROUP)
        .max_batch_bytes(SMALL_BATCH_BYTES)
}

/// Everything from a position to the end of now.
pub(super) async fn read_to_the_end(client: &Client, start: Start) -> Result<Read> {
    let mut reader = client
        .subscribe(TOPIC)
        .start(start)
        .stop(Stop::CurrentEnd)
        .open()
        .await?;
    let mut read = Read::new();
    while let Some(event) = reader.next().await {
        match event? {
            Event::Records(batch) => keep_all(&mut read, &batch)?,
            Event::Partition(problem) => return Err(problem.error.into()),
            Event::Assignment(_) => {}
        }
    }
    Ok(read)
}

/// Keeps all records of a batch.
pub(super) fn keep_all(read: &mut Read, batch: &Batch) -> Result<()> {
    for record in &batch.records {
        keep(read, batch.partition(), &record)?;
    }
    Ok(())
}

/// Keeps a record; one that was read before is an error.
pub(super) fn keep(read: &mut Read, partition: i32, record: &RecordRef<'_>) -> Result<()> {
    let at = Appended {
        partition,
        offset: record.offset,
    };
    ensure!(
        read.insert(at, record.to_record()).is_none(),
        "a record was read twice: {at:?}"
    );
    Ok(())
}
