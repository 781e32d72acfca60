//! Copying one partition: a request at a time, so that the order holds and the last one is known.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use flowstone_client::{
    Client, Cursor, Error, Event, PartitionError, ProduceRequest, RequestProducer, reason,
};
use tokio::time::Instant;

use super::batch::Gathered;
use super::pace::Pace;
use super::plan::{Part, RequestLimits, sequence};
use crate::progress::Progress;
use crate::signals::Stop;

/// What is needed to copy a partition.
pub(super) struct Copy {
    pub(super) client: Client,
    pub(super) topic: String,
    pub(super) to: String,
    pub(super) same_partition: bool,
    pub(super) limits: RequestLimits,
    pub(super) part: Part,
    pub(super) pace: Arc<Pace>,
    pub(super) progress: Arc<Progress>,
    pub(super) stop: Stop,
    pub(super) retry_for: Duration,
}

/// How many records were sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Copied {
    pub(super) copied: u64,
    /// Sent again to make sure, and there already.
    pub(super) there_already: u64,
}

impl Copied {
    pub(super) fn add(&mut self, other: Self) {
        self.copied += other.copied;
        self.there_already += other.there_already;
    }
}

/// Copies a partition: what is unsure first, then the rest. Returns what was copied also when it fails.
pub(super) async fn copy(mut task: Copy) -> (Copied, Result<()>) {
    let mut copied = Copied::default();
    let outcome = task.run(&mut copied).await;
    let place = format!("partition {} of {}", task.part.partition, task.topic);
    (copied, outcome.context(place))
}

impl Copy {
    async fn run(&mut self, copied: &mut Copied) -> Result<()> {
        if let Some(unsure) = self.part.unsure.clone() {
            self.range(unsure, true, copied).await?;
        }
        self.range(self.part.offsets.clone(), false, copied).await
    }

    /// Copies a range; `whole`: in one request, which repeats an earlier one.
    async fn range(
        &mut self,
        range: std::ops::Range<i64>,
        whole: bool,
        copied: &mut Copied,
    ) -> Result<()> {
        if range.is_empty() || self.stop.is_asked() {
            return Ok(());
        }
        let cursor = |offset| Cursor {
            topic: self.topic.clone(),
            topic_id: self.part.topic_id.clone(),
            partition: self.part.partition,
            offset,
            ..Cursor::default()
        };
        let mut records = self
            .client
            .subscribe(&self.topic)
            .partitions([self.part.partition])
            .resume_from([cursor(range.start)])
            .stop_before([cursor(range.end)])
            .retry_for(self.retry_for)
            .open()
            .await?;
        let mut gathered = Gathered::default();
        loop {
            let event = tokio::select! {
                event = records.next() => event.transpose()?,
                () = self.stop.asked() => return Ok(()),
            };
            match event {
                Some(Event::Records(batch)) => {
                    for record in &batch.records {
                        let record = record.to_record();
                        if !whole && !gathered.takes(&record, &self.limits, &self.pace) {
                            self.send(&mut gathered, copied).await?;
                        }
                        gathered.push(record);
                    }
                    if !whole {
                        self.send(&mut gathered, copied).await?;
                    }
                    if self.stop.is_asked() {
                        return Ok(());
                    }
                }
                Some(Event::Partition(problem)) => self.look_at(&problem)?,
                Some(Event::Assignment(_)) => {}
                None => break,
            }
        }
        if whole && gathered.offsets() != Some(range.clone()) {
            self.say(&format!(
                "offsets {} to {} were removed before it was sure that all of them are copied",
                range.start,
                range.end - 1
            ));
            return Ok(());
        }
        self.send(&mut gathered, copied).await
    }

    /// Sends what is gathered once it is due. After a wish to stop it is left to the next run.
    async fn send(&mut self, gathered: &mut Gathered, copied: &mut Copied) -> Result<()> {
        let (Some(offsets), Some(first_ms)) = (gathered.offsets(), gathered.first_time_ms()) else {
            return Ok(());
        };
        let records = gathered.take();
        let count = records.len() as u64;
        if let Some(due) = self.pace.due(records.len(), first_ms, Instant::now()) {
            tokio::select! {
                () = tokio::time::sleep_until(due) => {}
                () = self.stop.asked() => {}
            }
        }
        if self.stop.is_asked() {
            return Ok(());
        }
        let request = ProduceRequest {
            topic: self.to.clone(),
            partition: self.same_partition.then_some(self.part.partition),
            producer: Some(RequestProducer {
                id: self.part.producer_id.clone(),
                epoch: self.part.epoch,
                sequence: sequence(&offsets),
            }),
            records,
            ..ProduceRequest::default()
        };
        let answer = self.client.produce(request).await;
        let answer = answer.map_err(|error| refused(error, &offsets))?;
        match answer.duplicate {
            true => copied.there_already += count,
            false => copied.copied += count,
        }
        self.progress.advance(count);
        Ok(())
    }

    /// What is wrong with the partition ends it, unless records have gone by themselves.
    fn look_at(&self, problem: &PartitionError) -> Result<()> {
        if !problem.error.is(reason::OFFSET_TRIMMED) {
            return Err(problem.error.clone().into());
        }
        self.say(&problem.error.to_string());
        Ok(())
    }

    fn say(&self, what: &str) {
        let partition = self.part.partition;
        self.progress
            .say(&format!("warning: partition {partition}: {what}"));
    }
}

/// Why a request was refused, with where its records came from.
fn refused(error: Error, offsets: &std::ops::Range<i64>) -> anyhow::Error {
    let record = error.metadata().get("record");
    let record = record.and_then(|record| record.parse::<i64>().ok());
    let place = match record {
        Some(record) => format!("the record at offset {}", offsets.start + record),
        None => format!("offsets {} to {}", offsets.start, offsets.end - 1),
    };
    let advice = match error.reason() {
        Some("STALE_PRODUCER") => "another replay of the same run has begun, and goes on instead: ",
        _ => "",
    };
    anyhow::Error::new(error).context(format!("{advice}{place} could not be copied"))
}
