//! What runs against the broker until the power is cut: producers, a reader that commits and trims,
//! and somebody who makes and deletes topics.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use flowstone_proto::v1 as proto;
use flowstone_tests::{Dice, Stub};
use tokio::task::JoinSet;
use tonic::Status;

use crate::story::{Event, Id, Seen, Story};

/// The group that reads.
pub(crate) const GROUP: &str = "readers";
/// Topics that are there from the start: name, partitions, capacity of a segment.
pub(crate) const TOPICS: &[(&str, i32, i64)] = &[
    ("orders", 4, 262_144),
    ("short", 2, 65_536),
    ("written", 2, 131_072),
];
/// The one that is trimmed.
const TRIMMED: &str = "short";
/// The one whose records are acknowledged before they are synced.
const WRITTEN: &str = "written";
const LANES: u32 = 10;
const RECORDS_PER_REQUEST: u64 = 6;
const CALL_LIMIT: Duration = Duration::from_secs(20);

/// Creates a topic.
pub(crate) async fn create(
    story: &Story,
    stub: &Stub,
    name: &str,
    partitions: i32,
    segment_bytes: i64,
) -> Result<(), Status> {
    story.note(Event::Creating {
        topic: name.to_owned(),
        partitions,
    });
    let topic = proto::Topic {
        name: name.to_owned(),
        partition_count: partitions,
        segment_bytes: Some(segment_bytes),
        ..proto::Topic::default()
    };
    let request = proto::CreateTopicRequest {
        topic: Some(topic),
        validate_only: false,
    };
    stub.topics.clone().create_topic(request).await?;
    story.note(Event::Created {
        topic: name.to_owned(),
    });
    Ok(())
}

/// What runs until it is told to stop, or the broker is gone.
pub(crate) struct Load {
    story: Arc<Story>,
    stop: Arc<AtomicBool>,
    tasks: JoinSet<Result<(), Status>>,
}

impl Load {
    /// Starts it. `phase` tells the producers from those of other phases.
    pub(crate) fn start(story: &Arc<Story>, stub: &Stub, phase: u32) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let mut tasks = JoinSet::new();
        for lane in 0..LANES {
            let lane = Lane::new(story, stub, &stop, phase * 100 + lane);
            tasks.spawn(lane.produce());
        }
        tasks.spawn(Lane::new(story, stub, &stop, phase * 100 + 50).read());
        tasks.spawn(Lane::new(story, stub, &stop, phase * 100 + 60).topics());
        Self {
            story: Arc::clone(story),
            stop,
            tasks,
        }
    }

    /// Ends it while the broker runs: nothing may fail.
    pub(crate) async fn end(self) {
        self.stop.store(true, Ordering::Relaxed);
        let story = Arc::clone(&self.story);
        for status in self.join().await {
            story.wrong(format!("while nothing was wrong, a call failed: {status}"));
        }
    }

    /// Waits until all have seen that the broker is gone.
    pub(crate) async fn join(mut self) -> Vec<Status> {
        let mut failed = Vec::new();
        while let Some(ended) = self.tasks.join_next().await {
            failed.extend(ended.expect("a lane does not panic").err());
        }
        failed
    }
}

struct Lane {
    story: Arc<Story>,
    stub: Stub,
    stop: Arc<AtomicBool>,
    producer: u32,
    sent: u32,
    dice: Dice,
}

impl Lane {
    fn new(story: &Arc<Story>, stub: &Stub, stop: &Arc<AtomicBool>, producer: u32) -> Self {
        Self {
            story: Arc::clone(story),
            stub: stub.clone(),
            stop: Arc::clone(stop),
            producer,
            sent: 0,
            dice: Dice::new(story.seed.wrapping_add(u64::from(producer))).fork(),
        }
    }

    fn goes_on(&self) -> bool {
        !self.stop.load(Ordering::Relaxed)
    }

    async fn produce(mut self) -> Result<(), Status> {
        let (topic, partitions, _) = TOPICS[[0, 0, 1, 2, 0][self.producer as usize % 5]];
        while self.goes_on() {
            let partition =
                (!self.dice.once_in(4)).then(|| self.dice.pick(0..partitions as u64) as i32);
            let count = self.dice.pick(1..RECORDS_PER_REQUEST);
            self.send(topic, partition, count).await?;
            if self.dice.once_in(50) {
                // Groups of one, too, and moments of quiet.
                tokio::time::sleep(Duration::from_millis(self.dice.pick(0..60))).await;
            }
        }
        Ok(())
    }

    /// Sends one request, within the size that the broker takes.
    async fn send(
        &mut self,
        topic: &str,
        partition: Option<i32>,
        count: u64,
    ) -> Result<(), Status> {
        let mut ids = Vec::new();
        let mut records = Vec::new();
        let mut bytes = 0;
        for _ in 0..count {
            let id = Id {
                producer: self.producer,
                number: self.sent,
            };
            let record = id.record(self.story.seed);
            bytes += record.value.as_ref().map_or(0, |value| value.len()) + 100;
            if bytes > 30_000 {
                break;
            }
            self.sent += 1;
            ids.push(id);
            records.push(record);
        }
        for &id in &ids {
            self.story.note(Event::Sending {
                topic: topic.to_owned(),
                id,
            });
        }
        let durable = topic != WRITTEN;
        let acks = if durable {
            proto::Acks::Durable
        } else {
            proto::Acks::Written
        };
        let request = proto::ProduceRequest {
            records,
            topic: topic.to_owned(),
            partition,
            acks: acks.into(),
            ..proto::ProduceRequest::default()
        };
        let response = within(self.stub.log.produce(request)).await?.into_inner();
        let places = response.runs.iter().flat_map(|run| {
            (run.base_offset..run.base_offset + i64::from(run.record_count))
                .map(|offset| (run.partition, offset))
        });
        for (&id, (partition, offset)) in ids.iter().zip(places) {
            self.story.note(Event::Acknowledged {
                topic: topic.to_owned(),
                id,
                partition,
                offset,
                durable,
            });
        }
        Ok(())
    }

    /// Reads all partitions in turn, commits, and trims what it has read.
    async fn read(mut self) -> Result<(), Status> {
        let mut next: BTreeMap<(&str, i32), i64> = BTreeMap::new();
        while self.goes_on() {
            let mut nothing = true;
            for &(topic, partitions, _) in TOPICS {
                for partition in 0..partitions {
                    let from = next.get(&(topic, partition)).copied();
                    let (start, end) = self.fetch(topic, partition, from).await?;
                    nothing &= start == end;
                    next.insert((topic, partition), end);
                    if self.dice.once_in(3) && end > 0 {
                        self.commit(topic, partition, end).await?;
                    }
                    if topic == TRIMMED && end > 0 && self.dice.once_in(6) {
                        self.trim(
                            topic,
                            partition,
                            end - (self.dice.pick(0..400) as i64).min(end),
                        )
                        .await?;
                    }
                }
            }
            let pause = if nothing { 10 } else { 2 };
            tokio::time::sleep(Duration::from_millis(pause)).await;
        }
        Ok(())
    }

    /// Reads once, and tells from where to where.
    async fn fetch(
        &mut self,
        topic: &str,
        partition: i32,
        from: Option<i64>,
    ) -> Result<(i64, i64), Status> {
        let position = match from {
            Some(offset) => proto::start_position::Position::Offset(offset),
            None => proto::start_position::Position::Anchor(
                proto::start_position::Anchor::Earliest.into(),
            ),
        };
        let request = proto::FetchRequest {
            topic: topic.to_owned(),
            partition,
            start: Some(proto::StartPosition {
                position: Some(position),
            }),
            ..proto::FetchRequest::default()
        };
        let response = within(self.stub.log.fetch(request)).await?.into_inner();
        let mut records = Vec::new();
        let first = response
            .records
            .first()
            .map_or(response.next_offset, |record| record.offset);
        for (record, offset) in response.records.iter().zip(first..) {
            match Id::of(record, self.story.seed) {
                Some(id) if record.offset == offset => {
                    records.push(Seen {
                        id,
                        timestamp_ms: record.timestamp_ms,
                    });
                }
                _ => {
                    self.story.wrong(format!(
                        "{topic} {partition}: nobody produced what is at {offset}"
                    ));
                    return Err(Status::data_loss("foreign bytes"));
                }
            }
        }
        if !records.is_empty() {
            self.story.note(Event::Read {
                topic: topic.to_owned(),
                partition,
                from: first,
                records,
            });
        }
        Ok((first, response.next_offset))
    }

    async fn commit(&mut self, topic: &str, partition: i32, offset: i64) -> Result<(), Status> {
        within(
            self.stub
                .log
                .commit_offsets(commit(topic, partition, offset)),
        )
        .await?;
        self.story.note(Event::Committed {
            topic: topic.to_owned(),
            partition,
            offset,
        });
        Ok(())
    }

    async fn trim(&mut self, topic: &str, partition: i32, before: i64) -> Result<(), Status> {
        self.story.note(Event::Trimming {
            topic: topic.to_owned(),
            partition,
            before,
        });
        let request = proto::TrimPartitionRequest {
            topic: topic.to_owned(),
            partition,
            before_offset: before,
        };
        let start = within(self.stub.topics.trim_partition(request))
            .await?
            .into_inner()
            .log_start_offset;
        self.story.note(Event::Trimmed {
            topic: topic.to_owned(),
            partition,
            start,
        });
        Ok(())
    }

    /// Makes topics, writes a little to them, and deletes some of them again.
    async fn topics(mut self) -> Result<(), Status> {
        for number in 0.. {
            if !self.goes_on() {
                break;
            }
            let topic = format!("extra-{}-{number}", self.producer);
            create(&self.story, &self.stub, &topic, 1, 65_536).await?;
            self.send(&topic, Some(0), 3).await?;
            if self.dice.once_in(2) {
                self.story.note(Event::Deleting {
                    topic: topic.clone(),
                });
                let request = proto::DeleteTopicRequest {
                    topic: topic.clone(),
                };
                within(self.stub.topics.delete_topic(request)).await?;
                self.story.note(Event::Deleted { topic });
            }
            tokio::time::sleep(Duration::from_millis(self.dice.pick(50..300))).await;
        }
        Ok(())
    }
}

/// A commit by nobody in particular, which the broker takes as long as the group has no members.
pub(crate) fn commit(topic: &str, partition: i32, offset: i64) -> proto::CommitOffsetsRequest {
    let cursor = proto::Cursor {
        group: GROUP.to_owned(),
        topic: topic.to_owned(),
        partition,
        offset,
        ..proto::Cursor::default()
    };
    proto::CommitOffsetsRequest {
        cursors: vec![cursor],
        released: Vec::new(),
    }
}

/// An answer in time. None of these calls takes anywhere near the limit.
pub(crate) async fn within<T>(call: impl Future<Output = Result<T, Status>>) -> Result<T, Status> {
    match tokio::time::timeout(CALL_LIMIT, call).await {
        Ok(answer) => answer,
        Err(_) => Err(Status::deadline_exceeded("no answer came")),
    }
}
