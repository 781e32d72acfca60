//! Where reading ends in each partition.

use std::collections::BTreeMap;

use anyhow::Result;
use flowstone_client::Stop as StopAt;
use flowstone_client::{Client, Cursor, Error, ListOffsetsResponse, Start, SubscribeBuilder};

use super::ConsumeArgs;
use crate::position::{Position, Span};

/// Reading ends where the first of these is reached.
#[derive(Debug, Default)]
pub(super) struct Ends {
    /// Handed to the broker as it is: it means the same whenever it is resolved.
    stop: Option<StopAt>,
    /// Before which offset, by partition.
    cursors: Option<BTreeMap<i32, Cursor>>,
    /// Why reading up to there is not reading all.
    damage: Option<Error>,
}

impl Ends {
    /// Looks up where the end of the range and the end of now are.
    pub(super) async fn resolve(client: &Client, args: &ConsumeArgs, span: &Span) -> Result<Self> {
        let known_to_group = args.group.is_some();
        let mut ends = Self::default();
        match span.to {
            // An offset is the same everywhere and for ever, and needs no looking up, unless there
            // is a group, whose ends this process watches by itself.
            Some(Position::Offset(offset)) if !args.exit_at_end && !known_to_group => {
                ends.stop = Some(StopAt::Offset(offset));
            }
            Some(Position::Offset(offset)) => {
                let mut offsets = ends_at(client, args, Start::Latest).await?;
                for at in &mut offsets.partitions {
                    at.offset = offset;
                }
                ends.narrow(&args.topic, offsets);
            }
            Some(position) => {
                let offsets = ends_at(client, args, position.as_start()).await?;
                ends.narrow(&args.topic, offsets);
            }
            None => {}
        }
        let from_now = span.to.is_some_and(|to| !matches!(to, Position::Offset(_)));
        if from_now || args.exit_at_end {
            ends.damage = client.find_damage(&args.topic, &args.partitions).await?;
        }
        if args.exit_at_end {
            let offsets = ends_at(client, args, Start::Latest).await?;
            ends.narrow(&args.topic, offsets);
        }
        Ok(ends)
    }

    fn narrow(&mut self, topic: &str, offsets: ListOffsetsResponse) {
        let cursors = self.cursors.get_or_insert_default();
        for at in offsets.partitions {
            let cursor = cursors.entry(at.partition).or_insert_with(|| Cursor {
                topic: topic.to_owned(),
                topic_id: offsets.topic_id.clone(),
                partition: at.partition,
                offset: at.offset,
                ..Cursor::default()
            });
            cursor.offset = cursor.offset.min(at.offset);
        }
    }

    /// To be told once everything before the ends was read.
    pub(super) fn damage(&self) -> Option<Error> {
        self.damage.clone()
    }

    /// Tells the broker where to stop. Only partitions with an end are read, if there are ends.
    pub(super) fn apply(self, subscribe: SubscribeBuilder) -> SubscribeBuilder {
        if let Some(cursors) = self.cursors {
            return subscribe
                .partitions(cursors.keys().copied())
                .stop_before(cursors.into_values());
        }
        match self.stop {
            Some(stop) => subscribe.stop(stop),
            None => subscribe,
        }
    }

    /// The ends by partition, for a reader that stops by itself. None: it does not.
    pub(super) fn offsets(&self) -> Option<BTreeMap<i32, i64>> {
        let cursors = self.cursors.as_ref()?;
        Some(
            cursors
                .iter()
                .map(|(&partition, cursor)| (partition, cursor.offset))
                .collect(),
        )
    }
}

async fn ends_at(client: &Client, args: &ConsumeArgs, at: Start) -> Result<ListOffsetsResponse> {
    Ok(client
        .list_offsets(&args.topic, at, &args.partitions, None)
        .await?)
}

#[cfg(test)]
mod tests {
    use flowstone_client::PartitionOffsets;

    use super::*;

    fn offsets(at: &[(i32, i64)]) -> ListOffsetsResponse {
        ListOffsetsResponse {
            partitions: at
                .iter()
                .map(|&(partition, offset)| PartitionOffsets {
                    partition,
                    offset,
                    ..PartitionOffsets::default()
                })
                .collect(),
            topic_id: "id".to_owned(),
        }
    }

    #[test]
    fn the_nearer_end_holds() {
        let mut ends = Ends::default();
        assert_eq!(ends.offsets(), None);
        ends.narrow("visits", offsets(&[(0, 10), (1, 3)]));
        ends.narrow("visits", offsets(&[(0, 7), (1, 9)]));
        assert_eq!(ends.offsets(), Some(BTreeMap::from([(0, 7), (1, 3)])));
    }
}
