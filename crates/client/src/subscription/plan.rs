//! What a subscription asks for when it connects, for the first time and again.
//!
//! Positions such as "the end" or "the last ten" mean what they meant when the subscription was
//! opened. So those that move are resolved once, into cursors, and a later request carries these.

use std::collections::BTreeMap;

use flowstone_proto::v1 as proto;
use tonic::Code;

use super::{Batch, SubscribeBuilder};
use crate::calls::{Offsets, cursors};
use crate::{Error, Result, Start, Stop};

#[derive(Debug)]
pub(super) struct Plan {
    request: proto::SubscribeRequest,
    /// Where reading stands, by partition; without a group only.
    position: BTreeMap<i32, proto::Cursor>,
    /// Before which offset reading ends in each partition, when that is known for all.
    ends: Option<Offsets>,
    /// How many records are still wanted, when they are counted.
    remaining: Option<i64>,
    /// Why reading up to the ends is not reading all.
    damage: Option<Error>,
}

impl Plan {
    pub(super) async fn resolve(builder: SubscribeBuilder) -> Result<Self> {
        let mut request = proto::SubscribeRequest {
            topic: builder.topic.clone(),
            partitions: builder.partitions.clone(),
            start: Some(builder.start.into()),
            stop: builder.stop.map(Into::into),
            group: builder.group.clone(),
            member: builder.member.clone(),
            max_batch_bytes: builder.max_batch_bytes,
            processing_timeout: builder
                .processing_timeout
                .map(prost_types::Duration::try_from)
                .transpose()
                .map_err(|_| {
                    Error::local(
                        Code::InvalidArgument,
                        None,
                        "processing_timeout is too long",
                    )
                })?,
            max_uncommitted_records: builder.max_uncommitted_records,
            resume_from: builder.resume_from.clone(),
            stop_before: builder.stop_before.clone(),
        };
        let mut plan = Self {
            position: BTreeMap::new(),
            ends: None,
            remaining: match builder.stop {
                Some(Stop::Count(count)) => Some(count),
                _ => None,
            },
            damage: None,
            request: proto::SubscribeRequest::default(),
        };
        if builder.group.is_empty() {
            for cursor in &builder.resume_from {
                plan.position.insert(cursor.partition, cursor.clone());
            }
            plan.resolve_start(&builder, &mut request).await?;
            plan.resolve_stop(&builder, &mut request).await?;
        }
        plan.request = request;
        Ok(plan)
    }

    async fn resolve_start(
        &mut self,
        builder: &SubscribeBuilder,
        request: &mut proto::SubscribeRequest,
    ) -> Result<()> {
        // The others mean the same whenever they are resolved.
        if !matches!(
            builder.start,
            Start::Latest | Start::Last(_) | Start::TimeMs(_)
        ) {
            return Ok(());
        }
        let offsets = builder
            .client
            .list_offsets(&builder.topic, builder.start, &builder.partitions, None)
            .await?;
        for cursor in cursors(&builder.topic, &offsets) {
            self.position.entry(cursor.partition).or_insert(cursor);
        }
        // A partition that is added later is read from its beginning.
        request.start = Some(Start::Earliest.into());
        Ok(())
    }

    async fn resolve_stop(
        &mut self,
        builder: &SubscribeBuilder,
        request: &mut proto::SubscribeRequest,
    ) -> Result<()> {
        let at = match builder.stop {
            Some(Stop::CurrentEnd) => Start::Latest,
            Some(Stop::TimeMs(ms)) => Start::TimeMs(ms),
            Some(Stop::Offset(_) | Stop::Count(_)) | None => return Ok(()),
        };
        let offsets = builder
            .client
            .list_offsets(&builder.topic, at, &builder.partitions, None)
            .await?;
        let mut ends: BTreeMap<i32, proto::Cursor> = cursors(&builder.topic, &offsets)
            .into_iter()
            .map(|cursor| (cursor.partition, cursor))
            .collect();
        for cursor in &builder.stop_before {
            ends.insert(cursor.partition, cursor.clone());
        }
        self.damage = builder
            .client
            .find_damage(&builder.topic, &builder.partitions)
            .await?;
        // A partition that is added later has no end, and was not meant.
        request.partitions = ends.keys().copied().collect();
        request.stop = None;
        self.ends = Some(
            ends.iter()
                .map(|(&partition, cursor)| (partition, cursor.offset))
                .collect(),
        );
        request.stop_before = ends.into_values().collect();
        Ok(())
    }

    /// The request that goes on from here.
    pub(super) fn request(&self) -> proto::SubscribeRequest {
        let mut request = self.request.clone();
        if !self.position.is_empty() {
            request.resume_from = self.position.values().cloned().collect();
        }
        if let Some(remaining) = self.remaining {
            request.stop = Some(Stop::Count(remaining).into());
        }
        request
    }

    /// What was known to be damaged when the ends were looked up.
    pub(super) fn take_damage(&mut self) -> Option<Error> {
        self.damage.take()
    }

    /// Whether the broker ends the stream by itself.
    pub(super) fn has_stop(&self) -> bool {
        self.request.stop.is_some() || !self.request.stop_before.is_empty()
    }

    /// Takes note of what was received.
    pub(super) fn received(&mut self, batch: &Batch) {
        if let Some(remaining) = &mut self.remaining {
            let count = i64::try_from(batch.records.len()).unwrap_or(i64::MAX);
            *remaining = remaining.saturating_sub(count);
        }
        self.moved(&batch.cursor);
    }

    /// Takes note of how far the broker says that reading is.
    pub(super) fn moved(&mut self, cursor: &proto::Cursor) {
        if self.request.group.is_empty() {
            self.position.insert(cursor.partition, cursor.clone());
        }
    }

    /// Whether everything that was asked for has been received.
    pub(super) fn is_complete(&self) -> bool {
        if self.remaining.is_some_and(|remaining| remaining <= 0) {
            return true;
        }
        self.ends.as_ref().is_some_and(|ends| {
            ends.iter().all(|(partition, &end)| {
                self.position
                    .get(partition)
                    .is_some_and(|cursor| cursor.offset >= end)
            })
        })
    }
}
